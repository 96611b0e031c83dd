"""ABC as other people's programs write it: what stands around the notes is no music, and each voice has its own key."""

from __future__ import annotations

import numpy as np
import pytest

from components.datasets.music.formats.abc_notation import read_abc
from components.datasets.music.formats.abc_signs import parse_tune

OPTIONS = {"steps_per_beat": 12, "max_seconds": 1800.0}
HEAD = "X:1\nT:Waltz\nM:4/4\nL:1/4\nK:C\n"


def pieces(text: str) -> list:
    return read_abc(text.encode(), "waltz.abc", OPTIONS)


def voices(text: str) -> list[list[tuple[float, float, int]]]:
    """(start and length in beats, pitch) of each voice's notes."""
    (piece,) = pieces(text)
    return [[(n[0] / 12, n[1] / 12, n[2]) for n in track.notes.tolist()] for track in piece.tracks]


def pitches(text: str) -> list[int]:
    return [pitch for _, _, pitch in voices(text)[0]]


SCALE = [60, 62, 64, 65, 67, 69, 71, 72]


@pytest.mark.parametrize(
    "after",
    [
        "\nCollected by Abe Cade, a bagpiper.\nFaded page.\n",
        "%%begintext\nA bad egg\n%%endtext\n",
        "%%beginps\n/bad { face } def\n",
        "w: do re mi\n+: fa sol\n",
    ],
)
def test_text_beside_the_notes_is_no_music(after: str) -> None:
    assert pitches(HEAD + "CDEF|GABc|]\n" + after) == SCALE
    assert pitches(HEAD + "CDEF|\n" + after + "GABc|]\n")[:4] == SCALE[:4]


def test_an_empty_line_within_a_tune_loses_no_bars_and_text_after_it_is_counted() -> None:
    (piece,) = pieces(HEAD + "CDEF|\n\nGABc|]\n\nA cabbage.\n")
    assert piece.tracks[0].notes[:, 2].tolist() == SCALE
    assert piece.left_out == {"line of text after the tune": 1}


def test_line_ends_of_old_macs_end_lines() -> None:
    first, second = read_abc((HEAD + "CDEF|]\n\n" + HEAD + "cdef|]\n").replace("\n", "\r").encode(), "a.abc", OPTIONS)
    assert first.tracks[0].notes[:, 2].tolist() == SCALE[:4]
    assert second.tracks[0].notes[:, 2].tolist() == [72, 74, 76, 77]


def test_each_voice_has_its_own_key_and_length() -> None:
    first, second = voices(HEAD + "V:1\nFFFF|[K:D][L:1/8]FFFFFFFF|\nV:2\nFFFF|[K:D][L:1/8]FFFFFFFF|\n")
    assert first == second
    assert [pitch for _, _, pitch in first] == [65] * 4 + [66] * 8
    assert [length for _, length, _ in first] == [1.0] * 4 + [0.5] * 8


def test_a_key_line_between_lines_of_music_holds_until_the_next() -> None:
    assert pitches(HEAD + "F4|\nK:G\nF4|\nK:none\nF4|]\n") == [65, 66, 65]
    assert pitches(HEAD.replace("K:C", "K:D exp _b") + "FcB2|]\n") == [65, 72, 70]


@pytest.mark.parametrize(
    ("chord", "notes"),
    [('["F"FAc]4', 3), ("[!3!F!1!A]4", 2), ("[F A c]4", 3), ("[.F2uA2]2", 2), ("[^F_B]4", 2), ("[]F4", 1)],
)
def test_a_chord_may_hold_other_signs(chord: str, notes: int) -> None:
    (played,) = voices(HEAD + chord + "|C4|]\n")
    assert len(played) == notes + 1
    assert {(start, length) for start, length, _ in played[:notes]} == {(0.0, 4.0)}


def test_a_tie_carries_an_accidental_over_the_bar_line_to_its_note_alone() -> None:
    assert voices(HEAD + "^F4-|F2 F2|]\n") == [[(0.0, 6.0, 66), (6.0, 2.0, 65)]]
    assert voices(HEAD + "[^FA]4-|[FA]2 F2|]\n")[0][-1] == (6.0, 2.0, 65)
    assert voices(HEAD + "^F4|F4|]\n") == [[(0.0, 4.0, 66), (4.0, 4.0, 65)]]


def test_notes_beside_a_voices_own_are_left_out_and_counted() -> None:
    (piece,) = pieces(HEAD + "CDEF & c2 [eg]2|GABc|]\n")
    assert piece.tracks[0].notes[:, 2].tolist() == SCALE
    assert piece.left_out == {"note beside the voice's own (&)": 2}


@pytest.mark.parametrize(("metre", "expected"), [("2+3/8", (5, 8)), ("(2+2+3)/8", (7, 8)), ("3 + 2 / 4", (5, 4))])
def test_a_metre_may_be_a_sum(metre: str, expected: tuple[int, int]) -> None:
    (piece,) = pieces(HEAD.replace("4/4", metre) + "CDEF|]\n")
    assert piece.metre == expected
    assert not piece.left_out


