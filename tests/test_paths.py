"""A user's path is taken whole or refused in one line; state is for its user alone, what is written for one isn't."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from components.errors import UserError
from components.paths import apart, as_user, keep_private, output_file, output_folder, user_path, writable_folder


def test_a_path_counts_from_the_current_folder_or_the_given_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_path("a/../b c.txt", where="x") == tmp_path / "b c.txt"
    assert user_path("~/b", where="x") == tmp_path / "home" / "b"
    assert user_path("b", where="x", base=tmp_path / "deep") == tmp_path / "deep" / "b"


@pytest.mark.parametrize("text", ["~nosuchuser/x", "a\0b", "n" * 300, "caf\udce9.txt"])
def test_what_cannot_be_a_path_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        user_path(text, where="data.path")
    assert caught.value.where == "data.path"
    assert caught.value.what.isprintable()


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UserError):
        user_path(tmp_path / "a", where="x")


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a folder"):
        output_file(tmp_path, where="--out")
    for path in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(UserError, match="is a file"):
            output_folder(path, where="--out")
        with pytest.raises(UserError, match="can't be written to"):
            writable_folder(path, where="REPRISE_HOME")
    assert output_file(tmp_path / "new" / "table.csv", where="--out") == tmp_path / "new" / "table.csv"
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="/dev/null is not a regular file"):
        output_file("/dev/null", where="--out")
    with pytest.raises(UserError, match="--out: /proc can't be written to"):
        output_file("/proc/table.csv", where="--out")


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    apart(tmp_path / "b", [tmp_path / "a", tmp_path / "gone"])
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UserError, match="b: can't be written to, since it is also the input"):
        apart(tmp_path / "b", [tmp_path / "gone", tmp_path / "a"])


def test_state_is_for_its_user_alone_and_what_is_asked_for_is_not(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REPRISE_UMASK", "to be put back")
    monkeypatch.delenv("REPRISE_UMASK")
    before = os.umask(0o022)
    try:
        keep_private()
        keep_private()  # as a process that another of ours starts
        (tmp_path / "state").write_text("")
        with as_user():
            (tmp_path / "out").write_text("")
        (tmp_path / "more").mkdir()
    finally:
        os.umask(before)
    rights = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("state", "out", "more")}
    assert rights == {"state": 0o600, "out": 0o644, "more": 0o700}
