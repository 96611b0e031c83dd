"""Kernels in Triton: interpreted they give what torch gives, the compiler takes them, and they never run unasked."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from task_pairs import CITIES, LETTERS, ROWS, STEPS, Pair
from torch import Tensor

import components.kernels as kernels_package
from components.errors import UserError
from components.kernels import backends
from components.kernels.function import recurrent
from components.layers.scan import linear_scan
from components.registry import resolve
from components.training.optim import make_optimizer
from components.training.update import Update

MODULES = tuple(f"components.kernels.triton_{name}" for name in ("steps", "lstm", "gru", "scan"))
KINDS = {  # and what they are compared with
    "mingru": "torch",
    "minlstm": "torch",
    "peephole-lstm": "by_hand",
    "lstm": "by_hand",
    "gru": "by_hand",
    "gru, reset before": "by_hand",
}
SCANS = {"mingru", "minlstm"}
F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16


@contextmanager
def imported(interpret: bool) -> Iterator[list[ModuleType]]:
    """The kernels anew: whether they are compiled or interpreted is decided when they are imported."""
    # 3.6 can't interpret with NumPy 2.4
    pytest.importorskip("triton", "3.7", reason="needs triton: pip install triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1" if interpret else "0")
        for name in MODULES:
            patch.setitem(sys.modules, name, ModuleType(name))  # put back, or removed, afterwards
            del sys.modules[name]
            patch.setattr(kernels_package, name.rpartition(".")[2], None, raising=False)
        yield [importlib.import_module(name) for name in MODULES]


@pytest.fixture(scope="module")
def interpreted() -> Iterator[list[ModuleType]]:
    with imported(interpret=True) as modules, pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules[-1], "BLOCK", 8)  # the numbers of these tests take several programs
        backends._triton_trouble.cache_clear()
        yield modules
        backends._triton_trouble.cache_clear()


@pytest.fixture(scope="module")
def scan(interpreted) -> Callable[..., Tensor]:
    return interpreted[-1].linear_scan


@pytest.fixture
def launched(interpreted, monkeypatch) -> list[str]:
    """The kernels that were launched, but for trying out."""
    from triton.runtime.interpreter import GridExecutor

    names: list[str] = []
    for kernel in ("scan", "lstm"):
        backends.check_triton(torch.device("cpu"), kernel)
    run = GridExecutor.__call__

    def counting(executor: Any, *given: Any, **options: Any) -> None:
        names.append(executor.fn.__name__)
        run(executor, *given, **options)

    monkeypatch.setattr(GridExecutor, "__call__", counting)
    return names


def made(kind: str, hidden_size: int, backend: str) -> torch.nn.Module:
    kind, _, options = kind.partition(", ")
    chosen = {"reset_after": False} if options else {}
    return resolve("cell", kind)(4, hidden_size=hidden_size, backend=backend, **chosen)


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
@settings(max_examples=10)
def test_it_is_the_scan_in_torch_with_all_its_gradients(scan, T, B, H, precisions, seed) -> None:
    given, precision, tolerance = precisions
    torch.manual_seed(seed)
    a, b = torch.randn(T, B, H).sigmoid().to(given), torch.randn(T, B, H).to(given)
    h, g_BTH = torch.randn(B, H, dtype=precision), torch.randn(B, T, H, dtype=precision)
    g = g_BTH.transpose(0, 1)  # from the layer above: not contiguous
    got = with_gradients(scan, a, b, h, g)
    assert [value.dtype for value in got] == [precision, given, given, precision]
    wanted = with_gradients(lambda a, b, h: linear_scan(a.double(), b.double(), h.double()), a, b, h, g.double())
    for ours, reference in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours.double(), reference.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_its_gradients_are_finite_differences(scan) -> None:
    torch.manual_seed(0)
    a, b, h = (torch.rand(*shape, 1, 3, dtype=F64, requires_grad=True) for shape in ((3,), (3,), ()))
    assert torch.autograd.gradcheck(scan, (a, b, h))


def test_shapes_that_dont_fit_are_refused_before_a_kernel_reads_beyond_the_end(scan) -> None:
    a = torch.ones(4, 2, 3)
    for b, h in ((a[:3], a[0]), (a, a[0, :1]), (a[..., :1], a[0])):
        with pytest.raises(ValueError, match="don't fit together"):
            scan(a, b, h)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("lengths", "hidden_size"), [(None, 7), ([3, 0, 2], 18)], ids=["whole", "ragged"])
def test_a_layer_gives_what_it_gives_in_torch(launched, kind, lengths, hidden_size) -> None:
    """In one program, which goes through all steps, and in two, which take turns."""
    torch.manual_seed(0)
    layer = made(kind, hidden_size, "triton").double()
    x, state = torch.randn(3, 3, 4, dtype=F64), layer.initial_state(3)
    state = {name: torch.randn_like(value) for name, value in state.items()}
    lengths = None if lengths is None else torch.tensor(lengths)
    results = []
    for layer.backend in (KINDS[kind], "triton"):
        assert launched == []
        given = [value.clone().requires_grad_() for value in (x, *state.values())]
        y, after = layer(given[0], dict(zip(state, given[1:], strict=True)), lengths)
        loss = y.pow(2).sum() + sum((number * value).sum() for number, value in enumerate(after.values(), 2))
        results.append([y, *after.values(), *torch.autograd.grad(loss, [*given, *layer.parameters()])])
    launches = 1 if kind in SCANS or hidden_size == 7 else 6 if "before" in kind else 3
    assert len(launched) == 2 * launches
    assert len(set(launched)) == 2
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mingru", "lstm"])
def test_two_updates_of_a_model_are_those_in_torch(interpreted, launched, kind, monkeypatch) -> None:
    monkeypatch.setattr(interpreted[-1], "BLOCK", 256)  # fewer programs: they are interpreted one after the other
    trained = []
    for backend in (KINDS[kind], "triton"):
        assert launched == []
        task, model, split = Pair(CITIES, LETTERS, {"kind": kind, "backend": backend}).build()
        options = {"clip_norm": 1.0, "clip_value": None, "precision": "float32", "average": None}
        update, state = Update(model.train(), task.loss, make_optimizer(model), **options), None
        batches = task.batches(split, batch_size=ROWS, window=STEPS, seed=0, training=True)
        before = [value.detach().clone() for value in model.parameters()]
        for index in range(2):
            batch = batches.at(0, index)
            state = update(batch, None if batch.fresh else state, 1.0, index)
        assert not any(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
        trained.append([value.detach() for value in model.parameters()])
    assert launched
    for ours, reference in zip(*trained, strict=True):
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_norms_of_gradients_are_recorded_as_by_hand(interpreted, kind) -> None:
    torch.manual_seed(0)
    cell = made(kind, 7, "auto")
    x, records = torch.randn(2, 3, 4), torch.zeros(2, 3, 2)
    for backend, record in zip(("by_hand", "triton"), records, strict=True):
        y, _ = recurrent(kind, x, cell.initial_state(2), cell.parameters_by_name, record=record, backend=backend)
        y.sum().backward()
    assert records[0].all()
    torch.testing.assert_close(records[1], records[0])


@pytest.mark.slow
def test_the_compiler_for_gpus_takes_the_kernels(tmp_path, monkeypatch) -> None:
    """The interpreter accepts more than the compiler, which needs no GPU. Loads are asynchronous."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # unset, Triton 3.9 warns
    with imported(interpret=False) as (steps, lstm, gru, scan):
        import triton
        import triton.language as tl
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        values = {"PRECISION": tl.float32, "BLOCK": scan.BLOCK, "AHEAD": scan.AHEAD, "NUMBER": tl.float32}
        values |= dict.fromkeys(("RAGGED", "BARRIER", "PEEPHOLES", "FIRST", "SECOND"), True)
        values |= {"PRODUCTS": steps.EXACT, "ROWS": steps.ROWS[0]}
        pointers = {"alive": "*i1", "arrived": "*i32"}
        afterwards = (gru.forward_after, gru.backward_after, gru.forward_before, gru.backward_before)
        kernels = (scan.forward_kernel, scan.backward_kernel, lstm.forward_steps, lstm.backward_steps, *afterwards)
        for kernel in kernels:
            names = kernel.arg_names
            constants = {name: value for name, value in values.items() if name in names}
            if kernel is lstm.backward_steps:
                constants["ROWS"] = steps.ROWS[-1]  # takes the most memory
            kinds = {name: pointers.get(name, "i32" if name in ("count", *"TtNBH") else "*fp32") for name in names}
            whole = {(place,): [["tt.divisibility", 16]] for place, name in enumerate(names) if name not in constants}
            source = ASTSource(kernel, kinds | dict.fromkeys(constants, "constexpr"), constants, whole)
            made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 4})
            assert made.asm["cubin"]
            assert "cp.async" in made.asm["ptx"]
            assert made.metadata.shared <= 163 << 10  # what a block has on such a GPU


