"""Where training runs, on how many threads, and from which seed."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from components.errors import UserError, unknown

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> str:
    """ "cpu" or "cuda"; auto takes a GPU when there is one.

    Raises:
        UserError: the name is unknown, or cuda is asked for and torch sees no GPU.
    """
    if name not in DEVICES:
        raise unknown("device", name, DEVICES, where="--device")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("torch sees no GPU here", where="--device cuda", hint="use --device cpu, or `reprise doctor`")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def choose_threads(threads: int) -> int:
    """The number of CPU threads; 0 = one for each core this process may use, 16 at most."""
    return threads or min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16; without, torch emulates it, several times slower than float32."""
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


def prepare(seed: int, threads: int) -> None:
    """Seed every generator and fix what else could make two runs differ."""
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
