"""Samples at each evaluation: one table that grows, that outlives a kill, and that changes nothing of the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Silent

from components.runs.samples import TABLE, WithSamples
from components.training.session import Session


class Tables:
    """Remembers the tables that a run was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, list[Any]]]] = []

    def table(self, columns: dict[str, list[Any]], path: str) -> None:
        self.seen.append((path, columns))


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["sequences", "stream"])
def test_samples_change_nothing_of_the_training(small_recipe, small_store, tmp_path: Path, framing: str) -> None:
    recipe = small_recipe(framing)
    store = small_store(recipe)
    ends = []
    for name in ("with", "without"):
        session, run, told = Session(recipe, store, "cpu", 1), Tables(), Silent()
        folder = tmp_path / name
        session.train(folder, WithSamples(told, session, run, folder) if name == "with" else told)
        ends.append({key: value.clone() for key, value in session.model.state_dict().items()})
        assert [step for step, _ in told.evaluations] == [8, 16, 24], "events are passed on"
        if name == "with":
            path, table = run.seen[-1]
            assert path == TABLE
            assert table["update"] == [8, 8, 16, 16, 24, 24]
            assert table["number"] == [1, 2] * 3
            assert all(isinstance(text, str) for text in table["sample"])
            assert [len(columns["update"]) for _, columns in run.seen] == [2, 4, 6]
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_table(small_recipe, small_store, tmp_path: Path) -> None:
    recipe = small_recipe()
    session, run = Session(recipe, small_store(recipe), "cpu", 1), Tables()
    first = WithSamples(Silent(), session, run, tmp_path)
    first.evaluated({}, 8, True)
    first.evaluated({}, 16, True)
    again = WithSamples(Silent(), session, run, tmp_path)
    again.evaluated({}, 16, True)  # the evaluation that the checkpoint didn't hold
    again.evaluated({}, 24, True)
    assert run.seen[-1][1]["update"] == [8, 8, 16, 16, 24, 24]


def test_a_text_without_a_prompt_has_no_samples_and_training_goes_on(small_recipe, small_store, tmp_path: Path) -> None:
    recipe = small_recipe("stream", generation={"prompt": ""})
    session, run = Session(recipe, small_store(recipe), "cpu", 1), Tables()
    session.model.train()
    WithSamples(Silent(), session, run, tmp_path).evaluated({}, 8, True)
    assert run.seen == []
    assert session.model.training
