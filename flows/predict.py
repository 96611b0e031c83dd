"""Predicting: a registered model's answers to texts, or to what a file holds."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.bundle import Bundle
from components.datasets.archives import LINK, is_archive, unpacked
from components.datasets.folders import ending as ending_of
from components.datasets.folders import told
from components.datasets.labelled import LabelledReader, Row, stem
from components.datasets.sources import SECTION, build
from components.datasets.spans import spans
from components.encodings.base import Encoding
from components.encodings.mel import Mel
from components.encodings.symbols import Symbols
from components.errors import UserError
from components.paths import as_user
from components.recipe import check_options, parse_yaml
from components.registry import resolve
from components.tasks.classification import Classification
from components.tasks.language_model import LanguageModel
from components.tasks.tagging import Tagging
from components.tasks.transcription import Transcription
from components.whole_files import written_whole
from flows.console import say
from flows.generate import open_model
from flows.places import places

ROWS = 1000  # of a file, read and answered at once
TABLES = (".csv", ".tsv", ".tab", ".parquet", ".pq")


def reader_for(
    path: Path, data: Mapping[str, Any], column: str | None = None, overrides: Sequence[str] = ()
) -> LabelledReader:
    """How a file is read for a model: as its recipe reads its own data, or as the file's ending says. `overrides`:
    "data.KEY=VALUE", settings of the reader for this file.

    Raises:
        UserError: there is no such file, or nothing that reads it without labels; or a setting is wrong.
    """
    if not path.exists():
        raise UserError("no such file or folder", where=str(path))
    asked = _asked(overrides)
    ending, own = ending_of(path), str(data["reader"])
    kind = resolve("reader", own).files_by or own
    if own == "conll" and (ending in (".csv", ".parquet", ".pq") or column is not None):
        kind = "table"  # of texts; a file of tags in columns often ends in .tsv too
    elif ending in TABLES and own == "labelled-lines":
        kind = "table"
    elif (ending == ".txt" and own == "conll") or (
        ending not in TABLES and own == "table" and not data.get("separator")
    ):
        kind = "labelled-lines"
    elif ending == ".npy":
        kind = "frame-files"
    kind = str(asked.pop("reader", kind))
    if not issubclass(resolve("reader", kind, where="data.reader"), LabelledReader):
        raise UserError(f"this model's data come from {own}, which reads no file to be answered", where=str(path))
    shared = data if kind == own else ("coding", "errors")
    options = {key: data[key] for key in shared if data.get(key) is not None}
    if column is not None:
        if kind != "table":
            raise UserError(f"{column!r}: only tables have columns", where="--column")
        options |= {"input": column, "header": True}
    options = {key: value for key, value in (options | asked).items() if value is not None and key not in SECTION}
    problems: list[str] = []
    check_options("data", {**options}, [resolve("reader", kind)], problems)
    if problems:
        raise UserError("; ".join(problems), where="--set")
    return build("reader", kind, options, SECTION, [path])


def _asked(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of "data.KEY=VALUE"; None is one that is taken away."""
    asked: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        section, _, name = key.strip().partition(".")
        if not equals or section != "data" or not name or name in ("path", "dataset", "split"):
            hint = "settings of the reader, for example: --set data.coding=latin-1"
            raise UserError(f"{override!r} is no setting of how a file is read", where="--set", hint=hint)
        asked[name] = parse_yaml(text, where=f"--set {key}")
    return asked


def answers(bundle: Bundle, rows: list[Row]) -> Iterator[tuple[Row, Any, str]]:
    """Each row with its answer; or None, and why it can't be answered."""
    readable = [row.input for row in rows if not row.problem]
    try:
        found = iter([(answer, "") for answer in bundle.predict(readable)])
    except UserError:  # one of them: the others are answered all the same
        found = (_answer(bundle, item) for item in readable)
    return ((row, *((None, row.problem) if row.problem else next(found))) for row in rows)


