"""A measured number as text."""

from __future__ import annotations

import math


def figure(value: float) -> str:
    """Four decimals; three digits where those would show nearly nothing: 833.2500, 0.0417, 2.3e-05."""
    return f"{value:.4f}" if math.isnan(value) or abs(value) >= 1e-2 or value == 0 else f"{value:.3g}"
