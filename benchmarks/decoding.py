"""Drawing characters one by one from an LSTM: the native sampling loop against Python loops, on this machine.

    python -m benchmarks.decoding [--threads 1 2] [--repeats 11] [--updates 60]

Each shape's model is first trained a little, on this repository's own text (96 characters). Then everything is checked:
the native loop in float32 must draw the plain loop's tokens, every contender must give the model's logits, and the
divergence of the int8 forms is measured on text that wasn't trained on; what is wrong isn't timed. All contenders have
the same weights and draw at temperature 1. They take turns within each repeat, so that a busy machine slows them alike;
a ratio is the median over repeats of (the nn.LSTM loop's time per token / the contender's). "processor" is processor
time, which on one thread is right on a busy machine too.

numba is measured where it can be imported, on one sequence. Writes results/decoding.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.kernels import machine
from components.encodings.characters import Characters
from components.generation.engine import Engine
from components.generation.sampling import sample, sample_plainly
from components.generation.settings import Settings
from components.models.sequence_model import SequenceModel

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "decoding.json"
SHAPES = [(256, 1, 1), (512, 2, 1), (256, 1, 64)]  # H, layers, sequences side by side
ALPHABET = "\n" + "".join(chr(code) for code in range(32, 127))
SECONDS = 0.15  # of one timed run, about
WRONG, FAR = 1e-4, 1e-2  # relative error of logits; nats of divergence of an int8 form
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
Run = Callable[[int], None]  # draws so many tokens of each sequence


def text() -> np.ndarray:
    """The repository's Python and Markdown as ids below 96."""
    files = sorted([*ROOT.glob("components/**/*.py"), *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
    whole = "".join(path.read_text(encoding="utf-8") for path in files)
    places = {character: n for n, character in enumerate(ALPHABET)}
    return np.array([places[character] for character in whole if character in places])


def train(H: int, layers: int, ids: np.ndarray, updates: int) -> SequenceModel:
    torch.manual_seed(0)
    model, rng = (
        SequenceModel(96, kind="lstm", hidden_size=H, num_layers=layers, input="one_hot"),
        np.random.default_rng(0),
    )
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(updates):
        rows = rng.integers(0, len(ids) - 100, 32)
        batch = torch.from_numpy(np.stack([ids[row : row + 65] for row in rows]))
        loss = nn.functional.cross_entropy(model(batch[:, :-1, None])[0].flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def steps(model: SequenceModel, B: int) -> dict[str, tuple[Step, Any]]:
    """The Python contenders: a function of (tokens [B], state) to (logits [B, V], state), and the first state."""
    cells = list(model.recurrent.layers)
    H, layers = cells[0].hidden_size, len(cells)
    whole, stack = nn.LSTM(96, H, layers), nn.ModuleList(nn.LSTMCell(cell.input_size, H) for cell in cells)
    for n, cell in enumerate(cells):
        for name, value in cell.parameters_by_name.items():
            getattr(whole, f"{name}_l{n}").data.copy_(value)
            getattr(stack[n], name).data.copy_(value)
    zeros = torch.zeros(B, H)

    def one_hot(tokens: Tensor) -> Tensor:
        return nn.functional.one_hot(tokens, 96).float()

    def by(lstm: nn.Module, head: nn.Module) -> Step:
        def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
            y, state = lstm(one_hot(tokens)[None], state)
            return head(y[0]), state

        return step

    def by_cells(tokens: Tensor, states: Any) -> tuple[Tensor, Any]:
        x, after = one_hot(tokens), []
        for cell, state in zip(stack, states, strict=True):
            after.append(cell(x, state))
            x = after[-1][0]
        return model.head(x), after

    start = (torch.zeros(layers, B, H), torch.zeros(layers, B, H))
    found = {
        "nn.LSTM loop": (by(whole, model.head), start),
        "nn.LSTMCell loop": (by_cells, [(zeros, zeros)] * layers),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces that torch.ao moves to torchao
            both = nn.ModuleList([whole, model.head])
            rounded = torch.ao.quantization.quantize_dynamic(both, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
        found["torch.ao int8"] = (by(rounded[0], rounded[1]), start)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        print(f"torch.ao int8 is left out: {error}")
    return found


def python_loop(step: Step, start: Any, B: int) -> Run:
    @torch.inference_mode()
    def run(count: int) -> None:
        tokens, state = torch.zeros(B, dtype=torch.int64), start
        for _ in range(count):
            logits, state = step(tokens, state)
            tokens = torch.multinomial(torch.softmax(logits, -1), 1)[:, 0]

    return run


def numba_loop(model: SequenceModel) -> Run | None:
    """The loop for one sequence that a NumPy user would write, compiled by numba."""
    try:
        import numba
    except ImportError as error:
        print(f"numba is left out: {error}")
        return None

    @numba.njit(fastmath=True)
    def add_product(sums, vector, weights):
        for k in range(len(vector)):
            for j in range(len(sums)):
                sums[j] += vector[k] * weights[k, j]

    @numba.njit(fastmath=True)
    def loop(count, table, weights_x, weights_h, biases, head, bias, h, c):  # numba infers the types
        layers, H = h.shape
        token, gates, logits = 0, np.zeros(4 * H, np.float32), np.zeros(len(bias), np.float32)
        for _ in range(count):
            for layer in range(layers):
                gates[:] = biases[layer]
                if layer == 0:
                    gates += table[token]
                else:
                    add_product(gates, h[layer - 1], weights_x[layer])
                add_product(gates, h[layer], weights_h[layer])
                for j in range(H):
                    i, f = 1 / (1 + np.exp(-gates[j])), 1 / (1 + np.exp(-gates[H + j]))
                    c[layer, j] = f * c[layer, j] + i * np.tanh(gates[2 * H + j])
                    h[layer, j] = np.tanh(c[layer, j]) / (1 + np.exp(-gates[3 * H + j]))
            logits[:] = bias
            add_product(logits, h[layers - 1], head)
            cumulative = np.cumsum(np.exp(logits - logits.max()))
            token = min(np.searchsorted(cumulative, np.random.random() * cumulative[-1]), len(bias) - 1)
        return logits

    cells = list(model.recurrent.layers)
    H = cells[0].hidden_size

    def turned(name: str, first: int = 0) -> np.ndarray:
        return np.stack([np.ascontiguousarray(getattr(cell, name).detach().numpy().T) for cell in cells[first:]])

    weights_h, biases = turned("weight_hh"), turned("bias_ih") + turned("bias_hh")
    weights_x = np.concatenate([np.zeros_like(weights_h[:1]), *([turned("weight_ih", 1)] if len(cells) > 1 else [])])
    table, head = (w.detach().numpy().T.copy() for w in (cells[0].weight_ih, model.head.weight))
    bias = model.head.bias.detach().numpy()

    def run(count: int) -> np.ndarray:
        h, c = np.zeros((len(cells), H), np.float32), np.zeros((len(cells), H), np.float32)
        return loop(count, table, weights_x, weights_h, biases, head, bias, h, c)

    got, expected = run(1), model(torch.zeros(1, 1, 1, dtype=torch.int64))[0][0, 0].detach().numpy()
    if not np.abs(got - expected).max() <= WRONG * np.abs(expected).max():
        sys.exit(f"numba is wrong by {np.abs(got - expected).max():.1e}: not timed")
    return run


def native_loop(engine: Engine, model: SequenceModel, B: int) -> Run:
    rng, allowed = np.random.default_rng(0), np.ones(96, bool)

    def run(count: int) -> None:
        streams, tokens = engine.begin(model.initial_state(B)), np.zeros((B, count + 1), np.int64)
        engine.advance(streams, tokens, rng.random((B, count)), allowed)

    return run


def native_step(engine: Engine, model: SequenceModel) -> tuple[Step, Any]:
    """The engine as a Python contender, to be checked like the others."""

    def step(tokens: Tensor, streams: Any) -> tuple[Tensor, Any]:
        column = np.repeat(tokens.numpy()[:, None], 2, axis=1)
        engine.advance(streams, column, np.zeros((len(column), 1)), np.ones(96, bool))
        return torch.from_numpy(streams.logits[:, :96].copy()), streams

    return step, engine.begin(model.initial_state(1))


@torch.inference_mode()
def verify(
    model: SequenceModel, ids: np.ndarray, contenders: dict[str, tuple[Step, Any]]
) -> dict[str, dict[str, float]]:
    """Error of the logits and divergence in nats of every contender over `ids`; stops where one is wrong."""
    inputs = torch.from_numpy(ids)
    expected = model(inputs[None, :, None])[0][0]
    p, found = torch.log_softmax(expected.double(), -1), {}
    for name, (step, state) in contenders.items():
        rows = []
        for token in inputs:
            logits, state = step(token[None], state)
            rows.append(logits[0])
        got = torch.stack(rows)
        q = torch.log_softmax(got.double(), -1)
        error = ((got - expected).abs().max() / expected.abs().max()).item()
        divergence = (p.exp() * (p - q)).sum(-1).mean().item()
        nats = nn.functional.nll_loss(q[:-1], inputs[1:]).item()
        if not (error < WRONG or ("int8" in name and divergence < FAR)):
            sys.exit(f"{name} is wrong by {error:.1e}, {divergence:.1e} nats: not timed")
        found[name] = {"largest_error": error, "divergence_nats": divergence, "nats_per_char": nats}
    return {name: {key: float(f"{value:.4g}") for key, value in one.items()} for name, one in found.items()}


def verify_tokens(model: SequenceModel) -> dict[str, int]:
    """How many sequences of how many the native loop draws as the plain loop does; stops when most differ."""
    encoding = Characters()
    encoding.fit([ALPHABET[:92]])  # four specials make 96
    same = total = 0
    for seed in range(4):
        settings = Settings(count=50, max_length=200)
        ours, plain = (
            loop(model, encoding, [5], settings, seed=seed, framed=False) for loop in (sample, sample_plainly)
        )
        total += len(plain)
        same += sum(a.ids.tolist() == b.ids.tolist() for a, b in zip(ours, plain, strict=True))
    if same < 0.98 * total:
        sys.exit(f"only {same} of {total} sequences are the plain loop's: not timed")
    return {"sequences": total, "tokens_each": 200, "same_as_the_plain_loop": same}


def measure(runs: dict[str, Run], B: int, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Microseconds of each contender per token in each repeat: on the clock, and of processor time."""
    counts = {}
    for name, run in runs.items():
        run(10)
        start = time.perf_counter()
        run(20)
        counts[name] = max(20, int(20 * SECONDS / (time.perf_counter() - start)))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            clock, processor = time.perf_counter(), time.process_time()
            run(counts[name])
            after = (time.perf_counter() - clock, time.process_time() - processor)
            times[name].append(tuple(seconds * 1e6 / (counts[name] * B) for seconds in after))
    return times


def summary(times: dict[str, list[tuple[float, float]]]) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {name: {} for name in times}
    for name, pairs in times.items():
        for n, of in enumerate(["clock", "processor"]):
            mine, theirs = [pair[n] for pair in pairs], [pair[n] for pair in times["nn.LSTM loop"]]
            low, middle, high = statistics.quantiles([a / b for a, b in zip(theirs, mine, strict=True)], n=4)
            result[name][of] = {
                "tokens_per_second_median": round(1e6 / statistics.median(mine)),
                "ratio_median": round(middle, 2),
                "ratio_of_minima": round(min(theirs) / min(mine), 2),
                "ratio_quartiles": [round(low, 2), round(high, 2)],
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--updates", type=int, default=60)
    options = parser.parse_args()
    ids, rows, load_before = text(), [], os.getloadavg()[0]
    cut = int(0.9 * len(ids))
    models = {shape[:2]: train(*shape[:2], ids[:cut], options.updates) for shape in SHAPES}
    for H, layers, B in SHAPES:
        model = models[H, layers]
        engines = {f"native {precision}": Engine(model, precision) for precision in ("float32", "int8")}
        single = steps(model, 1) | {name: native_step(engine, model) for name, engine in engines.items()}
        checked = verify(model, ids[cut : cut + 500], single)
        tokens = verify_tokens(model)
        runs = {name: python_loop(*contender, B) for name, contender in steps(model, B).items()}
        if B == 1 and (by_numba := numba_loop(model)):
            runs["numba loop"] = by_numba
        runs |= {name: native_loop(engine, model, B) for name, engine in engines.items()}
        for threads in options.threads:
            torch.set_num_threads(threads)
            measured = summary(measure(runs, B, options.repeats))
            contenders = {name: {"verified": checked.get(name), **value} for name, value in measured.items()}
            rows.append(
                {"threads": threads, "H,layers,sequences": (H, layers, B), "tokens": tokens, "contenders": contenders}
            )
            line = " · ".join(
                f"{name} {value['clock']['tokens_per_second_median']}/s ×{value['clock']['ratio_median']} "
                f"(processor ×{value['processor']['ratio_median']})"
                for name, value in measured.items()
            )
            print(f"{threads} threads, H {H}, {layers} layers, {B} sequences: {line}", flush=True)
    about = machine() | {
        "load_average_before": round(load_before, 2),
        "load_average_after": round(os.getloadavg()[0], 2),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    said = {"machine": about, "repeats": options.repeats, "updates": options.updates, "rows": rows}
    RESULTS.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
