"""A second device for machines that have none: `fake:0`.

Its tensors compute on the CPU, and behave as CUDA's where that matters to a program: they refuse to meet tensors of the
CPU, recurrent layers run through something as particular as cuDNN, and a log counts what costs time on a real one. Only
inside `fake_device()`; nothing here says how fast anything is.

- launch: an operation started on the device; a whole recurrent layer, and a fused cell, count as one.
- copy: a tensor that goes from the CPU to the device.
- sync: the CPU waits for the device, because it wants a number, or a shape that depends on numbers.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT / folder}/" for folder in ("components", "flows", "tests"))
aten = torch.ops.aten

# the shape of the result, or the result itself, depends on numbers that the device has
WAITS = {
    aten._local_scalar_dense: "item",
    aten.equal: "equal",
    aten.nonzero: "nonzero",
    aten.masked_select: "masked_select",
    aten._unique2: "unique",
    aten.unique_dim: "unique",
    aten.unique_consecutive: "unique",
    aten.repeat_interleave: "repeat_interleave",
}
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
COPIES = (aten._to_copy, aten.copy_)
# these take some of their arguments on the CPU: batch sizes and lengths
MIXING = (aten._pack_padded_sequence, aten._pad_packed_sequence, aten._pack_padded_sequence_backward, aten._ctc_loss)
MIXING = (*MIXING, aten._ctc_loss_backward)
RNNS = {getattr(torch, name): name for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")}
CELLS = {getattr(torch, f"{name}_cell"): name for name in RNNS.values()}


class Log(Counter[tuple[str, str, str]]):
    """How often: (sync, copy or launch; what; where in our own code)."""

    def add(self, kind: str, what: str) -> None:
        self[kind, what, where()] += 1

    def count(self, kind: str) -> int:
        return sum(times for (found, _, _), times in self.items() if found == kind)

    def told(self, kind: str) -> str:
        """A line for each place, for a person."""
        return "\n".join(f"{n} × {what} at {at}" for (k, what, at), n in self.most_common() if k == kind)


log = Log()


def where() -> str:
    """The innermost line of our own that is being run; of a backward pass the one that started it."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS) and name != __file__:
            return f"{Path(name).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


class FakeTensor(Tensor):
    """A tensor on `fake:0`; `inner` has its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> FakeTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device("fake", 0),
        )
        made.inner = inner.detach()
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"FakeTensor({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return run(func, args, kwargs or {})


def run(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """One operation: refused, counted, computed on the CPU."""
    device = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    fakes = {id(one.inner): one for one in tensors if isinstance(one, FakeTensor)}
    if not fakes and device != "fake":
        return func(*args, **kwargs)
    _check(func, args, [one for one in tensors if not isinstance(one, FakeTensor)])
    to_cpu = device == "cpu" or (func.overloadpacket is aten.copy_ and not isinstance(args[0], FakeTensor))
    _count(func, args, to_cpu)
    if device == "fake":
        kwargs = {**kwargs, "device": "cpu"}
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))

    def outer(one: Any) -> Any:
        # what was changed in place comes back as the tensor that it is
        if not isinstance(one, Tensor):
            return one
        return fakes[id(one)] if id(one) in fakes else FakeTensor(one)

    if to_cpu:
        return args[0] if func.overloadpacket is aten.copy_ else result
    if func.overloadpacket in MIXING[:2]:
        return outer(result[0]), result[1]  # batch sizes, lengths
    return tree_map(outer, result)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, FakeTensor) else value


def _check(func: Any, args: tuple, others: list[Tensor]) -> None:
    """Only a number of no dimension, an index and what is copied may lie on the CPU."""
    own = func.overloadpacket
    mixed = any(other.dim() for other in others)
    if mixed and own not in (*COPIES, *MIXING) and not (own in INDEXING and isinstance(args[0], FakeTensor)):
        raise RuntimeError(f"Expected all tensors to be on the same device, got fake:0 and cpu: {func} at {where()}")


def _count(func: Any, args: tuple, to_cpu: bool) -> None:
    own = func.overloadpacket
    log.add("launch", own.__name__)
    if own in WAITS and func is not aten.repeat_interleave.self_int:
        log.add("sync", WAITS[own])
    if own in INDEXING:
        for index in tree_leaves(args[1]):
            if isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8):
                log.add("sync", "boolean index")
            elif isinstance(index, Tensor) and not isinstance(index, FakeTensor):
                log.add("copy", "index")
    if own is aten._ctc_loss and any(isinstance(lengths, FakeTensor) for lengths in args[2:4]):
        log.add("sync", "lengths of ctc_loss")
    if own in COPIES and to_cpu:
        log.add("sync", "to the CPU")
    elif own in COPIES and not isinstance(args[own is aten.copy_], FakeTensor):
        log.add("copy", "to the device")


class _Everywhere(TorchDispatchMode):
    """Operations that make a tensor on the device out of none, or out of the CPU's."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return run(func, args, kwargs or {})


