"""Explanations and hidden states for given inputs, as files."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from components.answers import explained, input_of, read, states
from components.bounds import MAX_EXPLAINED
from components.bundle import Bundle
from components.console import say
from components.datasets.labelled import LabelledReader
from components.encodings.doubts import Doubts
from components.errors import UserError
from components.evaluation.explained import draw_explanation
from components.render.marked import Marked, write_marked
from components.tasks.explanation import Explanation
from components.use.lines import text_items
from components.use.table import cells, prepared
from components.whole_files import written_whole

MOST_BYTES = 1 << 30  # largest file of states
TABLES = ("positions", "choices", "words")
LISTED = 10  # choices on the page

Asked = tuple[str, Any]  # name of an input, and the input as the model reads it


def of_texts(bundle: Bundle, texts: Sequence[str]) -> list[Asked]:
    """The texts as inputs; prints warnings about unknown words.

    Raises:
        UserError: the model reads no text.
    """
    return list(zip(texts, text_items(bundle, texts, say), strict=True))


def of_file(bundle: Bundle, reader: LabelledReader) -> Iterator[Asked]:
    """The rows of a file as inputs; the reader's `notes` are complete after the last.

    Raises:
        UserError: a row can't be read.
    """
    doubts = Doubts()
    for row in prepared(bundle, reader):
        if row.problem:
            raise UserError(row.problem, where=row.where)
        shown = row.input if isinstance(row.input, str) else row.where
        yield shown, read(input_of(bundle.encoding), row.input, row.where, doubts)
    reader.notes += doubts.lines()


def at_most(asked: Iterator[Asked]) -> list[Asked]:
    """All inputs as a list.

    Raises:
        UserError: too many to explain at once.
    """
    found = list(itertools.islice(asked, MAX_EXPLAINED + 1))
    if len(found) > MAX_EXPLAINED:
        raise UserError(f"at most {MAX_EXPLAINED} inputs can be explained at once", where="explain")
    if not found:
        raise UserError("there is nothing to explain", where="explain")
    return found


def write_explanations(
    folder: Path, bundle: Bundle, asked: Sequence[Asked], best: int | None = None, *, title: str
) -> tuple[list[Path], list[str]]:
    """Explain the inputs: tables, a picture of each, a page of marked texts, and all of it as JSON. Returns the paths
    of the files, and a line with the prediction for each input.

    Raises:
        UserError: see `components.answers.explained`.
    """
    found = explained(bundle, [item for _, item in asked], best)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / "explanation.json"]
    told = [{"input": name, **one.as_dict()} for (name, _), one in zip(asked, found, strict=True)]
    with written_whole(paths[0]) as whole:
        whole.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for table in TABLES:
        rows = [{"input": n, **row} for n, one in enumerate(found, 1) for row in getattr(one, table)]
        if rows:
            paths.append(folder / f"{table}.csv")
            _write_table(paths[-1], rows)
    for number, one in enumerate(found, 1):
        if draw_explanation(folder / f"{number}.png", one, title=f"{title}: {said(one)}"):
            paths.append(folder / f"{number}.png")
    if marked := [_marked(name, one) for (name, _), one in zip(asked, found, strict=True) if _has_tokens(one)]:
        paths.append(folder / "explanation.html")
        write_marked(paths[-1], title, marked)
    return paths, [f"{said(one)}  {name}" for (name, _), one in zip(asked, found, strict=True)]


def said(explanation: Explanation) -> str:
    """The prediction in a few words."""
    shown = cells(explanation.answer)
    return " ".join([shown["predicted"], *filter(None, [shown.get("probability")])])


def write_states(path: Path, bundle: Bundle, asked: Iterator[Asked]) -> dict[str, tuple[int, ...]]:
    """Write the arrays of each input to an .npz file, "1.layer_1" for the first input. Returns their shapes.

    Raises:
        UserError: see `components.answers.states`; there are none, or they are too large for one file.
    """
    kept: dict[str, np.ndarray] = {}
    size = 0
    for number, (_, item) in enumerate(asked, 1):
        (found,) = states(bundle, [item], first=number - 1)
        size += sum(array.nbytes for array in found.values())
        if size > MOST_BYTES:
            what = f"the states of {number:,} inputs take more than {MOST_BYTES >> 30} GiB"
            raise UserError(what, where="states", hint="split the file into smaller ones")
        kept |= {f"{number}.{name}": array for name, array in found.items()}
    if not kept:
        raise UserError("there are no inputs", where="states")
    with written_whole(path) as whole, whole.open("wb") as file:
        np.savez_compressed(file, **kept)  # type: ignore[arg-type]  # of its other parameters
    return {name: array.shape for name, array in kept.items()}


def _has_tokens(explanation: Explanation) -> bool:
    return any({"token", "contribution"} <= row.keys() for row in explanation.positions)


def _marked(name: str, explanation: Explanation) -> Marked:
    tokens = [(row["token"], row["contribution"]) for row in explanation.positions]
    (total,) = explanation.totals
    about = (
        f"{total['output']} is {total['at_input']:.4g} for this text and {total['at_baseline']:.4g} for zeros "
        f"in its place; the contributions of the tokens add up to the difference, {total['contributions']:+.4g} "
        f"({total['unit']}). Blue tokens count for the answer, red ones against it."
    )
    choices = [[str(row["label"]), f"{row['probability']:.4f}"] for row in explanation.choices[:LISTED]]
    return Marked(name, tokens, said(explanation), about, choices)


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    names = dict.fromkeys(name for row in rows for name in row)
    with written_whole(path) as whole, whole.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()})
