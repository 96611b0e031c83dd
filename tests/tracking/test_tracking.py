"""Runs reach MLflow whole, by explicit id: through an unreachable store, a killed writer, eight writers at once."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import UserError
from components.tracking.base import RunRef
from components.tracking.mlflow_backend import MlflowRun, MlflowTracker, ui_command
from components.tracking.moved import local_folder
from components.tracking.settings import Settings, load_settings
from components.tracking.spool import Journal
from components.tracking.system import SystemSampler

pytest_plugins = ["tracking_fixtures"]
ROOT = Path(__file__).resolve().parents[2]


def history(tracker: MlflowTracker, run_id: str, key: str) -> list[tuple[int, float]]:
    return sorted((point.step, point.value) for point in tracker.client.get_metric_history(run_id, key))


def cut_off(tracker: MlflowTracker) -> Callable[[], None]:
    """Makes all that writes fail as an unreachable server does; returns what ends that."""
    from mlflow.exceptions import MlflowException

    def unreachable(*_: object, **__: object) -> None:
        raise MlflowException("API request failed with exception: connection refused")

    patch = pytest.MonkeyPatch()
    for name in ("log_batch", "log_artifact", "log_image", "set_terminated"):
        patch.setattr(tracker.client, name, unreachable)
    return patch.undo


@pytest.mark.slow
def test_all_that_is_written_is_in_the_store(tracker: MlflowTracker, run: MlflowRun, tmp_path: Path) -> None:
    from PIL import Image

    run.params({"hidden_size": 128, "model.kind": "lstm"})
    for step in range(3):
        run.metrics({"train/loss": 1.0 / (step + 1), "val/nats_per_token": float("nan")}, step)
    run.metrics({"test/nats_per_token": 0.5})
    run.tags({"registered": "champion"})
    run.describe("# What it is")
    run.dataset("tunes", "ab" * 32, "https://example.org/tunes.txt", {"items": 3}, "train")
    run.text("seed: 0\n", "recipe.yaml")
    run.table({"temperature": [0.5, math.inf], "text": ["a", "ä"]}, "samples/text.json")
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "deep" / "a.wav").write_bytes(b"RIFF")
    run.file(tmp_path / "out", "audio")
    Image.new("RGB", (600, 40)).save(tmp_path / "roll.png")
    run.image(tmp_path / "roll.png", "pianoroll/val", 20)
    run.finish()

    found = tracker.client.get_run(run.ref.run_id)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "lstm-s0"
    assert found.data.params == {"hidden_size": "128", "model.kind": "lstm"}
    assert history(tracker, run.ref.run_id, "train/loss") == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert len(history(tracker, run.ref.run_id, "val/nats_per_token")) == 3
    assert found.data.metrics["test/nats_per_token"] == 0.5
    tags = found.data.tags
    assert (tags["registered"], tags["recipe"], tags["project"]) == ("champion", "chorales", "p")
    assert tags["mlflow.note.content"] == "# What it is"
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [{"path": "samples/text.json", "type": "table"}]
    (given,) = found.inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("tunes", ("ab" * 32)[:36])
    assert json.loads(given.dataset.profile) == {"sha256": "ab" * 32, "items": 3}
    assert [(tag.key, tag.value) for tag in given.tags] == [("mlflow.data.context", "train")]

    root = local_folder(found.info.artifact_uri)
    assert (root / "recipe.yaml").read_text() == "seed: 0\n"
    assert (root / "audio" / "out" / "deep" / "a.wav").read_bytes() == b"RIFF"
    table = json.loads((root / "samples" / "text.json").read_text())
    assert table == {"columns": ["temperature", "text"], "data": [[0.5, "a"], [None, "ä"]]}
    images = sorted(path.name for path in (root / "images").iterdir())
    assert [name.partition("+timestamp")[0] for name in images] == ["pianoroll~val+step+20"] * 2
    assert list(tracker.settings.spool.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:For backward compatibility")  # MLflow's own writing, with pandas 3
def test_a_table_is_what_mlflow_itself_writes_and_is_replaced(tracker: MlflowTracker, run: MlflowRun) -> None:
    columns = {"step": [1, 2], "loss": [0.5, math.nan], "text": ["a", "ä\n"]}
    tracker.client.log_table(run.ref.run_id, columns, "theirs/text.json")
    run.table({"step": [1], "loss": [0.5], "text": ["old"]}, "ours/text.json")
    run.table(columns, "ours/text.json")
    run.flush()
    root = local_folder(tracker.client.get_run(run.ref.run_id).info.artifact_uri)
    ours, theirs = (json.loads((root / whose / "text.json").read_text()) for whose in ("ours", "theirs"))
    assert ours == theirs


@pytest.mark.slow
def test_a_run_says_who_wrote_it_and_links_into_the_ui(tracker: MlflowTracker, run: MlflowRun) -> None:
    tags = tracker.client.get_run(run.ref.run_id).data.tags
    assert tags["mlflow.user"]
    assert tags["process.host"]
    assert int(tags["process.id"]) > 0
    assert f"/runs/{run.ref.run_id}?" in run.ref.url
    assert "compareRunsMode=CHART" in tracker.experiment_url("chorales")
    child = tracker.start("chorales", "child", tags={}, parent=run.ref.run_id)
    child.finish("FAILED")
    found = tracker.client.get_run(child.ref.run_id)
    assert (found.data.tags["mlflow.parentRunId"], found.info.status) == (run.ref.run_id, "FAILED")


@pytest.mark.slow
def test_an_unreachable_store_loses_nothing_and_stops_nobody(tracker: MlflowTracker, run: MlflowRun) -> None:
    answers_again = cut_off(tracker)
    for step in range(300):
        run.metrics({"train/loss": float(step)}, step)
    run.text("made meanwhile", "note.md")
    assert run.flush(0.1) == 301
    assert history(tracker, run.ref.run_id, "train/loss") == []
    answers_again()
    assert run.flush(20) == 0
    assert history(tracker, run.ref.run_id, "train/loss") == [(step, float(step)) for step in range(300)]


@pytest.mark.slow
def test_what_the_store_did_not_take_is_sent_later_with_the_runs_end(
    tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.tracking import mlflow_run

    monkeypatch.setattr(mlflow_run, "FINISH_SECONDS", 0.1)
    run = tracker.start("chorales", "cut off", tags={})
    answers_again = cut_off(tracker)
    run.metrics({"train/loss": 1.0}, 1)
    run.finish()
    run._sender._thread.join(10)
    assert tracker.send_leftovers() == (0, 2)
    answers_again()
    assert tracker.client.get_run(run.ref.run_id).info.status == "RUNNING"
    assert tracker.send_leftovers() == (2, 0)
    assert tracker.client.get_run(run.ref.run_id).info.status == "FINISHED"
    assert history(tracker, run.ref.run_id, "train/loss") == [(1, 1.0)]
    assert tracker.send_leftovers() == (0, 0)


def killed(tracker: MlflowTracker) -> RunRef:
    """A run whose writer got a kill -9: a journal, no end, nobody who holds its lock."""
    from components.tracking.process import origin

    experiment = tracker._experiment("chorales").experiment_id
    made = tracker.client.create_run(experiment, tags=origin(tracker.settings.root))
    journal = Journal.create(tracker.settings.spool, made.info.run_id)
    journal.append([{"metric": ["train/loss", 0.25, 7, 1000]}])
    journal._lock.release()
    return RunRef(made.info.run_id, "chorales")


@pytest.mark.slow
def test_a_killed_writers_points_arrive_and_its_run_ends_as_killed(tracker: MlflowTracker) -> None:
    ref = killed(tracker)
    assert tracker.send_leftovers() == (1, 0)
    assert history(tracker, ref.run_id, "train/loss") == [(7, 0.25)]
    assert tracker.client.get_run(ref.run_id).info.status == "KILLED"


@pytest.mark.slow
def test_resuming_sends_what_was_left_and_goes_on(tracker: MlflowTracker) -> None:
    ref = killed(tracker)
    run = tracker.resume(ref.run_id)
    assert run.ref.run_id == ref.run_id
    assert run.ref.experiment == "chorales"
    assert history(tracker, ref.run_id, "train/loss") == [(7, 0.25)]
    assert tracker.client.get_run(ref.run_id).info.status == "RUNNING"
    run.metrics({"train/loss": 0.25, "new": 1.0}, 7)  # a training makes its last updates before the kill once more
    run.metrics({"train/loss": 0.125}, 8)
    run.finish()
    run.finish()
    assert history(tracker, ref.run_id, "new") == [(7, 1.0)]
    assert history(tracker, ref.run_id, "train/loss") == [(7, 0.25), (8, 0.125)]
    assert tracker.client.get_run(ref.run_id).info.status == "FINISHED"


@pytest.mark.slow
def test_a_resumed_run_still_lists_its_first_table(tracker: MlflowTracker, run: MlflowRun) -> None:
    run.table({"a": [1]}, "one.json")
    run.finish()
    again = tracker.resume(run.ref.run_id)
    again.table({"a": [1]}, "two.json")
    again.finish()
    tables = json.loads(tracker.client.get_run(run.ref.run_id).data.tags["mlflow.loggedArtifacts"])
    assert [table["path"] for table in tables] == ["one.json", "two.json"]


@pytest.mark.slow
def test_sending_again_repeats_no_point(tracker: MlflowTracker, run: MlflowRun) -> None:
    from components.tracking.mlflow_run import delivery

    entries = [{"metric": ["loss", value, step, 1000]} for step, value in enumerate([0.5, math.nan, math.inf, 0.5])]
    for _ in range(3):
        delivery(tracker.client, run.ref.run_id)(Path(), entries)
    assert len(history(tracker, run.ref.run_id, "loss")) == 4


@pytest.mark.slow
def test_what_cannot_be_a_key_is_refused_at_once_and_not_spooled(run: MlflowRun, tmp_path: Path) -> None:
    for key in ("loss%", "a//b", "../b", "a/./b", "", "k" * 251, "a/"):
        with pytest.raises(ValueError, match="isn't a valid key"):
            run.metrics({key: 1.0}, 0)
    with pytest.raises(ValueError, match="columns of equal length"):
        run.table({"a": [1], "b": []}, "x.json")
    (tmp_path / "no.png").write_text("no image")
    with pytest.raises(OSError, match="cannot identify image"):
        run.image(tmp_path / "no.png", "roll", 1)
    assert run.flush(5) == 0
    run.finish()
    with pytest.raises(RuntimeError, match="is finished"):
        run.metrics({"loss": 1.0}, 0)


@pytest.mark.slow
def test_a_run_that_is_gone_is_the_users_to_know(tracker: MlflowTracker, run: MlflowRun) -> None:
    with pytest.raises(UserError, match="not found"):
        tracker.resume("f" * 32)
    run.params({"seed": 1})
    run.params({"seed": 1})
    with pytest.raises(UserError, match="seed"):
        run.params({"seed": 2})
    run.finish()
    tracker.client.delete_run(run.ref.run_id)
    with pytest.raises(UserError, match="is deleted"):
        tracker.resume(run.ref.run_id)


@pytest.mark.slow
def test_writing_to_a_run_that_was_deleted_meanwhile_stops_nobody(
    tracker: MlflowTracker, run: MlflowRun, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.client.delete_run(run.ref.run_id)
    with caplog.at_level(logging.WARNING):
        run.metrics({"loss": 1.0}, 0)
        assert run.flush(20) == 1
        run.finish()
    assert "refuses" in caplog.text
    assert "they are in" in caplog.text


def test_system_metrics_are_spooled_under_mlflows_names() -> None:
    samples: list[dict[str, float]] = []
    sampler = SystemSampler(samples.append, 0.05)
    sampler._thread.join(0.5)
    sampler.stop()
    seen = len(samples)
    assert seen >= 1
    assert samples[0]["system/process_memory_megabytes"] > 1
    assert 0 <= samples[0]["system/cpu_utilization_percentage"] <= 100


AT_ONCE = """
import os, sys
from pathlib import Path
import components.tracking.mlflow_backend as backend
from components.tracking.settings import load_settings
settings = load_settings(Path(sys.argv[1]))
import mlflow, mlflow.store.tracking.sqlalchemy_store  # once, for all children
children = []
for number in range(8):
    child = os.fork()
    if child == 0:
        run = backend.MlflowTracker(settings).start("at once", f"writer-{number}", tags={})
        for step in range(50):
            run.metrics({"loss": number + step / 100}, step)
        run.finish()
        os._exit(0)
    children.append(child)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


