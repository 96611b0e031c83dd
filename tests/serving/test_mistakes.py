"""What is wrong with an input is told of the kind of input that it comes closest to."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from components.serving.problems import ANY_INPUT, mistake
from components.serving.requests import PredictRequest


def told(*inputs: Any) -> dict[str, str | None]:
    with pytest.raises(ValidationError) as caught:
        PredictRequest(model="m", inputs=list(inputs))
    return mistake([{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()])


@pytest.mark.parametrize(
    ("given", "where", "what"),
    [
        ("", "", "at least 1 character"),
        (7, "", ANY_INPUT),
        (None, "", ANY_INPUT),
        (["a", 2], ".1", "valid string"),
        ([[0.5, 1], [2, "x"]], ".1.1", "valid number"),
        ({"values": [3, None], "start": "2024-05-06"}, ".values.1", "valid number"),
        ({"values": [3, math.nan]}, ".values.1", "finite number"),
        ({"values": [3], "begin": "2024-05-06"}, ".begin", "not permitted"),
        ({"wav_base64": 5}, ".wav_base64", "valid string"),
    ],
)
def test_a_mistake_is_told_with_its_place(given, where, what) -> None:
    found = told("a text", given)
    assert found["where"] == f"body.inputs.1{where}"
    assert what in (found["error"] or "")
    assert found["hint"] is None


def test_other_mistakes_are_told_as_pydantic_has_them() -> None:
    with pytest.raises(ValidationError) as caught:
        PredictRequest.model_validate({"model": "m", "inputs": "text", "more": 1})
    found = mistake(caught.value.errors())
    assert (found["where"], found["hint"]) == ("inputs", "and 1 more")
