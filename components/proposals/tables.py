"""Proposals for tables with a column of texts and a column to predict."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from components.datasets.files.folders import ending
from components.datasets.tables.reader import BY_ENDING, SEPARATORS
from components.datasets.targets import WITH_UNIT
from components.proposals.base import Look, Proposal, Unlike, pair
from components.proposals.columns import OF_INPUT, OF_RATING, OF_TARGET, Column, Grid, grid_of
from components.proposals.texts import MANY_PAIRS, SENTENCE, read_as, text_like

FEW, MOST_STARS = 20, 11  # most distinct whole numbers that may be labels, and ratings


def labels(look: Look) -> Proposal:
    grid, read, target = _columns(look, lambda c: c.kind == "labels" or (c.kind == "whole" and c.distinct <= FEW))
    if target.distinct < 2:
        raise Unlike(f"column {target.name} has only one value")
    has = f"{target.distinct} different values"
    found = _proposal(look, grid, read, target, "a label", has, "labels", "classification")
    return replace(
        found,
        likely=_evident(grid, target),
        notes=(*found.notes, *["missing values such as NA count as a label"] * target.missing),
    )


def ratings(look: Look) -> Proposal:
    grid, read, target = _columns(look, lambda c: c.kind == "whole" and c.distinct <= MOST_STARS)
    values = sorted(set(map(int, target.values)))
    whole_scale = values == list(range(values[0], values[-1] + 1))
    if len(values) < 2 or values[-1] - values[0] >= 1000:
        raise Unlike(f"column {target.name} isn't a scale: {_examples(target)}")
    has = f"whole numbers from {values[0]} to {values[-1]}"
    found = _proposal(look, grid, read, target, "ratings", has, "ratings", "ordinal")
    # with numbers: true, rows whose rating is NA are dropped
    missing = {"numbers": True} if target.missing else {}
    return replace(
        found,
        data={**found.data, **missing},
        likely=len(values) > 2 and (whole_scale or OF_RATING.fullmatch(target.name) is not None),
        notes=(*found.notes, "if the scale's lowest or highest rating is missing, set low and high in encoding.target"),
    )


def numbers(look: Look) -> Proposal:
    grid, read, target = _columns(look, lambda c: c in grid_of(look).numbers and c.distinct > 1)
    has = f"{target.distinct} different numbers"
    found = _proposal(look, grid, read, target, "a number", has, "frames", "regression")
    likely = target.kind == "numbers" or target.distinct > FEW
    # an id beside a text and its translation, or beside labels
    likely &= not (_aside(target) and (len(grid.of("texts")) > 1 or grid.of("labels")))
    return replace(found, data={**found.data, "numbers": True}, likely=likely)


AMOUNT = re.compile(r"[$€£¥]?\s*[-+]?\d[\d.,]*\s*(?:[^\W\d]{1,4}|[%$€£¥°])?")  # 12 km, $1,234


ATTRIBUTION = re.compile(r"CC[- ]BY.*|.*tatoeba\.org.*")  # a sentence's licence and authors


def pairs(look: Look) -> Proposal:
    grid, read, target = _columns(look, lambda column: column.kind == "texts" and not _aside(column))
    texts = [column for column in grid.columns if column in (read, target) or not _aside(column)]
    if not OF_INPUT.fullmatch(read.name) and not OF_TARGET.fullmatch(target.name):  # in the order of the columns
        read, target = sorted((read, target), key=grid.columns.index)
    long = max(read.length, target.length) > 40
    kind = "subwords" if long and grid.lines >= MANY_PAIRS else "words" if long else "characters"
    return Proposal(
        f"{grid.told}: texts in {read.name}, other texts in {target.name}",
        f"{target.name} rarely repeats, so its cells are texts, not labels",
        "translation" if long else "dates",
        _data(grid, look, read, target),
        pair({"kind": kind}, kind),
        {"kind": "translation"} if long else {"kind": "translation", "primary": "exact"},
        grid.lines,
        likely=(grid.header or grid.separator == "tab") and len(texts) == 2,
        notes=(f"{target.name} holds numbers with a unit: leave out the unit, and a number is predicted",)
        * all(map(AMOUNT.fullmatch, target.cells)),
    )


def _aside(column: Column) -> bool:
    """Whether a column numbers the sentences, or names their licence."""
    numbers = column.kind == "whole" and column.distinct == len(column.cells)
    return numbers or all(map(ATTRIBUTION.fullmatch, column.cells))


def _columns(look: Look, fits: Callable[[Column], bool]) -> tuple[Grid, Column, Column]:
    """The table, its column of texts, and the column to predict: one with a matching name, else the last that fits.
    Raises Unlike if there is none."""
    grid = grid_of(look)
    texts = [column for column in grid.of("texts") if 2 * len(column.cells) >= len(grid.rows)]
    found = [column for column in texts if not _aside(column)] or [
        column for column in grid.of("labels") if not grid.numbers or OF_INPUT.fullmatch(column.name)
    ]
    if not found or len(grid.columns) < 2:
        raise Unlike("no column of texts next to another column")
    named = [column for column in found if OF_INPUT.fullmatch(column.name)]
    read = max(named or found, key=lambda column: column.length)
    if not named and grid.columns[0] in found and len(grid.columns) == 2:
        read = grid.columns[0]
    targets = [column for column in grid.columns if column is not read and not column.counts and fits(column)]
    if not targets:
        raise Unlike(f"no column of that kind next to {read.name}")
    targets = [column for column in targets if column.distinct > 1] or targets
    return grid, read, next((column for column in targets if OF_TARGET.fullmatch(column.name)), targets[-1])


def _proposal(
    look: Look, grid: Grid, read: Column, target: Column, what: str, has: str, kind: str, task: str
) -> Proposal:
    """The proposal to predict `what`, encoded as `kind`, from texts."""
    encoding = read_as(read.cells, grid.lines)
    rest = [column.name for column in grid.columns if column not in (read, target) and column.cells]
    notes = (f"not read: {', '.join(rest[:6])}{', …' * (len(rest) > 6)} (data.input, data.target)",) * bool(rest)
    units = kind == "labels" and all(map(WITH_UNIT.fullmatch, target.cells))
    notes += (f"{target.name} holds numbers with a unit: leave out the unit to predict numbers, not labels",) * units
    amounts = all(map(AMOUNT.fullmatch, read.cells))
    return Proposal(
        f"{grid.told}: texts in {read.name}, {what} in {target.name}",
        f"{target.name} has {has}, such as {_examples(target)}",
        text_like(encoding),
        _data(grid, look, read, target),
        pair(encoding, kind),
        {"kind": task},
        grid.lines,
        notes=notes
        + (f"{read.name} holds numbers, read as texts: write them as 1234.5, without units, to use them",) * amounts,
    )


def _data(grid: Grid, look: Look, read: Column, target: Column) -> dict[str, Any]:
    data: dict[str, Any] = {"reader": "table"}
    if len(grid.columns) > 2 or grid.columns[0] is not read:
        data |= {"input": read.name, "target": target.name}
    if not grid.header:
        data["header"] = False
    if grid.separator and BY_ENDING.get(ending(grid.path)) != grid.separator:
        data["separator"] = grid.separator
    if SEPARATORS.get(grid.separator) not in (None, "\t") and _quoted_badly(look, SEPARATORS[grid.separator]):
        data["quotes"] = False
    return {**data, **look.coding()}


def _quoted_badly(look: Look, separator: str) -> bool:
    """Whether there are quotation marks that belong to the texts: a line's only one, which neither begins a cell that
    goes on in the next lines nor ends such a cell."""
    _, sample = look.first()
    begins = re.compile(rf'(?:^|{re.escape(separator)})\s*"[^"]*$')
    open_cell = False
    for line in sample.filled:
        if line.count('"') == 1:
            if not open_cell and not begins.search(line):
                return '""' not in sample.text
            open_cell = not open_cell
    return False


def _evident(grid: Grid, target: Column) -> bool:
    """Whether the labels are credible: not a list of sentences that contain commas."""
    sentences = sum(bool(SENTENCE.search(cell)) for cell in target.cells) > len(target.cells) / 2
    return grid.header or grid.separator != "comma" or not sentences


def _examples(column: Column) -> str:
    values: Sequence[str] = list(dict.fromkeys(column.cells))
    return ", ".join(value[:20] for value in values[:4]) + (", …" if len(values) > 4 else "")
