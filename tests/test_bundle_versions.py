"""Bundles of other versions: an older one still writes; one that needs another version says which."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from components.bundle import FORMAT, load_bundle
from components.errors import UserError
from components.provenance import digest_file


def write_by_hand(folder: Path, **changes: object) -> Path:
    """A bundle of format 1 as Reprise 0.1.0 wrote it, from nothing but this text: a GRU of two units over a, b."""
    shapes = {"embedding.weight": (6, 2), "head.weight": (6, 2), "head.bias": (6,)}
    shapes |= {f"recurrent.layers.0.{kind}_{side}": (6, 2) if kind == "weight" else (6,)
               for kind in ("weight", "bias") for side in ("ih", "hh")}  # fmt: skip
    tensors = {
        name: np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape) for name, shape in shapes.items()
    }
    folder.mkdir()
    save_file(tensors, folder / "weights.safetensors", metadata={"facts": "{}"})
    model = {
        "format": 1, "name": "old", "framing": "sequences", "run_id": "0" * 32, "metrics": {"test/nats_per_char": 1.0},
        "data": {"name": "own", "digest": "d"}, "versions": {"reprise": "0.1.0", "torch": "2.13.0"},
        "weights_sha256": digest_file(folder / "weights.safetensors"), **changes,
    }  # fmt: skip
    encoding = {
        "kind": "characters", "options": {"lowercase": False, "max_size": None, "min_count": 1},
        "vocabulary": ["<PAD>", "<UNK>", "<BOS>", "<EOS>", "a", "b"],
    }  # fmt: skip
    recipe = {
        "seed": 0, "data": {"path": "names.txt", "reader": "lines"}, "encoding": {"kind": "characters"},
        "task": {"kind": "language_model"}, "model": {"kind": "gru", "hidden_size": 2, "num_layers": 1, "dropout": 0.0},
        "generation": {"count": 3, "max_length": 12, "temperature": 0.9}, "accept": {},
    }  # fmt: skip
    recipe["model"] |= changes.get("settings", {})  # type: ignore[operator]
    for name, content in (("model", model), ("encoding", encoding), ("recipe", recipe)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_bundle_written_by_an_older_version_still_writes(tmp_path: Path) -> None:
    """What it lacks (settings that came since) has its default; what it has keeps its name and its meaning."""
    bundle = load_bundle(write_by_hand(tmp_path / "old"))
    made = bundle.generate({}, seed=1)
    assert len(made.items) == 3
    assert set("".join(made.items)) <= {"a", "b"}
    assert bundle.generate({}, seed=1).items == made.items
    assert bundle.model.recurrent.layers[0].weight_hh[5, 1].item() == 1.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": FORMAT + 1, "versions": {"reprise": "7.8.9"}}, "written by Reprise 7.8.9"),
        ({"format": FORMAT + 1, "versions": None}, "version unknown"),
        ({"settings": {"flux": 3}}, "Reprise 0.1.0: use that version"),
        ({"settings": {"kind": "hypernet"}}, "can't be loaded by this version"),
    ],
)
def test_a_bundle_that_needs_another_version_says_which(tmp_path: Path, changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_bundle(write_by_hand(tmp_path / "new", **changes))
