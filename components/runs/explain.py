"""Explanations of a registered model's predictions, and its hidden states, for texts or the rows of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from components.console import say
from components.datasets.labelled import stem
from components.errors import UserError
from components.paths import apart, as_user
from components.runs.places import places
from components.runs.predict import opened_for, reader_of, tell
from components.use.explaining import TABLES, Asked, at_most, of_file, of_texts, write_explanations, write_states
from components.use.opening import Opened
from components.use.scoring import items_of

SHOWN = 8  # inputs and arrays to print


def explain(
    model: str,
    texts: Sequence[str] = (),
    file: str | None = None,
    column: str | None = None,
    out: str | None = None,
    best: int | None = None,
    language_model: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "cpu",
) -> list[str]:
    """Write explanations of a model's predictions to a folder, `out`; at most `best` choices of each. Returns the paths
    of the files."""
    opened = opened_for(model, texts, file, column, language_model, overrides, device)
    opened.bundle.explain([], best)  # raises if the model has no explanations
    name = stem(Path(file)) if file else "texts"
    folder = Path(out) if out else places().generated / f"{opened.label}-{name}-explained"
    asked = at_most(_asked(opened, texts, file, column, overrides, *(folder / f"{table}.csv" for table in TABLES)))
    with as_user():
        paths, lines = write_explanations(folder, opened.bundle, asked, best, title=opened.name)
    for line in lines[:SHOWN]:
        say(line)
    return [str(path) for path in paths]


def states(
    model: str,
    out: str,
    texts: Sequence[str] = (),
    file: str | None = None,
    column: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "cpu",
) -> list[str]:
    """Write embeddings and hidden states to an .npz file, `out`, and print their shapes."""
    if Path(out).suffix != ".npz":
        raise UserError(f"{out} doesn't end in .npz", where="--states")
    opened = opened_for(model, texts, file, column, None, overrides, device)
    opened.bundle.states([])  # raises if the model has no states
    with as_user():
        shapes = write_states(Path(out), opened.bundle, _asked(opened, texts, file, column, overrides, Path(out)))
    for name, shape in list(shapes.items())[:SHOWN]:
        say(f"{name:16} {list(shape)}")
    if len(shapes) > SHOWN:
        say(f"… and {len(shapes) - SHOWN:,} more")
    return [out]


def _asked(
    opened: Opened,
    texts: Sequence[str],
    file: str | None,
    column: str | None,
    overrides: Sequence[str],
    *written: Path,
) -> Iterator[Asked]:
    """The inputs; checks that no input file will be `written`. Notes on a file are printed after its last row."""
    bundle = opened.bundle
    if texts:
        yield from of_texts(bundle, texts)
    elif bundle.task.settings is not None:  # models that generate read what they write
        if column or overrides:
            raise UserError("only applies to models that predict", where="--column" if column else "--set")
        items, notes = items_of(bundle, Path(str(file)), *written)
        for note in notes:
            say(f"        {note}")
        yield from ((f"item {number}", item) for number, item in enumerate(items, 1))
    else:
        _, reader, links = reader_of(bundle, str(file), column, overrides)
        for path in written:
            apart(path, reader.files)
        yield from of_file(bundle, reader)
        tell(reader, links)
