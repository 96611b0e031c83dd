"""The JSON Schema of recipes takes what the checks take, and refuses what they refuse, as far as it says it does."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from components.errors import UserError
from components.recipe import Recipe, load_yaml
from components.recipe_schema import recipe_schema
from components.runs.places import RECIPES, recipe_names

GRAPH = {
    "data": {"dataset": "names"},
    "encoding": {"kind": "characters"},
    "task": {"kind": "language_model"},
    "model": {
        "kind": "graph",
        "layers": {
            "embed": {"layer": "embedding", "of": "tokens", "size": 8},
            "memory": {"layer": "gru", "of": ["embed"], "hidden_size": 8},
            "block": {
                "layer": "graph",
                "of": "memory",
                "layers": {"inner": {"layer": "gru", "of": "input", "hidden_size": 8}},
                "output": "inner",
            },
            "again": {"share": "memory", "of": "block"},
            "logits": {"layer": "linear", "of": "again"},
        },
    },
}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(json.dumps(recipe_schema()))


@pytest.fixture(scope="module")
def validator(schema) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@cache
def shipped() -> dict[str, dict[str, Any]]:
    return {name: load_yaml(RECIPES / f"{name}.yaml") for name in recipe_names()} | {"graph": GRAPH}


def checked(values: dict[str, Any]) -> bool:
    try:
        Recipe.from_dict("mine", values)
    except UserError:
        return False
    return True


def put(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    *path, last = key.split(".")
    node = changed
    for part in path:
        node = node.setdefault(part, {})
    node[last] = value
    return changed


WRONG = [
    ("modle", {}),
    ("model", 3),
    ("seed", -1),
    ("seed", "one"),
    ("data.reeder", "text"),
    ("data.dataset", "nmaes"),
    ("data.reader", "txt"),
    ("data.split", [0.8, 0.2]),
    ("data.path", 7),
    ("encoding.kind", "charcters"),
    ("encoding.lowercas", True),
    ("task.kind", "translate"),
    ("task.kindd", "x"),
    ("model.kind", "lstmm"),
    ("model.hiden_size", 8),
    ("model.hidden_size", 0),
    ("model.hidden_size", "many"),
    ("model.dropout", 1.0),
    ("model.bidirectional", "yes"),
    ("training.steps", 10.5),
    ("training.steps", 0),
    ("training.optimizer", "adamm"),
    ("training.clip_norm", "none"),
    ("training.stepps", 3),
    ("evaluation.every", 0),
    ("evaluation.evry", 1),
    ("generation.temprature", 1.0),
    ("generation.count", "three"),
    ("accept", {"test/nats": "less"}),
    ("accept", {"test/nats": 1.0}),
]


@pytest.mark.slow
def test_every_shipped_recipe_is_valid_as_written_and_as_shown(validator) -> None:
    recipes = shipped()
    assert len(recipes) > 20
    for name, values in recipes.items():
        assert not [error.message for error in validator.iter_errors(values)], name
        shown = json.loads(json.dumps(Recipe.from_dict(name, values).as_dict()))
        assert not [error.message for error in validator.iter_errors(shown)], f"reprise show {name}"


@pytest.mark.parametrize(("key", "value"), WRONG, ids=[f"{key}={value}" for key, value in WRONG])
@pytest.mark.parametrize("name", ["names", "sentiment", "jazz", "graph"])
def test_what_is_wrong_for_the_checks_is_wrong_for_the_schema(validator, name, key, value) -> None:
    values = put(shipped()[name], key, value)
    assert not checked(values), "else it tests nothing"
    assert not validator.is_valid(values)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("names", "model.pooling", "max"),  # of a task that answers
        ("names", "model.forget_bias", 1.0),  # of an LSTM
        ("sentiment", "generation.temperature", 1.0),  # it writes nothing
        ("names", "data.header", True),  # of another reader: the card's is lines
        ("adding-problem", "data.path", "mine.csv"),  # makes its data itself
        ("sentiment", "encoding.input", {"kind": "tokens", "waves": 3}),
        ("sentiment", "encoding.input", {"kind": "nosuch"}),
        ("sentiment", "encoding", {"kind": "pair", "input": {"kind": "tokens"}}),
        ("graph", "model.layers.memory.sizes", 3),
        ("graph", "model.layers.memory.layer", "linnear"),
        ("graph", "model.layers.embed", {"layer": "embedding", "of": "tokens"}),  # without its size
        ("graph", "model.layers.again.hidden_size", 3),  # shares memory's
        ("graph", "model.layers.block.layers.inner", {"layer": "gru"}),  # reads nothing
        ("graph", "model.layers", {}),
    ],
)
def test_settings_go_with_what_a_section_names(validator, name, key, value) -> None:
    values = put(shipped()[name], key, value)
    assert not checked(values)
    assert not validator.is_valid(values)


@pytest.mark.slow
def test_an_editor_that_knows_draft_7_alone_says_the_same(schema) -> None:
    older = Draft7Validator({key: value for key, value in schema.items() if key != "$schema"})
    for name in ("names", "sentiment", "jazz", "graph"):
        assert older.is_valid(shipped()[name])
        assert not [(key, value) for key, value in WRONG if older.is_valid(put(shipped()[name], key, value))]


@pytest.mark.parametrize("section", ["data", "encoding", "task", "model"])
def test_a_section_that_must_be_there_is_asked_for(validator, section) -> None:
    values = {key: value for key, value in shipped()["names"].items() if key != section}
    assert not checked(values)
    assert not validator.is_valid(values)


@pytest.mark.slow
def test_what_may_be_left_out_or_empty_may(validator, tmp_path) -> None:
    for values in (
        {key: value for key, value in shipped()["names"].items() if key in ("data", "encoding", "task", "model")},
        put(put(shipped()["names"], "training", None), "accept", None),
        put(shipped()["names"], "training.clip_norm", None),
        put(shipped()["names"], "data", {"path": str(tmp_path), "reader": "lines", "unique": False}),
        put(shipped()["shakespeare-chars"], "data", {"path": {"train": "a.txt", "test": "b.txt"}, "coding": "latin-1"}),
    ):
        assert checked(values)
        assert validator.is_valid(values)


def options(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from ((name, found) for name, found in schema["$defs"].items() if "default" in found)


def test_defaults_are_valid_and_most_settings_are_described(schema) -> None:
    count = 0
    for name, found in options(schema):
        Draft202012Validator(found).validate(found["default"])
        count += 1
        assert not found.get("description", "x").endswith(";"), name
    assert count > 150, "the guard must see the options"
    described = sum("description" in found for _, found in options(schema))
    assert described > 0.5 * count
    assert "reset gate" in schema["$defs"]["layers.gru.GRU.reset_after"]["description"]
    assert schema["$defs"]["training.trainer.Trainer.steps"]["exclusiveMinimum"] == 0


def test_nothing_is_referred_to_that_is_not_there(schema) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"].removeprefix("#/$defs/")
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    used = set(references(schema))
    assert used == set(schema["$defs"])


@pytest.mark.slow
def test_the_command_prints_it(schema, capsys) -> None:
    from flows.commands.look import schema as command

    command()
    assert json.loads(capsys.readouterr().out) == schema
