"""The Reader contract: files to items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from components.datasets.folders import PassedOver, inside
from components.errors import UserError


class Reader(ABC):
    """Reads the files of one data set. Keyword-only parameters are its recipe schema (section `data`).

    framing "stream": the items are consecutive pieces of one long sequence (a text), cut where an encoding
    can be applied to each piece alone; they are concatenated, and may be sliced: `length(item[:n]) == n`.
    framing "sequences": each item is a sequence of its own and is framed by BOS and EOS.

    Settings of several readers. `coding`: how the bytes of a text are read: utf-8, latin-1, cp1252, gbk, shift-jis or
    another that Python knows, or auto: detected. `errors`: "replace" reads undecodable bytes as U+FFFD instead of
    refusing the file. `max_bytes`: a file that has more, unpacked, is refused. `workers`: how many files are read at
    once, each in a process of its own. `families`: pieces whose melodies share patterns of intervals, in any key and
    rhythm, stay on one side of a split that is made here.
    """

    framing: ClassVar[Literal["stream", "sequences"]]
    pairs: ClassVar[bool] = False  # items are (input, target)
    own: ClassVar[bool] = False  # makes its items itself: no dataset, no path
    files_by: ClassVar[str] = ""  # the reader of files of that kind, where this one reads none
    gives_way: ClassVar[bool] = False  # where a path or a dataset is given, that is read instead (of `own` readers)
    holds_splits: bool = False  # its files say what is train, val and test: read with `part` set to each
    by_time: ClassVar[bool] = False  # cuts each of its series by time: read with `part` and `fractions` set
    # of each number of a target the column of the input that it goes on from; none: the target is something else
    continues: Sequence[int] = ()
    part: str | None = None
    split: str | None = None  # whose files it reads, where each split has files of its own
    # setting, and why its items can't be dealt out to splits by their groups; none: they can
    parted: tuple[str, str] | None = None
    fractions: Sequence[float] = (1.0, 0.0, 0.0)
    families: bool = False  # its items are scores, and those of one family of tunes stay on one side of a split
    grouped: str = ""  # what a person should know of the groups that its items were dealt out by
    endings: tuple[str, ...] = ()  # of the files that it reads in a folder; none: any
    ways_out: ClassVar[Mapping[str, str]] = {}  # reason in `dropped` → what to set, where something helps

    def __init__(self, files: Sequence[Path], /) -> None:
        if self.own and files:
            reads = f"; data.reader={self.files_by} reads yours" if self.files_by else ""
            hint = f"leave the files out: this reader makes its own items{reads}"
            raise UserError(f"{len(files)} files given", where="data.path", hint=hint)
        self.files: list[Path] = []  # the files given, and those in the folders given
        self.in_folders: set[Path] = set()  # those of them that were found in a folder
        self.passed_over: PassedOver = {}  # what isn't read of a folder
        for path in files:
            if path.is_dir():
                found, passed_over = inside(path, self.endings)
                self.files += found
                self.in_folders.update(found)
                for reason, names in passed_over.items():
                    self.passed_over.setdefault(reason, []).extend(names)
            else:
                self.files.append(path)
        self.decided: list[str] = []  # from the files' names: what a person should know about it
        self.dropped: Counter[str] = Counter()  # reason → how many, after one pass over items()
        self.notes: list[str] = []  # what a person should know about this reading
        # role (read, predicted) → a file, and what its header calls the columns that were found by their place or kind;
        # the readers of a data set's splits share it
        self.found: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.report: list[dict[str, Any]] = []  # a row for each file, where a person would want to know: equal keys
        self.progress: Callable[[str], None] = lambda line: None  # told now and then how far a slow reading is

    def nothing_here(self, given: Sequence[Path]) -> UserError:
        """Why there is nothing to read in the files and folders that were given."""
        others = ", ".join(f"{len(names):,} × {reason}" for reason, names in self.passed_over.items())
        wanted = f"no files of {', '.join(self.endings)}" if self.endings else "no files to read"
        return UserError(f"{wanted} here{f', but {others}' if others else ''}", where=", ".join(map(str, given[:3])))

    @abstractmethod
    def items(self) -> Iterator[Any]:
        """The items in file order. May be called again: reads anew and gives the same items."""

    def length(self, item: Any) -> int:
        """What the split is measured in: 1 an item; a stream counts its own units (characters)."""
        return 1

    def group(self, item: Any) -> str | None:
        """Items with the same key are the same piece and stay on one side of a split; None = its own group."""
        return None

    def family_title(self, item: Any) -> str:
        """What pieces of one family may be called alike; "" where it isn't known."""
        return ""

    def places(self, indices: Collection[int]) -> dict[int, str]:
        """Where a person finds the items of these indices (from 0, in the order of `items`)."""
        of = f" of {self.files[0].name}" if len(self.files) == 1 else ""
        return {index: f"item {index + 1}{of}" for index in indices}

    def reported(self, refused: Mapping[int, str]) -> list[dict[str, Any]]:
        """The report with the reasons why the encoding refused items (by index)."""
        unlike = dict.fromkeys(self.report[0] if self.report else ())
        rows = [
            {"file": place, "read": False, "reason": refused[index]} for index, place in self.places(refused).items()
        ]
        return self.report + [unlike | row for row in rows]

    def share(self, steps: int) -> tuple[int, int]:
        """(first, end) of the steps of a series that belong to `part`, by the `fractions`; of all, without a part."""
        if self.part is None:
            return 0, steps
        at = ("train", "val", "test").index(self.part)
        return round(steps * sum(self.fractions[:at])), round(steps * sum(self.fractions[: at + 1]))

    def digest(self) -> str | None:
        """Content digest of what is read when there are no files (a package's corpus); None = the files'."""
        return None
