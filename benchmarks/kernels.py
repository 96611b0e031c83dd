"""One training step of a whole language model: the native kernels and others against torch.nn, on this machine.

    python -m benchmarks.kernels [--threads 1 2] [--seconds 10] [--kinds lstm gru rnn] [--compile] [--keras]

Token ids in, recurrent layers, a linear layer to the vocabulary, cross-entropy; forward and backward, float32, on the
CPU. torch.nn is F.one_hot, nn.LSTM (nn.GRU, nn.RNN), nn.Linear and F.cross_entropy.
Every contender is first checked against the kernels by hand in float64; a wrong one isn't timed. Contenders take turns
within each repeat, so that a busy machine slows them alike; a ratio is the median over repeats of (torch.nn's time /
the contender's). On a busy machine only the ratio of processor time on one thread means much (waiting threads spin, and
a barrier waits for whoever was interrupted), or the ratio of the minima, if each met a quiet moment.

"products" is no contender but the floor: the step's bare matrix products by torch.mm, nothing between them, whole
sequences at once (a real step has to multiply step by step). --compile adds torch.compile of the torch.nn model,
--keras Keras on JAX (`benchmarks.keras_jax`), whose threads are as many as there are cores.
Writes results/kernels-INSTRUCTION_SET.json beside this file. To measure AVX2 on a processor with AVX-512, set
REPRISE_INSTRUCTION_SET=avx2 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2: they limit the native kernels and torch's
LSTM. torch's other matrix products use what the processor has.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import keras_jax
from components.kernels.function import recurrent
from components.kernels.head import cross_entropy
from components.kernels.native import build

# B, T, H, layers, vocabulary; the second is the jazz assignment's of the course
SHAPES = [(32, 128, 256, 1, 96), (60, 30, 64, 1, 78), (64, 128, 512, 2, 96), (50, 50, 512, 2, 96)]
RESULTS = Path(__file__).parent / "results"
WRONG = 1e-4  # relative to the largest value of the same name
COMPILE_SECONDS = 60
REPEATS = (5, 101)  # at least, at most
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
Shape = tuple[int, int, int, int, int]
Run = Callable[[], dict[str, Tensor]]


def contenders(kind: str, shape: Shape, keras: bool = False) -> dict[str, Run]:
    """Each gives the loss and every gradient by name; the last one, in float64, is what the others must match."""
    B, T, H, layers, V = shape
    torch.manual_seed(0)
    theirs, head = getattr(nn, kind.upper())(V, H, layers, batch_first=True), nn.Linear(H, V)
    ids, targets = torch.randint(0, V, (2, B, T))
    parameters = dict(theirs.named_parameters()) | {f"head.{name}": value for name, value in head.named_parameters()}

    def torch_loss() -> Tensor:
        return F.cross_entropy(head(theirs(F.one_hot(ids, V).float())[0]).flatten(0, 1), targets.flatten())

    def ours(backend: str, dtype: torch.dtype = torch.float32) -> Run:
        mine = {name: value.detach().to(dtype).requires_grad_() for name, value in parameters.items()}
        state = {"h": torch.zeros(B, H, dtype=dtype), "c": torch.zeros(B, H, dtype=dtype)}
        stack = [{n.rsplit("_", 1)[0]: mine[n] for n in mine if n.endswith(f"_l{layer}")} for layer in range(layers)]

        def loss() -> Tensor:
            y = ids
            for layer in stack:
                y, _ = recurrent(kind, y, state, layer, backend=backend)
            weight, bias = mine["head.weight"], mine["head.bias"]
            if backend == "native":
                return cross_entropy(y, weight, bias, targets) / targets.numel()
            return F.cross_entropy(F.linear(y, weight, bias).flatten(0, 1), targets.flatten())

        return lambda: _step(loss, mine)

    runs: dict[str, Run] = {"torch.nn": lambda: _step(torch_loss, parameters)}
    if keras and (theirs_too := keras_jax.step(kind, layers, parameters, ids, targets)):
        runs["Keras on JAX"] = theirs_too
    return runs | {
        "by hand": ours("by_hand"),
        "native": ours("native"),
        "exact": ours("by_hand", torch.float64),
    }


def _step(loss: Callable[[], Tensor], parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    value = loss()
    gradients = torch.autograd.grad(value, list(parameters.values()))
    return {"loss": value.detach()} | dict(zip(parameters, gradients, strict=True))


def products(kind: str, shape: Shape) -> Run:
    """The matrix products that a step can't do without (a token's input product is none), by torch.mm."""
    B, T, H, layers, V = shape
    N, G = B * T, GATES[kind] * H
    pairs = [(H, G)] * (2 * layers - 1) + [(H, V)]
    made = [(torch.randn(N, width), torch.randn(rows, width), torch.randn(N, rows)) for width, rows in pairs]

    def run() -> dict[str, Tensor]:
        for x, weight, grad in made:
            torch.mm(x, weight.t())  # forward
            torch.mm(grad, weight)  # to the input
            torch.mm(grad.t(), x)  # to the weight
        return {}

    return run


def compiled(run: Run) -> Run | None:
    """torch.compile of a step, compiled now; None, with the reason printed, when it fails or takes too long."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"not compiled within {COMPILE_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(COMPILE_SECONDS)
    try:
        faster = torch.compile(run)
        faster()
        return faster
    except Exception as error:  # whatever a compiler may say: the others are measured all the same
        print(f"torch.compile is left out: {str(error).splitlines()[0]}")
        return None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def verify(runs: dict[str, Run]) -> dict[str, float]:
    """The largest error of each contender over loss and gradients; stops the benchmark when one is wrong."""
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


def measure(runs: dict[str, Run], seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each contender in each repeat: on the clock, and of processor time."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    least, most = REPEATS
    start = time.perf_counter()
    for repeat in range(most):
        if repeat >= least and time.perf_counter() - start > seconds:
            break
        for name, run in runs.items():
            clock, processor = time.perf_counter(), time.process_time()
            run()
            times[name].append(((time.perf_counter() - clock) * 1e3, (time.process_time() - processor) * 1e3))
    return times


def summary(times: dict[str, list[tuple[float, float]]], errors: dict[str, float]) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for name, pairs in times.items():
        result[name] = {"largest_error": float(f"{errors[name]:.1e}")} if name in errors else {}
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
        "instruction_set": build.build().instruction_set,
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
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
    parser.add_argument(
        "--seconds", type=float, default=10, help=f"for each case; never fewer than {REPEATS[0]} repeats"
    )
    parser.add_argument("--kinds", nargs="+", choices=list(GATES), default=list(GATES))
    parser.add_argument("--compile", action="store_true", help="torch.compile is a contender too")
    parser.add_argument("--keras", action="store_true", help="Keras on JAX is a contender too")
    options = parser.parse_args()
    rows, load_before = [], os.getloadavg()[0]
    for shape in SHAPES:
        for kind in options.kinds:
            torch.set_num_threads(max(options.threads))
            runs = contenders(kind, shape, options.keras)
            errors = verify(runs)
            runs["products"] = products(kind, shape)
            for threads in options.threads:
                torch.set_num_threads(threads)
                if options.compile and (faster := compiled(runs["torch.nn"])):
                    runs["torch.compile"] = faster
                alone = {name: run for name, run in runs.items() if name != "Keras on JAX" or threads == os.cpu_count()}
                times = measure(alone, options.seconds)
                result = summary(times, errors)
                rows.append(
                    {
                        "threads": threads,
                        "kind": kind,
                        "B,T,H,layers,V": shape,
                        "repeats": len(times["torch.nn"]),
                        "contenders": result,
                    }
                )
                line = " · ".join(
                    f"{name} {value['clock']['milliseconds_median']} ms "
                    f"×{value['clock']['ratio_median']} (of minima ×{value['clock']['ratio_of_minima']})"
                    for name, value in result.items()
                )
                print(f"{threads} threads {kind} {shape}: {line}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    about = machine() | {
        "load_average_before": round(load_before, 2),
        "load_average_after": round(os.getloadavg()[0], 2),
    }
    path = RESULTS / f"kernels-{about['instruction_set']}.json"
    path.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(Path(__file__).parents[1])}")


if __name__ == "__main__":
    main()
