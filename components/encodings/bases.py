"""Nucleotides as numbers: the bases that each IUPAC letter stands for, and the position in the window."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field as Bounds

from components.encodings.base import Encoding, Field
from components.errors import UserError

# IUPAC-IUB 1984: what each letter may stand for
IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
BASES = "ACGT"
LOWEST_PERIOD = 2.0  # steps; the shortest period of the position features
HIGHEST_PERIOD = 200.0


class Bases(Encoding):
    """Strings of IUPAC letters ↔ frames [T, 4 + 2 · waves]: four shares that add up to 1 (N is ¼ each), and `waves`
    sines and cosines of the position relative to the middle of the window."""

    kind = "bases"
    form = "frames"
    unit = "base"

    def __init__(self, *, waves: Annotated[int, Bounds(ge=0, le=32)] = 0) -> None:
        self.waves = waves
        self._shares = np.zeros((128, len(BASES)), dtype=np.float32)
        for letter, stands_for in [*IUPAC.items(), ("U", "T")]:
            for base in stands_for:
                self._shares[[ord(letter), ord(letter.lower())], BASES.index(base)] = 1 / len(stands_for)

    @property
    def fields(self) -> dict[str, Field]:
        return {"frames": Field(width=len(BASES) + 2 * self.waves)}

    def fit(self, items: Iterable[str]) -> None:
        """Nothing to learn."""

    def encode(self, item: str) -> np.ndarray:
        codes = np.frombuffer(item.encode("utf-32-le", "surrogatepass"), "<u4")
        shares_T4 = self._shares[np.minimum(codes, 127)]
        if not (found := shares_T4.sum(1) > 0).all():
            at = int(np.flatnonzero(~found)[0])
            raise UserError(f"{item[at]!r} isn't a base", where=f"base {at + 1}", hint=f"choices: {''.join(IUPAC)}")
        return np.concatenate([shares_T4, self._places(len(codes))], axis=1)

    def pieces(self, item: str) -> list[str]:
        return list(item)

    def decode(self, ids: Sequence[Any] | np.ndarray) -> str:
        shares = np.asarray(ids, dtype=np.float64).reshape(len(ids), -1)[:, : len(BASES)]
        letters = {tuple(sorted(stands_for)): letter for letter, stands_for in IUPAC.items()}
        return "".join(
            letters.get(tuple(b for b, share in zip(BASES, row, strict=True) if share > 0), "N") for row in shares
        )

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        return self.encode(text), []

    def _places(self, T: int) -> np.ndarray:
        """Sines and cosines with periods from LOWEST_PERIOD to HIGHEST_PERIOD steps (Vaswani et al. 2017)."""
        place_T1 = (np.arange(T) - T // 2)[:, None]
        turns = 2 * np.pi * place_T1 / np.geomspace(LOWEST_PERIOD, HIGHEST_PERIOD, self.waves)
        return np.concatenate([np.sin(turns), np.cos(turns)], axis=1).astype(np.float32)
