"""A second device for machines that have none: `fake:0`.

Its tensors compute on the CPU, and behave as CUDA's where that matters to a program: they refuse to meet tensors of the
CPU, recurrent layers run through something as particular as cuDNN, and a log counts what costs time on a real one. All
this inside `fake_device()` only; nothing here says how fast anything is.

- launch: an operation started on the device; a whole recurrent layer, and a step of one, count as one.
- copy: a tensor that goes from the CPU to the device.
- sync: the CPU waits for the device, because it wants a number, or a shape that depends on numbers.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT / folder}/" for folder in ("components", "flows", "tests"))
aten = torch.ops.aten

# the result, or its shape, depends on numbers that the device has
WAITS = {
    aten._local_scalar_dense.default: "item",
    aten.equal.default: "equal",
    aten.nonzero.default: "nonzero",
    aten.masked_select.default: "masked_select",
    aten._unique2.default: "unique",
    aten.unique_dim.default: "unique",
    aten.unique_consecutive.default: "unique",
    aten.repeat_interleave.Tensor: "repeat_interleave",
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_}
PACKING = {aten._pack_padded_sequence, aten._pad_packed_sequence}
# what takes batch sizes or lengths, on the CPU
LENGTHS = PACKING | {aten._pack_padded_sequence_backward, aten._ctc_loss, aten._ctc_loss_backward}
CELLS = {getattr(torch, f"{name}_cell"): f"{name}_cell" for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")}
LIBRARY = {getattr(torch, name): name for name in ("lstm", "gru", "rnn_tanh", "rnn_relu")} | CELLS


class Log(Counter[tuple[str, str, str]]):
    """How often: (sync, copy or launch; what; where in our own code)."""

    def add(self, kind: str, what: str) -> None:
        self[kind, what, where()] += 1

    def count(self, kind: str) -> int:
        return sum(times for (found, _, _), times in self.items() if found == kind)

    def told(self, kind: str) -> str:
        """A line for each place, for a person."""
        return "\n".join(f"{times} × {what} at {at}" for (k, what, at), times in self.most_common() if k == kind)


log = Log()


def where() -> str:
    """The innermost line of our own that is being run; of a backward pass the one that started it."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(OURS) and name != __file__:
            return f"{name.removeprefix(f'{ROOT}/')}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"


class FakeTensor(Tensor):
    """A tensor on `fake:0`; `inner` has its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> FakeTensor:
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, device=torch.device("fake", 0), **layout)
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
    tensors = list(_tensors((*args, *kwargs.values())))
    fakes = {id(one.inner): one for one in tensors if isinstance(one, FakeTensor)}
    if not fakes and device != "fake":
        return func(*args, **kwargs)
    own = func.overloadpacket
    to_cpu = device == "cpu" or (own is aten.copy_ and not isinstance(args[0], FakeTensor))
    # beside what is copied, an index and a number of no dimension may lie on the CPU
    free = own in COPIES | LENGTHS or (own in INDEXING and isinstance(args[0], FakeTensor))
    if not free and any(one.dim() for one in tensors if not isinstance(one, FakeTensor)):
        raise RuntimeError(f"Expected all tensors to be on the same device, got fake:0 and cpu: {func} at {where()}")
    _count(func, args, to_cpu)
    if device == "fake":
        kwargs = {**kwargs, "device": "cpu"}
    result = func(*_each(_inner, args), **{name: _each(_inner, value) for name, value in kwargs.items()})
    if to_cpu:
        return args[0] if own is aten.copy_ else result

    def outer(one: Tensor) -> Tensor:
        # what was changed in place comes back as the tensor that it is
        return fakes[id(one)] if id(one) in fakes else FakeTensor(one)

    return (outer(result[0]), result[1]) if own in PACKING else _each(outer, result)


def _inner(one: Tensor) -> Tensor:
    return one.inner if isinstance(one, FakeTensor) else one


def _each(function: Callable[[Tensor], Any], value: Any) -> Any:
    """The value with every tensor in it replaced."""
    if isinstance(value, Tensor):
        return function(value)
    return type(value)(_each(function, one) for one in value) if isinstance(value, list | tuple) else value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def _count(func: Any, args: tuple, to_cpu: bool) -> None:
    own = func.overloadpacket
    log.add("launch", own.__name__)
    if func in WAITS:
        log.add("sync", WAITS[func])
    for index in _tensors(args[1]) if own in INDEXING else ():
        if index.dtype in (torch.bool, torch.uint8):
            log.add("sync", "boolean index")
        elif not isinstance(index, FakeTensor):
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


class _Python(TorchFunctionMode):
    """What torch would do behind the operations' back: take recurrent layers to pieces, read and write memory."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], FakeTensor):
            if func in LIBRARY:
                return _library(func, args)
            if func is Tensor.tolist:
                return args[0].cpu().tolist()
            if func is Tensor.numpy:
                raise TypeError(f"can't convert fake:0 device type tensor to numpy, at {where()}")
        if func is torch.tensor and torch.device(kwargs.get("device") or "cpu").type == "fake":
            return torch.tensor(*args, **{**kwargs, "device": "cpu"}).to("fake")
        return func(*args, **kwargs)


