"""Starting from a trained model: weights go by name and shape, those of tokens by the token."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from task_pairs import PAIRS

from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.errors import UserError
from components.models.sequence_model import SequenceModel
from components.registry import resolve
from components.training.depth import depths
from components.training.optim import make_optimizer, optimizer_step
from components.training.transfer import Start, take_weights

FIRST, SECOND = len(SPECIALS), ["cabd", "dabe"]


def source_of(task, encoding, model: dict, seed: int = 0) -> SimpleNamespace:
    torch.manual_seed(seed)
    built = task.build_model(model)
    return SimpleNamespace(name="old", model=built, encoding=encoding, recipe={"model": model, "task": {}})


def language(items: list[str], **model):
    encoding = resolve("encoding", "characters")()
    encoding.fit(items)
    task = resolve("task", "language_model")(encoding, "sequences")
    return task, encoding, {"kind": "lstm", "hidden_size": 6, **model}


def labelled(items, **model):
    encoding = resolve("encoding", "pair")(input={"kind": "characters"}, target={"kind": "labels"})
    encoding.fit(items)
    task = resolve("task", "classification")(encoding, "sequences")
    return task, encoding, {"kind": "lstm", "hidden_size": 6, **model}


@pytest.mark.parametrize(
    "model",
    [{}, {"input": "one_hot"}, {"tie_weights": True}, {"num_layers": 2}],
    ids=["embedding", "one-hot", "tied", "deep"],
)
def test_each_token_keeps_its_weights_and_a_new_one_gets_the_mean(model) -> None:
    old = source_of(*language(["abc", "cab"], **model))
    task, encoding, options = language(SECOND, **model)
    new = source_of(task, encoding, options, seed=9).model
    taken = take_weights(new, encoding, old, same_task=True)
    assert not taken.anew
    assert taken.new_tokens == {role: ["d", "e"] for role in taken.new_tokens}
    for name, (axis, _) in new.token_rows().items():
        if name not in dict(new.named_parameters()):
            continue  # tied
        mine, theirs = (dict(m.named_parameters())[name].movedim(axis, 0) for m in (new, old.model))
        for token in "abc":
            assert torch.equal(mine[encoding.vocabulary.id(token)], theirs[old.encoding.vocabulary.id(token)])
        assert torch.equal(mine[:FIRST], theirs[:FIRST])
        assert torch.allclose(mine[encoding.vocabulary.id("e")], theirs[FIRST:].mean(dim=0))
    same = [n for n in dict(new.named_parameters()) if n not in new.token_rows()]
    assert same
    assert all(torch.equal(dict(new.named_parameters())[n], dict(old.model.named_parameters())[n]) for n in same)


def test_the_same_text_gives_the_same_likelihood_at_once() -> None:
    """Whatever the order of the ids in the two vocabularies."""
    old = source_of(*language(["abcabc", "cabcab"]))
    task, encoding, options = language(["ccccab", "cabcc"])
    assert encoding.vocabulary != old.encoding.vocabulary
    new = source_of(task, encoding, options, seed=9).model
    take_weights(new, encoding, old, same_task=True)
    chances = []
    for model, vocabulary in ((old.model, old.encoding.vocabulary), (new, encoding.vocabulary)):
        ids = torch.tensor([[[vocabulary.id(token)] for token in "abc"]])
        logits = model.eval()(ids)[0][0, -1].softmax(0)
        chances.append([logits[vocabulary.id(token)].item() for token in "abc"])
    assert chances[0] == pytest.approx(chances[1], rel=1e-5)


def test_a_classifier_starts_from_what_a_language_model_reads_and_not_from_what_it_writes() -> None:
    old = source_of(*language(["good", "bad"]))
    task, encoding, options = labelled([("good", ["d"]), ("bad", ["b"])])  # labels called as letters are
    new = source_of(task, encoding, options, seed=9).model
    before = new.head.weight.clone()
    taken = take_weights(new, encoding, old, same_task=False)
    assert sorted(taken.anew) == ["head.bias", "head.weight"]
    assert torch.equal(new.head.weight, before)
    letter = encoding.input.vocabulary.id("g"), old.encoding.vocabulary.id("g")
    assert torch.equal(new.embedding.weight[letter[0]], old.model.embedding.weight[letter[1]])


def test_what_could_be_copied_goes_by_the_token_too() -> None:
    """Two candidates of V tokens each stand beside the token."""
    made = []
    for tokens in ("abc", "cdb"):
        vocabulary = Vocabulary([*SPECIALS, *tokens])
        encoding = SimpleNamespace(form="tokens", vocabulary=vocabulary, state=vocabulary.state)
        V = len(vocabulary)
        model = SequenceModel(V, (3, V, V, 7, 7), 2, kind="gru", hidden_size=6, copy=True)
        made.append(SimpleNamespace(name="old", model=model, encoding=encoding, recipe={"model": {}}))
    old, new = made
    taken = take_weights(new.model, new.encoding, old, same_task=True)
    tables = [f"context_embeddings.{n}.weight" for n in (1, 2)]
    assert {*tables, "head.words.weight"} <= {*taken.by_token}
    for name in tables:
        mine, theirs = (dict(one.model.named_parameters())[name] for one in (new, old))
        for token in "bc":
            assert torch.equal(mine[new.encoding.vocabulary.id(token)], theirs[old.encoding.vocabulary.id(token)])


def test_what_does_not_fit_starts_anew_or_is_refused() -> None:
    old = source_of(*language(["abc"]))
    task, encoding, options = language(["abc"], num_layers=2)
    taken = take_weights(source_of(task, encoding, options).model, encoding, old, same_task=True)
    assert all(name.startswith("recurrent.layers.1") for name in taken.anew)
    assert "initialised at random: recurrent.layers.1" in " ".join(taken.told())
    task, encoding, options = language(["abc"], kind="gru", hidden_size=7)
    with pytest.raises(UserError, match=r"only [0-9]% of this model's weights fit those of old") as caught:
        take_weights(source_of(task, encoding, options).model, encoding, old, same_task=True)
    assert "hidden_size=6" in caught.value.hint


def test_frozen_tensors_are_named_by_how_they_begin() -> None:
    task, _, options = language(["abc"], num_layers=2)
    model = task.build_model(options)
    Start(freeze=("embedding", "recurrent.layers.0")).freeze(model)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {n for n, _ in model.named_parameters() if n.startswith(("recurrent.layers.1", "head"))}
    with pytest.raises(UserError, match="no parameter 'recurent'") as caught:
        Start(freeze=("recurent",)).freeze(model)
    assert "recurrent" in caught.value.hint
    with pytest.raises(UserError, match="nothing to train"):
        Start(freeze=("embedding", "recurrent", "head")).freeze(model)


def test_every_parameter_has_its_level() -> None:
    task, _, options = language(["abc"], num_layers=2, layer_norm=True, learn_initial_state=True)
    found = depths(task.build_model(options), where="here")
    levels = {0: "embedding.", 1: "recurrent.layers.0.", 2: "recurrent.layers.1.", 3: "head."}
    assert all(found[name] == level for level, begins in levels.items() for name in found if name.startswith(begins))
    assert found["recurrent.norms.1.weight"] == 2
    assert found["recurrent.first_states.0"] == 1
    assert set(found.values()) == set(levels)
    graph, _, _ = PAIRS["language, graph"].build()
    options = graph.check_graph(PAIRS["language, graph"].model, [])
    with pytest.raises(UserError, match="whose layers have no order"):
        depths(graph.build_model({"kind": "graph", **options}), where="training.unfreeze")


def test_levels_are_thawed_from_the_top_down_and_what_is_frozen_stays_so() -> None:
    task, _, options = language(["abc"], num_layers=2)
    model = task.build_model(options)
    thaw = Start(freeze=("head.bias", "recurrent.layers.0"), unfreeze=10).thawing(model)
    begins = ["head.weight", "recurrent.layers.1", "embedding"]
    for step, count in ((0, 1), (9, 1), (10, 2), (20, 3), (500, 3), (5, 1)):  # whatever came before
        thaw(step)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == {n for n, _ in model.named_parameters() if n.startswith(tuple(begins[:count]))}
    (line,) = thaw.told(20)
    assert line == "trained: head from update 1, recurrent.layers.1 from update 11, embedding never"
    assert not Start().thawing(model).told(20)


def test_each_layer_has_the_rate_of_the_one_above_times_the_factor() -> None:
    """An update of SGD is the rate times the gradient."""
    task, _, options = language(["abc"], num_layers=2)
    ids = torch.tensor([[[5], [4], [6]]])
    changes = []
    for layer_rates in (1.0, 0.5):
        torch.manual_seed(3)
        model = task.build_model(options)
        before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        optimizer = make_optimizer(model, optimizer="sgd", learning_rate=0.1, weight_decay=0.0, layer_rates=layer_rates)
        model(ids)[0].square().sum().backward()
        optimizer_step(optimizer)
        changes.append({name: parameter.detach() - before[name] for name, parameter in model.named_parameters()})
    for name, level in depths(model, where="here").items():
        whole, part = (change[name] for change in changes)
        assert whole.abs().max() > 0
        assert torch.allclose(part, whole * 0.5 ** (3 - level), rtol=1e-3, atol=2e-7), name


def test_a_level_does_not_change_before_its_update(small_recipe, small_store, tmp_path, silent) -> None:
    from components.training.session import Session

    recipe = small_recipe(training={"steps": 24, "unfreeze": 8, "layer_rates": 0.4}, evaluation={"every": 4})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    assert any(note.startswith("trained: head from update 1") for note in session.notes)
    begun = {name: parameter.detach().clone() for name, parameter in session.model.named_parameters()}
    changed: dict[int, set[str]] = {}

    def progress(step: int, steps: int, values: dict[str, float]) -> None:
        now = session.model.named_parameters()
        changed[step] = {name for name, p in now if not torch.equal(p, begun[name])}

    silent.progress = progress
    session.train(tmp_path, silent)
    levels = depths(session.model, where="here")
    for step in range(1, 25):
        assert min(levels[name] for name in changed[step]) == 3 - (step - 1) // 8


@pytest.mark.slow
def test_a_run_that_starts_from_a_model_begins_where_it_was(small_recipe, small_store, tmp_path, silent) -> None:
    from components.training.session import Session

    recipe = small_recipe(training={"steps": 60})
    store = small_store(recipe)
    first = Session(recipe, store, "cpu", 1)
    first.train(tmp_path / "first", silent)
    source = SimpleNamespace(name="old", model=first.model, encoding=first.encoding, recipe=recipe.as_dict())
    reached = first.evaluate("val")["nats_per_char"]
    again = small_recipe(training={"steps": 8, "freeze": ["embedding"]})
    second = Session(again, store, "cpu", 1)
    second.start_from(source)
    assert second.evaluate("val")["nats_per_char"] == pytest.approx(reached)
    before = second.model.embedding.weight.clone()
    second.train(tmp_path / "second", silent)
    assert torch.equal(second.model.embedding.weight, before)
    assert second.evaluate("val")["nats_per_char"] < reached + 0.1
