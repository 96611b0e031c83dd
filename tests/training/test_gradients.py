"""The gradient probe: both ways tell the same norms, they are the true ones, and looking changes nothing."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
import torch

from components.datasets.batches.examples import ExampleBatch
from components.datasets.batches.truncated import Batch
from components.encodings.characters import Characters
from components.encodings.vocabulary import PAD
from components.errors import UserError
from components.layers.rnn import RNN
from components.models.sequence_model import SequenceModel
from components.models.weights import read_tensors
from components.registry import names, resolve
from components.tasks.language_model import LanguageModel
from components.training.gradients import (
    LAGS,
    GradientProbe,
    LayerGradients,
    Reading,
    by_lag,
    held_out_probe,
    one_step,
    probe_batch,
)
from components.training.session import Session
from components.training.state_gradients import probes, recurrent_layers, state_gradients

B, T, H = 3, 11, 6


@pytest.fixture(scope="module")
def task() -> LanguageModel:
    encoding = Characters()
    encoding.fit(["the cat sat on the mat"])
    return LanguageModel(encoding, "sequences")


@pytest.fixture
def batch(task) -> Batch:
    rng = np.random.default_rng(0)
    ids = rng.integers(4, len(task.encoding.vocabulary), (B, T + 1))
    ids[1, 6:] = PAD  # a short row
    return Batch(ids[:, :-1, None], ids[:, 1:], fresh=True)


def model_of(task, kind: str = "lstm", *, num_layers: int = 2, **options) -> SequenceModel:
    torch.manual_seed(1)
    return task.build_model({"kind": kind, "hidden_size": H, "num_layers": num_layers, **options}).double()


def same(a: Reading, b: Reading) -> None:
    assert a.layers.keys() == b.layers.keys()
    assert len(a.layers) >= 1
    for name, layer in a.layers.items():
        assert max(layer.lag_norms) > 1e-4, "norms of zero agree with anything"
        np.testing.assert_allclose(layer.lag_norms, b.layers[name].lag_norms, rtol=1e-9)
        np.testing.assert_allclose(layer.whole_loss_norm, b.layers[name].whole_loss_norm, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("input", ["embedding", "one_hot"])
def test_the_pass_by_hand_and_the_steps_of_autograd_tell_the_same(task, batch, kind, input) -> None:
    model = model_of(task, kind, input=input, dropout=0.5)
    by_hand = GradientProbe(model, task.loss, batch, way="by_hand").measure()
    same(by_hand, GradientProbe(model, task.loss, batch, way="steps").measure())
    assert list(by_hand.layers) == ["0", "1"]
    assert {layer.way for layer in by_hand.layers.values()} == {"by_hand"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", names("cell"))
def test_the_norms_are_those_of_the_loss_as_a_function_of_the_state_at_a_cut(task, batch, kind) -> None:
    """Every cell of the registry, whichever way the probe takes for it."""
    model = model_of(task, kind, num_layers=1).eval()
    found = GradientProbe(model, task.loss, batch).measure().layers[recurrent_name(model)].lag_norms
    inputs, targets = torch.from_numpy(batch.inputs_BTS), torch.from_numpy(batch.targets_BT)
    assert len(found) == T
    for lag in range(1, T):
        norms = []
        for row, end in enumerate([T - 1, 4, T - 1]):
            if end < lag:
                continue
            cut = end - lag + 1
            _, state = model(inputs[row : row + 1, :cut])
            state = {name: value.detach().requires_grad_() for name, value in state.items()}
            logits, _ = model(inputs[row : row + 1, cut : end + 1], state)
            nats = torch.nn.functional.cross_entropy(logits[0, -1], targets[row, end])
            main = next((name for name in state if name.endswith("h")), next(iter(state)))
            norms.append(float(torch.autograd.grad(nats, state[main])[0].norm()))
        assert np.mean(norms) == pytest.approx(found[lag], rel=1e-4), f"lag {lag}"  # a cell may pass logits in float32


def recurrent_name(model) -> str:
    (name,) = recurrent_layers(model)
    return name


def test_in_the_tanh_rnn_the_norms_are_those_of_the_product_of_its_jacobians() -> None:
    torch.manual_seed(0)
    layer = RNN(4, hidden_size=H, backend="by_hand").double()
    x, weights = torch.randn(1, T, 4, dtype=torch.float64), torch.randn(H, dtype=torch.float64)
    (_, norms_TB) = state_gradients(layer, lambda: (layer(x)[0][0, -1] * weights).sum())[recurrent_name(layer)]
    h_TH = layer(x)[0][0].detach()
    gradient, expected = weights, [float(weights.norm())]
    for t in range(T - 1, 0, -1):
        gradient = layer.weight_hh.detach().t() @ (gradient * (1 - h_TH[t] ** 2))
        expected.append(float(gradient.norm()))
    np.testing.assert_allclose(by_lag(norms_TB, np.array([T - 1])), expected, rtol=1e-12)


@pytest.mark.slow
def test_looking_changes_nothing(task, batch) -> None:
    model = model_of(task, dropout=0.5).train()
    model.embedding.eval()  # a part in another mode than the whole
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    seen = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = {name: module.training for name, module in model.named_modules()}
    first = GradientProbe(model, task.loss, batch).measure()
    assert seen == [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all((parameter.grad == 1).all() for parameter in model.parameters())
    assert modes == {name: module.training for name, module in model.named_modules()}
    assert not any(module._forward_hooks for module in model.modules())
    same(first, GradientProbe(model, task.loss, batch).measure())


def test_a_loss_that_fails_leaves_no_hook_and_the_mode_as_it_was(task, batch) -> None:
    model = model_of(task).train()

    def loss(model, batch, state):
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        GradientProbe(model, loss, batch).measure()
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.slow
def test_weights_that_are_not_trained_are_probed_too(task, batch) -> None:
    model = model_of(task, "gru")
    expected = GradientProbe(model, task.loss, batch).measure()
    same(expected, GradientProbe(model.requires_grad_(False), task.loss, batch).measure())


@pytest.mark.slow
def test_training_with_a_probe_gives_the_bits_of_training_without(small_recipe, small_store, tmp_path, silent) -> None:
    recipe = small_recipe()
    store = small_store(recipe)

    def trained(folder: str, watch=lambda session: None) -> dict[str, torch.Tensor]:
        session = Session(recipe, store, "cpu", 1)
        watch(session)
        session.train(tmp_path / folder, silent)
        return read_tensors(tmp_path / folder / "checkpoint.safetensors")[0]

    readings: list[Reading] = []

    def watch(session: Session) -> None:
        held_out = session.task.batches(store.split("val"), batch_size=8, window=6, seed=0, training=False)
        probe, evaluate = held_out_probe(session.model, session.task.loss, held_out), session.evaluate
        session.evaluate = lambda split: (readings.append(probe.measure()), evaluate(split))[1]

    plain, watched = trained("plain"), trained("watched", watch)
    assert len(readings) == 3
    assert readings[0].layers["0"].lag_norms != readings[-1].layers["0"].lag_norms
    assert plain.keys() == watched.keys()
    assert all(torch.equal(value, watched[name]) for name, value in plain.items())


def test_the_lag_is_counted_from_each_rows_own_end() -> None:
    norms_TB = np.array([[1.0, 10.0, 7.0], [2.0, 20.0, 7.0], [3.0, 0.0, 7.0]])
    assert by_lag(norms_TB, np.array([2, 1, -1])) == [(3 + 20) / 2, (2 + 10) / 2, 1.0]
    assert by_lag(norms_TB, np.array([-1, -1, -1])) == []


@pytest.mark.slow
def test_a_step_can_be_chosen_and_later_ones_dont_count(task, batch) -> None:
    model = model_of(task)
    probe = GradientProbe(model, task.loss, batch, at=3)
    assert probe.ends_B.tolist() == [3, 3, 3]
    cut = Batch(batch.inputs_BTS[:, :4], batch.targets_BT[:, :4], fresh=True)
    for name, layer in GradientProbe(model, task.loss, cut).measure().layers.items():
        np.testing.assert_allclose(layer.lag_norms, probe.measure().layers[name].lag_norms, rtol=1e-12)


def test_examples_are_probed_from_their_ends() -> None:
    tags = ExampleBatch(
        inputs=np.ones((3, 4), np.int64),
        lengths_B=np.array([4, 2, 3]),
        targets=np.array([[5, 6, 7, 8], [5, 6, PAD, PAD], [5, PAD, PAD, PAD]]),
        target_lengths_B=np.array([4, 2, 3]),
        rows=np.arange(3),
    )
    only, ends_B = one_step(tags)
    assert ends_B.tolist() == [3, 1, 0]
    assert only.targets.tolist() == [[0, 0, 0, 8], [0, 6, 0, 0], [5, 0, 0, 0]]
    value = dataclasses.replace(tags, targets=np.ones((3, 1, 1), np.float32))
    assert one_step(value)[0] is value
    assert one_step(value)[1].tolist() == [3, 1, 2]
    with pytest.raises(UserError, match="one target for each step"):
        one_step(dataclasses.replace(tags, targets=np.ones((3, 3), np.int64)))


def test_a_batch_in_which_nothing_counts_has_no_lags(task, batch) -> None:
    empty = Batch(batch.inputs_BTS, np.full_like(batch.targets_BT, PAD), fresh=True)
    reading = GradientProbe(model_of(task), task.loss, empty).measure()
    assert all(layer.lag_norms == [] and layer.reach_steps == 0 for layer in reading.layers.values())
    assert reading.metrics()["gradients/0/whole_loss_norm"] == 0


def test_the_figures_of_the_weights_are_of_the_blocks_they_say(task, batch) -> None:
    model = model_of(task, "lstm", num_layers=1)
    radii = [0.5, 1.5, 0.9, 0.7]  # i f g o
    with torch.no_grad():
        for block, radius in zip(model.recurrent.layers[0].weight_hh.chunk(4), radii, strict=True):
            block.copy_(torch.eye(H) * radius)
        model.recurrent.layers[0].weight_hh[0, 1] = 4.0  # of i: the eigenvalues stay
    (layer,) = GradientProbe(model, task.loss, batch).measure().layers.values()
    assert layer.spectral_radius == pytest.approx(0.9, rel=1e-3)
    assert layer.spectral_radius_max == pytest.approx(1.5, rel=1e-3)
    assert layer.singular_max == pytest.approx(float(torch.linalg.svdvals(torch.tensor([[0.5, 4.0], [0, 0.5]]))[0]))


@pytest.mark.parametrize(("gain", "vanishes"), [(0.5, True), (1.0, False)])
def test_a_small_spectral_radius_vanishes_and_is_seen_to(task, gain, vanishes) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(4, 10, (B, 41))
    model = model_of(task, "rnn", num_layers=1)
    with torch.no_grad():
        model.recurrent.layers[0].weight_hh.copy_(torch.linalg.qr(torch.randn(H, H).double())[0] * gain)
        model.embedding.weight.mul_(0.01)  # near 0, where tanh is steepest
    (layer,) = GradientProbe(model, task.loss, Batch(ids[:, :-1, None], ids[:, 1:], True)).measure().layers.values()
    assert (layer.reach_steps < 10) == vanishes
    assert layer.spectral_radius == pytest.approx(gain, rel=1e-3)


def test_reach_is_where_the_norm_stays_below_a_hundredth() -> None:
    def reach(*norms: float) -> int:
        return LayerGradients(list(norms), 0.0, "steps").reach_steps

    assert reach(5, 1, 0.1, 0.009, 0.001) == 3
    assert reach(5, 1, 0.1, 0.009, 0.02, 0.001) == 5, "it comes back"
    assert reach(1, 1, 1) == 3, "it never fades: as far as was looked"
    assert reach(3) == 1
    assert reach(0, 0) == 0


def test_numbers_and_curves_are_those_of_the_norms() -> None:
    norms = [2.0 * 0.9**lag for lag in range(1000)]
    one = Reading(40, {"": LayerGradients(norms, 0.5, "by_hand", 0.9, 1.0, 1.1)})
    values = one.metrics()
    assert {values[f"gradients/lag_{lag}"] for lag in LAGS} == {norms[lag] for lag in LAGS}
    assert values["gradients/reach_steps"] == one.layers[""].reach_steps == 45
    assert values["gradients/spectral_radius"] == 0.9
    two = Reading(40, {"0": LayerGradients(norms[:3], 0.5, "steps"), "1": LayerGradients(norms, 0.5, "steps")})
    assert set(two.metrics()) == {
        *(f"gradients/0/{key}" for key in ("lag_0", "lag_1", "reach_steps", "whole_loss_norm")),
        *(f"gradients/1/{key}" for key in (*(f"lag_{k}" for k in LAGS), "reach_steps", "whole_loss_norm")),
    }
    curve = json.loads(json.dumps(two.curves()))["layers"]["1"]
    assert len(curve["lags"]) <= 128
    assert (curve["lags"][0], curve["lags"][-1]) == (0, 999)
    assert curve["norms"] == pytest.approx([norms[lag] for lag in curve["lags"]], rel=1e-3)


def test_only_models_whose_layers_read_the_past_are_probed(task) -> None:
    model = model_of(task)
    assert probes(model)
    model.recurrent.layers[1].causal = False
    assert not probes(model)
    assert not probes(torch.nn.Linear(2, 2))


def test_where_there_is_nothing_to_probe_there_is_no_probe(small_recipe, small_store) -> None:
    recipe = small_recipe()
    session = Session(recipe, small_store(recipe), "cpu", 1)
    full = session.task.batches(session.store.split("val"), batch_size=8, window=64, seed=0, training=False)
    assert held_out_probe(session.model, session.task.loss, full) is not None
    assert held_out_probe(torch.nn.Linear(2, 2), session.task.loss, full) is None
    full.count = lambda epoch: 0
    assert held_out_probe(session.model, session.task.loss, full) is None


@pytest.mark.parametrize("framing", ["sequences", "stream"])
def test_the_batch_to_probe_on_starts_anew_and_is_of_the_longest(small_recipe, small_store, framing) -> None:
    recipe = small_recipe(framing)
    session = Session(recipe, small_store(recipe), "cpu", 1)
    split = session.store.split("train")
    batches = session.task.batches(split, batch_size=8, window=64, seed=0, training=False)
    chosen = probe_batch(batches)
    assert chosen.fresh
    assert chosen.targets_BT.shape[1] == max(batch.targets_BT.shape[1] for batch in batches.epoch())


def test_every_registered_cell_can_be_probed() -> None:
    assert len(names("cell")) >= 3
    assert all(probes(resolve("cell", kind)(3, hidden_size=4)) for kind in names("cell"))
