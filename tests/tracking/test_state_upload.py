"""The state of a run among its artifacts: complete sets only, told once when the store is away, given up to whoever
takes the run over, and verified before it is used elsewhere."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.errors import UserError
from components.tracking import state_upload
from components.tracking.mlflow_backend import MlflowRun, MlflowTracker
from components.tracking.moved import local_folder
from components.tracking.process import PROCESS
from components.tracking.remote_runs import RemoteRuns
from components.tracking.state_upload import RunFiles
from components.tracking.travel import STATE_FOLDER, TAG, StateSet, checked_files, went_elsewhere

pytest_plugins = ["tracking_fixtures"]
SECONDS = 60.0  # for a busy machine
SHA = "ab" * 32


@pytest.fixture
def travelling(tracker: MlflowTracker, monkeypatch: pytest.MonkeyPatch) -> MlflowTracker:
    """A store that state travels through, often."""
    monkeypatch.setattr(state_upload, "POLL_SECONDS", 0.02)
    travel = tracker.settings.travel.model_copy(update={"checkpoints": "always", "every_seconds": 1})
    return MlflowTracker(dataclasses.replace(tracker.settings, travel=travel))


@pytest.fixture
def sent(travelling: MlflowTracker, tmp_path: Path) -> Iterator[tuple[MlflowRun, Path]]:
    """A run whose state travels, and its folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "record.json").write_text("{}")
    run = travelling.start("chorales", "lstm-s0", tags={"recipe": "chorales"})
    state = {name: folder / name for name in ("checkpoint.safetensors", "best.safetensors")}
    run.travel(
        RunFiles("checkpoint.safetensors", state, folder / "record.json", {}, lambda path: len(path.read_bytes()))
    )
    yield run, folder
    run.finish("KILLED")


def write(folder: Path, size: int) -> None:
    """A checkpoint of this many bytes, which is its update; moved into place as a training does it."""
    (folder / "new").write_bytes(b"w" * size)
    (folder / "new").rename(folder / "checkpoint.safetensors")


