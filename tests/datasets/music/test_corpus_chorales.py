"""Real and written scores read through music21: ties, upbeats, ornaments, and what has to be left out."""

from __future__ import annotations

import music21
import pytest

from components.datasets.music import chorales as scores
from components.datasets.music.chorales import CorpusChoralesReader, read_stream
from components.datasets.sources import build
from components.encodings.chorale.encoding import Chorale
from components.encodings.vocabulary import BOS
from components.errors import UserError
from components.score import Note

pytestmark = pytest.mark.slow  # what reads them takes seconds to import


@pytest.fixture(scope="module")
def chorales():
    reader = CorpusChoralesReader(limit=8)
    return reader, list(reader.items())


def stream(*voices, metre="4/4", parts=4):
    """A score whose voices are tinyNotation; a missing voice is a whole bar's note."""
    made = music21.stream.Score()
    for voice in (list(voices) + ["c1"] * parts)[:parts]:
        made.append(music21.converter.parse(f"tinyNotation: {metre} {voice}"))
    return made


def notes(reading, voice=0):
    return [(note.start, note.duration, note.pitch) for note in reading.score.parts[voice].notes]


@pytest.mark.slow
def test_real_chorales_come_back_from_their_ids(chorales):
    reader, items = chorales
    assert len(items) == 8 - sum(reader.dropped.values()) >= 5
    encoding = Chorale()
    for score in items:
        again = encoding.decode(encoding.encode(score))
        assert [part.notes for part in again.parts] == [part.notes for part in score.parts]
        assert (again.metre, again.upbeat_steps, again.length_steps) == (
            score.metre,
            score.upbeat_steps,
            score.length_steps,
        )


@pytest.mark.slow
def test_real_chorales_obey_the_grammar(chorales):
    encoding = Chorale()
    ids = [BOS, *encoding.encode(chorales[1][0]).tolist()]
    for cut in range(1, len(ids)):
        assert encoding.allowed(ids[:cut])[ids[cut]]


@pytest.mark.slow
def test_the_first_chorale_is_the_one_in_the_book(chorales):
    score = chorales[1][0]
    assert score.title == "Aus meines Herzens Grunde (BWV 269)"
    assert [part.name for part in score.parts] == ["Soprano", "Alto", "Tenor", "Bass"]
    assert score.metre == (3, 4)
    assert score.upbeat_steps == 4
    assert [part.notes[0].pitch for part in score.parts] == [67, 62, 59, 43]


@pytest.mark.slow
def test_reading_again_gives_the_same_and_a_limit_reads_a_beginning(chorales):
    reader, items = chorales
    assert list(reader.items()) == items
    assert list(CorpusChoralesReader(limit=2).items()) == items[:2]
    assert len({reader.group(score) for score in items}) == len(items)
    assert CorpusChoralesReader(limit=2).digest() != CorpusChoralesReader(limit=3).digest()
    with pytest.raises(UserError, match=r"data\.limit"):
        build("reader", "corpus-chorales", {"limit": 0}, (), [])


@pytest.mark.slow
def test_two_processes_read_what_one_reads_in_the_same_order(chorales, monkeypatch):
    monkeypatch.setattr(scores, "FEW", 1)
    assert list(CorpusChoralesReader(limit=8).items()) == chorales[1]


def test_the_file_of_exactly_that_name_is_read():
    # music21's own look-up gives bwv112.5-sc, a score with instruments, for bwv112.5
    assert scores._path("bach/bwv112.5").name == "bwv112.5.mxl"
    assert scores._path("bach/bwv281").name == "bwv281.mxl"


def test_a_piece_in_another_key_is_in_the_same_group():
    reader = CorpusChoralesReader()
    low, high = (read_stream(stream(f"{a}4 {b}2.")).score for a, b in (("c", "e"), ("c", "f")))
    assert reader.group(low) != reader.group(high)
    up = stream("c4 e2.")
    assert reader.group(read_stream(up.transpose(3)).score) == reader.group(low)


def test_tied_notes_are_one_and_repeated_notes_are_two():
    assert notes(read_stream(stream("c4 c4~ c4 c4"))) == [(0, 4, 60), (4, 8, 60), (12, 4, 60)]


def test_a_tie_that_leads_to_another_pitch_ties_nothing():
    assert notes(read_stream(stream("c4~ d4 c2"))) == [(0, 4, 60), (4, 4, 62), (8, 8, 60)]


def test_rests_are_silence_and_count_in_the_length():
    reading = read_stream(stream("r4 c4 r2"))
    assert notes(reading) == [(4, 4, 60)]
    assert reading.score.length_steps == 16


def test_an_incomplete_first_bar_is_an_upbeat():
    made = music21.stream.Score()
    for _ in range(4):
        first = music21.stream.Measure([music21.meter.TimeSignature("4/4"), music21.note.Note("c4")], number=0)
        first.padAsAnacrusis()
        second = music21.stream.Measure([music21.note.Note("d4", type="whole")], number=1)
        made.insert(0, music21.stream.Part())
        made.parts[-1].append([first, second])
    reading = read_stream(made)
    assert reading.score.upbeat_steps == 4
    assert reading.score.length_steps == 20
    assert not reading.irregular


def test_grace_notes_and_lower_notes_of_chords_are_left_out_and_counted():
    made = stream("c4 d2.")
    part = made.parts[0].getElementsByClass("Measure")[0]
    part.insert(4.0 - 3.0, music21.note.Note("f").getGrace())
    chord = music21.chord.Chord(["c4", "g4"], type="quarter")
    part.replace(part.notes[0], chord)
    reading = read_stream(made)
    assert notes(reading) == [(0, 4, 67), (4, 12, 62)]
    assert reading.left_out["grace note left out"] == 1
    assert reading.left_out["chord in one voice, its top note kept"] == 1


def test_a_few_notes_between_two_steps_are_read_as_what_sounds_at_the_steps():
    line = "c8. d32 e32 " + "c4 " * 3 + "c16 " * 16 * 3
    reading = read_stream(stream(line))
    assert notes(reading)[:3] == [(0, 3, 60), (3, 1, 62), (4, 4, 60)]
    assert reading.left_out["note moved to the grid of sixteenths"] == 2


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (stream(parts=3), "3 parts"),
        (stream(parts=5), "5 parts"),
        (stream("c1 3/4 d2."), "metre changes"),
        (stream("c8 trip{c8 d e} c8 c2"), "off the grid of sixteenths"),
        (stream("r1", "r1", "r1", "r1"), "no notes"),
    ],
)
def test_what_is_not_a_four_part_chorale_is_left_out_with_the_reason(made, reason):
    assert read_stream(made).reason == reason
    assert read_stream(made).score is None


def test_a_bar_of_the_wrong_length_is_noticed():
    made = stream("c1 d1", "c1 d1", "c1 d1", "c1 d1")
    assert not read_stream(made).irregular
    for part in made.parts:
        first = part.getElementsByClass("Measure")[0]
        first.notes[0].quarterLength = 2
        part.getElementsByClass("Measure")[1].offset = 2.0
    reading = read_stream(made)
    assert reading.irregular
    assert reading.score.parts[0].notes == (Note(0, 8, 60), Note(8, 16, 62))
