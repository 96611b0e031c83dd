"""Settings without effect: that they are told, and that what isn't told or refused has one."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import annotated_types
import pytest
import torch
from task_pairs import PAIRS, ROWS, STEPS, Pair, both

from components.errors import UserError
from components.idle import NEEDS, idle
from components.options import options_of
from components.recipe import Recipe
from components.registry import resolve

LM = {"encoding": {"kind": "characters"}, "task": {"kind": "language_model"}, "model": {"kind": "gru"}}
LABELS = {"encoding": both("tokens", "labels"), "task": {"kind": "classification"}, "model": {"kind": "gru"}}
TAGS = {"encoding": both("spelled", "labels"), "task": {"kind": "tagging"}, "model": {"kind": "gru"}}
SPEECH = {"encoding": both("mel", "characters"), "task": {"kind": "transcription"}, "model": {"kind": "gru"}}
WORDS = {"encoding": both("words", "words"), "task": {"kind": "translation"}, "model": {"kind": "gru"}}
ROLLS = {"encoding": {"kind": "pianoroll"}, "task": {"kind": "frame_model"}, "model": {"kind": "gru"}}
PENS = {"encoding": {"kind": "strokes"}, "task": {"kind": "stroke_model"}, "model": {"kind": "gru"}}
SONGS = {"encoding": {"kind": "lead_sheet"}, "task": {"kind": "music"}, "model": {"kind": "gru"}}
READERS = {
    "language_model": "lines",
    "classification": "table",
    "tagging": "conll",
    "transcription": "wav",
    "frame_model": "rolls",
    "stroke_model": "strokes",
    "music": "music",
    "translation": "table",
}

# the recipe, a setting, and one with which it acts
CASES: list[tuple[dict[str, Any], str, Any, dict[str, Any]]] = [
    (LABELS, "encoding.input.only_stem", 0.5, {"encoding.input.stem": 3}),
    (SPEECH, "encoding.input.time_mask", 5, {"encoding.input.time_masks": 1}),
    (SPEECH, "encoding.input.band_mask", 5, {"encoding.input.band_masks": 1}),
    (SONGS, "encoding.patterns", True, {"model.copy": True}),
    (WORDS, "encoding.target", {"kind": "tokens", "hidden": 0.5}, {"encoding.target": {"kind": "tokens"}}),
    (WORDS, "task.alpha", 0.5, {"task.length_penalty": "wu"}),
    (SPEECH, "model.input", "one_hot", {"encoding.input": {"kind": "characters"}}),
    (SPEECH, "model.embedding_size", 4, {"encoding.input": {"kind": "characters"}}),
    (LM, "model.embedding_scale", 0.5, {"model.input": "embedding"}),
    (LM, "model.dropout_kind", "locked", {"model.dropout": 0.1}),
    (LM, "model.residual", True, {"model.num_layers": 3}),
    (LM, "model.cutoffs", [5], {"model.softmax": "adaptive"}),
    (LM, "model.samples", 5, {"model.softmax": "sampled"}),
    (ROLLS, "model.nade_size", 5, {"model.output": "nade"}),
    (ROLLS, "model.note_size", 5, {"model.output": "notes"}),
    (ROLLS, "model.note_dropout", 0.5, {"model.output": "notes"}),
    (PENS, "model.window_gaussians", 5, {"encoding.texts": True}),
    (TAGS, "model.letters_size", 5, {"encoding.input": {"kind": "spelled"}}),
    (TAGS, "model.letter_models_size", 5, {"model.letter_models": ["mine"]}),
    (TAGS, "model.letter_models_dropout", 0.1, {"model.letter_models": ["mine"]}),
    (LM, "training.momentum", 0.9, {"training.optimizer": "sgd"}),
    (LM, "training.averaging_patience", 2, {"training.averaging": "triggered"}),
    (LM, "training.final_factor", 0.2, {"training.schedule": "plateau"}),
    (LM, "training.plateau_patience", 3, {"training.schedule": "plateau"}),
    (LM, "training.embedding_rate", 0.5, {"model.input": "embedding"}),
    (LM, "training.warmup_steps", 5001, {"training.steps": 5001}),
    (LM, "training.patience", 9, {"evaluation.every": 100}),
    (LM, "training.averaging", "triggered", {"training.averaging_patience": 2}),
    (LM, "training.schedule", "plateau", {"evaluation.every": 1000}),
    (LM, "evaluation.dynamic_window", 5, {"evaluation.dynamic": True, "data.reader": "text"}),
    (LM, "generation.top_k", 5, {"generation.temperature": 0.5}),
    (LM, "generation.top_p", 0.5, {"generation.temperature": 0.5}),
    (SONGS, "generation.gate_temperature", 0.5, {"model.copy": True}),
    (SONGS, "generation.learned_form", True, {"model.copy": True}),
    (SONGS, "generation.form_strength", 0.5, {"model.copy": True, "generation.form": "AB"}),
    (LM, "generation.given_ends", True, {"generation.given": [5]}),
    (LM, "generation.particles", 5, {"generation.rewrite": "bar 1"}),
    (SONGS, "generation.band_seed", 5, {"generation.band": "swing"}),
]
WITHOUT = {  # what takes the effect away, where the defaults don't
    "task.alpha": {"task.length_penalty": "none"},
    "model.embedding_scale": {"model.input": "one_hot"},
    "training.embedding_rate": {"model.input": "one_hot"},
    "training.averaging": {"evaluation.every": 1000},
    "training.schedule": {"evaluation.every": 2000},
    "training.final_factor": {"training.schedule": "constant"},
    "model.nade_size": {"model.output": "independent"},
    "model.letters_size": {"encoding.input": {"kind": "symbols"}},
    "generation.top_k": {"generation.temperature": 0},
    "generation.top_p": {"generation.temperature": 0},
}


def told(base: dict[str, Any], **settings: Any) -> list[str]:
    values: dict[str, Any] = {name: dict(section) for name, section in base.items()}
    values["data"] = {"path": "x", "reader": READERS[base["task"]["kind"]]}
    values["data"] |= {"source": "a", "target": "b"} if values["data"]["reader"] == "parallel" else {}
    for key, value in settings.items():
        *path, last = key.split(".")
        node = values
        for part in path:
            node[part] = dict(node.get(part, {}))
            node = node[part]
        node[last] = value
    return idle(Recipe.from_dict("mine", values).as_dict())


@pytest.mark.parametrize(("base", "setting", "value", "ways"), CASES, ids=[case[1] for case in CASES])
def test_a_setting_without_effect_is_told_and_its_way_out_is_one(base, setting, value, ways) -> None:
    lines = told(base, **{setting: value}, **WITHOUT.get(setting, {}))
    assert len(lines) == 1, lines
    assert lines[0].startswith({"training.schedule": "training.plateau_patience"}.get(setting, setting))
    assert told(base, **{setting: value} | ways) == []


def test_every_need_has_a_case() -> None:
    def short(key: str) -> str:
        return f"{key.split('.')[0]}.{key.rpartition('.')[2]}"

    assert NEEDS.keys() <= {short(setting) for _, setting, _, _ in CASES}


def others(annotation: Any, default: Any) -> Iterator[Any]:
    """A value of each of the types of a setting that isn't its default; of a choice, all."""
    args, bounds = typing.get_args(annotation), []
    if typing.get_origin(annotation) is typing.Annotated:
        bounds = [bound for mark in args[1:] for bound in getattr(mark, "metadata", [mark])]
        annotation, args = args[0], ()
        args = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        yield from (choice for choice in args if choice != default)
    elif annotation is bool:
        yield not default
    elif annotation is int:
        yield 3 if default is None else default + 1
    elif annotation is float:
        most = min((bound.lt for bound in bounds if isinstance(bound, annotated_types.Lt)), default=9.0)
        yield 0.3 if default != 0.3 and most <= 1 else default + 0.5
    elif type(None) in args:
        yield from (value for part in args if part is not type(None) for value in others(part, default))


