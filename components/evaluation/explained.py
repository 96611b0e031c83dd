"""Pictures of explanations: a text with each token's contribution, or the matrix of an explanation."""

from __future__ import annotations

from pathlib import Path

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from components.evaluation.report import write_matrix
from components.evaluation.style import INK, SIGNED
from components.tasks.explanation import Explanation

LINE, MOST_LINES = 84, 60  # characters per line, and lines per picture
LETTER = 0.062  # width of a letter, in inches
DEEP = 0.6  # share of the scale above which cells have white letters


def draw_explanation(path: Path, explanation: Explanation, *, title: str) -> bool:
    """Draw the explanation. Returns False if there is nothing to draw."""
    if explanation.matrix is not None:
        write_matrix(path, explanation.matrix)
        return True
    tokens = [(row["token"], row["contribution"]) for row in explanation.positions if "contribution" in row]
    if not tokens:
        return False
    write_tokens(path, tokens, title=title, label=f"contribution, {explanation.totals[0]['unit']}")
    return True


def write_tokens(path: Path, tokens: list[tuple[str, float]], *, title: str, label: str) -> None:
    """Draw tokens as lines of text, blue for positive numbers and red for negative ones."""
    placed, line, column = [], 0, 0
    gap = any(len(token) > 1 for token, _ in tokens)  # separate words by spaces, but not letters
    for token, value in tokens:
        shown = token.strip(" ").replace("\n", "⏎") or "·"
        if column and column + len(shown) > LINE:
            line, column = line + 1, 0
        placed.append((line, column, shown, value))
        column += len(shown) + gap
    left_out = sum(at >= MOST_LINES for at, *_ in placed)
    lines = min(line + 1, MOST_LINES)
    figure = Figure(figsize=(LINE * LETTER + 1.4, 0.27 * lines + 1.1), dpi=130, layout="constrained")
    axes = figure.subplots()
    most = max((abs(value) for _, value in tokens), default=0.0) or 1.0
    scale, colours = Normalize(-most, most), matplotlib.colormaps[SIGNED]
    for at, column, shown, value in placed:
        if at < MOST_LINES:
            box = {"facecolor": colours(scale(value)), "edgecolor": "none", "pad": 1.6}
            colour = "white" if abs(value) > DEEP * most else INK
            axes.text(column, at, shown, fontsize=8, family="DejaVu Sans Mono", color=colour, bbox=box, va="center")
    axes.set(xlim=(-0.5, LINE), ylim=(lines - 0.4, -0.6), xticks=[], yticks=[])
    axes.set_title(f"{title}{f'  ·  {left_out:,} more tokens' if left_out else ''}", fontsize=10)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(scale, colours), ax=axes, fraction=0.03, pad=0.01)
    bar.set_label(label, fontsize=8)
    bar.outline.set_visible(False)
    FigureCanvasAgg(figure).print_png(path)
