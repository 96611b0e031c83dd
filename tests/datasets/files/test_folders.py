"""Folders: subfolders are read, and whatever is passed over is counted and named."""

from __future__ import annotations

import os

import pytest

from components.datasets.files import folders
from components.datasets.files.folders import ending, given_splits, inside
from components.datasets.sources import build, path_readers
from components.datasets.store import Store
from components.datasets.tables.reader import TableReader
from components.datasets.text.bases import BasesReader
from components.datasets.text.conll import ConllReader
from components.datasets.text.labelled_lines import LabelledLinesReader
from components.datasets.text.parallel import ParallelReader
from components.datasets.text.plain import LinesReader, TextReader
from components.errors import UserError


def fill(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


@pytest.mark.parametrize(
    ("reader", "options", "files", "others"),
    [
        (TextReader, {}, {"b.c": "2", "a/x": "3", "B.h": "1"}, {"o.o": b"\x7fELF\0\0", "none.c": b""}),
        (LinesReader, {}, {"b.txt": "two", "a/x.md": "3"}, {"p.png": b"\x89PNG\0\0"}),
        (LabelledLinesReader, {}, {"p/b.pos": "two", "q/x.neg": "3"}, {"q/p.bin": b"\0" * 9}),
        (TableReader, {}, {"b.CSV": "t,l\na,1\n", "a/x.tsv": "t\tl\nb\t2\n"}, {"README.md": "a, b", "x.xlsx": b"PK"}),
        (ConllReader, {}, {"b.conll": "a O\n", "a/x.iob": "b O\n"}, {"m.model": b"\0\1"}),
        (
            ParallelReader,
            {"source": "de", "target": "en"},
            {"t.de": "ja", "t.en": "yes", "a/u.DE": "nein", "a/u.EN": "no"},
            {"t.fr": "oui", "LICENSE": "free"},
        ),
        (BasesReader, {"label_in": "file"}, {"b.fa": ">x\nACGT\n", "a/c.fasta": ">y\nAC\n"}, {"b.bam": b"BAM\0"}),
    ],
)
def test_subfolders_are_read_and_what_is_passed_over_is_named(tmp_path, reader, options, files, others) -> None:
    fill(tmp_path, files | others | {".git/config": "x", "a/.hidden": "x"})
    made = reader([tmp_path], **options)
    items = list(made.items())
    assert items
    assert [str(path.relative_to(tmp_path)) for path in made.files] == sorted(files, key=lambda n: ("/" in n, n))
    named = {name.rpartition("/")[2] for names in made.passed_over.values() for name in names}
    assert named == {name.rpartition("/")[2] for name in others} | {".git", ".hidden"}
    assert list(reader([tmp_path], **options).items()) == items


def test_links_loops_and_what_is_no_file_are_passed_over(tmp_path, monkeypatch) -> None:
    fill(tmp_path, {"a/one.txt": "1", "a/b/c/deep.txt": "2"})
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked.txt").symlink_to(tmp_path / "a" / "one.txt")
    os.mkfifo(tmp_path / "pipe")
    found, passed_over = inside(tmp_path)
    assert [path.name for path in found] == ["linked.txt", "one.txt", "deep.txt"]
    assert passed_over == {"link to a folder": ["a/loop"], "broken link": ["broken.txt"], "no regular file": ["pipe"]}
    monkeypatch.setattr(folders, "DEEPEST", 2)
    assert inside(tmp_path)[1]["more than 2 folders deep"] == ["a/b/c"]
    monkeypatch.setattr(folders, "MOST_ENTRIES", 3)
    with pytest.raises(UserError, match="more than 3 files"):
        inside(tmp_path)


def test_ingestion_tells_what_it_passed_over(tmp_path, ingest_text) -> None:
    files = {f"src/{n}.c": f"int main{n};\n" * 9 for n in range(5)} | {f"src/{n}.o": b"\0" for n in range(4)}
    fill(tmp_path, files)
    manifest = Store.open(ingest_text(None, {"path": str(tmp_path / "src")}).path).manifest
    assert "skipped: 4 × not text (0.o, 1.o, 2.o, …)" in manifest["notes"]
    assert [source["name"] for source in manifest["sources"]] == [f"{n}.c" for n in range(5)]


def test_a_folder_without_a_file_to_read_says_what_it_has(tmp_path) -> None:
    fill(tmp_path, {"a.o": b"\0", "b/.c": "x"})
    with pytest.raises(UserError, match="no files to read here, but 1 × hidden file, 1 × not text"):
        build("reader", "text", {}, (), [tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no files to read here$"):
        build("reader", "lines", {}, (), [tmp_path / "empty"])


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["train/a", "test/b", "README"], {"train": ["train"], "test": ["test"]}),
        (["all/train/a", "all/dev/b"], {"train": ["train"], "val": ["dev"]}),
        (["x.train.txt", "x.valid.txt"], {"train": ["x.train.txt"], "val": ["x.valid.txt"]}),
        (["train.de", "train.en", "val.de"], {"train": ["train.de", "train.en"], "val": ["val.de"]}),
        (["train/a", "b/c"], {}),
        (["train.txt", "more.txt"], {}),
        (["train/a"], {}),
        (["train.txt", "train_test.txt"], {}),
    ],
)
def test_names_of_folders_and_files_give_the_splits(tmp_path, names, found) -> None:
    fill(tmp_path, dict.fromkeys(names, "x"))
    assert {split: [path.name for path in paths] for split, paths in given_splits(tmp_path)[0].items()} == found


def test_a_folder_of_splits_is_not_dealt_out_anew(tmp_path) -> None:
    fill(tmp_path, {"d/train/pos.txt": "a\n", "d/train/neg.txt": "b\n", "d/test/pos.txt": "c\n", "d/README": "x"})
    _, readers = path_readers({"path": "d", "reader": "labelled-lines"}, tmp_path, tmp_path / "cache")
    assert {split: sorted(reader.items()) for split, reader in readers.items()} == {
        "train": [("a", "pos"), ("b", "neg")],
        "test": [("c", "pos")],
    }
    assert "splits by the files' names: train from train, test from test" in readers["train"].decided
    assert readers["train"].passed_over == {"belongs to no split": ["README"]}


@pytest.mark.parametrize(
    ("name", "wanted"), [("T.CSV.gz", ".csv"), ("t.csv.GZ", ".csv"), ("t", ""), ("a.b.Tsv", ".tsv")]
)
def test_an_ending_is_lower_case_and_without_gz(tmp_path, name, wanted) -> None:
    assert ending(tmp_path / name) == wanted
