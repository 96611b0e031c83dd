"""Tables of transcripts of recordings: LJSpeech, Common Voice, spreadsheets."""

from __future__ import annotations

import csv
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from components.datasets.files.cells import lines
from components.datasets.files.text import TextFiles
from components.errors import UserError, listed, unknown

LARGEST_BYTES = 128 << 20
SEPARATORS = "|\t;,"
FILE_COLUMNS = ("file", "path", "file_name", "filename", "wav", "wav_filename", "audio", "audio_file", "clip", "id")
TEXT_COLUMNS = ("text", "sentence", "transcript", "transcription", "normalized_text", "utterance")
SOUNDS = {".wav", ".wave", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".aiff", ".wma"}
LOOKED_AT = 100  # lines, to detect the separator and a header
LISTED = 3  # names in a note


class Transcripts:
    """The transcripts of `sounds` from a table. `texts`: by sound; `notes`: rows without a sound, for the user.

    A table with a header has a column for the file and one for the text, named by `file_column` and `text_column`
    (default: FILE_COLUMNS and TEXT_COLUMNS). Without a header the columns are numbered from 1: the file is the first;
    the text is the second of two, or the third of three with bars as separators, as in LJSpeech. Tabs, bars, semicolons
    or commas separate; double quotes are used with semicolons and commas.

    A file is named by its path from the table's folder or by its name only; if no sound has exactly this name, suffix
    and case are ignored. `coding`: see TextFiles.

    Raises:
        UserError: the table can't be read, a column is missing, or a sound has two texts.
    """

    def __init__(
        self,
        path: Path,
        sounds: Sequence[Path],
        *,
        file_column: str | None = None,
        text_column: str | None = None,
        coding: str = "utf-8",
    ) -> None:
        self.path, self.texts, self.notes = path, {}, []
        if not path.is_file():
            raise UserError("no such file of transcripts", where=str(path), hint="set data.transcripts to the file")
        about = {"dropped": Counter(), "notes": self.notes, "settings": ("coding",)}
        self._text = TextFiles(coding=coding, max_bytes=LARGEST_BYTES, **about)
        self._keys = _Keys(sounds, path.parent)
        rows, columns = self._rows(file_column, text_column)
        lost: dict[str, list[str]] = defaultdict(list)
        for number, cells in rows:
            name, text = (cells[column].strip() for column in columns)
            found = self._keys.find(name)
            if len(found) != 1:
                lost["name several recordings" if found else "name no recording"].append(name)
            elif self.texts.setdefault(found[0], text) != text:
                hint = "leave one of them out"
                raise UserError(
                    f"{name!r} has a different text in an earlier line", where=f"{path}: line {number}", hint=hint
                )
        for what, names in lost.items():
            shown = listed([name[:80] or "(no name)" for name in names], LISTED)
            self.notes.append(f"{len(names):,} lines of {path.name} {what}: {shown}")

    def _rows(
        self, file_column: str | None, text_column: str | None
    ) -> tuple[Iterator[tuple[int, list[str]]], tuple[int, int]]:
        """The table's rows with their line numbers, and the indices of the file and text columns."""
        begin = [line for _, line in itertools.islice(self._lines(), LOOKED_AT)]
        header = self._header(begin[0], file_column, text_column)
        if header is not None:
            separator, names, columns = header
            return itertools.islice(self._cells(separator, len(names)), 1, None), columns
        separator = self._separator(begin)
        width = len(next(_split(begin[:1], separator), []))
        defaults = {2: 2, 3: 3} if separator == "|" else {2: 2}
        columns = []
        for setting, name, default in (("file", file_column, 1), ("text", text_column, defaults.get(width))):
            number = int(name) if name and name.isdecimal() else None if name else default
            if number is None or not 1 <= number <= width:
                what = f"no column {name!r}" if name else f"which of the {width} columns is the {setting}?"
                hint = f"set data.{setting}_column to its name or number; the first line is {begin[0][:80]!r}"
                raise UserError(what, where=str(self.path), hint=hint)
            columns.append(number - 1)
        return self._cells(separator, width), (columns[0], columns[1])

    def _header(
        self, line: str, file_column: str | None, text_column: str | None
    ) -> tuple[str, list[str], tuple[int, int]] | None:
        """Separator, column names and the indices of the two columns, if the first line is a header."""
        wanted = [([name] if name else list(known)) for name, known in zip(
            (file_column, text_column), (FILE_COLUMNS, TEXT_COLUMNS), strict=True)]  # fmt: skip
        for separator in SEPARATORS:
            names = [cell.strip() for cell in next(_split([line], separator), [])]
            lower = [name.lower() for name in names]
            places = [next((lower.index(n.lower()) for n in of if n.lower() in lower), None) for of in wanted]
            if None not in places and len(names) > 1:
                return separator, names, (places[0], places[1])
        return None

    def _separator(self, begin: list[str]) -> str:
        """The separator that splits off the names of sounds; for a table without a header."""
        for separator in SEPARATORS:
            if any(len(cells) > 1 and self._keys.find(cells[0].strip()) for cells in _split(begin, separator)):
                return separator
        names = next((n for s in SEPARATORS if len(n := next(_split(begin[:1], s), [])) > 1), begin[:1])
        hint = "set data.file_column and data.text_column to names, or to numbers from 1 if there is no header"
        hint += "; columns can be separated by bars, tabs, semicolons or commas"
        error = unknown("column", FILE_COLUMNS[0], [name.strip()[:80] for name in names], where=str(self.path))
        raise UserError(error.what, where=error.where, hint=f"{error.hint}; {hint}" if error.hint else hint)

    def _cells(self, separator: str, width: int) -> Iterator[tuple[int, list[str]]]:
        table = _reader((line for _, line in self._lines()), separator)
        while True:
            try:
                cells = next(table, None)
            except csv.Error as error:
                raise UserError(str(error), where=f"{self.path}: line {table.line_num}") from None
            if cells is None:
                return
            if cells and len(cells) != width:
                what = f"has {len(cells)} cells, but the first line has {width}"
                hint = f"put texts that contain {separator!r} in double quotes" if separator in ",;" else None
                raise UserError(what, where=f"{self.path}: line {table.line_num}", hint=hint)
            if cells:
                yield table.line_num, cells

    def _lines(self) -> Iterator[tuple[int, str]]:
        return lines(self._text, self.path)