@pytest.mark.parametrize("kind", KINDS)
def test_where_it_cant_run_a_training_is_refused_and_a_trained_model_does_without(kind, monkeypatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    layer, x = made(kind, 7, "triton"), torch.randn(2, 3, 4)
    with pytest.raises(UserError) as refused:
        layer(x)
    assert str(refused.value) == (
        "model.backend: triton needs a GPU, but the model is on cpu\nuse --device cuda, or set model.backend: auto"
    )
    y, _ = layer.eval()(x)
    layer.backend = KINDS[kind]
    assert torch.equal(y, layer(x)[0])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ImportError("No module named 'triton'"), "No module named 'triton'\npip install triton, or set model.backend"),
        (
            RuntimeError("Failed to find C compiler.\nMore."),
            "Failed to find C compiler.\ninstall what it needs, or set",
        ),
    ],
)
def test_what_triton_lacks_is_told_before_it_is_used(error, told, monkeypatch) -> None:
    def try_out(device: torch.device) -> None:
        raise error

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(sys.modules, MODULES[-1], SimpleNamespace(try_out=try_out))
    backends._triton_trouble.cache_clear()
    layer, x = resolve("cell", "mingru")(4, hidden_size=7, backend="triton"), torch.randn(2, 3, 4)
    with pytest.raises(UserError, match=re.escape(f"triton doesn't run on cpu: {told}")):
        layer(x)
    assert layer.eval()(x)[0].isfinite().all()
    backends._triton_trouble.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_it_never_runs_unasked_on_a_cpu(kind, monkeypatch) -> None:
    for place in ("layers.linear_cell.triton_applies", "layers.cell.triton_applies", "kernels.backends.check_triton"):
        monkeypatch.setattr(f"components.{place}", None)
    layer = made(kind, 7, "auto")
    layer(torch.randn(2, 3, 4))
    assert layer.backend == "auto"


