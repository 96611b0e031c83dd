"""The choice between the Python kernels, the native ones and those in Triton."""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from components.errors import UserError, unknown
from components.kernels import gru, lstm, rnn, sequence

KERNELS = {"rnn": rnn, "gru": gru, "lstm": lstm}
OPTIONS = {"rnn": ("nonlinearity",), "gru": ("reset_after",), "lstm": ()}
BACKENDS = ("auto", "by_hand", "native", "triton")
TRITON_FROM_STEPS = 16  # fewer weren't measured
NATIVE_FROM_STEPS = 4  # below, packing the weights costs more than the native kernels save

log = logging.getLogger(__name__)


class Backend(NamedTuple):
    """One implementation of a kind: four functions, with the signatures of `sequence` and of the Python kernels."""

    name: str
    project: Callable[..., Tensor]
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    project_backward: Callable[..., Any]


def choose(
    wanted: str, kind: str, x: Tensor, parameters: Mapping[str, Tensor | None], options: Mapping[str, Any]
) -> Backend:
    """The backend for these inputs; "auto" is native wherever it applies and can be compiled.

    Raises:
        UserError: an unknown backend, kind, option or nonlinearity; "native" or "triton" where it doesn't apply.
    """
    if wanted not in BACKENDS:
        raise unknown("backend", wanted, BACKENDS)
    if kind not in KERNELS:
        raise unknown("kernel", kind, KERNELS)
    for name in options:
        if name not in OPTIONS[kind]:
            raise unknown(f"{kind} option", name, OPTIONS[kind])
    nonlinearity = options.get("nonlinearity", "tanh")
    if nonlinearity not in rnn.NONLINEARITIES:
        raise unknown("nonlinearity", nonlinearity, rnn.NONLINEARITIES)
    obstacle = _obstacle(parameters, options)
    if wanted == "native":
        if obstacle:
            raise UserError(f"backend native: {obstacle}", hint="use backend auto or by_hand")
        return _native(kind, nonlinearity)
    if wanted == "triton":
        return _triton(kind, x.device, options)
    if wanted == "auto" and x.shape[1] >= NATIVE_FROM_STEPS and _native_can(x, parameters, options):
        return _native(kind, nonlinearity)
    kernel = KERNELS[kind]
    forward = functools.partial(kernel.forward, **options)
    return Backend("by_hand", sequence.project, forward, kernel.backward, sequence.project_backward)


def native_applies(x: Tensor, parameters: Mapping[str, Tensor | None], options: Mapping[str, Any]) -> bool:
    """Whether the native kernels support these inputs, are (or can be) compiled, and measured no slower than
    torch's."""
    return _faster_than_torch(x, parameters["weight_hh"]) and _native_can(x, parameters, options)


def _faster_than_torch(x: Tensor, weight_hh_GH: Tensor) -> bool:
    """Whether they measured faster on one thread, over B 1–256, T 2–64, H 8–1024 (docs/log.md has the grid).

    torch's LSTM (oneDNN) is hard to beat where its overhead and its products are small, and in the forward pass alone;
    its GRU and RNN are not. For ids the alternative is the Python kernels, with their row look-up. On several threads
    torch's LSTM isn't deterministic, so a run that must be repeatable takes the native one.
    """
    (B, T), (G, H) = x.shape[:2], weight_hh_GH.shape
    training = torch.is_grad_enabled()
    if not x.is_floating_point():
        return (NATIVE_FROM_STEPS if training else 16) <= T
    if G < 4 * H:
        return T >= 16 if training else T >= 64 and B >= 4
    if torch.get_num_threads() > 1:
        return T >= NATIVE_FROM_STEPS
    work = B * T * H * H
    return T >= NATIVE_FROM_STEPS and (H >= 1024 or work >= 1 << 28) if training else T >= 16 and work >= 1 << 30


def _native_can(x: Tensor, parameters: Mapping[str, Tensor | None], options: Mapping[str, Any]) -> bool:
    single = x.dtype in (torch.float32, torch.int64) and not torch.is_autocast_enabled(x.device.type)
    return single and not _obstacle(parameters, options) and native_builds()


def _obstacle(parameters: Mapping[str, Tensor | None], options: Mapping[str, Any]) -> str | None:
    """Why the native kernels don't apply."""
    weight = parameters["weight_hh"]
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        return f"the weights are {weight.dtype} on {weight.device}, but only float32 on the CPU is supported"
    if parameters.get("peepholes") is not None:
        return "peepholes aren't supported"
    return None if options.get("reset_after", True) else "reset_after: false isn't supported"


