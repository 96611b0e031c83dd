"""The listening page, as text and in a real browser (skipped where there is no Chromium)."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from chromium import Browser, Tags

from components.errors import UserError
from components.render.audio import page_audio
from components.render.page import write_page
from components.render.piece import Piece
from components.render.record import read_record
from components.score import Chord, Note, Part, Score

HOSTILE = '</title><script>document.title="owned"</script><img src=x onerror=alert(1)> @@audio@@ & "quoted"'
RECORD = {"model": "chorales", "version": "3", "seed": 7}


def score(bars: int = 4) -> Score:
    beats = range(4 * bars)
    voices = [
        Part(name, tuple(Note(4 * b, 4, p + b % 3) for b in beats)) for name, p in [("Soprano", 72), ("Bass", 48)]
    ]
    return Score(tuple(voices), upbeat_steps=4, length_steps=16 * bars, tempo_bpm=120.0)


def written(path: Path, piece: Score, title: str = "A piece") -> str:
    facts = {"Model": "chorales v3", "Prompt": HOSTILE}
    write_page(Piece(piece, title, "of two voices", facts, RECORD), path, page_audio(piece))
    return path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_page_is_one_file_that_names_nothing_outside_itself(tmp_path):
    tags = Tags(written(tmp_path / "page.html", score())).found
    addresses = [v for _, attrs in tags for k, v in attrs.items() if k in ("src", "href", "action", "data", "poster")]
    assert len(addresses) == 2  # the sound, and the notes drawn twice
    assert sorted(a.partition(",")[0] for a in addresses) == ["#notes", "data:audio/wav;base64"]
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}


@pytest.mark.slow
def test_sound_and_record_in_the_page_are_those_given(tmp_path):
    page = written(tmp_path / "page.html", score())
    audio = next(attrs["src"] for tag, attrs in Tags(page).found if tag == "audio")
    assert base64.b64decode(audio.partition(",")[2]) == page_audio(score())
    assert read_record(tmp_path / "page.html") == RECORD


@pytest.mark.slow
def test_hostile_names_stay_text(tmp_path):
    page = written(tmp_path / "page.html", score(), HOSTILE)
    tags = [tag for tag, _ in Tags(page).found]
    assert tags.count("script") == 3
    assert "img" not in tags
    assert html.escape(HOSTILE) in page


@pytest.mark.slow
def test_every_note_is_drawn_where_it_sounds(tmp_path):
    piece = score()
    boxes = [attrs for tag, attrs in Tags(written(tmp_path / "page.html", piece)).found if tag == "rect"]
    drawn = sorted((int(box["x"]), int(box["width"])) for box in boxes)
    assert drawn == sorted((note.start, note.duration) for part in piece.parts for note in part.notes)


@pytest.mark.slow
def test_chord_symbols_stand_where_they_hold(tmp_path):
    chords = (Chord(4, 16, 5, "7"), Chord(20, 8, 10, "m7b5"))
    page = written(tmp_path / "page.html", replace(score(), chords=chords))
    spans = [attrs for tag, attrs in Tags(page).found if tag == "span" and "data-start" in attrs]
    assert [(int(a["data-start"]), int(a["data-end"])) for a in spans] == [(4, 20), (20, 28)]
    assert [a["style"].partition(";")[0] for a in spans] == ["left:6.250%", "left:31.250%"]
    assert ">F7</span>" in page
    assert ">Bbm7b5</span>" in page
    assert 'class="chords"' not in written(tmp_path / "plain.html", score())


@pytest.mark.slow
def test_bars_are_counted_through_a_change_of_the_metre(tmp_path):
    piece = replace(score(), upbeat_steps=0, metre_changes=((32, (3, 4)),))
    page = written(tmp_path / "page.html", piece)
    timing = json.loads(page.partition('id="score">')[2].partition("</script>")[0])
    assert timing["bars"] == [[1, 0, 16, 4], [2, 16, 32, 4], [3, 32, 44, 4], [4, 44, 56, 4], [5, 56, 64, 4]]
    assert 'd="M16 0v' in page
    assert "M44 0v" in page.partition("line bars")[2]
    assert '<span style="left:68.750%">4</span>' in page


def test_page_refuses_what_it_cannot_play(tmp_path):
    with pytest.raises(UserError, match="nothing to play"):
        written(tmp_path / "page.html", Score(()))
    with pytest.raises(UserError, match="isn't a wav"):
        write_page(Piece(score(), ""), tmp_path / "page.html", b"ID3")


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    written(tmp_path / "page.html", score(), HOSTILE)
    browser.errors.clear()
    browser.open(tmp_path / "page.html")
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [(tmp_path / "page.html").as_uri()]


PLAYING = "document.documentElement.classList.contains('playing') && !document.getElementById('audio').paused"
LEFT = "parseFloat(document.querySelector('#sheet .cursor').style.left)"
PLACE = "document.getElementById('place').textContent"
LABEL = "document.getElementById('play').getAttribute('aria-label')"


def test_button_plays_and_pauses_and_the_cursor_follows(opened):
    assert (opened.value(LABEL), opened.value(LEFT)) == ("Play", 0)
    opened.click("#play")
    opened.until(f"{PLAYING} && {LABEL} === 'Pause'")
    opened.until(f"{LEFT} > 1")
    first = opened.value(LEFT)
    opened.until(f"{LEFT} > {first + 1}")
    opened.until("document.querySelectorAll('.voice .on').length === 2")
    opened.click("#play")
    opened.until(f"!({PLAYING}) && {LABEL} === 'Play'")


def test_keys_play_and_move_by_beat_and_bar(opened):
    opened.key(" ", 32)
    opened.until(PLAYING)
    opened.key(" ", 32)
    opened.until(f"!({PLAYING})")
    opened.key("Home", 36)
    opened.until(f"{PLACE} === 'Upbeat, beat 4'")
    for key, code, shift, place in (
        ("ArrowRight", 39, 0, "Bar 1, beat 1"),
        ("ArrowRight", 39, 0, "Bar 1, beat 2"),
        ("ArrowRight", 39, 8, "Bar 2, beat 1"),
        ("ArrowLeft", 37, 0, "Bar 1, beat 4"),
        ("ArrowLeft", 37, 8, "Bar 1, beat 1"),
        ("End", 35, 0, "Bar 4, beat 3"),
    ):
        opened.key(key, code, shift)
        opened.until(f"{PLACE} === '{place}'")
    assert opened.value("document.getElementById('overview').getAttribute('aria-valuetext')") == "bar 4, beat 3"


def test_a_click_in_the_notes_or_the_overview_moves_there(opened):
    for place in ("#sheet", "#overview"):
        opened.click(place, 0.75)
        opened.until(f"Math.abs({LEFT} - 75) < 1")
        opened.click(place, 0.25)
        opened.until(f"Math.abs({LEFT} - 25) < 1")


def test_the_chord_at_the_cursor_is_lit_and_told(browser, tmp_path):
    chords = (Chord(0, 20, 5, "7"), Chord(20, 44, 10, "7"))
    written(tmp_path / "page.html", replace(score(), chords=chords))
    browser.open(tmp_path / "page.html")
    browser.key("ArrowRight", 39)
    for key, chord in (("ArrowRight", "F7"), ("End", "Bb7")):
        browser.key(key, {"ArrowRight": 39, "End": 35}[key])
        browser.until(f"[...document.querySelectorAll('.chords .on')].map(n => n.textContent).join() === '{chord}'")
        told = browser.value("document.getElementById('overview').getAttribute('aria-valuetext')")
        assert told.endswith(f", {chord}")


def test_a_voice_can_be_picked_out(opened):
    assert opened.value("getComputedStyle(document.querySelector('.voice.v1')).opacity") == "1"
    opened.click(".legend button")
    assert opened.value("document.querySelectorAll('.voice.dim').length") == 1
    assert opened.value("document.querySelector('.legend button').getAttribute('aria-pressed')") == "true"
    opened.click(".legend button")
    assert opened.value("document.querySelector('.legend button').getAttribute('aria-pressed')") == "false"


def test_a_hostile_title_runs_nothing(opened):
    assert opened.value("document.title") == " ".join(HOSTILE.split())
    assert opened.value("document.querySelector('h1').textContent") == HOSTILE
