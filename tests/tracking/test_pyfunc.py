"""The served model: bounded, refuses what it doesn't know, runs from its own code without pickle."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, load_model

from components.answers import input_of, read
from components.bounds import MAX_CHARACTERS, MAX_LENGTH, MAX_PROMPTS
from components.bundle import Bundle, load_bundle, save_bundle
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.doubts import Doubts
from components.errors import UserError
from components.recipe import Recipe
from components.score import Note, Part, Score
from components.tracking.pyfunc import PARAMS, save_served_model
from components.training.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Operation with range is deprecated")]

CHORALE = Score((Part("Soprano", (Note(0, 4, 60), Note(4, 4, 67))),), length_steps=8)


class FakeBundle:
    """Writes as a bundle does, with what it was asked for as its text."""

    task = SimpleNamespace(settings=object)
    recipe = {"generation": {"prompt": ""}}

    def __init__(self, item: Any = None) -> None:
        self.item = item

    def generate(self, overrides: Mapping[str, Any], *, seed: int) -> SimpleNamespace:
        if overrides["prompt"] == "ß":
            raise UserError("'ß' isn't in the vocabulary", where="generation.prompt")
        text = f"{overrides['prompt']}|{sorted(overrides.items())}|{seed}"
        return SimpleNamespace(
            items=[self.item or text] * overrides.get("count", 2), warnings=["odd"] * (text[0] == "€")
        )


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = types.ModuleType("components.bundle")
    module.load_bundle = lambda folder: FakeBundle()
    monkeypatch.setitem(sys.modules, "components.bundle", module)
    return module


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    (root / "bundle").mkdir()
    (root / "bundle" / "recipe.json").write_text("{}")
    save_served_model(root / "bundle", root / "model", Model())
    return root / "model"


@pytest.fixture
def model(module: types.ModuleType, saved: Path) -> PyFuncModel:
    return load_model(str(saved))


def prompts(*texts: str) -> pd.DataFrame:
    return pd.DataFrame({"prompt": list(texts)})


@pytest.mark.slow
def test_each_prompt_gives_count_rows_in_order(model: PyFuncModel) -> None:
    rows = model.predict(prompts("a", "b"), params={"count": 3, "seed": 5})
    assert list(rows["prompt"]) == ["a"] * 3 + ["b"] * 3
    assert list(rows["index"]) == [0, 1, 2] * 2
    assert set(rows["seed"]) == {5}


@pytest.mark.slow
def test_only_what_was_given_overrides_the_models_recipe(model: PyFuncModel) -> None:
    rows = model.predict(prompts("a"), params={"temperature": 0.5, "top_k": 3, "seed": 1})
    assert rows["text"][0] == "a|[('prompt', 'a'), ('temperature', 0.5), ('top_k', 3)]|1"


def test_what_the_bundle_warns_of_is_told(model: PyFuncModel) -> None:
    with pytest.warns(UserWarning, match="^odd$"):
        model.predict(prompts("€"))


def test_without_a_seed_a_fresh_one_is_drawn_and_told(model: PyFuncModel) -> None:
    first, second = (model.predict(prompts("a")) for _ in range(2))
    assert first["seed"][0] != second["seed"][0]
    again = model.predict(prompts("a"), params={"seed": int(first["seed"][0])})
    assert again.equals(first)


@pytest.mark.parametrize(("given", "meant"), [("temprature", "temperature"), ("topp", "top_p"), ("n", "choices")])
def test_a_misspelt_param_is_refused_and_the_next_call_goes_well(model: PyFuncModel, given: str, meant: str) -> None:
    with pytest.raises(MlflowException, match=meant) as caught:
        model.predict(prompts("a"), params={given: 1.0})
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert len(model.predict(prompts("a"))) == 2


def test_a_model_loaded_twice_still_refuses(model: PyFuncModel, saved: Path) -> None:
    for each in (model, load_model(str(saved)), model):
        with pytest.raises(MlflowException, match="temperature"):
            each.predict(prompts("a"), params={"temprature": 1.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 65), ("count", 0), ("max_length", MAX_LENGTH + 1), ("temperature", -0.1), ("temperature", float("nan")),
     ("top_p", 1.5), ("top_k", -1), ("seed", -1)],
)  # fmt: skip
def test_params_are_bounded(model: PyFuncModel, name: str, value: float) -> None:
    with pytest.raises(MlflowException, match=rf"params\.{name}: must be from"):
        model.predict(prompts("a"), params={name: value})


@pytest.mark.parametrize("value", ["many", [1], 1.5])
def test_params_of_another_type_are_refused(model: PyFuncModel, value: Any) -> None:
    with pytest.raises(MlflowException, match="count"):
        model.predict(prompts("a"), params={"count": value})


def test_prompts_are_bounded(model: PyFuncModel) -> None:
    assert len(model.predict(prompts("x" * MAX_CHARACTERS), params={"count": 1})) == 1
    with pytest.raises(MlflowException, match=r"input\.prompt\[1\]"):
        model.predict(prompts("a", "x" * (MAX_CHARACTERS + 1)))
    with pytest.raises(MlflowException, match="65 prompts"):
        model.predict(prompts(*["a"] * (MAX_PROMPTS + 1)))
    with pytest.raises(MlflowException, match="prompt"):
        model.predict(pd.DataFrame({"promt": ["a"]}))


def test_prompts_may_come_as_a_dictionary_of_lists_but_only_as_text(model: PyFuncModel) -> None:
    rows = model.predict({"prompt": ["a", "b"]}, params={"count": 1})
    assert list(rows["prompt"]) == ["a", "b"]
    for wrong in ([1], [None], [b"a"]):
        with pytest.raises(MlflowException):
            model.predict({"prompt": wrong})


def test_what_the_bundle_refuses_is_a_wrong_request(model: PyFuncModel) -> None:
    with pytest.raises(MlflowException, match="isn't in the vocabulary") as caught:
        model.predict(prompts("ß"))
    assert caught.value.get_http_status_code() == 400


def test_over_http_a_misspelt_param_is_status_400(model: PyFuncModel) -> None:
    import httpx
    from mlflow.pyfunc.scoring_server import init

    request = {"dataframe_split": {"columns": ["prompt"], "data": [["a"]]}, "params": {"count": 1, "seed": 3}}

    async def post(body: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(init(model))
        async with httpx.AsyncClient(transport=transport, base_url="http://served") as client:
            return await client.post("/invocations", json=body)

    answer = asyncio.run(post(request))
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["seed"] == 3
    answer = asyncio.run(post(request | {"params": {"temprature": 1.0}}))
    assert answer.status_code == 400
    assert "'temperature'" in answer.text


HALF = pd.DataFrame({name: pd.Series(["a\ud800"], dtype=object) for name in ("prompt", "input")})


def test_half_a_surrogate_pair_is_a_wrong_request(model: PyFuncModel) -> None:
    with pytest.raises(MlflowException, match="half of a surrogate pair") as caught:
        model.predict(HALF[["prompt"]])
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_score_comes_as_readable_text_and_a_midi_file(module: types.ModuleType, saved: Path) -> None:
    module.load_bundle = lambda folder: FakeBundle(CHORALE)
    rows = load_model(str(saved)).predict(prompts(""), params={"count": 1})
    assert rows["text"][0].startswith("Soprano: C")
    assert base64.b64decode(rows["midi_base64"][0]).startswith(b"MThd")


def test_the_schema_names_every_param_without_a_default(saved: Path) -> None:
    schema = Model.load(str(saved)).get_params_schema()
    assert {param.name: param.default for param in schema.params} == dict.fromkeys(PARAMS)


ELSEWHERE = """
import sys, types
import mlflow.pyfunc
module = types.ModuleType("components.bundle")
class Bundle:
    task = types.SimpleNamespace(settings=object)
    recipe = {"generation": {"prompt": ""}}
    def generate(self, overrides, *, seed):
        return types.SimpleNamespace(items=["made from " + overrides["prompt"]], warnings=[])
