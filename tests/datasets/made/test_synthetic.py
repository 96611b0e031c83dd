"""Examples made on the spot: the same for the same seed, solvable, and bounded."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.made.synthetic import ALPHABET, BLANK, RECALL, AddingProblem, CopyMemory
from components.datasets.sources import build
from components.errors import UserError

seeds = st.integers(0, 2**32 - 1)


@given(lag=st.integers(1, 60), length=st.integers(1, 12), symbols=st.integers(2, 26), seed=seeds)
def test_what_is_to_be_copied_is_due_lag_and_length_steps_later(lag, length, symbols, seed) -> None:
    for inputs, target in CopyMemory(lag=lag, length=length, symbols=symbols, count=3, seed=seed).items():
        assert len(inputs) == len(target) == lag + 2 * length
        assert target[lag + length :] == inputs[:length]
        assert set(inputs[:length]) <= set(ALPHABET[:symbols])
        assert [step for step, symbol in enumerate(inputs) if symbol == RECALL] == [lag + length - 1]
        assert set(target[: lag + length]) == {""}
        assert set(inputs[length : lag + length - 1]) | set(inputs[lag + length :]) == {BLANK}


@given(lag=st.integers(2, 80), seed=seeds)
def test_the_target_of_adding_is_the_sum_of_the_two_marked(lag, seed) -> None:
    for inputs, target in AddingProblem(lag=lag, count=3, seed=seed).items():
        assert inputs.shape == (lag, 2)
        assert inputs.dtype == np.float32
        values, marks = inputs.T
        assert ((values >= 0) & (values < 1)).all()
        first, second = np.flatnonzero(marks)
        assert first < lag // 2 <= second
        assert marks.sum() == 2
        assert target == pytest.approx(float(values[first]) + float(values[second]))


@pytest.mark.slow
def test_the_scores_without_memory_are_those_of_the_data() -> None:
    sums = np.array([target for _, target in AddingProblem(lag=10, count=20_000).items()])
    assert np.mean((sums - 1) ** 2) == pytest.approx(AddingProblem.without_memory, rel=0.03)
    copy = CopyMemory(lag=30, length=10, symbols=8)
    assert copy.without_memory == pytest.approx(math.log(8))
    said = [symbol for _, target in CopyMemory(length=10, count=500).items() for symbol in target[-10:]]
    shares = np.array([said.count(symbol) for symbol in ALPHABET[:8]]) / len(said)
    assert np.abs(shares - 1 / 8).max() < 0.02, "no symbol can be guessed"


@pytest.mark.parametrize("reader", [CopyMemory, AddingProblem])
def test_the_same_options_give_the_same_examples_and_digest(reader) -> None:
    def read(**options) -> list:
        return [[np.asarray(part).tolist() for part in item] for item in reader(lag=20, count=5, **options).items()]

    assert read(seed=3) == read(seed=3)
    assert read(seed=3) != read(seed=4)
    again = reader(lag=20, count=5, seed=3)
    assert [str(item) for item in again.items()] == [str(item) for item in again.items()], "items() reads anew"
    longer = [[np.asarray(part).tolist() for part in item] for item in reader(lag=20, count=7, seed=3).items()]
    assert longer[:5] == read(seed=3), "an example is a function of its own number"
    digests = {reader(lag=20, count=5, seed=seed).digest() for seed in (3, 3, 4)}
    digests |= {reader(lag=21, count=5, seed=3).digest(), reader(lag=20, count=6, seed=3).digest()}
    assert len(digests) == 4


def test_the_two_problems_have_different_digests() -> None:
    assert CopyMemory().digest() != AddingProblem().digest()


@pytest.mark.parametrize(
    ("reader", "options", "message"),
    [
        ("copy-memory", {"lag": 0}, "data.lag: .*not 0"),
        ("copy-memory", {"symbols": 27}, "data.symbols: .*not 27"),
        ("copy-memory", {"symbols": 1}, "data.symbols: .*not 1"),
        ("copy-memory", {"length": 0}, "data.length: .*not 0"),
        ("copy-memory", {"count": 0}, "data.count: .*not 0"),
        ("copy-memory", {"seed": -1}, "data.seed: .*not -1"),
        ("copy-memory", {"lag": 10_000, "count": 10_000_000}, "10,000,000 examples"),
        ("adding", {"lag": 1}, "data.lag: .*not 1"),
        ("adding", {"lag": 10_000, "count": 100_000}, "more than 100,000,000"),
    ],
)
def test_options_that_make_no_sense_are_refused(reader, options, message) -> None:
    with pytest.raises(UserError, match=message):
        build("reader", reader, options, (), [])


def test_data_that_are_made_have_no_files() -> None:
    with pytest.raises(UserError, match="makes its own data"):
        AddingProblem([Path("numbers.csv")])
