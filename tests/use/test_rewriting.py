"""From a file to a piece of which a part is new: settings, files and their record, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from components.bundle import Bundle, load_bundle
from components.errors import UserError
from components.render.musicxml import write_musicxml
from components.render.record import read_record
from components.score import Chord, Note, Part, Score
from components.use.given import given
from components.use.opening import Opened
from components.use.writing import write
from tests.small_models import save

TUNE = ((0, 4, 67), (4, 4, 69), (8, 2, 71), (10, 2, 72), (12, 4, 71), (16, 8, 69), (24, 8, 67), (32, 16, 67))
CHORALE = Score(
    tuple(
        Part(name, tuple(Note(start, length, pitch - drop) for start, length, pitch in TUNE))
        for name, drop in (("Soprano", 0), ("Alto", 5), ("Tenor", 12), ("Bass", 19))
    ),
    length_steps=48,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    save(tmp_path / "bundle", "four-voices")
    return load_bundle(tmp_path / "bundle")


@pytest.fixture
def sheet(tmp_path: Path) -> str:
    write_musicxml(CHORALE, tmp_path / "piece.musicxml", {})
    return str(tmp_path / "piece.musicxml")


def lines(score: Score) -> list[list[tuple[int, int, int]]]:
    return [[(n.start, n.duration, n.pitch) for n in part.notes] for part in score.parts]


@pytest.mark.slow
def test_a_part_of_a_file_is_rewritten_and_its_record_makes_it_again(bundle, sheet, tmp_path, capsys) -> None:
    asked = given(bundle, None, None, print, print, keep=sheet, rewrite="bar 2, alto tenor")
    assert "rewrite bar 2, alto tenor" in capsys.readouterr().out
    made = bundle.generate(asked | {"particles": 4, "count": 2}, seed=1)
    for score in made.items:
        for voice, (old, new) in enumerate(zip(lines(CHORALE), lines(score), strict=True)):
            if voice in (0, 3):
                assert old == new
            else:
                assert [n for n in old if not 16 <= n[0] < 32] == [n for n in new if not 16 <= n[0] < 32]
                assert old != new, "a model that nobody trained doesn't guess it"
    files = write(Opened(bundle, "four-voices", "1", ""), made, tmp_path / "out")
    page = next(path for path in files if path.suffix == ".html")
    assert '<rect class="marked" x="16" y="0" width="16"' in page.read_text(encoding="utf-8")
    assert "bar 2, alto tenor" in page.read_text(encoding="utf-8")
    settings = read_record(page)["settings"]
    again = bundle.generate(settings, seed=1)
    assert again.items == made.items


@pytest.mark.slow
def test_what_a_piece_to_rewrite_loses_is_told(bundle, tmp_path) -> None:
    piece = replace(CHORALE, tempo_bpm=120.0, chords=(Chord(0, 16, 0, "maj"),))
    write_musicxml(piece, tmp_path / "fast.musicxml", {})
    told: list[str] = []
    given(bundle, None, None, print, told.append, keep=str(tmp_path / "fast.musicxml"), rewrite="bar 2, alto tenor")
    assert any("its tempo, 120, isn't kept" in one for one in told)
    assert "its chord symbols aren't read" in told


def test_what_does_not_go_together_is_refused(bundle, sheet, tmp_path) -> None:
    for keep, rewrite, start, what in (
        (sheet, None, None, "needs `rewrite` too"),
        (None, "bar 1", sheet, "needs `keep` too"),
        (sheet, "bar 1", sheet, "can't be used together"),
        (sheet, "bar 9", None, "the piece has no bar 9"),
    ):
        with pytest.raises(UserError, match=what):
            given(bundle, None, start, print, print, keep=keep, rewrite=rewrite)
    nothing = given(bundle, None, None, print, print, rewrite="bar 1")
    with pytest.raises(UserError, match="needs a complete piece to rewrite"):
        bundle.generate(nothing, seed=0)
    melody = bundle.under(CHORALE)
    with pytest.raises(UserError, match="needs a complete piece to rewrite"):
        bundle.generate(melody | {"rewrite": "bar 1"}, seed=0)
    for name in ("tales", "rolls"):
        save(tmp_path / name, name)
        with pytest.raises(UserError, match="can't rewrite a part"):
            given(load_bundle(tmp_path / name), None, None, print, print, keep=sheet, rewrite="bar 1")
