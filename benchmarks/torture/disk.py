"""The disk is full: a home on a small disk of its own, which is filled to the last byte at random moments."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.torture.lab import PATIENCE_SECONDS, Lab, Result, wait

INSIDE = "REPRISE_TORTURE_INSIDE"  # set in the process that may mount
SIZE = 192 << 20  # bytes of the disk
FULL_SECONDS = 20.0  # longer than a step of the pipeline is tried again by itself


def own_mounts() -> bool:
    """Go on in a namespace in which an ordinary user may mount (Linux); False where there is none."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if INSIDE not in os.environ:
        if shutil.which("unshare") and not subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode:
            again = [*unshare, sys.executable, "-m", "benchmarks.torture", *sys.argv[1:]]
            os.execvpe("unshare", again, os.environ | {INSIDE: "1"})
        return False
    return True


def full(labs: list[Lab], count: int, seed: int) -> Result:
    """The disk is full for twenty seconds from a random moment on; who fails is resumed when there is room again."""
    dice, result = random.Random(f"full {seed}"), Result()
    lab = replace(labs[0], home=labs[0].home.with_name("small-disk"))
    for folder in (lab.home, labs[0].home):
        folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(lab.home)], check=True)
    try:
        expected, _, work_seconds = lab.undisturbed()
        result.lost.update(dict.fromkeys([*expected, "half-written files", "finished updates", "failed resumes"], 0))
        for number in range(count):
            name = f"full-{number}"
            recipe, log = lab.recipe(name), labs[0].home / f"{name}.log"
            process = lab.go_on(log, name, recipe)
            wait(lambda log=log, process=process: log.read_bytes() or process.poll() is not None)
            time.sleep(dice.uniform(0, work_seconds))
            updates = lab.ask("examine", name)["updates"]
            ballast = lab.home / "ballast"
            _fill(ballast)
            time.sleep(FULL_SECONDS)
            ballast.unlink()
            result.tried += 1
            if process.wait(PATIENCE_SECONDS):
                result.resumed(log)
                found = lab.ask("examine", name)
                result.lost["half-written files"] += len(found["unreadable"])
                result.lost["finished updates"] += max(0, updates - found["updates"])
                result.notes += found["unreadable"]
                if lab.go_on(log, name, recipe).wait(PATIENCE_SECONDS):
                    result.failed(log)
                    continue
            result.compare(lab, name, expected)
        result.count_open([lab])
    finally:
        subprocess.run(["umount", "--lazy", str(lab.home)], check=False)
    return result


def _fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
