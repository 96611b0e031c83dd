"""On a real GPU: the same mathematics as on the CPU, the same bits when it is done again, and nobody waits for it."""

from __future__ import annotations

import copy
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from task_pairs import PAIRS, whole_use
from test_training import Stop, assert_identical, stopping_at

from components.layers.bidirectional import Bidirectional
from components.layers.stack import Stack
from components.models.weights import read_tensors
from components.registry import names, resolve
from components.training.captured import AFTER, CapturedUpdate
from components.training.device import prepare
from components.training.session import Session
from components.training.update import Update

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("error:RNN module weights"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]
GPU = torch.device("cuda")
NEEDS_TRITON = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton: pip install triton")
B, T, INPUT, H = 5, 33, 7, 24


def layers(kind: str, hidden_size: int = H, **options: object) -> Stack:
    return Stack.of(lambda size: resolve("cell", kind)(size, hidden_size=hidden_size, **options), INPUT, 2)


def results(layer: torch.nn.Module, x: torch.Tensor, lengths: torch.Tensor | None, precise: bool) -> list[torch.Tensor]:
    """Outputs, last states and all gradients, on the CPU."""
    layer.train()
    y, state = layer(x, None, lengths)
    (y.float() if not precise else y).pow(2).sum().backward()
    gradients = [parameter.grad for parameter in layer.parameters()]
    return [value.detach().cpu() for value in (y, *state.values(), *gradients)]


def error(got: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    return max(float((a.double() - b).norm() / b.norm().clamp(min=1e-12)) for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("ids", [False, True], ids=["frames", "ids"])
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("kind", names("cell"))
def test_each_cell_computes_what_it_does_on_the_cpu_in_float64(kind: str, ragged: bool, ids: bool) -> None:
    prepare(0, 1)
    layer = layers(kind)
    x = torch.randint(0, INPUT, (B, T, 1)) if ids else torch.randn(B, T, INPUT)
    lengths = torch.tensor([T, 3, 0, 17, T]) if ragged else None
    exact = results(copy.deepcopy(layer).double(), x if ids else x.double(), lengths, True)
    on_gpu = copy.deepcopy(layer).to(GPU)
    got = results(on_gpu, x.to(GPU), lengths.to(GPU) if ragged else None, False)
    assert error(got, exact) < 2e-5


@NEEDS_TRITON
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
@pytest.mark.parametrize("hidden_size", [24, 100, 272], ids=str)
@pytest.mark.parametrize(
    "kind", ["mingru", "minlstm", "peephole-lstm", "lstm", "gru", ("gru", {"reset_after": False})], ids=str
)
def test_the_kernels_in_triton(kind, hidden_size: int, ragged: bool, precision: str) -> None:
    """By one program, and by several that wait for each other, with rows in several of them."""
    prepare(0, 1, tf32=precision == "tf32")
    kind, options = kind if isinstance(kind, tuple) else (kind, {})
    layer = layers(kind, hidden_size, **options)
    x, lengths = torch.randn(37, T, INPUT), torch.tensor([T, 3, 0, 17, T] * 7 + [2, 1]) if ragged else None
    exact = results(copy.deepcopy(layer).double(), x.double(), lengths, True)
    on_gpu = layers(kind, hidden_size, **options, backend="triton").to(GPU)
    on_gpu.load_state_dict(layer.state_dict())
    again = copy.deepcopy(on_gpu)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
        got, same = (results(use, x.to(GPU), lengths.to(GPU) if ragged else None, False) for use in (on_gpu, again))
    assert error(got, exact) < {"float32": 2e-5, "tf32": 5e-3, "bfloat16": 5e-2}[precision]
    assert all(torch.equal(a, b) for a, b in zip(got, same, strict=True))


@NEEDS_TRITON
@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() != (9, 0), reason="needs a GPU that was measured"
)
@pytest.mark.parametrize("kind", ["lstm", "gru", "peephole-lstm", "mingru"])
def test_auto_takes_triton_where_it_measured_faster(kind: str) -> None:
    prepare(0, 1)
    results_by_backend = []
    for backend in ("auto", "triton"):
        torch.manual_seed(0)
        layer, x = layers(kind, 256, backend=backend).to(GPU), torch.randn(B, T, INPUT, device=GPU)
        results_by_backend.append(results(layer, x, None, False))
    assert all(torch.equal(a, b) for a, b in zip(*results_by_backend, strict=True))


@pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])
def test_both_directions(ragged: bool) -> None:
    prepare(0, 1)
    make = resolve("cell", "lstm")
    layer = Bidirectional(make(INPUT, hidden_size=H), make(INPUT, hidden_size=H))
    x, lengths = torch.randn(B, T, INPUT), torch.tensor([T, 3, 1, 17, T]) if ragged else None
    exact = results(copy.deepcopy(layer).double(), x.double(), lengths, True)
    got = results(copy.deepcopy(layer).to(GPU), x.to(GPU), lengths.to(GPU) if ragged else None, False)
    assert error(got, exact) < 2e-5


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_bfloat16_is_bfloat16(kind: str) -> None:
    """Not float16: that has three bits more and a fifth of the range."""
    prepare(0, 1)
    layer = layers(kind)
    x = torch.randn(B, T, INPUT)
    exact = results(copy.deepcopy(layer).double(), x.double(), None, True)
    with torch.autocast("cuda", torch.bfloat16):
        got = results(copy.deepcopy(layer).to(GPU), x.to(GPU), None, False)
        cell = copy.deepcopy(layer.layers[0]).to(GPU)
        assert cell._precision(GPU) == torch.bfloat16
    assert 1e-3 < error(got, exact) < 5e-2


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("framing", ["sequences", "stream"])
@pytest.mark.parametrize(
    "model",
    [
        {"kind": "lstm"},
        {"kind": "gru", "input": "one_hot", "recurrent_dropout": 0.2},
        {"kind": "peephole-lstm", "dropout_kind": "locked"},
        {"kind": "mingru", "layer_norm": True, "learn_initial_state": True},
        pytest.param({"kind": "minlstm", "backend": "triton"}, marks=NEEDS_TRITON),
        pytest.param({"kind": "lstm", "backend": "triton", "hidden_size": 96}, marks=NEEDS_TRITON),
    ],
    ids=["lstm", "gru", "peephole", "mingru", "triton-scan", "triton-lstm"],
)
def test_a_recorded_update_gives_the_same_bits(
    small_recipe, small_store, tmp_path, silent, monkeypatch, model, framing, precision
) -> None:
    recipe = small_recipe(framing, model=model, training={"steps": 40, "precision": precision})
    store = small_store(recipe)
    recorded = trained(recipe, store, tmp_path / "recorded", silent)
    monkeypatch.setattr("components.training.captured.MOST", 0)
    assert_identical(recorded, trained(recipe, store, tmp_path / "eager", type(silent)()))


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_run_that_was_stopped_goes_on_with_the_same_bits(
    small_recipe, small_store, tmp_path, silent, average
) -> None:
    recipe = small_recipe("stream", training={"steps": 40, "checkpoint_seconds": 0.0, "averaging": average})
    store = small_store(recipe)
    whole = trained(recipe, store, tmp_path / "whole", silent)
    for stop in (1, 7, 8, 30):
        with pytest.raises(Stop):
            trained(recipe, store, tmp_path / "parts", stopping_at(type(silent)(), stop))
    assert_identical(whole, trained(recipe, store, tmp_path / "parts", type(silent)()))


