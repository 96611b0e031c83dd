"""What is lost when things break: python -m benchmarks.torture [--faults killed …] [--count 50] [--lanes 2] [--table]

Every fault is a function that breaks something `count` times in a laboratory of its own (a temporary folder, a Prefect
server, a tiny recipe) and counts what was lost; all counts have to be 0. Writes results/torture.json beside this file;
`--table` prints it for docs/reliability.md. 50 kills take about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "torture.json"
TEXT = "the cat sat on the mat; the dog sat on the log, and who can say of the frog? " * 120
RECIPE = {
    "seed": 5,
    "encoding": {"kind": "characters"},
    "task": {"kind": "language_model"},
    "model": {"kind": "lstm", "hidden_size": 32, "dropout": 0.2},
    "training": {"steps": 400, "batch_size": 8, "tbptt_length": 20, "checkpoint_seconds": 0.1},
    "evaluation": {"every": 50},
    "generation": {"max_length": 40, "count": 2, "prompt": "the "},
}
# the words that a run's lines begin with, and the step that is over when they are there
STAGES = {"data": "ingest", "train": "start of training", "all 400": "train", "test": "evaluate", "model": "register"}
STAGES |= {"wrote": "generate", "mlflow": "the end"}
PATIENCE_SECONDS = 900.0


@dataclass
class Result:
    """`lost`: what has to be 0, counted; `seen`: what happened besides."""

    fault: str
    tried: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    seen: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Lab:
    """A home of its own for one lane of experiments; the Prefect server is shared."""

    home: Path
    api: str

    def recipe(self, name: str) -> Path:
        """A recipe file over a text of its own."""
        self.home.mkdir(parents=True, exist_ok=True)
        text = self.home / f"{name}.txt"
        text.write_text(TEXT, encoding="utf-8")
        values = RECIPE | {"data": {"path": str(text), "reader": "text", "split": [0.6, 0.2, 0.2]}}
        path = self.home / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return path

    def start(self, log: Path, *words: str) -> subprocess.Popen[bytes]:
        """`reprise WORDS…` as a process whose output goes to `log`."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *words],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, env=self.environment(),
            )  # fmt: skip

    def environment(self) -> dict[str, str]:
        own = {"REPRISE_HOME": str(self.home), "PREFECT_API_URL": self.api, "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **own, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def ask(self, question: str, *arguments: str) -> Any:
        """The answer of `benchmarks.torture_questions`, asked in a process of its own: the home belongs to it."""
        command = [sys.executable, "-m", "benchmarks.torture_questions", question, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{question}: {done.stderr[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def killed(labs: list[Lab], count: int, seed: int) -> Result:
    """kill -9 at `count` random moments of the pipeline, each followed by going on, until every run has finished."""
    result, mutex = Result("killed"), threading.Lock()
    whole = labs[0].recipe("whole")
    started = time.monotonic()
    log = labs[0].home / "whole.log"
    process = labs[0].start(log, "run", str(whole), "--threads", "1")
    _wait(lambda: log.read_bytes() or process.poll() is not None)
    start_seconds = time.monotonic() - started
    if process.wait(PATIENCE_SECONDS):
        raise RuntimeError(log.read_text())
    work_seconds = time.monotonic() - started - start_seconds
    expected = labs[0].ask("outcome", "whole")
    result.lost.update(dict.fromkeys([*expected, "failed resumes"], 0))
    result.seen |= {"undisturbed_seconds": round(start_seconds + work_seconds, 1)}
    stages: Counter[str] = Counter()

    def lane(lab: Lab, number: int) -> None:
        dice, chain = random.Random(f"{seed} {number}"), 0
        while result.tried < count:
            chain += 1
            shutil.rmtree(lab.home / "datasets", ignore_errors=True)  # so that ingestion is broken too
            name = f"killed-{number}-{chain}"
            recipe, steps, finished = lab.recipe(name), 0, False
            while not finished:
                found = lab.ask("examine", name)
                with mutex:
                    result.lost["half-written files"] += len(found["unreadable"])
                    result.lost["finished updates"] += max(0, steps - found["updates"])
                    result.notes += found["unreadable"]
                steps = found["updates"]
                words = ["resume", found["run_id"]] if found["run_id"] else ["run", str(recipe), "--threads", "1"]
                log = lab.home / f"{name}.log"
                process = lab.start(log, *words)
                if result.tried < count:
                    # a quarter of the kills meet the program while it is loaded, the others the work itself
                    if dice.random() < 0.75:
                        _wait(lambda log=log, process=process: log.read_bytes() or process.poll() is not None)
                        moment = dice.uniform(0.0, work_seconds)
                    else:
                        moment = dice.uniform(0.0, start_seconds)
                    try:
                        process.wait(moment)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        with mutex:
                            result.tried += 1
                            stages[_stage(log.read_text(errors="replace"), resumed=bool(found["run_id"]))] += 1
                code = process.wait(PATIENCE_SECONDS)
                if code not in (0, -9):
                    with mutex:
                        result.lost["failed resumes"] += 1
                        result.notes.append(log.read_text(errors="replace")[-2000:])
                    return
                finished = code == 0
            got = lab.ask("outcome", name)
            with mutex:
                result.seen["runs"] = result.seen.get("runs", 0) + 1
                for what, wanted in expected.items():
                    if got[what] != wanted:
                        result.lost[what] += 1
                        result.notes.append(f"{name}: {what} {str(got[what])[:300]} instead of {str(wanted)[:300]}")

    threads = [threading.Thread(target=lane, args=(lab, number)) for number, lab in enumerate(labs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lab in labs:
        for what, number in lab.ask("open").items():
            result.lost[what] += number
    result.seen["killed_during"] = dict(sorted(stages.items()))
    return result


FAULTS: dict[str, Callable[[list[Lab], int, int], Result]] = {"killed": killed}


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["| fault | times | lost | what was counted |", "|---|---|---|---|"]
    for name, result in results["faults"].items():
        counted = "; ".join(f"{what} {number}" for what, number in result["lost"].items())
        lines.append(f"| {name} | {result['tried']} | {sum(result['lost'].values())} | {counted} |")
    return "\n".join(lines)


def _stage(output: str, *, resumed: bool) -> str:
    last = "start of the program"
    for line in output.splitlines():
        for word, stage in STAGES.items():
            if line.strip().startswith(word):
                last = f"after {stage}"
            elif line.strip().startswith("update"):
                last = "in training"
    return f"{last}{' (resumed)' if resumed else ''}"


def _wait(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not what():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--lanes", type=int, default=2, help="experiments side by side, each with a home of its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what was measured before, as Markdown")
    given = parser.parse_args()
    if given.table:
        print(table(json.loads(RESULTS.read_text(encoding="utf-8"))))
        return
    from benchmarks.kernels import machine
    from flows.server import Server

    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"faults": {}}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "prefect")
        os.environ.pop("PREFECT_API_URL", None)
        server.begin()
        if not server.wait():
            raise SystemExit(server.log.read_text())
        try:
            labs = [Lab(Path(folder) / f"home{n}", os.environ["PREFECT_API_URL"]) for n in range(given.lanes)]
            for name in given.faults:
                started = time.monotonic()
                result = FAULTS[name](labs, given.count, given.seed)
                results["faults"][name] = {
                    "tried": result.tried,
                    "lost": dict(result.lost),
                    "seen": result.seen,
                    "notes": result.notes,
                    "seconds": round(time.monotonic() - started),
                    "command": f"python -m benchmarks.torture --faults {name} --count {given.count}",
                }
                print(json.dumps(results["faults"][name], indent=1))
        finally:
            server.stop()
    results["machine"] = machine()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    raise SystemExit(any(sum(each["lost"].values()) for each in results["faults"].values()))


if __name__ == "__main__":
    main()
