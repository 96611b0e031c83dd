"""The Reader contract: files to items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal


class Reader(ABC):
    """Reads the files of one data set. Keyword-only parameters are its recipe schema (section `data`).

    framing "stream": the items are consecutive pieces of one long sequence (a text), cut where an encoding
    can be applied to each piece alone; they are concatenated, and may be sliced: `length(item[:n]) == n`.
    framing "sequences": each item is a sequence of its own and is framed by BOS and EOS.
    """

    framing: ClassVar[Literal["stream", "sequences"]]
    pairs: ClassVar[bool] = False  # items are (input, target)
    own: ClassVar[bool] = False  # makes its items itself: no dataset, no path
    files_by: ClassVar[str] = ""  # the reader of files of that kind, where this one reads none
    holds_splits: ClassVar[bool] = False  # its files say what is train, val and test: read with `part` set to each
    part: str | None = None
    takes_folders: ClassVar[bool] = False  # looks for its files in a folder itself, however deep

    def __init__(self, files: Sequence[Path], /) -> None:
        self.files = list(files)
        self.dropped: Counter[str] = Counter()  # reason → how many, after one pass over items()
        self.notes: list[str] = []  # what a person should know about this reading
        self.report: list[dict[str, Any]] = []  # a row for each file, where a person would want to know: equal keys
        self.progress: Callable[[str], None] = lambda line: None  # told now and then how far a slow reading is

    @abstractmethod
    def items(self) -> Iterator[Any]:
        """The items in file order. May be called again: reads anew and gives the same items."""

    def length(self, item: Any) -> int:
        """What the split is measured in: 1 an item; a stream counts its own units (characters)."""
        return 1

    def group(self, item: Any) -> str | None:
        """Items with the same key are the same piece and stay on one side of a split; None = its own group."""
        return None

    def place(self, index: int) -> str:
        """Where a person finds item `index` (from 0, in the order of `items`)."""
        return f"item {index + 1} of {self.files[0].name}" if len(self.files) == 1 else f"item {index + 1}"

    def reported(self, refused: Mapping[int, str]) -> list[dict[str, Any]]:
        """The report with the reasons why the encoding refused items (by index)."""
        unlike = dict.fromkeys(self.report[0] if self.report else ())
        rows = [{"file": self.place(index), "read": False, "reason": reason} for index, reason in refused.items()]
        return self.report + [unlike | row for row in rows]

    def digest(self) -> str | None:
        """Content digest of what is read when there are no files (a package's corpus); None = the files'."""
        return None
