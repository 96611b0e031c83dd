"""Updates of single rows: as those of whole tables for the rows of a batch, nothing for the others."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from components.errors import UserError
from components.layers.softmax import SampledSoftmax
from components.models.sequence_model import SequenceModel
from components.tasks.base import Tally
from components.training.checkpoint import load_optimizer, optimizer_tensors
from components.training.optim import make_optimizer
from components.training.rows import SparseRows
from components.training.session import Session
from components.training.trainer import Trainer
from components.training.update import Update

KINDS = [
    {"optimizer": "adamw", "weight_decay": 0.1},
    {"optimizer": "adam", "weight_decay": 0.1},
    {"optimizer": "sgd", "weight_decay": 0.0},
    {"optimizer": "sgd", "weight_decay": 0.1, "momentum": 0.9},
]
ROWS = 7


def table() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(ROWS, 3), nn.Linear(3, 2))


def update_of(model: nn.Module, sparse: bool, clip_norm: float | None = None, clip_value=None, **options) -> Update:
    def loss(model: nn.Module, batch: torch.Tensor, state: None) -> tuple[Tally, dict]:
        return Tally((model(batch) ** 2).sum(), len(batch)), {}

    optimizer = make_optimizer(model, learning_rate=0.05, sparse_rows=sparse, **options)
    common = {"clip_norm": clip_norm, "clip_value": clip_value, "precision": "float32", "average": None}
    return Update(model, loss, optimizer, **common)


def take(update: Update, *batches: list[int]) -> torch.Tensor:
    """The table after these updates."""
    for step, ids in enumerate(batches):
        update(torch.tensor(ids), None, 0.5, step)
    return update.model[0].weight.detach().clone()


@pytest.mark.parametrize("options", KINDS)
def test_rows_that_are_in_every_batch_are_moved_as_the_whole_table_is(options) -> None:
    batches = [[0, 1, 2, 3, 4, 5, 6, seen, seen] for seen in range(4)]  # some twice: their gradients are added up
    whole, sparse = (take(update_of(table(), flag, **options), *batches) for flag in (False, True))
    torch.testing.assert_close(sparse, whole, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(whole, table()[0].weight)


@pytest.mark.parametrize("options", KINDS)
def test_a_row_that_is_not_in_a_batch_keeps_its_weights_and_moments(options) -> None:
    update = update_of(table(), True, **options)
    before = take(update, [0, 1, 2])
    kept = {name: value.clone() for name, value in optimizer_tensors(update.optimizer).items() if value.ndim}
    after = take(update, [2, 2, 3])
    assert [row for row in range(ROWS) if not torch.equal(before[row], after[row])] == [2, 3]
    of_table = [name for name, value in kept.items() if value.shape == before.shape]
    assert len(of_table) == {"sgd": bool(options.get("momentum"))}.get(options["optimizer"], 2)
    for name in of_table:
        now = optimizer_tensors(update.optimizer)[name]
        assert [row for row in range(ROWS) if not torch.equal(kept[name][row], now[row])] == [2, 3]


def test_plain_sgd_of_rows_is_plain_sgd() -> None:
    batches = [[0, 1, 1], [4], [1, 4, 6]]
    whole, sparse = (
        take(update_of(table(), flag, optimizer="sgd", weight_decay=0.0), *batches) for flag in (False, True)
    )
    torch.testing.assert_close(sparse, whole)


@pytest.mark.parametrize("clip", [{"clip_norm": 0.01}, {"clip_value": 0.005}, {"clip_norm": 0.01, "clip_value": 0.005}])
def test_gradients_of_rows_are_clipped_and_measured_as_whole_ones(clip) -> None:
    batches = [[0, 1, 1, 1], [1, 4, 4, 6]]  # repeated: a norm over the parts of a row's gradient would be another
    whole, sparse = (update_of(table(), flag, optimizer="sgd", weight_decay=0.0, **clip) for flag in (False, True))
    torch.testing.assert_close(take(sparse, *batches), take(whole, *batches), rtol=1e-6, atol=1e-9)
    assert sparse.read() == pytest.approx(whole.read(), rel=1e-6)
    assert sparse.model[0].weight.grad.is_sparse


def test_an_update_that_is_not_finite_moves_no_row() -> None:
    update = update_of(table(), True)
    before = take(update, [0, 1])
    with torch.no_grad():
        update.model[1].weight.fill_(float("inf"))
    assert torch.equal(take(update, [1, 2]), before)
    assert update.read()["skipped"] == 1


@pytest.mark.parametrize("options", KINDS)
def test_rows_go_on_from_a_checkpoint_bit_for_bit(options) -> None:
    batches = [[0, 1], [1, 2], [0, 5, 5], [1, 6]]
    whole = take(update_of(table(), True, **options), *batches)
    first = update_of(table(), True, **options)
    take(first, *batches[:2])
    saved = {name: value.clone() for name, value in optimizer_tensors(first.optimizer).items()}
    second = update_of(copy.deepcopy(first.model), True, **options)
    load_optimizer(second.optimizer, saved)
    assert torch.equal(take(second, *batches[2:]), whole)


def test_a_tied_sampled_softmax_gives_the_gradients_of_its_rows() -> None:
    options = {"kind": "gru", "hidden_size": 4, "tie_weights": True}
    model = SequenceModel(50, softmax="sampled", samples=6, **options)
    assert isinstance(make_optimizer(model, sparse_rows=True), SparseRows)
    assert isinstance(model.head, SampledSoftmax)
    ids = torch.tensor([[4, 5, 6]])
    torch.manual_seed(1)
    y_BTH, _ = model.outputs(ids[..., None])
    model.head.loss(y_BTH, ids, 0).backward()
    sparse, model.embedding.weight.grad = model.embedding.weight.grad, None
    model.embedding.sparse = model.head.sparse = False
    torch.manual_seed(1)
    y_BTH, _ = model.outputs(ids[..., None])
    model.head.loss(y_BTH, ids, 0).backward()
    assert sparse.is_sparse
    torch.testing.assert_close(sparse.to_dense(), model.embedding.weight.grad)
    with pytest.raises(UserError, match="uses all rows"):
        make_optimizer(SequenceModel(50, **options), sparse_rows=True)


@pytest.mark.slow
def test_several_processes_refuse_rows(small_recipe, small_store, tmp_path) -> None:
    recipe = small_recipe(training={"sparse_rows": True})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    with pytest.raises(UserError, match="several processes"):
        session.follow(tmp_path, SimpleNamespace(rank=0))


def test_checkpoints_that_take_long_are_written_less_often(monkeypatch, tmp_path) -> None:
    clock = [0.0]
    monkeypatch.setattr("components.training.trainer.time.perf_counter", lambda: clock[0])
    trainer = Trainer(
        table(), None, make_optimizer(table()), None, tmp_path, None, lambda *a, **k: None, checkpoint_seconds=15.0
    )
    trainer.writing = 9.0
    for seconds, due in ((16.0, False), (299.0, False), (301.0, True)):
        clock[0] = seconds
        assert trainer._due() is due
    trainer.writing = 0.1
    clock[0] = 16.0
    assert trainer._due()
