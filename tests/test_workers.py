"""A worker of another checkout does what was deployed from this one, with its own code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import NAMES

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 300.0
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout elsewhere, told from this one by what its mlflow.yaml puts on every run."""
    folder = tmp_path / "another checkout"
    for name in ("components", "flows", "data/catalogue"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mlflow.yaml").write_text("experiments: {tags: {checkout: the other}}\n")
    return folder


def test_a_worker_of_another_checkout_runs_what_was_deployed_here(home: Path, clone: Path) -> None:
    from prefect.client.orchestration import get_client

    from components.tracking.mlflow_client import open_client
    from flows.places import places

    for command in (["work-pool", "create", "reprise", "--type", "process", "--overwrite"], ["deploy", "--all"]):
        done = subprocess.run([*PREFECT, *command], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stdout + done.stderr
    (home / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    values = {
        "data": {"path": str(home / "names.txt"), "reader": "lines", "split": [0.6, 0.2, 0.2]},
        "encoding": {"kind": "characters"},
        "task": {"kind": "language_model"},
        "model": {"kind": "gru", "hidden_size": 8},
        "training": {"steps": 2, "batch_size": 8, "tbptt_length": 10},
        "evaluation": {"every": 2},
        "generation": {"max_length": 10, "count": 1},
    }
    recipe = home / "worked.yaml"
    recipe.write_text(yaml.safe_dump(values))
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("pipeline/reprise").id
        asked = client.create_flow_run_from_deployment(deployment, parameters={"recipe": str(recipe), "threads": 1})
        worker = [*PREFECT, "worker", "start", "--pool", "reprise", "--run-once", "--install-policy", "never"]
        # the environment of the other checkout, without making one: its modules come first
        environment = os.environ | {"PYTHONPATH": str(clone)}
        done = subprocess.run(worker, cwd=clone, env=environment, capture_output=True, text=True, timeout=SECONDS)
        state = client.read_flow_run(asked.id).state
        assert state.is_completed(), f"{state}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    store = open_client(places().settings)
    experiment = store.get_experiment_by_name("worked").experiment_id
    (run,) = store.search_runs([experiment], f"tags.`prefect.flow_run_id` = '{asked.id}'")
    assert (run.info.status, run.data.tags["checkout"]) == ("FINISHED", "the other")
