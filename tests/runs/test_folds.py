"""K-fold cross-validation as a comparison: each fold is a run that can be repeated by hand, and together they are all
the data."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest
from small_recipes import children, client, in_this_process, write_recipe

from components.errors import UserError
from components.runs.folds import add_up
from components.runs.plan import make_plan
from components.runs.processes import Processes

CLASSES = {
    "encoding": {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}},
    "task": {"kind": "classification"},
    "training": {"steps": 6, "batch_size": 8, "learning_rate": 0.01, "checkpoint_seconds": 0.0},
    "model": {"kind": "rnn", "hidden_size": 4},
    "evaluation": {"every": 3},
}


def write_classes(folder: Path, split: list[float]) -> str:
    """31 texts of two labels."""
    rows = [f"{'ab'[n % 3 == 0]}{'x' * (n + 1)},{['no', 'yes'][n % 3 == 0]}" for n in range(31)]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]))
    data = {"path": str(folder / "rows.csv"), "reader": "table", "split": split}
    return write_recipe(folder, "classes", **CLASSES, data=data)


@pytest.mark.slow
def test_a_plan_of_folds_goes_round_all_settings_with_each_fold(tmp_path) -> None:
    plan = make_plan(write_recipe(tmp_path), ["model.kind=rnn,lstm"], folds=3)
    assert [(t.fold, t.recipe.data["fold"], t.recipe.seed, t.label) for t in plan.trials] == [
        (f"{fold}/3", f"{fold}/3", 5, kind) for fold in (1, 2, 3) for kind in ("rnn", "lstm")
    ]
    assert plan.trials[2].name == "rnn, fold 2/3"
    assert len(plan.combinations) == 6, "each fold has data of its own"
    assert len(make_plan(write_recipe(tmp_path), []).trials) == 3, "seeds are the default"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"folds": 1}, "--folds: must be from 2"),
        ({"folds": 5, "seeds": 2}, "--seeds: can't be used together with --folds"),
        ({"folds": 5, "overrides": ["data.fold=1/2"]}, "set already"),
        ({"folds": 5, "vary": ["data.fold=1/2,2/2"]}, "set already"),
        ({"folds": 600, "vary": ["model.num_layers=1,2"]}, "600 folds are more than the maximum of 1,000 runs"),
        ({"vary": ["data.fold=3"]}, "data.fold"),
    ],
)
def test_a_mistake_in_what_to_fold_is_explained(tmp_path, given, said) -> None:
    with pytest.raises(UserError) as told:
        make_plan(write_recipe(tmp_path), **{"vary": [], **given})
    assert said in str(told.value)


def test_confusion_matrices_are_added_by_name(tmp_path) -> None:
    cells = [(["a", "b", "(not in training)"], ["a", "a", "b"], [5, 1, 2]), (["a", "c"], ["c", "c"], [1, 4])]
    files = [tmp_path / f"{n}.json" for n in range(2)]
    for file, each in zip(files, cells, strict=True):
        file.write_text(json.dumps(dict(zip(("label", "predicted", "count"), each, strict=True))))
    matrix = add_up(files)
    assert (matrix.rows, matrix.columns) == (("a", "b", "c", "(not in training)"), ("a", "b", "c"))
    assert matrix.counts.tolist() == [[5, 0, 1], [1, 0, 0], [0, 0, 4], [0, 2, 0]]
    assert matrix.values[0].tolist() == pytest.approx([5 / 6, 0, 1 / 6])
    assert add_up([]) is None


def table_of(run: str, file: str, folder: Path) -> dict[str, list]:
    shown = json.loads(Path(client().download_artifacts(run, file, str(folder))).read_text())
    return {name: [row[at] for row in shown["data"]] for at, name in enumerate(shown["columns"])}


def test_folds_are_runs_beneath_one_parent_that_adds_them_up(home, monkeypatch, capsys) -> None:
    from components.runs.ranking import show
    from flows.study import compare

    monkeypatch.setattr(Processes, "run", in_this_process)
    path = write_classes(home, [0.8, 0.0, 0.2])
    found = compare(path, [], folds=2)
    runs = {run.info.run_name: run for run in children(found.run_id)}
    assert set(runs) == {"the recipe, fold 1/2", "the recipe, fold 2/2"}
    assert {run.data.params["data.fold"] for run in runs.values()} == {"1/2", "2/2"}
    accuracy = [run.data.metrics["test/accuracy"] for run in runs.values()]
    parent = client().get_run(found.run_id)
    assert parent.data.metrics["test/accuracy"] == pytest.approx(statistics.fmean(accuracy))
    assert parent.data.metrics["test_sd/accuracy"] == pytest.approx(statistics.stdev(accuracy))
    assert parent.data.params["folds"] == "2"
    assert "K-fold cross-validation" in parent.data.tags["mlflow.note.content"]
    folds = table_of(found.run_id, "folds.json", home)
    at = folds["metric"].index("accuracy")
    assert sorted([folds["fold 1"][at], folds["fold 2"][at]]) == pytest.approx(sorted(accuracy))

    together = table_of(found.run_id, "confusion.json", home)
    assert sum(together["count"]) == 31, "each text was test once"
    right = sum(n for a, b, n in zip(*(together[c] for c in ("label", "predicted", "count")), strict=True) if a == b)
    sizes = [sum(table_of(run.info.run_id, "confusion/test.json", home)["count"]) for run in runs.values()]
    assert right == pytest.approx(np.dot(sizes, accuracy)), "accuracy of all folds together"
    assert "figures/confusion.png" in {one.path for one in client().list_artifacts(found.run_id, "figures")}
    show(found)
    shown = capsys.readouterr().out
    assert "mean ± sd over 2 folds" in shown
    assert "every sequence was in test once" in shown

    tried: list[str] = []
    monkeypatch.setattr(Processes, "run", lambda self, command, **_: (tried.append(command[-1]), (2, "again"))[1])
    assert compare(path, [], folds=2).run_id == found.run_id
    assert not tried, "finished folds are reused"
    with pytest.raises(UserError, match="no validation split"):
        compare(path, ["model.kind=rnn,gru"], folds=2)
