"""Ensembles: each member learns as it would alone, and they answer by the mean."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from task_pairs import PAIRS, ROWS
from torch import nn

from components.bundle import load_bundle, save_bundle
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.vocabulary import SPECIALS
from components.errors import UserError
from components.models.ensemble import Ensemble, members
from components.models.pooled import Pooled
from components.models.weights import read_tensors
from components.recipe import Recipe
from components.training.depth import depths
from components.training.optim import make_optimizer
from components.training.session import Session
from components.training.transfer import Start, take_weights
from components.training.update import Update

# those of a label for each step, and of a text: the other devices' tests have enough with the ones of a pooled answer
STEPWISE = {
    f"{name}, ensemble": replace(PAIRS[name], model={**PAIRS[name].model, "ensemble": 2})
    for name in ("tagging", "tagging, CRF, spelled", "transcription")
}
ALL = {name: pair for name, pair in {**PAIRS, **STEPWISE}.items() if "ensemble" in name}
ENSEMBLES = list(ALL)


def built(name: str):
    """A task, its untrained ensemble, and a batch."""
    task, model, split = ALL[name].build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)  # so that members disagree
    return task, model, task.batches(split, batch_size=ROWS, window=0, seed=0, training=True).at(0, 0)


def gradients(task, model: nn.Module, batch) -> list[torch.Tensor]:
    model.zero_grad()
    tally, _ = task.loss(model, batch, None)
    tally.total.backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("name", ENSEMBLES)
def test_a_member_has_the_gradients_that_it_has_alone_whatever_the_others_are(name) -> None:
    task, model, batch = built(name)
    first = model.members[0]
    assert len(model.members) == ALL[name].model["ensemble"]
    weights = [member.recurrent.state_dict().values() for member in model.members]
    assert not any(map(torch.equal, *weights[:2])), "each starts by itself"
    alone = gradients(task, copy.deepcopy(first), batch)
    gradients(task, model, batch)
    assert all(map(torch.equal, alone, [p.grad for p in first.parameters() if p.requires_grad]))
    with torch.no_grad():
        for parameter in model.members[1].parameters():
            parameter.mul_(-3.0)
    gradients(task, model, batch)
    assert all(map(torch.equal, alone, [p.grad for p in first.parameters() if p.requires_grad]))


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_loss_that_is_told_is_the_mean_of_the_members(name) -> None:
    task, model, batch = built(name)
    with torch.no_grad():
        tally, _ = task.loss(model, batch, None)
        each = [task.loss(member, batch, None)[0] for member in model.members]
    assert tally.value == pytest.approx(np.mean([one.value for one in each]), rel=1e-6)
    assert tally.count == each[0].count
    assert max(one.value for one in each) > min(one.value for one in each)


@pytest.mark.parametrize("options", [{"clip_norm": 0.1}, {"clip_value": 0.01}, {}], ids=str)
def test_members_are_clipped_and_updated_as_they_are_alone(options) -> None:
    """Bit for bit: with one norm of them all, a member with large gradients would slow the others down."""
    task, model, batch = built("classification, ensemble")
    with torch.no_grad():
        for parameter in model.members[1].parameters():
            parameter.mul_(3.0)
    alone = [copy.deepcopy(member) for member in model.members]
    options = {"clip_norm": None, "clip_value": None, "precision": "float32", "average": None, **options}
    norms = []
    for trained in (model, *alone):
        update = Update(trained, task.loss, make_optimizer(trained, optimizer="sgd"), **options)
        for step in range(3):
            update(batch, None, 1.0, step)
        norms.append(update.read())
    for member, one in zip(model.members, alone, strict=True):
        assert all(map(torch.equal, member.parameters(), one.parameters()))
    for figure in ("norm", "clipped", "loss", "count", "updates"):
        assert norms[0][figure] == pytest.approx(np.mean([read[figure] for read in norms[1:]]), rel=1e-6), figure


def test_an_update_that_is_not_finite_in_one_member_changes_none() -> None:
    task, model, batch = built("classification, ensemble")
    with torch.no_grad():
        model.members[1].head.bias.fill_(math.nan)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    options = {"clip_norm": 1.0, "clip_value": None, "precision": "float32", "average": None}
    update = Update(model, task.loss, make_optimizer(model), **options)
    update(batch, None, 1.0, 0)
    assert update.read()["skipped"] == 1
    assert all(map(torch.allclose, before, model.parameters(), [0] * 99, [0] * 99, [True] * 99))


@pytest.mark.parametrize("name", ENSEMBLES)
def test_the_answer_is_the_mean_of_what_the_members_say(name) -> None:
    task, model, batch = built(name)
    model.eval()
    with torch.inference_mode():
        outputs, _, _ = task.outputs(model, batch)
        each = [task.outputs(member, batch)[0] for member in model.members]
    assert torch.stack(each).std(dim=0).max() > 0.01
    if name.startswith("regression"):
        assert outputs.numpy() == pytest.approx(torch.stack(each).mean(0).numpy(), abs=1e-6)
        return
    if outputs.dim() == 4:  # the scores of a CRF
        assert outputs.numpy() == pytest.approx(torch.stack(each).mean(0).numpy(), abs=1e-6)
        return
    if outputs.dim() == 3:  # a label or a letter at each step
        mean = torch.stack([one.softmax(dim=2) for one in each]).mean(0)
        assert outputs.exp().numpy() == pytest.approx(mean.numpy(), abs=1e-6)
        return
    if name.startswith("ordinal"):
        assert outputs.sigmoid().numpy() == pytest.approx(torch.stack(each).sigmoid().mean(0).numpy(), abs=1e-6)
    else:
        mean = torch.stack([one.softmax(dim=1) for one in each]).mean(0)
        assert outputs.exp().numpy() == pytest.approx(mean.numpy(), abs=1e-6)
        labels = mean[:, len(SPECIALS) :] / mean[:, len(SPECIALS) :].sum(1, keepdim=True)
        assert task.probabilities(outputs)[:, len(SPECIALS) :].numpy() == pytest.approx(labels.numpy(), abs=1e-6)
    assert task.probabilities(outputs).sum(1).numpy() == pytest.approx(1.0, abs=1e-6)


def recipe_of(folder: Path, **sections: dict) -> Recipe:
    file = folder / "rows.csv"
    rows = [(f"{word} {'x ' * (n % 3)}{n}", word) for word, count in (("a", 40), ("b", 20)) for n in range(count)]
    file.write_text("text,label\n" + "\n".join(f"{text},{label}" for text, label in rows))
    values = {
        "seed": 3,
        "data": {"path": str(file), "reader": "table", "split": [0.8, 0.1, 0.1]},
        "encoding": {"kind": "pair", "input": {"kind": "symbols"}, "target": {"kind": "labels"}},
        "task": {"kind": "classification"},
        "model": {"kind": "gru", "hidden_size": 6, "dropout": 0.2, "ensemble": 3},
        "training": {"steps": 12, "batch_size": 16, "checkpoint_seconds": 0.0, "averaging": 0.9},
        "evaluation": {"every": 5},
    }
    return Recipe.from_dict("small", {**values, **{key: {**values[key], **more} for key, more in sections.items()}})


def session_of(folder: Path, **sections: dict) -> Session:
    recipe = recipe_of(folder, **sections)
    ref = ingest(recipe.data, recipe.encoding, root=folder, cache_dir=folder / "cache", seed=0)
    return Session(recipe, Store.open(ref.path), "cpu", 1)


class Stop(Exception):
    """An interruption."""


@pytest.mark.slow
def test_training_resumes_bit_for_bit_and_the_bundle_answers_alike(tmp_path, silent) -> None:
    whole = session_of(tmp_path)
    whole.train(tmp_path / "whole", silent)
    for stop in (2, 7, 11):
        listener = type(silent)()

        def progress(at: int, steps: int, values: dict, stop: int = stop) -> None:
            if at == stop:
                raise Stop

        listener.progress = progress
        with pytest.raises(Stop):
            session_of(tmp_path).train(tmp_path / "parts", listener)
    session_of(tmp_path).train(tmp_path / "parts", type(silent)())
    kept, again = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("whole", "parts"))
    assert kept.keys() == again.keys()
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    facts = {"framing": "sequences"}
    save_bundle(tmp_path / "bundle", "small", whole.model, whole.encoding, whole.recipe.as_dict(), facts)
    bundle = load_bundle(tmp_path / "bundle")
    assert isinstance(bundle.model, Ensemble)
    single = session_of(tmp_path, model={"ensemble": 1})
    assert type(single.model) is Pooled
    assert whole.parameter_count == 3 * single.parameter_count
    items = ["a x 1", "b x x 2"]
    assert bundle.predict(items) == whole.task.predict(whole.model, items)
    with pytest.raises(UserError, match="small: models of this kind have no hidden states") as caught:
        bundle.states(items)
    assert "model.ensemble: 1" in caught.value.hint


@pytest.mark.slow
def test_frozen_and_thawed_parts_are_those_of_every_member(tmp_path) -> None:
    model = session_of(tmp_path, model={"num_layers": 2}, training={"freeze": ["embedding", "head.bias"]}).model
    still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert still == {f"members.{n}.{part}" for n in range(3) for part in ("embedding.weight", "head.bias")}
    with pytest.raises(UserError, match="no parameter 'embeding'") as caught:
        Start(freeze=("embeding",)).freeze(model)
    assert "did you mean 'embedding'" in caught.value.hint
    levels = depths(model, where="here")
    for number, member in enumerate(model.members):
        own = depths(member, where="here")
        assert {name: levels[f"members.{number}.{name}"] for name in own} == own
    thawing = Start(unfreeze=10).thawing(model)
    assert thawing.told(20)[0].startswith("trained: members.0.head and members.1.head")


def test_an_ensemble_starts_from_one_of_as_many_members() -> None:
    task, model, _ = built("classification, ensemble")
    _, other, _ = PAIRS["classification, ensemble"].build()
    about = {"name": "old", "encoding": task.encoding, "recipe": {"model": {}, "task": {}}}
    taken = take_weights(other, task.encoding, SimpleNamespace(model=model, **about), same_task=True)
    assert taken.share == 1.0
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    assert set(other.token_rows()) == {
        f"members.{n}.{part}" for n in range(3) for part in ("embedding.weight", "head.weight", "head.bias")
    }
    source = SimpleNamespace(model=model.members[0], **about)
    with pytest.raises(UserError, match="old has 1 members, this model 3") as caught:
        take_weights(other, task.encoding, source, same_task=True)
    assert caught.value.hint == "set model.ensemble: 1"


def test_other_tasks_say_which_have_ensembles(tmp_path) -> None:
    values = recipe_of(tmp_path).as_dict()
    values |= {"task": {"kind": "translation"}, "model": {"kind": "lstm", "hidden_size": 6, "ensemble": 2}}
    able = r"only exists for other tasks \(classification, ordinal, regression, tagging, transcription\)"
    with pytest.raises(UserError, match=rf"model\.ensemble: {able}"):
        Recipe.from_dict("small", values)
    for wrong in (0, 65, 1.5):
        with pytest.raises(UserError, match=r"model\.ensemble: input should be"):
            recipe_of(tmp_path, model={"ensemble": wrong})


def test_word_vectors_are_every_members(tmp_path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("warm 1 2 3\ncold 4 5 6\n")
    task, _, _ = PAIRS["classification, ensemble"].build()
    model = task.build_model(
        {"kind": "gru", "hidden_size": 4, "embedding_size": 3, "vectors": str(file), "ensemble": 2}
    )
    assert task.initialise(model)["train/tokens_with_vectors"] > 0
    row = task.encoding.input.vocabulary.id("warm")
    assert [member.embedding.weight[row].tolist() for member in members(model)] == [[1.0, 2.0, 3.0]] * 2


@pytest.mark.parametrize("name", STEPWISE)
def test_members_that_agree_answer_and_explain_as_one(name) -> None:
    task, model, _ = built(name)
    first, second = model.members
    items = [item for item, _ in STEPWISE[name].items[:3]]
    other = task.explain(model, items[0])
    second.load_state_dict(first.state_dict())
    assert task.predict(model, items) == task.predict(first, items)
    together, alone = (task.explain(one.eval(), items[0]) for one in (model, first))
    told, of_one = ([dict(row) for row in found.positions] for found in (together, alone))
    sure, of_ones = ([row.pop("probability") for row in rows] for rows in (told, of_one))
    assert told == of_one
    assert sure == pytest.approx(of_ones, rel=1e-4)
    assert together.matrix.values == pytest.approx(alone.matrix.values, rel=1e-3, abs=1e-5)
    assert other.positions != together.positions, "before they agreed"
