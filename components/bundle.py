"""A trained model as a folder: weights.safetensors, model.json, encoding.json, recipe.json. No code, no pickle.

It holds everything that generation needs; the working tree's recipe and vocabulary aren't read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from components.bounds import MAX_EXPLAINED, MAX_EXPLAINED_STEPS, MAX_STEPS
from components.encodings.base import Encoding, encoding_from_state
from components.encodings.sections import Sections
from components.errors import UserError, meant
from components.generation.region import Piece
from components.generation.settings import Progress, Sampled, unwatched
from components.idle import idle
from components.models.ensemble import Ensemble, members
from components.models.pooled import Pooled
from components.models.states import has_states
from components.models.weights import load_weights, read_tensors, weights, write_tensors
from components.options import check_options, generation_targets, options_of
from components.provenance import digest_file
from components.registry import resolve
from components.render.outputs import playable
from components.score import Score
from components.tasks.base import Task
from components.tasks.explanation import Explanation
from components.tasks.language_model import LanguageModel

FORMAT = 1
MAX_JSON_BYTES = 256 << 20  # a vocabulary of a million words takes about 20 MB
PART_WRITING = ("no-crossing", "no-parallels")  # default rules for voices under a melody


@dataclass(frozen=True)
class Generation:
    """The result of `Bundle.generate`: `items` are texts or scores, in the order of `sampled`, with the `sections` of
    the requested form."""

    items: list[Any]
    sampled: list[Sampled]
    settings: dict[str, Any]
    seed: int
    warnings: list[str]
    sections: Sections | None = None


@dataclass(frozen=True)
class Bundle:
    """A model ready for use, with its encoding, task and recipe."""

    name: str
    model: nn.Module
    encoding: Encoding
    task: Task
    recipe: dict[str, Any]
    info: dict[str, Any]  # model.json
    weights_digest: str

    def generate(self, overrides: Mapping[str, Any] = {}, *, seed: int, progress: Progress = unwatched) -> Generation:
        """Generate sequences with the recipe's generation settings and `overrides`. Deterministic for a given seed.

        Raises:
            UserError: an override is unknown or out of range, or a text stream has no prompt.
        """
        if self.task.settings is None:
            raise UserError(
                f"{self.name} can't generate: its task is {self.recipe['task']['kind']}; it predicts",
                where="generate",
            )
        problems: list[str] = []
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
            problems.append(f"seed: must be a whole number from 0 to {2**63 - 1}, not {seed!r}")
        targets = generation_targets(self.recipe["task"])
        own = [name for target in targets for name in options_of(target)]
        if unknown := [name for name in overrides if name not in own]:
            near = meant(unknown[0], own, "did you mean {!r}? ")
            what = f"{self.name} has no setting {', '.join(unknown)}"
            raise UserError(what, where="generation", hint=f"{near}its settings: {', '.join(own)}")
        given = {**self.recipe["generation"], **overrides}
        values = check_options("generation", given, targets, problems)
        if problems:
            raise UserError("; ".join(problems), where="generation")
        made = self.task.generate(self.model, self.task.settings(**values), seed=seed, progress=progress)
        items, warnings = playable(made.items)
        of_no_use = idle({**self.recipe, "generation": values}, ["generation"])
        warnings += [line for line in of_no_use if line.partition(":")[0].partition(".")[2] in overrides]
        return Generation(items, made.sampled, values, seed, made.warnings + warnings, made.sections)

    def grid(self, where: str) -> int | str:
        """Steps per quarter note of the grid on which the model reads music from a file; "drums" or "piano" for a model
        that continues a performance.

        Raises:
            UserError: it reads no music; `where` is the option or field concerned.
        """
        if self.encoding.performed and where == "start":
            return str(self.encoding.performed)
        steps = getattr(self.encoding, "steps_per_beat", None)
        if steps is None or self.task.form != "tokens":
            hint = "it can only continue a file: start" if self.encoding.performed else None
            raise UserError(f"{self.name} can't take music from a file", where=where, hint=hint)
        return int(steps)

    def under(self, melody: Score) -> dict[str, Any]:
        """Settings to generate the other voices under a melody, to its end.

        Raises:
            UserError: the encoding can't represent the piece.
        """
        ids = tuple(int(id) for id in self.encoding.with_melody(melody))
        held = {"given": ids, "given_ends": True, "prompt": ""}
        return held | {"max_length": len(ids) + 1, "constraints": PART_WRITING}

    def onwards(self, start: Score) -> dict[str, Any]:
        """Settings to continue the beginning of a piece.

        Raises:
            UserError: the encoding can't represent the piece.
        """
        return {"given": tuple(int(id) for id in self.encoding.onwards(start)), "given_ends": False, "prompt": ""}

    def can_rewrite(self) -> None:
        """Check that the encoding knows the voice and time of each token, as needed to rewrite regions.

        Raises:
            UserError: it doesn't; the hint names models that do.
        """
        self.encoding.timeline(np.zeros(0, dtype=np.int64))

    def rewritten(self, piece: Score, region: str) -> dict[str, Any]:
        """Settings to regenerate a region of a piece ("bars 5-8, alto tenor") and keep the rest.

        Raises:
            UserError: the encoding can't represent the piece, or has no such region.
        """
        ids = tuple(int(id) for id in self.encoding.encode(piece))
        Piece.read(region, self.encoding, ids)
        return {"given": ids, "given_ends": True, "rewrite": region, "prompt": ""}

    def kept(self, sampled: Sampled) -> dict[str, Any]:
        """Settings that keep a generated piece, so that `rewrite` can name a region of it; empty for a model that can't
        rewrite. Of a piece that was cut off, its decoded part is kept.
        """
        if type(self.encoding).timeline is Encoding.timeline:
            return {}
        ids = sampled.ids if sampled.ended else self.encoding.encode(self.encoding.decode(sampled.ids))
        return {"given": tuple(int(id) for id in ids), "given_ends": True, "prompt": ""}

    def predict(self, items: Sequence[Any]) -> list[Any]:
        """The answer to each input (a text, frames [T, features]), in order: {"label", "probability"}, numbers, a tag
        per step, or forecasts of the next steps.

        Raises:
            UserError: the model generates, or an item is empty, longer than MAX_STEPS or of the wrong form.
        """
        if self.task.settings is not None:
            hint = f"reprise generate {self.name}"
            raise UserError(
                f"{self.name} can't predict: its task is {self.recipe['task']['kind']}; it generates",
                where="predict",
                hint=hint,
            )
        self._check(items)
        return self.task.predict(self.model, items)

    def explain(self, items: Sequence[Any], best: int | None = None) -> list[Explanation]:
        """Explanations of the answers to each input, without the answers; for at most `best` choices of each.

        Raises:
            UserError: the model generates, or its task has no explanations; also see `predict` and `Task.explain`.
        """
        if type(self.task).explain is Task.explain:
            task = self.recipe["task"]["kind"]
            hint = f"reprise score {self.name}" if isinstance(self.task, LanguageModel) else None
            raise UserError(
                f"{self.name}: predictions of the task {task} can't be explained", where="explain", hint=hint
            )
        if best is not None and best < 1:
            raise UserError(f"must be 1 or more, not {best}", where="best")
        if len(items) > MAX_EXPLAINED:
            raise UserError(f"{len(items):,} inputs; at most {MAX_EXPLAINED} can be explained at once", where="explain")
        self._check(items, MAX_EXPLAINED_STEPS)
        self.model.eval()
        return [self._placed(self.task.explain, number, items, best) for number in range(1, len(items) + 1)]

    def states(self, items: Sequence[Any]) -> list[dict[str, np.ndarray]]:
        """The hidden states for each item, see `components.models.states`; with the `tokens` [T] if it reads tokens.

        Raises:
            UserError: not supported by such models; also see `predict`.
        """
        if type(self.task).states is Task.states or not has_states(self.model):
            what = f"{self.name}: models of this kind have no hidden states to return"
            hint = "each member of an ensemble has its own states: set model.ensemble: 1" * isinstance(
                self.model, Ensemble
            )
            raise UserError(f"{what} (task {self.recipe['task']['kind']})", where="states", hint=hint or None)
        self._check(items)
        self.model.eval()
        return [self._placed(self.task.states, number, items) for number in range(1, len(items) + 1)]

    def _placed(self, ask: Callable[..., Any], number: int, items: Sequence[Any], *more: Any) -> Any:
        """Call `ask` on an item; errors name its position."""
        try:
            return ask(self.model, items[number - 1], *more)
        except UserError as error:
            if error.where != "explain":
                raise
            raise UserError(error.what, where=f"item {number} of {len(items)}", hint=error.hint) from error

    def _check(self, items: Sequence[Any], most: int = MAX_STEPS) -> None:
        """Raise UserError for items that the model can't read or that have more than `most` steps."""
        reads = getattr(self.encoding, "input", self.encoding)
        for number, item in enumerate(items, 1):
            try:
                steps = len(reads.encode(item))
            except (TypeError, ValueError, AttributeError, UserError) as error:
                what = error.what if isinstance(error, UserError) else f"it is of type {type(item).__name__}"
                what = f"the encoding {reads.kind} can't read it: {what}"
                raise UserError(what, where=f"item {number} of {len(items)}") from None
            # an answer for a whole series depends on its length: refuse a length that differs from that in training
            trained = getattr(reads, "steps", None) or (1, MAX_STEPS)
            if isinstance(members(self.model)[0], Pooled) and trained[0] == trained[1] != steps:
                raise UserError(
                    f"it has {steps:,} {reads.unit}s, but all series that the model was trained on have {trained[0]:,}",
                    where=f"item {number} of {len(items)}",
                )
            # only the last steps of a longer series are read
            if not 1 <= steps <= most and not (steps and reads.reads == "series"):
                raise UserError(
                    f"has {steps:,} {reads.unit}s; 1 to {most:,} can be {'read' if most == MAX_STEPS else 'explained'}",
                    where=f"item {number} of {len(items)}",
                )


