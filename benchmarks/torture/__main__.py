"""What is lost in a fault: python -m benchmarks.torture [--faults killed …] [--count N] [--lanes 2] [--table]

Every fault is a function that breaks something a number of times in a laboratory of its own (temporary folders, a
Prefect server, a tiny recipe), has the run go on as its user would, and counts what it has otherwise than a run that
nobody disturbed; all counts have to be 0. Writes results/torture.json; `--table` prints that for docs/reliability.md.
All of it takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.kernels import machine
from benchmarks.torture.disk import full, own_mounts
from benchmarks.torture.kills import killed
from benchmarks.torture.lab import ROOT, Lab, Result
from benchmarks.torture.stores import away, crowd, locked
from benchmarks.torture.writes import writes

RESULTS = ROOT / "benchmarks" / "results" / "torture.json"
# the function, how often by default, and the fault in words
FAULTS: dict[str, tuple[Callable[[list[Lab], int, int], Result], int, str]] = {
    "killed": (killed, 50, "kill -9 at a random moment"),
    "writes": (writes, 100, "kill -9 spread over the writing of a checkpoint"),
    "full": (full, 10, "the disk is full for 20 s"),
    "locked": (locked, 10, "the store is locked for 10 s"),
    "away": (away, 4, "the tracking server is gone for 60 s"),
    "crowd": (crowd, 8, "runs at once on a new sqlite store"),
}


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = ["| fault | times | lost | needed `reprise resume` |", "|---|---|---|---|"]
    for name, result in results["faults"].items():
        lost = "; ".join(f"{what}: {number}" for what, number in result["lost"].items() if number) or "nothing"
        resumed = {"killed": "each", "writes": "–"}.get(name, result["seen"].get("had_to_be_resumed", 0))
        lines.append(f"| {FAULTS[name][2]} | {result['tried']} | {lost} | {resumed} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--count", type=int, help="how often each; else the number that belongs to it")
    parser.add_argument("--lanes", type=int, default=2, help="kills side by side, each lane with a home of its own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print what was measured before, as Markdown")
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"faults": {}}
    if given.table:
        print(table(results))
        return
    if "full" in given.faults and not own_mounts():
        given.faults.remove("full")
        print("full: left out, nobody but root may mount here")
    from flows.server import Server

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder) / "prefect")
        os.environ.pop("PREFECT_API_URL", None)
        if given.faults != ["writes"]:  # which needs none
            server.begin()
            if not server.wait():
                raise SystemExit(server.log.read_text())
        try:
            for name in given.faults:
                break_it, count, _ = FAULTS[name]
                count, started = given.count or count, time.monotonic()
                homes = [Path(folder) / name / f"home{number}" for number in range(given.lanes)]
                result = break_it(
                    [Lab(home, os.environ.get("PREFECT_API_URL", "")) for home in homes], count, given.seed
                )
                results["faults"][name] = {
                    "tried": result.tried,
                    "lost": dict(result.lost),
                    "seen": result.seen,
                    "notes": result.notes,
                    "seconds": round(time.monotonic() - started),
                    "machine": machine(),
                    "command": f"python -m benchmarks.torture --faults {name} --count {count}",
                }
                print(json.dumps(results["faults"][name], indent=1), flush=True)
        finally:
            server.stop()
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    raise SystemExit(any(sum(each["lost"].values()) for each in results["faults"].values()))


if __name__ == "__main__":
    main()
