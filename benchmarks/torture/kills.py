"""kill -9 at random moments of the pipeline, each followed by going on, until every run has finished."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from benchmarks.torture.lab import PATIENCE_SECONDS, Lab, Result, wait

# the words that a run's lines begin with, and the step that is over when they are there
STAGES = {"data": "ingest", "train": "start of training", "all": "train", "test": "evaluate", "model": "register"}
STAGES |= {"wrote": "generate", "mlflow": "the end"}
STEPS = 2500  # training is the greater part of the work then


def killed(labs: list[Lab], count: int, seed: int) -> Result:
    """`count` kills, in as many lanes as there are labs."""
    result, stages = Result(), Counter[str]()
    expected, start_seconds, work_seconds = labs[0].undisturbed(steps=STEPS)
    result.lost.update(dict.fromkeys([*expected, "half-written files", "finished updates", "failed resumes"], 0))
    result.seen["undisturbed_seconds"] = round(start_seconds + work_seconds, 1)

    def lane(lab: Lab, number: int) -> None:
        dice, chain = random.Random(f"{seed} {number}"), 0
        while result.tried < count:
            chain += 1
            shutil.rmtree(lab.home / "datasets", ignore_errors=True)  # so that ingestion is broken too
            name = f"killed-{number}-{chain}"
            recipe, steps, finished = lab.recipe(name, steps=STEPS), 0, False
            while not finished:
                found = lab.ask("examine", name)
                with result.mutex:
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
                        wait(lambda log=log, process=process: log.read_bytes() or process.poll() is not None)
                        # what is resumed has less to do
                        moment = dice.uniform(0.0, work_seconds * (0.6 if found["run_id"] else 1.0))
                    else:
                        moment = dice.uniform(0.0, start_seconds)
                    try:
                        process.wait(moment)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        with result.mutex:
                            result.tried += 1
                            stages[_stage(log.read_text(errors="replace"), resumed=bool(found["run_id"]))] += 1
                code = process.wait(PATIENCE_SECONDS)
                if code not in (0, -9):
                    result.failed(log)
                    return
                finished = code == 0
            result.compare(lab, name, expected)

    with ThreadPoolExecutor(len(labs)) as pool:
        list(pool.map(lane, labs, range(len(labs))))
    result.count_open(labs)
    result.seen["killed_during"] = dict(sorted(stages.items()))
    return result


def _stage(output: str, *, resumed: bool) -> str:
    last = "start of the program"
    for line in output.splitlines():
        for word, stage in STAGES.items():
            if line.strip().startswith(word):
                last = f"after {stage}"
            elif line.strip().startswith("update"):
                last = "in training"
    return f"{last}{' (resumed)' if resumed else ''}"
