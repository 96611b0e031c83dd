"""Folders whose labels or files are doubtful."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.datasets.files.folders import inside
from components.datasets.labelled import names_as_labels
from components.datasets.series.labelled import FrameFilesReader
from components.datasets.text.labelled_lines import LabelledLinesReader
from components.errors import UserError


def write(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{name}\n", encoding="utf-8")
    return [root / name for name in names]


def test_folders_of_one_name_in_several_are_no_labels_unless_asked_for(tmp_path: Path) -> None:
    files = write(tmp_path, "pos/anna/1.txt", "pos/bob/1.txt", "neg/anna/1.txt", "neg/bob/1.txt")
    with pytest.raises(UserError, match="contains neg/anna and pos/anna, so it is unclear"):
        list(LabelledLinesReader([tmp_path]).items())
    assert set(names_as_labels(files, "folder")[0].values()) == {"anna", "bob"}


def test_frame_files_of_one_label_in_several_folders_are_told(tmp_path: Path) -> None:
    for name in ("day1/walk", "day20/walk", "day1/run"):
        (tmp_path / name).mkdir(parents=True)
        np.save(tmp_path / name / "a.npy", np.arange(8.0).reshape(4, 2) ** len(name))
    reader = FrameFilesReader([tmp_path])
    assert len(list(reader.items())) == 3
    assert "warning: day1/walk and day20/walk are read as one label, walk" in reader.notes


def test_backups_unfinished_files_and_empty_folders_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "a.txt~", "#a.txt#", "a.txt.bak", "~$a.txt", "b.txt.part", "ehthumbs.db", "c.old.txt")
    (tmp_path / "empty").mkdir()
    found, passed_over = inside(tmp_path)
    assert [path.name for path in found] == ["a.txt", "c.old.txt"]
    assert {reason: len(names) for reason, names in passed_over.items()} == {
        "hidden file": 1,
        "backup or unfinished file": 5,
        "empty folder": 1,
    }
