"""The pictures of docs/bptt.md show what they say, on a small scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from docs.tools import vanishing
from docs.tools.vanishing import adding, learn, relative_norms, untrained


def test_the_norm_at_the_last_step_is_the_unit_and_the_radius_decides_the_rest() -> None:
    x_BTI, _ = adding(40, 16)
    at_lag_39 = {}
    for radius in (0.5, 1.0, 2.0):
        lesson = untrained("rnn", radius=radius)
        found = torch.linalg.eigvals(lesson.cell.weight_hh.detach()).abs().max().item()
        assert found == pytest.approx(radius, rel=1e-4)
        norms = relative_norms(lesson, x_BTI)
        assert norms.shape == (40,)
        assert norms[0] == pytest.approx(1.0)
        at_lag_39[radius] = norms[39]
    assert at_lag_39[0.5] < 1e-6 < at_lag_39[1.0] < 1 < at_lag_39[2.0]


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_making_and_probing_a_cell_draws_no_random_number_of_the_programs(kind) -> None:
    before = torch.get_rng_state()
    lesson = untrained(kind)
    relative_norms(lesson, adding(5, 4)[0])
    assert torch.equal(before, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in lesson.cell.parameters())
    assert torch.equal(lesson.cell.weight_hh, untrained(kind).cell.weight_hh)


@pytest.mark.slow
def test_without_clipping_a_large_radius_diverges_and_with_it_it_learns() -> None:
    examples = adding(vanishing.SHORT_LAG, 3200)
    lost, clipped = (
        learn(untrained("rnn", radius=vanishing.LARGE_RADIUS), examples, vanishing._sgd, updates=300, clip_norm=norm)
        for norm in (None, 1.0)
    )
    assert max(lost.norms) > 1e6
    assert len(lost.errors) < 300, "it ends where nothing is finite"
    assert np.mean(clipped.errors[-50:]) < np.mean(clipped.errors[:50])


@pytest.mark.slow
def test_learning_stops_when_it_is_enough() -> None:
    lesson = learn(untrained("gru"), adding(4, 640), vanishing._adam, updates=500, clip_norm=1.0, enough=0.1)
    assert 1 < len(lesson.errors) == len(lesson.norms) < 500
    assert np.mean(lesson.errors[-vanishing.SMOOTH :]) < 0.1


@pytest.mark.slow
def test_the_pictures_are_drawn(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(vanishing, "LAG", 12)
    lessons = vanishing.write_vanishing(tmp_path / "new" / "vanishing.png", updates=3)
    assert set(lessons) == {"rnn", "gru", "lstm"}
    vanishing.write_exploding(tmp_path / "exploding.png", updates=15)
    for path in (tmp_path / "new" / "vanishing.png", tmp_path / "exploding.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_curve_that_leaves_the_picture_ends_beyond_its_edge() -> None:
    assert vanishing._off_the_picture([1.0, 2.0, 30.0, 1.0], 10.0).tolist() == [1.0, 2.0, 100.0]
    assert vanishing._off_the_picture([1.0, float("nan"), 2.0], 10.0).tolist() == [1.0, 100.0]
    assert vanishing._off_the_picture([1.0, 2.0], 10.0).tolist() == [1.0, 2.0]
    assert vanishing._smooth([2.0, 4.0, 6.0]).tolist() == [2.0, 3.0, 4.0]
    assert vanishing._smooth([0.0] * 20 + [20.0])[-1] == 1.0