def _library(func: Any, args: tuple) -> Any:
    """A recurrent layer or a step of one in one launch, held to what cuDNN asks."""
    packed = isinstance(args[1], Tensor) and not args[1].is_floating_point()
    tensors = list(_tensors(args))
    fakes = [one for one in tensors if isinstance(one, FakeTensor)]
    if packed and isinstance(args[1], FakeTensor):
        raise RuntimeError(f"batch_sizes should be on the CPU, at {where()}")
    if len(fakes) + packed < len(tensors):
        raise RuntimeError(f"Input, hidden and parameter tensors are not at the same device, at {where()}")
    if not all(state.is_contiguous() for state in _tensors(args[1 + packed])):
        raise RuntimeError(f"rnn: hx is not contiguous, at {where()}")

    def function(*inner: Tensor) -> tuple[Tensor, ...]:
        rest = iter(inner)
        result = func(*_each(lambda one: next(rest) if isinstance(one, FakeTensor) else one, args))
        return result if isinstance(result, tuple) else (result,)

    training = func in CELLS or args[6 + packed]
    result = _OneLaunch.apply(function, LIBRARY[func], training, *fakes)
    return result if len(result) > 1 else result[0]


class _OneLaunch(torch.autograd.Function):
    """A function of tensors, run whole on the CPU in both directions."""

    @staticmethod
    def forward(ctx: Any, function: Callable, what: str, training: bool, *tensors: Tensor) -> tuple[Tensor, ...]:
        log.add("launch", what)
        ctx.inputs = [one.inner.detach().requires_grad_(one.requires_grad) for one in tensors]
        with torch.enable_grad():
            ctx.outputs = function(*ctx.inputs)
        ctx.what, ctx.training = what, training
        return tuple(FakeTensor(one) for one in ctx.outputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.training:
            raise RuntimeError("cudnn RNN backward can only be called in training mode")
        log.add("launch", f"{ctx.what} backward")
        wanted = [one for one in ctx.inputs if one.requires_grad]
        found = iter(torch.autograd.grad(ctx.outputs, wanted, [grad.inner for grad in grads]))
        return None, None, None, *(FakeTensor(next(found)) if one.requires_grad else None for one in ctx.inputs)


@functools.cache
def _register() -> None:
    """Once in a process: torch never takes it back. Random numbers come from the CPU's generator."""
    asked = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "manual_seed_all": lambda seed: None,
        "_is_in_bad_fork": lambda: False,
        "get_amp_supported_dtype": lambda: [torch.bfloat16, torch.float16],
    }
    _setup_privateuseone_for_python_backend("fake", backend_module=SimpleNamespace(**asked))


@contextmanager
def fake_device() -> Iterator[Log]:
    """The device is there for so long; its log, empty at first."""
    _register()
    log.clear()
    no_grad = {name: getattr(torch.no_grad, name) for name in ("__enter__", "__exit__")}
    with (
        mock.patch.multiple(torch.inference_mode, **no_grad),  # that mode knows no tensors that wrap others
        # else torch would want a thread for the device, which it makes before the first backward pass or never
        torch.autograd.set_multithreading_enabled(False),
        _Everywhere(),
        _Python(),
    ):
        yield log


def to_fake(model: nn.Module) -> nn.Module:
    """Move a model, as `.to` does; tied weights stay tied."""
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        for kept in (module._parameters, module._buffers):
            for name, one in kept.items():
                if one is not None and id(one) not in moved:
                    fake = FakeTensor(one.detach().clone())
                    moved[id(one)] = nn.Parameter(fake, one.requires_grad) if isinstance(one, nn.Parameter) else fake
                kept[name] = moved.get(id(one))
    return model
