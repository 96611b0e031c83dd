"""Measured numbers and tables as text."""

from __future__ import annotations

import math
from collections.abc import Sequence


def figure(value: float) -> str:
    """Four decimals; three significant digits below 0.01: 833.2500, 0.0417, 2.3e-05."""
    return f"{value:.4f}" if math.isnan(value) or abs(value) >= 1e-2 or value == 0 else f"{value:.3g}"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