def _answer(bundle: Bundle, item: Any) -> tuple[Any, str]:
    try:
        return bundle.predict([item])[0], ""
    except UserError as error:
        return None, error.what


def cells(answer: Any) -> dict[str, str]:
    """An answer as columns of a table."""
    if answer is None:
        return {"predicted": "", "probability": ""}
    if isinstance(answer, dict):
        return {"predicted": str(answer["label"]), "probability": f"{answer['probability']:.4f}"}
    if isinstance(answer, str):
        return {"predicted": answer}
    return {"predicted": " ".join(f"{one:.15g}" if isinstance(one, float) else str(one) for one in answer)}


def predict_file(bundle: Bundle, reader: LabelledReader, out: Path) -> Counter[str]:
    """Write the file's rows with their answers as CSV; gives how often each answer was given. A row that can't be
    read has no answer, and its column `problem` says why. The file's own columns stay as they are: a column of ours
    whose name is taken gets a number (problem_2)."""
    counts: Counter[str] = Counter()
    reader.trained_steps = getattr(bundle.encoding.input, "steps", None)
    reader.trained_on(bundle.info.get("columns", {}))  # an older bundle doesn't say
    rows = iter(reader.inputs())
    with written_whole(out) as whole, whole.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        columns: list[str] = []
        ours: dict[str, str] = {}
        while block := list(itertools.islice(rows, ROWS)):
            for row, answer, problem in answers(bundle, block):
                if not ours:
                    columns, ours = list(row.shown), _our_columns(bundle, row)
                    writer.writerow([*columns, *ours.values()])
                if list(row.shown) != columns:
                    what = f"columns {', '.join(row.shown)}, where the first file has {', '.join(columns)}"
                    raise UserError(what, where=row.where, hint="answer the files one by one")
                for shown, said in _lines(row, answer):
                    made = {**_tokens(bundle, row.input), **cells(said), "problem": problem}
                    writer.writerow([*shown.values(), *(made.get(name, "") for name in ours)])
                    counts[f"not read: {problem}" if problem else _counted(said, row)] += 1
    return counts


def _our_columns(bundle: Bundle, row: Row) -> dict[str, str]:
    """Our columns, and what they are called beside those that a row shows."""
    ours = ["predicted", *["probability"] * isinstance(bundle.task, Classification), "problem"]
    if _tokens(bundle, row.input):
        ours.insert(0, "tokens")
    named = {}
    for name in ours:
        others = (f"{name}_{number}" for number in itertools.count(2))
        named[name] = next(
            free for free in [name, *itertools.islice(others, len(row.shown) + 1)] if free not in row.shown
        )
    return named


def _lines(row: Row, answer: Any) -> Iterator[tuple[Mapping[str, str], Any]]:
    """What stands beside an answer, and the answer; one for each step where a step is a line of the file."""
    if not row.steps:
        yield row.shown, answer
    for at, step in enumerate(row.steps):
        yield step, None if answer is None else [answer[at]]


def _counted(answer: Any, row: Row) -> str:
    if isinstance(answer, dict):
        return str(answer["label"])
    return answer[0] if row.steps and answer else "answered"


def answer_texts(bundle: Bundle, texts: list[str]) -> list[str]:
    """A line for each text: the label, its probability and the text; or the text with its names marked, [Ann PERSON],
    or its words with their tags."""
    if bundle.task.settings is None:
        encoding = bundle.encoding.input
        # letters and bases are typed, though they become numbers: such an encoding has a prompt of its own
        if encoding.form == "frames" and type(encoding).prompt is Encoding.prompt:
            what = "sound" if isinstance(encoding, Mel) else "numbers"
            raise UserError(f"{bundle.name} reads {what}, not text", where="--text", hint="give a file: --file")
        for text in texts:
            for warning in encoding.prompt(text)[1]:
                say(f"warning: {warning.replace('the prompt', repr(text[:60]))}")
    return [_line(bundle, text, answer) for text, answer in zip(texts, bundle.predict(texts), strict=True)]


