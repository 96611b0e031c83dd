"""One training step of recurrent layers: the native kernels and those by hand against torch.nn, on this machine.

    python -m benchmarks.kernels [--threads 1 2] [--repeats 15] [--kinds lstm gru rnn]

Forward and backward of the layers alone, float32, on the CPU. Every contender is first checked against the kernels by
hand in float64; a wrong one isn't timed. Contenders take turns within each repeat, so that a busy machine slows them
alike; a ratio is the median over repeats of (torch.nn's time / the contender's). On a busy machine only the ratio of
processor time on one thread means much (waiting threads spin, and a barrier waits for whoever was interrupted), or
the ratio of the minima, if each met a quiet moment.

"ids": tokens, which torch.nn must be given as one-hot vectors. "dense": the same float vectors for everyone.
Writes results/kernels.json beside this file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from components.kernels.function import recurrent
from components.kernels.native import build

SHAPES = [(32, 128, 256, 1, 96), (64, 64, 256, 2, 96), (60, 30, 64, 1, 78)]  # B, T, H, layers, vocabulary or input size
RESULTS = Path(__file__).parent / "results" / "kernels.json"
WRONG = 1e-4  # relative to the largest value of the same name
Run = Callable[[], dict[str, Tensor]]


def contenders(kind: str, shape: tuple[int, int, int, int, int], dense: bool) -> dict[str, Run]:
    """Each gives the output and every gradient by name; the last one, in float64, is what the others must match."""
    B, T, H, layers, V = shape
    torch.manual_seed(0)
    theirs = getattr(nn, kind.upper())(V, H, layers, batch_first=True)
    ids = torch.randint(0, V, (B, T))
    vectors = torch.randn(B, T, V) if dense else nn.functional.one_hot(ids, V).float()
    grad_y = torch.randn(B, T, H) / (B * T)
    parameters = dict(theirs.named_parameters())

    def torch_nn() -> dict[str, Tensor]:
        y, _ = theirs(vectors)
        return {"y": y} | _gradients(y, grad_y, parameters)

    def ours(backend: str, dtype: torch.dtype = torch.float32) -> Run:
        mine = {name: value.detach().to(dtype).requires_grad_() for name, value in parameters.items()}
        state = {"h": torch.zeros(B, H, dtype=dtype), "c": torch.zeros(B, H, dtype=dtype)}
        x = vectors.to(dtype) if dense else ids
        stack = [
            {name.rsplit("_", 1)[0]: mine[name] for name in mine if name.endswith(f"_l{n}")} for n in range(layers)
        ]

        def run() -> dict[str, Tensor]:
            y = x
            for layer in stack:
                y, _ = recurrent(kind, y, state, layer, backend=backend)
            return {"y": y} | _gradients(y, grad_y.to(dtype), mine)

        return run

    return {
        "torch.nn": torch_nn,
        "by hand": ours("by_hand"),
        "native": ours("native"),
        "exact": ours("by_hand", torch.float64),
    }


def _gradients(y: Tensor, grad_y: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(zip(parameters, torch.autograd.grad(y, list(parameters.values()), grad_y), strict=True))


def verify(runs: dict[str, Run]) -> dict[str, float]:
    """The largest error of each contender over values and gradients; stops the benchmark when one is wrong."""
    exact = runs.pop("exact")()
    errors = {}
    for contender, run in runs.items():
        got = run()
        errors[contender] = max(
            ((got[name].double() - value).abs().max() / value.abs().max()).item() for name, value in exact.items()
        )
        if not errors[contender] < WRONG:
            sys.exit(f"{contender} is wrong by {errors[contender]:.1e}: not timed")
    return errors


def measure(runs: dict[str, Run], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each contender in each repeat: on the clock, and of processor time."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            clock, processor = time.perf_counter(), time.process_time()
            run()
            times[name].append(((time.perf_counter() - clock) * 1e3, (time.process_time() - processor) * 1e3))
    return times


def summary(times: dict[str, list[tuple[float, float]]], errors: dict[str, float]) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for name, pairs in times.items():
        result[name] = {"largest_error": float(f"{errors[name]:.1e}")}
        for n, of in enumerate(["clock", "processor"]):
            mine, theirs = [pair[n] for pair in pairs], [pair[n] for pair in times["torch.nn"]]
            low, middle, high = statistics.quantiles([a / b for a, b in zip(theirs, mine, strict=True)], n=4)
            result[name][of] = {
                "milliseconds_median": round(statistics.median(mine), 2),
                "milliseconds_min": round(min(mine), 2),
                "ratio_median": round(middle, 2),
                "ratio_of_minima": round(min(theirs) / min(mine), 2),
                "ratio_quartiles": [round(low, 2), round(high, 2)],
            }
    return result


def machine() -> dict[str, str | int | None]:
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo().splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": model,
        "cores": os.cpu_count(),
        "instruction_set": build.library().reprise_choose(None).decode(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--kinds", nargs="+", choices=["lstm", "gru", "rnn"], default=["lstm", "gru", "rnn"])
    options = parser.parse_args()
    rows, load_before = [], os.getloadavg()[0]
    for threads in options.threads:
        torch.set_num_threads(threads)
        for shape in SHAPES:
            for kind in options.kinds:
                for dense in (False, True):
                    runs = contenders(kind, shape, dense)
                    errors = verify(runs)
                    result = summary(measure(runs, options.repeats), errors)
                    rows.append(
                        {
                            "threads": threads,
                            "kind": kind,
                            "input": "dense" if dense else "ids",
                            "B,T,H,layers,V": shape,
                            "contenders": result,
                        }
                    )
                    line = " · ".join(
                        f"{name} {value['clock']['milliseconds_median']} ms "
                        f"×{value['clock']['ratio_median']} (of minima ×{value['clock']['ratio_of_minima']})"
                        for name, value in result.items()
                    )
                    print(f"{threads} threads {kind} {rows[-1]['input']} {shape}: {line}", flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    about = machine() | {
        "load_average_before": round(load_before, 2),
        "load_average_after": round(os.getloadavg()[0], 2),
    }
    RESULTS.write_text(json.dumps({"machine": about, "repeats": options.repeats, "rows": rows}, indent=1) + "\n")
    print(f"wrote {RESULTS.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
