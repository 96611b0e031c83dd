"""Sentences as trees in Penn brackets, a sentiment at every node (Stanford Sentiment Treebank, Socher et al. 2013)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from components.datasets.base import TextFilesReader
from components.datasets.files.cells import lines
from components.datasets.labelled import LabelledReader, Row
from components.errors import UserError

PIECE = re.compile(r"[()]|[^ \t()]+")  # a no-break space is part of a word: "8 1/2" is one in the treebank
BEGINS = re.compile(r"[ \t]*\([ \t]*[0-4][ \t]")  # a tree, not a sentence in plain text
DEEPEST = 1000  # nested nodes
SENTIMENTS = ("0", "1", "2", "3", "4")
NEUTRAL = 2
# the Penn Treebank's escapes of brackets and quotation marks
SIGNS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"'}
EXAMPLE = "(4 (2 a) (4 (4 wonderful) (2 film)))"


@dataclass(frozen=True)
class Phrase:
    """A node: its sentiment from 0 to 4, and its words, as indices in the sentence."""

    sentiment: int
    start: int
    end: int


@dataclass(kw_only=True, eq=False)
class TreesReader(TextFilesReader, LabelledReader):
    """Items (text, label), a tree a line: `(4 (2 a) (4 (4 wonderful) (2 film)))`, gzip or not. The text is the words,
    joined by single spaces; brackets and quotation marks are unescaped.

    `classes`: 5 gives the labels "1" (very negative) to "5"; 2 gives negative and positive, without neutral ones.
    `phrases`: in training every node is an example; val and test consist of whole sentences. A repeated phrase with the
    same label, ignoring case, is left out; all sentences are kept. Each split then needs its own files. A sentence of
    more than `max_length` words is dropped.

    Raises:
        UserError: a line isn't such a tree.
    """

    classes: Literal[5, 2] = 5
    phrases: bool = False
    max_length: Annotated[int, Field(gt=0, le=10_000)] = 1000

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        if self.phrases:
            self.parted = "data.phrases", "phrases of one sentence would be in several splits"

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        every = self.phrases and labelled and self.split == "train"
        seen: set[tuple[str, str]] = set()
        for path in self.files:
            for number, line in lines(self._text, path):
                where = f"{path}: line {number}"
                if not line.strip():
                    yield Row(where, {"input": ""}, problem="empty line")
                elif not labelled and not BEGINS.match(line):
                    yield Row(where, {"input": line.strip()}, line.strip())
                else:
                    words, nodes = parse(line, where)
                    if len(words) > self.max_length:
                        yield Row(where, {"input": ""}, problem=f"longer than {self.max_length:,} words")
                    else:
                        yield from self._examples(where, words, nodes if every else nodes[:1], seen)

    def _examples(self, where: str, words: list[str], nodes: list[Phrase], seen: set[tuple[str, str]]) -> Iterator[Row]:
        for at, node in enumerate(nodes):
            text, label = " ".join(words[node.start : node.end]), self._label(node.sentiment)
            key = text.casefold(), label
            repeated = at > 0 and key in seen
            if len(nodes) > 1:
                seen.add(key)
            yield Row(
                where, {"input": text}, text, label, "repeated phrase" if repeated else "" if label else "neutral"
            )

    def _label(self, sentiment: int) -> str:
        if self.classes == 5:
            return str(sentiment + 1)
        return "" if sentiment == NEUTRAL else "positive" if sentiment > NEUTRAL else "negative"


def parse(line: str, where: str) -> tuple[list[str], list[Phrase]]:
    """The words of a tree and its nodes, the root first.

    Raises:
        UserError: the line isn't one tree whose nodes each have a sentiment from 0 to 4 and either one word or nodes.
    """

    def wrong(what: str, at: int) -> UserError:
        return UserError(what, where=f"{where}, character {at + 1}", hint=f"write each line as a tree, e.g. {EXAMPLE}")

    words: list[str] = []
    nodes: list[Phrase] = []
    opened: list[_Open] = []
    pieces = PIECE.finditer(line)
    for piece in pieces:
        text, at = piece.group(), piece.start()
        if not opened and (nodes or text != "("):
            raise wrong("there is text after the end of the tree" if nodes else "isn't a tree", at)
        if text == "(":
            sentiment = next(pieces, None)
            if sentiment is None or sentiment.group() not in SENTIMENTS:
                raise wrong("a node must begin with a sentiment from 0 to 4", at)
            if opened and opened[-1].word:
                raise wrong("a node has a word and another node", at)
            if len(opened) == DEEPEST:
                raise wrong(f"nodes are nested more than {DEEPEST:,} deep", at)
            opened.append(_Open(len(nodes), len(words)))
            nodes.append(Phrase(int(sentiment.group()), len(words), len(words)))  # its end is set when it is closed
        elif text == ")":
            node = opened.pop()
            if len(words) == node.first:
                raise wrong("a node has no word", at)
            nodes[node.place] = replace(nodes[node.place], end=len(words))
        elif len(words) > opened[-1].first or opened[-1].place < len(nodes) - 1:
            raise wrong("a node must have either one word or other nodes", at)
        else:
            words.append(SIGNS.get(text, text.replace("\\/", "/").replace("\\*", "*")))
            opened[-1].word = True
    if opened or not nodes:
        raise wrong(f"{len(opened):,} brackets aren't closed" if opened else "isn't a tree", len(line.rstrip()))
    return words, nodes


@dataclass
class _Open:
    """An open node: its index among the nodes, its first word's index, whether it has a word itself."""

    place: int
    first: int
    word: bool = False
