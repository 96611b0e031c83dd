"""The search for settings: the space is checked whole, proposals are reproducible, test is never read."""

from __future__ import annotations

import json
import math
import shlex
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from small_recipes import SECTIONS, children, client, in_this_process, write_recipe

from components.errors import UserError
from components.evaluation.tuning import Found, Tried, best_so_far, trials_table, write_search
from components.runs.processes import Processes
from components.runs.space import Dimension, default_space, make_search, parse_space

GRU = {"kind": "gru", "hidden_size": 8}
SPACE = ["training.learning_rate=log:1e-4..1e-1", "model.hidden_size=4,8"]


# the space


def test_a_space_has_choices_and_ranges() -> None:
    found = parse_space(
        ["model.hidden_size=64,128", "model.dropout=0.0..0.5", "model.num_layers=1..3",
         "training.learning_rate=log:1e-4..1e-2", "model.kind=gru,lstm", "training.clip_norm=null,1.0"]
    )  # fmt: skip
    assert [(d.key, d.choices, d.low, d.high, d.log, d.whole) for d in found] == [
        ("model.hidden_size", (64, 128), 0, 0, False, True),
        ("model.dropout", (), 0.0, 0.5, False, False),
        ("model.num_layers", (), 1, 3, False, True),
        ("training.learning_rate", (), 1e-4, 1e-2, True, False),
        ("model.kind", ("gru", "lstm"), 0, 0, False, True),
        ("training.clip_norm", (None, 1.0), 0, 0, False, True),
    ]


numbers = st.one_of(st.integers(-1000, 1000), st.floats(-1e6, 1e6, allow_nan=False))


@pytest.mark.slow
@given(numbers, numbers, st.booleans())
def test_a_dimension_is_read_back_from_what_it_prints(one: float, other: float, log: bool) -> None:
    low, high = sorted([one, other])
    assume(low < high and (low > 0 or not log) and isinstance(low, int) == isinstance(high, int))
    dimension = Dimension("model.x", low=low, high=high, log=log)
    assert parse_space([str(dimension)]) == [dimension]


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.floats(0, 1))
def test_what_is_drawn_is_told_in_few_digits_and_stays_in_the_range(one: float, other: float, share: float) -> None:
    low, high = sorted([one, other])
    value = Dimension("model.x", low=low, high=high).value(low + share * (high - low))
    assert low <= value <= high
    assert value in (low, high) or float(f"{value:.3g}") == value


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (["model.hidden_size"], "isn't KEY=VALUES"),
        (["model..x=1,2"], "isn't KEY=VALUES"),
        (["model.x="], "isn't KEY=VALUES"),
        (["model.x=1,2", "model.x=3"], "given twice"),
        (["model.x=2..1"], "the smaller first"),
        (["model.x=log:0..1"], "above 0"),
        (["model.x=a..b"], "two numbers"),
        (["model.x=1..true"], "two numbers"),
        (["model.x=.nan..1"], "two numbers"),
        (["model.x=1,1"], "choices, all different"),
        (["model.x=[1,2],[3]"], "choices must be numbers"),
        (["model.x=&a 1, *a"], "aliases"),
        (["training.steps=1..9"], "have the same budget"),
        (["data.split=1,2"], "only settings of model and training"),
        (["seed=1,2"], "only settings of model and training"),
    ],
)
def test_a_mistake_in_the_space_is_explained(space: list[str], said: str) -> None:
    with pytest.raises(UserError) as told:
        parse_space(space)
    assert said in str(told.value)


@pytest.mark.slow
def test_ends_that_cannot_be_are_told_at_once_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError) as told:
        make_search(write_recipe(tmp_path), ["model.kind=gru,gruu", "model.dropout=0.0..1.5", "model.num_layers=0..2"])
    for said in ("did you mean 'gru'", "dropout=1.5", "num_layers=0", "3 problems"):
        assert said in str(told.value)
    with pytest.raises(UserError, match="--trials"):
        make_search(write_recipe(tmp_path), [], trials=0)


@pytest.mark.slow
def test_without_a_space_it_is_around_the_recipes_own_settings(tmp_path: Path) -> None:
    search = make_search(write_recipe(tmp_path, model={"kind": "lstm", "hidden_size": 64, "dropout": 0.2}), [], steps=7)
    assert [str(d) for d in search.dimensions] == [
        "training.learning_rate=log:0.001..0.1", "model.hidden_size=32,64,128", "model.num_layers=1..2",
        "model.dropout=0.0..0.5",
    ]  # fmt: skip
    assert search.own_settings() == {
        "training.learning_rate": 0.01, "model.hidden_size": 64, "model.num_layers": 1, "model.dropout": 0.2,
    }  # fmt: skip
    assert search.trial({"model.hidden_size": 32}).model["hidden_size"] == 32
    assert search.recipe.training["steps"] == 7
    assert str(search.budget) == "7 updates"


