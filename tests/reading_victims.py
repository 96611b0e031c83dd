"""What a hostile file makes a parser do, for the sandbox's tests: the file's content says which."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from components.datasets.files.sandbox import Refused


def read(data: bytes, name: str, options: dict) -> object:
    deed = data.decode()
    if deed == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if deed == "crash later" and os.environ.get("POISONED"):
        os.abort()  # the damage of an earlier file: only a process that has read "poison" dies
    if deed == "poison":
        os.environ["POISONED"] = "1"
    if deed == "spin":
        while True:
            pass
    if deed == "sleep":
        time.sleep(1000)
    if deed == "fill memory":
        return len([bytearray(1 << 24) for _ in range(1000)])
    if deed == "fill disk":
        Path(options["folder"], "filled").write_bytes(b"x" * 100_000)
    if deed == "babble":
        os.write(1, b"99999\n{}" * 10)
        print("noise")
    if deed == "long answer":
        return "x" * 3_000_000
    if deed == "refuse":
        raise Refused("isn't what it should be")
    if deed == "raise":
        raise ValueError("bad\x00 \x1b[31mbytes\n" + "x" * 1000)
    if deed == "recurse":
        return read(data, name, options)
    return [deed, name]
