"""What models read is said by their encodings, and every door asks these."""

from __future__ import annotations

import json

import pytest

from components.answers import input_of, read
from components.encodings.base import Encoding
from components.encodings.pair import make
from components.recipe import read_recipe
from components.registry import names, resolve
from components.runs.places import recipe_names, recipe_path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning"),
]

READS = {"text", "symbols", "frames", "audio", "series"}


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_says_what_its_model_reads(recipe) -> None:
    from components.bundle import make_task
    from components.serving.requests import PredictRequest
    from components.tracking.pyfunc import answering_signature, example_of
    from components.use.description import describe

    values = read_recipe(recipe_path(recipe), []).as_dict()
    encoding = make(values["encoding"])
    assert encoding.reads in READS
    told = describe(make_task(values["task"], encoding, "sequences"), encoding, values, {})
    assert bool(told.reads) != bool(told.writes)
    if told.writes:
        return
    assert told.reads == encoding.reads == input_of(encoding).reads
    signature, example = answering_signature(values), example_of(input_of(encoding))
    (column,) = signature.inputs.inputs
    axes = {"frames": 1 + len(told.step_shape), "symbols": 1, "series": 3}.get(told.reads, 0)
    assert json.dumps(column.to_dict()).count("array") == axes
    assert set(signature.outputs.input_names()) - {"tokens"} == set(told.columns)
    read(input_of(encoding), example, "example")  # what MLflow shows can be read
    inputs = [{"wav_base64": example} if told.reads == "audio" else example]
    assert PredictRequest.model_validate({"model": recipe, "inputs": inputs}).inputs


@pytest.mark.parametrize("kind", names("encoding"))
def test_every_encoding_class_says_what_it_reads(kind) -> None:
    encoding = resolve("encoding", kind)
    assert issubclass(encoding, Encoding)
    assert isinstance(encoding.reads, property) or encoding.reads in READS


def test_a_pair_asks_its_input_and_a_bag_what_it_counts() -> None:
    bag = {"kind": "bag", "encoding": {"kind": "characters"}}
    assert make({"kind": "pair", "input": {"kind": "mel"}, "target": {"kind": "labels"}}).reads == "audio"
    assert make({"kind": "pair", "input": bag, "target": {"kind": "labels"}}).reads == "text"
    assert make({"kind": "conditioned", "encoding": {"kind": "characters"}}).reads == "text"


def test_numbers_keep_their_digits_on_the_way_to_the_model() -> None:
    sums = make({"kind": "frames"})
    large = [[1_700_000_000.25, 0.1]]
    assert read(sums, large, "here").tolist() == large
