"""The pictures of docs/bptt.md: gradients that vanish, gradients that explode, and what clipping does.

`python -m docs.tools.vanishing docs/images` trains what they show on the adding problem and draws them
(about half a minute on one core). The norms are the record of the backward pass by hand.
T time, B batch, H hidden.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from components.datasets.made.synthetic import AddingProblem
from components.evaluation.gradients import bound_norms, dress_lag_axes
from components.evaluation.style import INK, SOFT, TRAIN, VAL, style_axes
from components.kernels.function import recurrent
from components.layers.cell import Cell
from components.registry import resolve

KINDS = {"rnn": (VAL, "tanh RNN"), "gru": (TRAIN, "GRU"), "lstm": ("#009e73", "LSTM")}
HIDDEN, LAG, SHORT_LAG = 48, 60, 10
ROWS = 32
RADII = {0.5: "#9ecae1", 0.9: TRAIN, 1.0: INK, 1.6: "#e69f00", 2.0: VAL}  # spectral radius → colour
LARGE_RADIUS = 1.6  # three seeds of three diverged without clipping; with 0.9 and 1.0 none did
SMOOTH = 20  # updates that a point of a learning curve averages


@dataclass
class Lesson:
    """A cell with its head, and how its training went: mean squared error and gradient norm of each update."""

    cell: Cell
    head: nn.Linear
    errors: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)


def untrained(kind: str, *, radius: float | None = None) -> Lesson:
    """A new cell; with `radius` its W_hh is Gaussian with that spectral radius instead of orthogonal."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cell, head = resolve("cell", kind)(2, hidden_size=HIDDEN), nn.Linear(HIDDEN, 1)
        if radius is not None:
            matrix = torch.randn(cell.weight_hh.shape)
            with torch.no_grad():
                cell.weight_hh.copy_(matrix * radius / torch.linalg.eigvals(matrix).abs().max())
    return Lesson(cell, head)


def learn(
    lesson: Lesson,
    examples: tuple[Tensor, Tensor],
    make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    *,
    updates: int,
    clip_norm: float | None,
    enough: float = 0.0,
) -> Lesson:
    """Train on the adding problem until `updates` are done or the mean error of `SMOOTH` of them is below `enough`."""
    x_NTI, y_N = examples
    parameters = [*lesson.cell.parameters(), *lesson.head.parameters()]
    optimizer = make_optimizer(parameters)
    for update in range(updates):
        start = update * ROWS % (len(x_NTI) - ROWS + 1)
        optimizer.zero_grad()
        h_BTH, _ = lesson.cell(x_NTI[start : start + ROWS])
        error = (lesson.head(h_BTH[:, -1]).squeeze(1) - y_N[start : start + ROWS]).square().mean()
        error.backward()
        norm = nn.utils.clip_grad_norm_(parameters, torch.inf if clip_norm is None else clip_norm)
        optimizer.step()
        lesson.errors.append(error.item())
        lesson.norms.append(norm.item())
        if not np.isfinite(lesson.norms[-1]) or np.mean(lesson.errors[-SMOOTH:]) < enough:
            break
    return lesson


