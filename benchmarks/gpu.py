"""Training updates on a GPU: `python -m benchmarks.gpu`.

Each cell × precision × way of starting the operations, as one whole update (forward, loss, backward, clipping, AdamW),
against a plain PyTorch loop over torch.nn that does the same and reads its loss after each update. Loss and gradients
are checked against float64 first. It imports kernels, layers and training only, so that it runs where the rest is
missing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.kernels.backends import triton_applies
from components.layers.gru import GRU
from components.layers.lstm import LSTM
from components.layers.mingru import MinGRU
from components.layers.minlstm import MinLSTM
from components.layers.peephole_lstm import PeepholeLSTM
from components.layers.rnn import RNN
from components.layers.stack import Stack
from components.training.captured import AFTER, CapturedUpdate
from components.training.device import prepare
from components.training.optim import make_optimizer
from components.training.update import Update

# batch, steps, hidden size, layers, vocabulary: those of benchmarks/kernels.py, and a large one
SHAPES = [
    (32, 128, 256, 1, 96),
    (60, 30, 64, 1, 78),
    (64, 128, 512, 2, 96),
    (50, 50, 512, 2, 96),
    (64, 128, 1024, 2, 96),
]
CELLS: dict[str, Callable[..., nn.Module]] = {
    "rnn": RNN,
    "gru": GRU,
    "lstm": LSTM,
    "gru, reset before": partial(GRU, reset_after=False),
    "peephole-lstm": PeepholeLSTM,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
}
GATES = {"rnn": 1, "gru": 3, "lstm": 4, "gru, reset before": 3, "peephole-lstm": 4}  # of a recurrent product
PLAIN = ("rnn", "gru", "lstm")  # that torch.nn has
FEWER = (0, 2, 4)  # shapes of the other cells, without tf32
BACKENDS = ("torch", "by_hand", "triton")
PRECISIONS = ("float32", "tf32", "bfloat16")
WRONG = {"float32": 1e-4, "tf32": 2e-2, "bfloat16": 1e-1}  # ‖difference‖ / ‖exact‖ of a gradient
RESULTS = Path(__file__).parent / "results" / "gpu.json"
GPU = torch.device("cuda")
Shape = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Batch:
    inputs: Any
    targets: Any


@dataclass(frozen=True)
class Tally:
    total: Tensor
    count: Tensor


class Model(nn.Module):
    """Embedding → layers → logits, as a language model."""

    def __init__(self, cell: str, shape: Shape, **options: Any) -> None:
        super().__init__()
        _, _, H, layers, V = shape
        self.embedding, self.head = nn.Embedding(V, H), nn.Linear(H, V)
        self.layers = Stack.of(lambda size: CELLS[cell](size, hidden_size=H, **options), H, layers)

    def forward(self, ids_BT: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y_BTH, state = self.layers(self.embedding(ids_BT), state)
        return self.head(y_BTH), state


def loss(model: nn.Module, batch: Batch, state: Any) -> tuple[Tally, Any]:
    ids, targets = (
        value if isinstance(value, Tensor) else torch.from_numpy(value).pin_memory().to(GPU, non_blocking=True)
        for value in (batch.inputs, batch.targets)
    )
    logits_BTV, state = model(ids, state)
    total = F.cross_entropy(
        logits_BTV.flatten(0, 1).to(_at_least_float32(logits_BTV)), targets.flatten(), reduction="sum"
    )
    return Tally(total, (targets >= 0).sum()), state


def _at_least_float32(value: Tensor) -> torch.dtype:
    return torch.promote_types(value.dtype, torch.float32)


class Plain:
    """The loop that one writes with torch.nn: weights and update as ours."""

    def __init__(self, model: Model, cell: str, precision: str) -> None:
        H, layers = model.head.in_features, len(model.layers.layers)
        self.embedding, self.head = nn.Embedding(model.head.out_features, H), nn.Linear(H, model.head.out_features)
        self.rnn = getattr(nn, cell.upper())(H, H, layers, batch_first=True)
        self.parts = nn.ModuleList([self.embedding, self.rnn, self.head]).to(GPU)
        with torch.no_grad():
            for mine, theirs in zip(self._in_order(), model.parameters(), strict=True):
                mine.copy_(theirs)
        self.optimizer = torch.optim.AdamW(self.parts.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
        self.precision = precision
        self.state: Any = None
        self.names = [name for name, _ in model.named_parameters()]

    def _in_order(self) -> list[Tensor]:
        """As the parameters of `Model`."""
        return [self.embedding.weight, *self.head.parameters(), *self.rnn.parameters()]

    def loss(self, batch: Batch) -> Tensor:
        ids, targets = torch.from_numpy(batch.inputs).to(GPU), torch.from_numpy(batch.targets).to(GPU)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bfloat16"):
            y_BTH, state = self.rnn(self.embedding(ids), self.state)
            logits_BTV = self.head(y_BTH)
        self.state = tuple(value.detach() for value in state) if isinstance(state, tuple) else state.detach()
        return F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets.flatten())

    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        """Those of the first batch, with the loss, under the names of `Model`."""
        value = self.loss(batch)
        value.backward()
        self.state = None
        found = {name: p.grad.double() for name, p in zip(self.names, self._in_order(), strict=True)}
        return found | {"loss": value.detach().double() * batch.targets.size}

    def __call__(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        value = self.loss(batch)
        value.backward()
        nn.utils.clip_grad_norm_(self.parts.parameters(), 1.0)
        self.optimizer.step()
        value.item()


class Ours:
    """An update of this project, with the state carried on."""

    def __init__(self, model: Model, precision: str, captured: bool) -> None:
        kind = CapturedUpdate if captured else Update
        optimizer = make_optimizer(model, learning_rate=1e-3)
        self.update = kind(model, loss, optimizer, clip_norm=1.0, clip_value=None, precision=precision, average=None)
        self.state: Any = None

    def __call__(self, batch: Batch) -> None:
        self.state = self.update(batch, self.state, 1.0, 0)


def gradients(model: nn.Module, batch: Batch, precision: str) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bfloat16"):
        tally, _ = loss(model, batch, None)
    (tally.total / tally.count).backward()
    found = {"loss": tally.total.detach().double()}
    return found | {name: p.grad.double() for name, p in model.named_parameters()}


def largest_error(got: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    return max(float((got[name] - value).norm() / value.norm().clamp(min=1e-30)) for name, value in exact.items())


def launches(run: Callable[[], None]) -> int:
    """Kernels and copies that a call starts on the device."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    return sum(event.count for event in profile.key_averages() if event.self_device_time_total > 0)


