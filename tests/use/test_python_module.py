"""The module `reprise`: light to import, settings by section, and a wrong one starts nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_house import HEAVY, ROOT

import reprise
from components.errors import UserError

pytestmark = pytest.mark.slow


def test_importing_it_is_light() -> None:
    heavy = sorted(HEAVY - {"numpy"})
    code = f"import reprise, sys; print([name for name in {heavy!r} + ['numpy'] if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_models_are_listed_without_torch_and_used_without_prefect() -> None:
    code = (
        "import sys, components.runs.models; print('torch' in sys.modules); "
        "import components.runs.generate, components.runs.predict; print('prefect' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_settings_are_given_by_section(monkeypatch) -> None:
    from flows.commands import base

    asked: list[Any] = []
    monkeypatch.setattr(base, "run_recipe", lambda *all: asked.extend(all))
    training = {"steps": 500, "learning_rate": 1e-5, "clip_norm": None}
    reprise.run("names", name="mine", training=training, seed=3, data={"path": Path("a b.txt")}, model={})
    assert asked[0] == "names"
    assert asked[2:] == ["auto", 0, "mine", 1]
    from components.recipe import apply_override

    values: dict[str, Any] = {"model": {"kind": "gru"}}
    for override in asked[1]:
        apply_override(values, override)
    assert values == {"model": {"kind": "gru"}, "training": training, "seed": 3, "data": {"path": "a b.txt"}}
    assert reprise._overrides({"encoding": {"input.grid": 2}}) == ["encoding.input.grid=2"]
    with pytest.raises(UserError, match="written as YAML"):
        reprise.run("names", training={"steps": object()})


def test_a_wrong_setting_starts_nothing(monkeypatch, tmp_path) -> None:
    from flows.server import Server

    monkeypatch.setenv("REPRISE_HOME", str(tmp_path))
    begun: list[Server] = []
    monkeypatch.setattr(Server, "begin", lambda self: begun.append(self))
    with pytest.raises(UserError, match="steps"):
        reprise.run("names", training={"stepps": 500})