module.load_bundle = lambda folder: Bundle()
sys.modules["components.bundle"] = module
model = mlflow.pyfunc.load_model(sys.argv[1])
print(model.predict({"prompt": ["a prompt"]})["text"][0])
import components.errors
print(components.errors.__file__)
"""


@pytest.mark.slow
def test_it_loads_elsewhere_from_its_own_code_with_pickle_forbidden(saved: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(saved)],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    text, where = done.stdout.splitlines()
    assert text == "made from a prompt"
    assert Path(where).is_relative_to(saved)


LABELLED = "text,label\n" + "".join(f"word{n} is {'good' if n % 2 else 'bad'},{n % 2}\n" for n in range(60))
ANSWERING = {
    "classification": ("table", {"kind": "words"}, {"kind": "labels"}),
    "regression": ("adding", {"kind": "frames"}, {"kind": "frames"}),
    "tagging": ("copy-memory", {"kind": "symbols"}, {"kind": "labels"}),
}
# as long as those of training (lag 4): another length is refused
FRAMES = [[[0.1, 0.0], [0.2, 1.0], [0.3, 1.0], [0.4, 0.0]], [[0.5, 1.0], [0.5, 0.0], [0.25, 1.0], [0.0, 0.0]]]
INPUTS: dict[str, list[Any]] = {
    "classification": ["word1 is good", "bad"],
    "regression": FRAMES,
    "tagging": [["a", "b", "?"], ["-"]],
}


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Bundle, PyFuncModel]]:
    """An untrained bundle of each task that answers, and the model that MLflow loads of it."""
    made = {}
    for task, (reader, inputs, target) in ANSWERING.items():
        root = tmp_path_factory.mktemp(task)
        (root / "t.csv").write_text(LABELLED)
        data = {"reader": reader, **({"path": str(root / "t.csv")} if reader == "table" else {"lag": 4, "count": 40})}
        values = {
            "data": data,
            "encoding": {"kind": "pair", "input": inputs, "target": target},
            "task": {"kind": task},
            "model": {"kind": "gru", "hidden_size": 6},
        }
        recipe = Recipe.from_dict(task, values)
        ref = ingest(recipe.data, recipe.encoding, root=root, cache_dir=root / "cache", seed=0)
        session = Session(recipe, Store.open(ref.path), "cpu", 1)
        facts = {"framing": "sequences"}
        save_bundle(root / "bundle", task, session.model, session.encoding, recipe.as_dict(), facts)
        save_served_model(root / "bundle", root / "model", Model())
        made[task] = load_bundle(root / "bundle"), load_model(str(root / "model"))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("task", ANSWERING)
def test_a_model_that_answers_gives_a_row_for_each_input(answering: Any, task: str) -> None:
    bundle, model = answering[task]
    rows = model.predict(pd.DataFrame({"input": INPUTS[task]}))
    items = [np.array(one) for one in INPUTS[task]] if task == "regression" else INPUTS[task]
    if task == "classification":  # a first word may be known after a blank alone
        items = [read(input_of(bundle.encoding), one, "", Doubts()) for one in items]
    wanted = bundle.predict(items)
    if task == "classification":
        assert list(rows.columns) == ["label", "probability"]
        assert rows.to_dict("records") == wanted
    else:
        (column,) = rows.columns
        assert column == {"regression": "values", "tagging": "tags"}[task]
        for said, answer in zip(rows[column], wanted, strict=True):
            assert list(said) == answer
    assert set(model.metadata.signature.outputs.input_names()) == set(rows.columns)


@pytest.mark.slow
@pytest.mark.parametrize("task", ANSWERING)
def test_over_http_it_answers_what_it_answers_here(answering: Any, task: str) -> None:
    import httpx
    from mlflow.pyfunc.scoring_server import init

    _, model = answering[task]

    async def post(body: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(init(model))
        async with httpx.AsyncClient(transport=transport, base_url="http://served") as client:
            return await client.post("/invocations", json=body)

    body = {"dataframe_split": {"columns": ["input"], "data": [[one] for one in INPUTS[task]]}}
    answer = asyncio.run(post(body))
    assert answer.status_code == 200, answer.text
    here = model.predict(pd.DataFrame({"input": INPUTS[task]}))
    for row, (_, wanted) in zip(answer.json()["predictions"], here.iterrows(), strict=True):
        for name, value in row.items():
            expected = wanted[name]
            close = isinstance(expected, float)
            assert value == (
                pytest.approx(expected) if close else expected if isinstance(expected, str) else list(expected)
            )
    assert asyncio.run(post(body | {"params": {"temperature": 1.0}})).status_code == 400


def test_a_wrong_question_is_a_wrong_request(answering: Any) -> None:
    _, model = answering["classification"]
    wrong = [
        {"input": [""]},
        {"input": ["x" * (MAX_CHARACTERS + 1)]},
        {"prompt": ["a"]},
        {"input": [3]},
    ]
    for question in wrong:
        with pytest.raises(MlflowException) as caught:
            model.predict(pd.DataFrame(question))
        assert caught.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="half of a surrogate pair"):
        model.predict(HALF[["input"]])
    with pytest.warns(UserWarning, match=r"^the model knows no word of it.* \(input\.input\[1\]\)"):
        model.predict(pd.DataFrame({"input": ["word1 is good", "zz"]}))
    with pytest.raises(MlflowException, match="can't read it"):
        answering["regression"][1].predict(pd.DataFrame({"input": [[[1.0, 2.0, 3.0]]]}))
    with pytest.raises(MlflowException, match="take no params"):
        model.predict(pd.DataFrame({"input": ["a"]}), params={"seed": 1})
    assert len(model.predict(pd.DataFrame({"input": ["a"]}))) == 1, "the next call goes well"
