"""One update of the weights and what goes into it: rates, clipping, averages, schedules."""

from __future__ import annotations

import copy

import pytest
import torch

from components.training.averaging import Average, TriggeredAverage
from components.training.optim import make_optimizer, optimizer_step
from components.training.schedule import Schedule
from components.training.session import Session


def test_what_is_kept_is_the_average_of_the_weights_that_were_trained() -> None:
    model = torch.nn.Linear(1, 1)
    average, path = Average(model, 0.5), []
    with torch.no_grad():
        for step in range(1, 41):
            model.weight.fill_(float(step))
            average.update(step)
            path.append(float(average.values["weight"]))
    expected = 0.0
    decays = [min(0.5, (1 + n) / (10 + n)) for n in range(1, 41)]
    for n, decay in enumerate(decays, 1):
        expected = expected * decay + n * (1 - decay)
    assert path[-1] == pytest.approx(expected, rel=1e-5)
    with average.in_place():
        assert model.weight.item() == path[-1]
    assert model.weight.item() == 40.0, "training goes on from its own weights"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_a_step_is_that_of_torch(kind) -> None:
    torch.manual_seed(0)
    ours = torch.nn.Linear(5, 3)
    theirs = copy.deepcopy(ours)
    pairs = [(model, make_optimizer(model, optimizer=kind, momentum=0.9)) for model in (ours, theirs)]
    for _ in range(3):
        x = torch.randn(4, 5)
        for model, optimizer in pairs:
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer_step(optimizer) if model is ours else optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_embeddings_have_a_learning_rate_of_their_own() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(3, 4), torch.nn.Linear(4, 2))
    optimizer = make_optimizer(model, learning_rate=0.1, weight_decay=0.5, embedding_rate=0.2)
    groups = {tuple(group["params"][0].shape): group for group in optimizer.param_groups}
    assert {shape: group["lr"] for shape, group in groups.items()} == {
        (3, 4): pytest.approx(0.02),
        (2, 4): 0.1,
        (2,): 0.1,
    }
    assert groups[3, 4]["weight_decay"] == 0.5
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 3
    assert len(make_optimizer(model).param_groups) == 2, "as checkpoints before this setting have it"
    assert len(make_optimizer(model[0], embedding_rate=0.2).param_groups) == 1


def test_a_triggered_average_is_the_mean_since_validation_stopped_improving() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    average = TriggeredAverage(model, patience=2)
    seen: list[float] = []
    #           the best of all but the last two before it is: –, –, –, 5, 4, 3
    for step, (value, begun) in enumerate([(5, 0), (4, 0), (3, 0), (3.5, 0), (3.9, 0), (3.2, 1)]):
        with torch.no_grad():
            model.weight.fill_(step)
        average.update(step)
        with average.in_place():
            assert model.weight.item() == step, "its own weights until then"
        seen.append(value)
        average.evaluated(seen, lower=True)
        assert (average.taken is not None) == bool(begun)
    for step in (10, 20, 60):
        with torch.no_grad():
            model.weight.fill_(step)
        average.update(step)
    with average.in_place():
        assert model.weight.item() == pytest.approx(30)
    assert model.weight.item() == 60
    rising = TriggeredAverage(model, patience=0)
    rising.evaluated([0.2, 0.5, 0.4], lower=False)
    assert rising.taken == 0


def test_frozen_weights_are_not_averaged() -> None:
    model = torch.nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    assert list(Average(model, 0.5).values) == ["bias"]


@pytest.mark.parametrize("options", [{"clip_norm": 0.01}, {"clip_norm": None, "clip_value": 1e-4}])
def test_gradients_are_clipped(small_recipe, small_store, tmp_path, silent, options) -> None:
    recipe = small_recipe(training={**options, "optimizer": "sgd", "learning_rate": 1.0, "steps": 3})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    seen = []
    original = torch.optim.SGD.step

    def step(self, *args):
        seen.append([p.grad.clone() for group in self.param_groups for p in group["params"]])
        return original(self, *args)

    torch.optim.SGD.step = step
    try:
        session.train(tmp_path / "run", silent)
    finally:
        torch.optim.SGD.step = original
    for gradients in seen:
        if options.get("clip_value"):
            assert max(g.abs().max() for g in gradients) <= 1e-4
        else:
            assert torch.nn.utils.get_total_norm(gradients) == pytest.approx(0.01, rel=1e-3)


def test_schedules() -> None:
    cosine = Schedule(100, schedule="cosine", warmup_steps=10, final_factor=0.1)
    assert [cosine.factor(s) for s in (0, 9, 10)] == [0.1, 1.0, 1.0]
    assert cosine.factor(100) == pytest.approx(0.1)
    assert all(cosine.factor(s) >= cosine.factor(s + 1) for s in range(10, 100))
    plateau = Schedule(100, schedule="plateau", plateau_patience=2)
    for improved in (True, False, False, True, False):
        plateau.evaluated(improved)
    assert plateau.factor(50) == 0.5
    again = Schedule(100, schedule="plateau", plateau_patience=2)
    again.load(plateau.state())
    again.evaluated(False)
    assert again.factor(50) == 0.25
