"""The scan in Triton: interpreted it is the scan in torch, its compiler takes it, and it never runs unasked."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_pairs import PAIRS, ROWS, STEPS
from torch import Tensor

from components.errors import UserError
from components.layers.linear_cell import LinearCell
from components.layers.scan import linear_scan
from components.registry import resolve
from components.training.optim import make_optimizer
from components.training.update import Update

MODULE = "components.kernels.triton_scan"
KINDS = ("mingru", "minlstm")
F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16


@contextmanager
def imported(interpret: bool) -> Iterator[ModuleType]:
    """The kernels anew: whether they are compiled or interpreted is decided when they are imported."""
    pytest.importorskip("triton", "3.7", reason="needs triton: pip install triton")
    # 3.6 can't interpret with NumPy 2.4
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1" if interpret else "0")
        before = sys.modules.pop(MODULE, None)
        try:
            yield importlib.import_module(MODULE)
        finally:
            sys.modules.pop(MODULE, None)
            if before:
                sys.modules[MODULE] = before


@pytest.fixture(scope="module")
def kernels() -> Iterator[ModuleType]:
    with imported(interpret=True) as module, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", 8)  # the numbers of these tests take several programs
        yield module


@pytest.fixture
def calls(kernels, monkeypatch) -> list[None]:
    """One for each scan in Triton."""
    made: list[None] = []
    scan = kernels.linear_scan
    monkeypatch.setattr(kernels, "linear_scan", lambda *given: made.append(None) or scan(*given))
    return made


def with_gradients(run, a: Tensor, b: Tensor, h: Tensor, g: Tensor) -> list[Tensor]:
    """States and the gradients of a, b and h⟨0⟩, given that of the states."""
    given = [value.clone().requires_grad_() for value in (a, b, h)]
    y = run(*given)
    return [y.detach(), *torch.autograd.grad(y, given, g)]


@pytest.mark.slow
@given(
    T=st.integers(0, 6),
    B=st.integers(1, 3),
    H=st.integers(1, 7),
    precisions=st.sampled_from([(F64, F64, 1e-12), (F32, F32, 1e-5), (BF16, F32, 2e-2)]),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=12)
def test_it_is_the_scan_in_torch_with_all_its_gradients(kernels, T, B, H, precisions, seed) -> None:
    given, precision, tolerance = precisions
    torch.manual_seed(seed)
    a, b = torch.randn(T, B, H).sigmoid().to(given), torch.randn(T, B, H).to(given)
    h, g_BTH = torch.randn(B, H, dtype=precision), torch.randn(B, T, H, dtype=precision)
    g = g_BTH.transpose(0, 1)  # from the layer above: not contiguous
    got = with_gradients(kernels.linear_scan, a, b, h, g)
    assert [value.dtype for value in got] == [precision, given, given, precision]
    wanted = with_gradients(lambda a, b, h: linear_scan(a.double(), b.double(), h.double()), a, b, h, g.double())
    for ours, reference in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours.double(), reference.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_its_gradients_are_finite_differences(kernels) -> None:
    torch.manual_seed(0)
    a, b, h = (torch.rand(*shape, 1, 3, dtype=F64, requires_grad=True) for shape in ((3,), (3,), ()))
    assert torch.autograd.gradcheck(kernels.linear_scan, (a, b, h))


def test_shapes_that_dont_fit_are_refused_before_a_kernel_reads_beyond_the_end(kernels) -> None:
    a = torch.ones(4, 2, 3)
    for b, h in ((a[:3], a[0]), (a, a[0, :1]), (a[..., :1], a[0])):
        with pytest.raises(ValueError, match="don't fit together"):
            kernels.linear_scan(a, b, h)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [None, [5, 0, 2]], ids=["whole", "ragged"])
def test_a_layer_gives_what_it_gives_in_torch(calls, kind, lengths) -> None:
    torch.manual_seed(0)
    x, h = torch.randn(3, 5, 4, dtype=F64), torch.randn(3, 7, dtype=F64)
    layer = resolve("cell", kind)(4, hidden_size=7, backend="triton").double()
    lengths = None if lengths is None else torch.tensor(lengths)
    results = []
    for backend in ("triton", "torch"):
        layer.backend = backend
        given = [value.clone().requires_grad_() for value in (x, h)]
        y, state = layer(given[0], {"h": given[1]}, lengths)
        loss = y.pow(2).sum() + (3 * state["h"]).sum()
        results.append([y, state["h"], *torch.autograd.grad(loss, [*given, *layer.parameters()])])
    assert len(calls) == 1
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_two_updates_of_a_model_are_those_in_torch(calls) -> None:
    trained = []
    for backend in ("torch", "triton"):
        task, model, split = PAIRS["language, minGRU"].build()
        layers = [part for part in model.modules() if isinstance(part, LinearCell)]
        assert len(layers) == 2
        for layer in layers:
            layer.backend = backend
        options = {"clip_norm": 1.0, "clip_value": None, "precision": "float32", "average": None}
        update, state = Update(model.train(), task.loss, make_optimizer(model), **options), None
        batches = task.batches(split, batch_size=ROWS, window=STEPS, seed=0, training=True)
        before = [value.detach().clone() for value in model.parameters()]
        for index in range(2):
            batch = batches.at(0, index)
            state = update(batch, None if batch.fresh else state, 1.0, index)
        assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        trained.append([value.detach() for value in model.parameters()])
    assert len(calls) == 2 * len(layers)
    for ours, reference in zip(*trained, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_compiler_for_gpus_takes_the_kernels(tmp_path, monkeypatch) -> None:
    """The interpreter accepts more than the compiler, which needs no GPU. Loads are asynchronous."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # unset, Triton 3.9 warns
    with imported(interpret=False) as module:
        import triton
        import triton.language as tl
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        values = {"PRECISION": tl.float32, "BLOCK": module.BLOCK, "AHEAD": module.AHEAD}
        for kernel in (module.forward_kernel, module.backward_kernel):
            kinds = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys("TN", "i32")
            source = ASTSource(kernel, kinds | dict.fromkeys(values, "constexpr"), values)
            made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": module.WARPS})
            assert made.asm["cubin"]
            assert "cp.async" in made.asm["ptx"]


