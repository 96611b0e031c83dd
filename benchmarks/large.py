"""A large text, and a vocabulary of a million words: time, memory and disk of reading and of training.

    python -m benchmarks.large text --gigabytes 10 --folder /tmp/large
    python -m benchmarks.large words --gigabytes 0.2 --words 1000000 --folder /tmp/large

Makes the text where it isn't there: words by Zipf's law, in sentences and paragraphs, some letters not ASCII. `text`
reads it as characters, then trains and evaluates a small LSTM; `words` does so with words and a sampled softmax. Each
step is a process of its own. What is done already isn't done again: the text, and the store, which is told as reused.

The memory of a process is told in two parts: its own, and all with the pages of mapped files, which the system takes
back when it needs them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 1 << 20  # words written at once
SYLLABLES = [consonant + vowel for consonant in "tnshrdlcmfwpbgkvjqxz" for vowel in "eaoié"]


def made_words(count: int) -> list[str]:
    """So many different words, the common ones short."""
    lengths = (itertools.product(SYLLABLES, repeat=length) for length in itertools.count(1))
    return ["".join(word) for word in itertools.islice(itertools.chain.from_iterable(lengths), count)]


def write_text(path: Path, size: int, words: int, *, fast: bool) -> None:
    """A text of at least `size` bytes, of words drawn by Zipf's law. `fast`: of stretches of a million such words, in
    a new order each time."""
    rng = np.random.default_rng(0)
    signs = [" ", ", ", ". ", ".\n", ".\n\n"]
    parts = [(word + sign).encode() for sign in signs for word in made_words(words)]

    def drawn() -> list[bytes]:
        ranks = np.exp(rng.random(BLOCK) * np.log(words + 1)).astype(np.int64) - 1  # log-uniform
        ids = ranks + words * rng.choice(len(signs), BLOCK, p=[0.86, 0.06, 0.06, 0.015, 0.005])
        return [parts[id] for id in ids.tolist()]

    known = drawn()
    stretches = [b"".join(known[at : at + 16]) for at in range(0, BLOCK, 16)]
    building, written = path.with_suffix(".building"), 0
    with building.open("wb") as file:
        while written < size:
            written += file.write(b"".join(rng.permutation(stretches).tolist() if fast else drawn()))
    building.replace(path)


def recipe_of(options: argparse.Namespace) -> dict:
    """The recipe that is measured."""
    text = options.kind == "text"
    encoding = {"kind": "characters"} if text else {"kind": "words", "max_size": options.words}
    model = {"kind": "lstm", "hidden_size": 64 if text else options.hidden}
    if not text:
        model |= {"softmax": "sampled", "tie_weights": True}
    held_out = 20_000 / (options.gigabytes * 1e9)  # a few seconds of evaluation
    return {
        "data": {"path": str(text_path(options)), "split": [1 - 2 * held_out, held_out, held_out]},
        "encoding": encoding,
        "task": {"kind": "language_model"},
        "model": model,
        "training": {
            "optimizer": options.optimizer,
            "steps": options.steps,
            "batch_size": 32,
            "tbptt_length": 32,
            "sparse_rows": options.sparse_rows,
            "learning_rate": 1.0 if options.optimizer == "sgd" else 2e-3,
        },
        "evaluation": {"every": options.steps},
        "generation": {"prompt": "e"},
    }


def words_of(options: argparse.Namespace) -> int:
    """How many words the text is made of: more than the vocabulary has."""
    return 200_000 if options.kind == "text" else 2 * options.words


def text_path(options: argparse.Namespace) -> Path:
    return options.folder / f"{options.gigabytes:g}GB-{words_of(options)}-words.txt"


def watched(arguments: list[str]) -> dict[str, float]:
    """Run a process of this module; its answer, with seconds and the peaks of its memory in MB."""
    started, before = time.perf_counter(), os.times()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.large", *arguments], cwd=ROOT, stdout=subprocess.PIPE)
    peaks = {"RssAnon": 0, "VmRSS": 0}

    def watch() -> None:
        while process.poll() is None:
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                return
            values = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(tuple(peaks))}
            for name, value in values.items():
                peaks[name] = max(peaks[name], value)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    answer, _ = process.communicate()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: exit code {process.returncode}")
    found = json.loads(answer.splitlines()[-1])
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    memory = {"own_MB": round(peaks["RssAnon"] / 1024), "with_files_MB": round(peaks["VmRSS"] / 1024)}
    seconds = {"seconds": round(time.perf_counter() - started), "processor_seconds": round(processor)}
    return {**seconds, **memory, **found}


def step(options: argparse.Namespace) -> dict[str, float]:
    """One step, in this process: what it found."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from components.datasets.ingest import ingest
    from components.datasets.store import Store
    from components.evaluation.baseline import baseline_metrics
    from components.recipe import Recipe
    from components.training import trainer
    from components.training.session import Session

    recipe = Recipe.from_dict("large", recipe_of(options))
    told = time.perf_counter()
    ref = ingest(recipe.data, recipe.encoding, root=ROOT, cache_dir=options.folder, seed=0, progress=_tell)
    store = Store.open(ref.path)
    seconds = time.perf_counter() - told
    disk = sum(file.stat().st_size for file in store.path.iterdir())
    if options.step == "ingest":
        rate = text_path(options).stat().st_size / 1e6 / seconds
        counts = store.manifest["counts"]["train"]
        return {
            "MB_per_second": round(rate, 1),
            "disk_MB": round(disk / 1e6),
            "train_tokens": counts["tokens"],
            "vocabulary": len(store.encoding().vocabulary),
            "reused": ref.reused,
        }
    session = Session(recipe, store, "cpu", 1)
    if options.kind == "words":
        session.evaluate = lambda split: {}  # by all words, it takes longer than this training: see docs/types.md
    folder = options.folder / f"run-{options.kind}"
    for left in folder.glob("*.safetensors"):
        left.unlink()
    listener, written, write = _Listener(), [], trainer.write_tensors

    def timed(*arguments: Any) -> None:
        started = time.perf_counter()
        write(*arguments)
        written.append(time.perf_counter() - started)

    trainer.write_tensors = timed
    progress = session.train(folder, listener)
    clock, processor = listener.seconds()
    metrics = {f"test/{name}": value for name, value in session.final_metrics("test").items()}
    metrics |= baseline_metrics(session.task, store, metrics)
    return {
        "parameters": session.parameter_count,
        "update_seconds": round(clock, 3),
        "update_processor_seconds": round(processor, 3),
        "training_seconds": round(progress.seconds, 1),
        "checkpoint_seconds": round(written[-1], 1),  # the weights that are best come before
        "checkpoints_written": len(written) - 1,
        "checkpoint_MB": round((folder / "checkpoint.safetensors").stat().st_size / 1e6),
        **{name: round(value, 3) for name, value in metrics.items() if "nats" in name or "baseline" in name},
    }


class _Listener:
    """Measures the updates, without the first."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def metrics(self, values: dict[str, float], step: int) -> None: ...
    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None: ...

    def progress(self, step: int, steps: int, values: dict[str, float]) -> None:
        self.times.append((time.perf_counter(), time.process_time()))

    def seconds(self) -> tuple[float, float]:
        """Of an update, by the clock and of processor time."""
        return tuple(np.median(np.diff(self.times, axis=0), axis=0).tolist())


def _tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=["text", "words"])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--words", type=int, default=1_000_000, help="of the vocabulary")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--sparse-rows", action="store_true")
    parser.add_argument("--steps", type=int, default=50, help="updates")
    parser.add_argument("--folder", type=Path, required=True, help="for the text, the store and the checkpoints")
    parser.add_argument("--step", choices=["ingest", "train"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    if not text_path(options).exists():
        words, text = words_of(options), options.kind == "text"
        write_text(text_path(options), int(options.gigabytes * 1e9), words, fast=text)
    for name in ("ingest", "train"):
        print(name, json.dumps(watched([*sys.argv[1:], "--step", name])), flush=True)


if __name__ == "__main__":
    main()
