"""What `lab` asks about a home, each in a process of its own: python -m benchmarks.torture.questions
QUESTION [NAME]; the answer is the last line, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.provenance import digest_json
from components.runs.places import places
from components.runs.record import find_run


def examine(name: str) -> dict[str, Any]:
    """The run of a recipe that can go on, how far its training is, and which files under their final names can't be
    read."""
    from components.datasets.store import Store
    from components.models.weights import read_tensors

    unreadable, updates = [], 0

    def read(path: Path, how: Any) -> Any:
        try:
            return how(path) if path.exists() else None
        except Exception as error:
            unreadable.append(f"{path.name}: {error}")

    for manifest in (places().home / "datasets").rglob("manifest.json"):
        if not any(part.startswith(".") for part in manifest.relative_to(places().home).parts):
            read(manifest.parent, lambda folder: [len(Store.open(str(folder)).split(s)) for s in ("train", "val")])
    try:
        run_id = find_run(name, places()).ref.run_id
    except UserError as error:
        if "no run" not in str(error):
            unreadable.append(str(error))
        return {"run_id": "", "updates": 0, "unreadable": unreadable}
    folder = places().run_folder(run_id)
    read(folder / "best.safetensors", read_tensors)
    if kept := read(folder / "checkpoint.safetensors", read_tensors):
        updates = kept[1]["progress"]["global_step"]
    return {"run_id": run_id, "updates": updates, "unreadable": unreadable}


def outcome(name: str) -> dict[str, Any]:
    """All that has to be as without any fault."""
    from components.models.weights import read_tensors
    from components.tracking.mlflow_client import open_client

    record = find_run(name, places())
    client = open_client(places().settings)
    run = client.get_run(record.ref.run_id)
    tensors, facts = read_tensors(places().run_folder(record.ref.run_id) / "checkpoint.safetensors")
    curves = {
        key: [(point.step, point.value) for point in client.get_metric_history(record.ref.run_id, key)]
        for key in ("train/loss", "train/gradient_norm", "val/nats_per_char")
    }
    files = [f.path for folder in ("", "figures", "samples") for f in client.list_artifacts(record.ref.run_id, folder)]
    versions = [v for v in client.search_model_versions(f"name='{name}'") if v.run_id == record.ref.run_id]
    finals = {key: value for key, value in run.data.metrics.items() if key.startswith(("test/", "best/"))}
    weights = {key: value.flatten().tolist() for key, value in tensors.items()}
    return {
        "final figures": finals,
        "weights": digest_json(weights),
        "points of the curves": {key: sorted(map(list, set(points))) for key, points in curves.items()},
        "points that stand twice": sum(len(points) - len(set(points)) for points in curves.values()),
        "updates in all": facts["progress"]["global_step"],
        "artifacts": sorted(path.replace(name, "NAME") for path in files),
        "versions in the registry": len(versions),
        "end in MLflow": run.info.status,
    }


def still_open() -> dict[str, int]:
    """What nobody has closed, after `reprise tidy`."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    from components.tracking.mlflow_backend import MlflowTracker
    from components.tracking.mlflow_client import open_client
    from flows.reaper import UNFINISHED, tidy

    tidy()
    client = open_client(places().settings)
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    running = client.search_runs(ids, "attributes.status = 'RUNNING'")
    with get_client(sync_client=True) as prefect:
        flow_runs = prefect.read_flow_runs(flow_run_filter=FlowRunFilter(state=UNFINISHED))
    _, left = MlflowTracker(places().settings).send_leftovers()
    return {
        "runs left RUNNING in MLflow": len(running),
        "flow runs left open in Prefect": len(flow_runs),
        "entries left in the spool": left,
    }


if __name__ == "__main__":
    QUESTIONS = {"examine": examine, "outcome": outcome, "open": still_open}
    print(json.dumps(QUESTIONS[sys.argv[1]](*sys.argv[2:])))
