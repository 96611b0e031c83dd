"""The record of a run on this machine, for resuming, evaluating and registering."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from components.datasets.store import DatasetRef, Store
from components.errors import SENTENCE, UserError, meant
from components.recipe import Recipe
from components.runs.places import Places, places
from components.tracking.base import RunRef
from components.training.device import choose_device
from components.whole_files import written_whole

FILE = "run.json"


@dataclass(frozen=True)
class RunRecord:
    """Everything a run was started with. `device`, `threads` and `processes` affect rounding."""

    recipe: Recipe
    dataset: DatasetRef
    ref: RunRef
    run_name: str
    device: str
    threads: int
    parent: str = ""  # the run of its comparison or search
    asked: list[str] = field(default_factory=list)  # the words after `reprise run`, valid in any folder
    processes: int = 1  # that share the training, and its threads
    moves: bool = False  # part of a study on a cluster: another machine may resume it

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with written_whole(folder / FILE) as temporary:
            temporary.write_text(json.dumps(self.as_dict(), indent=1), encoding="utf-8")

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON-ready data."""
        return asdict(self) | {"recipe": {"name": self.recipe.name, **self.recipe.as_dict()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RunRecord:
        """Restore the result of `as_dict`.

        Raises:
            UserError, ValueError, KeyError, TypeError: the values are invalid.
        """
        values = dict(values)
        recipe = dict(values.pop("recipe"))
        record = cls(
            recipe=Recipe.from_dict(recipe.pop("name"), recipe),
            dataset=DatasetRef(**values.pop("dataset")),
            ref=RunRef(**values.pop("ref")),
            **values,
        )
        texts = (record.run_name, record.device, record.parent, *record.asked, *astuple(record.ref))
        texts += (record.dataset.path, record.dataset.digest)
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("a text is expected")
        if not all(isinstance(count, int) and 1 <= count <= 4096 for count in (record.threads, record.processes)):
            raise ValueError("threads and processes are small numbers")
        return record

    @classmethod
    def load(cls, folder: Path) -> RunRecord:
        try:
            record = cls.from_dict(json.loads((folder / FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"isn't a valid record of a run: {error}", where=str(folder / FILE)) from None
        # if the dataset isn't here, opening it raises the error
        return replace(record, dataset=dataset_here(record.dataset) or record.dataset)


def moved_to(record: RunRecord, device: str) -> RunRecord:
    """Move the run to another device ("" keeps its own) and store that in its record.

    Raises:
        UserError: the device isn't available.
    """
    try:
        chosen = choose_device(device or record.device)
    except UserError as error:
        if device:
            raise
        raise UserError(
            f"the run started on {record.device}, and {error.what}",
            where=record.run_name,
            hint=f"on the CPU: `reprise resume {record.ref.run_id[:8]} --device cpu`; results differ by rounding",
        ) from None
    if chosen == record.device:
        return record
    moved = replace(record, device=chosen)
    moved.save(places().run_folder(record.ref.run_id))
    return moved


def dataset_here(dataset: DatasetRef) -> DatasetRef | None:
    """The dataset on this machine: in the current home, or at its original path; None if it isn't there."""
    for path in (places().datasets / "stores" / Path(dataset.path).name, Path(dataset.path)):
        with suppress(UserError, KeyError):
            if path.is_dir() and Store.open(path).manifest["digests"]["content"] == dataset.digest:
                return replace(dataset, path=str(path))
    return None


def find_run(selector: str, places: Places) -> RunRecord:
    """The run with this id, start of an id, or name (the latest if there are several). "latest" ignores runs of
    comparisons and searches, which are resumed as a whole.

    Raises:
        UserError: no run of this machine matches.
    """
    root = places.home / "checkpoints"
    folders = sorted((f.parent for f in root.glob(f"*/{FILE}")), key=lambda f: (f / FILE).stat().st_mtime, reverse=True)
    for folder in folders:
        if folder.name.startswith(selector) and len(selector) >= 6:
            return RunRecord.load(folder)
    records = []
    for folder in folders:
        with suppress(UserError):  # skip records of other versions
            records.append(RunRecord.load(folder))
    for record in records:
        if selector in (record.run_name, record.recipe.name) or (selector == "latest" and not record.parent):
            return record
    known = [record.run_name for record in records]
    names = ", ".join(f"{record.run_name} ({record.ref.run_id[:8]})" for record in records[:10])
    raise UserError(
        f"no run {selector!r} on this machine.{meant(selector, known, SENTENCE)}",
        hint=f"runs on this machine: {names}" if names else "there is none yet: `reprise run names` starts one",
    )
