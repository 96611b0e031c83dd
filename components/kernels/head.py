"""The head of a language model: a linear layer at every step, and its cross-entropy.

B batch, T time, H hidden, V outputs, N = T·B steps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from components.kernels.backends import native_head_applies
from components.kernels.sequence import time_major_steps


def cross_entropy(
    y_BTH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_BT: Tensor, *, ignore_index: int = -100
) -> Tensor:
    """Σ −log softmax(y Wᵀ + b)[target] over all steps whose target isn't `ignore_index`, in nats.

    Differentiable in y, weight and bias (only once with the native kernel, which overwrites the logits by their
    gradient).

    Raises:
        IndexError: a target outside [0, V).
    """
    if not native_head_applies(y_BTH, weight_VH):
        logits_BTV = F.linear(y_BTH, weight_VH, bias_V)
        logits_NV = logits_BTV.flatten(0, 1)
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))  # sums need float32
        return F.cross_entropy(logits_NV, targets_BT.flatten(), ignore_index=ignore_index, reduction="sum")
    return _CrossEntropy.apply(y_BTH, weight_VH, bias_V, targets_BT, ignore_index).sum().to(y_BTH.dtype)


def step_nats(
    y_BTH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_BT: Tensor, *, ignore_index: int = -100
) -> Tensor:
    """The terms of `cross_entropy`, [B, T]: 0 where the target is `ignore_index`."""
    if not native_head_applies(y_BTH, weight_VH):
        logits_BTV = F.linear(y_BTH, weight_VH, bias_V)
        logits_BVT = logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32)).transpose(1, 2)
        return F.cross_entropy(logits_BVT, targets_BT, ignore_index=ignore_index, reduction="none")
    B, T, _ = y_BTH.shape
    return _CrossEntropy.apply(y_BTH, weight_VH, bias_V, targets_BT, ignore_index).to(y_BTH.dtype).view(T, B).t()


class _CrossEntropy(torch.autograd.Function):
    """logits = y Wᵀ + b → nats [N], in time-major order, as the native layers' outputs are stored."""

    @staticmethod
    def forward(
        ctx: Any, y_BTH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, targets_BT: Tensor, ignore_index: int
    ) -> Tensor:
        from components.kernels.native.products import entropy, multiply

        logits_NV = multiply(time_major_steps(y_BTH), weight_VH.t(), start_C=bias_V)
        nats_N = entropy(logits_NV, time_major_steps(targets_BT).squeeze(1), ignore_index)
        ctx.save_for_backward(y_BTH, weight_VH, logits_NV)  # already overwritten by their gradient
        return nats_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        from components.kernels.native.products import multiply, weight_gradient

        y_BTH, weight_VH, grad_NV = ctx.saved_tensors
        B, T, H = y_BTH.shape
        y_needed, _, bias_needed, *_ = ctx.needs_input_grad
        grad_NV = grad_NV * grad_N[:, None].to(grad_NV.dtype)  # the nats are float64
        grad_y_BTH = multiply(grad_NV, weight_VH).view(T, B, H).transpose(0, 1) if y_needed else None
        grad_weight_VH, grad_bias_V = weight_gradient(grad_NV, time_major_steps(y_BTH))
        return grad_y_BTH, grad_weight_VH, grad_bias_V if bias_needed else None, None, None
