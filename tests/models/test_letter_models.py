"""States of letter models: those of the language model at each word, whatever stands beside it in the batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tagging import conll, recipe_for

from components.bundle import Bundle, load_bundle, save_bundle
from components.datasets.ingest import ingest
from components.datasets.store import Sequences, Store
from components.encodings.spelled import Spelled
from components.encodings.vocabulary import UNK
from components.errors import UserError
from components.models.letter_models import LetterModels
from components.registry import resolve
from components.training.letter_models import described, take_letter_models
from components.training.session import Session

TEXT = "Ada saw Bo.\nThen Cy met Di and Eve with Dr Bo.\n"


def language_model(kind: str = "lstm", *, framing: str = "stream", reversed: bool = False, **model) -> Bundle:
    """A language model of characters that nobody trained."""
    encoding = resolve("encoding", "reversed_characters" if reversed else "characters")()
    encoding.fit([TEXT])
    task = resolve("task", "language_model")(encoding, framing)
    section = {"kind": kind, "hidden_size": 7, **model}
    torch.manual_seed(3)
    built = task.build_model(section).eval()
    return Bundle("letters", built, encoding, task, {"model": section, "task": {"kind": "language_model"}}, {}, "d1")


def states(bundle: Bundle, words: list[str]) -> torch.Tensor:
    """The states [T, H] at the words of a text, read by the model itself."""
    text = " ".join(words)
    first = [2] if bundle.task.framing == "sequences" else bundle.encoding.encode("\n").tolist()
    ids = torch.tensor([*first, *bundle.encoding.encode(text)])
    with torch.no_grad():
        read_NH = bundle.model.outputs(ids[None, :, None])[0][0]
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
    ends = starts + [len(word) - 1 for word in words]
    return read_NH[
        1 + torch.from_numpy(len(text) - 1 - starts if bundle.encoding.kind == "reversed_characters" else ends)
    ]


def spelled(**options) -> Spelled:
    encoding = Spelled(**options)
    encoding.fit([TEXT.split()] * 2)
    return encoding


def reading(encoding: Spelled, *bundles: Bundle) -> LetterModels:
    """The letter models of a tagger."""
    facts = [described(f"letters@{n}", bundle) for n, bundle in enumerate(bundles)]
    holder = torch.nn.Module()
    holder.letter_models = LetterModels(len(encoding.letters), facts, 5, 0.5)
    posts = [encoding.encode(line.split()) for line in TEXT.splitlines()]
    train = Sequences(np.concatenate(posts), np.cumsum([0, *map(len, posts)]))
    take_letter_models(holder, encoding, train, facts, lambda name: bundles[int(name[-1])])
    return holder.letter_models


def letters_of(encoding: Spelled, posts: list[list[str]]) -> torch.Tensor:
    """The letters [B, T, L] of posts, padded."""
    letters = torch.zeros(len(posts), max(map(len, posts)), encoding.max_letters, dtype=torch.long)
    for row, words in enumerate(posts):
        ids = torch.from_numpy(encoding.encode(words)[:, 1:]) - len(encoding.vocabulary)
        letters[row, : len(words)] = ids.clamp(min=0)
    return letters


words = st.lists(st.text("AdasawBo.hen", min_size=1, max_size=9), min_size=1, max_size=6)
KINDS = {
    "forwards": {},
    "backwards": {"reversed": True},
    "lines": {"framing": "sequences"},
    "one-hot": {"reversed": True, "input": "one_hot", "kind": "gru", "num_layers": 2},
    "begun": {"kind": "mingru", "learn_initial_state": True, "layer_norm": True},
}


@pytest.mark.parametrize("kind", KINDS)
@given(st.lists(words, min_size=1, max_size=4))
@settings(max_examples=10)
def test_a_words_state_is_that_of_the_language_model(kind, posts) -> None:
    bundle, encoding = language_model(**KINDS[kind]), spelled()
    (model,) = reading(encoding, bundle).models
    found = model(letters_of(encoding, posts))
    for row, post in enumerate(posts):
        torch.testing.assert_close(found[row, : len(post)], states(bundle, post), rtol=1e-5, atol=1e-6)


def test_letters_beyond_the_words_first_are_not_read() -> None:
    bundle, encoding = language_model(), spelled(max_letters=4)
    (model,) = reading(encoding, bundle).models
    found = model(letters_of(encoding, [["Thenceforth", "Ada"]]))
    torch.testing.assert_close(found[0], states(bundle, ["Then", "Ada"]), rtol=1e-5, atol=1e-6)


def test_the_states_are_standardised_over_the_words_of_training() -> None:
    encoding = spelled()
    models = reading(encoding, language_model(), language_model("gru", reversed=True))
    letters = letters_of(encoding, [line.split() for line in TEXT.splitlines()])
    standard_NH = ((models.states(letters) - models.mean_H) * models.scale_H)[(letters > 0).any(2)]
    torch.testing.assert_close(standard_NH.mean(0), torch.zeros(14), atol=1e-4, rtol=0)
    assert (standard_NH.std(0, correction=0) < 0.2).all()
    assert (standard_NH.std(0, correction=0) > 0.18).all()


def test_letters_that_the_language_model_lacks_are_told() -> None:
    encoding, bundle = Spelled(), language_model()
    encoding.fit([["Ada", "Zoë"]] * 2)
    holder = SimpleNamespace(letter_models=LetterModels(len(encoding.letters), [described("a@1", bundle)], 5, 0.5))
    holder.parameters = holder.letter_models.parameters
    ids = encoding.encode(["Zoë"])
    notes = take_letter_models(
        holder, encoding, Sequences(ids, np.array([0, 1])), [described("a@1", bundle)], lambda _: bundle
    )
    assert notes == ["a@1: its states are features of each word; it knows 4 of their 6 letters"]
    (model,) = holder.letter_models.models
    assert model.ids_L[encoding.letters.id("ë")] == UNK


def test_only_a_causal_language_model_of_characters_will_do() -> None:
    encoding = resolve("encoding", "words")()
    encoding.fit([TEXT])
    task = resolve("task", "language_model")(encoding, "stream")
    section = {"kind": "gru", "hidden_size": 4}
    bundle = Bundle("words", task.build_model(section), encoding, task, {"model": section}, {}, "d")
    with pytest.raises(UserError, match="words isn't a language model of characters"):
        described("words", bundle)


def test_other_weights_than_the_recipe_says_are_refused() -> None:
    encoding, bundle = spelled(), language_model()
    facts = described("letters@1", bundle) | {"weights": "other"}
    with pytest.raises(UserError, match="letters@1 has other weights"):
        take_letter_models(SimpleNamespace(letter_models=None), encoding, [], [facts], lambda _: bundle)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("tags")
    recipe = recipe_for(conll(folder / "a.conll", sentences=40))
    return Store.open(ingest(recipe.data, recipe.encoding, root=folder, cache_dir=folder / "c", seed=0).path)


@pytest.mark.parametrize("ensemble", [1, 2])
def test_a_tagger_trains_beside_them_and_takes_them_along(store, tmp_path, silent, ensemble) -> None:
    """The models don't change and need no registry afterwards."""
    bundles = [language_model(dropout=0.5), language_model("gru", reversed=True)]
    facts = tuple(described(f"letters@{n}", bundle) for n, bundle in enumerate(bundles))
    recipe = recipe_for(Path("a.conll"), letter_models=facts, letter_models_size=6, ensemble=ensemble)
    session = Session(recipe, store, "cpu", 1)
    train = store.split("train").fields["input"]
    take_letter_models(session.model, session.encoding.input, train, facts, lambda name: bundles[int(name[-1])])
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    session.train(tmp_path, silent)
    for name, value in session.model.state_dict().items():
        read = ".reader." in name or name.endswith(("ids_L", "mean_H", "scale_H"))
        fixed = name.startswith("crf.") and not value.is_floating_point()
        assert torch.equal(value, before[name]) == read or fixed, name
    folder = tmp_path / "bundle"
    save_bundle(folder, "tags", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    posts = [["Dr", "Ada", "saw", "Bo"], ["and", "then", "Eve", "X"]]
    with torch.no_grad():
        inputs = torch.from_numpy(np.stack([session.encoding.input.encode(post) for post in posts]))
        outputs = [model.eval()(inputs, torch.tensor([4, 4])) for model in (session.model, load_bundle(folder).model)]
    assert torch.equal(*outputs)


def test_words_without_letters_have_none() -> None:
    encoding = resolve("encoding", "pair")(input={"kind": "symbols"}, target={"kind": "labels"})
    encoding.fit([(["a"], ["O"])])
    task = resolve("task", "tagging")(encoding, "sequences")
    with pytest.raises(UserError, match="needs words with their letters") as caught:
        task.build_model({"kind": "gru", "hidden_size": 4, "letter_models": ("letters",)})
    assert caught.value.where == "model.letter_models"
