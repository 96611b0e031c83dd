"""Pairs of texts whose sides are swapped, and texts that are written in another form, are told."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from components.datasets.files.text import TextFiles
from components.datasets.shifted import Shifted
from components.datasets.sides import Sides

PLAIN = ["boat", "lake", "wind", "sail", "rope", "bird", "calm", "deep", "wide", "cold"]
ODD = ["mora", "luni", "veso", "talo", "rigu", "pelo", "kada", "sifu", "nomu", "hebi"]


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    chosen = [[draw.randrange(10) for _ in range(5)] for _ in range(count)]
    return [(" ".join(PLAIN[at] for at in one), " ".join(ODD[at] for at in one)) for one in chosen]


def told(train: list[tuple[str, str]], val: list[tuple[str, str]]) -> list[str]:
    sides = Sides()
    for split, found in (("train", train), ("val", val)):
        for source, target in found:
            sides.add(split, source, target)
    return list(sides.notes())


def test_a_split_with_its_sides_swapped_is_told() -> None:
    swapped = [(target, source) for source, target in pairs(40, seed=1)]
    (note,) = told(pairs(100), swapped)
    assert note.startswith("warning: 40 of 40 pairs of val seem to have text and translation swapped")
    assert told(pairs(100), pairs(40, seed=1)) == []


def of_lengths(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Sentences of different lengths, and their translations."""
    draw = random.Random(seed)
    chosen = [[draw.randrange(10) for _ in range(draw.randrange(3, 15))] for _ in range(count)]
    return [(" ".join(PLAIN[at] for at in one), "".join(ODD[at] + " " * (at % 2) for at in one)) for one in chosen]


def shifted(found: list[tuple[str, str]], shift: int) -> list[str]:
    texts, others = zip(*found, strict=True)
    looked = Shifted()
    for pair in zip(texts[max(0, -shift) :], others[max(0, shift) :], strict=False):
        looked.add(*pair)
    return list(looked.notes())


@pytest.mark.parametrize(("shift", "told"), [(1, "1 pair before"), (-1, "1 pair after"), (3, "3 pairs before")])
def test_a_side_shifted_by_lines_is_told(shift: int, told: str) -> None:
    for count in (60, 500):
        (note,) = shifted(of_lengths(count), shift)
        assert note.startswith(f"warning: translations seem to stand {told} their texts")
        assert shifted(of_lengths(count), 0) == []


def test_a_line_missing_in_the_middle_is_told_from_there_on() -> None:
    found = of_lengths(1000)
    late = [(text, other) for (text, _), (_, other) in pairwise(found[500:])]
    (note,) = shifted(found[:500] + late, 0)
    assert "in 2 of 5 stretches of pairs, first about " + repr(found[600][0][:40]) in note


def test_pairs_of_even_lengths_dates_and_talks_are_not_taken_for_shifted() -> None:
    days = [date(1990, 1, 1) + timedelta(day) for day in range(900)]
    for one, other in (("%d %B %Y", "%Y-%m-%d"), ("%A", "%B"), ("%B %d", "%A, %d.%m.%y")):
        assert shifted([(f"{day:{one}}", f"{day:{other}}") for day in days], 0) == []
    counted = [(str(number), "|" * (number % 7 + 1)) for number in range(900)]
    assert shifted(counted, 0) == []
    talk = [text for text, _ in of_lengths(400)]
    assert shifted(list(pairwise(talk)), 0) == []
    assert shifted(of_lengths(25), 1) == [], "too few to tell"


def test_a_few_swapped_pairs_are_told_and_pairs_of_one_language_never() -> None:
    some = [(b, a) if at % 10 == 0 else (a, b) for at, (a, b) in enumerate(pairs(100))]
    assert "warning: 10 of 100 pairs of train" in told(some, [])[0]
    same = [(a, " ".join(sorted(a.split()))) for a, _ in pairs(200)]
    assert told(same, [(b, a) for a, b in same]) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schön groß süß\n", "seems to be UTF-7, in which +AOk- is é: set data.coding=utf-7"),
        ("море и ветер\n", "seems to be UTF-7"),
        ("call +49-12, x+FOO-bar, C+ABC-12, +foo- and a+bcd-c\n", ""),
    ],
)
def test_utf7_looks_like_ascii_and_is_told(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes((text * 9).encode("ascii" if text.isascii() else "utf-7"))
    notes: list[str] = []
    files = TextFiles(dropped=Counter(), notes=notes)
    "".join(files.blocks(path))
    assert (said in "".join(notes)) if said else notes == []
    if said:
        files = TextFiles(dropped=Counter(), notes=(notes := []), coding="utf-7")
        assert "".join(files.blocks(path)) == text * 9
        assert notes == []


def test_letters_written_as_in_html_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("sch&ouml;n &amp; gut &#8211; R&D; AT&T\n" * 4, encoding="utf-8")
    notes: list[str] = []
    files = TextFiles(dropped=Counter(), notes=notes)
    "".join(files.blocks(tmp_path / "a.txt"))
    assert "a.txt: 12 × sign of HTML such as &amp;" in notes[0]
