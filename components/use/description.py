"""Description of a model: inputs, outputs and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.answers import input_of
from components.encodings.base import Encoding
from components.ink import Ink
from components.score import Score
from components.tasks.base import Task


@dataclass(frozen=True)
class Description:
    """Description of a model.

    `writes`: text, notes or strokes; None if it predicts. `reads`: text, symbols, frames, audio or series
    (`Encoding.reads`); None if it generates. `step_shape`: shape of an input frame, with None for any size. `columns`:
    of its predictions, name → text, number, whole, texts or numbers. `accepts`: inputs of generation: prompt, chords,
    melody, start, keep. `settings`: default generation settings. `metrics`: on test data, when the model was saved.
    """

    task: str
    writes: str | None
    reads: str | None
    step_shape: tuple[int | None, ...]
    columns: dict[str, str]
    accepts: list[str]
    settings: dict[str, Any]
    trained_on: str
    metrics: dict[str, float]


def describe(task: Task, encoding: Encoding, recipe: Mapping[str, Any], info: Mapping[str, Any]) -> Description:
    """Describe a model from the parts of its bundle; the weights aren't needed."""
    metrics = {key: value for key, value in info.get("metrics", {}).items() if key.startswith("test/")}
    kind, trained_on = recipe["task"]["kind"], info.get("data", {}).get("name", "")
    if task.settings is None:
        source = input_of(encoding)
        asked = source.reads, source.step_shape, dict(task.columns)
        return Description(kind, None, *asked, [], {}, trained_on, metrics)
    settings, nothing = dict(recipe["generation"]), encoding.decode(np.zeros(0, dtype=np.int64))
    music = isinstance(nothing, Score)
    accepts = [name for name in ("prompt", "chords") if name in settings and (name != "prompt" or task.prompted)]
    if music and task.form == "tokens":
        melody = type(encoding).with_melody is not Encoding.with_melody
        accepts += ["melody", "start"] if melody else ["start"]
        accepts += ["keep"] if type(encoding).timeline is not Encoding.timeline else []
    writes = "notes" if music else "strokes" if isinstance(nothing, Ink) else "text"
    return Description(kind, writes, None, (), {}, accepts, settings, trained_on, metrics)