def seen(pair: Pair) -> list[Any]:
    """All that a model's settings change: its parameters and its loss on a batch, in training."""
    task, model, split = pair.build()
    batch = next(iter(task.batches(split, batch_size=ROWS, window=STEPS, seed=0, training=True).epoch()))
    torch.manual_seed(2)
    loss = task.loss(model.train(), batch, None)[0].total.detach()
    return [*model.state_dict().values(), loss]


def same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


GUARDED = (
    *("language, one-hot", "language, sampled", "classification, max", "regression", "tagging", "frames, notes"),
    *("translation, input feeding", "strokes", "notes"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", GUARDED)
def test_a_models_setting_has_an_effect_or_is_told_or_refused(name: str) -> None:
    pair = PAIRS[name]
    kind = pair.model.get("kind", "lstm")
    before, tried = seen(pair), 0
    for part in resolve("task", pair.task["kind"]).model_kinds()[kind]:
        for setting, (annotation, default) in options_of(part).items():
            if setting in ("kind", "backend", "bidirectional", "ensemble"):
                continue
            for value in others(annotation, pair.model.get(setting, 8 if setting == "hidden_size" else default)):
                few = {"samples": 4} if setting == "softmax" else {}  # or all words are drawn
                changed = replace(pair, model={"kind": kind, **pair.model, setting: value, **few})
                tried += 1
                try:
                    after = seen(changed)
                except UserError:
                    continue
                recipe = {"encoding": pair.encoding, "task": pair.task, "model": changed.model}
                lines = [line for line in idle(recipe, ["model"]) if line.startswith(f"model.{setting}:")]
                assert same(before, after) == bool(lines), f"{setting}={value}: {lines}"
    assert tried >= 15
