"""Resuming runs on other machines: upload of a run's state to the store, and download to this machine."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.console import say
from components.datasets.store import MANIFEST, DatasetRef, Store
from components.errors import UserError
from components.evaluation.gradients import READINGS
from components.models.weights import read_facts
from components.provenance import digest_file, package_versions
from components.recipe import Recipe
from components.runs.ingest import ingest_recipe
from components.runs.places import places
from components.runs.record import RunRecord, dataset_here, find_run
from components.tracking.mlflow_backend import MlflowRun
from components.tracking.remote_runs import RemoteRun, RemoteRuns
from components.tracking.state_upload import RunFiles
from components.tracking.travel import DATA, Files, StateSet, checked_files
from components.whole_files import held, written_whole

CHECKPOINT, BEST, RECORD = "checkpoint.safetensors", "best.safetensors", "travel.json"
SAMPLES = "samples.jsonl"  # written during training, see `components.runs.samples`
STATE = (CHECKPOINT, BEST, SAMPLES, READINGS)  # files in a run's folder
LARGEST_RECORD = 8 << 20  # bytes
SAME = ("torch", "numpy")  # another version of these may round differently


@contextmanager
def alone(run_id: str) -> Iterator[Path]:
    """Context manager that locks the folder of a run for this process.

    Raises:
        UserError: another process is working on the run.
    """
    folder = places().run_folder(run_id)
    refusal = UserError(f"run {run_id[:8]} is running in another process", hint="wait for it, or stop it")
    with held(folder / "run.lock", refusal):
        yield folder


def send(record: RunRecord, folder: Path, tracked: MlflowRun) -> None:
    """Upload the run's state to its artifacts while it runs, if the store is shared. Runs of comparisons and searches
    are only uploaded on a cluster; otherwise they are resumed together, on their machine."""
    if (record.parent and not record.moves) or not places().settings.shared:
        return
    # the data of trials are uploaded once, to their parent run
    paths = {} if record.parent else data_files(record.dataset)
    values = {"run": record.as_dict(), "data": facts_of(paths), "versions": package_versions()}
    with written_whole(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(values, indent=1), encoding="utf-8")
    state = {name: folder / name for name in STATE}
    tracked.travel(RunFiles(CHECKPOINT, state, folder / RECORD, paths, _update_of))


def data_files(dataset: DatasetRef) -> dict[str, Path]:
    """The files of ingested data by name; empty if they are too large to upload."""
    store = Store.open(dataset.path)
    paths = {name: store.path / name for name in (MANIFEST, *store.manifest["files"])}
    small = sum(path.stat().st_size for path in paths.values()) <= places().settings.travel.data_mb * 1e6
    return paths if small else {}


def facts_of(paths: Mapping[str, Path]) -> dict[str, list[Any]]:
    """Size and sha256 of files, for verifying downloads."""
    return {name: [path.stat().st_size, digest_file(path)] for name, path in paths.items()}


def data_folder(dataset: DatasetRef) -> str:
    """The folder for these data in a study's artifacts."""
    return f"{DATA}/{dataset.digest[:16]}"


def bring(selector: str) -> RunRecord:
    """The record of the run to resume: one of this machine, or one that another machine left in the store, with its
    state downloaded and verified. Data that are ingested again must be the same.

    Raises:
        UserError: there is no such run, it is running or finished, it can't be resumed from here, or its data differ.
    """
    where = places()
    remote = RemoteRuns(where.settings)
    try:
        record = find_run(selector, where)
    except UserError as error:
        if not where.settings.shared or selector == "latest":
            raise
        found = remote.find(selector)
        if found is None:
            raise UserError(error.what, hint=f"nor is it in the store {where.settings.store}; {error.hint}") from None
    else:
        if not where.settings.shared or (record.parent and not record.moves):
            return record
        found = remote.run(record.ref.run_id)
        if not found.away:
            found.check_free()
            return record
    _check(found)
    return _fetched(remote, found)


def _check(found: RemoteRun) -> None:
    if found.status == "FINISHED":
        raise UserError(
            f"the run is finished; it ran on {found.owner}",
            where=found.where,
            hint="its page in MLflow shows the results",
        )
    if found.kept is None:
        raise UserError(
            f"the run's checkpoints are only on {found.owner}",
            where=found.where,
            hint="resume it there; `travel` in mlflow.yaml sets which runs can be resumed on other machines",
        )
    found.check_free()


