"""Using a model wrongly: inputs, settings and names that aren't ones are told by their place."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from small_models import save

import reprise
from components.bounds import MAX_CHARACTERS, MAX_COUNT, MAX_LENGTH
from components.errors import UserError
from components.use.opening import PATTERN, Selector

pytest_plugins = ["serving_fixtures", "tracking_fixtures"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated", "ignore::DeprecationWarning"),
]


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        ("moods", "a text", "takes a list of inputs"),
        ("moods", [["good"]], r"inputs\[0\]"),
        ("moods", ["good", b"bad"], r"inputs\[1\].*needs a text, not bytes"),
        ("moods", ["x" * (MAX_CHARACTERS + 1)], "at most 100,000"),
        ("sums", [[[1.0], [1.0, 2.0]]], r"inputs\[0\].*the same length"),
        ("sums", ["1 2"], r"inputs\[0\].*lists of numbers"),
        ("shapes", [[[1.0, 2.0]]], "pictures must be numbers"),
        ("ears", [b"no sound"], r"inputs\[0\].*not a WAV file"),
        ("ears", [3], r"inputs\[0\].*can't be of type int"),
        ("tales", ["good"], "can't predict: its task"),
    ],
)
def test_a_wrong_input_is_told_by_its_place(here, name, inputs, said) -> None:
    with pytest.raises(UserError, match=said):
        reprise.load(name).predict(inputs)


def test_what_is_no_list_of_inputs_is_refused(here) -> None:
    import pandas as pd

    table = pd.DataFrame({"text": ["good"]})
    for inputs, way in ((table, r'predict\(table\["column"\]\)'), ({"a", "b"}, r"list\(inputs\)"), (3, "one_input")):
        with pytest.raises(UserError, match=way):
            reprise.load("moods").predict(inputs)
    with pytest.raises(UserError, match="not DataFrame"):
        reprise.load("tales").score(table)
    with pytest.raises(UserError, match="characters can't read int"):
        reprise.load("tales").score([3])
    assert len(reprise.load("moods").predict(["a good day"])) == 1
    with pytest.warns(UserWarning, match=r"^the model knows no word of it.* \(inputs\[0\]\)"):
        reprise.load("moods").predict(["zz qq"])
    with pytest.warns(UserWarning, match="NUL characters"):
        reprise.load("tales").score(["on\0ce"])
    assert len(reprise.load("tales").generate(count=np.int64(1), max_length=2, seed=np.int64(3))) == 1


@pytest.mark.parametrize("wrong", [3, None, Path("names"), b"names", ["names"]])
def test_a_model_is_named_by_a_string(wrong) -> None:
    with pytest.raises(TypeError, match=r"model is a string, not .*: a registered model, as NAME"):
        reprise.load(wrong)
    if wrong is not None:
        with pytest.raises(TypeError, match="language_model is a string"):
            reprise.load("names", language_model=wrong)


def test_a_wrong_setting_or_model_is_told(here, tmp_path) -> None:
    model = reprise.load("tales")
    for settings, said in [
        ({"temprature": 1}, "temperature"),
        ({"count": MAX_COUNT + 1}, "count"),
        ({"max_length": MAX_LENGTH + 1}, "max_length"),
        ({"prompt": "x" * (MAX_CHARACTERS + 1)}, "prompt"),
        ({"seed": -1}, "seed"),
        ({"melody": tmp_path / "none.mid"}, "can't take music"),
    ]:
        with pytest.raises(UserError, match=said):
            model.generate(**settings)
    with pytest.warns(UserWarning, match="unknown to the model"):
        model.generate(prompt="the ß", count=1, max_length=5)
    with pytest.raises(UserError, match="can't generate: its task"):
        reprise.load("moods").generate()
    with pytest.raises(UserError, match="moods"):
        reprise.load("mods")
    with pytest.raises(UserError, match="no version"):
        reprise.load("moods@7")
    with pytest.raises(UserError, match="isn't a speech model"):
        reprise.load("moods", language_model="tales")
    with pytest.raises(UserError, match="isn't a language model"):
        reprise.load("ears", language_model="moods")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("names", ("names", "", "")),
        ("names@3", ("names", "3", "")),
        ("names@champion", ("names", "champion", "")),
        ("run:0123abcd", ("", "", "0123abcd")),
    ],
)
def test_a_selector_means_one_model(text, meant) -> None:
    parsed = Selector.parse(text)
    assert (parsed.name, parsed.version, parsed.run) == meant


def test_the_run_of_this_machine_is_opened_by_its_id(here, monkeypatch, tmp_path) -> None:
    from components.runs import generate
    from components.use.opening import OwnRun

    save(tmp_path / "bundle", "names")
    monkeypatch.setattr(generate, "_own_run", lambda run: OwnRun("names", run * 4, tmp_path / "bundle"))
    model = reprise.load("run:0123abcd")
    assert (model.name, model.version, model.run_id) == ("names", "", "0123abcd" * 4)
    assert model.write(tmp_path / "out", count=1)[0].name == "names.txt"


def test_the_pattern_of_requests_takes_the_selectors() -> None:
    for text in ("names", "names@3", "names@champion", "my model_1.2"):
        assert re.fullmatch(PATTERN, text)
    for text in ("run:0123", "../names", "names@", "a@b@c", ""):
        assert not re.fullmatch(PATTERN, text)