def test_a_metre_that_cant_be_read_is_told() -> None:
    (piece,) = pieces(HEAD.replace("4/4", "five") + "CDEF|]\n")
    assert piece.metre == (4, 4)
    assert list(piece.left_out) == ["metre that can't be read: the one before holds (kept)"]


@pytest.mark.parametrize(
    ("music", "expected"),
    [
        ("C4|[|:D4:|E4|]", [60, 62, 62, 64]),
        ("C4|:\nD4|\nG:|E4|]", [60, 62, 67, 62, 67, 64]),  # a line that begins with a note and a bar line
        ("C4|!segno!D4|E4!dacoda!|F4!D.S.alcoda!|!coda!G4|]", [60, 62, 64, 65, 62, 64, 67]),
        ("C4|D4!fine!|E4!D.C.alfine!|]", [60, 62, 64, 60, 62]),
    ],
)
def test_repeats_are_played(music: str, expected: list[int]) -> None:
    assert pitches(HEAD + music + "\n") == expected


@pytest.mark.parametrize(
    ("field", "semitones"),
    [("K:C transpose=-2", -2), ("K:C octave=1", 12), ("K:C clef=treble-8", -12), ("K:C bass+8", 12), ("K:C bass", 0)],
)
def test_transposed_music_sounds_where_it_says(field: str, semitones: int) -> None:
    assert pitches(HEAD.replace("K:C", field) + "CDEF|]\n") == [60 + semitones + at for at in (0, 2, 4, 5)]


def test_a_voice_may_be_transposed_alone() -> None:
    first, second = voices(HEAD + "V:1\nC4|]\nV:2 clef=treble-8\nC4|]\n")
    assert (first[0][2], second[0][2]) == (60, 48)
    before = HEAD.replace("K:C", "V:1\nV:2 clef=bass-8\nK:C")
    low = voices(before + "V:1\nC4|]\nV:2\nC4|]\nV:3\nC4|]\n")
    assert [notes[0][2] for notes in low] == [60, 48, 60]


def test_a_percent_sign_within_quotes_begins_no_comment() -> None:
    assert pitches(HEAD + '"^50% slower"CDEF|GABc|] % a comment: cabbage\n') == SCALE


def test_a_tune_without_a_key_is_refused_alone() -> None:
    without, whole = pieces("X:1\nT:Sketch\nCDEF|]\n\n" + HEAD + "CDEF|]\n")
    assert "K:" in without.refused
    assert not whole.refused
    assert np.array_equal(whole.tracks[0].notes[:, 2], SCALE[:4])


@pytest.mark.parametrize(
    ("key", "expected", "told"),
    [
        ("em", "E minor", False),
        ("bbdor", "Bb dorian", False),
        ("f# min clef=bass", "F# minor", False),
        ("e", "", True),  # minor, as some write it, or major?
        ("bb", "", True),
        ("Quux", "", True),
        ("bass", "", False),
        ("clef=alto", "", False),
        ("none", "", False),
        ("", "", False),
    ],
)
def test_keys_in_small_letters_are_read_where_they_say_the_mode_else_told(key, expected, told) -> None:
    tune = parse_tune(f"X:1\nL:1/4\nK:{key}\nfcBe|\n")
    assert tune.key == expected
    assert ("key that can't be read: no sharps or flats (kept)" in tune.lost) == told


def test_chords_between_plus_signs_sound_and_decorations_do_not() -> None:
    tune = parse_tune('X:1\nL:1/4\nK:C\n+CEG+2"C+"+trill+ce+trill+|+_E2G2+ +ff+d +a+ +fine+|\n')
    notes = [(element.pitches, element.length) for element in tune.voices["1"].elements if element.kind == "note"]
    assert notes == [((60, 64, 67), 2), ((72,), 1), ((76,), 1), ((63, 67), 2), ((74,), 1)]


@pytest.mark.parametrize(
    "drums",
    [
        "V:1 clef=perc",
        'V:1 perc name="treble"',
        "V:1\n%%MIDI channel 10",
        "V:1\nI:MIDI channel 10",
        "V:1\nK:C clef=perc",
    ],
)
def test_beats_of_percussion_are_no_pitches(drums: str) -> None:
    (piece,) = pieces(f"{HEAD}V:1 {drums}\nA [AB] AA|\nV:2 clef=treble\nCDEF|\n")
    assert [track.notes[:, 2].tolist() for track in piece.tracks] == [[60, 62, 64, 65]]
    assert piece.left_out == {"drum": 5}


def test_a_tune_of_percussion_alone_is_refused() -> None:
    (piece,) = pieces(HEAD.replace("K:C", "K:none clef=perc") + "ABAB|\n")
    assert piece.refused == "has only drums"
