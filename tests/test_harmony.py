"""Chord symbols mean their notes, notes find their symbol, progressions and forms are read bar by bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UserError
from components.harmony import (
    KINDS,
    ROOTS,
    SCALES,
    Key,
    Symbol,
    chord_scale,
    chord_tones,
    find_key,
    format_chord,
    match_chord,
    parse_chord,
    parse_key,
)
from components.progressions import FORMS, _can_share, parse_progression
from components.score import Chord, Score


@st.composite
def symbols(draw):
    root, bass = draw(st.integers(0, 11)), draw(st.none() | st.integers(0, 11))
    return Symbol(root, draw(st.sampled_from(sorted(KINDS))), None if bass == root else bass)


@given(symbol=symbols())
def test_a_symbol_comes_back_from_its_text(symbol):
    assert parse_chord(format_chord(symbol)) == symbol


@given(symbol=symbols())
def test_a_chord_in_root_position_is_found_from_its_notes(symbol):
    assert match_chord(chord_tones(symbol), symbol.root) == symbol._replace(bass=None)


@given(notes=st.sets(st.integers(0, 11)), bass=st.none() | st.integers(0, 11))
def test_what_is_found_explains_most_of_the_notes(notes, bass):
    found = match_chord(notes, bass)
    assert found is not None or len(notes) != 3 or len({(b - a) % 12 for a in notes for b in notes} & {1, 2}) > 0
    if found is not None:
        assert 2 * len(notes & chord_tones(found)) >= len(notes) >= 2


def test_every_kind_is_told_apart_and_lies_in_its_scale():
    assert len({frozenset(kind.tones) for kind in KINDS.values()}) == len(KINDS)
    inside = [name for name, kind in KINDS.items() if set(kind.tones) <= set(SCALES[kind.scale])]
    assert len(inside) >= len(KINDS) - 3, set(KINDS) - set(inside)
    assert all(tones[0] == 0 and len(set(tones)) == len(tones) for tones, _ in KINDS.values())


@pytest.mark.parametrize(
    ("spellings", "meant"),
    [
        ("Cmaj7 CM7 C^7 CΔ7 CΔ C^ Cma7 Cj7 Cmajor7", Symbol(0, "maj7")),
        ("C-7 Cmi7 Cmin7 Cm7 Cminor7", Symbol(0, "m7")),
        ("Bb B♭ A# BbM Bbmaj (Bb)", Symbol(10, "maj")),
        ("Cø Cø7 C-7b5 Cm7(b5) Cm7-5 Cmi7b5 Ch7", Symbol(0, "m7b5")),
        ("Cm(maj7) CmM7 C-Δ C-^7 Cmmaj7", Symbol(0, "mmaj7")),
        ("C°7 Co7 Cdim7", Symbol(0, "dim7")),
        ("D/f+ D/F# D/Gb", Symbol(2, "maj", 6)),
        ("G#d Abdim G#o G#°", Symbol(8, "dim")),
        ("E7(b9) E7-9 E7b9", Symbol(4, "7b9")),
        ("C6/9 C69 C6(add9)", Symbol(0, "69")),
        ("C/C", Symbol(0, "maj")),
        ("N.C. NC n.c.", None),
    ],
)
def test_one_chord_has_many_spellings(spellings, meant):
    for spelling in spellings.split():
        assert parse_chord(spelling) == meant, spelling


@pytest.mark.parametrize("text", ["", "H7", "dm7", "7", "C" * 100, "C/", "C/H", "Cfoo", "C/E/G/B", "(C", "C(b5)"])
def test_what_is_no_chord_is_refused_with_a_way_out(text):
    with pytest.raises(UserError) as error:
        parse_chord(text)
    assert error.value.hint


def test_the_nearest_chord_is_suggested():
    with pytest.raises(UserError, match="did you mean Dm7b5"):
        parse_chord("Dm7b55")


def test_the_tones_of_a_chord():
    assert chord_tones(Symbol(2, "m7")) == {2, 5, 9, 0}
    assert chord_tones(Chord(0, 4, 7, "7", 2)) == {7, 11, 2, 5}
    assert chord_scale(Symbol(2, "m7")) == Key(2, "dorian").pitch_classes == Key(0, "major").pitch_classes


@pytest.mark.parametrize(
    ("notes", "bass", "meant"),
    [
        ((0, 4, 7, 9), None, "Am7"),
        ((0, 4, 7, 9), 0, "C6"),
        ((4, 7, 0), 4, "C/E"),
        ((5, 11, 2), None, "Bdim"),
        ((7, 11, 5), 7, "G7"),  # no fifth
        ((6, 9, 0, 2), 6, "D7/F#"),
        ((0, 7), 0, "C5"),
        ((5, 9), 5, "F"),
    ],
)
def test_notes_find_the_symbol_a_player_would_write(notes, bass, meant):
    assert format_chord(match_chord(notes, bass)) == meant


def test_a_cluster_or_a_single_note_is_no_chord():
    assert match_chord([]) is match_chord([4, 16]) is match_chord(range(12)) is None


def test_keys_by_name():
    assert parse_key("F major") == parse_key("F") == parse_key(" F  MAJOR ") == Key(5, "major")
    assert parse_key("Bbm") == parse_key("B♭ minor") == parse_key("b♭") == Key(10, "minor")
    assert parse_key("D dorian").pitch_classes == parse_key("C").pitch_classes
    with pytest.raises(UserError, match="dorian"):
        parse_key("D dorain")
    for text in ("", "H major", "Fm major", "x" * 100):
        with pytest.raises(UserError):
            parse_key(text)


@given(tonic=st.integers(0, 11), scale=st.sampled_from(sorted(SCALES)))
def test_a_key_comes_back_from_its_text(tonic, scale):
    assert parse_key(str(Key(tonic, scale))) == Key(tonic, scale)


@given(tonic=st.integers(0, 11), mode=st.sampled_from(["major", "minor"]))
def test_a_scale_with_its_triad_stressed_is_in_its_key(tonic, mode):
    weights = [0.0] * 12
    for degree in Key(tonic, mode).pitch_classes:
        weights[degree] += 1
    for degree in Key(tonic, mode).pitch_classes & chord_tones(Symbol(tonic, "maj" if mode == "major" else "min")):
        weights[degree] += 1
    assert find_key(weights) == Key(tonic, mode)
    for sharps, pair in ((-1, {Key(5, "major"), Key(2, "minor")}), (4, {Key(4, "major"), Key(1, "minor")})):
        assert find_key(weights, sharps) in pair  # of the signature's two, whatever the notes
    assert find_key([1.0] * 12) == find_key([0.0] * 12) == Key(0, "major")


def written_out(chords: Sequence[Chord], metre: tuple[int, int] = (4, 4), steps_per_beat: int = 12) -> str:
    """The chords as text in bars from step 0: the inverse of `parse_progression` with the same metre."""
    bar_steps = Score((), steps_per_beat, metre).bar_steps
    end = max((chord.start + chord.duration for chord in chords), default=0)
    bars = []
    for first in range(0, end, bar_steps):
        inside = [c for c in chords if c.start < first + bar_steps and c.start + c.duration > first]
        edges = {edge - first for c in inside for edge in (c.start, c.start + c.duration)}
        grain = math.gcd(bar_steps, *(edge for edge in edges if 0 < edge < bar_steps))
        whole = range(bar_steps // grain, bar_steps + 1, bar_steps // grain)
        count = next((n for n in whole if _can_share(n, bar_steps, metre[0])), bar_steps)
        steps = range(first, first + bar_steps, bar_steps // count)
        cells = [next((format_chord(c) for c in inside if c.start <= s < c.start + c.duration), "N.C.") for s in steps]
        bars.append(" ".join(" ".join([cell, *["/"] * (len(list(run)) - 1)]) for cell, run in groupby(cells)))
    return " | ".join(bars) or "N.C."


@st.composite
def progressions(draw):
    """A written progression, its metre and its number of bars."""
    beats = draw(st.sampled_from([2, 3, 4]))
    bars = []
    for _ in range(draw(st.integers(1, 6))):
        cells = [draw(st.none() | symbols()) for _ in range(draw(st.sampled_from([1, 2, beats])))]
        bars.append(" ".join(map(format_chord, cells)))
    return " | ".join(bars), (beats, 4), len(bars)


@pytest.mark.slow
@given(written=progressions(), steps=st.sampled_from([4, 12]))
def test_a_progression_comes_back_from_its_text(written, steps):
    text, metre, bars = written
    chords = parse_progression(text, metre, steps)
    assert parse_progression(written_out(chords, metre, steps), metre, steps) == chords
    assert all(a.start + a.duration <= b.start for a, b in pairwise(chords))
    assert all(c.duration > 0 and c.start + c.duration <= bars * Score((), steps, metre).bar_steps for c in chords)
    twice = parse_progression(f"[{text}] x2", metre, steps)
    assert sum(c.duration for c in twice) == 2 * sum(c.duration for c in chords)
    assert twice == parse_progression(f"{text} x2", metre, steps)


def test_bars_are_shared_as_written():
    chords = parse_progression("Dm7 G7 | Cmaj7 | % |\n| Am7 / D7 G7 | N.C. C |", steps_per_beat=4)
    assert chords == (
        Chord(0, 8, 2, "m7"),
        Chord(8, 8, 7, "7"),
        Chord(16, 32, 0, "maj7"),
        Chord(48, 8, 9, "m7"),
        Chord(56, 4, 2, "7"),
        Chord(60, 4, 7, "7"),
        Chord(72, 8, 0, "maj"),
    )


@pytest.mark.parametrize(
    ("form", "bars", "first"),
    [
        ("blues in F", 12, "F7"),
        ("Minor blues in C", 12, "Cm7"),
        ("blues in C minor", 12, "Cm7"),
        ("basic blues in Bb x2", 24, "Bb7"),
        ("rhythm changes in Bb", 32, "Bb6"),
        ("ii-V-I in C", 4, "Dm7"),
        ("ii-V-I in Cm", 4, "Dm7b5"),
    ],
)
def test_forms_have_their_bars(form, bars, first):
    chords = parse_progression(form)
    assert chords[-1].start + chords[-1].duration == bars * 48
    assert format_chord(chords[0]) == first


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read_in_every_key(name):
    lengths = {sum(c.duration for c in parse_progression(f"{name} in {root}")) for root in ROOTS}
    assert len(lengths) == 1
    assert lengths.pop() % 48 == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Dm7 | G7q", "bar 2, character 7.*did you mean G7"),
        ("blus in F", "'blus'. Did you mean 'blues'"),
        ("C F G", "bar 1: 3 chords can't share a bar of 4/4"),
        ("", "no chords"),
        ("| |", "no chords"),
        ("[C | [F]] x2", "brackets can't be nested"),
        ("[C | F", r"\[ without \]"),
        ("C ] x2", r"\] without \["),
        ("C x2 | F", "which bars does x2 repeat"),
        ("% | C", "% needs a bar before"),
        ("C % | F", "% needs a bar of its own"),
        ("C | % G", "'G' can't be in the same bar as %"),
        ("/ C", "can't begin with /"),
        ("[C] x9999", "x9999 repeats 1 bars to 9,999"),
        ("[C] x0", "x0"),
        ("C |" * 3000, "at most 1,024 bars"),
        ("C |" * 20_000, "characters"),
        ("[C] x1000 [C] x1000", "at most 1,024 bars"),
    ],
)
def test_a_mistake_in_a_progression_is_placed_and_explained(text, told):
    with pytest.raises(UserError, match=r"(?s)chords.*" + told):
        parse_progression(text)


def test_a_bar_without_a_step_is_refused():
    with pytest.raises(UserError, match="too short for a grid"):
        parse_progression("C", (1, 32), 4)


@given(text=st.text(max_size=60) | st.text(alphabet="ABCm7b#|[]%/x2 .-", max_size=60))
def test_any_text_is_read_or_refused(text):
    for read in (parse_progression, parse_chord, parse_key):
        with suppress(UserError):
            assert read(text) is not False
