"""Fixtures of the tests of the C++ kernels: skipped without a compiler, run on every instruction set."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
import torch

from components.kernels.native import build


@pytest.fixture(scope="session")
def compiler() -> None:
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler on this machine")


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each version of the kernels that this processor can run, in turn."""
    lib = build.library()
    chosen = lib.reprise_choose(request.param.encode()).decode()
    if chosen != request.param:
        lib.reprise_choose(None)
        pytest.skip(f"this processor has no {request.param}")
    yield chosen
    lib.reprise_choose(None)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
