"""What all pictures of results share: colours, and axes with a light grid."""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes

INK, SOFT, TRAIN, VAL = "#222222", "#8a8a8a", "#56b4e9", "#d55e00"
# Okabe and Ito's colours, which colour-blind readers can tell apart
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#b8a800")
OTHER = "#cfcfcf"  # a line beyond these colours
SIGNED = "RdBu"  # colour map for signed numbers


def style_axes(axes: Axes, grid: Literal["x", "y", "both"] = "y") -> None:
    """Hide the top and right spine, and draw grid lines across an axis."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#e6e6e6", linewidth=0.6)
