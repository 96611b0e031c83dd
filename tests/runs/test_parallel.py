"""Parallel text: two files, line by line; subwords, which give every line back."""

from __future__ import annotations

import functools
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.cards import load_card
from components.datasets.ingest import ingest
from components.datasets.sources import build
from components.datasets.store import Store
from components.datasets.text.parallel import ParallelReader
from components.encodings.base import encoding_from_state
from components.encodings.subwords import BYTES, Subwords
from components.encodings.vocabulary import SPECIALS
from components.errors import UserError

GERMAN = ["Ein Haus.", "Zwei Häuser.", "Drei Haustüren.", "Ein Haus."]
ENGLISH = ["A house.", "Two houses.", "Three front doors.", "A house."]


def write(path: Path, text: list[str], packed: bool = False, end: str = "\n") -> Path:
    data = "".join(line + end for line in text).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


@pytest.fixture
def files(tmp_path) -> list[Path]:
    return [write(tmp_path / "train.de.gz", GERMAN, packed=True), write(tmp_path / "train.en", ENGLISH)]


def read(files: list[Path], **options) -> ParallelReader:
    return ParallelReader(files, **{"source": "de", "target": "en", **options})


def test_lines_meet_whichever_file_is_given_and_however_it_is_packed(files) -> None:
    for given_files in (files, files[::-1], files[:1], files[1:]):
        assert list(read(given_files).items()) == list(zip(GERMAN, ENGLISH, strict=True))
    back = read(files, source="en", target="de")
    assert list(back.items()) == list(zip(ENGLISH, GERMAN, strict=True))
    assert read(files[:1]).digest() == read(files[1:]).digest()
    before = read(files).digest()
    write(files[1], [*ENGLISH[:3], "One house."])
    assert read(files[:1]).digest() != before, "the file beside it counts too"


def test_only_the_line_feed_ends_a_line(tmp_path) -> None:
    german, english = ["eins\u2028zwei\x0bdrei", "vier"], ["one two three", "four\x1cfive"]
    files = [write(tmp_path / "a.de", german, end="\r\n"), write(tmp_path / "a.en", english)]
    assert list(read(files).items()) == list(zip(german, english, strict=True))


def test_what_is_left_out_is_counted(tmp_path) -> None:
    files = [
        write(tmp_path / "a.de", ["", "b", "c" * 50, "d", "d"]),
        write(tmp_path / "a.en", ["A", " ", "C", "D", "D"]),
    ]
    reader = read(files, max_length=40, unique=True)
    assert list(reader.items()) == [("d", "D")]
    assert dict(reader.dropped) == {"empty line": 2, "longer than 40 characters": 1, "repeated": 1}
    assert [row.input for row in read(files[:1], max_length=40).inputs() if not row.problem] == ["b", "d", "d"]


@pytest.mark.parametrize(
    ("names", "text", "message"),
    [
        (["a.de"], ENGLISH, "no such file"),
        (["a.de", "a.en"], ENGLISH[:2], "has 4 lines, but a.en has 2"),
        (["a.de", "a.fr"], ENGLISH, "ends neither in .de nor in .en"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, names, text, message) -> None:
    files = [write(tmp_path / name, GERMAN if name.endswith("de") else text) for name in names]
    with pytest.raises(UserError, match=message):
        list(read(files).items())


def test_a_language_is_not_its_own_translation(files) -> None:
    with pytest.raises(UserError, match=r"must differ from data\.source"):
        read(files, target="de")


def test_the_same_text_stays_on_one_side_of_a_split(tmp_path) -> None:
    german = [f"Satz {n % 20}" for n in range(100)]
    write(tmp_path / "all.de", german)
    write(tmp_path / "all.en", [f"sentence {n}" for n in range(100)])
    data = {"path": str(tmp_path / "all.de"), "reader": "parallel", "source": "de", "target": "en"}
    words = {"kind": "characters"}
    pair = {"kind": "pair", "input": words, "target": words}
    store = Store.open(ingest(data, pair, root=tmp_path, cache_dir=tmp_path / "cache", seed=0).path)
    sides = [{store.encoding().input.decode(one["input"]) for one in store.split(s)} for s in ("train", "val", "test")]
    assert sum(map(len, sides)) == 20
    assert all(sides)


def test_the_card_names_both_files_of_each_split() -> None:
    card = load_card("multi30k")
    paths = [Path(file.name) for file in card.files]
    for split in ("train", "val", "test"):
        stems = {file.name.removesuffix(".gz").rsplit(".", 1)[0] for file in card.files if file.split == split}
        assert len(stems) == 1
    assert build("reader", card.reader, {"source": "de", "target": "en"}, (), paths).files == paths


@functools.cache
def fitted(**options) -> Subwords:
    subwords = Subwords(merges=60, **options)
    subwords.fit(GERMAN * 5)
    return subwords


@given(text=st.text())
def test_subwords_give_every_text_back(text) -> None:
    text = text.encode("utf-8", "replace").decode()
    subwords = fitted()
    ids = subwords.encode(text)
    assert subwords.decode(ids) == text
    assert (ids >= len(SPECIALS)).all()


@pytest.mark.slow
@given(ids=st.lists(st.integers(0, BYTES + len(SPECIALS) - 1)))
def test_subwords_read_any_ids(ids) -> None:
    assert isinstance(fitted().decode(ids), str)


def test_subwords_merge_what_is_common_within_words() -> None:
    subwords = fitted(lowercase=True)
    assert subwords.decode(subwords.encode("EIN Haus.")) == "ein haus."
    assert len(subwords.encode("Ein Haus.")) <= 4 < len(subwords.encode("xyz qv"))
    names = [name.encode("latin-1") for name in subwords.vocabulary.tokens[len(SPECIALS) :]]
    assert not any(b" " in name[1:] for name in names), "no piece spans two words"
    assert subwords.label(int(subwords.encode("ü")[-1]))
    again = encoding_from_state(subwords.state())
    assert again.vocabulary == subwords.vocabulary
    assert np.array_equal(again.encode("Drei Haustüren."), subwords.encode("Drei Haustüren."))


def test_a_stored_encoding_with_impossible_merges_is_refused() -> None:
    state = fitted().state()
    state["learned"] = {"merges": [[0, 99999]]}
    with pytest.raises(UserError, match="can't be loaded"):
        encoding_from_state(state)
