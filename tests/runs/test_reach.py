"""A store that can't be had is said to be, in one line, soon, with what is missing and without its password."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.errors import UserError
from components.tracking import artifact_store, mlflow_client
from components.tracking.mlflow_backend import MlflowTracker, check_store
from components.tracking.mlflow_client import command
from components.tracking.settings import load_settings

pytest_plugins = ["tracking_fixtures"]
pytestmark = pytest.mark.slow
PASSWORD = "hush-%40-hush"  # as an address writes it
LOOK = ("initdb", "pg_ctl")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of something that takes connections and never says a word; it isn't waited for as long as usual."""
    assert mlflow_client.REACH_SECONDS < 10
    monkeypatch.setattr(mlflow_client, "REACH_SECONDS", 2.0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)
        yield listener.getsockname()[1]


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The settings of a store with this address."""
    monkeypatch.setattr(mlflow_client, "_clients", {})
    monkeypatch.setenv("REPRISE_HOME", str(tmp_path / "home"))

    def make(address: str, artifacts: str = "artifacts"):
        (tmp_path / "mlflow.yaml").write_text(f"tracking: {{artifacts: '{artifacts}'}}\n")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        return load_settings(tmp_path)

    return make


def refused(settings) -> str:
    """What is said of the store, by whatever opens it; checked to be short, soon and without the password."""
    import mlflow.store.tracking.rest_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - the clock is for the store alone

    before = time.monotonic()
    with pytest.raises(UserError) as caught:
        check_store(settings)
    assert time.monotonic() - before < 25, "ten seconds, on a machine that has other work too"
    told = str(caught.value)
    assert "hush" not in told
    assert caught.value.what.count("\n") == 0
    return told


def test_a_server_that_is_away_or_silent(at, silent: int) -> None:
    assert "127.0.0.1:9" in refused(at(f"http://ann:{PASSWORD}@127.0.0.1:9"))
    assert f"127.0.0.1:{silent}" in refused(at(f"http://ann:{PASSWORD}@127.0.0.1:{silent}"))


def test_a_database_that_is_silent(at, silent: int) -> None:
    pytest.importorskip("psycopg2", reason="needs psycopg2: pip install psycopg2-binary")
    assert "can't be used" in refused(at(f"postgresql://ann:{PASSWORD}@127.0.0.1:{silent}/runs"))


def test_a_driver_that_is_missing_is_named_with_its_package(at, monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, module, package in (
        ("mysql", "MySQLdb", "pip install mysqlclient"),
        ("postgresql", "psycopg2", "pip install 'reprise[postgres]'"),
    ):
        monkeypatch.setitem(sys.modules, module, None)  # as if it weren't installed
        told = refused(at(f"{scheme}://ann:{PASSWORD}@127.0.0.1:9/runs"))
        assert package in told


def test_what_artifacts_need_is_said_before_training(
    at, tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(artifact_store.ARTIFACTS, "s3", "no_such_package")
    monkeypatch.setitem(artifact_store.EXTRAS, "no_such_package", artifact_store.EXTRAS["boto3"])
    shutil.copy(database, tmp_path / "s3.db")
    settings = at(f"sqlite:///{tmp_path}/s3.db", "s3://bucket/runs")
    assert "pip install 'reprise[s3]'" in refused(settings)
    with pytest.raises(UserError, match=r"reprise\[s3\]"):
        MlflowTracker(settings).start("tunes", "s0", tags={})


def test_a_bucket_that_is_missing_or_closed_is_said_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for said, way in (
        ("An error occurred (NoSuchBucket) when calling PutObject", "create the bucket"),
        (
            "An error occurred (AccessDenied) for https://ann:hush@there",
            "give this key permission to read, write and delete there",
        ),
        ("Unable to locate credentials", "AWS_ACCESS_KEY_ID"),
    ):

        def fails(*_: str, said: str = said) -> None:
            raise RuntimeError(said)

        monkeypatch.setattr(artifact_store, "check_package", lambda address: None)
        monkeypatch.setattr(artifact_store, "_write", fails)
        with pytest.raises(UserError, match=way) as caught:
            artifact_store.check_artifacts("s3://bucket/runs", "sqlite:///x")
        assert str(caught.value).startswith("s3://bucket/runs: artifacts can't be stored: ")
        assert "hush" not in str(caught.value)
    artifact_store.check_artifacts("/a/folder", "sqlite:///x")  # of this machine: nothing is tried


def test_the_way_back_of_a_deleted_experiment_works_when_typed(settings, tmp_path: Path) -> None:
    from components.tracking.mlflow_reader import MlflowReader

    tracker = MlflowTracker(settings)
    run = tracker.start("tunes", "s0", tags={})
    run.finish()
    tracker.client.delete_experiment(tracker.client.get_run(run.ref.run_id).info.experiment_id)
    with pytest.raises(UserError, match="is deleted") as caught:
        MlflowReader(settings).runs("tunes")
    typed = caught.value.hint.partition("restore it: ")[2]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    subprocess.run(["sh", "-c", typed], cwd=tmp_path, check=True, env=clean, capture_output=True, timeout=300)
    assert [found.name for found in MlflowReader(settings).runs("tunes")] == ["s0"]
    assert not (tmp_path / "mlflow.db").exists()


def test_a_hint_shows_no_password(at, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = at(f"http://ann:{PASSWORD}@tracking.example.org")
    assert "hush" not in command(settings, "experiments restore -x 1")  # the environment has it: nothing to be typed
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "hush" not in command(settings, "experiments restore -x 1")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """ADDRESS of a server of ours, to be followed by /DATABASE; ann may write in `runs`, bob may not."""
    pytest.importorskip("psycopg2", reason="needs psycopg2: pip install psycopg2-binary")
    found = [shutil.which(name) or next(iter(glob.glob(f"/usr/lib/postgresql/*/bin/{name}")), "") for name in LOOK]
    if not all(found):
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="reprise-"))  # pytest's own folders are closed to other users
    own = []
    if os.getuid() == 0:  # it refuses to be run by root
        own = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    initdb, pg_ctl = found

    def call(*words: str) -> None:
        subprocess.run([*own, *words], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    call(initdb, "-D", f"{folder}/data", "-A", "trust", "-U", "root", "--no-sync")
    (folder / "data" / "pg_hba.conf").write_text("host all root all trust\nhost all all all scram-sha-256\n")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    call(pg_ctl, "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", options, "start")
    try:
        import psycopg2

        connection = psycopg2.connect(f"host=127.0.0.1 port={port} user=root dbname=postgres")
        connection.autocommit = True
        for statement in (
            "CREATE ROLE ann LOGIN PASSWORD 'hush-@-hush'",
            "CREATE ROLE bob LOGIN PASSWORD 'hush-@-hush'",
            "CREATE DATABASE runs OWNER ann",
        ):
            connection.cursor().execute(statement)
        connection.close()
        yield f"postgresql://{{user}}:{PASSWORD}@127.0.0.1:{port}"
    finally:
        call(pg_ctl, "-D", f"{folder}/data", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_a_postgresql_store_is_used_or_says_what_is_missing(postgres: str, at) -> None:
    address = postgres.format(user="ann")
    assert 'database "none" does not exist' in refused(at(f"{address}/none"))
    assert "password authentication failed" in refused(at(f"{address.replace('hush-', 'hush--')}/runs"))
    settings = at(f"{address}/runs")
    assert check_store(settings) == f"postgresql://***@{address.rpartition('@')[2]}/runs"
    run = MlflowTracker(settings).start("tunes", "s0", tags={})
    run.metrics({"train/loss": 1.0}, 1)
    run.finish()
    assert MlflowTracker(settings).client.get_run(run.ref.run_id).data.metrics == {"train/loss": 1.0}
    assert "permission denied" in refused(at(f"{postgres.format(user='bob')}/runs"))
