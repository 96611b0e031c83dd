"""From files to a store: split without leaks, encoded without loss, cached by content, never half-written."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.datasets import ingest as ingest_module
from components.datasets import text as text_module
from components.datasets.base import Reader
from components.datasets.ingest import ingest
from components.datasets.splits import group_split, split_fractions, stream_split
from components.datasets.store import SPLITS, DatasetRef, Store, StoreWriter, field_dtype
from components.encodings.base import Field
from components.encodings.characters import Characters
from components.encodings.vocabulary import BOS, EOS, UNK
from components.encodings.words import Words
from components.errors import UserError

TEXT = "".join(f"line {number} of the text, with words.\n" for number in range(200))
CHARACTERS = {"kind": "characters"}


@pytest.fixture
def make(tmp_path):
    """ingest() of a text written to disk: make(text, data, encoding) → Store."""

    def run(text=TEXT, data=None, encoding=None, *, seed=0, progress=None):
        path = tmp_path / "some text.txt"
        if text is not None:
            path.write_bytes(text.encode())
        data = {"path": str(path), **(data or {})}
        return ingest(
            data,
            encoding or CHARACTERS,
            root=tmp_path,
            cache_dir=tmp_path / "cache",
            seed=seed,
            progress=progress,
        )

    return run


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


@pytest.mark.parametrize(("size", "dtype"), [(4, "<u2"), (1 << 16, "<u2"), ((1 << 16) + 1, "<u4")])
def test_tokens_take_the_smallest_type_that_holds_them(tmp_path, size, dtype):
    assert field_dtype(Field(size)) == np.dtype(dtype)
    writer = StoreWriter(tmp_path, {"tokens": Field(size)})
    writer.add("train", {"tokens": np.array([0, size - 1])})
    writer.close({})
    assert Store.open(tmp_path).split("train")[0].tolist() == [0, size - 1]


@given(sequences=st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=6))
def test_sequences_come_back_as_they_were_added(tmp_path_factory, sequences):
    folder = tmp_path_factory.mktemp("store")
    writer = StoreWriter(folder, {"tokens": Field(100)})
    for ids in sequences:
        writer.add("val", {"tokens": np.array(ids[:2], dtype=np.int64)})
        writer.extend("val", {"tokens": np.array(ids[2:], dtype=np.int64)})
    writer.close({"name": "ü\ud800"})
    store = Store.open(folder)
    split = store.split("val")
    assert [ids.tolist() for ids in split] == sequences
    assert split.total_tokens == sum(map(len, sequences))
    assert split.lengths.tolist() == list(map(len, sequences))
    assert len(split) == len(sequences)
    assert len(store.split("train")) == 0
    assert store.manifest["name"] == "ü\ud800"


def test_an_id_that_does_not_fit_is_refused_and_not_wrapped(tmp_path):
    writer = StoreWriter(tmp_path, {"tokens": Field(10)})
    for id in (-1, 10, 1 << 16):
        with pytest.raises(ValueError, match="outside"):
            writer.add("train", {"tokens": np.array([id])})
    writer.abandon()


def test_a_mapped_sequence_cannot_be_written_to(make):
    ids = Store.open(make().path).split("train")[0]
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_negative_indices_count_from_the_end_and_others_are_refused(make):
    split = Store.open(make(data={"reader": "lines"}).path).split("train")
    assert split[-1].tolist() == split[len(split) - 1].tolist()
    for index in (len(split), -len(split) - 1):
        with pytest.raises(IndexError):
            split[index]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[" * 100_000),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text('{"format": 1}'),
        lambda folder: (folder / "train.tokens.bin").write_bytes(b"1"),
        lambda folder: (folder / "test.tokens.offsets.bin").unlink(),
    ],
)
def test_a_damaged_store_is_refused_with_the_way_out_and_made_anew(make, damage):
    ref = make()
    content = Store.open(ref.path).split("train")[0].tolist()
    damage(Store.open(ref.path).path)
    with pytest.raises(UserError, match="run the ingestion again"):
        Store.open(ref.path)
    again = make()
    assert again == DatasetRef(ref.path, ref.digest, reused=False)
    assert Store.open(again.path).split("train")[0].tolist() == content


def test_offsets_that_do_not_fit_the_tokens_are_refused(make):
    ref = make()
    np.array([0, 5]).tofile(f"{ref.path}/train.tokens.offsets.bin")
    with pytest.raises(UserError, match=r"offsets of train\.tokens"):
        Store.open(ref.path).split("train")
    with pytest.raises(UserError, match="Did you mean 'train'"):
        Store.open(ref.path).split("trian")


@pytest.mark.parametrize("encoding", [CHARACTERS, {"kind": "words"}])
@pytest.mark.parametrize("chunk", [50, 1 << 22])
def test_a_stream_is_cut_in_order_and_loses_nothing(make, monkeypatch, encoding, chunk):
    monkeypatch.setattr(text_module, "CHUNK", chunk)
    monkeypatch.setattr(text_module, "BLOCK", 37)
    store = Store.open(make(encoding=encoding | {"min_count": 1}, data={"split": [0.6, 0.3, 0.1]}).path)
    known = store.encoding()
    parts = {split: known.decode(store.split(split)[0]) for split in SPLITS}
    counts = store.manifest["counts"]
    assert TEXT.startswith(parts["train"])
    assert len(parts["train"]) == pytest.approx(0.6 * len(TEXT), abs=12)
    assert store.manifest["framing"] == "stream"
    assert [counts[split]["sequences"] for split in SPLITS] == [1, 1, 1]
    assert [counts[split]["units"]["char"] for split in SPLITS] == pytest.approx(
        [0.6 * len(TEXT), 0.3 * len(TEXT), 0.1 * len(TEXT)], abs=12
    )
    assert sum(counts[split]["units"]["char"] for split in SPLITS) == len(TEXT)
    if encoding["kind"] == "characters":
        assert "".join(parts.values()) == TEXT
        assert counts["val"]["unk_rate"] == 0
    else:  # line numbers that training never saw
        assert 0.05 < counts["val"]["unk_rate"] < 0.2
        ids = store.split("val")[0]
        assert counts["val"]["unk_rate"] == pytest.approx((ids == UNK).mean())


def test_how_a_text_is_chunked_does_not_change_the_dataset(make, monkeypatch):
    digests = set()
    for chunk in (60, 1000, 1 << 22):
        monkeypatch.setattr(text_module, "CHUNK", chunk)
        monkeypatch.setattr(ingest_module, "_code_digest", lambda chunk=chunk: str(chunk))  # no reuse
        ref = make(encoding={"kind": "words"})
        assert not ref.reused
        digests.add(ref.digest)
    assert len(digests) == 1


def test_lines_are_framed_and_split_without_overlap(make):
    lines = [f"name {number}" for number in range(100)]
    store = Store.open(make("\n".join(lines), {"reader": "lines", "split": [0.8, 0.1, 0.1]}).path)
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


def test_the_vocabulary_is_learned_from_train_only(make):
    store = Store.open(make("a" * 800 + "b" * 200, {"split": [0.8, 0.1, 0.1]}).path)
    assert store.encoding().vocabulary.tokens[4:] == ("a",)
    assert store.manifest["counts"]["test"]["unk_rate"] == 1


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


def test_the_same_sections_and_content_are_read_once(make):
    first, again = make(), make()
    assert (first.reused, again.reused) == (False, True)
    assert (again.path, again.digest) == (first.path, first.digest)


@pytest.mark.parametrize(
    "change",
    [
        {"text": TEXT + "more"},
        {"data": {"split": [0.6, 0.2, 0.2]}},
        {"data": {"errors": "replace"}},
        {"encoding": {"kind": "characters", "lowercase": True}},
    ],
)
def test_another_text_split_or_setting_is_another_store(make, change):
    assert make().path != make(**change).path


def test_an_edit_of_the_encoders_code_makes_a_store_stale(make, monkeypatch):
    first = make()
    monkeypatch.setattr(ingest_module, "_code_digest", lambda: "edited")
    again = make()
    assert not again.reused
    assert again.path != first.path
    assert again.digest == first.digest  # the content is the same


def test_the_code_digest_reads_the_code_that_decides(tmp_path, monkeypatch):
    for file in ("score.py", "datasets/text.py", "encodings/words.py", "tasks/base.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("1")
    monkeypatch.setattr(ingest_module, "CODE", tmp_path)
    before = ingest_module._code_digest()
    (tmp_path / "tasks/base.py").write_text("2")
    assert ingest_module._code_digest() == before
    for file in ("score.py", "datasets/text.py", "encodings/words.py"):
        (tmp_path / file).write_text("2")
        assert ingest_module._code_digest() != before
        before = ingest_module._code_digest()


def test_the_seed_deals_sequences_out_but_does_not_move_a_texts_split(make):
    lines = {"reader": "lines"}
    assert make(data=lines, seed=1).digest != make(data=lines, seed=2).digest
    assert make(seed=1).path == make(seed=2).path


def test_nothing_left_says_how_much_was_dropped_and_why(make):
    with pytest.raises(UserError, match=r"nothing .* left of some text\.txt .*3 × longer than 2 characters"):
        make("one\ntwo\nsix\n", {"reader": "lines", "max_length": 2})
    with pytest.raises(UserError, match="2 different sequences can't be split into 3"):
        make("one\ntwo\n", {"reader": "lines"})
    with pytest.raises(UserError, match="nothing is left for val"):
        make("abc")


@pytest.mark.parametrize(
    ("data", "encoding", "what"),
    [
        ({"path": "gone.txt"}, CHARACTERS, "no such file"),
        ({"dataset": "names"}, CHARACTERS, "either dataset or path"),
        ({"path": None}, CHARACTERS, "either dataset or path"),
        ({"reader": "lins"}, CHARACTERS, "Did you mean 'lines'"),
        ({"erors": "replace"}, CHARACTERS, "Did you mean 'errors'"),
        ({}, {"kind": "charcters"}, "Did you mean 'characters'"),
        ({}, {"kind": "words", "min_cuont": 2}, "Did you mean 'min_count'"),
        ({}, {}, "encoding"),
        ({"split": [0.5, 0.5]}, CHARACTERS, "data.split"),
    ],
)
def test_a_wrong_setting_is_named(make, data, encoding, what):
    with pytest.raises(UserError, match=what):
        make(data=data, encoding=encoding or {"kind": ""})


@pytest.mark.parametrize("given", [None, 0.8, "abc", [1, 0], [0, 0.5, 0.5], [2, -0.5, -0.5], [0.5, 0.2, 0.2],
                                   [float("nan"), 0.5, 0.5], [True, 0, 0]])  # fmt: skip
def test_fractions_that_do_not_split_are_refused(given):
    with pytest.raises(UserError, match=r"data\.split"):
        split_fractions(given)


def test_a_failed_ingestion_leaves_nothing_behind_and_can_be_repeated(make, tmp_path):
    (tmp_path / "some text.txt").write_bytes(b"\xff" * 9)
    with pytest.raises(UserError, match="isn't UTF-8"):
        make(None)
    with pytest.raises(RuntimeError, match="stop"):
        make(progress=stop_at_encoding)
    left = [path for path in (tmp_path / "cache" / "stores").iterdir() if path.suffix != ".lock"]
    assert left == []
    assert not make().reused


def stop_at_encoding(line):
    if line.startswith("encod"):
        raise RuntimeError("stop")


def test_a_disk_that_cannot_be_written_to_is_a_users_error(make, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StoreWriter, "extend", full)
    with pytest.raises(UserError, match="No space left"):
        make()


def test_progress_tells_the_stages_and_not_every_line(make):
    told = []
    make(data={"reader": "lines"}, progress=told.append)
    assert [line for line in told if line in ("reading", "learning the vocabulary", "encoding")] == told


def test_a_folder_is_read_file_by_file_in_the_order_of_names(make, tmp_path):
    folder = tmp_path / "books"
    folder.mkdir()
    for name, content in (("b.txt", "two\n" * 40), ("a.txt", "one\n" * 40), (".hidden", "\xff")):
        (folder / name).write_text(content)
    store = Store.open(make(data={"path": "books", "split": [1, 0, 0]}).path)
    assert store.encoding().decode(store.split("train")[0]) == "one\n" * 40 + "two\n" * 40
    assert [source["name"] for source in store.manifest["sources"]] == ["a.txt", "b.txt"]
    assert store.manifest["name"] == "books"


def test_ingestions_at_once_make_one_store(make, tmp_path):
    refs, errors = [], []

    def work():
        try:
            refs.append(make(None))
        except Exception as error:
            errors.append(error)

    make(TEXT + "more")
    (tmp_path / "some text.txt").write_text(TEXT)  # now a text that no store has yet
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({ref.path for ref in refs}) == 1
    assert sorted(ref.reused for ref in refs) == [False, True, True, True]


def test_the_manifest_holds_no_time_so_the_same_input_gives_the_same_bytes(make, tmp_path):
    ref = make()
    before = {path.name: path.read_bytes() for path in Store.open(ref.path).path.iterdir()}
    (Store.open(ref.path).path / "manifest.json").unlink()
    make()
    after = {path.name: path.read_bytes() for path in Store.open(ref.path).path.iterdir()}
    assert after == before
    assert json.loads(after["manifest.json"])["digests"]["content"] == ref.digest
