"""Registry commands: list, promote, roll back and export models."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.console import out, say, table
from components.errors import UserError
from components.paths import output_folder
from components.runs.places import places
from components.tracking.alias_log import earlier
from components.tracking.base import ModelRef, VersionFacts
from components.tracking.mlflow_store import MlflowStore
from components.tracking.promotion import METRIC, TEST_DIGEST, VALUE, decide, meets, shown_figure
from components.use import opening
from components.use.opening import Selector


def store() -> MlflowStore:
    return MlflowStore(places().settings)


def find(selector: str) -> ModelRef:
    """The version for NAME@champion, NAME@3 or NAME@latest; NAME alone means its champion."""
    return opening.find(selector, store())


def facts(version: VersionFacts) -> dict[str, Any]:
    """Description of a version as plain data."""
    tags = version.tags
    try:
        value: float | None = float(tags.get(VALUE, ""))
    except ValueError:
        value = None
    return {
        "name": version.ref.name,
        "version": version.ref.version,
        "aliases": list(version.aliases),
        "metric": tags.get(METRIC, ""),
        "value": value,
        "test_digest": tags.get(TEST_DIGEST, ""),
        "data_digest": tags.get("data.digest", ""),
        "run": tags.get("run.name", ""),
        "run_id": version.ref.run_id,
        "created": version.created,
    }


def listing() -> list[dict[str, Any]]:
    """All registered models, each with the number of versions and a description of its champion (or of its latest
    version)."""
    models, found = store(), []
    for name in models.names():
        versions = models.versions(name)
        if versions:
            shown = next((each for each in versions if "champion" in each.aliases), versions[0])
            aliases = {alias: each.ref.version for each in versions for alias in each.aliases}
            found.append(
                facts(shown) | {"versions": len(versions), "aliases": aliases, "shown": shown_figure(shown.tags)}
            )
    return found


def show_models() -> None:
    """The registered models as a table."""
    rows = []
    for model in listing():
        aliases = ", ".join(f"{alias} v{version}" for alias, version in sorted(model["aliases"].items()))
        versions = str(model["versions"])
        of = "" if "champion" in model["aliases"] else f" (v{model['version']})"
        told = [model["data_digest"][:8], age(model["created"]), model["run"]]
        rows.append([model["name"], versions, aliases, model["shown"] + of, *told])
    if not rows:
        out.print("no model is registered yet. next: reprise run chorales")
        return
    table("registered models", ["name", "versions", "aliases", "test", "data", "age", "run"], rows)
    out.print("next    reprise models NAME    (its versions; reprise generate NAME, reprise predict NAME)")


def show_versions(name: str) -> None:
    """A model's versions and the latest changes of its aliases."""
    models = store()
    rows = []
    for version in models.versions(name):
        one = facts(version)
        told = [one["data_digest"][:8], age(one["created"]), one["run"]]
        rows.append([f"v{one['version']}", ", ".join(one["aliases"]), shown_figure(version.tags), *told])
    table(name, ["version", "aliases", "test", "data", "age", "run"], rows)
    for change in models.alias_changes(name)[-10:]:
        moved = " → ".join(f"v{version}" if version else "none" for version in (change.before, change.after))
        back = "  (rollback)" if change.back else ""
        out.print(f"{change.at}  {change.alias} {moved} by {change.by}: {change.why}{back}")


@dataclass(frozen=True)
class Moved:
    """A change of champion. `before` is "" if there was none. `note`: the result of the `accept` bounds."""

    name: str
    version: str
    before: str
    why: str
    note: str = ""
    back: bool = False

    def lines(self) -> list[str]:
        """The change in readable lines."""
        was = f" (was v{self.before})" if self.before else ""
        lines = [f"{self.name} v{self.version} is champion{was}: {self.why}"]
        if self.note:
            lines.append(f"note    {self.note}")
        if self.before:
            undo = f"promote {self.name}@{self.before}" if self.back else f"rollback {self.name}"
            lines.append(f"next    reprise {undo}    (puts v{self.before} back)")
        return lines


