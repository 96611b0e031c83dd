"""When a schedule fires: what is typed means to Prefect what it means to a person, or is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UserError
from flows.timing import FIELDS, check_cron, check_timezone, next_times, parse_every, show_every


def field(index: int) -> st.SearchStrategy[str]:
    _, first, last, names = FIELDS[index]
    last = min(last, 28) if index == 2 else last
    value = st.integers(first, last).map(str) | (st.sampled_from(names) if names else st.nothing())
    ends = st.tuples(st.integers(first, last), st.integers(first, last)).map(sorted)
    spread = ends.map(lambda pair: f"{pair[0]}-{pair[1]}")
    steps = st.tuples(value | spread | st.just("*"), st.integers(1, last)).map(lambda both: f"{both[0]}/{both[1]}")
    return st.lists(value | spread | steps | st.just("*"), min_size=1, max_size=3).map(",".join)


def meant(text: str, place: int) -> set[int]:
    """The values of a field, as a person means them: one value is one, and a step goes on to the field's end."""
    _, first, last, names = FIELDS[place]
    values = set()
    for part in text.split(","):
        ends, _, step = part.partition("/")
        low, dash, high = ends.partition("-")
        number = [names.index(word) + first if word in names else word for word in (low, high)]
        low = first if low == "*" else int(number[0])
        end = (6 if place == 4 else last) if ends == "*" or (step and not dash) else int(number[1]) if dash else low
        values |= {value % 7 if place == 4 else value for value in range(low, end + 1, int(step or 1))}
    return values


@pytest.mark.slow
@given(st.tuples(*(field(index) for index in range(5))))
def test_prefect_reads_a_cron_as_it_is_meant(fields: tuple[str, ...]) -> None:
    from prefect._vendor.croniter import croniter

    read = croniter.expand(check_cron(f" {' '.join(fields)} ".upper()))[0]
    for place, (_, first, last, _) in enumerate(FIELDS):
        every = set(range(first, (6 if place == 4 else last) + 1))
        assert (every if "*" in read[place] else set(read[place])) == meant(fields[place], place), fields[place]


@pytest.mark.parametrize(
    ("weekday", "days"),
    [
        ("mon-sun", {0, 1, 2, 3, 4, 5, 6}),
        ("sat-sun", {6, 0}),
        ("tue-SUN/2", {2, 4, 6}),
        ("sun-mon", {0, 1}),
        ("sun-sun", {0}),
    ],
)
def test_a_week_may_end_with_sunday(weekday: str, days: set[int]) -> None:
    from prefect._vendor.croniter import croniter

    read = croniter.expand(check_cron(f"0 9 * * {weekday}"))[0][4]
    assert (set(range(7)) if "*" in read else set(read)) == days


@given(st.text(alphabet="0123456789 */,-abcmonrh@?L#", max_size=20))
def test_whatever_is_typed_is_cron_to_prefect_or_refused(text: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    try:
        checked = check_cron(text)
    except UserError:
        return
    CronSchedule(cron=checked)


@pytest.mark.parametrize("text", ["0 0 30-31 2 *", "0 0 31 4-6/2 *", "5 5 30,31 feb *", "0 0 31 */10,9 *"])
def test_a_cron_that_never_comes_is_refused(text: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule

    if "*/10" in text:  # 1 and 11: January has a 31st
        assert next_times(CronSchedule(cron=check_cron(text)))
        return
    with pytest.raises(UserError, match="there is no such date"):
        next_times(CronSchedule(cron=check_cron(text)))


@pytest.mark.slow
def test_an_interval_is_planned_across_a_change_of_clocks() -> None:
    from prefect.client.schemas.schedules import IntervalSchedule

    for every in (timedelta(seconds=1), timedelta(hours=6), timedelta(days=366)):
        one, two = next_times(IntervalSchedule(interval=every, timezone="America/New_York"))
        assert two - one == every


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 25 * * *", "'25' isn't a valid hour: 0–23"),
        ("* * * foo *", "'foo' isn't a valid month: 1–12 or jan–dec"),
        ("0 6 * *", "expected 5 fields, found 4"),
        ("5-1 * * * *", "'5-1' isn't a valid minute"),
        ("@daily", "expected 5 fields, found 1"),
        ("0 0 6 * * 1", "expected 5 fields, found 6"),
        ("0 6 L * *", "'l' isn't a valid day"),
        ("0 6 * * 5#2", "'5#2' isn't a valid weekday"),
        ("*/0 * * * *", r"'\*/0' isn't a valid minute"),
        ("0 6 ? * 1", r"'\?' isn't a valid day"),
    ],
)
def test_a_wrong_cron_says_which_field(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_cron(text)


@pytest.mark.slow
def test_intervals_and_zones() -> None:
    assert [parse_every(text).total_seconds() for text in ("90s", "30m", "6h", "2w")] == [90, 1800, 21600, 1209600]
    assert [show_every(parse_every(text)) for text in ("90s", "120m", "36h", "2w")] == ["90s", "2h", "36h", "2w"]
    for text in ("", "0s", "h", "1.5h", "-1h", "2y", "999999w", "1 h"):
        with pytest.raises(UserError, match="isn't an interval"):
            parse_every(text)
    assert check_timezone("Asia/Tokyo") == "Asia/Tokyo"
    assert check_timezone(None)
    for name in ("Asia/Tokio", "../etc/passwd", "", "\0"):
        with pytest.raises(UserError, match="no time zone"):
            check_timezone(name)