@functools.cache
def native_builds() -> bool:
    """Whether the native kernels are (or can be) compiled; warns with the reason if not."""
    from components.kernels.native.build import load_native

    try:
        load_native()
    except UserError as error:
        log.warning("the faster native kernels can't be used: %s", error)
        return False
    return True


def _native(kind: str, nonlinearity: str) -> Backend:
    from components.kernels.native import kernels

    forward = functools.partial(kernels.forward, (kind, nonlinearity))
    return Backend("native", kernels.project, forward, kernels.backward, kernels.project_backward)


def _triton(kind: str, device: torch.device, options: Mapping[str, Any]) -> Backend:
    if kind == "rnn":
        raise UserError("backend triton: the rnn isn't supported", hint="use backend auto or by_hand")
    check_triton(device, "lstm")
    if device.type == "cuda" and (torch.version.cuda is None or torch.cuda.get_device_capability(device) < (8, 0)):
        raise UserError(
            "backend triton: the GPU must be one of NVIDIA's with compute capability 8.0 or later",
            hint="use backend auto or by_hand",
        )
    from components.kernels import triton_gru, triton_lstm

    kernel: ModuleType = {"gru": triton_gru, "lstm": triton_lstm}[kind]
    forward = functools.partial(kernel.forward, **options)
    return Backend("triton", sequence.project, forward, kernel.backward, sequence.project_backward)


def native_head_applies(y: Tensor, weight: Tensor) -> bool:
    """Whether the native products support a linear layer on y, and are (or can be) compiled."""
    single = {y.dtype, weight.dtype} == {torch.float32} and {y.device.type, weight.device.type} == {"cpu"}
    return single and not torch.is_autocast_enabled("cpu") and native_builds()


def triton_is_fastest(x: Tensor, weight_hh_GH: Tensor, precision: torch.dtype, cudnn_takes: bool) -> bool:
    """Whether the LSTM or GRU in Triton runs here and measured faster than cuDNN's, or than the Python kernels where
    cuDNN doesn't have the cell (B 32–128, T 30–128, H 64–1024; docs/gpu.md). Below H 256, cuDNN has fast kernels for
    float32."""
    (B, T), H = x.shape[:2], weight_hh_GH.shape[1]
    slower = cudnn_takes and precision != torch.bfloat16 and H < 256
    if slower or T < TRITON_FROM_STEPS or H > 1024 or not triton_measured(x.device, weight_hh_GH.dtype, "lstm"):
        return False
    from components.kernels.triton_steps import rows_together

    return rows_together(x.device, B, H) is not None


def triton_measured(device: torch.device, dtype: torch.dtype, kernel: str) -> bool:
    """Whether a kernel in Triton runs on this device, and it is of a kind on which they were measured: NVIDIA's GPUs
    of compute capability 9.0."""
    nvidia = device.type == "cuda" and torch.version.cuda is not None and dtype == torch.float32
    return nvidia and torch.cuda.get_device_capability(device) == (9, 0) and _triton_trouble(device, kernel) is None


def triton_applies(device: torch.device, training: bool, kernel: str = "scan") -> bool:
    """Whether a kernel in Triton, scan or lstm (which stands for gru as well), runs on this device.

    Raises:
        UserError: they don't, and the model is in training. A trained one does without them.
    """
    try:
        check_triton(device, kernel)
    except UserError:
        if training:
            raise
        return False
    return True


def check_triton(device: torch.device, kernel: str = "scan") -> None:
    """Check whether a kernel in Triton runs on this device.

    Raises:
        UserError: the device isn't a GPU, or triton isn't installed or doesn't run there.
    """
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":  # interpreted on the CPU: for tests
        what, hint = f"needs a GPU, but the model is on {device}", "use --device cuda"
    elif problem := _triton_trouble(device, kernel):
        what = f"doesn't run on {device}: {problem}"
        hint = "pip install triton" if problem.startswith("No module") else "install what it needs"
    else:
        return
    raise UserError(f"triton {what}", where="model.backend", hint=f"{hint}, or set model.backend: auto")


@functools.cache
def _triton_trouble(device: torch.device, kernel: str) -> str | None:
    """Why a kernel in Triton doesn't run on a device, found out by a small launch; None if it does."""
    try:
        importlib.import_module(f"components.kernels.triton_{kernel}").try_out(device)
    except Exception as error:  # no triton; no C compiler or Python.h for its launcher; a GPU too old for it; …
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return None
