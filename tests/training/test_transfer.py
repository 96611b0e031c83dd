"""Starting from a trained model: weights go by name and shape, those of tokens by the token."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.errors import UserError
from components.models.sequence_model import SequenceModel
from components.registry import resolve
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
    assert "starting anew: recurrent.layers.1" in " ".join(taken.told())
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
    with pytest.raises(UserError, match="no tensor is called 'recurent'") as caught:
        Start(freeze=("recurent",)).freeze(model)
    assert "recurrent" in caught.value.hint
    with pytest.raises(UserError, match="nothing is left"):
        Start(freeze=("embedding", "recurrent", "head")).freeze(model)


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