@pytest.mark.parametrize("kind", KINDS)
def test_where_it_cant_run_a_training_is_refused_and_a_trained_model_does_without(kind, monkeypatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    layer, x = resolve("cell", kind)(4, hidden_size=7, backend="triton"), torch.randn(2, 3, 4)
    with pytest.raises(UserError) as refused:
        layer(x)
    assert str(refused.value) == (
        "model.backend: triton needs a GPU, but the model is on cpu\nuse --device cuda, or set model.backend: auto"
    )
    y, _ = layer.eval()(x)
    layer.backend = "torch"
    assert torch.equal(y, layer(x)[0])
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(sys.modules, MODULE, None)  # as without the package
    layer.backend = "triton"
    with pytest.raises(UserError, match=r"triton needs the package triton .*\npip install triton, or set model"):
        layer.train()(x)


def test_what_triton_lacks_is_told_before_it_is_used(kernels, monkeypatch) -> None:
    def launch(*given: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nMore about that.")

    monkeypatch.setattr(kernels, "_launch", launch)
    kernels.trouble.cache_clear()
    layer, x = resolve("cell", "mingru")(4, hidden_size=7, backend="triton"), torch.randn(2, 3, 4)
    with pytest.raises(UserError, match=r"triton doesn't run on cpu: Failed to find C compiler\.\ninstall what it"):
        layer(x)
    assert layer.eval()(x)[0].isfinite().all()
    kernels.trouble.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_it_never_runs_unasked(kind, monkeypatch) -> None:
    monkeypatch.setattr("components.layers.linear_cell.triton_scan", None)
    layer = resolve("cell", kind)(4, hidden_size=7)
    layer(torch.randn(2, 3, 4))
    assert layer.backend == "auto"
