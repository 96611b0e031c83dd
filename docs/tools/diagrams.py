"""The diagrams of docs/course.md: `python -m docs.tools.diagrams docs/images` draws them; `make pictures` does too.

The same bytes each time, for one version of matplotlib. Lengths are in units of the drawing, y upwards.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from components.evaluation.style import INK, SOFT, TRAIN, VAL

GREEN = "#009e73"
FILL = {INK: "#f4f4f4", SOFT: "#ffffff", TRAIN: "#e3f2fb", VAL: "#fbe6d9", GREEN: "#dff3ec"}
UNIT = 0.62  # inches
DPI = 120

Point = tuple[float, float]


class Drawing:
    """Boxes, operations and wires on a sheet of `width` × `height` units."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width * UNIT, height * UNIT), dpi=DPI)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        self.axes.axis("off")

    def box(self, x: float, y: float, text: str, colour: str = INK, *, width: float = 1.1, height: float = 0.8) -> None:
        """A box around (x, y): a layer, or a product with its nonlinearity."""
        corner, style = (x - width / 2, y - height / 2), "round,pad=0,rounding_size=0.16"
        patch = FancyBboxPatch(
            corner, width, height, boxstyle=style, edgecolor=colour, facecolor=FILL[colour], zorder=3
        )
        self.axes.add_patch(patch)
        self.text(x, y, text)

    def operation(self, x: float, y: float, sign: str) -> None:
        """A small circle: what is done element by element."""
        self.axes.add_patch(Circle((x, y), 0.27, edgecolor=INK, facecolor="white", zorder=3))
        self.text(x, y, sign, size=11)

    def text(
        self, x: float, y: float, text: str, *, size: float = 10, colour: str = INK, align: str = "center"
    ) -> None:
        self.axes.text(x, y, text, size=size, color=colour, ha=align, va="center_baseline", zorder=4)

    def wire(self, *points: Point, colour: str = INK, arrow: bool = True) -> None:
        """A line through the points, an arrow at its end."""
        xs, ys = zip(*(points[:-1] if arrow and len(points) > 2 else points), strict=True)
        if not arrow or len(points) > 2:
            self.axes.plot(xs, ys, color=colour, linewidth=1.2, solid_joinstyle="miter", zorder=1)
        if arrow:
            head = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1.2, "color": colour, "zorder": 2}
            self.axes.add_patch(FancyArrowPatch(points[-2], points[-1], shrinkA=0, shrinkB=0, **head))

    def dot(self, x: float, y: float, colour: str = INK) -> None:
        """Where wires are joined; those that cross without one are not."""
        self.axes.add_patch(Circle((x, y), 0.07, color=colour, zorder=2))

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        FigureCanvasAgg(self.figure).print_png(path, metadata={"Software": None})


def unrolled() -> Drawing:
    """The recurrent network, and the same network laid out over time."""
    d = Drawing(14.6, 5.0)
    d.box(1.7, 2.5, "h", TRAIN)
    d.wire((1.7, 1.0), (1.7, 2.1))
    d.wire((1.7, 2.9), (1.7, 4.0))
    d.wire((2.25, 2.7), (2.95, 2.7), (2.95, 2.3), (2.25, 2.3))
    d.text(1.7, 0.7, "x⟨t⟩")
    d.text(1.7, 4.3, "ŷ⟨t⟩")
    d.text(3.9, 2.5, "=", size=16)
    d.text(5.0, 2.5, "h⟨0⟩")
    for t in range(1, 5):
        x = 4.8 + 2.1 * t
        d.box(x, 2.5, f"h⟨{t}⟩", TRAIN)
        d.wire((x - 1.55 if t > 1 else x - 1.45, 2.5), (x - 0.55, 2.5))
        d.wire((x, 1.0), (x, 2.1))
        d.wire((x, 2.9), (x, 4.0))
        d.text(x, 0.7, f"x⟨{t}⟩")
        d.text(x, 4.3, f"ŷ⟨{t}⟩")
        d.text(x - 1.05, 2.83, "W_hh", size=8, colour=SOFT)
        d.text(x + 0.12, 1.5, "W_ih", size=8, colour=SOFT, align="left")
        d.text(x + 0.12, 3.4, "head", size=8, colour=SOFT, align="left")
    d.wire((13.75, 2.5), (14.35, 2.5))
    return d


def _gates(d: Drawing, gates: dict[str, tuple[float, str, str]], *, of_h_alone: tuple[str, ...] = ()) -> None:
    """The two rails below, h⟨t−1⟩ and x⟨t⟩, and the gates that read both, but for those `of_h_alone`."""
    for y, name, aside in ((1.3, "h⟨t−1⟩", -0.22), (0.55, "x⟨t⟩", 0.22)):
        readers = [x + aside for gate, (x, _, _) in gates.items() if aside < 0 or gate not in of_h_alone]
        d.text(0.75, y, name)
        d.wire((1.4, y), (max(readers), y), arrow=False)
        for x in readers:
            d.wire((x, y), (x, 2.1))
            d.dot(x, y)
    for x, text, colour in gates.values():
        d.box(x, 2.5, text, colour, width=1.3 if len(text) < 9 else 1.7)