def measure(runs: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each contender, one after the other in each round; a round of a contender lasts 30 ms."""
    counts = {}
    for name, run in runs.items():
        for _ in range(AFTER + 3):
            run()
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        counts[name] = max(1, round(0.03 / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(times[name]) < 3:
        for name, run in runs.items():
            begun = time.perf_counter()
            for _ in range(counts[name]):
                run()
            torch.cuda.synchronize()
            times[name].append((time.perf_counter() - begun) / counts[name] * 1e3)
    return times


def peaks() -> dict[str, float]:
    """FLOP/s of one large product in each precision, on random numbers."""
    found = {}
    for precision in PRECISIONS:
        prepare(0, 1, tf32=precision == "tf32")
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        size = 8192 if precision != "float32" else 4096
        a, b = torch.randn(2, size, size, device=GPU).to(kind)
        for _ in range(2):
            a @ b
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(5):
            a @ b
        torch.cuda.synchronize()
        found[precision] = 5 * 2 * size**3 / (time.perf_counter() - start)
    return found


def products(cell: str, shape: Shape) -> float:
    """Floating-point operations of an update's products, recurrent and of the head."""
    B, T, H, layers, V = shape
    return 6.0 * B * T * (layers * GATES.get(cell, 0) * H * 2 * H + H * V)


def backends(cell: str, wanted: Collection[str]) -> list[str]:
    """Those that are timed: triton only where it runs."""
    found = [name for name in CELLS[cell](1, hidden_size=1).backends if name in wanted]
    return [name for name in found if name != "triton" or triton_applies(GPU, training=False)]


def case(
    cell: str, shape: Shape, precision: str, wanted: Collection[str], seconds: float, peak: float
) -> dict[str, Any]:
    prepare(0, 1, tf32=precision == "tf32")
    B, T, *_, V = shape
    rng = np.random.default_rng(0)
    batches = [Batch(*rng.integers(0, V, (2, B, T))) for _ in range(4)]
    made = {name: Model(cell, shape, backend=name) for name in backends(cell, wanted)}
    first, *others = made.values()
    for other in others:
        other.load_state_dict(first.state_dict())
    by_hand = "by_hand" in CELLS[cell](1, hidden_size=1).backends
    exact_model = Model(cell, shape, backend="by_hand" if by_hand else "torch")
    exact_model.load_state_dict(first.state_dict())
    exact = gradients(exact_model.double().to(GPU), batches[0], "float32")
    errors, runs = {}, {}
    turn = iter(range(1 << 60))

    def next_batch() -> Batch:
        return batches[next(turn) % len(batches)]

    for backend, model in made.items():
        model.to(GPU).train()
        errors[backend] = largest_error(gradients(model, batches[0], precision), exact)
        if not errors[backend] < WRONG[precision]:
            print(f"{cell} {shape} {precision} by {backend} is wrong by {errors[backend]:.1e}: not timed", flush=True)
            continue
        runs[backend] = partial(lambda ours: ours(next_batch()), Ours(model, precision, False))
        recorded = Model(cell, shape, backend=backend).to(GPU).train()
        recorded.load_state_dict(first.state_dict())
        runs[f"{backend}, graph"] = partial(lambda ours: ours(next_batch()), Ours(recorded, precision, True))
    if cell in PLAIN:
        loop = Plain(first, cell, precision)
        errors["plain PyTorch"] = largest_error(loop.gradients(batches[0]), exact)
        runs["plain PyTorch"] = partial(lambda plain: plain(next_batch()), loop)
    times = measure(runs, seconds) if runs else {}
    started = {name: launches(run) for name, run in runs.items()}
    reference = times.get("plain PyTorch")
    result: dict[str, Any] = {}
    for name, mine in times.items():
        middle = statistics.median(mine)
        result[name] = {
            "milliseconds": round(middle, 3),
            "tokens_per_second": round(B * T / middle * 1e3),
            "launches": started[name],
            "share_of_peak": round(products(cell, shape) / (middle / 1e3) / peak, 4),
        }
        result[name]["largest_error"] = float(f"{errors[name.removesuffix(', graph')]:.1e}")
        if reference:
            result[name]["ratio"] = round(statistics.median(b / a for a, b in zip(mine, reference, strict=True)), 2)
    return result


def write(path: Path, peak: dict[str, float], rows: list[dict[str, Any]]) -> None:
    about = {
        "date": datetime.date.today().isoformat(),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "teraflops_of_a_large_product": {name: round(value / 1e12, 1) for name, value in peak.items()},
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.6, help="for each case")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--shapes", nargs="+", type=int, default=range(len(SHAPES)), help="their numbers, from 0")
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here")
    peak, rows = peaks(), []
    print(" · ".join(f"{name}: {value / 1e12:.0f} TFLOP/s" for name, value in peak.items()), flush=True)
    for cell in options.cells:
        for number in options.shapes:
            for precision in options.precisions:
                if cell not in PLAIN and (number not in FEWER or precision == "tf32"):
                    continue
                result = case(cell, SHAPES[number], precision, options.backends, options.seconds, peak[precision])
                rows.append({"cell": cell, "B,T,H,layers,V": SHAPES[number], "precision": precision, "ways": result})
                line = " · ".join(
                    f"{name} {way['milliseconds']} ms" + (f" ×{way['ratio']}" if "ratio" in way else "")
                    for name, way in result.items()
                )
                print(f"{cell} {SHAPES[number]} {precision}: {line}", flush=True)
                write(options.out, peak, rows)  # after each case: the machine may be taken away
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