@pytest.mark.slow
@pytest.mark.usefixtures("no_settings_from_outside")
def test_eight_writers_at_once_on_a_fresh_store_lose_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", AT_ONCE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tracker = MlflowTracker(load_settings(tmp_path))
    experiment = tracker.client.get_experiment_by_name("at once")
    runs = tracker.client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == [f"writer-{number}" for number in range(8)]
    for run in runs:
        number = int(run.info.run_name[-1])
        expected = [(step, number + step / 100) for step in range(50)]
        assert history(tracker, run.info.run_id, "loss") == expected
        assert run.info.status == "FINISHED"
    assert not (tmp_path / "runs" / "mlflow.db.new").exists()


@pytest.mark.slow
def test_data_that_a_run_beside_put_there_first_are_found(tracker: MlflowTracker, run: MlflowRun, monkeypatch) -> None:
    from mlflow.exceptions import MlflowException

    write, asked = tracker.client.log_inputs, []

    def taken(*arguments: object, **named: object) -> None:
        asked.append(named)
        if len(asked) == 1:  # as between the store's look and its write
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name, datasets.digest")
        write(*arguments, **named)

    monkeypatch.setattr(tracker.client, "log_inputs", taken)
    run.dataset("tunes", "ab" * 32, "tunes.txt", {}, "train")
    (found,) = tracker.client.get_run(run.ref.run_id).inputs.dataset_inputs
    assert found.dataset.name == "tunes"


@pytest.mark.slow
@pytest.mark.usefixtures("no_settings_from_outside")
def test_an_unusable_store_is_explained(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="not a database"):
        MlflowTracker(load_settings(tmp_path)).start("x", "y", tags={})


@pytest.mark.slow
def test_a_deleted_experiment_says_how_to_get_it_back(tracker: MlflowTracker, run: MlflowRun) -> None:
    tracker.client.delete_experiment(tracker.client.get_run(run.ref.run_id).info.experiment_id)
    with pytest.raises(UserError, match="restore"):
        tracker.start("chorales", "again", tags={})


@pytest.mark.slow
def test_the_ui_is_served_from_the_same_store(settings: Settings) -> None:
    arguments, addresses = ui_command(settings)
    assert addresses["MLFLOW_BACKEND_STORE_URI"] == settings.tracking_uri
    assert arguments[arguments.index("--port") + 1] == "5000"
    assert not [each for each in arguments if "://" in each], "everybody on the machine sees them"
