"""Device, threads, precision and seed of a training."""

from __future__ import annotations

import os
import random
import re

import numpy as np
import torch

from components.errors import UserError

DEVICES = "auto, cpu, cuda or cuda:N"


def choose_device(name: str) -> str:
    """Resolve a device name to "cpu", "cuda" or "cuda:N"; auto uses a GPU if there is one.

    Raises:
        UserError: the name is unknown, or torch doesn't find the GPU.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise UserError(f"unknown device {name!r}", where="--device", hint=f"choices: {DEVICES}")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name.startswith("cuda") and there <= int(name.partition(":")[2] or 0):
        seen = (
            f"torch sees {there} GPU{'s' * (there != 1)} here, numbered from 0" if there else "torch sees no GPU here"
        )
        raise UserError(
            seen, where=f"--device {name}", hint="use --device cpu; `reprise doctor` shows what torch finds"
        )
    if name == "auto":
        return "cuda" if there else "cpu"
    return name.removesuffix(":0")  # the first GPU always has the same name


def gpu_of(device: str, number: int) -> str:
    """The device of worker `number`: parallel workers are distributed over the GPUs."""
    return f"cuda:{number % torch.cuda.device_count()}" if device == "cuda" else device


def choose_threads(threads: int) -> int:
    """The number of CPU threads; 0 = one per core available to this process, at most 16."""
    return threads or min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def gpu_versions(device: str) -> dict[str, str]:
    """Versions that affect the results on a GPU: its model, CUDA and cuDNN. Empty for the CPU."""
    if not device.startswith("cuda"):
        return {}
    versions = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return {"gpu": torch.cuda.get_device_name(device)} | {name: str(value) for name, value in versions.items()}


def has_bfloat16() -> bool:
    """Whether the processor supports bfloat16; otherwise torch emulates it, several times slower than float32."""
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)


def prepare(seed: int, threads: int, *, tf32: bool = False) -> None:
    """Seed every generator and make the run deterministic. On a GPU, float32 matrix products use float32 unless `tf32`
    allows TensorFloat-32, which keeps 10 bits of the factors."""
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    # cuBLAS is deterministic only with a separate workspace for each stream
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