@pytest.mark.slow
def test_every_recipe_of_ours_has_a_space_that_holds_its_own_settings() -> None:
    from components.recipe import read_recipe
    from components.runs.places import recipe_names, recipe_path

    seen = 0
    for name in recipe_names():
        recipe = read_recipe(recipe_path(name))
        dimensions = default_space(recipe)
        assert dimensions[0].holds(recipe.training["learning_rate"]), name
        seen += 1
    assert seen >= 12


# what was found


def tried(number: int, value: float, state: str = "complete") -> Tried:
    return Tried(number, {"model.x": number}, state, value, updates=10, run_id=f"id{number}")


@pytest.mark.slow
@pytest.mark.parametrize(("lower", "best", "path"), [(True, 3, [(0, 2.0), (1, 2.0), (3, 1.0)]),
                                                     (False, 1, [(0, 2.0), (1, 5.0), (3, 5.0)])])  # fmt: skip
def test_the_best_is_the_best_of_the_complete_trials(tmp_path: Path, lower: bool, best: int, path: list) -> None:
    trials = [tried(0, 2.0), tried(1, 5.0), tried(2, 0.1 if lower else 9.0, "pruned"), tried(3, 1.0),
              tried(4, math.nan, "failed")]  # fmt: skip
    found = Found("m", lower, trials, {"model.x": 0.7})
    assert found.best.number == best
    assert best_so_far(found) == path
    table = trials_table(found)
    assert table["trial"][0] == best
    assert table["state"][3:] == ["pruned", "failed"]
    for each in (found, Found("m", lower, []), Found("m", lower, trials[4:])):
        write_search(tmp_path / "t.png", each, title="t")
        with Image.open(tmp_path / "t.png") as image:
            pixels = np.asarray(image.convert("RGB"))
        blue = (pixels == (86, 180, 233)).all(axis=-1).sum()
        assert (blue > 50) == (each is found), "the complete trials are drawn"


# end to end: a real study, a real sqlite MLflow, Prefect; trials in this process unless said


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trials run in this process, where one can watch them; the list gets each one's file."""
    files: list[str] = []

    def run(self: Processes, command: list[str], **more: Any) -> tuple[int, str]:
        files.append(command[-1])
        return in_this_process(self, command, **more)

    monkeypatch.setattr(Processes, "run", run)
    return files


