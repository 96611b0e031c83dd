"""The files of a folder: which are read, which are skipped and why, and the splits given by their names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.errors import UserError, listed

DEEPEST = 16  # nested folders
MOST_ENTRIES = 1_000_000
LISTED = 3  # names in a note
SPLIT_NAMES = {
    "train": {"train", "training"},
    "val": {"val", "valid", "validation", "dev"},
    "test": {"test", "testing"},
}
BESIDE_SPLIT = {"", "data", "set", "split"}  # other words in the name of a split's folder: train_data, Test-Set
# beginnings of words that may name splits, in several languages; both of a pair must occur
LIKE_TRAIN = re.compile(
    r"(?<![^\W\d_])(train|entra[iî]n|entrena|treino|addestra|apprentissage|обуч|学習|訓練|训练)", re.I
)
LIKE_OTHER = re.compile(
    r"(?<![^\W\d_])(val|dev|test|eval|hold.?out|prueba|teste|prova|тест|测试|測試|テスト|検証)", re.I
)
# documentation files of a data set
ABOUT = re.compile(
    r"(readme|licen[cs]e|copying|changelog)([-_ ]\w+)?(\.(txt|md|rst|html?|pdf|rtf))?(\.gz)?", re.IGNORECASE
)
PassedOver = dict[str, list[str]]  # reason → the files' names


def unpacked_name(path: Path) -> str:
    """The file's name without `.gz`."""
    return path.stem if path.suffix.lower() == ".gz" else path.name


def ending(path: Path) -> str:
    """The file's suffix in lower case, without `.gz`: ".csv" for T.CSV.gz; "" if it has none."""
    return Path(unpacked_name(path)).suffix.lower()


# copies that editors and programs leave beside a file: a.txt~, #a.txt#, a.txt.bak, ~$a.txt
BACKUP = re.compile(r".+~|#.*#|~\$.*|.+\.(bak|old|orig|sw[op]|tmp|part|crdownload)", re.IGNORECASE)


def hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r")


def inside(folder: Path, endings: Sequence[str] = ()) -> tuple[list[Path], PassedOver]:
    """The files in a folder and its subfolders with one of the `endings` (none: any), the folder's own first, by name;
    and the skipped ones. Links to folders aren't followed.

    Raises:
        UserError: there are more than MOST_ENTRIES files.
    """
    found: list[Path] = []
    passed_over: PassedOver = {}
    seen = 0

    def pass_over(path: Path | str, reason: str) -> None:
        passed_over.setdefault(reason, []).append(printable(os.path.relpath(path, folder)))

    for top, folders, names in os.walk(folder, onerror=lambda error: pass_over(error.filename, "can't be read")):
        if not (folders or names) and Path(top) != folder:
            pass_over(top, "empty folder")
        deep = len(Path(top).relative_to(folder).parts) >= DEEPEST
        kept = []
        for name in sorted(folders):
            path = Path(top, name)
            if hidden(name):
                pass_over(path, "hidden folder")
            elif path.is_symlink():
                pass_over(path, "link to a folder")
            elif deep:
                pass_over(path, f"more than {DEEPEST} folders deep")
            else:
                kept.append(name)
        folders[:] = kept
        seen += len(folders) + len(names)
        if seen > MOST_ENTRIES:
            raise UserError(f"contains more than {MOST_ENTRIES:,} files", where=str(folder), hint="choose a subfolder")
        for name in sorted(names):
            path = Path(top, name)
            if reason := _unfit(path, endings):
                pass_over(path, reason)
            else:
                found.append(path)
    about = [path for path in found if ABOUT.fullmatch(path.name)]
    if len(about) < len(found):
        for path in about:
            pass_over(path, "about the data")
        found = [path for path in found if not ABOUT.fullmatch(path.name)]
    return found, passed_over


def _unfit(path: Path, endings: Sequence[str]) -> str:
    if hidden(path.name):
        return "hidden file"
    if BACKUP.fullmatch(path.name):
        return "backup or unfinished file"
    if not path.is_file():
        return "broken link" if path.is_symlink() else "no regular file"
    if not os.access(path, os.R_OK):
        return "can't be read"
    if endings and ending(path) not in endings:
        return f"ending {printable(ending(path)[:12])}" if ending(path) else "no ending"
    return ""


def told(passed_over: Mapping[str, Sequence[str]]) -> list[str]:
    """A note for each reason, with the number of files and the first names."""
    return [f"skipped: {len(names):,} × {reason} ({listed(names, LISTED)})" for reason, names in passed_over.items()]


def given_splits(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """(the paths of each split, the files that belong to none), if the names in a folder give the splits: folders
    train, val and test, or files such as ptb.train.txt and ptb.valid.txt. Train and another split must exist, and every
    folder (or file, if there are no folders) must belong to a split; else ({}, []). A folder whose only content is
    another folder is replaced by that."""
    try:
        entries = sorted(path for path in folder.iterdir() if not hidden(path.name))
    except OSError as error:
        what = f"can't be read: {error.strerror}"
        raise UserError(what, where=str(folder), hint="change its permissions, or give another folder") from None
    if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink():
        return given_splits(entries[0])
    folders = [path for path in entries if path.is_dir()]
    splits: dict[str, list[Path]] = {}
    for path in folders or entries:
        words = set(re.split(r"[^a-z]+", path.name.lower()))
        of = [split for split, names in SPLIT_NAMES.items() if words & names]
        # a folder may be named after a label: test_drive
        if len(of) != 1 or (folders and len(words - BESIDE_SPLIT) != 1):
            return {}, []
        splits.setdefault(of[0], []).append(path)
    if "train" not in splits or len(splits) == 1:
        return {}, []
    return {split: splits[split] for split in SPLIT_NAMES if split in splits}, [
        path for path in entries if folders and path not in folders
    ]


def like_splits(files: Sequence[Path], folder: Path) -> str:
    """A note if names of files or of their folders look like splits that `given_splits` doesn't recognise, so that all
    are mixed; else ""."""
    names = list(dict.fromkeys(name for path in files for name in Path(os.path.relpath(path, folder)).parts))
    train = next((name for name in names if LIKE_TRAIN.search(name)), None)
    other = next((name for name in names if LIKE_OTHER.search(name) and not LIKE_TRAIN.search(name)), None)
    if train is None or other is None:
        return ""
    what = f"warning: {printable(train)} and {printable(other)} are joined and split at random: are they splits?"
    return f"{what} (then set data.path: {{train: …, val: …, test: …}})"


def printable(text: str) -> str:
    """A file's name, or the end of a long one, as it can be printed."""
    return "".join(c if c.isprintable() else "?" for c in text.encode("utf-8", "replace").decode())[-200:]
