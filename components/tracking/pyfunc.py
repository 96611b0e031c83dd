"""The MLflow model of a registered model: this file, the bundle and the code, without pickle.

MLflow copies this file into the model and runs it when the model is loaded ("models from code"). The model's copy of
`components` is then on the path.
"""

from __future__ import annotations

import base64
import contextvars
import json
import logging
import math
import re
import secrets
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature, set_model
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map, Object, Property

from components.answers import answered, checked_text, input_of, read, splits
from components.bounds import MAX_COUNT, MAX_INPUTS, MAX_LENGTH, MAX_PROMPTS, MAX_SOUND_CHARACTERS
from components.encodings.base import Encoding
from components.encodings.doubts import Doubts
from components.encodings.pair import make
from components.errors import UserError, unknown
from components.ink import Ink
from components.registry import resolve

# param → (MLflow's type, minimum, maximum); default: the value in the model's recipe
PARAMS: dict[str, tuple[str, float, float]] = {
    "temperature": ("double", 0.0, 10.0),
    "top_k": ("long", 0, 2**31),
    "top_p": ("double", 0.0, 1.0),
    "max_length": ("long", 1, MAX_LENGTH),
    "count": ("long", 1, MAX_COUNT),
    "seed": ("long", 0, 2**63 - 1),
}
# type in `Task.columns` → MLflow's type
TYPES: dict[str, Any] = {
    "text": "string",
    "number": "double",
    "whole": "long",
    "texts": Array("string"),
    "numbers": Array("double"),
}
SILENCE = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA=="  # a WAV file of one sample
EXAMPLES: dict[str, Any] = {
    "text": "The",
    "symbols": ["a"],
    "audio": SILENCE,
    "series": {"start": "2024-01-01", "values": [1.0, 2.0]},
}
SERIES = Object(
    [
        Property("values", Array("double")),
        Property("start", "string", required=False),
        Property("times", Array("string"), required=False),
        Property("covariates", Map(Array("double")), required=False),
        Property("name", "string", required=False),
    ]
)
# packages to load the bundle, pinned to the versions at registration
REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "pydantic", "PyYAML", "safetensors", "music21")


def signature() -> ModelSignature:
    """Input: a column `prompt`. Output: one row for each generated item. Params: PARAMS."""
    return ModelSignature(
        inputs=Schema([ColSpec("string", "prompt")]),
        outputs=Schema(
            [
                ColSpec("string", "prompt"),
                ColSpec("long", "index"),
                ColSpec("string", "text"),
                ColSpec("long", "seed"),
                ColSpec("string", "midi_base64", required=False),
                ColSpec("string", "svg", required=False),
            ]
        ),
        params=ParamSchema([ParamSpec(name, kind, None) for name, (kind, _, _) in PARAMS.items()]),
    )


def answering_signature(recipe: Mapping[str, Any]) -> ModelSignature:
    """The signature of a model that predicts. Input: a column `input`: a text, symbols, frames, a series or a WAV file
    in base64. Output: a row for each input."""
    reads = input_of(make(recipe["encoding"]))
    outputs = {name: TYPES[kind] for name, kind in resolve("task", recipe["task"]["kind"]).columns.items()}
    if "tags" in outputs and reads.reads == "text" and splits(reads):
        outputs = {"tokens": Array("string"), **outputs}  # the tagged tokens
    return ModelSignature(
        inputs=Schema([ColSpec(_input_type(reads), "input")]),
        outputs=Schema([ColSpec(type_, name) for name, type_ in outputs.items()]),
    )


def _input_type(reads: Encoding) -> Any:
    if reads.reads == "frames":
        return Array(_nested(Array("double"), len(reads.step_shape) - 1))
    if reads.reads == "series":
        return SERIES
    return Array("string") if reads.reads == "symbols" else "string"


def _nested(inner: Any, times: int) -> Any:
    return Array(_nested(inner, times - 1)) if times else inner


def example_of(reads: Encoding) -> Any:
    """A valid input for the encoding."""
    if reads.reads != "frames":
        return EXAMPLES[reads.reads]
    return np.zeros((1, *(1 for _ in reads.step_shape))).tolist()


def save_served_model(bundle: Path, target: Path, model: Model) -> None:
    """Write the MLflow model to the folder `target`, with the bundle in `target`/artifacts/bundle.

    `bundle` is a folder named "bundle". The requirements are given because inferring them takes MLflow seconds.
    """
    recipe = json.loads((bundle / "recipe.json").read_text(encoding="utf-8"))
    answers = isinstance(recipe, dict) and "task" in recipe and resolve("task", recipe["task"]["kind"]).settings is None
    example = {"input": [example_of(input_of(make(recipe["encoding"])))]} if answers else {"prompt": ["The"]}
    mlflow.pyfunc.save_model(
        path=target,
        input_example=pd.DataFrame(example),
        python_model=__file__,
        artifacts={"bundle": str(bundle)},
        code_paths=[str(Path(__file__).parents[1])],
        # without "+cpu" in "2.13.0+cpu", a build that package indexes don't have
        pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],
        signature=answering_signature(recipe) if answers else signature(),
        mlflow_model=model,
    )


