"""Prediction for texts or files with a registered model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Request:
    """What a registered model (NAME, NAME@champion, NAME@VERSION) is asked about: `texts`, or the rows of a `file`,
    which are read like the training data, with `overrides` (data.KEY=VALUE). `column`: that of the texts.
    `language_model`: a registered character model for decoding speech."""

    model: str
    texts: Sequence[str] = ()
    file: str | None = None
    column: str | None = None
    language_model: str | None = None
    overrides: Sequence[str] = ()
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Part of the names of output files."""
        return stem(Path(self.file)) if self.file else "texts"

    def open(self) -> Opened:
        """Load the model, with the language model if one is given.

        Raises:
            UserError: texts and a file are given or neither, or settings or a column without a file.
        """
        if bool(self.texts) == bool(self.file):
            raise UserError("give either --text or --file", where="predict")
        for option, given in (("--set", self.overrides), ("--column", self.column)):
            if given and not self.file:
                raise UserError("only works with --file", where=option)
        opened = open_model(self.model, self.device)
        if self.language_model:
            with_language_model(opened.bundle, open_model(self.language_model, self.device).bundle)
        return opened

    def reader(self, bundle: Bundle) -> tuple[Path, LabelledReader, list[str]]:
        """The file or the folder of the archive, its reader, and the links in an archive that were skipped."""
        path, links = Path(str(self.file)), []
        if path.is_file() and is_archive(path):
            path, links = unpacked(path, places().datasets)
        return path, reader_for(path, bundle.recipe["data"], self.column, self.overrides), links


def predict(request: Request, out: str | None = None) -> list[str]:
    """A line for each text; or the path of the table of predictions for a file's rows, by default under generated/."""
    if request.texts and out:
        raise UserError("only works with --file: predictions for --text are printed", where="--out")
    opened = request.open()
    bundle = opened.bundle
    if request.texts:
        return answer_texts(bundle, request.texts, say)
    path, reader, links = request.reader(bundle)
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
