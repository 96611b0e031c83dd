"""The rows of a file with their predictions, as a table."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from components.answers import answered, has_tokens, input_of, read
from components.bundle import Bundle
from components.datasets.labelled import LabelledReader, Row
from components.encodings.doubts import Doubts
from components.encodings.symbols import Labels
from components.errors import UserError
from components.paths import apart
from components.whole_files import written_whole

ANSWER = ("label", "values", "tags", "text")  # the column with the prediction
ROWS = 1000  # of a file, read and predicted at once
NOT_READ = "not read: "  # prefix for counting rows without a prediction
Named = dict[str, Any]  # a prediction by its columns, see `components.answers.columns`


def answers(bundle: Bundle, rows: list[Row], doubts: Doubts) -> Iterator[tuple[Row, Named | None, str]]:
    """Each row with its prediction by column; or None, and the reason."""
    of_all = Doubts()
    readable = [row for row in rows if not row.problem]
    try:
        whole = _answered(bundle, readable, of_all)
        found: Iterator[tuple[Named | None, str]] = iter([(answer, "") for answer in whole])
        doubts.take(of_all)
    except UserError:  # caused by one row: predict for each row separately
        found = (_answer(bundle, row, doubts) for row in readable)
    return ((row, *((None, row.problem) if row.problem else next(found))) for row in rows)


def _answered(bundle: Bundle, rows: list[Row], doubts: Doubts) -> list[Named]:
    return answered(bundle, [read(input_of(bundle.encoding), row.input, row.where, doubts) for row in rows])


def _answer(bundle: Bundle, row: Row, doubts: Doubts) -> tuple[Named | None, str]:
    try:
        return _answered(bundle, [row], doubts)[0], ""
    except UserError as error:
        return None, error.what


def cells(named: Named | None) -> dict[str, str]:
    """The cells for a prediction: `predicted`, `probability` if there is one, and for tags `tokens`."""
    if named is None:
        return {"predicted": "", "probability": ""}
    shown = {"predicted" if name in ANSWER else name: _shown(value) for name, value in named.items()}
    return shown | ({"probability": f"{named['probability']:.4f}"} if "probability" in named else {})


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def prepared(bundle: Bundle, reader: LabelledReader) -> Iterator[Row]:
    """The rows of a file to predict for, read like the training data."""
    encoding = input_of(bundle.encoding)
    reader.trained_steps, reader.pictures = getattr(encoding, "steps", None), len(encoding.step_shape) == 2
    if isinstance(target := getattr(bundle.encoding, "target", None), Labels):
        reader.trained_labels = target.classes
    reader.trained_on(bundle.info.get("columns", {}))  # missing in older bundles
    return iter(reader.inputs())


def predict_file(
    bundle: Bundle, reader: LabelledReader, out: Path, say: Callable[[str], None] = lambda answer: None
) -> Counter[str]:
    """Write the rows of a file with their predictions as CSV; return the count of each prediction. A row that can't be
    read has no prediction; its column `problem` gives the reason. The file's columns are kept, except spaces before a
    cell; if a new column's name is taken, it gets a number (problem_2). `say` receives the prediction if there is only
    one row. Notes on the file are in the reader's `notes`.

    Raises:
        UserError: the model doesn't predict, the file can't be read to its end, or `out` is that file.
    """
    bundle.predict([])  # raises if the model doesn't predict
    apart(out, reader.files)
    counts: Counter[str] = Counter()
    only = ""
    rows, doubts = prepared(bundle, reader), Doubts()
    with written_whole(out) as whole, whole.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        columns: list[str] = []
        ours: dict[str, str] = {}
        while block := list(itertools.islice(rows, ROWS)):
            for row, answer, problem in answers(bundle, block, doubts):
                if not ours:
                    columns, ours = list(row.shown), _our_columns(bundle, row)
                    writer.writerow([*columns, *ours.values()])
                if list(row.shown) != columns:
                    what = f"has the columns {', '.join(row.shown)}, but the first file has {', '.join(columns)}"
                    raise UserError(what, where=row.where, hint="predict for one file at a time")
                for shown, said in _lines(bundle, row, answer):
                    made = {**cells(said), "problem": problem}
                    only = made.get("predicted", "")
                    writer.writerow([*shown.values(), *(made.get(name, "") for name in ours)])
                    counts[_counted(said, row, problem)] += 1
    reader.notes += doubts.lines()
    if counts.total() == 1 and only:
        say(only)
    return counts


def _our_columns(bundle: Bundle, row: Row) -> dict[str, str]:
    """Our columns, with names that don't clash with the columns of the row."""
    tokens = has_tokens(bundle) and not isinstance(row.input, list)
    ours = [*["tokens"] * tokens, "predicted", *["probability"] * ("probability" in bundle.task.columns), "problem"]
    if bundle.task.by_step:
        ours = [*bundle.task.columns, "problem"]
    named = {}
    for name in ours:
        others = (f"{name}_{number}" for number in itertools.count(2))
        named[name] = next(
            free for free in [name, *itertools.islice(others, len(row.shown) + 1)] if free not in row.shown
        )
    return named


def _lines(bundle: Bundle, row: Row, named: Named | None) -> Iterator[tuple[Mapping[str, str], Named | None]]:
    """Lines of the output for a row: its cells and the prediction; one for each step if steps are lines of the file or
    of the prediction."""
    if bundle.task.by_step and named is not None:
        yield from ((row.shown, dict(zip(named, step, strict=True))) for step in zip(*named.values(), strict=True))
    elif not row.steps:
        yield row.shown, named
    for at, step in enumerate(row.steps):
        yield step, None if named is None else {name: [values[at]] for name, values in named.items()}


def _counted(named: Named | None, row: Row, problem: str) -> str:
    if named is None:
        return f"{NOT_READ}{problem}"
    if "label" in named:
        return str(named["label"])
    return str(named["tags"][0]) if row.steps else "answered"
