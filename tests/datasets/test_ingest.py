"""From files to sequences: split without leaks, encoded without loss, and what can't be is named."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from conftest import LINES
from hypothesis import given, settings
from hypothesis import strategies as st

from components.datasets import ingest as ingest_module
from components.datasets import packing
from components.datasets.base import Reader
from components.datasets.files import text as text_files
from components.datasets.splits import group_split, split_fractions, stream_split
from components.datasets.store import SPLITS, Store
from components.datasets.text import plain as plain_text
from components.encodings import characters as characters_module
from components.encodings.characters import Characters
from components.encodings.vocabulary import BOS, EOS, UNK
from components.encodings.whitespace import Whitespace
from components.encodings.words import Words
from components.errors import UserError

CHARACTERS = {"kind": "characters"}


class Listed(Reader):
    """Items of a list; the item's first letter is its group."""

    framing = "sequences"

    def __init__(self, items):
        super().__init__([])
        self._items = items

    def items(self):
        return iter(self._items)

    def group(self, item):
        return item[:1] or None


@pytest.mark.parametrize("encoding", [CHARACTERS, {"kind": "words"}])
@pytest.mark.parametrize("chunk", [50, 1 << 22])
def test_a_stream_is_cut_in_order_and_loses_nothing(ingest_text, monkeypatch, encoding, chunk):
    monkeypatch.setattr(plain_text, "CHUNK", chunk)
    monkeypatch.setattr(text_files, "BLOCK", 37)
    store = Store.open(ingest_text(encoding=encoding | {"min_count": 1}, data={"split": [0.6, 0.3, 0.1]}).path)
    known = store.encoding()
    parts = {split: known.decode(store.split(split)[0]) for split in SPLITS}
    counts = store.manifest["counts"]
    assert LINES.startswith(parts["train"])
    assert len(parts["train"]) == pytest.approx(0.6 * len(LINES), abs=12)
    assert store.manifest["framing"] == "stream"
    assert [counts[split]["sequences"] for split in SPLITS] == [1, 1, 1]
    assert [counts[split]["units"]["char"] for split in SPLITS] == pytest.approx(
        [0.6 * len(LINES), 0.3 * len(LINES), 0.1 * len(LINES)], abs=12
    )
    assert sum(counts[split]["units"]["char"] for split in SPLITS) == len(LINES)
    if encoding["kind"] == "characters":
        assert "".join(parts.values()) == LINES
        assert counts["val"]["unk_rate"] == 0
    else:  # line numbers that training never saw
        assert 0.05 < counts["val"]["unk_rate"] < 0.2
        ids = store.split("val")[0]
        assert counts["val"]["unk_rate"] == pytest.approx((ids == UNK).mean())


def test_how_a_text_is_chunked_does_not_change_the_dataset(ingest_text, monkeypatch):
    digests = set()
    for chunk in (60, 1000, 1 << 22):
        monkeypatch.setattr(plain_text, "CHUNK", chunk)
        monkeypatch.setattr(ingest_module, "_code_digest", lambda chunk=chunk: str(chunk))  # no reuse
        ref = ingest_text(encoding={"kind": "words"})
        assert not ref.reused
        digests.add(ref.digest)
    assert len(digests) == 1


def test_lines_are_framed_and_split_without_overlap(ingest_text):
    lines = [f"name {number}" for number in range(100)]
    store = Store.open(ingest_text("\n".join(lines), {"reader": "lines", "split": [0.8, 0.1, 0.1]}).path)
    encoding = store.encoding()
    found = []
    for split, count in zip(SPLITS, (80, 10, 10), strict=True):
        sequences = store.split(split)
        assert len(sequences) == count == store.manifest["counts"][split]["sequences"]
        assert all(ids[0] == BOS and ids[-1] == EOS for ids in sequences)
        found += [encoding.decode(ids) for ids in sequences]
    assert sorted(found) == sorted(lines)
    assert found != sorted(found)
    assert store.manifest["longest"] == 2 + len("name 99")


def test_the_vocabulary_is_learned_from_train_only(ingest_text):
    store = Store.open(ingest_text("a" * 800 + "b" * 200, {"split": [0.8, 0.1, 0.1]}).path)
    assert store.encoding().vocabulary.tokens[4:] == ("a",)
    assert store.manifest["counts"]["test"]["unk_rate"] == 1