def adding(lag: int, count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs [N, T, 2] and sums [N] of the adding problem."""
    inputs, sums = zip(*AddingProblem(lag=lag, count=count, seed=seed).items(), strict=True)
    return torch.from_numpy(np.stack(inputs)), torch.tensor(sums)


def relative_norms(lesson: Lesson, x_BTI: Tensor) -> np.ndarray:
    """‖∂L/∂h⟨T−k⟩‖ / ‖∂L/∂h⟨T⟩‖ for k = 0 … T−1, averaged over the rows, L a function of the last output."""
    cell, (B, T) = lesson.cell, x_BTI.shape[:2]
    record_TB = torch.zeros(T, B)
    options = {"record": record_TB, "backend": "by_hand", **cell.kernel_options}
    h_BTH, _ = recurrent(cell.kernel, x_BTI, cell.initial_state(B), cell.parameters_by_name, **options)
    torch.autograd.grad(lesson.head(h_BTH[:, -1]).sum(), cell.weight_hh)
    return (record_TB / record_TB[-1]).mean(dim=1).flip(0).numpy()


def write_vanishing(path: Path, *, updates: int = 3000) -> dict[str, Lesson]:
    """Three panels: gradients before training, learning, gradients after. Gives the trained cells by kind."""
    figure, (before, curves, after) = _panels()
    probe, _ = adding(LAG, 64, seed=1)
    examples = adding(LAG, 10_000)
    lessons, shown = {}, []
    for kind, (colour, name) in KINDS.items():
        lesson = untrained(kind)
        for axes in (before, after):
            if axes is after:
                learn(lesson, examples, _adam, updates=updates, clip_norm=1.0, enough=1e-3)
            shown.append(relative_norms(lesson, probe))
            axes.plot(shown[-1], color=colour, label=name)
        curves.plot(_smooth(lesson.errors), color=colour, label=f"{name}, {LAG} steps")
        lessons[kind] = lesson
    short = learn(untrained("rnn"), adding(SHORT_LAG, 10_000), _adam, updates=updates, clip_norm=1.0, enough=1e-3)
    curves.plot(_smooth(short.errors), color=KINDS["rnn"][0], linestyle=":", label=f"tanh RNN, {SHORT_LAG} steps")
    curves.axhline(AddingProblem.without_memory, color=SOFT, linewidth=0.9, linestyle="--", label="without memory")
    curves.set(yscale="log", xlabel="update", ylabel="mean squared error")
    curves.set_title("learning to add two numbers", fontsize=10, color=INK)
    for axes, title in ((before, "gradient before training"), (after, "gradient after training")):
        dress_lag_axes(axes)
        bound_norms(axes, np.concatenate(shown).tolist())
        axes.set_title(title, fontsize=10, color=INK)
        axes.set_ylabel("‖∂L/∂h⟨T−k⟩‖ / ‖∂L/∂h⟨T⟩‖")
    _finish(path, figure, "What a cell can learn is what its gradient reaches")
    return lessons


def write_exploding(path: Path, *, updates: int = 800) -> dict[str, Lesson]:
    """Three panels: norms by spectral radius, and a tanh RNN of a large one trained with and without clipping."""
    figure, (radii, norms, errors) = _panels()
    probe, _ = adding(LAG, 64, seed=1)
    shown = []
    for radius, colour in RADII.items():
        shown.append(relative_norms(untrained("rnn", radius=radius), probe))
        radii.plot(shown[-1], color=colour, label=f"spectral radius {radius}")
    dress_lag_axes(radii)
    bound_norms(radii, np.concatenate(shown).tolist())
    radii.set_title("tanh RNN before training", fontsize=10, color=INK)
    radii.set_ylabel("‖∂L/∂h⟨T−k⟩‖ / ‖∂L/∂h⟨T⟩‖")
    examples, lessons = adding(SHORT_LAG, 6400), {}
    for radius, clip_norm, colour in ((LARGE_RADIUS, None, VAL), (0.9, None, SOFT), (LARGE_RADIUS, 1.0, TRAIN)):
        name = f"radius {radius}, {'not clipped' if clip_norm is None else 'clipped at norm 1'}"
        lesson = learn(untrained("rnn", radius=radius), examples, _sgd, updates=updates, clip_norm=clip_norm)
        lessons[name] = lesson
        clipped = np.mean(np.array(lesson.norms) > (clip_norm or np.inf))
        share = f" ({clipped:.0%} of updates)" if clip_norm else ""
        norms.plot(_off_the_picture(lesson.norms, 1e3), color=colour, linewidth=1.0, label=name + share)
        errors.plot(_off_the_picture(_smooth(lesson.errors), 10.0), color=colour, label=name)
    norms.axhline(1.0, color=INK, linewidth=0.9, linestyle="--")
    norms.set(yscale="log", ylim=(0.03, 1e3), xlabel="update", ylabel="norm of the gradient, before clipping")
    norms.set_title("gradient in training", fontsize=10, color=INK)
    errors.axhline(AddingProblem.without_memory, color=INK, linewidth=0.9, linestyle="--", label="without memory")
    errors.set(yscale="log", ylim=(0.01, 10.0), xlabel="update", ylabel="mean squared error")
    errors.set_title(f"learning to add over {SHORT_LAG} steps", fontsize=10, color=INK)
    for axes in (norms, errors):
        axes.margins(x=0.03)
    _finish(path, figure, "Recurrent weights that stretch: the gradient explodes, and clipping its norm is the cure")
    return lessons


def _adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=5e-3)


def _sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def _panels() -> tuple[Figure, Sequence]:
    figure = Figure(figsize=(12.6, 4.0), dpi=130, layout="constrained")
    return figure, figure.subplots(1, 3)


def _finish(path: Path, figure: Figure, title: str) -> None:
    for axes in figure.axes:
        style_axes(axes)
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=12, color=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(path)


def _smooth(values: Sequence[float]) -> np.ndarray:
    """Means of the last `SMOOTH` values (fewer at the beginning)."""
    sums = np.cumsum(np.concatenate([[0.0], np.nan_to_num(values, nan=np.inf)]))
    last = np.arange(1, len(sums))
    first = np.maximum(0, last - SMOOTH)
    return (sums[last] - sums[first]) / (last - first)


def _off_the_picture(values: Sequence[float], top: float) -> np.ndarray:
    """The values up to the first above `top`, which is drawn beyond the edge; a gap after it."""
    array = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=np.inf)
    beyond = np.flatnonzero(array > top)
    if len(beyond):
        array = np.append(array[: beyond[0]], 10 * top)
    return array


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    write_vanishing(folder / "gradient-vanishing.png")
    write_exploding(folder / "gradient-exploding.png")
