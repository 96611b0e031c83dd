"""Settings of a recipe that have no effect beside its others, such as a momentum without SGD. They are told, not
refused: a comparison may vary the other setting, and older runs are resumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

from components.options import generation_targets, options_of, targets
from components.registry import resolve

Values = Mapping[str, Any]
SECTIONS = ("encoding", "task", "model", "training", "evaluation", "generation")
AUGMENTED = (  # settings by which encodings change what is read in training; targets stay as they are
    *("hidden", "only_stem", "word_dropout", "transpose", "stretch", "noise", "tempo", "warp", "shift", "gain"),
    *("time_masks", "band_masks", "scale", "rotate", "jitter"),
)


class Need(NamedTuple):
    """What a setting needs, and whether a recipe has it. `own` is the section, or the encoding, of the setting."""

    what: str
    holds: Callable[[Values, Values], bool]


def _own(name: str, *choices: Any) -> Need:
    """Another setting of the same section: set, or one of `choices`."""
    said = f"{name}: {' or '.join(map(str, choices))}" if choices else f"{name}, which isn't set"
    return Need(said, lambda recipe, own: own.get(name) in choices if choices else bool(own.get(name)))


def _reads_ids(recipe: Values) -> bool:
    encoding = recipe["encoding"]
    read = encoding.get("input", encoding)["kind"]
    return resolve("encoding", read).form not in ("frames", "series", "strokes")


def _embeds(recipe: Values) -> bool:
    return _reads_ids(recipe) and recipe["model"].get("input", "embedding") == "embedding"


EMBEDDING = Need("a model with an embedding", lambda recipe, own: _embeds(recipe))
# a decoder has an embedding, whatever is read; so may a graph
ANY_EMBEDDING = Need(
    EMBEDDING.what,
    lambda recipe, own: (
        _embeds(recipe) or recipe["task"]["kind"] == "translation" or recipe["model"]["kind"] == "graph"
    ),
)
COPYING = Need("model.copy: true", lambda recipe, own: bool(recipe["model"].get("copy")))
SAMPLING = Need("a temperature above 0", lambda recipe, own: own.get("temperature") != 0)
FORM = Need("form or learned_form", lambda recipe, own: bool(own.get("form") or own.get("learned_form")))
LETTERS = Need("the encoding spelled", lambda recipe, own: recipe["encoding"].get("input", {}).get("kind") == "spelled")
NEEDS: dict[str, Need] = {
    "encoding.only_stem": _own("stem"),
    "encoding.time_mask": _own("time_masks"),
    "encoding.band_mask": _own("band_masks"),
    "encoding.patterns": COPYING,
    "task.alpha": _own("length_penalty", "wu"),
    "model.input": Need("an encoding of tokens", lambda recipe, own: _reads_ids(recipe)),
    "model.embedding_size": ANY_EMBEDDING,
    "model.embedding_scale": EMBEDDING,
    "model.dropout_kind": _own("dropout"),
    "model.residual": Need("two layers or more", lambda recipe, own: own.get("num_layers", 1) > 1),
    "model.cutoffs": _own("softmax", "adaptive"),
    "model.samples": _own("softmax", "sampled"),
    "model.nade_size": _own("output", "nade"),
    "model.note_size": _own("output", "notes"),
    "model.note_dropout": _own("output", "notes"),
    "model.window_gaussians": Need("encoding.texts: true", lambda recipe, own: bool(recipe["encoding"].get("texts"))),
    "model.letters_size": LETTERS,
    "model.letter_models_size": _own("letter_models"),
    "model.letter_models_dropout": _own("letter_models"),
    "training.momentum": _own("optimizer", "sgd"),
    "training.averaging_patience": _own("averaging", "triggered"),
    "training.final_factor": _own("schedule", "cosine", "plateau"),
    "training.plateau_patience": _own("schedule", "plateau"),
    "training.embedding_rate": ANY_EMBEDDING,
    "evaluation.dynamic_window": _own("dynamic"),
    "generation.top_k": SAMPLING,
    "generation.top_p": SAMPLING,
    "generation.gate_temperature": COPYING,
    "generation.learned_form": COPYING,
    "generation.form_strength": FORM,
    "generation.given_ends": _own("given"),
    "generation.particles": _own("rewrite"),
    "generation.band_seed": Need("a band", lambda recipe, own: own.get("band", "none") != "none"),
}


def idle(recipe: Values, sections: Collection[str] = SECTIONS) -> list[str]:
    """The settings of a complete recipe that aren't the defaults and have no effect, a line each: why."""
    found = [
        f"{key}: has no effect, since it needs {need.what}"
        for section in sections
        for key, own, name in _changed(section, recipe)
        if (need := NEEDS.get(f"{section}.{name}")) and not need.holds(recipe, own)
    ]
    if "encoding" in sections:
        found += [
            f"{key}: has no effect, since a target isn't changed in training"
            for key, _, name in _changed("encoding", recipe)
            if key.startswith("encoding.target.") and name in AUGMENTED
        ]
    return found + (_too_late(recipe) if "training" in sections else [])


def _changed(section: str, recipe: Values) -> Iterator[tuple[str, Values, str]]:
    """(key, the settings beside it, its name) of each setting that isn't the default."""
    for place, own, parts in _places(section, recipe):
        options = {name: default for part in parts for name, (_, default) in options_of(part).items()}
        for name, value in own.items():
            value = tuple(value) if isinstance(value, list) else value  # as in a recipe that was JSON
            if value != options.get(name, value):
                yield f"{place}.{name}", own, name


def _places(section: str, recipe: Values) -> Iterator[tuple[str, Values, list[Any]]]:
    """(place, settings, their classes) of a section, and of the encodings in an encoding."""
    own, task = recipe[section], recipe["task"]
    if section == "encoding":
        waiting = [(section, own)]
        while waiting:
            place, own = waiting.pop(0)
            yield place, own, targets(section, own["kind"])
            waiting += [(f"{place}.{name}", value) for name, value in own.items() if isinstance(value, Mapping)]
    elif section == "generation":
        yield section, own, generation_targets(task)
    elif section == "model":
        yield section, own, resolve("task", task["kind"]).model_kinds()[own["kind"]]
    else:
        yield section, own, targets(section, own.get("kind"))


def _too_late(recipe: Values) -> list[str]:
    """Settings that wait for more updates or evaluations than there are."""
    training, found = recipe["training"], []
    steps, warmup = training["steps"], training["warmup_steps"]
    if warmup > steps:
        found.append(f"training.warmup_steps: {warmup:,} of {steps:,} updates: learning_rate isn't reached")
    count = math.ceil(steps / recipe["evaluation"]["every"])
    # how many evaluations must have been before one that changes the updates after it, and what that does
    waits = {
        "patience": (training["patience"] + 1 if training["patience"] else 0, "training can't end early"),
        "plateau_patience": (
            training["plateau_patience"] + 1 if training["schedule"] == "plateau" else 0,
            "the learning rate is never halved",
        ),
        "averaging_patience": (
            training["averaging_patience"] + 2 if training["averaging"] == "triggered" else 0,
            "averaging never begins",
        ),
    }
    few = f"with {count:,} evaluation{'s' * (count > 1)} (evaluation.every)"
    return found + [f"training.{name}: {what}, {few}" for name, (before, what) in waits.items() if before >= count]