def save_bundle(
    folder: Path, name: str, model: nn.Module, encoding: Encoding, recipe: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Write the folder. `facts`: framing, what the task learned, and further facts for readers (run, data digest,
    metrics, versions)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "weights.safetensors", weights(model), {})
    info = {"format": FORMAT, "name": name, **facts, "weights_sha256": digest_file(folder / "weights.safetensors")}
    for file, content in (("model", info), ("encoding", encoding.state()), ("recipe", recipe)):
        text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
        (folder / f"{file}.json").write_text(text + "\n", encoding="utf-8")


def load_bundle(folder: Path, device: str = "cpu") -> Bundle:
    """Load the bundle in a folder.

    Raises:
        UserError: a file is missing, damaged or changed, or was written by a newer version of Reprise.
    """
    info, encoding_state, recipe = (_read_json(folder / f"{file}.json") for file in ("model", "encoding", "recipe"))
    versions = info.get("versions")
    written_by = (versions.get("reprise") if isinstance(versions, dict) else "") or "(version unknown)"
    hint = f"it was written by Reprise {written_by}: use that version"
    if info.get("format") != FORMAT:
        what = f"has bundle format {info.get('format')!r}, but this version of Reprise reads format {FORMAT}"
        raise UserError(what, where=str(folder), hint=hint)
    digest = digest_file(folder / "weights.safetensors")
    if digest != info["weights_sha256"]:
        raise UserError("the weights have changed since they were saved (sha256 differs)", where=str(folder))
    try:
        encoding = encoding_from_state(encoding_state)
        task = make_task(recipe["task"], encoding, info["framing"])
        task.set_learned(info.get("learned", {}))
        model = task.build_model(recipe["model"])
    except (UserError, TypeError, KeyError, ValueError) as error:  # a kind or a setting that no longer exists
        what = error.what if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        raise UserError(f"can't be loaded by this version of Reprise ({what})", where=str(folder), hint=hint) from error
    tensors, _ = read_tensors(folder / "weights.safetensors")
    load_weights(model, tensors, where=str(folder))
    model = model.to(torch.device(device)).eval()
    return Bundle(info["name"], model, encoding, task, recipe, info, digest)


def make_task(section: Mapping[str, Any], encoding: Encoding, framing: str) -> Task:
    """The task of a recipe's task section."""
    options = {key: value for key, value in section.items() if key != "kind"}
    return resolve("task", section["kind"])(encoding, framing, **options)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError(f"is larger than {MAX_JSON_BYTES} bytes", where=str(path))
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"can't be read: {error}", where=str(path), hint="the folder isn't a complete model bundle"
        ) from None
    if not isinstance(value, dict):
        raise UserError("isn't a JSON object", where=str(path))
    return value
