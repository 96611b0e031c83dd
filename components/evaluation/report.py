"""Pictures of what was learned: the learning curve, and a held-out piece with each token's surprise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from components.encodings.base import Encoding
from components.encodings.vocabulary import BOS
from components.tasks.base import to_device

INK, SOFT, TRAIN, VAL = "#222222", "#8a8a8a", "#56b4e9", "#d55e00"
MAX_NATS = 4.0  # the colour scale's end: a chance of one in 55


def write_learning_curve(
    path: Path,
    history: Sequence[Mapping[str, float]],
    *,
    metric: str,
    baselines: Mapping[str, float],
    test: float | None,
    title: str,
) -> None:
    """Train and val against tokens seen; `baselines` are drawn as lines (what a model without memory reaches)."""
    figure = Figure(figsize=(8, 4.6), dpi=130, layout="constrained")
    axes = figure.subplots()
    tokens = [point["tokens"] for point in history]
    for key, colour, name in (("train", TRAIN, "train (dropout on)"), ("val", VAL, "val")):
        axes.plot(tokens, [point[key] for point in history], color=colour, marker="o", markersize=3, label=name)
    curves = [value for point in history for value in (point["train"], point["val"]) if math.isfinite(value)]
    curves += [test] if test is not None else []
    if curves:
        # a baseline far above would press the curves flat: it is named in the legend instead
        low, high = min(curves), max(curves)
        near = [value for value in baselines.values() if value < 2.5 * high]
        top = max([high, *near])
        axes.set_ylim(max(0.0, low - 0.15 * (top - low)), top + 0.1 * (top - low))
        for name, value in baselines.items():
            far = "" if value <= top else " (off the picture)"
            axes.axhline(value, color=SOFT, linewidth=0.9, linestyle="--", label=f"{name} {value:.2f}{far}")
    if test is not None and tokens:
        axes.plot(tokens[-1:], [test], color=INK, marker="*", markersize=11, linestyle="none", label=f"test {test:.3f}")
    axes.set(xlabel="tokens seen in training", ylabel=metric.replace("_", " "), title=title)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g} M" if value else "0")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(path)


def baselines(train_ids: np.ndarray, test_ids: np.ndarray, vocabulary_size: int) -> dict[str, float]:
    """Nats per token of models without memory: every token alike, and tokens as often as in training (add-one)."""
    counts = np.bincount(train_ids, minlength=vocabulary_size).astype(np.float64) + 1
    logp = np.log(counts / counts.sum())
    unigram = float(-logp[test_ids].mean()) if len(test_ids) else math.nan
    return {"uniform": math.log(vocabulary_size), "unigram": unigram}


@torch.inference_mode()
def surprise(model: nn.Module, encoding: Encoding, ids: np.ndarray) -> np.ndarray:
    """Nats of each of ids[1:] given those before it, float64 [T − 1]."""
    ids = np.asarray(ids, dtype=np.int64)
    streams = np.concatenate([ids[:, None], encoding.context(ids)], axis=-1)[:-1]
    logits_BTV, _ = model(to_device(streams[None], model), None)
    logp = torch.log_softmax(logits_BTV[0].double(), dim=-1).cpu().numpy()
    return -logp[np.arange(len(ids) - 1), ids[1:]]


def write_surprise(path: Path, encoding: Encoding, ids: np.ndarray, nats: np.ndarray, *, title: str) -> None:
    """The tokens ids[1:] in rows, darker the more the model was surprised by them."""
    shown = np.asarray(ids[1:], dtype=np.int64)
    rows = encoding.layout(shown)
    columns = max(len(row) for row in rows)
    cell = 0.19 if columns > 40 else 0.24
    figure = Figure(figsize=(max(6.0, columns * cell + 1.4), len(rows) * 0.27 + 1.3), dpi=130, layout="constrained")
    axes = figure.subplots()
    grid = np.full((len(rows), columns), np.nan)
    for y, row in enumerate(rows):
        for x, index in enumerate(row):
            grid[y, x] = nats[index]
            dark = nats[index] > 0.6 * MAX_NATS
            axes.text(x, y, encoding.label(int(shown[index])), ha="center", va="center", fontsize=7.5,
                      family="DejaVu Sans Mono", color="white" if dark else INK)  # fmt: skip
    image = axes.imshow(grid, cmap="YlOrRd", vmin=0, vmax=MAX_NATS, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[], title=f"{title}  ·  mean {float(np.mean(nats)):.2f} nats")
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="surprise, nats", fraction=0.03, pad=0.01)
    FigureCanvasAgg(figure).print_png(path)


def excerpt(ids: np.ndarray, length: int = 640) -> np.ndarray:
    """The beginning of a sequence with the token before it (BOS, or a stream's first), int64 [≤ length + 1]."""
    ids = np.asarray(ids[: length + 1], dtype=np.int64)
    return ids if len(ids) > 1 else np.array([BOS, *ids], dtype=np.int64)
