"""A trained model as a folder: weights.safetensors, model.json, encoding.json, recipe.json. No code, no pickle.

Everything that generation needs is in it, so it never looks at the working tree's recipe or vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.encodings.base import Encoding, encoding_from_state
from components.errors import UserError
from components.generation.sampling import Sampled, Settings, sample
from components.models.sequence_model import SequenceModel
from components.models.weights import load_weights, read_tensors, weights, write_tensors
from components.provenance import digest_file
from components.recipe import check_options
from components.registry import resolve
from components.tasks.base import Task

FORMAT = 1
MAX_JSON_BYTES = 256 << 20  # a vocabulary of a million words is some 20 MB


@dataclass(frozen=True)
class Generation:
    """What `Bundle.generate` made: `items` are texts or scores, in the order of `sampled`."""

    items: list[Any]
    sampled: list[Sampled]
    settings: dict[str, Any]
    seed: int
    warnings: list[str]


@dataclass(frozen=True)
class Bundle:
    """A model that is ready to use, with what it was made from."""

    name: str
    model: SequenceModel
    encoding: Encoding
    task: Task
    recipe: dict[str, Any]
    info: dict[str, Any]  # model.json
    weights_digest: str

    def generate(
        self, overrides: Mapping[str, Any] = {}, *, seed: int, progress: Callable[[int], None] = lambda done: None
    ) -> Generation:
        """New sequences: the recipe's generation settings with `overrides`. Same seed, same sequences.

        Raises:
            UserError: an override is unknown or out of range, or a text stream has no prompt to start from.
        """
        problems: list[str] = []
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
            problems.append(f"seed: a whole number from 0 to {2**63 - 1}, not {seed!r}")
        values = check_options("generation", {**self.recipe["generation"], **overrides}, [Settings], problems)
        if problems:
            raise UserError("; ".join(problems), where="generation")
        settings = Settings(**values)
        prompt_ids, warnings = self.encoding.prompt(settings.prompt)
        framed = self.info["framing"] == "sequences"
        if not framed and not len(prompt_ids):
            raise UserError(
                "a model of one long text starts from a prompt", where="generation.prompt", hint="give --prompt TEXT"
            )
        sampled = sample(
            self.model, self.encoding, prompt_ids.tolist(), settings, seed=seed, framed=framed, progress=progress
        )
        return Generation([self.encoding.decode(one.ids) for one in sampled], sampled, values, seed, warnings)


def save_bundle(
    folder: Path, name: str, model: nn.Module, encoding: Encoding, recipe: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Write the folder. `facts`: framing, and whatever a reader should know (run, data digest, metrics, versions)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "weights.safetensors", weights(model), {})
    info = {"format": FORMAT, "name": name, **facts, "weights_sha256": digest_file(folder / "weights.safetensors")}
    for file, content in (("model", info), ("encoding", encoding.state()), ("recipe", recipe)):
        text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
        (folder / f"{file}.json").write_text(text + "\n", encoding="utf-8")


def load_bundle(folder: Path, device: str = "cpu") -> Bundle:
    """The bundle in a folder.

    Raises:
        UserError: a file is missing, damaged or not the one that was saved, or a newer version of Reprise wrote it.
    """
    info, encoding_state, recipe = (_read_json(folder / f"{file}.json") for file in ("model", "encoding", "recipe"))
    if info.get("format") != FORMAT:
        raise UserError(
            f"is of bundle format {info.get('format')!r}; this version reads format {FORMAT}",
            where=str(folder),
            hint=f"it was written by Reprise {info.get('versions', {}).get('reprise', '(unknown)')}: use that version",
        )
    digest = digest_file(folder / "weights.safetensors")
    if digest != info["weights_sha256"]:
        raise UserError("the weights are not the ones that were saved (sha256 differs)", where=str(folder))
    encoding = encoding_from_state(encoding_state)
    task = make_task(recipe["task"], encoding, info["framing"])
    model = task.build_model(recipe["model"])
    tensors, _ = read_tensors(folder / "weights.safetensors")
    load_weights(model, tensors, where=str(folder))
    model = model.to(torch.device(device)).eval()
    return Bundle(info["name"], model, encoding, task, recipe, info, digest)


def make_task(section: Mapping[str, Any], encoding: Encoding, framing: str) -> Task:
    """The task that a recipe's task section describes."""
    options = {key: value for key, value in section.items() if key != "kind"}
    return resolve("task", section["kind"])(encoding, framing, **options)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"larger than {MAX_JSON_BYTES} bytes", where=str(path))
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"can't be read: {error}", where=str(path), hint="this isn't a whole model bundle") from None
    if not isinstance(value, dict):
        raise UserError("isn't a JSON object", where=str(path))
    return value
