"""Packed folders: read as what they hold; what a hostile one would do is refused, and nothing stays of it."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.datasets.files import archives
from components.datasets.files.archives import is_archive, unpacked
from components.datasets.ingest import ingest
from components.datasets.sources import path_readers
from components.datasets.store import Store
from components.errors import UserError

FILES = {"mood/pos.txt": b"warm\nwise\n", "mood/neg.txt": b"dull\ngrey\n", "mood/sub/odd.md": b"by hand\n"}


def packed(path, files, links=()):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            for name, to in links:
                info = zipfile.ZipInfo(name)
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(info, to)
        return path
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, to in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, to
            archive.addfile(info)
    return path


def stays(cache):
    return [path for path in cache.rglob("*") if path.suffix != ".lock" and path.name != "unpacked"]


NAMES = ["mood.zip", "Mood.ZIP", "mood.tar", "mood.tar.gz", "mood.tgz"]


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_is_read_as_the_folder_that_it_holds(tmp_path, name) -> None:
    path = packed(tmp_path / name.lower(), FILES, [("mood/link.txt", "pos.txt")]).rename(tmp_path / name)
    assert is_archive(path)
    data = {"path": name, "reader": "labelled-lines", "label_in": "file", "split": [0.4, 0.3, 0.3]}
    for _ in range(2):  # the second time it is there
        stem, readers = path_readers(data, tmp_path, tmp_path / "cache")
        assert stem == "mood"
        assert sorted(readers[None].items()) == [
            *[("by hand", "odd"), ("dull", "neg"), ("grey", "neg"), ("warm", "pos"), ("wise", "pos")]
        ]
        assert readers[None].passed_over == {"link or device in an archive": ["mood/link.txt"]}
    encoding = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}
    ref = ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    assert "skipped: 1 × link or device in an archive (mood/link.txt)" in Store.open(ref.path).manifest["notes"]


def test_an_archive_of_splits_and_one_for_each_split(tmp_path) -> None:
    packed(tmp_path / "all.zip", {"all/train/a.txt": b"a", "all/test/b.txt": b"b"})
    _, readers = path_readers({"path": "all.zip", "reader": "lines"}, tmp_path, tmp_path / "cache")
    assert {split: list(reader.items()) for split, reader in readers.items()} == {"train": ["a"], "test": ["b"]}
    packed(tmp_path / "one.tgz", {"a.txt": b"c"})
    packed(tmp_path / "two.tar", {"a.txt": b"d"})
    data = {"path": {"train": "one.tgz", "test": "two.tar"}, "reader": "lines"}
    _, readers = path_readers(data, tmp_path, tmp_path / "cache")
    assert {split: list(reader.items()) for split, reader in readers.items()} == {"train": ["c"], "test": ["d"]}


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt", "x" * 300])
def test_a_name_that_leads_out_is_refused(tmp_path, ending, name) -> None:
    path = packed(tmp_path / f"evil.{ending}", {"good.txt": b"x", name: b"evil"})
    with pytest.raises(UserError, match=r"it contains a path (outside|that is too long)"):
        unpacked(path, tmp_path / "cache")
    assert stays(tmp_path / "cache") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["cache", path.name])


@pytest.mark.parametrize("ending", ["zip", "tar", "tgz"])
def test_a_link_is_not_followed_when_a_file_is_written_under_its_name(tmp_path, ending) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = packed(tmp_path / f"evil.{ending}", {}, [("down", str(outside))])
    with_file = packed(tmp_path / f"more.{ending}", {"down/x.txt": b"x"}, [("down", str(outside))])
    for one in (path, with_file):
        folder, left_out = unpacked(one, tmp_path / "cache")
        assert left_out == ["down"]
        assert not any(file.is_symlink() for file in folder.rglob("*"))
    assert list(outside.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_too_much_is_refused_and_nothing_stays(tmp_path, monkeypatch, ending) -> None:
    monkeypatch.setattr(archives, "SMALL", 1 << 20)
    bomb = packed(tmp_path / f"bomb.{ending}", {"zeros.txt": bytes(8 << 20)})
    with pytest.raises(UserError, match=r"expands to far more(.|\n)*unpack it yourself"):
        unpacked(bomb, tmp_path / "cache")
    monkeypatch.setattr(archives, "MOST_ENTRIES", 3)
    many = packed(tmp_path / f"many.{ending}", {f"{n}.txt": b"x" for n in range(5)})
    with pytest.raises(UserError, match="more than 3 files"):
        unpacked(many, tmp_path / "cache")
    assert stays(tmp_path / "cache") == []


def test_a_header_that_asks_for_the_memory_is_refused(tmp_path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 40
    for name, content in (("a.tar", info.tobuf()), ("b.tgz", gzip.compress(info.tobuf() + bytes(1 << 20)))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=r"its headers are too large|damaged"):
            unpacked(tmp_path / name, tmp_path / "cache")
    info = tarfile.TarInfo("huge.txt")
    info.size = 1 << 40
    (tmp_path / "c.tar").write_bytes(info.tobuf() + b"x" * 512)
    with pytest.raises(UserError, match="expands to far more"):
        unpacked(tmp_path / "c.tar", tmp_path / "cache")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 no more", gzip.compress(b"no tar" * 99, mtime=0)])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_archive_is_refused_by_name(tmp_path, name, content) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: the archive is damaged"):
        unpacked(tmp_path / name, tmp_path / "cache")


def test_a_name_that_stands_twice_is_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.txt", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", "2")
    with pytest.raises(UserError, match=r"contains 'a\.txt' twice"):
        unpacked(tmp_path / "twice.zip", tmp_path / "cache")


@pytest.mark.slow
@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_a_damaged_archive_is_unpacked_or_refused(tmp_path, data) -> None:
    path = packed(tmp_path / data.draw(st.sampled_from(["d.zip", "d.tar", "d.tgz"])), FILES)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with suppress(UserError):
        folder, _ = unpacked(path, tmp_path / "cache")
        assert all(file.is_relative_to(tmp_path / "cache") for file in folder.rglob("*"))