@pytest.mark.slow
@given(
    items=st.lists(st.text(st.sampled_from("abcdefghij"), max_size=3), min_size=10, max_size=60),
    seed=st.integers(0, 99),
    fractions=st.sampled_from(
        [(0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (0.34, 0.33, 0.33), (1.0, 0.0, 0.0), (0.01, 0.0, 0.99)]
    ),
)
def test_a_group_is_never_on_both_sides(items, seed, fractions):
    reader = Listed(items)
    wanted = {split for split, fraction in zip(SPLITS, fractions, strict=True) if fraction}
    groups = {item[:1] or index for index, item in enumerate(items)}
    if len(groups) < len(wanted):
        with pytest.raises(UserError, match=r"data\.split"):
            group_split(reader, fractions, seed)
        return
    dealt = list(group_split(reader, fractions, seed)())
    assert [item for _, item in dealt] == items
    assert {split for split, _ in dealt} == wanted
    sides = {}
    for split, item in dealt:
        if item:
            assert sides.setdefault(item[0], split) == split
    assert dealt == list(group_split(reader, fractions, seed)())


def test_groups_fill_the_splits_to_their_fractions():
    items = [f"{letter}{number}" for letter in map(chr, range(1000, 2000)) for number in range(ord(letter) % 3 + 1)]
    dealt = [split for split, _ in group_split(Listed(items), [0.7, 0.2, 0.1], 1)()]
    for split, fraction in zip(SPLITS, (0.7, 0.2, 0.1), strict=True):
        assert dealt.count(split) / len(dealt) == pytest.approx(fraction, abs=0.003)


@pytest.mark.slow
@settings(max_examples=50)
@given(
    pieces=st.lists(st.text(st.sampled_from("ab \n"), min_size=1, max_size=9), min_size=1, max_size=9),
    fractions=st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.0, 0.5), (1.0, 0.0, 0.0), (0.2, 0.8, 0.0)]),
    encoding=st.sampled_from([Characters(), Words()]),
)
def test_a_stream_split_keeps_the_order_and_every_character(pieces, fractions, encoding):
    reader = Listed(pieces)
    reader.length = len
    dealt = list(stream_split(reader, encoding, fractions)())
    assert "".join(item for _, item in dealt) == "".join(pieces)
    order = [SPLITS.index(split) for split, _ in dealt]
    assert order == sorted(order)
    assert all(fractions[split] for split in order)
    if encoding.kind == "characters":
        trained = sum(len(item) for split, item in dealt if split == "train")
        assert trained == int(fractions[0] * len("".join(pieces)) + 1e-6)


@pytest.mark.slow
def test_the_seed_deals_sequences_out_but_does_not_move_a_texts_split(ingest_text):
    lines = {"reader": "lines"}
    assert ingest_text(data=lines, seed=1).digest != ingest_text(data=lines, seed=2).digest
    assert ingest_text(seed=1).path == ingest_text(seed=2).path


def test_nothing_left_says_how_much_was_dropped_and_why(ingest_text):
    with pytest.raises(UserError, match=r"no data are left of some text\.txt .*3 × longer than 2 characters"):
        ingest_text("one\ntwo\nsix\n", {"reader": "lines", "max_length": 2})
    with pytest.raises(UserError, match="2 different sequences can't be split into 3"):
        ingest_text("one\ntwo\n", {"reader": "lines"})
    with pytest.raises(UserError, match="the split val is empty"):
        ingest_text("abc")


@pytest.mark.parametrize(
    ("data", "encoding", "what"),
    [
        ({"path": "gone.txt"}, CHARACTERS, "no such file"),
        ({"dataset": "names"}, CHARACTERS, "either dataset or path"),
        ({"path": None}, CHARACTERS, "either dataset or path"),
        ({"reader": "lins"}, CHARACTERS, "Did you mean 'lines'"),
        ({"erors": "replace"}, CHARACTERS, "did you mean 'errors'"),
        ({}, {"kind": "charcters"}, "Did you mean 'characters'"),
        ({}, {"kind": "words", "min_cuont": 2}, "did you mean 'min_count'"),
        ({}, {}, "encoding"),
        ({"split": [0.5, 0.5]}, CHARACTERS, "data.split"),
    ],
)
def test_a_wrong_setting_is_named(ingest_text, data, encoding, what):
    with pytest.raises(UserError, match=what):
        ingest_text(data=data, encoding=encoding or {"kind": ""})


@pytest.mark.parametrize("given", [None, 0.8, "abc", [1, 0], [0, 0.5, 0.5], [2, -0.5, -0.5], [0.5, 0.2, 0.2],
                                   [float("nan"), 0.5, 0.5], [True, 0, 0]])  # fmt: skip
def test_fractions_that_do_not_split_are_refused(given):
    with pytest.raises(UserError, match=r"data\.split"):
        split_fractions(given)


