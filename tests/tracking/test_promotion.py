"""A version becomes champion only by beating the champion on the same data; `accept` is read strictly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UserError
from components.tracking.promotion import decide, meets, parse_condition, promotion_tags

LOSS = "test/nats_per_token"
finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite, finite, st.booleans())
def test_the_better_of_two_on_the_same_data_is_champion(mine: float, best: float, higher: bool) -> None:
    role, reason = decide(promotion_tags(LOSS, mine, "d"), promotion_tags(LOSS, best, "d"), higher_is_better=higher)
    assert (role == "champion") == (mine > best if higher else mine < best)
    assert LOSS in reason


def test_the_first_version_is_champion() -> None:
    assert decide(promotion_tags(LOSS, 0.9, "d"), None, higher_is_better=False)[0] == "champion"


@pytest.mark.parametrize("theirs", ["other", ""])
def test_a_better_number_on_other_data_stays_challenger(theirs: str) -> None:
    role, reason = decide(promotion_tags(LOSS, 0.1, "d"), promotion_tags(LOSS, 0.9, theirs), higher_is_better=False)
    assert role == "challenger"
    assert "other data" in reason


def test_two_versions_without_a_test_digest_are_not_taken_for_equal_data() -> None:
    assert (
        decide(promotion_tags(LOSS, 0.1, ""), promotion_tags(LOSS, 0.9, ""), higher_is_better=False)[0] == "challenger"
    )


def test_another_metric_is_not_compared() -> None:
    role, reason = decide(
        promotion_tags(LOSS, 0.1, "d"), promotion_tags("test/accuracy", 0.9, "d"), higher_is_better=False
    )
    assert role == "challenger"
    assert "test/accuracy" in reason


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("champion", [None, promotion_tags(LOSS, 0.9, "d")])
def test_what_is_not_a_number_never_becomes_champion(value: float, champion: dict | None) -> None:
    assert decide(promotion_tags(LOSS, value, "d"), champion, higher_is_better=True)[0] == "challenger"


def test_a_champion_that_is_not_a_number_is_replaced() -> None:
    old = promotion_tags(LOSS, float("nan"), "d")
    assert decide(promotion_tags(LOSS, 0.5, "d"), old, higher_is_better=False)[0] == "champion"
    assert decide(promotion_tags(LOSS, 0.5, "d"), old | {"primary.value": "x"}, higher_is_better=False)[0] == "champion"


@given(finite)
def test_the_value_survives_being_a_tag(value: float) -> None:
    assert float(promotion_tags(LOSS, value, "d")["primary.value"]) == value


@pytest.mark.parametrize(
    ("text", "met"), [("< 0.75", False), ("<= 0.75", True), ("> .75", False), (">=7.5e-1", True), ("  < 1 ", True)]
)
def test_conditions_compare_as_written(text: str, met: bool) -> None:
    assert (meets({LOSS: text}, {LOSS: 0.75}) == []) == met


@pytest.mark.parametrize(
    "text", ["0.75", "= 0.75", "== 0.75", "< 0.75 nats", "< nan", "< inf", "< 1e999", "<", "< ٣", 3]
)
def test_a_condition_that_is_none_is_a_problem_that_says_how_to_write_it(text: str) -> None:
    with pytest.raises(UserError, match="isn't a bound"):
        parse_condition(text)
    (problem,) = meets({LOSS: text}, {LOSS: -1.0})
    assert f"accept.{LOSS}" in problem
    assert '"< 0.75"' in problem


@pytest.mark.parametrize("text", ["< 1", "<= 1", "> 1", ">= 1"])
def test_nan_meets_nothing(text: str) -> None:
    assert len(meets({LOSS: text}, {LOSS: float("nan")})) == 1


def test_an_unknown_metric_is_a_problem_that_names_the_nearest() -> None:
    problems = meets({"test/nats_per_tokn": "< 1", LOSS: "< 0.5"}, {LOSS: 0.75, "test/accuracy": 0.5})
    assert len(problems) == 2
    assert repr(LOSS) in problems[0]
    assert "0.75" in problems[1]
