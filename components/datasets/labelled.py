"""Base of the readers of labelled data: labels are checked, dropped rows are counted by reason."""

from __future__ import annotations

import hashlib
import re
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from components.datasets.base import Reader
from components.datasets.beside_data import footer
from components.datasets.files.folders import ending, unpacked_name
from components.errors import UserError, listed, unknown
from components.provenance import digest_file, digest_json

SPLIT_NAME = re.compile(
    r"(?i)^(train(ing)?|val(id(ation)?)?|dev|test)[ ._-]+(?=.)|(?<=.)[ ._-]+(train(ing)?|val(id(ation)?)?|dev|test)$"
)


@dataclass(frozen=True)
class Row:
    """One example as read. `shown` is displayed with its prediction. `problem`: why it can't be read."""

    where: str
    shown: Mapping[str, str]
    input: Any = None
    target: Any = None  # None: missing
    problem: str = ""
    steps: Sequence[Mapping[str, str]] = ()  # columns displayed with each step's answer, if a step is a line of a file


class LabelledReader(Reader):
    """Items (input, target). `labels`: the allowed labels in the files, mapped to the names they get.

    Rows without an input or a label are dropped. `unique`: repeated rows with the same label are dropped. `dropped`
    counts each reason. Equal inputs are in the same split whatever their labels are.

    Raises:
        UserError: a label isn't among `labels`; the nearest one is suggested.
    """

    framing, pairs = "sequences", True
    labels: Mapping[str, str] | None = None
    unique: bool = False

    columns_set_by: ClassVar[str] = ""  # the settings that name a table's columns, if any

    # (shortest, longest) input in training in steps, set before `inputs()` if a model is loaded: only the length of
    # some rows shows whether they have a label
    trained_steps: tuple[int, int] | None = None
    trained_labels: Collection[str] = ()  # the model's labels: whether a row's last number is one
    pictures: bool = False  # the model reads images [T, height, width], so a file of frames may hold them

    @abstractmethod
    def rows(self, *, labelled: bool) -> Iterator[Row]:
        """All rows in file order, including unreadable ones; without `labelled`, targets are optional."""

    def items(self) -> Iterator[tuple[Any, Any]]:
        return ((row.input, self._named(row)) for row in self._good())

    def places(self, indices: Collection[int]) -> dict[int, str]:
        return {index: row.where for index, row in enumerate(self._good()) if index in indices}

    def _good(self) -> Iterator[Row]:
        """The rows that become items."""
        self.dropped.clear()
        seen: set[str] = set()
        last = Row("", {})
        for row in self.rows(labelled=True):
            if _file_of(row) != _file_of(last):
                self._below(last)
                last = Row(row.where, {})
            problem = row.problem or ("" if row.target not in (None, "") else "no label")
            if not problem and self.unique:
                key = f"{_key(row.input)}\0{row.target}"
                problem = "repeated" if key in seen else ""
                seen.add(key)
            if problem:
                self.dropped[problem] += 1
            else:
                last = row
                yield row
        self._below(last)

    def _below(self, last: Row) -> None:
        """Warn if a file's last example looks like a total or a note below the table."""
        texts = [text for text in (last.target, last.input) if isinstance(text, str)]
        if _file_of(last) and (found := footer([*texts, *last.shown.values()])):
            what = f"{last.where}, the last one, is read as an example: {found[:60]!r}"
            self.tell(f"warning: {what}. Is it a total or a note?")

    def inputs(self) -> Iterator[Row]:
        """The rows to be predicted, targets optional, including those with a `problem`."""
        self.dropped.clear()
        yield from self.rows(labelled=False)

    def trained_on(self, columns: Mapping[str, Sequence[str]]) -> None:
        """Set the columns that the model was trained on, by role: those of new files must be the same."""
        self.found = {role: ("the training data", tuple(names)) for role, names in columns.items()}

    def known(self, role: str, names: Sequence[str]) -> tuple[str, ...]:
        """The columns in a role in another file's header, if this file has all of these names; else ()."""
        columns = self.found.get(role, ("", ()))[1]
        return columns if set(columns) <= set(names) else ()

    def same(self, role: str, columns: Sequence[str], path: Path) -> None:
        """Refuse a file whose header names the columns in a role differently from the first file's: they would be
        confused."""
        first, names = self.found.setdefault(role, (path.name, tuple(columns)))
        if tuple(columns) != names:
            what = f"the columns {role} would be {listed(columns, 20)}, but those of {first} are {listed(names, 20)}"
            way = f", or set {self.columns_set_by}" if self.columns_set_by else ""
            raise UserError(what, where=str(path), hint=f"give the columns the same names in the same order{way}")

    def group(self, item: tuple[Any, Any]) -> str:
        return _key(item[0])

    def digest(self) -> str | None:
        """Digest of the contents and the names: the name of a file or folder may be the label."""
        return digest_json([[file.parent.name, file.name, digest_file(file)] for file in self.files])

    def _named(self, row: Row) -> Any:
        if self.labels is None or not isinstance(row.target, str):
            return row.target
        if row.target not in self.labels:
            error = unknown("label", row.target, self.labels, where=row.where)
            way = "--set data.labels=null takes the labels as they are"
            raise UserError(error.what, where=row.where, hint=f"{error.hint}; {way}")
        return self.labels[row.target]


