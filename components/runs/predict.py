"""Prediction for texts or files with a registered model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.bundle import Bundle
from components.console import say
from components.datasets.files.archives import LINK, is_archive, unpacked
from components.datasets.files.folders import told
from components.datasets.labelled import LabelledReader, stem
from components.errors import UserError
from components.paths import as_user
from components.runs.generate import open_model
from components.runs.places import places
from components.use.files import reader_for
from components.use.lines import answer_texts, with_language_model
from components.use.opening import Opened
from components.use.table import NOT_READ, predict_file


def predict(
    model: str,
    texts: Sequence[str] = (),
    file: str | None = None,
    column: str | None = None,
    out: str | None = None,
    language_model: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "cpu",
) -> list[str]:
    """Predict with a registered model (NAME, NAME@champion, NAME@VERSION). Returns a line for each text; or the path of
    the table of predictions for a file's rows, which are read like the training data, with `overrides`
    (data.KEY=VALUE). `language_model`: a registered character model for decoding speech."""
    if texts and out:
        raise UserError("only works with --file: predictions for --text are printed", where="--out")
    opened = opened_for(model, texts, file, column, language_model, overrides, device)
    bundle = opened.bundle
    if texts:
        return answer_texts(bundle, texts, say)
    path, reader, links = reader_of(bundle, str(file), column, overrides)
    target = Path(out) if out else places().generated / f"{opened.label}-{stem(path)}-predictions.csv"
    with as_user():
        counts = predict_file(bundle, reader, target, say)
    shown = ", ".join(f"{count:,} × {name}" for name, count in counts.most_common(12))
    say(f"predicted {sum(counts.values()):,} rows of {path.name}: {shown or 'the file has none'}")
    tell(reader, links)
    if counts and all(name.startswith(NOT_READ) for name in counts):
        raise UserError("no row could be predicted", where=str(path), hint=f"{target} gives the reason for each row")
    return [str(target)]


def tell(reader: LabelledReader, links: list[str]) -> None:
    """Print what was skipped or removed in the files, and the reader's notes."""
    passed_over = reader.passed_over | ({LINK: links} if links else {})
    left_out = [f"left out: {count:,} × {reason}" for reason, count in reader.dropped.items()]
    for note in [*told(passed_over), *left_out, *reader.notes]:
        say(f"        {note}")


def opened_for(
    model: str,
    texts: Sequence[str],
    file: str | None,
    column: str | None,
    language_model: str | None,
    overrides: Sequence[str],
    device: str,
) -> Opened:
    """Load the model for texts or a file, with a language model if one is given.

    Raises:
        UserError: both are given or neither, or settings or a column without a file.
    """
    if bool(texts) == bool(file):
        raise UserError("give either --text or --file", where="predict")
    for option, given in (("--set", overrides), ("--column", column)):
        if given and not file:
            raise UserError("only works with --file", where=option)
    opened = open_model(model, device)
    if language_model:
        with_language_model(opened.bundle, open_model(language_model, device).bundle)
    return opened


def reader_of(
    bundle: Bundle, file: str, column: str | None, overrides: Sequence[str]
) -> tuple[Path, LabelledReader, list[str]]:
    """A file or archive, its reader, and the links in an archive that were skipped."""
    path, links = Path(file), []
    if path.is_file() and is_archive(path):
        path, links = unpacked(path, places().datasets)
    return path, reader_for(path, bundle.recipe["data"], column, overrides), links
