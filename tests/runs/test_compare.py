"""Comparing settings: the plan is checked whole, the runs are real processes, and none is lost."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_recipes import SECTIONS, children, client, in_this_process, write_recipe

from components.errors import UserError
from components.runs.plan import label, make_plan, parse_budget, parse_vary
from components.runs.processes import Processes

ROOT = Path(__file__).resolve().parents[2]


# the plan


@pytest.mark.slow
def test_a_plan_holds_every_combination_with_every_seed_one_seed_after_the_other(tmp_path) -> None:
    path = write_recipe(tmp_path)
    plan = make_plan(path, ["model.kind=rnn,lstm", "model.num_layers=1,2"], seeds=2, budget="1.5m", steps=7)
    assert [(t.recipe.seed, t.recipe.model["kind"], t.recipe.model["num_layers"]) for t in plan.trials] == [
        (seed, kind, layers) for seed in (5, 6) for kind in ("rnn", "lstm") for layers in (1, 2)
    ]
    assert {(t.recipe.training["steps"], t.recipe.training["seconds"]) for t in plan.trials} == {(7, 90.0)}
    assert len({trial.name for trial in plan.trials}) == 8
    assert [trial.label for trial in plan.combinations][1] == "rnn, num_layers=2"
    assert str(plan.budget) == "90 s of training, or 7 updates"
    assert len({trial.recipe.digest for trial in plan.trials}) == 8


@pytest.mark.slow
def test_overrides_hold_and_varied_settings_win(tmp_path) -> None:
    path = write_recipe(tmp_path)
    overrides = ["model.hidden_size=4", "model.num_layers=3", "model.kind=gru"]
    plan = make_plan(path, ["model.kind=rnn,lstm"], seeds=1, overrides=overrides)
    models = [trial.recipe.model for trial in plan.trials]
    assert [(m["kind"], m["hidden_size"], m["num_layers"]) for m in models] == [("rnn", 4, 3), ("lstm", 4, 3)]
    assert not plan.budget.steps
    assert len(make_plan(path, [], seeds=3).trials) == 3, "seeds alone are a comparison too"


@pytest.mark.slow
def test_all_wrong_combinations_are_told_at_once_by_name(tmp_path) -> None:
    with pytest.raises(UserError) as told:
        make_plan(write_recipe(tmp_path), ["model.kind=lstm,lstmm", "model.num_layers=1,0"])
    message = str(told.value)
    assert "did you mean 'lstm'" in message
    assert "lstmm, num_layers=1; lstmm, num_layers=0" in message
    assert "model.num_layers" in message
    assert "[lstm, num_layers=0]" in message
    with pytest.raises(UserError, match="every combination"):
        make_plan(write_recipe(tmp_path), ["model.kind=lstm,gru"], overrides=["training.stepss=1"])


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"vary": ["model.kind"]}, "isn't KEY=VALUE,VALUE"),
        ({"vary": ["=1"]}, "isn't KEY=VALUE,VALUE"),
        ({"vary": ["model.kind="]}, "has no value"),
        ({"vary": ["model.kind=lstm", "model.kind=gru"]}, "given twice"),
        ({"vary": ["model.num_layers=1,1"]}, "duplicate value"),
        ({"vary": ["model.num_layers=1],[2"]}, "--vary model.num_layers"),
        ({"vary": ["model.num_layers=2020-01-01"]}, "can't be a setting"),
        ({"vary": ["model.num_layers=&a [*a]"]}, "aliases"),
        ({"vary": ["seed=1,2"]}, "use --seeds"),
        ({"vary": ["training.steps=1,2"], "steps": 3}, "--steps sets training.steps"),
        ({"vary": ["generation.top_k=1,2"]}, "has no effect on what is compared"),
        ({"vary": [], "budget": "5 minutes"}, "'5 minutes' isn't a duration"),
        ({"vary": [], "budget": "0s"}, "isn't a duration"),
        ({"vary": [], "seeds": 0}, "--seeds"),
        ({"vary": [], "workers": 0}, "--workers"),
        ({"vary": [], "steps": 0}, "training.steps"),
        ({"vary": [f"model.hidden_size={','.join(map(str, range(1, 400)))}"]}, "maximum of 1,000 runs"),
    ],
)
def test_a_mistake_in_what_to_compare_is_explained(tmp_path, given_, said) -> None:
    with pytest.raises(UserError) as told:
        make_plan(write_recipe(tmp_path), **given_)
    assert said in str(told.value)


VALUES = st.one_of(
    st.integers(-(10**9), 10**9), st.booleans(), st.none(), st.floats(1e-4, 1e4), st.text("abc, =[]'", max_size=6)
)


@pytest.mark.slow
@given(st.lists(VALUES, min_size=1, max_size=5, unique_by=json.dumps))
def test_varied_values_are_read_as_they_were_written(values) -> None:
    text = ",".join(json.dumps(value) for value in values)
    assert parse_vary([f"a.b={text}"]) == {"a.b": values}


def test_budgets_are_seconds_minutes_or_hours() -> None:
    assert [parse_budget(text) for text in ("90s", "5m", "1.5h")] == [90.0, 300.0, 5400.0]


def test_a_label_names_what_is_not_unique_by_its_whole_key() -> None:
    assert label({"model.kind": "gru", "training.learning_rate": 0.01}) == "gru, learning_rate=0.01"
    assert label({"model.kind": "gru", "encoding.kind": "words"}) == "model.kind=gru, encoding.kind=words"


def test_the_command_takes_several_settings_after_one_flag_and_starts_nothing_for_a_mistake(monkeypatch) -> None:
    from flows.commands import base, train

    words = "compare names --vary model.kind=rnn,gru model.num_layers=1,2 --vary seed=1 --budget 5m --workers 2"
    _, bound, _ = base.app.parse_args(words.split(), print_error=False, exit_on_error=False)
    assert bound.arguments["vary"] == ["model.kind=rnn,gru", "model.num_layers=1,2", "seed=1"]
    monkeypatch.setattr(train, "start_server", lambda **_: pytest.fail("a server was started"))
    with pytest.raises(UserError, match="use --seeds"):
        base.app(words.split(), result_action="return_value")


# processes that end with us

ENDS_WITH_INPUT = "import sys; print('begun', flush=True); sys.stdin.read(); print('told to stop')"


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen in time"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_process_gives_its_code_and_last_line(tmp_path) -> None:
    with Processes() as processes:
        command = [sys.executable, "-c", "print('one'); print('two'); raise SystemExit(7)"]
        assert processes.run(command, log=tmp_path / "log", cwd=tmp_path) == (7, "two")
    with pytest.raises(RuntimeError, match="stopped"):
        processes.run(command, log=tmp_path / "log", cwd=tmp_path)


@pytest.mark.slow
def test_leaving_the_block_stops_what_runs(tmp_path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    log = tmp_path / "log"
    with ThreadPoolExecutor() as threads:
        with Processes() as processes:
            command = [sys.executable, "-c", ENDS_WITH_INPUT]
            future = threads.submit(processes.run, command, log=log, cwd=tmp_path)
            wait_for(lambda: log.exists() and "begun" in log.read_text())
        assert future.result(timeout=60) == (0, "told to stop")


@pytest.mark.slow
def test_a_process_ends_when_its_owner_is_killed(tmp_path) -> None:
    """The owner blocks the signal, as a worker of Ray does, and its processes inherit that."""
    log, path = tmp_path / "log", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    child = (
        f"{path}import time; from components.runs.processes import end_with_input\n"
        "end_with_input(); print('begun', flush=True)\n"
        "try: time.sleep(120)\n"
        "except KeyboardInterrupt: print('told to stop')"
    )
    code = (
        f"{path}import signal; from pathlib import Path; from components.runs.processes import Processes\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        f"Processes().run([sys.executable, '-c', {child!r}], log=Path({str(log)!r}), cwd=Path.cwd())"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    wait_for(lambda: log.exists() and "begun" in log.read_text())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    wait_for(lambda: "told to stop" in log.read_text())


# end to end: real Prefect, a real sqlite MLflow, real processes


def test_settings_and_seeds_are_compared_beneath_one_run_and_a_failed_run_loses_no_other(home, monkeypatch) -> None:
    from components.runs.trial_file import TrialFile
    from flows.study import compare

    path = write_recipe(home, training={**SECTIONS["training"], "steps": 40, "optimizer": "sgd", "clip_norm": None})
    asked = (path, ["training.learning_rate=1.0e+38,0.1"], 2)
    apart, commands = Processes.run, []

    def run(self: Processes, command: list[str], **where: Any) -> tuple[int, str]:
        """The first seed's in processes of their own, which take most of the time; the second's the same way here."""
        commands.append(command)
        seed = TrialFile.load(Path(command[-1])).recipe["seed"]
        return (apart if seed == 5 else in_this_process)(self, command, **where)

    with monkeypatch.context() as patch:
        patch.setattr(Processes, "run", run)
        found = compare(*asked, workers=2)
    assert [command[:3] for command in commands] == [[sys.executable, "-m", "components.runs.trial"]] * 4
    good, bad = found.rows
    assert (good.label, bad.label) == ("learning_rate=0.1", "learning_rate=1e+38")
    runs = {run.info.run_name: run for run in children(found.run_id)}
    assert set(runs) == {f"{row.label}, seed {seed}" for row in found.rows for seed in (5, 6)}
    mine, lost = ([runs[f"{row.label}, seed {seed}"] for seed in (5, 6)] for row in (good, bad))
    assert {run.info.status for run in mine} == {"FINISHED"}
    assert {run.info.status for run in lost} == {"FAILED"}
    assert all("NaN or infinite" in run.data.tags["failed"] for run in lost)
    assert sum("NaN or infinite" in note for note in found.notes) == 2
    cores = len(os.sched_getaffinity(0))
    assert {run.data.params["threads"] for run in runs.values()} == {str(max(1, cores // 2))}
    assert len({run.data.tags["process.id"] for run in runs.values()}) == 3, "each in a process of its own, two here"
    val, test = ([run.data.metrics[f"{split}/nats_per_char"] for run in mine] for split in ("best", "test"))
    assert good.val == pytest.approx(statistics.fmean(val))
    assert good.test_sd == pytest.approx(statistics.stdev(test))

    parent = client().get_run(found.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best/nats_per_char"] == pytest.approx(good.val)
    assert parent.data.metrics["val_mean/learning_rate 0.1"] == pytest.approx(good.val)
    assert parent.data.tags["compare.best_run"] == mine[val.index(min(val))].info.run_id
    assert "| 1 | learning_rate=0.1 | 2 |" in parent.data.tags["mlflow.note.content"]
    assert parent.data.params["vary.training.learning_rate"] == "[1e+38, 0.1]"
    kept = {file.path for folder in ("", "figures") for file in client().list_artifacts(found.run_id, folder)}
    assert {"leaderboard.json", "runs.json", "figures/compare.png"} <= kept
    shown = json.loads(Path(client().download_artifacts(found.run_id, "leaderboard.json", str(home))).read_text())
    assert [row[shown["columns"].index("training.learning_rate")] for row in shown["data"]] == [0.1, 1e38]
    assert not client().search_registered_models(), "runs of a comparison are not registered"

    tried = []
    monkeypatch.setattr(Processes, "run", lambda self, command, **_: (tried.append(command[-1]), (2, "again"))[1])
    again = compare(*asked, workers=2)
    assert again.run_id == found.run_id
    assert (again.rows[0].val, again.rows[0].test) == (good.val, good.test), "what was finished is reused"
    assert {TrialFile.load(Path(file)).label for file in tried} == {bad.label}
    assert len(tried) == 2
    assert len(children(found.run_id)) == 4


def test_a_stopped_comparison_leaves_nothing_running_and_goes_on_where_it_was(home, monkeypatch) -> None:
    from components.runs.trial_file import TrialFile
    from components.training import trainer
    from flows import study as module

    path = write_recipe(home, "stopped", training={**SECTIONS["training"], "steps": 100_000})

    def trial_file() -> Path:
        (file,) = (f for f in (home / "comparisons").glob("*/000.json") if '"name": "stopped"' in f.read_text())
        return file

    def interrupted(*_: object) -> Iterator[None]:
        log = trial_file().with_suffix(".log")
        wait_for(lambda: log.exists() and "update     10" in log.read_text())
        raise KeyboardInterrupt
        yield

    with monkeypatch.context() as patch:
        patch.setattr(module, "as_completed", interrupted)
        with pytest.raises(BaseException):  # noqa: B017 - Prefect may wrap the interruption
            module.compare(path, [], 1, "80s")  # long enough to be stopped before, however busy the machine is
    stopped = TrialFile.load(trial_file())
    assert stopped.metrics is None
    states = [client().get_run(run).info.status for run in (stopped.run_id, stopped.parent)]
    assert states[0] == "KILLED"
    assert states[1] in ("KILLED", "FAILED")

    monkeypatch.setattr(Processes, "run", in_this_process)
    fast = SimpleNamespace(perf_counter=lambda: 40 * time.perf_counter())
    monkeypatch.setattr(trainer, "time", fast)  # the rest of the 80 seconds in two
    found = module.compare(path, [], 1, "80s")
    assert found.run_id == stopped.parent
    (done,) = found.rows[0].results
    assert done.run_id == stopped.run_id
    assert done.stopped == "the time limit of 80 seconds is reached"
    assert done.seconds >= 80
    assert found.rows[0].label == "the recipe"
    states = [client().get_run(run).info.status for run in (done.run_id, found.run_id)]
    assert states == ["FINISHED", "FINISHED"]
    points = {(p.step, p.value) for p in client().get_metric_history(done.run_id, "val/nats_per_char")}
    steps = {step for step, _ in points}
    assert 10 in steps, "before it was stopped"
    assert max(steps) > 10, "and after"
    assert len(points) == len({step for step, _ in points}), "a point told twice around the stop is the same point"


@pytest.mark.slow
def test_one_comparison_runs_once_at_a_time_and_a_fresh_one_begins_empty(tmp_path) -> None:
    from components.runs.study import alone

    folder = tmp_path / "it"
    with alone(folder, False):
        (folder / "parent").write_text("a run")
        with pytest.raises(UserError, match="already running"), alone(folder, False):
            pytest.fail("two at once")
    with alone(folder, False):
        assert (folder / "parent").exists()
    with alone(folder, True):
        assert not list(folder.iterdir())


def test_what_cannot_be_ranked_is_refused_before_any_training(home) -> None:
    from flows.study import compare

    path = write_recipe(home, "unranked")
    with pytest.raises(UserError, match="no validation split"):
        compare(path, ["model.kind=rnn,gru"], 1, None, None, ["data.split=[0.9,0.0,0.1]"])
    with pytest.raises(UserError, match=r"no validation split.*\n.*--set data\.join_val=false"):
        compare(path, ["model.kind=rnn,gru"], 1, None, None, ["data.join_val=true"])
    with pytest.raises(UserError, match="can't be ranked together"):
        compare(path, ["encoding.kind=characters,words"], 1)
    assert not [f for f in (home / "comparisons").glob("*/*.json") if "unranked" in f.read_text()]
