"""The store of an ingestion: read as it was written, cached by content, never half-written."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from conftest import LINES
from hypothesis import given
from hypothesis import strategies as st

from components.datasets import ingest as ingest_module
from components.datasets import store as store_module
from components.datasets.store import DatasetRef, Sequences, Store, StoreWriter, field_dtype
from components.encodings.base import Field
from components.errors import UserError


@pytest.mark.parametrize(
    ("size", "dtype"), [(4, "u1"), (256, "u1"), (257, "<u2"), (1 << 16, "<u2"), ((1 << 16) + 1, "<u4")]
)
def test_tokens_take_the_smallest_type_that_holds_them(tmp_path, size, dtype):
    assert field_dtype(Field(size)) == np.dtype(dtype)
    writer = StoreWriter(tmp_path, {"tokens": Field(size)})
    writer.add("train", {"tokens": np.array([0, size - 1])})
    writer.close({})
    assert Store.open(tmp_path).split("train")[0].tolist() == [0, size - 1]


def test_a_store_of_the_format_before_is_read_with_two_bytes_an_id(tmp_path):
    writer = StoreWriter(tmp_path, {"tokens": Field(9)})
    writer.add("val", {"tokens": np.array([4, 8, 5])})
    writer.close({})
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "val.tokens.bin").write_bytes(np.array([4, 8, 5], "<u2").tobytes())
    manifest["files"]["val.tokens.bin"], manifest["format"] = 6, 2
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert Store.open(tmp_path).split("val")[0].tolist() == [4, 8, 5]


def test_ids_are_counted_in_pieces(monkeypatch):
    ids = np.array([1, 4, 4, 255, 1, 1, 4], dtype=np.uint8)
    monkeypatch.setattr(store_module, "BLOCK", 3)
    assert Sequences(ids, np.array([0, 7])).counts(256).tolist() == np.bincount(ids).tolist()


@pytest.mark.slow
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


def test_a_mapped_sequence_cannot_be_written_to(ingest_text):
    ids = Store.open(ingest_text().path).split("train")[0]
    with pytest.raises(ValueError, match="read-only"):
        ids[0] = 1


def test_negative_indices_count_from_the_end_and_others_are_refused(ingest_text):
    split = Store.open(ingest_text(data={"reader": "lines"}).path).split("train")
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
def test_a_damaged_store_is_refused_with_the_way_out_and_made_anew(ingest_text, damage):
    ref = ingest_text()
    content = Store.open(ref.path).split("train")[0].tolist()
    damage(Store.open(ref.path).path)
    with pytest.raises(UserError, match="run the ingestion again"):
        Store.open(ref.path)
    again = ingest_text()
    assert again == DatasetRef(ref.path, ref.digest, reused=False)
    assert Store.open(again.path).split("train")[0].tolist() == content


def test_offsets_that_do_not_fit_the_tokens_are_refused(ingest_text):
    ref = ingest_text()
    np.array([0, 5]).tofile(f"{ref.path}/train.tokens.offsets.bin")
    with pytest.raises(UserError, match=r"offsets of train\.tokens"):
        Store.open(ref.path).split("train")
    with pytest.raises(UserError, match="Did you mean 'train'"):
        Store.open(ref.path).split("trian")


def test_the_same_sections_and_content_are_read_once(ingest_text):
    first, again = ingest_text(), ingest_text()
    assert (first.reused, again.reused) == (False, True)
    assert (again.path, again.digest) == (first.path, first.digest)


@pytest.mark.parametrize(
    "change",
    [
        {"text": LINES + "more"},
        {"data": {"split": [0.6, 0.2, 0.2]}},
        {"data": {"errors": "replace"}},
        {"encoding": {"kind": "characters", "lowercase": True}},
    ],
)
def test_another_text_split_or_setting_is_another_store(ingest_text, change):
    assert ingest_text().path != ingest_text(**change).path


def test_an_edit_of_the_encoders_code_makes_a_store_stale(ingest_text, monkeypatch):
    first = ingest_text()
    monkeypatch.setattr(ingest_module, "_code_digest", lambda: "edited")
    again = ingest_text()
    assert not again.reused
    assert again.path != first.path
    assert again.digest == first.digest  # the content is the same


def test_the_code_digest_reads_the_code_that_decides(tmp_path, monkeypatch):
    for file in (
        "ink.py",
        "score.py",
        "datasets/base.py",
        "datasets/text/plain.py",
        "encodings/words.py",
        "tasks/base.py",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("1")
    monkeypatch.setattr(ingest_module, "CODE", tmp_path)
    before = ingest_module._code_digest()
    (tmp_path / "tasks/base.py").write_text("2")
    assert ingest_module._code_digest() == before
    for file in ("ink.py", "score.py", "datasets/base.py", "datasets/text/plain.py", "encodings/words.py"):
        (tmp_path / file).write_text("2")
        assert ingest_module._code_digest() != before
        before = ingest_module._code_digest()


def test_a_failed_ingestion_leaves_nothing_behind_and_can_be_repeated(ingest_text, tmp_path):
    (tmp_path / "some text.txt").write_bytes(b"\xff" * 9)
    with pytest.raises(UserError, match="isn't UTF-8"):
        ingest_text(None)
    with pytest.raises(RuntimeError, match="stop"):
        ingest_text(progress=stop_at_encoding)
    left = [path for path in (tmp_path / "cache" / "stores").iterdir() if path.suffix != ".lock"]
    assert left == []
    assert not ingest_text().reused


def stop_at_encoding(line):
    if line.startswith("encod"):
        raise RuntimeError("stop")


def test_a_disk_that_cannot_be_written_to_is_a_users_error(ingest_text, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StoreWriter, "extend", full)
    with pytest.raises(UserError, match="No space left"):
        ingest_text()


@pytest.mark.slow
def test_ingestions_at_once_make_one_store(ingest_text, tmp_path):
    refs, errors = [], []

    def work():
        try:
            refs.append(ingest_text(None))
        except Exception as error:
            errors.append(error)

    ingest_text(LINES + "more")
    (tmp_path / "some text.txt").write_text(LINES)  # now a text that no store has yet
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({ref.path for ref in refs}) == 1
    assert sorted(ref.reused for ref in refs) == [False, True, True, True]


def test_the_manifest_holds_no_time_so_the_same_input_gives_the_same_bytes(ingest_text, tmp_path):
    ref = ingest_text()
    before = {path.name: path.read_bytes() for path in Store.open(ref.path).path.iterdir()}
    (Store.open(ref.path).path / "manifest.json").unlink()
    ingest_text()
    after = {path.name: path.read_bytes() for path in Store.open(ref.path).path.iterdir()}
    assert after == before
    assert json.loads(after["manifest.json"])["digests"]["content"] == ref.digest
