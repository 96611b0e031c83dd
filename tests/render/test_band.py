"""The band keeps to the chords, the ranges and the form; the same seed gives the same notes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UserError
from components.harmony import KINDS, Symbol, chord_tones
from components.progressions import FORMS, parse_progression
from components.render.audio import synthesise
from components.render.band import BASS_RANGE, PIANO_RANGE, accompaniment, voice
from components.render.midi import write_midi
from components.score import Chord, Note, Part, Score

STYLES = st.sampled_from(["swing", "straight", "folk"])


@st.composite
def songs(draw):
    """Any chords on any grid, with gaps, off-beat changes, an upbeat and a melody; or a form."""
    if draw(st.booleans()):
        steps = draw(st.sampled_from([4, 12]))
        form = f"{draw(st.sampled_from(sorted(FORMS)))} in {draw(st.sampled_from(['C', 'F', 'Eb', 'B']))}"
        return Score((), steps, chords=parse_progression(form, steps_per_beat=steps))
    metre = draw(st.sampled_from([(4, 4), (3, 4), (2, 4), (6, 8), (5, 4)]))
    steps = draw(st.sampled_from([2, 4, 6, 12, 24]))
    chords, start = [], draw(st.integers(0, 2 * steps))
    for _ in range(draw(st.integers(1, 6))):
        duration = draw(st.integers(1, 6 * steps))
        bass = draw(st.none() | st.integers(0, 11))
        chords.append(Chord(start, duration, draw(st.integers(0, 11)), draw(st.sampled_from(sorted(KINDS))), bass))
        start += duration + draw(st.sampled_from([0, 0, 0, steps]))
    melody = Part("Melody", (Note(0, steps, 72), Note(steps, 1, 74)), role="melody")
    upbeat = draw(st.sampled_from([0, steps]))
    return Score((melody,), steps, metre, upbeat, chords=tuple(chords))


def parts(score: Score) -> tuple[Part, Part]:
    piano, bass = score.parts[-2:]
    assert (piano.role, bass.role) == ("chords", "bass")
    return piano, bass


def chord_of(score: Score, step: int) -> Chord:
    return next(chord for chord in score.chords if chord.start <= step < chord.start + chord.duration)


@pytest.mark.slow
@given(song=songs(), style=STYLES, seed=st.integers(0, 5))
def test_the_band_stays_in_range_in_order_and_within_the_chords(song, style, seed):
    score = accompaniment(song, style, seed)
    piano, bass = parts(score)
    assert bass.notes
    assert all(BASS_RANGE[0] <= n.pitch <= BASS_RANGE[1] for n in bass.notes)
    assert all(PIANO_RANGE[0] <= n.pitch <= PIANO_RANGE[1] for n in piano.notes)
    end = max(chord.start + chord.duration for chord in score.chords)
    for part in (piano, bass):
        assert list(part.notes) == sorted(part.notes, key=lambda n: n.start)
        assert all(n.duration > 0 and 1 <= n.velocity <= 127 and n.start + n.duration <= end for n in part.notes)
        assert all(chord_of(score, n.start) for n in part.notes)
    assert all(a.start + a.duration <= b.start for a, b in pairwise(bass.notes)), "one bass note at a time"
    by_start = defaultdict(list)
    for note in piano.notes:
        by_start[note.start].append(note)
    strokes = sorted(by_start)
    assert all(by_start[a][0].start + by_start[a][0].duration <= b for a, b in pairwise(strokes))
    assert all(len({n.pitch for n in notes}) == len(notes) for notes in by_start.values())


@pytest.mark.slow
@given(song=songs(), style=STYLES, seed=st.integers(0, 5))
def test_the_bass_plays_the_root_where_a_chord_begins(song, style, seed):
    score = accompaniment(song, style, seed)
    begins = {note.start: note.pitch % 12 for note in parts(score)[1].notes}
    for chord in score.chords:
        assert begins[chord.start] == (chord.root if chord.bass is None else chord.bass)


@pytest.mark.slow
@given(song=songs(), style=STYLES)
def test_the_same_seed_gives_the_same_notes(song, style):
    assert accompaniment(song, style, 3) == accompaniment(song, style, 3)


@pytest.mark.slow
def test_another_seed_gives_other_notes():
    song = Score((), 12, chords=parse_progression("blues in F"))
    assert len({accompaniment(song, seed=seed).parts for seed in range(5)}) == 5


@pytest.mark.parametrize("seed", range(5))
def test_a_walk_has_a_note_a_beat_chord_tones_on_strong_beats_and_no_wild_leap(seed):
    score = accompaniment(Score((), 12, chords=parse_progression("blues in F x2")), seed=seed)
    _, bass = parts(score)
    on_beats = {n.start: n.pitch for n in bass.notes if n.start % 12 == 0}
    assert sorted(on_beats) == list(range(0, 24 * 48, 12))
    assert all(p % 12 in chord_tones(chord_of(score, s)) for s, p in on_beats.items() if s % 24 == 0)
    leaps = [abs(b - a) for a, b in pairwise(on_beats.values())]
    assert max(leaps) <= 12
    assert sum(leaps) / len(leaps) < 4.5
    assert leaps.count(0) < 4


@pytest.mark.parametrize("seed", range(5))
def test_the_walk_steps_into_most_new_chords(seed):
    score = accompaniment(Score((), 12, chords=parse_progression("rhythm changes in Bb")), seed=seed)
    on_beats = {n.start: n.pitch for n in parts(score)[1].notes if n.start % 12 == 0}
    into = [abs(on_beats[c.start] - on_beats[c.start - 12]) for c in score.chords[1:]]
    assert sum(interval in (1, 2, 5, 7) for interval in into) >= 0.9 * len(into)


@pytest.mark.slow
def test_swing_puts_off_beats_at_two_thirds_and_even_eighths_do_not():
    song = Score((), 4, chords=parse_progression("blues in F x4", steps_per_beat=4))
    for style, off in (("swing", 8), ("straight", 6)):
        score = accompaniment(song, style)
        assert score.steps_per_beat == 12
        assert {n.start % 12 for part in parts(score) for n in part.notes} == {0, off}


def test_a_grid_that_twelve_does_not_fit_is_kept():
    score = accompaniment(Score((), 24, chords=parse_progression("C | F", steps_per_beat=24)))
    assert score.steps_per_beat == 24
    assert {n.start % 24 for part in parts(score) for n in part.notes} <= {0, 16}


def test_the_melody_the_upbeat_and_the_form_are_kept():
    melody = Part("Melody", (Note(0, 2, 72), Note(2, 4, 76)), role="melody")
    song = Score((melody,), 4, (3, 4), 2, 26, chords=(Chord(2, 24, 0, "maj"),), metre_changes=((14, (3, 4)),))
    score = accompaniment(song)
    assert score.parts[0] == replace(melody, notes=(Note(0, 6, 72), Note(6, 12, 76)))
    assert (score.upbeat_steps, score.length_steps, score.metre_changes) == (6, 78, ((42, (3, 4)),))
    assert score.length_seconds == song.length_seconds
    assert min(n.start for part in parts(score) for n in part.notes) == 6


def test_every_chord_is_struck_by_the_piano_and_a_silent_bar_is_silent():
    score = accompaniment(Score((), 12, chords=parse_progression("Cm7 F7 | N.C. | Bbmaj7")), seed=1)
    piano, bass = parts(score)
    assert not [n for n in (*piano.notes, *bass.notes) if 48 <= n.start < 96]
    for chord in score.chords:
        struck = {n.pitch % 12 for n in piano.notes if chord.start - 6 <= n.start < chord.start + chord.duration}
        assert struck & {(chord.root + third) % 12 for third in (3, 4)}, chord


def test_folk_is_root_and_fifth_with_the_chord_after():
    score = accompaniment(Score((), 4, chords=parse_progression("C | G7", steps_per_beat=4)), "folk")
    piano, bass = parts(score)
    assert [(n.start // 12, n.pitch % 12) for n in bass.notes] == [(0, 0), (2, 7), (4, 7), (6, 2)]
    assert sorted({n.start // 12 for n in piano.notes}) == [1, 3, 5, 7]


@pytest.mark.parametrize(("metre", "beat", "struck"), [((6, 8), 3, [2, 5, 9]), ((4, 4), 2, [1, 3, 6])])
def test_folk_plays_a_chord_of_one_beat_late_in_it(metre, beat, struck):
    chords = (Chord(0, beat, 0, "maj"), Chord(beat, beat, 7, "maj"), Chord(2 * beat, 2 * beat, 0, "maj"))
    piano, _ = parts(accompaniment(Score((), 2, metre, chords=chords), "folk"))
    assert sorted({n.start // 6 for n in piano.notes}) == struck  # eighths


@pytest.mark.slow
@given(symbols=st.lists(st.builds(Symbol, st.integers(0, 11), st.sampled_from(sorted(KINDS))), min_size=2, max_size=12))
def test_voicings_hold_the_chord_and_move_little(symbols):
    before: tuple[int, ...] = ()
    for symbol in symbols:
        voicing = voice(symbol, before)
        assert 2 <= len(voicing) <= 4
        assert list(voicing) == sorted(set(voicing))
        assert PIANO_RANGE[0] <= voicing[0] < voicing[-1] <= min(PIANO_RANGE[1], voicing[0] + 12)
        third = {(symbol.root + tone) % 12 for tone in (3, 4) if tone in KINDS[symbol.kind].tones}
        assert not third or third & {pitch % 12 for pitch in voicing}
        if before:
            assert abs(voicing[-1] - before[-1]) <= 9
        before = voicing


def test_chords_out_of_order_or_on_top_of_each_other_are_sorted_out():
    chords = (Chord(24, 48, 5, "7"), Chord(0, 48, 0, "maj7"))
    score = accompaniment(Score((), 12, chords=chords))
    assert [(c.start, c.duration) for c in score.chords] == [(0, 24), (24, 48)]


def test_what_cannot_be_accompanied_is_refused():
    with pytest.raises(UserError, match="no chords"):
        accompaniment(Score(()))
    with pytest.raises(UserError, match="Did you mean 'swing'"):
        accompaniment(Score((), chords=(Chord(0, 4, 0, "maj"),)), "swng")
    for chord in (Chord(-4, 4, 0, "maj"), Chord(0, 1 << 40, 0, "maj")):
        with pytest.raises(UserError, match="last too long"):
            accompaniment(Score((), chords=(chord,)))


@pytest.mark.slow
def test_the_band_can_be_written_and_played(tmp_path):
    score = accompaniment(Score((), 12, tempo_bpm=160, chords=parse_progression("ii-V-I in C")))
    write_midi(score, tmp_path / "band.mid")
    assert (tmp_path / "band.mid").read_bytes()[:4] == b"MThd"
    assert abs(synthesise(score, 8000)).max() > 0.1
