"""The spectral radius of recurrent weights, without an eigendecomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.layers.rnn import RNN
from components.training.spectrum import spectral_radius, weight_figures


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 24), scale=st.floats(1e-150, 1e150), symmetric=st.booleans())
def test_the_spectral_radius_is_the_largest_absolute_eigenvalue(seed, size, scale, symmetric) -> None:
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    matrix = matrix + matrix.t() if symmetric else matrix
    assert spectral_radius(matrix) == pytest.approx(float(torch.linalg.eigvals(matrix).abs().max()), rel=5e-3)


def test_the_spectral_radius_of_matrices_without_one_dominant_eigenvalue() -> None:
    turn = torch.tensor([[0.0, -2.0], [2.0, 0.0]], dtype=torch.float64)  # ± 2i
    assert spectral_radius(turn) == pytest.approx(2.0, rel=1e-3)
    assert spectral_radius(torch.zeros(3, 3)) == 0
    assert spectral_radius(torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == 0  # nilpotent: its norm is 1
    assert np.isnan(spectral_radius(torch.full((2, 2), torch.nan)))


def test_weights_that_are_not_finite_have_no_figures_and_print_none(capfd) -> None:
    layer = RNN(3, hidden_size=4)
    assert set(weight_figures(layer)) == {"spectral_radius", "spectral_radius_max", "singular_max"}
    with torch.no_grad():
        layer.weight_hh[0, 0] = torch.nan
    assert weight_figures(layer) == {}
    assert capfd.readouterr() == ("", "")
