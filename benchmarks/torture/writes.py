"""kill -9 at moments spread over the writing of a checkpoint; whoever comes next must find the last whole one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from benchmarks.torture.lab import Lab, Result
from components.models.weights import read_tensors, write_tensors
from components.whole_files import MARK, remove_half_written

SIZE = 64 << 20  # bytes of the checkpoint


def writes(labs: list[Lab], count: int, seed: int) -> Result:
    """`count` kills, the nth so many shares of a write after one has begun; each writer goes on from what it finds,
    and clears up as a training does that begins."""
    result, folder = Result(), labs[0].home / "writes"
    folder.mkdir(parents=True)
    path, values = folder / "checkpoint.safetensors", torch.arange(SIZE // 8)
    result.lost.update({"damaged": 0, "older than the last one finished": 0, "litter at the next start": 0})
    write_tensors(path, {"values": values}, {"n": 0})
    started = time.monotonic()
    write_tensors(path, {"values": values}, {"n": 1})
    seconds, last, left = time.monotonic() - started, 1, 0
    for kill in range(count):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            _write_on(path, values, writing)
        os.close(writing)
        with os.fdopen(reading, "rb", buffering=0) as told:
            told.read(8)  # it has begun
            time.sleep(seconds * (0.02 + 1.2 * kill / count))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            finished = [int(n) for n in told.readall().split()]
        result.tried += 1
        half_written = [one.name for one in folder.iterdir() if MARK in one.name]
        left += bool(half_written)
        last = max([last, *finished])
        try:
            tensors, facts = read_tensors(path)
            result.lost["damaged"] += not torch.equal(tensors["values"], values)
            result.lost["older than the last one finished"] += facts["n"] < last
            last = facts["n"]
        except Exception as error:
            result.lost["damaged"] += 1
            result.notes.append(str(error))
        remove_half_written(folder)
        result.lost["litter at the next start"] += len(list(folder.iterdir())) - 1
    result.seen |= {"bytes": SIZE, "seconds_of_a_write": round(seconds, 3), "half_written_ones_left": left}
    return result


def _write_on(path: Path, values: torch.Tensor, told: int) -> None:
    n = read_tensors(path)[1]["n"]
    os.write(told, b"started ")
    while True:
        n += 1
        write_tensors(path, {"values": values}, {"n": n})
        os.write(told, b"%d\n" % n)
