"""What Prefect, MLflow and the command line cost beside the work itself: python -m benchmarks.machinery [--repeats 5]

Measures, in a temporary home of its own: the start of `reprise --help`; what a tiny run pays beyond its bare work (the
same ingestion, training, evaluation, registration's files and samples by plain calls): warm (second and later runs of
a process), cold (a fresh process, and no server runs) and first (both databases are to be made as well, which Prefect's
hundred migrations make slow); the share of training time that tracking takes; and what it takes to use a model: one
text written by `reprise generate`, less half a second, as a multiple of `python -c "import torch, mlflow"`. Writes
results/machinery.json beside this file. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "machinery.json"
TARGETS = {
    "help_seconds": 0.3,
    "warm_seconds": 1.5,
    "cold_seconds": 8.0,
    "first_seconds": 8.0,
    "tracking_share": 0.01,
    "use_ratio": 1.3,
}
RECIPE = {
    "seed": 5,
    "encoding": {"kind": "characters"},
    "task": {"kind": "language_model"},
    "model": {"kind": "lstm", "hidden_size": 32},
    "training": {"steps": 400, "batch_size": 16, "tbptt_length": 32},
    "evaluation": {"every": 100},
    "generation": {"max_length": 40, "count": 1, "prompt": "the "},
}
# one process measures a whole chain: bare work, then the pipeline again and again against servers that are warm
WARM = """
import sys, time, json
from benchmarks.machinery import bare
recipe, repeats = sys.argv[1], int(sys.argv[2])
from flows.pipeline import pipeline
pipeline(recipe, [], "cpu", 1)
seconds = {"bare": [], "run": []}
for _ in range(repeats):
    for name, what in (("bare", lambda: bare(recipe)), ("run", lambda: pipeline(recipe, [], "cpu", 1))):
        started = time.perf_counter()
        what()
        seconds[name].append(time.perf_counter() - started)
