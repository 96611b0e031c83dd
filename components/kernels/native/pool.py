"""A memory pool for the kernels' large buffers, on huge pages.

A training step allocates and frees hundreds of megabytes. Fresh pages from the system cost as much as the kernels save:
each is filled with zeros at its first use, and above 32 MiB the C library returns a block to the system at once.
"""

from __future__ import annotations

import math
import mmap
import sys
import threading

import torch
from torch import Tensor

SMALLEST_BYTES = 1 << 20  # smaller blocks are reused by the C library's heap
HUGE_PAGE_BYTES = 2 << 20
PRIVATE = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)
WASTE = 1.25  # a block may be this much larger than requested
_lock = threading.Lock()
_blocks: list[mmap.mmap] = []  # the least recently used first
_peak_bytes = 0  # peak use by tensors; the pool keeps at most twice as much


def buffer(*shape: int) -> Tensor:
    """An uninitialised float32 tensor. Its memory is reused when no tensor or view refers to it any more."""
    count = math.prod(shape)
    if 4 * count < SMALLEST_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape, dtype=torch.float32, device="cpu")
    with _lock:
        return torch.frombuffer(_take(4 * count), dtype=torch.float32, count=count).view(shape)


def kept_bytes() -> int:
    """Bytes held by the pool, in use or not."""
    return sum(map(len, _blocks))


def _references(objects: list) -> list[int]:
    return [sys.getrefcount(thing) for thing in objects]


UNUSED = _references([object()])[0]  # references to an unused block: those of the list and of the count itself


def _take(size_bytes: int) -> mmap.mmap:
    global _peak_bytes
    counts = _references(_blocks)  # before other references exist
    free = [block for block, count in zip(_blocks, counts, strict=True) if count == UNUSED]
    fitting = [block for block in free if size_bytes <= len(block) <= WASTE * size_bytes + HUGE_PAGE_BYTES]
    if fitting:
        block = min(fitting, key=len)
        _blocks.remove(block)
    else:
        block = mmap.mmap(-1, -(-size_bytes // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES, flags=PRIVATE)
        block.madvise(mmap.MADV_HUGEPAGE)
    used = kept_bytes() + len(block) - sum(len(other) for other in free if other is not block)
    _peak_bytes = max(_peak_bytes, used)
    spare = kept_bytes() + len(block) - 2 * _peak_bytes
    for other in free:
        if spare > 0 and other is not block:
            _blocks.remove(other)
            spare -= len(other)
    _blocks.append(block)
    return block