def with_language_model(bundle: Bundle, writer: Bundle) -> None:
    """Have a model of speech read with another model's knowledge of what is written.

    Raises:
        UserError: the first reads no speech, or the second is no language model over its tokens.
    """
    if not isinstance(bundle.task, Transcription) or not isinstance(writer.task, LanguageModel):
        what = f"{writer.name} writes no text" if isinstance(bundle.task, Transcription) else "reads no speech"
        raise UserError(f"{bundle.name}: {what}", where="--language-model")
    bundle.task.use_language_model(writer.model, writer.encoding)


def predict(
    model: str,
    texts: Sequence[str] = (),
    file: str | None = None,
    column: str | None = None,
    out: str | None = None,
    language_model: str | None = None,
    overrides: Sequence[str] = (),
) -> list[str]:
    """Answers of a registered model (NAME, NAME@champion, NAME@VERSION) to texts, a line each; or the path of the
    table of answers to a file's rows, read as the model's own data were but for `overrides` (data.KEY=VALUE); speech
    with a registered character `language_model`."""
    if bool(texts) == bool(file):
        raise UserError("give either --text or --file", where="predict")
    if overrides and not file:
        raise UserError("settings say how a file is read: give --file", where="--set")
    opened = open_model(model)
    bundle = opened.bundle
    if language_model:
        with_language_model(bundle, open_model(language_model).bundle)
    if texts:
        return answer_texts(bundle, texts)
    path, links = Path(str(file)), []
    if path.is_file() and is_archive(path):
        path, links = unpacked(path, places().datasets)
    reader = reader_for(path, bundle.recipe["data"], column, overrides)
    target = Path(out) if out else places().generated / f"{opened.label}-{stem(path)}-predictions.csv"
    with as_user():
        counts = predict_file(bundle, reader, target)
    shown = ", ".join(f"{count:,} × {name}" for name, count in counts.most_common(12))
    if sum(counts.values()) == 1:
        with target.open(encoding="utf-8", newline="") as table:
            say(next(csv.DictReader(table), {}).get("predicted", ""))
    say(f"answered {sum(counts.values()):,} rows of {path.name}: {shown or 'it has none'}")
    passed_over = reader.passed_over | ({LINK: links} if links else {})
    for note in [*told(passed_over), *reader.notes]:
        say(f"        {note}")
    return [str(target)]


def _line(bundle: Bundle, text: str, answer: Any) -> str:
    if isinstance(bundle.task, Tagging):
        encoding = bundle.encoding.input
        tokens = encoding.split(text) if isinstance(encoding, Symbols) else text.split()
        if len(tokens) == len(answer):
            return (marked if bundle.task.scheme == "iob" else _with_tags)(text, tokens, answer)
    said = cells(answer)
    return "  ".join([said["predicted"], *filter(None, [said.get("probability")]), text])


def marked(text: str, tokens: Sequence[str], tags: Sequence[str]) -> str:
    """The text as it is, with each span in brackets and its type behind it: [Harry Potter PERSON]."""
    places, at = [], 0
    for token in tokens:
        start = text.index(token, at)
        at = start + len(token)
        places.append((start, at))
    written, at = "", 0
    for first, end, kind in spans(tags):
        start, stop = places[first][0], places[end - 1][1]
        written += f"{text[at:start]}[{text[start:stop]} {kind.upper()}]"
        at = stop
    return written + text[at:]


def _with_tags(_: str, tokens: Sequence[str], tags: Sequence[str]) -> str:
    return " ".join(token if tag in ("", "O") else f"{token}/{tag}" for token, tag in zip(tokens, tags, strict=True))


def _tokens(bundle: Bundle, item: Any) -> dict[str, str]:
    """What stands beside the tags of a text: the words that they are of."""
    encoding = bundle.encoding.input
    if not isinstance(bundle.task, Tagging) or not isinstance(encoding, Symbols) or isinstance(item, list):
        return {}
    return {"tokens": " ".join(encoding.split(item)) if isinstance(item, str) else ""}
