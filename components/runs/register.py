"""Registration of a model if it passes the `accept` bounds, as champion if it beats the current one."""

from __future__ import annotations

from components.bundle import save_bundle
from components.console import say
from components.datasets.store import Store
from components.evaluation.baseline import judging, strongest
from components.paths import CODE
from components.provenance import code_version, package_versions
from components.runs.open_run import OpenRun
from components.runs.places import places
from components.runs.record import RunRecord
from components.tasks.base import Task
from components.tracking.base import ModelRef
from components.tracking.mlflow_store import MlflowStore
from components.tracking.promotion import decide, meets, promotion_tags


def register(run: OpenRun, metrics: dict[str, float]) -> ModelRef | None:
    """The registered version with its alias; None if `accept` refuses it (the run keeps its bundle)."""
    record, recipe, store, models = run.record, run.record.recipe, run.store, MlflowStore(places().settings)
    session = run.session("cpu")
    session.load_best(run.folder)
    facts = {
        "framing": store.manifest["framing"],
        "learned": session.task.learned(),
        "run_id": run.id,
        "recipe_digest": recipe.digest,
        "data": {"name": store.manifest["name"], "digest": record.dataset.digest},
        "columns": store.manifest.get("columns", {}),
        "metrics": metrics,
        "versions": package_versions() | {"reprise": code_version(CODE)["version"]},
    }
    bundle = run.folder / "bundle"
    save_bundle(bundle, recipe.name, session.model, session.encoding, recipe.as_dict(), facts)
    unjudged = ["it was evaluated neither on val nor on test, so its quality is unknown"]
    if problems := meets(recipe.accept, metrics) if judging(metrics, session.task.primary) else unjudged:
        run.tracked.tags({"registered": "refused: " + "; ".join(problems)})
        say("model   not registered: " + "; ".join(problems))
        return None
    tags = version_tags(record, store, session.task, metrics)
    ref = models.register(record.ref, bundle, recipe.name, tags=tags)

    def judge(champion: ModelRef | None) -> tuple[str, str]:
        if champion and champion.version == ref.version:  # a resumed finished run isn't compared with itself
            return "champion", "it is already the champion"
        higher = not session.task.lower_is_better
        return decide(tags, models.tags(champion) if champion else None, higher_is_better=higher)

    ref, reason = models.settle(ref, judge)
    run.tracked.tags({"registered": f"{ref} as {ref.alias}: {reason}"})
    say(f"model   {ref} registered as {ref.alias}: {reason}")
    return ref


def version_tags(record: RunRecord, store: Store, task: Task, metrics: dict[str, float]) -> dict[str, str]:
    """The tags of a registered version: metrics, data, and settings that distinguish it."""
    split = judging(metrics, task.primary)
    figure = f"{split}/{task.primary}"
    digest = store.manifest["digests"]["splits"][split]
    baseline = strongest(metrics, task.lower_is_better)
    about = {"data.digest": record.dataset.digest, "recipe.digest": record.recipe.digest, "run.name": record.run_name}
    least = (baseline.name, baseline.value) if baseline else None
    return promotion_tags(figure, metrics[figure], digest, least) | about