class _Keys:
    """The sounds by the names that a table may use."""

    def __init__(self, sounds: Sequence[Path], folder: Path) -> None:
        self._found: dict[str, list[Path]] = defaultdict(list)
        for path in sounds:
            inside = path.relative_to(folder) if path.is_relative_to(folder) else path
            exact = {normalize("NFC", one) for one in (inside.as_posix(), path.name)}  # macOS has é as e and an accent
            for key in exact | {_loose(name) for name in exact}:
                self._found[key].append(path)

    def find(self, name: str) -> list[Path]:
        name = normalize("NFC", name)
        exact = PurePosixPath(name.replace("\\", "/")).as_posix()
        last = exact.rpartition("/")[2]
        keys = (exact, _loose(exact), last, _loose(last))
        return next((self._found[key] for key in keys if name and key in self._found), [])


def _loose(name: str) -> str:
    """Without a sound suffix, in lower case; marked, to differ from exact names."""
    path = PurePosixPath(name)
    return "\0" + str(path.with_suffix("") if path.suffix.lower() in SOUNDS else path).casefold()


def _split(begin: list[str], separator: str) -> Iterator[list[str]]:
    for line in begin:
        try:
            yield next(_reader([line], separator), [])
        except csv.Error:
            continue


def _reader(source, separator: str):
    quoting = csv.QUOTE_MINIMAL if separator in ",;" else csv.QUOTE_NONE
    return csv.reader((line + "\n" for line in source), delimiter=separator, quoting=quoting)