print(json.dumps(seconds))
"""
COLD = """
import sys, time
started = time.perf_counter()
from benchmarks.machinery import bare
bare(sys.argv[1])
print(time.perf_counter() - started)
"""


class Quiet:
    """Listens to nothing."""

    def metrics(self, values: dict[str, float], step: int) -> None: ...
    def progress(self, step: int, steps: int, values: dict[str, float]) -> None: ...
    def evaluated(self, values: dict[str, float], step: int, improved: bool) -> None: ...


def bare(recipe: str) -> None:
    """The work of a pipeline without any of its machinery: ingest, train, evaluate, picture, bundle, write."""
    from components.bundle import load_bundle, save_bundle
    from components.datasets.ingest import ingest
    from components.datasets.store import Store
    from components.evaluation import report
    from components.evaluation.gradients import READINGS, read_readings, write_gradient_picture
    from components.recipe import read_recipe
    from components.tasks.base import Table
    from components.training.session import Session

    checked = read_recipe(Path(recipe))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        # what was ingested before is reused, as the flow does
        ref = ingest(checked.data, checked.encoding, root=ROOT, cache_dir=Path(recipe).parent / "datasets", seed=0)
        session = Session(checked, Store.open(ref.path), "cpu", 1)
        session.train(home, Quiet())
        session = Session(checked, Store.open(ref.path), "cpu", 1)
        session.load_best(home)
        for split in ("val", "test"):
            session.final_metrics(split)
        if readings := read_readings(home / READINGS):
            write_gradient_picture(home / "gradients.png", readings, title="")
        for finding in session.task.findings(session.model, session.store.split("test")):
            if not isinstance(finding, Table):
                report.draw(finding, session.encoding, home / "figure.png")
        report.write_learning_curve(
            home / "curve.png", [{"step": 1, "tokens": 1, "seconds": 1, "train": 1.0, "val": 1.0}],
            metric=session.task.primary, baselines={}, test=None, title="", loss_unit=session.task.loss_unit,
            counted=session.task.counted,
        )  # fmt: skip
        facts = {"framing": session.store.manifest["framing"], "data": {"name": "x", "digest": ref.digest}}
        save_bundle(home / "bundle", checked.name, session.model, session.encoding, checked.as_dict(), facts)
        bundle = load_bundle(home / "bundle")
        bundle.generate({}, seed=5)
        for temperature in (0.5, 1.0):
            bundle.generate({"temperature": temperature, "count": 2}, seed=5)


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return seconds, done.stdout


def tracking_share(home: Path) -> float:
    """The share of a training's time that its thread spends in tracking: the spool's writes; the sending is another
    thread's, and what that takes away counts too, so whole trainings with and without are compared as well."""
    from components.tracking.mlflow_backend import MlflowRun

    spent = 0.0
    original: Callable[..., None] = MlflowRun.metrics

    def metrics(self: MlflowRun, *arguments: Any, **named: Any) -> None:
        nonlocal spent
        started = time.perf_counter()
        original(self, *arguments, **named)
        spent += time.perf_counter() - started

    MlflowRun.metrics = metrics  # type: ignore[method-assign]
    try:
        from flows.pipeline import pipeline

        outcome = pipeline(str(home / "tracked.yaml"), [], "cpu", 1)
    finally:
        MlflowRun.metrics = original  # type: ignore[method-assign]
    from components.runs.places import places
    from components.tracking.mlflow_client import open_client

    return spent / open_client(places().settings).get_run(outcome.run_id).data.metrics["train/seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, steps in (("tiny", 400), ("tracked", 4000)):
            (home / f"{name}.txt").write_text("the cat sat on the mat; the dog sat on the log. " * 120)
            values = RECIPE | {"data": {"path": str(home / f"{name}.txt"), "reader": "text", "split": [0.6, 0.2, 0.2]}}
            values = values | {"training": RECIPE["training"] | {"steps": steps}}
            (home / f"{name}.yaml").write_text(yaml.safe_dump(values))
        os.environ |= {"REPRISE_HOME": folder, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        os.environ.pop("PREFECT_API_URL", None)
        program, tiny = [sys.executable, "-m", "flows.cli"], str(home / "tiny.yaml")
        from flows.server import Server

        server = Server(home / "prefect")
        try:
            helps = [timed([*program, "--help"], dict(os.environ))[0] for _ in range(repeats + 1)][1:]
            run = [*program, "run", tiny, "--threads", "1"]
            first = timed(run, dict(os.environ))[0]
            cold = []
            for _ in range(repeats):
                server.stop()
                time.sleep(3)  # for it to end
                work = timed([sys.executable, "-c", COLD, tiny], dict(os.environ))[0]
                cold.append((timed(run, dict(os.environ))[0], work))
            cold_bare = statistics.median(work for _, work in cold)
            again = [timed(run, dict(os.environ))[0] for _ in range(2)]
            server.begin()
            server.wait()
            pairs = json.loads(
                timed([sys.executable, "-c", WARM, tiny, str(repeats)], dict(os.environ))[1].splitlines()[-1]
            )
            share = tracking_share(home)
            write = [*program, "generate", "tiny@1", "--count", "1"]
            imports = [sys.executable, "-c", "import torch, mlflow"]
            uses = [(timed(write, dict(os.environ))[0], timed(imports, dict(os.environ))[0]) for _ in range(repeats)]
            from prefect.logging.handlers import APILogHandler  # not sooner: Prefect is set up when it is imported

            APILogHandler().flush()
        finally:
            server.stop()
    extra = [run - work for run, work in zip(pairs["run"], pairs["bare"], strict=True)]
    figures = {
        "help_seconds": statistics.median(helps),
        "warm_seconds": statistics.median(extra),
        "cold_seconds": statistics.median(run - work for run, work in cold),
        "first_seconds": first - cold_bare,
        "tracking_share": share,
        "use_ratio": statistics.median((use - 0.5) / load for use, load in uses),
    }
    from benchmarks.kernels import machine

    report = {
        "machine": machine(),
        "load": os.getloadavg(),
        "figures": figures,
        "targets": TARGETS,
        "seconds": {
            "help": helps, "first run": first, "cold run and bare": cold, "fresh process, warm servers": again, **pairs
        },
    }  # fmt: skip
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for name, value in figures.items():
        print(f"{name:<16} {value:8.4f}   target {TARGETS[name]}   {'' if value <= TARGETS[name] else 'MISSED'}")


if __name__ == "__main__":
    main()
