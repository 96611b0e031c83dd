"""What a recipe can name runs on every processor: each cell with each backend and precision, sampling with each."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from components.encodings.characters import Characters
from components.errors import UserError
from components.generation.draft import Draft
from components.generation.sampling import sample
from components.generation.settings import Settings
from components.kernels.native.build import LIMIT
from components.models.sequence_model import SequenceModel
from components.options import options_of
from components.recipe import Recipe
from components.registry import names, resolve
from components.training.trainer import Trainer

B, T, INPUT, H = 3, 9, 5, 8
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}
DRAWN = ["float32", "int8"]
LENGTHS = {"whole": None, "ragged": torch.tensor([T, 0, 4])}


def options() -> list[tuple[str, dict[str, str]]]:
    """Each cell with each of its backends, but triton, which is for a GPU."""
    found = [
        (kind, {"backend": backend} if resolve("cell", kind).backends else {})
        for kind in names("cell")
        for backend in ("auto", *resolve("cell", kind).backends)
        if backend != "triton"
    ]
    assert len(found) >= 16
    return found


def test_every_precision_that_a_recipe_can_name_is_tried_here() -> None:
    assert set(options_of(Trainer)["precision"][0].__args__) == set(PRECISIONS)
    assert set(options_of(Settings)["precision"][0].__args__) == set(DRAWN)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize(("kind", "backend"), options(), ids=str)
def test_every_cell_runs_with_every_backend_in_every_precision(kind, backend, lengths, precision) -> None:
    torch.manual_seed(0)
    layer, x = resolve("cell", kind)(INPUT, hidden_size=H, **backend), torch.randn(B, T, INPUT)
    exact = resolve("cell", kind)(INPUT, hidden_size=H).double()
    exact.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    low = precision == "bfloat16"
    with torch.autocast("cpu", PRECISIONS[precision], enabled=low):
        # what a linear layer below hands up under autocast is in the low precision too
        y, state = layer(x.to(PRECISIONS[precision]), None, LENGTHS[lengths])
        after, _ = layer.step(x[:, 0].to(PRECISIONS[precision]), state)
        layer.eval()
        with torch.no_grad():
            evaluated, _ = layer(x, None, LENGTHS[lengths])
    (y.float().sum() + after.float().sum()).backward()
    wanted, state = exact(x.double(), None, LENGTHS[lengths])
    wanted_after, _ = exact.step(x[:, 0].double(), state)
    for got, expected in ((y, wanted), (evaluated, wanted), (after, wanted_after)):
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-2 if low else 1e-5)
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize("precision", DRAWN)
@pytest.mark.parametrize("kind", names("cell"))
def test_every_cell_is_sampled_in_every_precision_or_refused_when_the_recipe_is_read(
    small_recipe, kind, precision
) -> None:
    generation = {"precision": precision, "max_length": 5, "count": 2}
    model = {"kind": kind, "hidden_size": H, "dropout": 0.0}
    if precision == "int8" and kind not in ("rnn", "gru", "lstm"):
        with pytest.raises(UserError, match=r"generation\.precision: int8 can't be used: .*\(use float32\)"):
            small_recipe(model=model, generation=generation)
        return
    recipe = small_recipe(model=model, generation=generation)
    encoding = Characters()
    encoding.fit(["abcd"])
    made = sample(
        SequenceModel(len(encoding.vocabulary), **recipe.model),
        Draft(encoding, [4], Settings(**generation), seed=0, framed=True),
    )
    assert len(made) == 2


@pytest.mark.parametrize(
    "model",
    [
        {"kind": "rnn", "nonlinearity": "relu"},
        {"kind": "gru", "reset_after": False},
        {"kind": "lstm", "num_layers": 2, "residual": True},
        {"kind": "lstm", "layer_norm": True},
        {"kind": "lstm", "softmax": "adaptive"},
        {"kind": "graph", "layers": {"a": {"layer": "gru", "of": "tokens"}, "logits": {"layer": "linear", "of": "a"}}},
    ],
    ids=str,
)
def test_what_int8_does_not_know_is_refused_when_the_recipe_is_read(small_recipe, model) -> None:
    def read(precision: str) -> None:
        values = small_recipe().as_dict() | {"model": model, "generation": {"precision": precision}}
        Recipe.from_dict("small", values)

    read("float32")
    with pytest.raises(UserError, match=r"generation\.precision: int8 can't be used"):
        read("int8")


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_a_backend_that_does_not_know_the_cell_is_refused_when_the_recipe_is_read(small_recipe, backend) -> None:
    model = {"kind": "gru", "reset_after": False}
    small_recipe(model={**model, "backend": "by_hand"})
    with pytest.raises(UserError, match=r"model\.backend: .*support reset_after: false \(set model.backend: auto"):
        small_recipe(model={**model, "backend": backend})


@pytest.mark.slow
@pytest.mark.parametrize(
    "machine",
    [
        {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", LIMIT: "baseline"},
        {"CC": "/bin/false", "CXX": "/bin/false", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    ],
    ids=["sse4", "no-compiler"],
)
def test_they_run_on_lesser_machines(machine, tmp_path) -> None:
    """oneDNN, torch and our kernels each read their limit when they are loaded."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "test_every_cell"]
    cache = {"XDG_CACHE_HOME": str(tmp_path)} if "CXX" in machine else {}
    done = subprocess.run(command, env=os.environ | machine | cache, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
