"""Inputs of models whose numbers would be read as others, or answer another question."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from components.answers import read
from components.datasets.series.given import given_series
from components.encodings.frames import Frames
from components.encodings.series import SeriesValues
from components.encodings.spelled import Spelled
from components.errors import UserError

MASKED = np.ma.masked_array(np.full((4, 1), 0.5), mask=[[False], [True], [False], [False]])


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ([0.1, 0.2, 0.3], "one list of numbers"),
        (np.zeros(3), "one list of numbers"),
        ([["0.1"], ["0.2"]], "must be lists of numbers"),
        ([[10**400]], "below 1e308"),
        (MASKED, "some numbers are masked"),
    ],
)
def test_frames_that_numpy_would_read_otherwise_are_refused(given: Any, what: str) -> None:
    with pytest.raises(UserError, match=what):
        read(Frames(), given, "inputs[0]")


def test_frames_are_read_as_they_are() -> None:
    for given in ([[0.5], [0.5]], np.full((2, 1), 0.5), MASKED[:1]):
        assert (read(Frames(), given, "inputs[0]") == 0.5).all()


def test_blank_words_are_refused_as_blank_texts_are() -> None:
    with pytest.raises(UserError, match="word 2 is blank"):
        read(Spelled(), ["Anna", " "], "inputs[0]")


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"start": "01/02/2024"}, "may have the day or the month first"),
        ({"values": ["1", "2", "3"]}, "not of texts"),
        ({"values": [True, False, True]}, "truth values"),
        ({"values": [10**400, 1, 2]}, "below 1e308"),
        ({"values": MASKED[:, 0]}, "masked"),
    ],
)
def test_series_that_may_be_read_otherwise_are_refused(changed: dict[str, Any], what: str) -> None:
    encoding = SeriesValues()
    encoding.freq, encoding.season, encoding.horizon, encoding.named = "D", 7, 2, ()
    given = {"values": [1.0, 2.0, 3.0], "start": "2024-02-01"}
    assert given_series(given, encoding, "inputs[0]").values.tolist() == [1, 2, 3]
    with pytest.raises(UserError, match=what):
        given_series(given | changed, encoding, "inputs[0]")
