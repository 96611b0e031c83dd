"""Evaluation: the best weights on held-out data, with pictures of what was learned."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect import task as prefect_task

from components.datasets.store import Store
from components.evaluation import report
from components.models.weights import read_tensors
from components.training.session import Session
from flows.console import say
from flows.places import places
from flows.retry import worth_retrying
from flows.runs import RunRecord, closing, find_run, open_run


@prefect_task(name="evaluate", retries=1, retry_condition_fn=worth_retrying)
def evaluate_task(run_id: str) -> dict[str, float]:
    """The final figures of a run, "val/…" and "test/…"; logged without a step, with the pictures."""
    where = places()
    folder = where.run_folder(run_id)
    record = RunRecord.load(folder)
    session = Session(record.recipe, Store.open(record.dataset.path), record.device, record.threads)
    session.load_best(folder)
    metrics = {f"{split}/{name}": value for split in ("val", "test") for name, value in session.evaluate(split).items()}
    run = open_run(run_id)

    # the chosen weights on val go under "best/", apart from the curve over training
    run.metrics({name.replace("val/", "best/"): value for name, value in metrics.items()})
    for picture in _pictures(session, folder, metrics):
        run.file(picture, "figures")
    shown = "  ".join(
        f"{name.removeprefix('test/')} {v:.4f}" for name, v in metrics.items() if name.startswith("test/")
    )
    say(f"test    {shown or 'the recipe keeps no test data'}")
    return metrics


def _pictures(session: Session, folder: Path, metrics: dict[str, float]) -> list[Path]:
    store, encoding, primary = session.store, session.encoding, session.task.primary
    _, facts = read_tensors(folder / "checkpoint.safetensors")
    train, test = store.split("train"), store.split("test")
    curve = folder / "learning_curve.png"
    report.write_learning_curve(
        curve,
        facts["progress"]["history"],
        metric=primary,
        baselines=report.baselines(train.tokens, test.tokens, len(encoding.vocabulary)),
        test=metrics.get(f"test/{primary}"),
        title=f"{session.recipe.name}: {primary.replace('_', ' ')}",
    )
    if not len(test):
        return [curve]
    ids = report.excerpt(test[0])
    nats = report.surprise(session.model, encoding, ids)
    surprise = folder / "surprise.png"
    report.write_surprise(surprise, encoding, ids, nats, title=f"{session.recipe.name}: surprise on held-out data")
    return [curve, surprise]


@flow(name="evaluate")
def evaluate_flow(run: str) -> dict[str, float]:
    """Evaluate a run of this machine (an id, the beginning of one, or a name) once more."""
    run_id = find_run(run, places()).ref.run_id
    with closing(run_id):
        return evaluate_task(run_id)
