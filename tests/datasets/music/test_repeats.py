"""The order in which bars with repeat signs are played, counted by hand; signs that contradict each other are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.music.formats.abc_order import expand_parts
from components.datasets.music.formats.repeats import MOST_TIMES, Bar, Misfit, ending_numbers, played, read_words

OPEN, BACK = {"forward": True}, {"times": 2}


def ending(*numbers: int) -> dict:
    return {"ending": frozenset(numbers)}


# (bars A, B, … and what stands at each, the order in which they are played)
WRITTEN = {
    "back repeats alone": ([BACK, BACK, BACK], "AABBCC"),
    "two sections": ([OPEN, BACK, OPEN, BACK], "ABABCDCD"),
    "no sign at the beginning": ([{}, BACK, OPEN, {}, BACK], "ABABCDECDE"),
    "a bar between": ([OPEN | BACK, {}, BACK], "AABCBC"),
    "two endings": ([OPEN, ending(1) | BACK, ending(2)], "ABAC"),
    "endings of two bars": ([OPEN, ending(1), ending(1) | BACK, ending(2), ending(2), {}], "ABCADEF"),
    "the last ending with a sign": ([OPEN, ending(1) | BACK, ending(2) | BACK, {}], "ABACD"),
    "the second ending without a bracket": ([OPEN, ending(1) | BACK, {}], "ABAC"),
    "an ending for two passes": ([{}, ending(1, 2) | BACK, ending(3), {}], "ABABACD"),
    "four endings": ([{}, ending(1, 3) | BACK, ending(2) | BACK, ending(4)], "ABACABAD"),
    "three times": ([{}, OPEN | {"times": 3}, {}], "ABBBC"),
    "one within another": ([OPEN, OPEN | BACK, BACK, {}], "ABBCABBCD"),
    "endings, then a repeat": ([{}, ending(1) | BACK, ending(2), OPEN, BACK], "ABACDEDE"),
    "endings twice": ([OPEN, ending(1) | BACK, ending(2), OPEN, ending(1) | BACK, ending(2)], "ABACDEDF"),
    "da capo al fine": ([{}, {"fine": True}, {"jump": "capo", "until": "fine"}], "ABCAB"),
    "da capo without repeats": ([OPEN | BACK, {"fine": True}, {"jump": "capo"}], "AABCAB"),
    "da capo with repeats": ([BACK | {"after_jump": True}, {"fine": True}, {"jump": "capo"}], "AABCAAB"),
    "da capo takes the last ending": (
        [OPEN, ending(1) | BACK, ending(2), {"fine": True}, {"jump": "capo", "until": "fine"}], "ABACDEACD",
    ),
    "da capo at a repeat sign": ([OPEN, BACK | {"jump": "capo"}], "ABABAB"),
    "dal segno al coda": (
        [{}, {"segno": True}, {"to_coda": True}, {"jump": "segno", "until": "coda"}, {"coda": True}, {}], "ABCDBCEF",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_the_order_is_the_one_counted_by_hand(name) -> None:
    bars, order = WRITTEN[name]
    assert "".join("ABCDEF"[index] for index in played([Bar(**bar) for bar in bars])) == order


@pytest.mark.parametrize(
    "bars",
    [
        [{}, {"jump": "segno"}],
        [{"to_coda": True}, {"jump": "capo"}],
        [{}, {"jump": "capo", "until": "fine"}],
        [{}, ending(1), ending(2)],
        [{}, ending(1) | BACK, ending(3)],
        [ending(1) | BACK, ending(2)],
        [{"times": 999}],
        [{"coda": True}, {"to_coda": True}, {"jump": "capo"}],
        [{}, {"jump": "capo", "until": "coda"}, {"coda": True}],  # where is the jump?
        [OPEN] * 12 + [BACK] * 12,
    ],
)
def test_signs_that_contradict_each_other_are_told(bars) -> None:
    with pytest.raises(Misfit):
        played([Bar(**bar) for bar in bars])


BARS = st.builds(
    Bar,
    forward=st.booleans(),
    times=st.sampled_from([1, 1, 2, 2, 3, 9]),
    ending=st.sampled_from([frozenset(), frozenset(), frozenset({1}), frozenset({2}), frozenset({1, 2})]),
    segno=st.booleans(),
    coda=st.booleans(),
    to_coda=st.booleans(),
    fine=st.booleans(),
    jump=st.sampled_from(["", "", "", "capo", "segno"]),
    after_jump=st.booleans(),
)


@given(st.lists(BARS, min_size=1, max_size=30))
def test_whatever_is_written_ends_and_is_bounded(bars) -> None:
    try:
        order = played(bars)
    except Misfit:
        return
    assert 1 <= len(order) <= MOST_TIMES * len(bars)
    assert set(order) <= set(range(len(bars)))


def test_many_signs_take_no_longer_than_the_bars_they_play() -> None:
    bars = [Bar()] + [Bar(ending=frozenset({1}), times=2)] * 20_000
    assert len(played(bars)) == 3  # the pass with the bracket, and the one after it


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_plain_repeats_play_no_bar_more_than_twice_without_nesting(signs) -> None:
    bars = [Bar(forward=forward and index == 0, times=1 + back) for index, (forward, back) in enumerate(signs)]
    order = played(bars)
    assert all(order.count(index) <= 2 for index in range(len(bars)))
    last = max((index for index, bar in enumerate(bars) if bar.times > 1), default=-1)
    assert len(order) == len(bars) + last + 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("AABA", "AABA"),
        ("A2B", "AAB"),
        ("(AB)3(CD)2", "ABABABCDCD"),
        ("((AB)3.(CD)3)2", "ABABABCDCDCD" * 2),
        ("A3(BC2)2", "AAABCCBCC"),
        (" A.B ", "AB"),
        ("", ""),
    ],
)
def test_the_order_of_parts_is_read_as_the_standard_says(text, parts) -> None:
    assert "".join(expand_parts(text)) == parts


@pytest.mark.parametrize("text", ["(AB", "AB)", "A?", "3A", "((((A99)99)99)99)99", "A" * 2000])
def test_an_order_of_parts_that_is_none_is_told(text) -> None:
    with pytest.raises(Misfit):
        expand_parts(text)


@pytest.mark.parametrize(
    ("text", "numbers"), [("1", {1}), ("1,2", {1, 2}), ("1-3", {1, 2, 3}), ("1., 2.", {1, 2}), ("x", set()),
     ("1-999999", set(range(1, 33)))],
)  # fmt: skip
def test_numbers_of_endings(text, numbers) -> None:
    assert ending_numbers(text) == numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("D.C. al Fine", {"jump": "capo", "until": "fine"}),
        ("Da Capo", {"jump": "capo"}),
        ("D.S. al Coda", {"jump": "segno", "until": "coda"}),
        ("dal segno al fine", {"jump": "segno", "until": "fine"}),
        ("To Coda", {"to_coda": True}),
        ("To Coda 𝄌", {"to_coda": True}),
        ("Fine", {"fine": True}),
        ("(Fine)", {"fine": True}),
        ("finely played", {}),
        ("dolce", {}),
    ],
)
def test_words_of_jumps(text, expected) -> None:
    bar = Bar()
    read_words(text, bar)
    assert bar == Bar(**expected)
