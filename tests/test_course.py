"""docs/course.md: every section is whole, and the answers of its exercises are computed again."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from components.recipe import Recipe, load_yaml
from components.registry import resolve
from components.runs.places import RECIPES, recipe_names

ROOT = Path(__file__).resolve().parents[1]
COURSE = (ROOT / "docs" / "course.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (\d+)\. (.+?)$\n(.*?)(?=^## |\Z)", COURSE, re.MULTILINE | re.DOTALL)
ORDER = [
    "Why sequence models", "Notation", "The recurrent network", "Backpropagation through time", "Types of networks",
    "Language models", "Sampling novel sequences", "Vanishing and exploding gradients", "GRU", "LSTM",
    "Bidirectional networks", "Deep networks", "The functional API", "Character-level generation", "Jazz",
]  # fmt: skip


def answer(number: int) -> str:
    """The answer of a section's exercise, without line ends."""
    (text,) = re.findall(r"<details><summary>Answer</summary>(.*?)</details>", SECTIONS[number - 1][2], re.DOTALL)
    return " ".join(text.split())


def parameters(module: torch.nn.Module) -> str:
    return f"{sum(each.numel() for each in module.parameters()):,}"


def test_the_sections_come_in_their_order_on_one_page() -> None:
    assert [title for _, title, _ in SECTIONS] == ORDER
    assert [int(number) for number, _, _ in SECTIONS] == list(range(1, len(ORDER) + 1))
    assert COURSE.count("\n") <= 400


@pytest.mark.parametrize(("number", "title", "text"), SECTIONS, ids=[title for _, title, _ in SECTIONS])
def test_every_section_has_a_command_a_file_and_an_exercise(number, title, text) -> None:
    assert re.search(r"^```\nreprise [^`]*^```$", text, re.MULTILINE), "a command"
    assert re.search(r"In the code: .*`components/", " ".join(text.split())), "a file"
    assert text.count("**Exercise.**") == 1
    assert answer(int(number))


def test_the_pictures_of_the_course_are_those_that_are_drawn() -> None:
    from docs.tools.diagrams import DIAGRAMS

    assert set(re.findall(r"images/(course-[a-z]+\.png)", COURSE)) == set(DIAGRAMS)


def test_the_recipes_of_the_table_of_types_are_of_those_tasks() -> None:
    rows = re.findall(r"^\| ([a-z-]+[^|]*) \| [^|]+ \| `([a-z-]+)` \|$", SECTIONS[4][2], re.MULTILINE)
    tasks = {name: load_yaml(RECIPES / f"{name}.yaml")["task"]["kind"] for _, name in rows}
    assert list(tasks.values()) == ["classification", "language_model", "classification", "tagging", "translation"]
    assert set(tasks) <= set(recipe_names())


def test_counts_of_parameters() -> None:
    assert f"{100 * 96 * 256:,}" in answer(1)
    assert f"{96 * 256 + 256 * 256:,}" in answer(1)
    assert parameters(resolve("cell", "gru")(64, hidden_size=128)) in answer(9)
    from components.layers.bidirectional import Bidirectional

    dna = Recipe.from_dict("dna", load_yaml(RECIPES / "dna.yaml"))
    width = 4 + 2 * dna.encoding["input"]["waves"]
    assert f"a step is {width} numbers and H is {dna.model['hidden_size']}" in SECTIONS[10][2]
    cells = [resolve("cell", "gru")(width, hidden_size=dna.model["hidden_size"]) for _ in range(2)]
    assert parameters(Bidirectional(*cells)) in answer(11)


@pytest.mark.slow
def test_the_parameters_of_shakespeare_chars() -> None:
    from components.models.sequence_model import SequenceModel

    recipe = Recipe.from_dict("x", load_yaml(RECIPES / "shakespeare-chars.yaml"))
    model = SequenceModel(69, **recipe.model)
    assert parameters(model) in answer(12)
    for part in (model.embedding, model.head, *model.recurrent.layers):
        assert parameters(part) in answer(12)


def test_the_unit_of_sections_three_and_four() -> None:
    cell = resolve("cell", "rnn")(1, hidden_size=1).double()
    with torch.no_grad():
        for name, value in {"weight_ih": 1.0, "weight_hh": 0.5, "bias_ih": 0.0, "bias_hh": 0.0}.items():
            getattr(cell, name).fill_(value)
    x_BTI = torch.tensor([[[1.0], [0.0], [0.0]]], dtype=torch.float64)
    h_BTH, _ = cell(x_BTI)
    assert all(f"{h:.3f}" in answer(3) for h in h_BTH.flatten().tolist())
    _, state = cell(x_BTI[:, :1])
    state["h"] = state["h"].detach().requires_grad_()
    last, _ = cell(x_BTI[:, 1:], state)
    (gradient,) = torch.autograd.grad(last[0, -1, 0], state["h"])
    assert answer(4).endswith(f"= {gradient.item():.3f}.")


