"""Dates made by Reprise itself: every way means the day it stands for, and no other."""

from __future__ import annotations

import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.ingest import ingest
from components.datasets.made.dates import LONGEST, MONTHS, WAYS, WEEKDAYS, Dates, written
from components.datasets.store import Store
from components.errors import UserError

DAYS = st.dates(datetime.date(1000, 1, 1), datetime.date(9999, 12, 31))
EVERY_WAY = [(language, way) for language, ways in WAYS.items() for way in ways]


def read(text: str) -> datetime.date:
    """The day of a text, by rules of its own: the year has four digits, a month has a name or the place that its
    separators give it."""
    text = text.lower()
    if found := re.fullmatch(r"(\d{4})([-/.]?)(\d\d)\2(\d\d)", text):
        return datetime.date(int(found[1]), int(found[3]), int(found[4]))
    year = int(re.search(r"\d{4}", text)[0])
    rest = re.sub(r"\d{4}", "", text)
    if found := re.search(r"(\d+)\.\s?(\d+)\.", rest):
        return datetime.date(year, int(found[2]), int(found[1]))
    day = int(re.search(r"\d+", rest)[0])
    names = [(name.lower(), number) for months in MONTHS.values() for number, name in enumerate(months.split(), 1)]
    weekdays = {name.lower() for days in WEEKDAYS.values() for name in days.split()}
    words = [word for word in re.findall(r"[^\W\d]+", rest) if word not in weekdays]
    # the whole name first: "mar" of martes is a weekday, "mars" a month
    for word in words:
        for name, number in names:
            if word == name or (len(word) == 3 and MONTHS["en"].lower().split()[number - 1][:3] == word):
                return datetime.date(year, number, day)
    raise AssertionError(text)


@pytest.mark.parametrize(("language", "way"), EVERY_WAY)
@given(day=DAYS)
def test_every_way_means_its_day(language, way, day) -> None:
    text = written(day, language, way)
    assert read(text) == day
    assert len(text) <= LONGEST
    for named in re.findall(r"[^\W\d]+", text):
        for names in WEEKDAYS.values():
            if named in names.split():
                assert names.split().index(named) == day.weekday()


def test_ways_by_hand() -> None:
    day = datetime.date(1998, 5, 3)
    assert written(day, "en", "the {nth} of {month}, {y}") == "the 3rd of May, 1998"
    assert written(day, "de", "{weekday}, den {d}. {month} {y}") == "Sonntag, den 3. Mai 1998"
    assert written(day, "fr", "le {nth} {month} {y}") == "le 3 mai 1998"
    assert written(datetime.date(1998, 5, 1), "fr", "le {nth} {month} {y}") == "le 1er mai 1998"
    ordinals = [written(datetime.date(2000, 1, d), "en", "{nth}") for d in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)]
    assert ordinals == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st"]


@pytest.mark.slow
def test_no_day_of_the_test_set_was_seen_in_training(tmp_path) -> None:
    characters = {"kind": "characters"}
    data = {"reader": "dates", "count": 3000, "first_year": 2000, "last_year": 2009}
    pair = {"kind": "pair", "input": characters, "target": characters}
    store = Store.open(ingest(data, pair, root=tmp_path, cache_dir=tmp_path / "cache", seed=0).path)
    days = [{store.encoding().decode(ids) for ids in store.split(s).fields["target"]} for s in ("train", "val", "test")]
    assert all(len(one) > 100 for one in days)
    assert not days[0] & days[2]
    assert not days[0] & days[1]
    assert {day[:3] for day in days[0]} == {"200"}


def test_the_seed_and_the_options_are_the_data() -> None:
    assert list(Dates(count=50).items()) == list(Dates(count=50).items())
    assert list(Dates(count=50).items()) != list(Dates(count=50, seed=1).items())
    digests = {Dates(**options).digest() for options in ({}, {"seed": 1}, {"languages": ("en",)}, {"last_year": 2000})}
    assert len(digests) == 4
    english = " ".join(text for text, _ in Dates(count=300, languages=("en",)).items()).lower()
    assert "january" in english
    assert "januar " not in english
    for wrong in ({"languages": ()}, {"first_year": 2001, "last_year": 2000}):
        with pytest.raises(UserError):
            Dates(**wrong)
