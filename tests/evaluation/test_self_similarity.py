"""How alike the bars of a piece are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.evaluation.self_similarity import MOST_BARS, self_similarity, write_self_similarity
from components.score import Note, Part, Score

A, B = (60, 62, 64, 65), (67, 69, 71, 72)


def piece(*bars: tuple[int, ...], steps: int = 4, **facts) -> Score:
    """A melody of quarter notes; bars may be empty."""
    notes = [
        Note((4 * bar + beat) * steps, steps, pitch) for bar, row in enumerate(bars) for beat, pitch in enumerate(row)
    ]
    return Score((Part("Melody", tuple(notes), role="melody"),), steps, length_steps=16 * len(bars), **facts)


def test_by_hand() -> None:
    half = (60, 62, 71, 72)  # with each of A and B two of six notes are shared
    expected = [[1, 0, 1, 1 / 3], [0, 1, 0, 1 / 3], [1, 0, 1, 1 / 3], [1 / 3, 1 / 3, 1 / 3, 1]]
    assert self_similarity(piece(A, B, A, half)) == pytest.approx(np.array(expected))


def test_bars_of_rest_count_and_the_accompaniment_doesn_t() -> None:
    score = piece(A, (), (), A)
    assert self_similarity(score)[1].tolist() == [0, 1, 1, 0]
    bass = Part("Bass", tuple(Note(step, 4, 40 + step) for step in range(0, 64, 4)), role="bass")
    both = Score((*score.parts, bass), 4, length_steps=64)
    assert (self_similarity(both) == self_similarity(score)).all()
    assert self_similarity(Score(())).shape == (0, 0)


@given(st.lists(st.lists(st.integers(40, 90), max_size=4).map(tuple), max_size=9), st.sampled_from([1, 4, 12]))
def test_symmetric_from_0_to_1_and_1_on_the_diagonal_on_any_grid(bars, steps) -> None:
    values = self_similarity(piece(*bars, steps=steps))
    assert (values == values.T).all()
    assert (np.diag(values) == 1).all()
    assert values.size == 0 or (values.min() >= 0 and values.max() <= 1)
    assert (values == self_similarity(piece(*bars))).all()


def test_the_picture_shows_the_nearest_in_length(tmp_path) -> None:
    long = piece(*[A, B] * MOST_BARS)
    assert len(self_similarity(long)) == MOST_BARS
    pictures = []
    for name, held_out in (("one", [piece(A, A, B, B)]), ("two", [long, piece(A, A, B, B)])):
        write_self_similarity(tmp_path / name, piece(A, B, A), held_out, title="A $piece")
        pictures.append(np.asarray(Image.open(tmp_path / name).convert("L")))
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] < 100).mean() > 0.05