def test_the_equations_of_the_gru_are_the_layers() -> None:
    for reset_after in (True, False):
        cell = resolve("cell", "gru")(2, hidden_size=3, reset_after=reset_after).double()
        x, h = torch.randn(1, 2, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
        (W_ir, W_iz, W_in), (W_hr, W_hz, W_hn) = cell.weight_ih.chunk(3), cell.weight_hh.chunk(3)
        (b_ir, b_iz, b_in), (b_hr, b_hz, b_hn) = cell.bias_ih.chunk(3), cell.bias_hh.chunk(3)
        r = torch.sigmoid(x @ W_ir.T + b_ir + h @ W_hr.T + b_hr)
        z = torch.sigmoid(x @ W_iz.T + b_iz + h @ W_hz.T + b_hz)
        seen = r * (h @ W_hn.T + b_hn) if reset_after else (r * h) @ W_hn.T + b_hn
        n = torch.tanh(x @ W_in.T + b_in + seen)
        assert torch.allclose(cell.step(x, {"h": h})[0], (1 - z) * n + z * h)


def test_perplexity_sampling_and_powers() -> None:
    from components.generation.sampling import distribution
    from components.generation.settings import Settings

    assert f"e^1.97 = {math.exp(1.97):.1f}; 1.97 / ln 2 = {1.97 / math.log(2):.2f}" in answer(6)
    assert f"ln 27 = {math.log(27):.2f}" in answer(6)
    logits, allowed, told = np.array([2.0, 1.0, 0.0]), np.ones(3, dtype=bool), answer(7)
    for settings in (Settings(), Settings(temperature=0.5)):
        assert ", ".join(f"{p:.3f}" for p in distribution(logits, allowed, settings)) in told
    cut = distribution(logits, allowed, Settings(top_p=0.9))
    assert f"{cut[0]:.3f}, {cut[1]:.3f}, {cut[2]:.0f}" in told
    assert f"{distribution(logits, allowed, Settings())[:2].sum():.3f}" in told
    assert f"= {0.9**50:.3f}" in answer(8)
    weight = torch.nn.Parameter(torch.zeros(2))
    for clip, left in ((torch.nn.utils.clip_grad_norm_, "(0.6, 0.8)"), (torch.nn.utils.clip_grad_value_, "(1, 1)")):
        weight.grad = torch.tensor([3.0, 4.0])
        clip([weight], 1.0)
        assert f"({weight.grad[0].item():.2g}, {weight.grad[1].item():.2g})" == left
        assert left in answer(8)
    assert f"= {0.98**34:.3f}" in answer(9)
    assert f"= {0.98**35:.3f}" in answer(9)
    for bias in (1.0, 3.0):
        opened = torch.sigmoid(torch.tensor(bias, dtype=torch.float64)).item()
        assert f"σ({bias:.0f}) = {opened:.3f} and {opened:.3f}¹⁰ = {opened**10:.3f}" in answer(10)


def test_updates_and_choruses() -> None:
    recipe = Recipe.from_dict("x", load_yaml(RECIPES / "shakespeare-chars.yaml"))
    training = recipe.training
    read = training["batch_size"] * training["tbptt_length"] * training["steps"]
    assert f"= {read:,} characters, {read / (0.9 * 1_115_394):.1f} times" in answer(14)
    jazz = Recipe.from_dict("x", load_yaml(RECIPES / "jazz.yaml"))
    quarters = jazz.generation["choruses"] * 12 * 4
    assert f"{quarters * 60 / jazz.generation['tempo_bpm']:.1f} seconds" in answer(15)
    assert f"{quarters * jazz.encoding['steps_per_beat']:,} steps" in answer(15)


@pytest.mark.slow
def test_the_graphs_are_recipes_and_a_bidirectional_writer_is_refused() -> None:
    from components.errors import UserError

    names = load_yaml(RECIPES / "names.yaml")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", SECTIONS[12][2], re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        recipe = Recipe.from_dict("mine", {**names, **yaml.safe_load(block)})
        task = resolve("task", "language_model")
        assert recipe.model["kind"] == "graph"
        assert "graph" in task.model_kinds()
    with pytest.raises(UserError, match="reads future steps"):
        Recipe.from_dict("mine", {**names, "model": {**names["model"], "bidirectional": True}})
