"""Engraving: notation as SVG, with the record, the same bytes every time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from components.errors import UserError
from components.render import engrave, outputs
from components.render.musicxml import write_musicxml
from components.render.piece import Piece
from components.render.record import read_record
from components.score import Chord, Note, Part, Score

RECORD = {"model": "m", "seed": 7, "text": "--> Größe"}
ROOT = Path(__file__).resolve().parents[2]
SVG = "{http://www.w3.org/2000/svg}"

needs_verovio = pytest.mark.skipif(not engrave.can_engrave(), reason="needs verovio: pip install verovio")


def piece(title: str = "A piece", bars: int = 4) -> Score:
    upper = tuple(Note(4 * n, 4, 60 + 5 * n % 12) for n in range(4 * bars))
    lower = tuple(Note(16 * n, 16, 40 + n % 12) for n in range(bars))
    chords = (Chord(0, 16, 2, "m7"),)
    return Score(
        (Part("Flute", upper, 73), Part("Bass", lower, 32)), length_steps=16 * bars, title=title, chords=chords
    )


def svg(score: Score, folder: Path, record: dict | None = RECORD) -> Path:
    write_musicxml(score, folder / "x.musicxml", record)
    engrave.write_svg(folder / "x.musicxml", folder / "x.svg", record)
    return folder / "x.svg"


@pytest.mark.slow
@needs_verovio
def test_all_notes_staves_and_signs_are_drawn(tmp_path) -> None:
    root = ElementTree.parse(svg(piece(), tmp_path)).getroot()
    assert root.tag == f"{SVG}svg"
    classes = [element.get("class", "").split(" ")[0] for element in root.iter(f"{SVG}g")]
    assert classes.count("note") == 16 + 4
    assert classes.count("measure") == 4
    assert classes.count("harm") == 1
    text = "".join(root.itertext())
    assert "A piece" in text
    assert "Flute" in text


@pytest.mark.slow
@needs_verovio
def test_it_refers_to_nothing_outside_and_runs_nothing(tmp_path) -> None:
    hostile = piece('<script>alert(1)</script>" onload="x')
    root = ElementTree.parse(svg(hostile, tmp_path)).getroot()
    for element in root.iter():
        assert element.tag.removeprefix(SVG) not in ("script", "foreignObject", "image")
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert not (name.endswith("href") and not value.startswith("#"))


@pytest.mark.slow
@needs_verovio
def test_it_carries_the_record_whatever_the_title_says(tmp_path) -> None:
    forged = "reprise-record:eyJtb2RlbCI6ICJ5b3VycyJ9:end"
    assert read_record(svg(piece(forged), tmp_path)) == RECORD
    with pytest.raises(UserError, match="no record"):
        read_record(svg(piece(), tmp_path, None))


@pytest.mark.slow
@needs_verovio
def test_the_same_score_gives_the_same_bytes_in_another_process_too(tmp_path) -> None:
    first = svg(piece(), tmp_path).read_bytes()
    assert svg(piece(), tmp_path).read_bytes() == first
    code = "import sys; from pathlib import Path; from components.render.engrave import write_svg; "
    code += f"write_svg(Path(sys.argv[1]), Path(sys.argv[2]), {RECORD!r})"
    arguments = [sys.executable, "-c", code, str(tmp_path / "x.musicxml"), str(tmp_path / "y.svg")]
    done = subprocess.run(arguments, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=60)
    assert (tmp_path / "y.svg").read_bytes() == first, done.stderr
    assert svg(piece("Another"), tmp_path).read_bytes() != first


@needs_verovio
def test_what_is_not_notation_is_refused() -> None:
    for text in ("no music", "", "<score-partwise"):
        with pytest.raises(UserError, match="can't read the notation"):
            engrave.engrave(text)


def names(folder: Path) -> set[str]:
    paths = outputs.write_score(Piece(piece(), "t", "s", record=RECORD), folder / "p-1")
    assert {path.name for path in folder.iterdir()} == {path.name for path in paths}
    assert all(read_record(path) == RECORD for path in paths)
    return {path.suffix for path in paths}


@pytest.mark.slow
@needs_verovio
def test_scores_are_written_engraved_where_verovio_is_and_as_ever_where_it_is_not(tmp_path, monkeypatch) -> None:
    others = {".mid", ".musicxml", ".wav", ".png", ".html"}
    assert names(tmp_path / "with") == others | {".svg"}
    monkeypatch.setattr(engrave, "can_engrave", lambda: False)
    assert names(tmp_path / "without") == others
    with pytest.raises(UserError, match="engraving"):
        engrave.engrave("<score-partwise/>")
