"""The registry from the command line: who is champion, the way back, and how two versions differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.bundle import load_bundle, save_bundle
from components.datasets.store import DatasetRef, Store
from components.errors import UserError
from components.recipe import Recipe
from components.runs import differences, models
from components.runs.places import places
from components.tracking import alias_log
from components.tracking.alias_log import AliasChange, earlier
from components.tracking.base import ModelRef
from components.tracking.mlflow_backend import MlflowStore, MlflowTracker
from components.tracking.promotion import lower_is_better, promotion_tags, shown_figure
from components.tracking.settings import Settings
from components.training.session import Session

pytest_plugins = ["tracking_fixtures"]
# MLflow 3.17 looking at an input example with pandas 3
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Operation with range is deprecated")]


@pytest.fixture
def registry(home_settings: Settings) -> MlflowStore:
    return MlflowStore(home_settings)


@pytest.fixture
def version(registry: MlflowStore, small_recipe: Callable, small_store: Callable, tmp_path: Path) -> Callable:
    """Registers an untrained model under a figure; `accept` and the rest are its recipe's."""

    def make(value: float, name: str = "small", seed: int = 5, **sections: dict) -> ModelRef:
        recipe: Recipe = small_recipe(**sections)
        store: Store = small_store(recipe)
        session = Session(Recipe(name, seed, *list(vars(recipe).values())[2:]), store, "cpu", 1)
        digest = store.manifest["digests"]["splits"]["test"]
        run = MlflowTracker(registry.settings).start(name, f"run-{value}", tags={})
        for context in ("train", "val", "test"):
            counts = store.manifest["counts"][context]
            run.dataset("own", store.manifest["digests"]["splits"][context], "own", counts, context)
        facts = {
            "framing": "sequences",
            "metrics": {"test/nats_per_char": value, "test/accuracy": 1 / (1 + value), "test/odd": value},
            "data": {"name": "own", "digest": digest},
        }
        folder = tmp_path / "bundles" / run.ref.run_id
        save_bundle(folder, name, session.model, session.encoding, session.recipe.as_dict(), facts)
        tags = promotion_tags("test/nats_per_char", value, digest) | {"data.digest": digest, "run.name": f"run-{value}"}
        ref = registry.register(run.ref, folder, name, tags=tags)
        run.finish()
        return ref

    return make


# the way back


@given(st.lists(st.one_of(st.integers(1, 5), st.just("back")), max_size=20))
def test_a_way_back_is_the_way_there_in_reverse(moves: list[int | str]) -> None:
    """Against a plain stack: promoting pushes, rolling back pops."""
    changes: list[AliasChange] = []
    stack: list[str] = []
    for move in moves:
        now = stack[-1] if stack else ""
        if move == "back":
            target = earlier(changes, "champion", now, "12345")
            assert target == (stack[-2] if len(stack) > 1 else None)
            if target:
                stack.pop()
                changes.append(AliasChange("champion", now, target, "me", "", back=True))
        elif str(move) != now:
            stack.append(str(move))
            changes.append(AliasChange("champion", now, str(move), "me", ""))
            changes.append(AliasChange("challenger", "", now, "me", ""))


def test_a_deleted_version_and_a_move_by_hand_are_stepped_over() -> None:
    path = [AliasChange("champion", before, after, "me", "") for before, after in (("", "1"), ("1", "2"), ("2", "3"))]
    assert earlier(path, "champion", "3", ["1", "3"]) == "1"
    assert earlier(path, "champion", "7", ["1", "2", "3", "7"]) == "3", "somebody made 7 champion in MLflow's UI"
    assert earlier([], "champion", "3", ["3"]) is None
    begun_later = [AliasChange("champion", "1", "2", "me", "")]
    assert earlier(begun_later, "champion", "2", ["1", "2"]) == "1", "a champion from before changes were recorded"


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=60), max_size=5), st.text(max_size=1000))
def test_changes_are_read_back_and_what_is_not_ours_is_left_out(foreign: dict[str, str], why: str) -> None:
    change = AliasChange("champion", "1", "2", "me", "2026-01-01T00:00:00Z", why, True)
    tags = foreign | dict([alias_log.as_tag(change, 5), ("alias.0000000000000009", "{}")])
    (read,) = alias_log.from_tags(tags)
    assert read.why == why[: alias_log.MAX_WHY_CHARACTERS]
    assert (read.before, read.after, read.back) == ("1", "2", True)


def test_promote_and_two_rollbacks_walk_back_through_the_champions(registry: MlflowStore, version: Callable) -> None:
    for value in (1.0, 2.0, 3.0):
        version(value)
    moved = [models.promote(f"small@{number}") for number in (1, 2, 3)]
    assert [(m.version, m.before) for m in moved] == [("1", ""), ("2", "1"), ("3", "2")]
    assert "doesn't beat the champion's 1" in moved[1].why, "a person may promote a worse one, and is told"
    assert "reprise rollback small" in moved[2].lines()[-1]
    assert models.rollback("small").version == "2"
    back = models.rollback("small")
    assert (back.version, back.before) == ("1", "2")
    assert registry.champion("small").version == "1"
    with pytest.raises(UserError, match="no earlier champion than v1"):
        models.rollback("small")
    changes = registry.alias_changes("small")
    assert [(c.before, c.after, c.back) for c in changes] == [
        ("", "1", False), ("1", "2", False), ("2", "3", False), ("3", "2", True), ("2", "1", True),
    ]  # fmt: skip
    assert all(change.by and change.at.endswith("Z") for change in changes)


