"""Fixtures of the C++ kernels' tests: skipped without a compiler, run on every instruction set of this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from instruction_sets import instruction_sets

from components.kernels.native import build


def unexpected(output: str) -> list[str]:
    """The lines that a process printed, other than the warning that the kernels can't be compiled here."""
    return [line for line in output.splitlines() if line and not ("the faster native" in line or "CXX" in line)]


@pytest.fixture(params=instruction_sets())
def instruction_set(request: pytest.FixtureRequest, compiler: None) -> Iterator[str]:
    """Each version of the kernels that this processor can run, in turn."""
    lib = build.load_native()
    assert lib.reprise_choose(request.param.encode()).decode() == request.param
    yield request.param
    lib.reprise_choose(build.limit())


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
