"""Notes kept as columns: the same notes, and written down as they would be one by one."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.form import METRES, tempo_class
from components.encodings.notes import FIRST, PITCH0, REST, Notes
from components.encodings.vocabulary import BOS, EOS, PAD
from components.score import Note, PackedNotes, Part, Score, note_columns

notes = st.lists(
    st.builds(Note, st.integers(0, 300), st.integers(1, 96), st.integers(0, 127), st.integers(1, 127)),
    min_size=1,
    max_size=40,
)


def written_plainly(encoding: Notes, item: Score) -> np.ndarray:
    """`encode` note by note: the obvious version."""
    scale = Fraction(encoding.steps_per_beat, item.steps_per_beat)
    longest: dict[tuple[int, int], Note] = {}
    for n in (n for part in item.parts if part.role != "drums" for n in part.notes):
        note = Note(round(n.start * scale), max(1, round(n.duration * scale)), n.pitch, n.velocity)
        other = longest.get((note.pitch, note.start))
        if other is None or other.duration < note.duration:
            longest[note.pitch, note.start] = note
    after: dict[int, int] = {}
    notes = []
    for (pitch, start), note in sorted(longest.items(), reverse=True):
        notes.append(replace(note, duration=min(note.duration, after.get(pitch, 10**9) - start)))
        after[pitch] = start
    rows = [(0, FIRST + METRES.index(item.metre), round(item.upbeat_steps * scale), tempo_class(item.tempo_bpm))]
    rows += [
        (round(step * scale), FIRST + METRES.index(metre), 0, tempo_class(item.tempo_bpm))
        for step, metre in item.metre_changes
    ]
    loudest = encoding.velocities - 1
    for n in notes:
        loud = min(n.velocity * encoding.velocities // 128, loudest)
        rows.append((n.start, PITCH0 + n.pitch, min(n.duration, encoding.longest), loud))
    rows.sort(key=lambda row: row[:2])
    end = max([round(item.length_steps * scale), *(note.start + note.duration for note in notes)])
    steps = [(BOS,) * 4]
    for (start, pitch, duration, loud), (until, *_) in pairwise([*rows, (end,)]):
        gap = min(until - start, encoding.longest)
        steps.append((pitch, FIRST + duration, FIRST + gap, FIRST + loud))
        for waited in range(start + gap, until, encoding.longest):
            steps.append((REST, PAD, FIRST + min(until - waited, encoding.longest), PAD))
    return np.array([*steps, (EOS, PAD, PAD, PAD)])


@pytest.mark.slow
@given(upper=notes, lower=notes, grid=st.sampled_from([4, 7, 12, 24]), change=st.integers(1, 5), packed=st.booleans())
def test_columns_are_written_as_note_by_note(upper, lower, grid, change, packed) -> None:
    encoding = Notes(longest_beats=2)
    kept = (PackedNotes(note_columns(part)) if packed else tuple(part) for part in (upper, lower))
    parts = tuple(Part(str(number), part) for number, part in enumerate(kept))
    length = max(change * 4 * grid + 1, *(note.start + note.duration for note in (*upper, *lower)))
    item = Score(parts, grid, upbeat_steps=2, length_steps=length, metre_changes=((change * 4 * grid, (3, 4)),))
    written = np.stack(list(encoding.encode(item).values()), axis=-1)
    assert (written == written_plainly(encoding, item)).all()


@pytest.mark.slow
@given(notes)
def test_packed_notes_are_those_notes(given_notes) -> None:
    plain = tuple(given_notes)
    packed = PackedNotes(note_columns(plain))
    assert packed == plain
    assert PackedNotes(packed.columns.copy()) == packed
    assert hash(packed) == hash(plain)
    assert (*packed,) == plain
    assert (packed[1:], packed[-1], len(packed)) == (plain[1:], plain[-1], len(plain))
    assert packed != plain[:-1]
    assert Part("a", packed) == Part("a", plain)