def test_the_record_of_changes_is_bounded(registry: MlflowStore, version: Callable, monkeypatch) -> None:
    monkeypatch.setattr(alias_log, "KEPT", 3)
    refs = [version(1.0), version(2.0)]
    for number in range(5):
        registry.set_alias(refs[number % 2], "champion")
    registry.set_alias(refs[0], "champion")
    assert [(c.before, c.after) for c in registry.alias_changes("small")] == [("2", "1"), ("1", "2"), ("2", "1")]


def test_a_promoted_challenger_is_no_challenger_any_more_and_that_is_recorded(registry, version) -> None:
    registry.set_alias(version(1.0), "champion", why="first")
    registry.set_alias(version(2.0), "challenger", why="worse")
    models.promote("small@challenger")
    assert [facts.aliases for facts in registry.versions("small")] == [("champion",), ()]
    last = registry.alias_changes("small")[-1]
    assert (last.alias, last.before, last.after) == ("challenger", "2", "")


def test_what_cannot_be_promoted_is_refused_with_the_reason(version) -> None:
    version(1.0)
    models.promote("small@1")
    for selector, said in (
        ("small@7", "no version '7'"),
        ("small", "doesn't name a version"),
        ("smal@1", "choices: small"),
        ("small@1", "is already the champion"),
        ("run:abcdef12", "no run"),
        ("../x@1", "unknown model"),
    ):
        with pytest.raises(UserError, match=said):
            models.promote(selector)


def test_accept_refuses_a_champion_unless_it_is_forced(registry: MlflowStore, version: Callable) -> None:
    version(3.0, accept={"test/nats_per_char": "< 2"})
    with pytest.raises(UserError, match=r"accept bounds: test/nats_per_char is 3, but accept requires < 2"):
        models.promote("small@1")
    assert registry.champion("small") is None
    moved = models.promote("small@1", force=True)
    assert "accept requires < 2" in moved.note
    assert "accept requires < 2" in registry.alias_changes("small")[-1].why


def test_a_run_that_accept_refused_is_registered_by_force_alone(
    registry: MlflowStore, small_recipe: Callable, small_store: Callable
) -> None:
    from components.runs.record import RunRecord

    recipe = small_recipe(accept={"test/nats_per_char": "< 2"})
    store = small_store(recipe)
    run = MlflowTracker(registry.settings).start("small", "refused", tags={})
    folder = places().run_folder(run.ref.run_id)
    RunRecord(recipe, DatasetRef(str(store.path), "d" * 64), run.ref, "refused", "cpu", 1).save(folder)
    selector = f"run:{run.ref.run_id[:8]}"
    with pytest.raises(UserError, match="has no model yet"):
        models.promote(selector)
    session = Session(recipe, store, "cpu", 1)
    facts = {"framing": "sequences", "metrics": {"test/nats_per_char": 3.0}, "data": {"name": "own", "digest": "d"}}
    save_bundle(folder / "bundle", "small", session.model, session.encoding, recipe.as_dict(), facts)
    with pytest.raises(UserError, match="accept requires < 2"):
        models.promote(selector)
    assert not registry.names()
    assert models.promote(selector, force=True).version == "1"
    (only,) = registry.versions("small")
    assert only.tags["primary.value"] == "3.0"
    assert only.tags["test.digest"] == store.manifest["digests"]["splits"]["test"]
    run.finish()


# the commands


def run_command(words: str, capsys) -> str:
    from flows.commands import models as _  # noqa: F401 - importing a command makes it one
    from flows.commands.base import app

    app(words.split(), result_action="return_value")
    return capsys.readouterr().out


def test_models_are_listed_with_figure_unit_data_and_run(registry, version, capsys, monkeypatch) -> None:
    from components.console import out

    monkeypatch.setattr(out, "width", 200)
    assert "reprise run chorales" in run_command("models", capsys), "an empty registry says what to do"
    version(1.5)
    version(1.25, name="other")
    models.promote("small@1")
    shown = run_command("models", capsys)
    assert "1.5000 nats/char" in shown
    assert "champion v1" in shown
    listed = {model["name"]: model for model in json.loads(run_command("models --json", capsys))}
    assert (listed["small"]["versions"], listed["small"]["aliases"], listed["small"]["value"]) == (
        1,
        {"champion": "1"},
        1.5,
    )
    assert listed["other"]["aliases"] == {}
    assert len(listed["small"]["data_digest"]) == 64
    shown = run_command("models small", capsys)
    assert "run-1.5" in shown
    assert "champion none → v1" in shown
    (one,) = json.loads(run_command("models small --json", capsys))
    assert one["aliases"] == ["champion"]
    with pytest.raises(UserError, match="Did you mean 'small'"):
        run_command("models smal", capsys)