def promote(selector: str, *, force: bool = False) -> Moved:
    """Make a version the champion: NAME@VERSION, or "run:ID", the model of a run that the `accept` bounds refused.

    Raises:
        UserError: there is no such version; or its metrics fail its recipe's `accept` bounds, without `force`.
    """
    from components.bundle import load_bundle

    models, asked = store(), Selector.parse(selector)
    if asked.run:
        ref, bundle, reason = _of_a_run(asked.run, force)
    else:
        if not asked.version:
            raise UserError(f"{selector!r} doesn't name a version", where="promote", hint=f"for example: {selector}@3")
        ref = find(selector)
        bundle = load_bundle(models.fetch(ref))
        reason = _refused(str(ref), bundle, force)
    before = judged = ""

    def judge(champion: ModelRef | None) -> tuple[str, str]:
        nonlocal before, judged
        if champion and champion.version == ref.version:
            raise UserError(f"{ref} is already the champion", where="promote")
        before, higher = champion.version if champion else "", not bundle.task.lower_is_better
        _, judged = decide(models.tags(ref), models.tags(champion) if champion else None, higher_is_better=higher)
        return "champion", f"promoted by hand; {reason or judged}"

    models.settle(ref, judge)
    return Moved(ref.name, ref.version, before, judged, reason)


def export(selector: str, out: Path | None, form: str = "") -> Path:
    """Copy a version into a new folder: as it is, with its code (`form` ""), or as "onnx" or "safetensors".

    Raises:
        UserError: there is no such version, its files differ from the registered ones, the folder already exists, or
            the model can't be exported in that form.
    """
    ref = find(selector)
    folder = out or Path("-".join(filter(None, (ref.name, f"v{ref.version}", form))))
    output_folder(folder, where="--out")
    if not form:
        return store().export(ref, folder)
    bundle = store().fetch(ref)
    if form == "safetensors":
        from components.export.huggingface import export_huggingface

        export_huggingface(bundle, folder)
    else:
        from components.bundle import load_bundle
        from components.export.onnx import SEQUENCES, export_onnx

        differs = export_onnx(load_bundle(bundle), folder)
        say(f"onnx    equal to the model on {SEQUENCES} random sequences (largest relative difference {differs:.0e})")
    return folder


def rollback(name: str) -> Moved:
    """Restore the previous champion; repeat to go further back.

    Raises:
        UserError: there is no such model, or it had no other champion before.
    """
    models = store()
    with models.deciding(name):
        versions = [each.ref.version for each in models.versions(name)]
        champion = models.champion(name)
        now = champion.version if champion else ""
        before = earlier(models.alias_changes(name), "champion", now, versions)
        if before is None:
            have = f"no earlier champion than v{now} is known" if now else "it never had a champion"
            raise UserError(f"{name}: {have}", where="rollback", hint=f"reprise models {name}")
        models.set_alias(models.find(name, before), "champion", why="rollback", back=True)
    return Moved(name, before, now, "it was champion before", back=True)


def age(created: str) -> str:
    """How long ago a UTC time in ISO 8601 was: "3 min", "5 h", "12 days"."""
    seconds = (dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(created)).total_seconds()
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _refused(what: str, bundle: Any, force: bool) -> str:
    """Why the recipe's `accept` bounds refuse the model; "" if they don't."""
    problems = "; ".join(meets(bundle.recipe.get("accept") or {}, bundle.info.get("metrics") or {}))
    if problems and not force:
        hint = "--force promotes it anyway; the reason is recorded"
        raise UserError(f"{what} fails its recipe's accept bounds: {problems}", where="promote", hint=hint)
    return f"despite its recipe's accept bounds: {problems}" if problems else ""


def _of_a_run(run: str, force: bool) -> tuple[ModelRef, Any, str]:
    """Register the model of a run on this machine: (version, bundle, why the `accept` bounds refused it)."""
    from components.bundle import load_bundle
    from components.datasets.store import Store
    from components.runs.record import find_run
    from components.runs.register import version_tags

    where = places()
    record = find_run(run, where)
    folder = where.run_folder(record.ref.run_id) / "bundle"
    if not folder.is_dir():
        hint = f"reprise resume {record.ref.run_id[:8]}"
        raise UserError(f"run {record.ref.run_id[:8]} has no model yet", where="promote", hint=hint)
    bundle = load_bundle(folder)
    reason = _refused(f"the model of run {record.ref.run_id[:8]}", bundle, force)
    tags = version_tags(record, Store.open(record.dataset.path), bundle.task, bundle.info["metrics"])
    return store().register(record.ref, folder, record.recipe.name, tags=tags), bundle, reason
