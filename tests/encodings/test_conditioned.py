"""Texts that begin with their label, and sequences whose order is forgotten."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.bundle import load_bundle, save_bundle
from components.datasets.batches.truncated import Batch
from components.datasets.ingest import ingest
from components.datasets.store import Sequences, Store
from components.encodings.bag import Bag
from components.encodings.base import encoding_from_state
from components.encodings.conditioned import Conditioned
from components.encodings.vocabulary import BOS, EOS, PAD, SPECIALS, UNK
from components.errors import UserError
from components.evaluation.gradients import READINGS
from components.recipe import Recipe
from components.tasks.language_model import LanguageModel
from components.training.session import Session
from components.use.lines import answer_texts

ITEMS = [("anna", "it"), ("otto", "de"), ("nonna", "it"), ("ott", "d"), ("<it>", "de")]
# two languages: one says ab, ba, aba …, the other xy, yx …
WORDS = {
    "Ab": [w for n in range(1, 7) for w in (("ab" * n)[:n], ("ba" * n)[:n])],
    "Xy": [w for n in range(1, 7) for w in (("xy" * n)[:n], ("yx" * n)[:n])],
}


@pytest.fixture(scope="module")
def encoding() -> Conditioned:
    made = Conditioned(encoding={"kind": "characters"})
    made.fit(ITEMS)
    return made


def test_the_label_comes_first_and_the_text_comes_back(encoding) -> None:
    for text, label in ITEMS:
        ids = encoding.encode((text, label))
        assert encoding.vocabulary.token(int(ids[0])) == f"<{label}>"
        assert encoding.decode(ids) == text
        assert len(ids) == 1 + len(text)
    assert encoding.vocabulary.tokens[-3:] == ("<d>", "<de>", "<it>")  # behind the text's
    assert encoding.decode(range(len(encoding.vocabulary))).count("<") == 1, "labels are no text"


@pytest.mark.slow
@given(st.text(max_size=20), st.sampled_from(["it", "de", "nobody's", ""]))
def test_any_text_and_label_can_be_encoded(encoding, text, label) -> None:
    ids = encoding.encode((text, label))
    assert ((ids >= 0) & (ids < len(encoding.vocabulary))).all()
    assert ids[0] >= len(SPECIALS) if label in ("it", "de") else ids[0] in (UNK, PAD)


def test_the_stored_encoding_is_the_same(encoding) -> None:
    again = encoding_from_state(json.loads(json.dumps(encoding.state())))
    assert again.vocabulary == encoding.vocabulary
    assert again.labels == encoding.labels
    for item in ITEMS:
        assert np.array_equal(again.encode(item), encoding.encode(item))
    assert np.array_equal(again.prompt("it: an")[0], encoding.prompt("it: an")[0])


def test_a_label_that_is_written_like_a_token_of_the_text_has_a_token_of_its_own() -> None:
    made = Conditioned(encoding={"kind": "symbols"})
    made.fit([(["<it>", "ciao"], "it"), (["<<it>>"], "<it>")])
    assert len(made.vocabulary) == len(set(made.vocabulary.tokens)) == len(SPECIALS) + 3 + 2
    assert made.decode(made.encode((["<it>", "ciao"], "it"))) == ["<it>", "ciao"]


def test_labels_stand_at_the_first_place_and_nowhere_else(encoding) -> None:
    first = encoding.allowed(np.array([BOS]))
    assert [encoding.vocabulary.token(int(id)) for id in np.flatnonzero(first)] == ["<d>", "<de>", "<it>"]
    label = encoding.encode(("", "it"))
    for ids in ([BOS, *label], [BOS, *encoding.encode(("an", "it"))]):
        later = encoding.allowed(np.array(ids))
        assert later[EOS]
        assert not (later & first).any()
        assert not later[[PAD, UNK, BOS]].any()


@pytest.mark.parametrize(
    ("prompt", "label", "text"),
    [
        ("it", "it", ""),
        ("IT: an", "it", "an"),
        ("it:an", "it", "an"),
        ("it:", "it", ""),
        ("de", "de", ""),
        ("d: e", "d", ""),
        ("", None, ""),
    ],
)
def test_a_prompt_names_the_label_and_may_begin_the_text(encoding, prompt, label, text) -> None:
    ids, warnings = encoding.prompt(prompt)
    assert (encoding.vocabulary.token(int(ids[0])) if len(ids) else None) == (f"<{label}>" if label else None)
    assert encoding.decode(ids[1:]).replace("\N{REPLACEMENT CHARACTER}", "") == text
    assert bool(warnings) == ("e" in prompt[2:]), "an unknown character is told"


def test_an_unknown_label_is_answered_with_the_nearest() -> None:
    made = Conditioned(encoding={"kind": "characters"})
    made.fit([("anna", "Italian"), ("otto", "German")])
    with pytest.raises(UserError, match=r"unknown label 'Itallian'\. Did you mean 'Italian'") as refused:
        made.prompt("Itallian: Ro")
    assert "German, Italian" in refused.value.hint


@pytest.mark.parametrize("kind", ["pianoroll", "chorale", "labels-of-none"])
def test_only_texts_are_conditioned(kind) -> None:
    with pytest.raises(UserError):
        Conditioned(encoding={"kind": kind})


def first_row(batch: Batch) -> Batch:
    return Batch(batch.inputs_BTS[:1], batch.targets_BT[:1], fresh=batch.fresh)


def test_the_given_label_is_learned_but_not_measured(encoding) -> None:
    task = LanguageModel(encoding, "sequences")
    torch.manual_seed(0)
    model = task.build_model({"kind": "gru", "hidden_size": 8}).eval()
    ids = np.array([[BOS, *encoding.encode(("anna", "it")), EOS], [BOS, *encoding.encode(("ott", "d")), EOS, PAD]])
    whole = Batch(ids[:, :-1, None], ids[:, 1:], fresh=True)
    nats = task.measure(model, whole, None)[0]["nats_per_char"]
    assert nats.count == 4 + 3 + 2  # letters and two ends
    loss, _ = task.loss(model, whole, None)
    logp = torch.log_softmax(model(torch.from_numpy(ids[:, :1, None]))[0][:, 0], dim=1)
    labels = -sum(logp[row, ids[row, 1]].item() for row in (0, 1))
    assert loss.count == nats.count + 2
    assert loss.total.item() == pytest.approx(nats.total + labels, rel=1e-5)
    split = Sequences(ids[0], np.array([0, ids.shape[1]]))
    (picture,) = task.findings(model, split)
    assert picture.nats.sum() == pytest.approx(task.measure(model, first_row(whole), None)[0]["nats_per_char"].total)
    # what begins in the middle of a sequence begins with no label
    later = Batch(ids[:, 2:-1, None], ids[:, 3:], fresh=False)
    assert task.measure(model, later, None)[0]["nats_per_char"].count == 7


@pytest.fixture
def two_languages(tmp_path):
    for label, words in WORDS.items():
        (tmp_path / f"{label}.txt").write_text("\n".join(words), encoding="utf-8")

    def make(kind: str) -> tuple[Recipe, Store]:
        inputs = {"kind": kind, "encoding": {"kind": "characters"}}
        values = {
            "seed": 1,
            "data": {"path": str(tmp_path), "reader": "labelled-lines", "split": [0.8, 0.0, 0.2]},
            "encoding": inputs,
            "task": {"kind": "language_model"},
            "model": {"kind": "gru", "hidden_size": 24},
            "training": {"steps": 120, "batch_size": 8, "learning_rate": 2e-2},
            "evaluation": {"every": 60},
        }
        if kind == "bag":
            values["encoding"] = {"kind": "pair", "input": inputs, "target": {"kind": "labels"}}
            values |= {"task": {"kind": "classification"}, "model": {"kind": "rnn", "hidden_size": 8}}
        else:
            values["generation"] = {"prompt": "Ab", "max_length": 12}
        recipe = Recipe.from_dict("two", values)
        ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
        return recipe, Store.open(ref.path)

    return make


@pytest.mark.slow
def test_a_model_writes_what_the_label_asks_for(two_languages, silent, tmp_path) -> None:
    recipe, store = two_languages("conditioned")
    session = Session(recipe, store, "cpu", 1)
    assert session.task.baselines(store.split("train"), store.split("test"))["unigram"] < 2
    session.train(tmp_path / "run", silent)
    save_bundle(tmp_path / "b", "two", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    bundle = load_bundle(tmp_path / "b")
    for prompt, letters in (("Ab", "ab"), ("Xy: x", "xy")):
        items = bundle.generate({"prompt": prompt, "count": 20}, seed=3).items
        assert all(items), items
        assert set("".join(items)) <= set(letters)
        assert prompt != "Xy: x" or all(item.startswith("x") for item in items)
    free = bundle.generate({"prompt": "", "count": 30}, seed=3)
    chosen = Counter(bundle.encoding.vocabulary.token(int(one.ids[0])) for one in free.sampled)
    assert chosen.keys() == {"<Ab>", "<Xy>"}, "without a prompt the model chooses"
    with pytest.raises(UserError, match="unknown label"):
        bundle.generate({"prompt": "Cd"}, seed=0)


@pytest.mark.slow
def test_one_step_in_one_label_out(two_languages, silent, tmp_path) -> None:
    recipe, store = two_languages("bag")
    assert store.split("train").fields["input"].lengths.tolist() == [1] * len(store.split("train"))
    session = Session(recipe, store, "cpu", 1)
    session.train(tmp_path / "run", silent)
    assert session.evaluate("test")["accuracy"] == 1
    assert not (tmp_path / "run" / READINGS).exists(), "there is nothing to look back at"
    save_bundle(tmp_path / "b", "two", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    lines = answer_texts(load_bundle(tmp_path / "b"), ["abab", "yx"], print)
    assert [line.split()[0] for line in lines] == ["Ab", "Xy"]


def test_a_bag_knows_how_often_and_not_where() -> None:
    bag = Bag(encoding={"kind": "characters"})
    bag.fit(["abc"])
    assert np.array_equal(bag.encode("cab"), bag.encode("abc"))
    assert not np.array_equal(bag.encode("aab"), bag.encode("ab"))
    assert bag.encode("").shape == (1, bag.fields["frames"].width)
    assert bag.decode(bag.encode("caab!")) == "\N{REPLACEMENT CHARACTER}aabc"
    again = encoding_from_state(json.loads(json.dumps(bag.state())))
    assert np.array_equal(again.encode("cab!"), bag.encode("cab!"))
    with pytest.raises(UserError, match="doesn't give plain tokens"):
        Bag(encoding={"kind": "frames"})


def test_words_are_hidden_in_a_bag_too() -> None:
    bag = Bag(encoding={"kind": "tokens", "hidden": 0.5})
    bag.fit(["a b c", "a"])
    before = bag.encode("a b c " * 40)
    after = bag.augment(before, np.random.default_rng(0))
    assert after.sum() == before.sum() == 120
    assert after.dtype == before.dtype
    assert 40 < after[0, UNK] < 80
    plain = Bag(encoding={"kind": "tokens"})
    plain.fit(["a b c"])
    assert np.array_equal(plain.augment(plain.encode("a b"), np.random.default_rng(0)), plain.encode("a b"))
