"""A file is the old one or the new one whenever its writer is killed, and the next start clears up what was left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from components.models import weights
from components.models.weights import read_tensors, write_tensors
from components.whole_files import MARK, remove_half_written, written_whole


def forked(work: Callable[[], None]) -> int:
    """Do the work in a child, which is the caller's to wait for."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            work()
        os._exit(3)
    return pid


def killed(work: Callable[[], None]) -> None:
    assert os.waitstatus_to_exitcode(os.waitpid(forked(work), 0)[1]) == -signal.SIGKILL


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("where", ["save_file", "fsync", "replace", "rmtree"])
def test_a_kill_at_any_point_leaves_the_old_file_or_the_new_one_and_the_next_write_clears_up(tmp_path, where) -> None:
    path = tmp_path / "kept.safetensors"
    write_tensors(path, {"a": torch.zeros(5)}, {"n": 1})

    def work() -> None:
        if where == "save_file":

            def half(tensors: object, to: Path, metadata: object) -> None:
                to.with_name(".tmpA1b2C3").write_bytes(b"as safetensors does while it writes")
                die()

            weights.save_file = half
        elif where == "rmtree":
            shutil.rmtree = die
        else:
            setattr(os, where, die)
        write_tensors(path, {"a": torch.ones(5)}, {"n": 2})

    killed(work)
    tensors, facts = read_tensors(path)
    new = where == "rmtree"
    assert (facts["n"], tensors["a"].mean()) == ((2, 1.0) if new else (1, 0.0))
    assert [name for name in names(tmp_path) if MARK in name], "nothing was left: the kill came too late"
    write_tensors(path, {"a": torch.ones(5)}, {"n": 3})
    assert names(tmp_path) == ["kept.safetensors"]


def test_what_a_living_writer_has_under_way_is_left_alone(tmp_path) -> None:
    path, other = tmp_path / "a [1].json", tmp_path / "b.json"
    with written_whole(path) as outer:
        outer.write_text("outer")
        with written_whole(path) as inner:
            inner.write_text("inner")
        remove_half_written(tmp_path)
        with written_whole(other) as file:
            file.write_text("other")
    assert (path.read_text(), other.read_text()) == ("outer", "other")
    assert names(tmp_path) == ["a [1].json", "b.json"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "a") as file:
        file.write_text(str(1 / 0))
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_errors_name_the_file_that_was_asked_for(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    for path in (Path("/proc/a.csv"), tmp_path / "folder"):
        with pytest.raises(OSError) as caught, written_whole(path) as file:
            file.write_text("new")
        assert caught.value.filename == str(path)


@pytest.mark.slow
def test_a_reader_always_finds_a_whole_file_when_kills_are_spread_over_the_write(tmp_path) -> None:
    path, tensors = tmp_path / "checkpoint.safetensors", {"a": torch.arange(500_000)}
    started = time.monotonic()
    write_tensors(path, tensors, {"n": 0})
    seconds = time.monotonic() - started

    def write_on() -> None:
        n = read_tensors(path)[1]["n"]
        while True:
            n += 1
            write_tensors(path, tensors, {"n": n})

    for kill in range(10):
        child = forked(write_on)
        time.sleep(0.01 + seconds * (1 + kill / 10))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert torch.equal(read_tensors(path)[0]["a"], tensors["a"])
    remove_half_written(tmp_path)
    assert names(tmp_path) == ["checkpoint.safetensors"]