def test_auto_takes_it_where_it_measured_faster(monkeypatch) -> None:
    gpu, answer = torch.device("cuda"), {"capability": (9, 0), "trouble": None}
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: answer["capability"])
    monkeypatch.setattr(backends, "_triton_trouble", lambda device, kernel: answer["trouble"])
    steps = SimpleNamespace(rows_together=lambda device, B, H: 16 if B * H <= 1 << 15 else None)
    monkeypatch.setitem(sys.modules, MODULES[0], steps)

    def taken(B=32, T=128, H=256, precision=F32, cudnn_takes=True) -> bool:
        x, weight = SimpleNamespace(shape=(B, T, 7), device=gpu), torch.empty(4 * H, H)
        return backends.triton_is_fastest(x, weight, precision, cudnn_takes)

    assert taken()
    assert taken(H=1024)
    assert taken(H=64, precision=BF16)
    assert taken(H=64, cudnn_takes=False)  # peepholes, reset before the product
    for options in ({"H": 64}, {"T": 8}, {"B": 256}, {"H": 2048}):
        assert not taken(**options)
    for changed in ({"capability": (8, 0)}, {"trouble": "no compiler"}):
        with monkeypatch.context() as patch:
            for name, value in changed.items():
                patch.setitem(answer, name, value)
            assert not taken()
            assert not backends.triton_measured(gpu, F32, "scan")
    assert backends.triton_measured(gpu, F32, "scan")
    assert not backends.triton_measured(torch.device("cpu"), F32, "scan")
    assert not backends.triton_measured(gpu, F64, "scan")


def test_the_basic_rnn_is_refused() -> None:
    cell = resolve("cell", "rnn")(4, hidden_size=7)
    with pytest.raises(UserError, match="backend triton: the rnn isn't supported"):
        recurrent("rnn", torch.randn(2, 3, 4), cell.initial_state(2), cell.parameters_by_name, backend="triton")
