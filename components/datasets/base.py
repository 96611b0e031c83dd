"""The Reader contract: from files to items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from components.datasets.files.codings import Coding
from components.datasets.files.folders import PassedOver, ending, inside
from components.datasets.files.text import TextFiles
from components.errors import UserError
from components.options import options_of


@dataclass(kw_only=True, eq=False)
class _OfFiles(ABC):
    """What every reader is given: files, and folders of them."""

    files: InitVar[Sequence[Path]] = field(default=(), kw_only=False)

    @abstractmethod
    def __post_init__(self, files: Sequence[Path]) -> None:
        """Find the files in the folders."""


class Reader(_OfFiles):
    """Reads the files of a data set. A reader is a dataclass: its fields are its recipe schema (section `data`).

    framing "stream": the items are consecutive pieces of one long sequence (a text), cut where an encoding can be
    applied to each piece alone. They are concatenated, and may be sliced: `length(item[:n]) == n`. framing "sequences":
    each item is a separate sequence, framed by BOS and EOS.

    Settings of several readers. `workers`: number of files read in parallel, each in its own process. `families`:
    pieces whose melodies share patterns of intervals, in any key and rhythm, stay in the same part of a split that is
    made here.
    """

    framing: ClassVar[Literal["stream", "sequences"]]
    pairs: ClassVar[bool] = False  # items are (input, target)
    own: ClassVar[bool] = False  # makes its items without files: no dataset, no path
    in_package: ClassVar[bool] = False  # reads what an installed package holds: no path
    files_by: ClassVar[str] = ""  # the reader for files of the same kind, if this one reads none
    gives_way: ClassVar[bool] = False  # a path or a dataset, if given, is read instead (of `own` readers)
    # its files define train, val and test: read with `part` set to each; of a class, whether they may
    holds_splits: bool = False
    by_time: ClassVar[bool] = False  # splits each series by time: read with `part` and `fractions` set
    continued: bool = False  # a series of val or test begins with the steps of the split before
    # for each number of a target, the column of the input that it continues; empty: the target is something else
    continues: Sequence[int] = ()
    part: str | None = None
    split: str | None = None  # the split that its files belong to, if each split has its own files
    before: Reader | None = None  # that of the split before, if each split has its own files
    # (setting, why its items can't be split by groups); none: they can
    parted: tuple[str, str] | None = None
    fractions: Sequence[float] = (1.0, 0.0, 0.0)
    families: bool = False  # its items are scores, and those of one family of tunes stay in one part of a split
    grouped: str = ""  # a note about the groups that its items were split by
    endings: tuple[str, ...] = ()  # of the files read in folders; empty: any
    ways_out: ClassVar[Mapping[str, str]] = {}  # reason in `dropped` → setting that helps

    def __post_init__(self, files: Sequence[Path]) -> None:
        if self.own and files:
            reads = f"; to read your files set data.reader={self.files_by}" if self.files_by else ""
            hint = f"leave data.path out{reads}"
            raise UserError("can't be set: this reader makes its own data", where="data.path", hint=hint)
        self.files: list[Path] = []  # the files given, and those in the folders given
        self.in_folders: set[Path] = set()  # the files found in folders
        self.passed_over: PassedOver = {}  # files in folders that aren't read
        for path in files:
            if path.is_dir():
                found, passed_over = inside(path, self.endings)
                self.files += found
                self.in_folders.update(found)
                for reason, names in passed_over.items():
                    self.passed_over.setdefault(reason, []).extend(names)
            else:
                self.files.append(path)
        self.decided: list[str] = []  # notes on choices made from the files' names
        self.dropped: Counter[str] = Counter()  # reason → count, after one pass over items()
        self.notes: list[str] = []  # messages for the user about this reading
        # role (read, predicted) → a file, and the header's names of columns that were found by place or type; shared by
        # the readers of a data set's splits
        self.found: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.report: list[dict[str, Any]] = []  # a row for each file, where useful: all rows have the same keys
        self.progress: Callable[[str], None] = lambda line: None  # called with the progress of a slow reading

    def tell(self, *notes: str) -> None:
        """Add notes for the user, each once; "" is none."""
        self.notes += [note for note in notes if note and note not in self.notes]

    def nothing_here(self, given: Sequence[Path]) -> UserError:
        """The error for files and folders without anything to read."""
        others = ", ".join(f"{len(names):,} × {reason}" for reason, names in self.passed_over.items())
        wanted = f"no files of {', '.join(self.endings)}" if self.endings else "no files to read"
        return UserError(f"{wanted} here{f', but {others}' if others else ''}", where=", ".join(map(str, given[:3])))

    @abstractmethod
    def items(self) -> Iterator[Any]:
        """The items in file order. Each call reads the files again and gives the same items."""

    def length(self, item: Any) -> int:
        """Size of an item for the split: 1 for an item; a stream counts its units (characters)."""
        return 1

    def group(self, item: Any) -> str | None:
        """Group key: items with the same key stay in the same split. None: the item is its own group."""
        return None

    def family_title(self, item: Any) -> str:
        """A title that pieces of one family share; "" if unknown."""
        return ""

    def places(self, indices: Collection[int]) -> dict[int, str]:
        """The locations of the items with these indices (from 0, in the order of `items`), for messages."""
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
        """(first, end) of the steps of a series in `part`, by the `fractions`; all steps without a part."""
        if self.part is None:
            return 0, steps
        at = ("train", "val", "test").index(self.part)
        return round(steps * sum(self.fractions[:at])), round(steps * sum(self.fractions[: at + 1]))

    def digest(self) -> str | None:
        """Content digest if there are no files (a corpus in a package); None: use the files' digest."""
        return None


@dataclass(kw_only=True, eq=False)
class TextFilesReader(Reader):
    """Reads text files, `self._text`, gzip or not. Files in folders that aren't text are skipped, except those with the
    suffixes of `binary`.

    `coding`: text encoding: utf-8, latin-1, cp1252, gbk, shift-jis or another that Python knows, or auto: detected.
    `errors`: "replace" reads undecodable bytes as U+FFFD instead of refusing the file. `max_bytes`: larger files
    (uncompressed) are refused.
    """

    binary: ClassVar[tuple[str, ...]] = ()
    plain: ClassVar[bool] = False  # takes all of a file as text, whatever its format

    coding: Coding = "utf-8"
    errors: Literal["refuse", "replace"] = "refuse"
    max_bytes: Annotated[int, Field(gt=0)] | None = None

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        about = {"dropped": self.dropped, "notes": self.notes, "settings": options_of(type(self)), "plain": self.plain}
        self._text = TextFiles(coding=self.coding, errors=self.errors, max_bytes=self.max_bytes, **about)
        kept = []
        for path in self.files:
            looked_at = path in self.in_folders and ending(path) not in self.binary
            if reason := self._text.fits(path) if looked_at else "":
                self.passed_over.setdefault(reason, []).append(path.name)
            else:
                kept.append(path)
        self.files = kept