class _Library(TorchFunctionMode):
    """What a GPU has a library for is one launch, and asks what cuDNN asks; else torch would take it to pieces."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in RNNS and isinstance(args[0], FakeTensor):
            return _rnn(func, *args)
        if func in CELLS and isinstance(args[0], FakeTensor):
            return _cell(func, *args)
        if func is Tensor.tolist:
            return args[0].cpu().tolist() if isinstance(args[0], FakeTensor) else args[0].tolist()
        if func is Tensor.numpy and isinstance(args[0], FakeTensor):
            raise TypeError(f"can't convert fake:0 device type tensor to numpy, at {where()}")
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == "fake":
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to("fake")
        return func(*args, **kwargs)


class _OneLaunch(torch.autograd.Function):
    """A function of tensors, run whole on the CPU in both directions."""

    @staticmethod
    def forward(ctx: Any, function: Callable, what: str, training: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        log.add("launch", what)
        ctx.inputs = [one.inner.detach().requires_grad_(one.requires_grad) for one in tensors]
        with torch.enable_grad():
            ctx.outputs = function(*ctx.inputs)
        ctx.what, ctx.training = what, training
        return tuple(FakeTensor(one.detach()) for one in ctx.outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.training:
            raise RuntimeError("cudnn RNN backward can only be called in training mode")
        log.add("launch", f"{ctx.what} backward")
        wanted = [one for one in ctx.inputs if one.requires_grad]
        found = iter(torch.autograd.grad(ctx.outputs, wanted, [grad.inner for grad in grads], allow_unused=True))
        own = (next(found) if one.requires_grad else None for one in ctx.inputs)
        return None, None, None, *(None if one is None else FakeTensor(one) for one in own)


def _rnn(func: Any, x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    packed = isinstance(rest[0], Tensor) and not rest[0].is_floating_point()
    sizes, (hx, weights, *flags) = rest[: int(packed)], rest[int(packed) :]
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    _same_device(x, *states, *weights)
    if packed and isinstance(sizes[0], FakeTensor):
        raise RuntimeError(f"batch_sizes should be on the CPU: {where()}")
    if not all(state.is_contiguous() for state in states):
        raise RuntimeError(f"rnn: hx is not contiguous: {where()}")

    def function(x: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        first = more[0] if len(states) == 1 else more[: len(states)]
        return func(x, *sizes, first, more[len(states) :], *flags)

    return _OneLaunch.apply(function, RNNS[func], flags[3], x, *states, *weights)


def _cell(func: Any, x: Tensor, hx: Any, *weights: Tensor) -> Any:
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    _same_device(x, *states, *weights)

    def function(x: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
        after = func(x, more[0] if len(states) == 1 else more[: len(states)], *more[len(states) :])
        return after if isinstance(after, tuple) else (after,)

    after = _OneLaunch.apply(function, f"{CELLS[func]}_cell", True, x, *states, *weights)
    return after if len(after) > 1 else after[0]


def _same_device(*tensors: Tensor) -> None:
    if not all(isinstance(one, FakeTensor) for one in tensors):
        raise RuntimeError(f"Input, hidden and parameter tensors are not at the same device: {where()}")


class _Module:
    """What torch asks of `torch.fake`."""

    @staticmethod
    def is_available() -> bool:
        return True

    is_initialized = is_available

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """Random numbers come from the CPU's generator."""

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


@functools.cache
def _register() -> None:
    """Once in a process: torch takes it back never."""
    _setup_privateuseone_for_python_backend("fake", backend_module=_Module())


@contextmanager
def fake_device() -> Iterator[Log]:
    """The device is there for so long; its log, empty at first."""
    _register()
    log.clear()
    # inference mode knows no tensors that wrap others
    mode = mock.patch.multiple(
        torch.autograd.grad_mode.inference_mode, __enter__=_enter_no_grad, __exit__=_exit_no_grad
    )
    with ExitStack() as stack:
        stack.enter_context(mode)
        # else torch would want a thread for the device, which it starts before the first backward pass or never
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        stack.enter_context(_Everywhere())
        stack.enter_context(_Library())
        yield log


def _enter_no_grad(self: Any) -> None:
    self.before = torch.is_grad_enabled()
    torch.set_grad_enabled(False)


def _exit_no_grad(self: Any, *error: Any) -> None:
    torch.set_grad_enabled(self.before)


def to_fake(model: nn.Module) -> nn.Module:
    """Move a model, as `.to` does; tied weights stay tied."""
    moved: dict[int, Tensor] = {}

    def move(one: Tensor) -> Tensor:
        if id(one) not in moved:
            fake = FakeTensor(one.detach().clone())
            moved[id(one)] = nn.Parameter(fake, one.requires_grad) if isinstance(one, nn.Parameter) else fake
        return moved[id(one)]

    for module in model.modules():
        for kept in (module._parameters, module._buffers):
            kept.update({name: move(one) for name, one in kept.items() if one is not None})
    return model