def gru() -> Drawing:
    """One step of the GRU layer, the reset gate after the product."""
    d = Drawing(13.6, 6.6)
    _gates(d, {"z": (2.6, "z = σ", VAL), "r": (4.6, "r = σ", TRAIN), "m": (6.6, "m = W_hn h", INK)}, of_h_alone=("m",))
    d.text(0.75, 5.9, "h⟨t−1⟩")
    d.wire((1.4, 5.9), (2.33, 5.9))
    d.operation(2.6, 5.9, "×")
    d.wire((2.6, 2.9), (2.6, 5.63), colour=VAL)
    d.wire((2.87, 5.9), (11.33, 5.9))
    d.wire((2.6, 4.8), (6.05, 4.8), colour=VAL)
    d.wire((7.15, 4.8), (10.0, 4.8), (10.0, 4.07), colour=VAL)
    d.dot(2.6, 4.8, VAL)
    d.box(6.6, 4.8, "1 − z", VAL, height=0.6)
    d.wire((4.6, 2.9), (4.6, 3.8), (6.33, 3.8), colour=TRAIN)
    d.wire((6.6, 2.9), (6.6, 3.53))
    d.operation(6.6, 3.8, "×")
    d.wire((6.87, 3.8), (7.55, 3.8))
    d.box(8.2, 3.8, "n = tanh", GREEN, width=1.3)
    d.wire((4.82, 0.55), (8.2, 0.55), (8.2, 3.4))
    d.wire((8.85, 3.8), (9.73, 3.8), colour=GREEN)
    d.operation(10.0, 3.8, "×")
    d.wire((10.27, 3.8), (11.6, 3.8), (11.6, 5.63), colour=GREEN)
    d.operation(11.6, 5.9, "+")
    d.wire((11.87, 5.9), (12.5, 5.9))
    d.text(13.0, 5.9, "h⟨t⟩")
    return d


def lstm() -> Drawing:
    """One step of the LSTM."""
    d = Drawing(13.6, 6.6)
    gates = {
        "f": (2.6, "f = σ", VAL),
        "i": (4.6, "i = σ", TRAIN),
        "g": (6.6, "g = tanh", GREEN),
        "o": (8.6, "o = σ", INK),
    }
    _gates(d, gates)
    d.text(0.75, 5.9, "c⟨t−1⟩")
    d.wire((1.4, 5.9), (2.33, 5.9))
    d.operation(2.6, 5.9, "×")
    d.wire((2.6, 2.9), (2.6, 5.63), colour=VAL)
    d.wire((2.87, 5.9), (6.33, 5.9))
    d.operation(6.6, 5.9, "+")
    d.wire((4.6, 2.9), (4.6, 3.9), (6.33, 3.9), colour=TRAIN)
    d.wire((6.6, 2.9), (6.6, 3.63), colour=GREEN)
    d.operation(6.6, 3.9, "×")
    d.wire((6.6, 4.17), (6.6, 5.63), colour=GREEN)
    d.wire((6.87, 5.9), (12.5, 5.9))
    d.text(13.0, 5.9, "c⟨t⟩")
    d.dot(10.6, 5.9)
    d.wire((10.6, 5.9), (10.6, 5.1))
    d.box(10.6, 4.8, "tanh", INK, height=0.6)
    d.wire((10.6, 4.5), (10.6, 3.77))
    d.operation(10.6, 3.5, "×")
    d.wire((8.6, 2.9), (8.6, 3.5), (10.33, 3.5))
    d.wire((10.87, 3.5), (12.5, 3.5))
    d.text(13.0, 3.5, "h⟨t⟩")
    return d


def bidirectional() -> Drawing:
    """Two layers over one sequence."""
    d = Drawing(13.4, 6.0)
    for t in range(1, 5):
        x = 3.2 * t - 1.2
        d.text(x, 0.5, f"x⟨{t}⟩")
        d.text(x, 5.55, f"y⟨{t}⟩")
        d.box(x - 0.65, 1.95, f"h→⟨{t}⟩", TRAIN)
        d.box(x + 0.65, 3.75, f"h←⟨{t}⟩", VAL)
        d.wire((x - 0.12, 0.85), (x - 0.12, 1.15), (x - 0.65, 1.15), (x - 0.65, 1.55), colour=TRAIN)
        d.wire((x + 0.12, 0.85), (x + 0.12, 1.15), (x + 0.65, 1.15), (x + 0.65, 3.35), colour=VAL)
        d.wire((x - 0.65, 2.35), (x - 0.65, 4.85), (x - 0.12, 4.85), (x - 0.12, 5.25), colour=TRAIN)
        d.wire((x + 0.65, 4.15), (x + 0.65, 4.85), (x + 0.12, 4.85), (x + 0.12, 5.25), colour=VAL)
        if t < 4:
            d.wire((x - 0.1, 1.95), (x + 2.0, 1.95), colour=TRAIN)
            d.wire((x + 3.3, 3.75), (x + 1.2, 3.75), colour=VAL)
    return d


def deep() -> Drawing:
    """A stack of three layers."""
    d = Drawing(11.6, 6.6)
    for layer, colour in ((1, TRAIN), (2, VAL), (3, GREEN)):
        y = 0.1 + 1.6 * layer
        d.text(0.25, y, f"layer {layer}: state {layer - 1}.h", size=9, colour=SOFT, align="left")
        for t in range(1, 5):
            x = 1.5 + 2.3 * t
            d.box(x, y, f"h[{layer}]⟨{t}⟩", colour, width=1.4)
            d.wire((x, y + 0.4), (x, y + 1.2))
            d.wire((x - 1.6 if t > 1 else x - 1.3, y), (x - 0.7, y))
    for t in range(1, 5):
        x = 1.5 + 2.3 * t
        d.text(x, 0.4, f"x⟨{t}⟩")
        d.wire((x, 0.7), (x, 1.3))
        d.text(x, 6.3, f"y⟨{t}⟩")
    return d


DIAGRAMS: dict[str, Callable[[], Drawing]] = {
    "course-unrolled.png": unrolled,
    "course-gru.png": gru,
    "course-lstm.png": lstm,
    "course-bidirectional.png": bidirectional,
    "course-deep.png": deep,
}


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    for name, draw in DIAGRAMS.items():
        draw().write(folder / name)