@dataclass(kw_only=True, eq=False)
class NamedLabels(LabelledReader):
    """A reader whose labels are set in the recipe."""

    labels: dict[str, str] | None = None
    unique: bool = True


def stem(path: Path) -> str:
    """The file's name without its suffixes, which begin with a letter: Arabic for Arabic.txt.gz, 3.5 for 3.5.txt."""
    return re.split(r"\.(?=[^\W\d])", path.name, maxsplit=1)[0]


def names_as_labels(files: Sequence[Path], label_in: str | None) -> tuple[dict[Path, str], str]:
    """The label of each file by its name, and what the labels are. `label_in`: file (the name without its suffixes, and
    without that of a split if all have one), ending, or folder. None: the folders, if the files are in several; the
    endings, if only these differ; else the names.

    Raises:
        UserError: None, and some files are in subfolders and others aren't, or two folders have the same name.
    """
    folders = {path.parent for path in files}
    if label_in is None and any(one in other.parents for one in folders for other in folders):
        hint = "set data.label_in to file, ending or folder"
        raise UserError(
            "contains both files and folders, so it is unclear what the labels are", where=str(min(folders)), hint=hint
        )
    if label_in is None and (same := same_names(folders)):
        above = sorted({folder.parent.name for folder in same})
        hint = (
            f"set data.label_in=folder if the labels are the innermost folders; if they are {', '.join(above[:3])}, "
            "move the files there"
        )
        what = f"contains {_with_parents(same)}, so it is unclear what the labels are"
        raise UserError(what, where=str(same[0].parent.parent), hint=hint)
    automatic = label_in is None
    stems, endings = {stem(path) for path in files}, {ending(path) for path in files}
    if label_in is None:
        alike = len(stems) == 1 and len(endings) == len(files) > 1
        label_in = "folder" if len(folders) > 1 else "ending" if alike else "file"
    if label_in == "folder":
        return {path: path.parent.name for path in files}, "the names of their folders"
    if label_in == "ending":
        return {path: Path(unpacked_name(path)).suffix[1:] for path in files}, "the files' endings"
    middles = {path: Path(Path(unpacked_name(path)).stem).suffix[1:] for path in files}
    if automatic and len(stems) == 1 and len(set(middles.values())) == len(files) > 1:  # rev.pos.txt and rev.neg.txt
        return middles, "what the files' names have before their endings"
    several = f" before their endings, {len(files)} files" if len(stems) < len(files) else ""
    named = {path: stem(path) for path in files}
    if all(SPLIT_NAME.search(name) for name in named.values()):  # train_pos.txt, beside test_pos.txt
        named = {path: SPLIT_NAME.sub("", name) for path, name in named.items()}
    return named, f"the files' names{several}"


def same_names(folders: Collection[Path]) -> list[Path]:
    """Two folders with the same name, if there are any."""
    first: dict[str, Path] = {}
    for folder in sorted(folders):
        if first.setdefault(folder.name, folder) != folder:
            return [first[folder.name], folder]
    return []


def _with_parents(folders: Sequence[Path]) -> str:
    return " and ".join(f"{folder.parent.name}/{folder.name}" for folder in folders)


def one_label(files: Collection[Path]) -> list[str]:
    """A warning about folders with the same name, whose files get the same label: pos/a and neg/a."""
    same = same_names({path.parent for path in files})
    return [f"warning: {_with_parents(same)} are read as one label, {same[0].name}"] if same else []


def _file_of(row: Row) -> str:
    """The file of a row that has a location in one; else ""."""
    return row.where.rpartition(": ")[0]


def _key(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.casefold().split())
    if isinstance(value, tuple):
        return " ".join(map(_key, value))
    array = np.ascontiguousarray(value)
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()