def test_a_run_that_began_on_a_gpu_goes_on_on_a_cpu(small_recipe, small_store, tmp_path, silent) -> None:
    recipe = small_recipe("stream", training={"checkpoint_seconds": 0.0})
    store = small_store(recipe)
    with pytest.raises(Stop):
        trained(recipe, store, tmp_path / "run", stopping_at(type(silent)(), 9))
    progress = Session(recipe, store, "cpu", 1).train(tmp_path / "run", silent)
    assert progress.global_step == recipe.training["steps"]


@pytest.mark.parametrize("captured", [False, True], ids=["eager", "recorded"])
def test_an_update_does_not_wait_for_the_gpu(small_recipe, small_store, captured) -> None:
    recipe = small_recipe("stream")
    session = Session(recipe, small_store(recipe), "cuda", 1)
    optimizer = torch.optim.AdamW(session.model.parameters(), fused=True, capturable=True)
    kind = CapturedUpdate if captured else Update
    update = kind(
        session.model, session.task.loss, optimizer, clip_norm=1.0, clip_value=0.5, precision="float32", average=None
    )
    batches = session.task.batches(session.store.split("train"), batch_size=8, window=6, seed=0, training=True)
    state, batch = None, batches.at(0, 1)
    for step in range(AFTER + 2):
        state = update(batch, state, 1.0, step)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step in range(5):
            state = update(batch, state, 1.0, step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    sums = update.read()
    assert sums["updates"] == AFTER + 7
    assert sums["count"] == (AFTER + 7) * np.prod(batch.targets_BT.shape)


def test_an_update_that_is_not_finite_changes_nothing(small_recipe, small_store) -> None:
    recipe = small_recipe("stream")
    session = Session(recipe, small_store(recipe), "cuda", 1)
    optimizer = torch.optim.AdamW(session.model.parameters(), fused=True, capturable=True)
    update = CapturedUpdate(
        session.model, session.task.loss, optimizer, clip_norm=1.0, clip_value=None, precision="float32", average=None
    )
    batches = session.task.batches(session.store.split("train"), batch_size=8, window=6, seed=0, training=True)
    state, batch = None, batches.at(0, 1)
    for step in range(AFTER + 2):
        state = update(batch, state, 1.0, step)
    before = [parameter.clone() for parameter in session.model.parameters()]
    state = {name: value.clone() for name, value in state.items()}
    spoiled = {name: value * torch.nan for name, value in state.items()}
    after = update(batch, spoiled, 1.0, 9)
    assert all(torch.equal(a, b) for a, b in zip(before, session.model.parameters(), strict=True))
    assert all(not value.any() for value in after.values())
    assert update.read()["skipped"] == 1
    update(batch, state, 1.0, 10)
    assert not any(torch.equal(a, b) for a, b in zip(before, session.model.parameters(), strict=True))
    assert update.read()["in_a_row"] == 0


def without_dropout(device: str):
    """Puts a model on a device; what it would draw there differs from device to device."""

    def to(model: torch.nn.Module) -> torch.nn.Module:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "recurrent_dropout"):
                module.recurrent_dropout = 0.0
        return model.to(device)

    return to


@pytest.mark.parametrize("name", PAIRS)
def test_every_task_gives_the_numbers_of_the_cpu(name, tmp_path, silent) -> None:
    prepare(0, 1)
    there, here = (
        whole_use(PAIRS[name], tmp_path / device, silent, without_dropout(device)) for device in ("cuda", "cpu")
    )
    drawn = "feeding" in name  # which of its own words it reads is drawn on the device
    assert there["losses"] == pytest.approx(here["losses"], rel=1e-2 if drawn else 1e-3)
    assert there["findings"] == here["findings"]
    assert there["metrics"].keys() == here["metrics"].keys()
    assert len(there["made"]) == len(here["made"])


def trained(recipe, store, folder: Path, listener) -> dict[str, torch.Tensor]:
    Session(recipe, store, "cuda", 1).train(folder, listener)
    return read_tensors(folder / "checkpoint.safetensors")[0]