def _fetched(remote: RemoteRuns, found: RemoteRun) -> RunRecord:
    """Fetch a run's state into its folder. The record is written last, so that an incomplete download isn't a run."""
    kept = found.kept
    assert kept is not None
    unknown = set(kept.files) - {*STATE, RECORD}
    if unknown or not {CHECKPOINT, RECORD} <= set(kept.files) or kept.files[RECORD][0] > LARGEST_RECORD:
        raise UserError("the run's stored state isn't one that Reprise wrote", where=found.where)
    size = sum(size for size, _ in kept.files.values()) / 1e6
    say(f"fetch   {found.where} of {found.owner}: update {kept.update:,}, {size:,.1f} MB")
    with alone(found.run_id) as folder:
        _check_space(folder, kept)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as fetching:
            new = Path(fetching)
            remote.fetch(found.run_id, kept.folder, kept.files, new)
            if _update_of(new / CHECKPOINT) != kept.update:
                raise UserError("the run's checkpoint isn't from the update that its tag names", where=found.where)
            record, data, versions = _read(new / RECORD, found)
            record = replace(record, dataset=_data(remote, record, data, folder))
            for name in STATE:
                (folder / name).unlink(missing_ok=True)
            for name in set(kept.files) & set(STATE):
                (new / name).rename(folder / name)
        record.save(folder)
        remote.take_over(found.run_id)
    for name in SAME:
        before, now = str(versions.get(name, ""))[:40], package_versions().get(name)
        if before != now:
            say(
                f"warning: the run started with {name} {before}, this machine has {now}: results may differ by rounding"
            )
    return record


def _read(path: Path, found: RemoteRun) -> tuple[RunRecord, dict[str, tuple[int, str]], dict[str, Any]]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        record = RunRecord.from_dict(values["run"])
        data = checked_files(values["data"])
        versions = dict(values["versions"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"the run's record can't be read: {error}", where=found.where) from None
    if record.ref.run_id != found.run_id:
        raise UserError("the run's record belongs to another run", where=found.where)
    return record, data, versions


def _data(remote: RemoteRuns, record: RunRecord, data: dict[str, tuple[int, str]], folder: Path) -> DatasetRef:
    """The run's ingested data."""
    return data_here(remote, record.recipe, record.dataset, (record.ref.run_id, DATA, data), folder / "data")


def data_here(
    remote: RemoteRuns, recipe: Recipe, dataset: DatasetRef, kept: tuple[str, str, Files], fetched: Path
) -> DatasetRef:
    """The data that another machine ingested: found on this machine, fetched from the store (`kept`: run, folder,
    files) into the folder `fetched`, or ingested again.

    Raises:
        UserError: they aren't available here, or they differ.
    """
    wanted = dataset.digest
    if (here := dataset_here(dataset)) is not None:
        return here
    run_id, folder, data = kept
    if data:
        shutil.rmtree(fetched, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=fetched.parent, prefix=".fetching-") as fetching:
            new = Path(fetching) / "data"
            new.mkdir()
            remote.fetch(run_id, folder, data, new)
            new.rename(fetched)
        content = Store.open(fetched).manifest.get("digests", {}).get("content")
        if content != wanted:
            raise UserError(
                "the data among the run's artifacts aren't those it was trained on", where=f"run {run_id[:8]}"
            )
        say(f"        its data: {sum(size for size, _ in data.values()) / 1e6:,.1f} MB")
        return DatasetRef(str(fetched), wanted)
    way = "copy the same data here, or increase travel.data_mb in mlflow.yaml where runs are started"
    try:
        again = ingest_recipe(recipe)
    except UserError as error:
        raise UserError(f"the run's data can't be ingested here: {error.what}", where=error.where, hint=way) from None
    if again.digest != wanted:
        what = f"the data here ({again.digest[:12]}) differ from those that the run started with ({wanted[:12]})"
        raise UserError(what, where=f"run {run_id[:8]}", hint=way)
    return again


def _check_space(folder: Path, kept: StateSet) -> None:
    needed, free = sum(size for size, _ in kept.files.values()), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(f"needs {needed / 1e6:,.0f} MB, but only {free / 1e6:,.0f} MB are free", where=str(folder))


def _update_of(checkpoint: Path) -> int:
    """The update after which a checkpoint was written."""
    progress = read_facts(checkpoint).get("progress")
    update = progress.get("global_step") if isinstance(progress, dict) else None
    if not isinstance(update, int):
        raise UserError("isn't a checkpoint", where=str(checkpoint))
    return update
