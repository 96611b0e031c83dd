"""A score in an .mxl archive is found whatever the archive's container says of it."""

from __future__ import annotations

import io
import zipfile

import pytest
from music_files import MUSICXML

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats import musicxml
from components.datasets.music.formats.musicxml import unpacked

SCORE = MUSICXML.encode()
OTHER = MUSICXML.replace("A lead sheet", "Another").encode()


def packed(**members: bytes | str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr({"container": "META-INF/container.xml"}.get(name, name), content)
    return out.getvalue()


def container(path: str, quote: str = '"') -> str:
    return f"<container><rootfiles><rootfile full-path={quote}{path}{quote}/></rootfiles></container>"


@pytest.mark.parametrize(
    "members",
    [
        {"container": container("s.xml"), "a.xml": OTHER, "s.xml": SCORE},
        {"container": container("Rock 'n' roll.xml", "'"), "Rock 'n' roll.xml": SCORE},
        {"container": container("Tom &amp; Jo.xml"), "Tom & Jo.xml": SCORE},
        {"container": container("Tom & Jo.xml"), "Tom & Jo.xml": SCORE},
        {"container": container("gone.xml"), "s.xml": SCORE},
        {"container": "<container><rootfiles>", "s.musicxml": SCORE},
        {"container": b"\xff\xfe\0<", "s.xml": SCORE},
        {"container": container("notes.xml"), "notes.xml": "<notes/>", "s.xml": SCORE},
        {"container": container("score"), "score": SCORE},
        {"s.xml": SCORE},
        {"cover.png": b"\x89PNG", "__MACOSX/s.xml": OTHER, "folder/s.xml": SCORE},
        {"s.xml": MUSICXML.encode("utf-16")},
    ],
)
def test_the_score_is_found(members) -> None:
    found = unpacked(packed(**members), [])
    assert found == (MUSICXML.encode("utf-16") if found[:2] == b"\xff\xfe" else SCORE)


def test_of_scores_that_nothing_tells_apart_it_is_said_which_is_read() -> None:
    both, remarks = {"a.xml": SCORE, "b.xml": OTHER}, []
    assert unpacked(packed(**both), remarks) == SCORE
    assert remarks == ["its container doesn't say which file is the score: of 2 files, a.xml is read"]
    assert unpacked(packed(container=container("b.xml"), **both), chosen := []) == OTHER
    assert chosen == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (packed(**{"a.txt": "nothing"}), "no score in the archive"),
        (packed(container=container("META-INF/container.xml")), "no score in the archive"),
        (packed(**{"s.xml": SCORE})[:-30], r"damaged \.mxl"),
        (b"PK\x03\x04 and then nothing", r"damaged \.mxl"),
    ],
)
def test_without_one_it_is_refused_in_words(data, reason) -> None:
    with pytest.raises(Refused, match=reason):
        unpacked(data, [])


def test_all_members_together_have_one_bound(monkeypatch) -> None:
    monkeypatch.setattr(musicxml, "MOST_XML", 10_000)
    blank = {f"{index}.xml": b" " * 4_000 for index in range(4)}
    with pytest.raises(Refused, match="unpacks to more than 10,000 bytes"):
        unpacked(packed(**blank, **{"s.xml": SCORE}), [])
