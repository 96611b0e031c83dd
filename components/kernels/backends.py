"""Which implementation runs: the kernels by hand, or the native ones where they apply."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from components.errors import UserError, unknown
from components.kernels import gru, lstm, rnn, sequence

KERNELS = {"rnn": rnn, "gru": gru, "lstm": lstm}
OPTIONS = {"rnn": ("nonlinearity",), "gru": ("reset_after",), "lstm": ()}
BACKENDS = ("auto", "by_hand", "native")
NATIVE_FROM_STEPS = 4  # below, packing the weights costs more than the native kernels save

log = logging.getLogger(__name__)


class Backend(NamedTuple):
    """One implementation of one kind: the four functions, with the signatures of `sequence` and the kernels by hand."""

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
        UserError: an unknown backend, kind, option or nonlinearity; "native" where it doesn't apply or compile.
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
    if wanted == "auto" and native_applies(x, parameters, options):
        return _native(kind, nonlinearity)
    kernel = KERNELS[kind]
    forward = functools.partial(kernel.forward, **options)
    return Backend("by_hand", sequence.project, forward, kernel.backward, sequence.project_backward)


def native_applies(x: Tensor, parameters: Mapping[str, Tensor | None], options: Mapping[str, Any]) -> bool:
    """Whether the native kernels can run these inputs, are worth it, and are compiled or can be."""
    long_enough = x.shape[1] >= NATIVE_FROM_STEPS
    single = x.dtype in (torch.float32, torch.int64) and not torch.is_autocast_enabled(x.device.type)
    return long_enough and single and not _obstacle(parameters, options) and _native_builds()


def _obstacle(parameters: Mapping[str, Tensor | None], options: Mapping[str, Any]) -> str | None:
    """Why the native kernels don't apply."""
    weight = parameters["weight_hh"]
    if weight.dtype != torch.float32 or weight.device.type != "cpu":
        return f"the weights are {weight.dtype} on {weight.device}, it knows float32 on the CPU"
    if parameters.get("peepholes") is not None:
        return "it has no peepholes"
    return None if options.get("reset_after", True) else "its GRU only resets after the product"


@functools.cache
def _native_builds() -> bool:
    from components.kernels.native.build import library

    try:
        library()
    except UserError as error:
        log.warning("the faster native kernels can't be used: %s", error)
        return False
    return True


def _native(kind: str, nonlinearity: str) -> Backend:
    from components.kernels.native import kernels

    forward = functools.partial(kernels.forward, (kind, nonlinearity))
    return Backend("native", kernels.project, forward, kernels.backward, kernels.project_backward)
