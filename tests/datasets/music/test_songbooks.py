"""What songbooks write in their own way: chords and keys in German, tempos, bars that don't fit the metre."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.datasets.music.formats.abc_notation import read_abc
from components.datasets.music.formats.grid import UNEVEN
from components.datasets.music.formats.notation import read_notation
from components.datasets.music.reader import MusicReader

OPTIONS = {"steps_per_beat": 12, "max_seconds": 1800.0, "beats": "file"}
GERMAN = "chord symbol in German: H read as B, Fis as F# (kept)"


def abc(body: str, *fields: str, key: str = "C"):
    head = "\n".join(["X:7", "T:t", "M:4/4", "L:1/4", *fields, f"K:{key}"])
    (piece,) = read_abc(f"{head}\n{body}\n".encode(), "t.abc", OPTIONS)
    return piece


def test_in_a_songbook_with_h_a_b_is_b_flat() -> None:
    piece = abc('"H7"ABcd|"Em"edcB|"B"ABcd|"F/B"edcB|"Bb"ABcd|"Fis7"edcB|"As"ABcd|"Cis/H"edcB|')
    assert [(chord.root, chord.bass) for chord in piece.chords] == [
        (11, None), (4, None), (10, None), (5, 10), (10, None), (6, None), (8, None), (1, 11),
    ]  # fmt: skip
    assert piece.left_out[GERMAN] == 4
    assert piece.left_out["chord symbol B, read as B flat: others of the file are called H (kept)"] == 2
    piece = abc('"B7"ABcd|"B"edcB|"Asus4"ABcd|"Esus4"edcB|')
    assert [chord.root for chord in piece.chords] == [11, 11, 9, 4]
    assert not piece.left_out


def test_h_in_one_tune_tells_what_b_means_in_the_others() -> None:
    tunes = "".join(f'X:{at}\nT:t\nM:4/4\nL:1/4\nK:C\n"{chord}"ABcd|edcB|\n\n' for at, chord in enumerate("BH"))
    assert [piece.chords[0].root for piece in read_abc(tunes.encode(), "t.abc", OPTIONS)] == [10, 11]


@pytest.mark.parametrize(
    ("key", "read"),
    [
        ("Es", ""), ("As", ""), ("Bes", ""), ("Dur", ""), ("Dfoo", ""),
        ("A-Moll", "A minor"), ("d moll", "D minor"), ("F Dur", "F major"), ("G treble", "G major"),
        ("F# m", "F# minor"), ("Bbmix", "Bb mixolydian"), ("G", "G major"),
    ],
)  # fmt: skip
def test_a_key_is_read_whole_or_told(key: str, read: str) -> None:
    piece = abc("ABcd|", key=key)
    assert piece.key == read
    assert ("key that can't be read: no sharps or flats (kept)" in piece.left_out) == (not read)


@pytest.mark.parametrize(
    ("tempo", "bpm"),
    [
        ("1/4=92.5", 92.5), ("3/8=60", 90), ("1/8 3/8=50", 100), ("1/4=100-116", 100), ("126", 126), ("1/4", 120),
        ('"Andante" 1/2=40', 80), ("1/4=4000", 120),
    ],
)  # fmt: skip
def test_tempos(tempo: str, bpm: float) -> None:
    assert abc("ABcd|", f"Q:{tempo}").tempo_bpm == bpm


@pytest.mark.parametrize(
    ("fields", "bpm"),
    [
        (("L:1/8", "Q:C=100"), 50), (("Q:C3=40", "L:1/8"), 60), (("L:", "M:6/8", "Q: C3 = 80"), 120),
        (("L:", "M:2/4", "Q:c2=80"), 40), (("L:1/8", 'Q:"Slow" C2=60'), 60),
    ],
)  # fmt: skip
def test_an_old_tempo_counts_unit_note_lengths(fields: tuple[str, ...], bpm: float) -> None:
    (piece,) = read_abc("\n".join(["X:1", *fields, "K:C", "ABcd|", ""]).encode(), "t.abc", OPTIONS)
    assert (piece.tempo_bpm, piece.left_out) == (bpm, {})
    piece = abc("ABcd|[L:1/8][Q:C=100]ABcd|", "Q:1/4=50")
    assert (piece.tempo_bpm, piece.tempo_changes) == (50, 0)


def test_a_tempo_without_a_note_length_and_a_missing_one_are_told() -> None:
    what = "tempo without a note length, read in quarter notes a minute (kept)"
    piece = abc("ABcd|", "L:1/8", "Q:90")
    assert (piece.tempo_bpm, piece.left_out) == (90, {what: 1})
    assert "no tempo in the file: 120 is assumed" in abc("ABcd|", 'Q:"Andante"').remarks
    assert not abc("ABcd|", "Q:90").remarks


def test_metre_and_unit_note_length_of_the_file_header_hold_for_all_tunes() -> None:
    tunes = "%abc-2.1\nM:3/4\nL:1/16\nR:waltz\n\nX:1\nK:C\nA4B4c4|\n\nX:2\nM:2/4\nL:1/4\nK:C\nAB|\n"
    first, second = read_abc(tunes.encode(), "t.abc", OPTIONS)
    assert (first.metre, first.tracks[0].notes[:, 1].tolist()) == ((3, 4), [12] * 3)
    assert (second.metre, second.tracks[0].notes[:, 1].tolist()) == ((2, 4), [12] * 2)


def test_invisible_rests_of_bars_take_time_and_macros_are_told() -> None:
    for rest in "XZ":
        notes = abc(f"ABcd|{rest}2|edcB|").tracks[0].notes
        assert notes[:, 0].tolist() == [0, 12, 24, 36, 144, 156, 168, 180]
    assert abc("ABcd|", "m: A = cBA").left_out == {"macro (m:), not expanded (kept)": 1}


@pytest.mark.parametrize(("said", "key"), [("", "F major"), ("*d:\n", "D minor"), ("*ITrd-1c-2\n", "F major")])
def test_humdrum_names_its_key_and_a_transposition_is_told(said: str, key: str) -> None:
    text = f"**kern\n*k[b-]\n{said}*M4/4\n*MM90\n4c\n4f\n4a\n4f\n==\n*-\n"
    (piece,) = read_notation(text.encode(), "t.krn", OPTIONS)
    told = {"transposition (*Tr, *ITr), read as written (kept)": 1} if "Tr" in said else {}
    assert (piece.key, piece.left_out) == (key, told)


def test_changes_of_tempo_are_counted_and_fields_that_cannot_be_read_told() -> None:
    assert abc("ABcd|[Q:1/4=60]ABcd|[Q:1/4=60]ABcd|", "Q:1/4=90").tempo_changes == 1
    assert abc("ABcd|").tempo_changes == 0
    piece = abc("ABcd|", "M:2/4+3/4", "L:0.25")
    assert {reason.partition(" that")[0] for reason in piece.left_out} == {"metre", "unit note length"}


def test_beats_that_are_missing_are_told_and_upbeats_are_not() -> None:
    for body, told in (
        ("ABcd|ABc|ABcd|ABcd|ABcd|", True),
        ("ABcd|ABcde|ABcd|ABcd|ABcd|", True),
        ("A|ABcd|ABcd|ABcd|ABc:|d|ABcd|ABcd|ABc:|", False),
        ("ABcd|ABcd|ABcd|ABcd|", False),
    ):
        assert any(UNEVEN in remark for remark in abc(body).remarks) == told


def test_missing_beats_are_told_by_ingestion(tmp_path: Path) -> None:
    (tmp_path / "a.abc").write_text("X:1\nT:t\nM:3/4\nL:1/4\nK:C\nABc|AB|ABc|ABc|ABc|\n", encoding="utf-8")
    reader = MusicReader([tmp_path / "a.abc"])
    assert len(list(reader.items())) == 1
    assert f"a.abc, 't': {UNEVEN} (4 of 5): beats are missing or too many" in reader.notes


@pytest.mark.slow
def test_missing_beats_of_musicxml_are_told_and_a_transposition_by_an_octave_needs_no_diatonic() -> None:
    note = "<note><pitch><step>D</step><octave>4</octave></pitch><duration>1</duration></note>"
    time = "<divisions>1</divisions><time><beats>4</beats><beat-type>4</beat-type></time>"
    for counts, told in (([4, 4, 4, 4, 4], False), ([4, 3, 4, 4, 4], True)):
        move = "<transpose><chromatic>-2</chromatic><octave-change>-1</octave-change></transpose>"
        bars = [f"<attributes>{time}{move}</attributes>{note * counts[0]}", *(note * count for count in counts[1:])]
        body = "".join(f"<measure number='{at}'>{bar}</measure>" for at, bar in enumerate(bars, 1))
        part = "<part-list><score-part id='P1'><part-name>a</part-name></score-part></part-list>"
        xml = f"<score-partwise>{part}<part id='P1'>{body}</part></score-partwise>"
        (piece,) = read_notation(xml.encode(), "a.musicxml", OPTIONS)
        assert set(piece.tracks[0].notes[:, 2]) == {62 - 2 - 12}
        assert any(UNEVEN in remark for remark in piece.remarks) == told
