"""Precision-recall and ROC curves in one picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from components.evaluation.style import COLOURS, SOFT, style_axes
from components.render.figures import figure as shown
from components.tasks.base import Thresholds
from components.tasks.thresholds import average_precision, precision_recall, roc, roc_auc


def write_thresholds(path: Path, found: Thresholds) -> None:
    """Draw two panels; the dashed lines are random scores."""
    scores, positive = found.scores, found.is_positive
    figure = Figure(figsize=(9.6, 4.8), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    precision, recall = precision_recall(scores, positive)
    share = float(positive.mean())
    left.step([0.0, *recall], [precision[0], *precision], where="pre", color=COLOURS[0])
    left.axhline(share, color=SOFT, linestyle="--", linewidth=0.9)
    left.set(
        xlabel="recall", ylabel="precision", title=f"average precision {shown(average_precision(scores, positive))}"
    )
    right.plot(*roc(scores, positive), color=COLOURS[0])
    right.plot([0, 1], [0, 1], color=SOFT, linestyle="--", linewidth=0.9)
    right.set(
        xlabel="false positive rate", ylabel="true positive rate", title=f"ROC AUC {shown(roc_auc(scores, positive))}"
    )
    for axes in (left, right):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        style_axes(axes, "both")
    count = f"{int(positive.sum()):,} of {len(positive):,} examples"
    figure.suptitle(f"{found.title}  ·  positive: {found.positive} ({count})", fontsize=11)
    FigureCanvasAgg(figure).print_png(path)