def waited(ready: Callable[[], object]) -> object:
    deadline = time.monotonic() + SECONDS
    while not (found := ready()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.mark.slow
def test_the_newest_state_is_fetched_whole_or_refused(travelling: MlflowTracker, sent, tmp_path: Path) -> None:
    run, folder = sent
    remote = RemoteRuns(travelling.settings)
    assert remote.run(run.ref.run_id).kept is None
    run.metrics({"train/loss": 1.0}, 3)
    write(folder, 3)
    waited(lambda: remote.run(run.ref.run_id).kept)
    assert travelling.client.get_metric_history(run.ref.run_id, "train/loss"), "a set is marked after what is before it"
    (folder / "best.safetensors").write_bytes(b"best")
    write(folder, 5)
    waited(lambda: remote.run(run.ref.run_id).kept.update == 5)
    for selector in (run.ref.run_id, run.ref.run_id[:6], "lstm-s0", "chorales"):
        found = remote.find(selector)
        assert found.run_id == run.ref.run_id
    assert [remote.find(name) for name in ("nothing", "x' or 1", "%")] == [None] * 3
    kept = found.kept
    assert set(kept.files) == {"checkpoint.safetensors", "best.safetensors", "record.json"}
    into = tmp_path / "into"
    into.mkdir()
    remote.fetch(run.ref.run_id, kept.folder, kept.files, into)
    assert (into / "checkpoint.safetensors").read_bytes() == b"w" * 5
    assert {path.name for path in into.iterdir() if path.is_file()} == set(kept.files)
    root = local_folder(travelling.client.get_run(run.ref.run_id).info.artifact_uri)
    artifact = root / kept.folder / "checkpoint.safetensors"
    for content, told in ((b"x" * 5, "different content"), (b"w" * 6, "different size")):
        artifact.write_bytes(content)
        with pytest.raises(UserError, match=told):
            remote.fetch(run.ref.run_id, kept.folder, kept.files, tmp_path / "into")
    artifact.unlink()
    with pytest.raises(UserError, match="is missing"):
        remote.fetch(run.ref.run_id, kept.folder, kept.files, tmp_path / "into")


@pytest.mark.slow
def test_a_store_that_is_away_is_told_once_and_tried_again(travelling, sent, monkeypatch, caplog) -> None:
    run, folder = sent
    remote = RemoteRuns(travelling.settings)
    tried = []

    def unreachable(*_: object) -> None:
        tried.append(1)
        raise ConnectionError("connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(type(travelling.client), "log_artifact", unreachable)
        write(folder, 7)
        waited(lambda: len(tried) >= 2)
        assert remote.run(run.ref.run_id).kept is None
    assert waited(lambda: remote.run(run.ref.run_id).kept).update == 7
    waited(lambda: "uploaded again" in caplog.text)  # told after the set is marked
    told = [record.getMessage() for record in caplog.records if "checkpoint" in record.getMessage()]
    assert len(told) == 2
    assert "can't upload its checkpoint, trying again (connection refused)" in told[0]
    assert "uploaded again" in told[1]


@pytest.mark.slow
def test_the_last_state_is_sent_when_the_run_is_stopped(travelling: MlflowTracker, sent) -> None:
    run, folder = sent
    write(folder, 9)
    run.finish("KILLED")
    found = RemoteRuns(travelling.settings).run(run.ref.run_id)
    assert (found.status, found.kept.update) == ("KILLED", 9)
    found.check_free()


@pytest.mark.slow
def test_who_lost_the_run_ends_nothing_and_sends_nothing(travelling: MlflowTracker, sent) -> None:
    run, folder = sent
    write(folder, 4)
    waited(lambda: RemoteRuns(travelling.settings).run(run.ref.run_id).kept)
    client = travelling.client
    client.set_tag(run.ref.run_id, PROCESS, "another-1/7/8")
    client.set_tag(run.ref.run_id, STATE_FOLDER, "another-1/there")
    assert waited(lambda: run.taken_over)
    run.metrics({"train/loss": 1.0}, 9)
    run.finish("FAILED")
    found = client.get_run(run.ref.run_id)
    assert found.info.status == "RUNNING"
    assert "train/loss" not in found.data.metrics


def test_a_silent_writer_of_another_machine_is_taken_for_dead_after_a_while() -> None:
    from components.tracking.remote_runs import RemoteRun

    def run(seconds_ago: float) -> RemoteRun:
        kept = StateSet("travel/0123456789ab-0", 3, time.time() - seconds_ago, 60, {})
        return RemoteRun("ab" * 16, "lstm", "RUNNING", "vm", "another-1/7/8", kept, True)

    with pytest.raises(UserError, match=r"running on vm\n.*try again in 1\d\d s"):
        run(30).check_free()
    run(200).check_free()


def test_only_what_went_on_elsewhere_is_given_up(tmp_path: Path) -> None:
    from components.tracking.travel import state_folder_id

    other = {STATE_FOLDER: "another-1/there", TAG: "{}"}
    assert went_elsewhere(other, "RUNNING", tmp_path)
    assert went_elsewhere({STATE_FOLDER: "another-1/there"}, "FINISHED", tmp_path)
    for tags in (
        {},
        {TAG: "{}"},
        {STATE_FOLDER: state_folder_id(tmp_path), TAG: "{}"},
        {STATE_FOLDER: "another-1/there", TAG: ""},
    ):
        assert not went_elsewhere(tags, "RUNNING", tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"../checkpoint": [1, SHA]},
        {"a/b": [1, SHA]},
        {".hidden": [1, SHA]},
        {"a": [-1, SHA]},
        {"a": [1 << 60, SHA]},
        {"a": [1, "short"]},
        {"a": [True]},
        [],
    ],
)
def test_names_sizes_and_digests_that_can_not_be_are_refused(files: object) -> None:
    with pytest.raises(ValueError, match=r"isn't a file|not a list"):
        checked_files(files)


@given(text=st.text() | st.sampled_from(['{"files": {}}', "[]", "1", "null", '{"files": {}, "folder": 1}']))
def test_any_tag_is_read_or_left(text: str) -> None:
    kept = StateSet("travel/0123456789ab-1", 12, 1.0, 60, {"a.safetensors": (3, SHA)})
    assert StateSet.from_tag(kept.as_tag()) == kept
    assert StateSet.from_tag(text) is None
    assert StateSet.from_tag(kept.as_tag().replace("travel/", "elsewhere/")) is None
