"""Tagged text in columns: a token a line, a blank line after each sentence (CoNLL-2000, 2003, CoNLL-U, WNUT)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.cells import lines
from components.datasets.labelled import NamedLabels, Row
from components.datasets.text.spans import OUTSIDE, as_iob2
from components.errors import UserError, unknown

BLANKS = " \t"  # unlike str.strip: a no-break space can be a token
DOCUMENT = "-DOCSTART-"
NO_TOKEN = re.compile(r"\d+[-.]\d+")  # CoNLL-U's ids of multiword tokens and empty nodes
MORE = "a line has more columns than the file's first line"
LONGEST_TOKEN = 1000  # characters

Column = Annotated[int, Field(ge=1, le=100)]


@dataclass
class _Sentence:
    number: int  # of its first line
    tokens: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(kw_only=True, eq=False)
class ConllReader(NamedLabels, TextFilesReader):
    """Items ([token], [tag]), gzip or not. `token_column`: column of the tokens, counted from 1. `tag_column`: column
    of the tags (default: the last). Columns are separated by tabs if a file's first line of columns has one, else by
    blanks.

    `scheme` iob: tags are of spans in IOB1, IOB2 or BIOES and are converted to IOB2; none: they stay as they are (parts
    of speech). `labels`: the allowed types of spans (or tags), mapped to the names they get.

    Blank lines and `-DOCSTART-` lines end a sentence. Comments (# before a sentence, with another number of columns
    than the file's lines have) are skipped, as are CoNLL-U's lines 3-4 (multiword tokens) and 3.1 (empty nodes). A
    sentence with a line that can't be read, or of more than `max_length` tokens, is dropped.

    Raises:
        UserError: a type isn't among `labels`; the nearest one is suggested. Or the first tokens are 1, 2, 3 …
    """

    columns_set_by = "data.tag_column"

    token_column: Column = 1
    tag_column: Column | None = None
    scheme: Literal["iob", "none"] = "iob"
    unique: bool = False
    max_length: Annotated[int, Field(gt=0)] = 1000

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        for path in self.files:
            for at, sentence in enumerate(self._sentences(path, labelled)):
                where = f"{path}: line {sentence.number}"
                if at == 0 and labelled and self.token_column == 1:
                    _check_words(sentence, where)
                yield self._row(where, sentence, labelled)

    def _row(self, where: str, sentence: _Sentence, labelled: bool) -> Row:
        shown, tags = {"tokens": " ".join(sentence.tokens)}, sentence.tags
        if sentence.problem or not labelled:
            return Row(where, shown, sentence.tokens, problem=sentence.problem)
        if self.scheme == "iob":
            try:
                tags = as_iob2(tags)
            except ValueError:
                return Row(
                    where, shown, problem="a tag that is neither IOB nor BIOES (for other tags set data.scheme: none)"
                )
        return Row(where, shown, sentence.tokens, [self._renamed(tag, where) for tag in tags])

    def _renamed(self, tag: str, where: str) -> str:
        place, dash, kind = tag.partition("-") if self.scheme == "iob" else ("", "", tag)
        if self.labels is None or (tag == OUTSIDE and self.scheme == "iob"):
            return tag
        if kind not in self.labels:
            raise unknown("label", kind, self.labels, where=where)
        return f"{place}{dash}{self.labels[kind]}"

    def _sentences(self, path: Path, labelled: bool) -> Iterator[_Sentence]:
        tabs, columns = self._shape(path)
        if labelled and columns and not self.tag_column:
            self.same("predicted", [f"column {max(2, columns)}"], path)
        sentence: _Sentence | None = None
        for number, line in lines(self._text, path):
            cells = _cells(line, tabs)
            # comments stand between sentences; a token may be "#" or a hashtag, with as many columns as the others
            comment = sentence is None and line.startswith("#") and len(cells) != columns
            if comment or (cells and self.token_column > 1 and NO_TOKEN.fullmatch(cells[0])):
                continue
            if cells and cells[0] != DOCUMENT:
                sentence = sentence or _Sentence(number)
                # otherwise a text with blanks would be read as a token and its tag
                sentence.problem = sentence.problem or MORE * (not tabs and len(cells) > columns)
                self._add(sentence, cells, columns, labelled)
            elif sentence:
                yield sentence
                sentence = None
        if sentence:
            yield sentence

    def _add(self, sentence: _Sentence, cells: list[str], columns: int, labelled: bool) -> None:
        tag_column = self.tag_column or max(2, columns)
        wanted = (self.token_column, tag_column) if labelled else (self.token_column,)
        found = [cells[at - 1] if at <= len(cells) else "" for at in wanted]
        if len(sentence.tokens) == self.max_length:
            sentence.problem = f"more than {self.max_length:,} tokens"
        elif not all(found):
            sentence.problem = "a line lacks a column"
        elif len(found[0]) > LONGEST_TOKEN:
            sentence.problem = f"a token of more than {LONGEST_TOKEN:,} characters"
        if not sentence.problem:
            sentence.tokens.append(found[0])
            sentence.tags += found[1:]

    def _shape(self, path: Path) -> tuple[bool, int]:
        """Whether tabs separate a file's columns, and their number, by the first line that isn't a comment."""
        shape = False, 0
        for _, line in lines(self._text, path):
            if line.strip(BLANKS) and not line.startswith(DOCUMENT):
                tabs = "\t" in line.strip(BLANKS)
                here = tabs, len(_cells(line, tabs))
                if not line.startswith("#"):
                    return here
                shape = shape if shape[1] else here
        return shape


def _check_words(sentence: _Sentence, where: str) -> None:
    counted = [token for token in sentence.tokens if not NO_TOKEN.fullmatch(token)]
    if len(counted) > 2 and counted == [str(at + 1) for at in range(len(counted))]:
        hint = "set data.token_column to the column of the words: 2 in CoNLL-U"
        raise UserError("column 1 numbers the words (1, 2, 3 …)", where=where, hint=hint)


def _cells(line: str, tabs: bool) -> list[str]:
    """The line's columns; [] for a blank line."""
    line = line.rstrip(BLANKS)
    if tabs and line:
        return [cell.strip(" ") for cell in line.split("\t")]
    return [cell for cell in line.replace("\t", " ").split(" ") if cell]