def test_promote_and_rollback_speak_json(version, capsys) -> None:
    version(1.0), version(2.0)
    run_command("promote small@1", capsys)
    moved = json.loads(run_command("promote small@2 --json", capsys))
    assert (moved["version"], moved["before"]) == ("2", "1")
    assert json.loads(run_command("rollback small --json", capsys))["version"] == "1"


@pytest.mark.parametrize(
    ("tags", "shown"),
    [
        (promotion_tags("test/nats_per_char", 1.96899, ""), "1.9690 nats/char"),
        (promotion_tags("val/accuracy", 0.5, ""), "0.5000 accuracy (val)"),
        ({}, ""),
        ({"primary.metric": "test/x", "primary.value": "much"}, "nan x"),
    ],
)
def test_a_figure_is_shown_with_its_unit(tags: dict[str, str], shown: str) -> None:
    assert shown_figure(tags) == shown


def test_the_better_direction_is_known_by_the_metrics_name_or_not_at_all() -> None:
    names = {"test/nats_per_char": True, "macro_f1": False, "val/beam_cer": True, "bleu": False, "mse": True,
             "whole_sequences_right": False, "odd": None, "accuracy_error": None}  # fmt: skip
    assert {name: lower_is_better(name) for name in names} == names


# differences


def test_a_diff_names_what_differs_and_which_is_better(version, capsys, monkeypatch) -> None:
    from components.console import out

    monkeypatch.setattr(out, "width", 200)
    version(2.0, seed=1)
    version(1.5, seed=1, model={"hidden_size": 16}, training={"learning_rate": 0.5})
    found = json.loads(run_command("diff small@1 small@2 --seed 3 --json", capsys))
    assert found["recipe"] == {"model.hidden_size": [12, 16], "training.learning_rate": [0.01, 0.5]}
    assert found["metrics"]["test/nats_per_char"] == {"values": [2.0, 1.5], "change": -0.5, "verdict": "better"}
    assert found["metrics"]["test/accuracy"]["verdict"] == "better"
    assert found["metrics"]["test/odd"]["verdict"] == "", "which way is better isn't known"
    assert found["data"]["digest"][0] == found["data"]["digest"][1]
    assert found["data"]["train sequences"][0] > 0
    assert [len(pair) for pair in found["samples"]] == [2, 2]
    assert found["samples"] == differences.between("small@1", "small@2", seed=3)["samples"], "same seed, same samples"
    back = differences.between("small@2", "small@1", seed=3)
    assert back["metrics"]["test/nats_per_char"]["verdict"] == "worse"
    assert back["samples"] == [pair[::-1] for pair in found["samples"]]
    shown = run_command("diff small@1 small@2", capsys)
    assert "model.hidden_size" in shown
    assert "test/nats_per_char" in shown
    with pytest.raises(UserError, match="are the same version, small v1"):
        run_command("diff small@1 small@v1", capsys)


def test_models_on_other_data_are_said_to_be_incomparable(version) -> None:
    version(2.0)
    version(1.5, framing="stream")
    found = differences.between("small@1", "small@2")
    assert any("different test data" in note for note in found["notes"])


def test_answers_to_the_same_inputs_stand_side_by_side(registry: MlflowStore) -> None:
    refs, rows = [], [["a", "x", "x"], ["b", "y", "x"], ["c", "y", "y"]]
    for number, predicted in enumerate((["x", "x", "y"], ["x", "y", "z"])):
        run = MlflowTracker(registry.settings).start("small", f"run {number}", tags={})
        table = [[*row[:2], said] for row, said in zip(rows, predicted, strict=True)][:: -1 if number else 1]
        run.table({name: [row[i] for row in table] for i, name in enumerate(("input", "label", "predicted"))},
                  differences.PREDICTIONS)  # fmt: skip
        run.finish()
        refs.append(ModelRef("small", str(number), run.ref.run_id))
    said: dict = {"notes": []}
    differences._compare_answers(tuple(refs), said)
    assert (said["compared"], said["different"]) == (3, 2)
    assert said["answers"] == [["b", "y", "x", "y"], ["c", "y", "y", "z"]]
    differences._compare_answers((refs[0], ModelRef("small", "9", "0" * 32)), said)
    assert "has no predictions/test.json" in said["notes"][0]


# models of other machines


def test_nothing_in_a_bundle_says_on_which_device_it_was_trained(version, registry) -> None:
    """So that a model from a GPU loads on a CPU: weights are tensors without a device, and no setting names one."""
    folder = registry.fetch(version(1.0))
    seen = 0
    for path in folder.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert '"device"' not in text
        assert "cuda" not in text
        seen += 1
    raw = (folder / "weights.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert {key for name, entry in header.items() if name != "__metadata__" for key in entry} == {
        "dtype", "shape", "data_offsets",
    }  # fmt: skip
    assert seen == 3
    assert {p.device.type for p in load_bundle(folder).model.parameters()} == {"cpu"}
