"""Which instruction sets the tests of the C++ kernels can run here."""

from __future__ import annotations

import torch

from components.kernels.native import build


def instruction_sets(*more: str) -> list[str]:
    """Those that this processor has and the environment allows, the widest first; of AVX-512 with the parts that `more`
    names."""
    has = torch.cpu.get_capabilities()
    if has["architecture"] != "x86_64":
        return ["neon"]
    avx2 = has["avx2"] and has["fma3"]
    avx512 = avx2 and all(has[f"avx512_{part}"] for part in ("f", "dq", "vl", *more))
    widest = build.INSTRUCTION_SETS.index((build.limit() or b"avx512").decode())
    there = {"avx512": avx512, "avx2": avx2, "baseline": True}
    return [name for name in build.INSTRUCTION_SETS[widest:] if there[name]]
