"""Explanations of a registered model's predictions, and its hidden states, for texts or the rows of a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.bundle import Bundle
from components.console import say
from components.errors import UserError
from components.paths import apart, as_user
from components.runs.places import places
from components.runs.predict import Request, tell
from components.use.explaining import TABLES, Asked, at_most, of_file, of_texts, write_explanations, write_states
from components.use.scoring import items_of

SHOWN = 8  # inputs and arrays to print


def explain(request: Request, out: str | None = None, best: int | None = None) -> list[str]:
    """Write explanations of a model's predictions to a folder, `out`; at most `best` choices of each. Returns the paths
    of the files."""
    opened = request.open()
    opened.bundle.explain([], best)  # raises if the model has no explanations
    folder = Path(out) if out else places().generated / f"{opened.label}-{request.name}-explained"
    asked = at_most(_asked(opened.bundle, request, *(folder / f"{table}.csv" for table in TABLES)))
    with as_user():
        paths, lines = write_explanations(folder, opened.bundle, asked, best, title=opened.name)
    for line in lines[:SHOWN]:
        say(line)
    return [str(path) for path in paths]


def states(request: Request, out: str) -> list[str]:
    """Write embeddings and hidden states to an .npz file, `out`, and print their shapes."""
    if Path(out).suffix != ".npz":
        raise UserError(f"{out} doesn't end in .npz", where="--states")
    bundle = request.open().bundle
    bundle.states([])  # raises if the model has no states
    with as_user():
        shapes = write_states(Path(out), bundle, _asked(bundle, request, Path(out)))
    for name, shape in list(shapes.items())[:SHOWN]:
        say(f"{name:16} {list(shape)}")
    if len(shapes) > SHOWN:
        say(f"… and {len(shapes) - SHOWN:,} more")
    return [out]


def _asked(bundle: Bundle, request: Request, *written: Path) -> Iterator[Asked]:
    """The inputs; checks that no input file will be `written`. Notes on a file are printed after its last row."""
    if request.texts:
        yield from of_texts(bundle, request.texts)
    elif bundle.task.settings is not None:  # models that generate read what they write
        if request.column or request.overrides:
            raise UserError("only applies to models that predict", where="--column" if request.column else "--set")
        items, notes = items_of(bundle, Path(str(request.file)), *written)
        for note in notes:
            say(f"        {note}")
        yield from ((f"item {number}", item) for number, item in enumerate(items, 1))
    else:
        _, reader, links = request.reader(bundle)
        for path in written:
            apart(path, reader.files)
        yield from of_file(bundle, reader)
        tell(reader, links)