class RepriseModel(mlflow.pyfunc.PythonModel):
    """Generates or predicts from a bundle. Every refusal is an INVALID_PARAMETER_VALUE: status 400 from a server."""

    def load_context(self, context: Any) -> None:
        """Load the bundle.

        Raises:
            UserError: the bundle is damaged or of another format.
        """
        from components.bundle import load_bundle

        _watch_dropped_params()
        self.bundle = load_bundle(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Generate `count` sequences for each prompt: a DataFrame with the columns of `signature()`. The default of
        `seed` is random; the column `seed` has the one used.

        A model that predicts returns a row with the columns of `answering_signature()` for each row of `input`.
        """
        dropped = _dropped.get()
        _dropped.set(None)
        try:
            if self.bundle.task.settings is None:
                if dropped or params:
                    raise UserError("models that predict take no params", where="params", hint="leave them out")
                inputs = _checked_inputs(model_input, input_of(self.bundle.encoding))
                return pd.DataFrame(answered(self.bundle, inputs, "input.input"))
            if dropped:
                raise unknown("param", dropped, PARAMS, where="params")
            given = _checked_params(params or {})
            rows = self._rows(_checked_prompts(model_input), given)
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return pd.DataFrame(rows)

    def _rows(self, prompts: list[str], given: dict[str, Any]) -> list[dict[str, Any]]:
        seed = given.pop("seed", None)
        seed = secrets.randbelow(2**31) if seed is None else seed
        rows: list[dict[str, Any]] = []
        takes_prompt = "prompt" in self.bundle.recipe["generation"]  # piano rolls and notes have no prompt
        for prompt in prompts:
            asked = given | ({"prompt": prompt} if prompt or takes_prompt else {})
            made = self.bundle.generate(asked, seed=seed)
            _warn(made.warnings)
            for index, item in enumerate(made.items):
                rows.append({"prompt": prompt, "index": index, **_content(item), "seed": seed})
        return rows


def _content(item: Any) -> dict[str, str]:
    """The output columns of a generated item: its text, with the MIDI file of a score or the SVG of ink."""
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, Ink):
        from components.render.ink import svg

        return {"text": str(item), "svg": svg(item, item.text)}
    from components.render.midi import write_midi
    from components.score import spoken

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "score.mid"
        write_midi(item, path)
        midi = base64.b64encode(path.read_bytes()).decode("ascii")
    return {"text": spoken(item), "midi_base64": midi}


def _checked_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The given params, checked against their bounds."""
    given = {}
    for name, value in params.items():
        if name not in PARAMS:
            raise unknown("param", name, PARAMS, where="params")
        if value is None:
            continue
        kind, low, high = PARAMS[name]
        number = float(value)
        if not math.isfinite(number) or not low <= number <= high:
            raise UserError(f"must be from {low:g} to {high:g}, not {number:g}", where=f"params.{name}")
        given[name] = number if kind == "double" else int(value)
    return given


def _checked_prompts(model_input: Any) -> list[str]:
    """The prompts of a DataFrame, in its order."""
    if not isinstance(model_input, pd.DataFrame) or "prompt" not in model_input.columns:
        raise UserError("the input must be a table with a column `prompt`", where="input")
    prompts: list[Any] = []
    for cell in model_input["prompt"]:
        # {"prompt": ["a", "b"]} arrives as one row with the list
        prompts += list(cell) if isinstance(cell, list | tuple | np.ndarray) else [cell]
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise UserError(f"{len(prompts)} prompts; 1 to {MAX_PROMPTS} are allowed per call", where="input.prompt")
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise UserError(f"must be text, not {type(prompt).__name__}", where=f"input.prompt[{number}]")
        checked_text(prompt, f"input.prompt[{number}]")
    return prompts


def _checked_inputs(model_input: Any, encoding: Encoding) -> list[Any]:
    """The inputs of a DataFrame, in its order, converted for the encoding."""
    if not isinstance(model_input, pd.DataFrame) or "input" not in model_input.columns:
        raise UserError("the input must be a table with a column `input`", where="input")
    inputs = list(model_input["input"])
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise UserError(f"{len(inputs)} rows; 1 to {MAX_INPUTS:,} are allowed per call", where="input")
    if encoding.reads == "audio":
        characters = sum(len(one) for one in inputs if isinstance(one, str))
        if characters > MAX_SOUND_CHARACTERS:
            raise UserError(f"{characters:,} characters; at most {MAX_SOUND_CHARACTERS:,} are allowed", where="input")
    doubts = Doubts()
    found = [read(encoding, one, f"input.input[{number}]", doubts) for number, one in enumerate(inputs)]
    _warn(doubts.lines())
    return found


def _warn(lines: Sequence[str]) -> None:
    """Issue warnings: the table of answers has no column for them."""
    for line in lines:
        warnings.warn(line.removeprefix("warning: "), stacklevel=3)


# MLflow drops params that aren't in the schema before it calls `predict`, and logs a warning. The warning is caught
# here and kept for the next call in the same thread, which raises.
_dropped: contextvars.ContextVar[str | None] = contextvars.ContextVar("dropped", default=None)


class _DroppedParams(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if "Ignoring provided params:" in record.getMessage():  # the model's signature has none
            _dropped.set("params")
            return True
        ignored, _, supported = record.getMessage().partition("Supported params are:")
        if not ignored.startswith("Unrecognized params") or not all(repr(name) in supported for name in PARAMS):
            return True  # another warning, or another model's
        _dropped.set(", ".join(re.findall(r"'([^']*)'", ignored)) or "?")
        return False


def _watch_dropped_params() -> None:
    logger = logging.getLogger("mlflow.models.utils")
    if not any(isinstance(each, _DroppedParams) for each in logger.filters):
        logger.addFilter(_DroppedParams())


if __name__ != "components.tracking.pyfunc":
    # MLflow runs a copy of this file under another name at every load; the imported module keeps the state
    from components.tracking.pyfunc import RepriseModel as _Shared

    set_model(_Shared())
