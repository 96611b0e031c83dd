"""Every task and model on a second device (`fake_device.py`): the numbers are the CPU's, no tensor is left behind.

An update waits for the device, copies to it and launches on it no more than the table says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fake_device import FakeTensor, Log, fake_device, to_fake
from task_pairs import PAIRS, ROWS, STEPS, UPDATES, whole_use
from torch import Tensor, nn

from components.encodings.vocabulary import EOS
from components.generation.beam import EVERY, beam_search
from components.training.gradients import held_out_probe
from components.training.optim import make_optimizer
from components.training.update import Update

pytestmark = pytest.mark.slow

# of one update, the most of its windows: synchronisations, copies to the device, launches
CEILINGS: dict[str, tuple[int, int, int]] = {
    "language, embedding": (0, 2, 185),
    "language, one-hot": (0, 2, 133),
    "language, one-hot, torch": (0, 2, 126),
    "language, tied, averaged": (0, 2, 134),
    "language, extras": (0, 2, 229),
    "language, peephole": (0, 2, 676),
    "language, minGRU": (0, 2, 447),
    "language, minLSTM": (0, 2, 274),
    "language, sampled": (0, 6, 176),
    "language, sampled, padded": (0, 6, 176),
    "language, adaptive": (0, 7, 240),
    "language, graph": (0, 2, 176),
    "chorale": (0, 2, 199),
    "lead sheet, copying": (0, 2, 619),
    "classification, last": (0, 4, 334),
    "classification, mean": (0, 4, 204),
    "classification, max": (0, 4, 283),
    "classification, attention": (0, 4, 375),
    "classification, ensemble": (0, 6, 920),
    "classification, one-hot ensemble": (0, 5, 331),
    "ordinal regression": (0, 4, 212),
    "ordinal regression, ensemble": (0, 6, 554),
    "regression": (0, 4, 172),
    "regression, ensemble": (0, 6, 436),
    "forecast": (0, 4, 187),
    "forecast, counts": (0, 4, 195),
    "forecast, quantiles": (0, 5, 181),
    "tagging": (0, 5, 185),
    "tagging, CRF, spelled": (0, 9, 615),
    "transcription": (0, 4, 276),
    "translation": (0, 6, 600),
    "translation, input feeding": (0, 6, 2017),
    "frames, NADE": (0, 5, 207),
    "frames, notes": (0, 5, 1110),
    "strokes": (0, 3, 236),
    "strokes, text": (0, 4, 2298),
    "notes": (0, 3, 444),
    "notes, copied": (0, 3, 1062),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_second_device_gives_the_numbers_of_the_cpu(name, tmp_path, silent) -> None:
    with fake_device():
        there = whole_use(PAIRS[name], tmp_path / "there", silent, to_fake)
    here = whole_use(PAIRS[name], tmp_path / "here", silent)
    assert there["losses"] == pytest.approx(here["losses"], abs=1e-6, rel=1e-6)
    assert there["findings"] == here["findings"]
    for part in ("probe", "metrics", "final"):
        assert there[part] == pytest.approx(here[part], rel=2e-3, abs=1e-4, nan_ok=True), part
    assert there["made"] == pytest.approx(here["made"], rel=1e-3)


def costs(name: str) -> tuple[tuple[int, int, int], Log]:
    """What an update costs at most, and the log of all."""
    task, model, split = PAIRS[name].build()
    whole = Log()
    most = np.zeros(3, dtype=int)
    with fake_device() as log:
        model = to_fake(model).train()
        options = {"clip_norm": 1.0, "clip_value": None, "precision": "float32", "average": None}
        update, state = Update(model, task.loss, make_optimizer(model), **options), None
        batches = task.batches(split, batch_size=ROWS, window=STEPS, seed=0, training=True)
        for index in range(min(UPDATES, batches.count(0))):
            batch = batches.at(0, index)
            log.clear()
            state = update(batch, None if batch.fresh else state, 1.0, index)
            most = np.maximum(most, [log.count(kind) for kind in ("sync", "copy", "launch")])
            whole.update(log)
    return tuple(most.tolist()), whole


@pytest.mark.parametrize("name", PAIRS)
def test_an_update_costs_no_more_than_the_table_says(name) -> None:
    found, log = costs(name)
    told = f"{name}: {found} instead of {CEILINGS[name]}\n{log.told('sync')}\n{log.told('copy')}"
    assert all(a <= b for a, b in zip(found, CEILINGS[name], strict=True)), told


class Forgetful(nn.Module):
    def __init__(self, make: Any) -> None:
        super().__init__()
        self.weight, self.make = nn.Parameter(torch.ones(3)), make

    def forward(self) -> Tensor:
        made = self.make(3)
        return (self.weight * made).sum()


@pytest.mark.parametrize("make", [torch.arange, torch.zeros, torch.ones, torch.randperm])
def test_a_tensor_made_on_the_cpu_is_caught_where_it_is_used(make) -> None:
    line = Forgetful.forward.__code__.co_firstlineno + 2
    place = rf"same device.* at tests/training/test_fake_device\.py:{line}"
    with fake_device(), pytest.raises(RuntimeError, match=place):
        to_fake(Forgetful(make))()


@pytest.mark.parametrize(
    ("wait", "what"),
    [
        (lambda x: x.sum().item(), "item"),
        (lambda x: float(x[0]), "item"),
        (lambda x: bool(x.any()), "item"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x[x > 1], "boolean index"),
        (lambda x: x.masked_select(x > 1), "masked_select"),
        (lambda x: x.cpu(), "to the CPU"),
        (lambda x: x.tolist(), "to the CPU"),
        (lambda x: x.to("cpu", torch.float64), "to the CPU"),
        (lambda x: torch.zeros(3).copy_(x), "to the CPU"),
        (lambda x: x.unique(), "unique"),
        (lambda x: torch.unique(x[:, None], dim=0), "unique"),
        (lambda x: torch.equal(x, x), "equal"),
        (lambda x: x.repeat_interleave(x.long()), "repeat_interleave"),
    ],
)
def test_whatever_waits_is_counted(wait, what) -> None:
    with fake_device() as log:
        x = torch.tensor([1.0, 2.0, 3.0], device="fake")
        log.clear()
        wait(x)
        assert {key[1]: times for key, times in log.items() if key[0] == "sync"} == {what: 1}
        assert "tests/training/test_fake_device.py" in log.told("sync")


def test_what_stays_on_the_device_doesnt_wait() -> None:
    with fake_device() as log:
        x = torch.arange(6.0, device="fake", requires_grad=True)
        torch.where(x > 1, x, 0.0).view(2, 3).cumsum(1)[:, torch.tensor([0, 2]).to("fake")].sum().backward()
        assert isinstance(x.grad, FakeTensor)
        assert (log.count("sync"), log.count("copy")) == (0, 1)
        assert x.grad.tolist() == [0, 0, 1, 2, 1, 1]


def test_a_recurrent_layer_is_held_to_what_cudnn_asks() -> None:
    with fake_device() as log:
        layer = to_fake(nn.GRU(2, 3, batch_first=True))
        x = torch.ones(4, 5, 2, device="fake")
        log.clear()
        layer(x)[0].sum().backward()
        assert log["launch", "gru", next(at for kind, what, at in log if what == "gru")] == 1
        with pytest.raises(RuntimeError, match="not contiguous"):
            layer(x, torch.zeros(1, 3, 4, device="fake").transpose(1, 2))
        with pytest.raises(RuntimeError, match="training mode"):
            layer.eval()(x)[0].sum().backward()
        with pytest.raises(RuntimeError, match="same device"):
            layer(x, torch.zeros(1, 4, 3))


def test_a_beam_is_looked_at_now_and_then_and_finds_what_it_finds_on_the_cpu() -> None:
    weight = torch.randn(12, 12, generator=torch.Generator().manual_seed(0)).double()
    weight[:, EOS] -= 4

    def found(weight: Tensor) -> list[list[tuple[list[int], float]]]:
        state = {"rows": weight.new_zeros(3, 1)}
        made = beam_search(lambda tokens_N, state: (weight[tokens_N], state), state, [3, 40, 25], beam_size=4)
        return [[(one.ids.tolist(), one.score) for one in hypotheses] for hypotheses in made]

    here = found(weight)
    with fake_device() as log:
        there = found(weight.to("fake"))
        assert log.count("sync") == 3, log.told("sync")  # of up to 41 tokens, EVERY 16
    assert there == here
    assert max(len(ids) for hypotheses in here for ids, _ in hypotheses) > EVERY


@pytest.mark.parametrize(("name", "most"), [("language, embedding", 6), ("language, minGRU", 2)])
def test_the_probe_waits_once_a_pass_and_twice_a_layer_for_its_weights(name, most) -> None:
    task, model, split = PAIRS[name].build()
    with fake_device() as log:
        held = task.batches(split, batch_size=ROWS, window=STEPS, seed=0, training=False)
        probe = held_out_probe(to_fake(model), task.loss, held)
        log.clear()
        probe.measure()
        assert log.count("sync") <= most, log.told("sync")


@pytest.mark.parametrize(
    "name", ["language, embedding", "language, graph", "language, sampled", "frames, NADE", "notes"]
)
def test_a_window_of_an_evaluation_waits_once(name) -> None:
    task, model, split = PAIRS[name].build()
    with fake_device() as log, torch.inference_mode():
        model = to_fake(model).eval()
        batch = task.batches(split, batch_size=ROWS, window=STEPS, seed=0, training=False).at(0, 0)
        log.clear()
        task.measure(model, batch, None)
        assert log.count("sync") == 1, log.told("sync")
