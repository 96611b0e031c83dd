"""Words with their letters: encoded, stored, padded, rebuilt, and read by the tagger."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.base import Reader
from components.datasets.batches.examples import ExampleBatches
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.base import Field, encoding_from_state
from components.encodings.spelled import UNKNOWN, Spelled
from components.encodings.symbols import Symbols
from components.encodings.vocabulary import UNK
from components.errors import UserError
from components.models.tagger import Tagger
from components.registry import TABLE

ITEMS = [["Anna", "saw", "Ben", "in", "1999", "."], ["Ben", "saw", "a", "Zoo", "."]]


def fitted(items=ITEMS, **options) -> Spelled:
    encoding = Spelled(**options)
    encoding.fit(items)
    return encoding


def test_a_row_is_the_word_and_its_letters() -> None:
    encoding = fitted(max_letters=4)
    V = len(encoding.vocabulary)
    ids = encoding.encode(["anna", "Ben"])
    assert ids.shape == (2, 5)
    assert [encoding.vocabulary.token(id) for id in ids[:, 0]] == ["anna", "ben"]
    letters = [[encoding.letters.token(id - V) for id in row if id] for row in ids[:, 1:]]
    assert letters == [["a", "n", "n", "a"], ["B", "e", "n"]]
    assert encoding.fields == {"tokens": Field(size=V + len(encoding.letters), width=5)}
    assert encoding.encode(["1234"])[0, 0] == encoding.encode(["0999"])[0, 0] != UNK, "digits are all 0"


def test_words_come_back_as_they_are_written_known_or_not() -> None:
    encoding = fitted([["Abcdefgh", "abCDEfgh", "bach", "!"]] * 2, max_letters=6)
    assert encoding.decode(encoding.encode(["bach", "Cab", "bad"])) == ["bach", "Cab", "bad"]
    assert encoding.decode(encoding.encode(["AbCDefgh"])) == ["AbCDefgh"], "longer than its letters, but known"
    assert encoding.decode(encoding.encode(["bbcdefgh", "a☃"])) == ["bbcdef", f"a{UNKNOWN}"]


@pytest.mark.slow
@given(words=st.lists(st.text(min_size=1, max_size=30), max_size=8), letters=st.integers(1, 25))
def test_any_words_encode_within_the_field_and_survive_the_state(words, letters) -> None:
    encoding = fitted(max_letters=letters)
    again = encoding_from_state(json.loads(json.dumps(encoding.state())))
    ids, field = encoding.encode(words), encoding.fields["tokens"]
    assert ids.shape == (len(words), field.width)
    assert not len(ids) or (ids.min() >= 0 and ids.max() < field.size)
    assert (again.encode(words) == ids).all()
    assert again.decode(ids) == encoding.decode(ids)
    assert (again.hidden_V == encoding.hidden_V).all()


def test_rare_words_are_hidden_more_often_and_their_letters_stay() -> None:
    encoding = fitted([["common"] * 99 + ["rare"]], word_dropout=1.0)
    ids = encoding.encode(["common", "rare"] * 2000)
    varied = encoding.augment(ids, np.random.default_rng(0))
    hidden = (varied[:, 0] == UNK).reshape(-1, 2).mean(0)
    assert hidden == pytest.approx([0.01, 0.5], abs=0.03)
    assert (varied[:, 1:] == ids[:, 1:]).all()
    assert (ids[:, 0] != UNK).all(), "the stored ids are left alone"
    assert (fitted(word_dropout=0.0).augment(ids[:2] * 0 + 5, np.random.default_rng(0)) == 5).all()


def test_a_damaged_state_is_refused() -> None:
    state = fitted().state()
    for learned in (
        {"letters": state["learned"]["letters"], "hidden": [0.1]},
        {"letters": state["learned"]["letters"]},
    ):
        with pytest.raises(UserError, match=r"stored encoding|letters and shares"):
            encoding_from_state(state | {"learned": learned})


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Harry Potter and Hermione Granger.", ["Harry", "Potter", "and", "Hermione", "Granger", "."]),
        ("don't, it's «so»!!!", ["do", "n't", ",", "it", "'s", "«", "so", "»", "!!!"]),
        ("@ann #now http://a.b/c?d", ["@ann", "#now", "http://a.b/c?d"]),
        ("U.S. and U.N.", ["U.S.", "and", "U", ".", "N", "."]),  # the first is known as a whole
        (" well-known \n\t ", ["well-known"]),
        ("", []),
    ],
)
def test_a_text_is_split_into_words_and_signs(text, tokens) -> None:
    encoding = Symbols()
    encoding.fit([["U.S."]])
    assert encoding.split(text) == tokens
    assert (encoding.encode(text) == encoding.encode(tokens)).all()


@pytest.mark.slow
@given(st.text(max_size=200))
def test_splitting_loses_nothing_but_blanks(text) -> None:
    assert "".join(fitted().split(text)) == "".join(text.split())


class Sentences(Reader):
    """Words with a label each: is it written with a capital?"""

    framing, pairs, own = "sequences", True, True

    def items(self) -> Iterator[tuple]:
        rng = np.random.default_rng(0)
        for _ in range(60):
            words = ["".join(rng.choice(list("abcdeABCDE"), rng.integers(1, 6))) for _ in range(rng.integers(1, 9))]
            yield words, ["capital" if word[0].isupper() else "small" for word in words]

    def digest(self) -> str:
        return "sentences"


@pytest.mark.slow
def test_ids_with_columns_survive_the_store_and_padding(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(TABLE["reader"], "sentences", f"{__name__}:Sentences")
    section = {"kind": "pair", "input": {"kind": "spelled", "max_letters": 5}, "target": {"kind": "labels"}}
    data = {"reader": "sentences", "split": (1.0, 0.0, 0.0)}
    store = Store.open(ingest(data, section, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
    encoding, split = store.encoding(), store.split("train")
    found = set()
    for batch in ExampleBatches(split, batch_size=7, seed=0, training=False).epoch():
        assert batch.inputs.dtype == np.int64
        assert batch.inputs.shape[2] == 6
        for row, ids, length in zip(batch.rows, batch.inputs, batch.lengths_B, strict=True):
            assert (ids[:length] == split.fields["input"][int(row)]).all()
            assert not ids[length:].any()
            found.add(" ".join(encoding.input.decode(ids[:length])))
    assert found == {" ".join(words) for words, _ in Sentences([]).items()}


@pytest.mark.parametrize("kind", ["lstm", "gru", "minlstm"])
def test_the_tagger_reads_letters_once_a_word_and_padding_changes_nothing(kind) -> None:
    torch.manual_seed(0)
    encoding = fitted(max_letters=5)
    field, letters = encoding.fields["tokens"], len(encoding.letters)
    model = Tagger(field, 7, letters, kind=kind, hidden_size=4, letters_size=3, bidirectional=True).eval()
    words = torch.from_numpy(encoding.encode(["Anna", "unseen", "Ben", "Anna", "."]))
    lengths = torch.tensor([5, 2])
    both = torch.stack([words, torch.cat([words[1:3], torch.zeros(3, 6, dtype=torch.long)])])
    y = model(both, lengths)
    torch.testing.assert_close(model(both[1:, :2], lengths[1:])[0], y[1, :2])
    seen: list[int] = []
    model.spelling.both.register_forward_hook(lambda _, args, __: seen.append(len(args[0])))
    model(both, lengths).pow(2).sum().backward()
    assert seen == [5], "Anna, unseen, Ben, the full stop and padding"
    unused = {name for name, parameter in model.named_parameters() if not parameter.grad.any()}
    assert not unused
    other = words.clone()
    other[1, 1:] = words[0, 1:]  # another spelling of the unseen word is another word
    assert not torch.allclose(model(other[None], lengths[:1]), model(words[None], lengths[:1]))


def test_words_with_letters_are_not_read_as_one_hot() -> None:
    with pytest.raises(UserError, match=r"model\.input"):
        Tagger(Field(size=29, width=3), 5, 20, kind="gru", hidden_size=4, input="one_hot")