def test_trials_are_nested_pruned_ranked_by_val_and_never_see_test(home, here, monkeypatch) -> None:
    from components.datasets.store import Store
    from flows.cli import app
    from flows.study import tune

    read, split = [], Store.split
    monkeypatch.setattr(Store, "split", lambda self, name: (read.append(name), split(self, name))[1])
    path = write_recipe(home, "tuned", model=GRU)
    answer = tune(path, SPACE, 9, None, None, ["model.num_layers=1"], threads=1)
    assert set(read) == {"train", "val"}
    runs = children(answer.run_id)
    assert len(runs) == len(here) == 9
    states = {run.data.tags["tune.trial"]: run.info.status for run in runs}
    pruned = [run for run in runs if "pruned" in run.data.tags]
    assert pruned, "poor learning rates are cut short"
    assert {run.info.status for run in pruned} == {"KILLED"}
    assert sorted(states.values()) == ["FINISHED"] * (9 - len(pruned)) + ["KILLED"] * len(pruned)
    assert all(not key.startswith("test/") for run in runs for key in run.data.metrics)
    for run in runs:  # equal budgets, and a curve as far as it went
        steps = [point.step for point in client().get_metric_history(run.info.run_id, "val/nats_per_char")]
        assert steps == [5, 10, 15, 20][: len(steps)]
        assert len(steps) == 4 or run in pruned
    whole = {r.data.tags["tune.trial"]: r.data.metrics["best/nats_per_char"] for r in runs if r not in pruned}
    found = answer.found
    assert str(found.best.number) == min(whole, key=whole.get)
    assert found.best.value == pytest.approx(min(whole.values()))
    assert found.tried[0].settings == {"training.learning_rate": 0.01, "model.hidden_size": 8}, "the recipe's own first"
    assert set(found.importance) == {"training.learning_rate", "model.hidden_size"}
    assert sum(found.importance.values()) == pytest.approx(1.0)

    words = shlex.split(answer.command)
    assert words[:3] == ["reprise", "run", path]
    _, bound, _ = app.parse_args(words[1:], print_error=False, exit_on_error=False)
    assert bound.arguments["set"][0] == "model.num_layers=1"
    recipe = make_search(path, SPACE, bound.arguments["set"]).recipe
    assert recipe.training["learning_rate"] == found.best.settings["training.learning_rate"]
    best = next(run for run in runs if run.info.run_id == found.best.run_id)
    assert float(best.data.params["training.learning_rate"]) == recipe.training["learning_rate"]

    parent = client().get_run(answer.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best/nats_per_char"] == found.best.value
    assert answer.command in parent.data.tags["mlflow.note.content"]
    assert parent.data.tags["tune.best_run"] == found.best.run_id
    kept = {file.path for folder in ("", "figures") for file in client().list_artifacts(answer.run_id, folder)}
    assert {"trials.json", "recipe.yaml", "figures/tune.png"} <= kept
    shown = json.loads(Path(client().download_artifacts(answer.run_id, "trials.json", str(home))).read_text())
    assert len(shown["data"]) == 9
    assert not client().search_registered_models("name = 'tuned'"), "trials are not registered"

    again = tune(path, SPACE, 9, None, None, ["model.num_layers=1"], threads=1)
    assert (again.run_id, len(here), again.found.best) == (answer.run_id, 9, found.best), "nothing is done twice"
    more = tune(path, SPACE, 10, None, None, ["model.num_layers=1"], threads=1)
    assert (more.run_id, len(here), len(more.found.tried)) == (answer.run_id, 10, 10)


def test_a_stopped_search_goes_on_and_proposes_what_it_would_have(home, here, monkeypatch) -> None:
    from flows import study as module

    path = write_recipe(home, "halted", model=GRU)
    run, calls = Processes.run, []

    def stops(self: Processes, command: list[str], **more: Any) -> tuple[int, str]:
        calls.append(command[-1])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(self, command, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Processes, "run", stops)
        with pytest.raises(BaseException):  # noqa: B017 - Prefect may wrap the interruption
            module.tune(path, SPACE, 3, threads=1)
    stopped = module.tune(path, SPACE, 3, threads=1)
    assert [Path(file).stem for file in here] == ["0000", "0001", "0002"]
    assert len(children(stopped.run_id)) == 3
    fresh = module.tune(path, SPACE, 3, threads=1, fresh=True)
    assert fresh.run_id != stopped.run_id
    assert [(t.settings, t.value) for t in fresh.found.tried] == [(t.settings, t.value) for t in stopped.found.tried]


def test_a_trial_that_fails_is_told_and_loses_no_other(home, here) -> None:
    from flows.study import tune

    training = {**SECTIONS["training"], "optimizer": "sgd", "clip_norm": None, "steps": 40}
    path = write_recipe(home, "failing", training=training)
    answer = tune(path, ["training.learning_rate=0.01,1.0e+38"], 5, threads=1)
    states = {tried.settings["training.learning_rate"]: tried.state for tried in answer.found.tried}
    assert states == {0.01: "complete", 1e38: "failed"}
    assert any("NaN or infinite" in note for note in answer.notes)
    with pytest.raises(UserError, match="NaN or infinite"):
        tune(path, ["training.learning_rate=1.0e+37,1.0e+38"], 1)
    with pytest.raises(UserError, match="no validation split"):
        tune(path, [], 1, None, None, ["data.split=[0.9,0.0,0.1]"])


def test_two_trials_go_on_at_once_each_in_a_process_of_its_own(home, monkeypatch) -> None:
    """What such a process does is tested above and in test_compare.py: here it is a stub that waits for the other."""
    from components.runs.trial_file import TrialFile
    from flows.study import tune

    together, commands = threading.Barrier(2), []

    def run(self: Processes, command: list[str], **_: Any) -> tuple[int, str]:
        commands.append(command)
        together.wait(60)
        trial = TrialFile.load(Path(command[-1]))
        trial.metrics = {"val/nats_per_char": 1.0 + len(commands)}
        trial.save(Path(command[-1]))
        return 0, ""

    monkeypatch.setattr(Processes, "run", run)
    answer = tune(write_recipe(home, "parallel", model=GRU), SPACE, 2, threads=1, jobs=2)
    assert [command[:3] for command in commands] == [[sys.executable, "-m", "components.runs.trial"]] * 2
    assert [tried.state for tried in answer.found.tried] == ["complete", "complete"]