def test_progress_tells_the_stages_and_not_every_line(ingest_text):
    told = []
    ingest_text(data={"reader": "lines"}, progress=told.append)
    assert told == ["reading", "learning the vocabulary", "encoding"]


def test_a_folder_is_read_file_by_file_in_the_order_of_names(ingest_text, tmp_path):
    folder = tmp_path / "books"
    folder.mkdir()
    for name, content in (("b.txt", "two\n" * 40), ("a.txt", "one\n" * 40), (".hidden", "\xff")):
        (folder / name).write_text(content, encoding="utf-8")
    store = Store.open(ingest_text(data={"path": "books", "split": [1, 0, 0]}).path)
    assert store.encoding().decode(store.split("train")[0]) == "one\n" * 40 + "two\n" * 40
    assert [source["name"] for source in store.manifest["sources"]] == ["a.txt", "b.txt"]
    assert store.manifest["name"] == "books"


@pytest.mark.slow
def test_the_report_of_an_ingestion_lists_each_file_and_what_was_left_out(ingest_text, tmp_path, capsys) -> None:
    from components.runs.ingest import show_report

    folder = tmp_path / "songs"
    folder.mkdir()
    for name, bar in {"a": "CDEF|", "b": "CCGA|", "c": "EGEC|", "d": "DFAG|"}.items():
        (folder / f"{name}.abc").write_text(f"X:1\nT:{name}\nM:4/4\nL:1/4\nK:C\n{bar * 8}\n", encoding="utf-8")
    (folder / "broken.mid").write_bytes(b"MThd")
    data = {"path": str(folder), "reader": "music", "split": [0.5, 0.25, 0.25]}
    ref = ingest_text(None, data, {"kind": "lead_sheet"})
    show_report(ref)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("a.abc: title a · ") and "read True" in line for line in lines)
    assert any(line.startswith("broken.mid: ") and "read False" in line for line in lines)
    assert any(line.startswith("left out: 1 × ") for line in lines)


def test_the_memory_of_an_ingestion_does_not_grow_with_the_text(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(plain_text, "CHUNK", 1 << 16)
    monkeypatch.setattr(text_files, "BLOCK", 1 << 16)
    monkeypatch.setattr(packing, "TELL_EVERY", 0.0)
    monkeypatch.setattr(characters_module, "BATCH", 1 << 16)
    peaks = []
    for lines in (1_000, 25_000, 100_000):  # the first imports what is needed
        path, told = tmp_path / f"{lines}.txt", []
        path.write_bytes("Größe und Länge\r\n".encode() * lines)
        options = {"root": tmp_path, "cache_dir": tmp_path / "cache", "seed": 0, "progress": told.append}
        tracemalloc.start()
        ref = ingest_module.ingest({"path": str(path)}, CHARACTERS, **options)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        train = Store.open(ref.path).split("train")
        assert train.tokens.dtype == np.uint8
        assert train.total_tokens == 16 * lines * 8 // 10
    assert peaks[2] < 1.2 * peaks[1]
    done = [int(line.split()[0].replace(",", "")) for line in told if "chars encoded" in line]
    assert done[-1] == 16 * lines
    assert done == sorted(done)
    assert sum("characters learned from" in line for line in told) > 10


@settings(max_examples=60)
@given(
    words=st.lists(st.text("aé😀,ß", min_size=1, max_size=4), min_size=12, max_size=20),
    blank=st.sampled_from([" ", "\r\n", "\n\n", " \r "]),
    chunk=st.integers(8, 20),
    block=st.integers(1, 9),
    kind=st.sampled_from([Characters, Words, Whitespace]),
)
def test_pieces_of_any_size_give_the_tokens_of_the_whole_text(tmp_path_factory, words, blank, chunk, block, kind):
    path = tmp_path_factory.getbasetemp() / "pieces.txt"
    path.write_bytes(blank.join(words).encode())  # line ends, letters and words lie across blocks and pieces
    # words are cut at a blank of the piece that a split ends in: another one, where pieces are so small
    fractions = [0.5, 0.3, 0.2] if kind is Characters else [1.0, 0.0, 0.0]

    def read(chunk: int, block: int) -> tuple[dict[str, list[int]], list[str]]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plain_text, "CHUNK", chunk)
            patch.setattr(text_files, "BLOCK", block)
            encoding, reader = kind(), plain_text.TextReader([path])
            encoding.fit(reader.items())
            found: dict[str, list[int]] = {}
            for split, item in stream_split(reader, encoding, fractions)():
                found.setdefault(split, []).extend(encoding.encode(item).tolist())
            return found, list(encoding.vocabulary.tokens)

    assert read(chunk, block) == read(1 << 20, 1 << 20)
