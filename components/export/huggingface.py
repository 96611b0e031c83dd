"""Export to the format of the Hugging Face Hub: a folder with model.safetensors, JSON files and a model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.bundle import load_bundle
from components.whole_files import new_folder

FILES = {"weights.safetensors": "model.safetensors", "recipe.json": "config.json", "encoding.json": "encoding.json"}
PIPELINES = {"language_model": "text-generation", "classification": "text-classification"}
CARD = """---
{front}---

# {name}

A recurrent neural network trained with Reprise {version} by the recipe `{name}`.

| metric | value |
|---|---|
{figures}

- Model: `{model}`
- Data: {data}, content digest `{digest}`
- Weights: SHA-256 `{weights}`; {parameters:,} parameters
- `config.json` is the complete recipe, `encoding.json` the vocabulary; `model.safetensors` contains plain tensors.
"""


def export_huggingface(bundle: Path, folder: Path) -> None:
    """Write a registered bundle in this format to a new folder.

    Raises:
        UserError: the folder exists, or the bundle is damaged.
    """
    with new_folder(folder) as made:
        opened = load_bundle(bundle)
        for name, target in FILES.items():
            shutil.copy(bundle / name, made / target)
        parameters = sum(p.numel() for p in opened.model.parameters())
        card = model_card(opened.name, opened.info, opened.recipe, opened.weights_digest, parameters)
        (made / "README.md").write_text(card, encoding="utf-8")


def model_card(
    name: str, info: Mapping[str, Any], recipe: Mapping[str, Any], weights_digest: str, parameters: int
) -> str:
    """The model card: metrics on test (else val), data and settings."""
    metrics, kind = info["metrics"], recipe["task"]["kind"]
    splits = [split for split in ("test", "val") if any(m.startswith(f"{split}/") for m in metrics)]
    chosen = {m: v for m, v in sorted(metrics.items()) if splits and m.startswith(f"{splits[0]}/")}
    text = recipe["encoding"]["kind"] in ("characters", "reversed_characters", "words", "subwords")
    front: dict[str, Any] = {"library_name": "reprise", "tags": ["recurrent-neural-network", recipe["model"]["kind"]]}
    if kind in PIPELINES and (text or kind == "classification"):
        front["pipeline_tag"] = PIPELINES[kind]
    return CARD.format(
        front=yaml.safe_dump(front, sort_keys=False),
        name=name,
        version=info["versions"]["reprise"],
        figures="\n".join(f"| {m} | {v:.6g} |" for m, v in chosen.items()),
        model=", ".join(f"{key}: {value}" for key, value in recipe["model"].items() if value not in (None, False)),
        data=info["data"]["name"],
        digest=info["data"]["digest"],
        weights=weights_digest,
        parameters=parameters,
    )
