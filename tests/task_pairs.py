"""Every task beside the models that it takes, with a few examples each: what the tests of other devices run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from components.datasets.made.handwriting import MadeHandwriting
from components.datasets.store import Examples, Sequences, Split
from components.encodings.series import Series
from components.encodings.vocabulary import BOS, EOS
from components.evaluation.evaluator import Evaluator
from components.layers.base import State
from components.registry import resolve
from components.score import Note, Part, Score
from components.tasks.base import Tally, Task
from components.training.gradients import held_out_probe
from components.training.optim import make_optimizer
from components.training.schedule import Schedule
from components.training.trainer import Trainer

ROWS, STEPS = 4, 12  # of a batch
UPDATES = 2  # before training is cut short and goes on


@dataclass(frozen=True)
class Pair:
    """A task and a model; `items` are of the encoding."""

    items: list[Any]
    encoding: dict[str, Any]
    model: dict[str, Any]
    task: dict[str, Any] = field(default_factory=lambda: {"kind": "language_model"})
    framing: str = "sequences"
    training: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)

    def build(self) -> tuple[Task, nn.Module, Split]:
        """The task, its model, the same every time, and the examples."""
        encoding, task, model = dict(self.encoding), dict(self.task), {"kind": "lstm", **self.model}
        made = resolve("encoding", encoding.pop("kind"))(**encoding)
        made.fit(self.items)
        built = resolve("task", task.pop("kind"))(made, self.framing, **task)
        torch.manual_seed(1)
        options = built.check_graph(model, []) if model["kind"] == "graph" else {"hidden_size": 8, **model}
        return built, built.build_model(options), split(made, self.items, self.framing)


def split(encoding: Any, items: list[Any], framing: str) -> Split:
    """The items as a store has them."""
    columns: dict[str, list[np.ndarray]] = {name: [] for name in encoding.fields}
    for item in items:
        encoded = encoding.encode(item)
        arrays = encoded if isinstance(encoded, dict) else dict.fromkeys(columns, encoded)
        for name, array in arrays.items():
            framed = encoding.form == "tokens" and framing == "sequences"
            columns[name].append(np.concatenate([[BOS], array, [EOS]]) if framed else np.asarray(array))
    offsets = {name: np.cumsum([0, *map(len, arrays)]) for name, arrays in columns.items()}
    fields = {name: Sequences(np.concatenate(arrays), offsets[name]) for name, arrays in columns.items()}
    return fields["tokens"] if encoding.form == "tokens" else Examples(fields)


def both(read: str, said: str, **options: Any) -> dict[str, Any]:
    return {"kind": "pair", "input": {"kind": read, **options}, "target": {"kind": said}}


def piece(lowest: int, *, voices: int = 1, steps_per_beat: int = 4) -> Score:
    """Each voice goes up its five notes, again and again; the first voice is the highest."""
    starts = range(0, 8 * steps_per_beat, steps_per_beat)
    parts = [
        Part(str(voice), tuple(Note(at, steps_per_beat, lowest - 5 * voice + n % 5) for n, at in enumerate(starts)))
        for voice in range(voices)
    ]
    return Score(tuple(parts), steps_per_beat=steps_per_beat, length_steps=8 * steps_per_beat)


CITIES = ["Oslo", "Lima", "Rome", "Bern", "Riga", "Paris", "Dakar", "Minsk", "Vienna", "Lisbon", "Nairobi", "Helsinki"]
STORY = ["a fox met a hen and the hen met a dog, so the dog ran to the fox. " * 5]
FROM = {"prompt": "the "}
OPINIONS = [("warm and kind", "yes"), ("cold", "no"), ("very warm", "yes"), ("rather cold and late", "no")] * 3
RATED = [(text, str(len(text) // 6)) for text, label in OPINIONS]
OPINIONS = [(text, [label]) for text, label in OPINIONS]
SUMS = [([[0.5, 1.0]] * n, [n / 2]) for n in (1, 4, 2, 6)] * 3
NAMED = [
    (["Ada", "met", "Max"], ["B-PER", "O", "B-PER"]),
    (["met", "Ada", "King"], ["O", "B-PER", "I-PER"]),
    (["so"], ["O"]),
] * 4
ORDERS = [("drei rote", "three red"), ("blau", "blue ones"), ("acht", "8"), ("zwei ganz neue", "two quite new")] * 3
TONES = [
    ((np.sin(np.arange(n, dtype=np.float32) / 7), 8000), text) for n, text in ((3600, "hm"), (2800, "m"), (4800, "mhm"))
] * 3
CHORALES = [piece(lowest, voices=4) for lowest in (66, 67, 68, 69)]
TUNES = [piece(lowest, steps_per_beat=12) for lowest in (60, 62, 65, 67)]
DAYS = np.datetime64("2024-01-01") + np.arange(60)
LOADS = [
    Series(
        str(n), DAYS[: 60 - n], np.round((n + 1) * (2 + np.sin(np.arange(60.0 - n)))), np.zeros((60 - n, 0)), "D", 7, 3
    )
    for n in range(4)
]
AHEAD = {"kind": "forecast", "context": 9, "samples": 10}
WORDS_BY_HAND = sorted(MadeHandwriting(count=40, words=1).items(), key=lambda item: item.points)[:4]
PEN = {"gaussians": 3, "window_gaussians": 2}
LAYERS = {
    "letters": {"layer": "embedding", "of": "tokens", "size": 8},
    "one": {"layer": "gru", "of": "letters", "hidden_size": 8},
    "two": {"layer": "lstm", "of": "tokens", "hidden_size": 8},
    "all": {"layer": "concat", "of": ["one", "two"]},
    "logits": {"layer": "linear", "of": "all"},
}
EXTRAS = {"dropout_kind": "locked", "residual": True, "layer_norm": True, "learn_initial_state": True}
LETTERS, WORDS, SPELLED = {"kind": "characters"}, {"kind": "words"}, both("spelled", "labels")
MOODS, TEXTS = both("words", "labels"), both("characters", "characters")
JUDGE, TRANSLATE = {"kind": "classification"}, {"kind": "translation", "max_ratio": 0.1}
SAMPLED, ADAPTIVE = {"softmax": "sampled", "samples": 4}, {"softmax": "adaptive", "cutoffs": (4, 8)}
TWO_WAYS = {"kind": "gru", "bidirectional": True}

PAIRS: dict[str, Pair] = {
    "language, embedding": Pair(STORY, LETTERS, {"num_layers": 2, "dropout": 0.2}, framing="stream", generation=FROM),
    "language, one-hot": Pair(CITIES, LETTERS, {"input": "one_hot"}),
    "language, one-hot, torch": Pair(CITIES, LETTERS, {"kind": "gru", "input": "one_hot", "backend": "torch"}),
    "language, tied, averaged": Pair(
        CITIES, LETTERS, {"tie_weights": True}, training={"averaging": 0.9, "clip_value": 1.0}
    ),
    "language, extras": Pair(
        CITIES, LETTERS, {"kind": "rnn", "num_layers": 2, "dropout": 0.2, "recurrent_dropout": 0.2, **EXTRAS}
    ),
    "language, peephole": Pair(CITIES, LETTERS, {"kind": "peephole-lstm"}),
    "language, minGRU": Pair(CITIES, LETTERS, {"kind": "mingru", "num_layers": 2}),
    "language, minLSTM": Pair(CITIES, LETTERS, {"kind": "minlstm", "input": "one_hot"}),
    "language, sampled": Pair(STORY, WORDS, SAMPLED, framing="stream", generation=FROM),
    "language, sampled, padded": Pair(CITIES, LETTERS, SAMPLED),
    "language, adaptive": Pair(STORY, WORDS, ADAPTIVE, framing="stream", generation=FROM),
    "language, graph": Pair(CITIES, LETTERS, {"kind": "graph", "layers": LAYERS}),
    "chorale": Pair(CHORALES, {"kind": "chorale"}, {}),
    "lead sheet, copying": Pair(TUNES, {"kind": "lead_sheet", "planned": True}, {"copy": True}, {"kind": "music"}),
    "classification, last": Pair(OPINIONS, MOODS, TWO_WAYS, JUDGE),
    "classification, mean": Pair(OPINIONS, MOODS, {"kind": "gru", "pooling": "mean"}, JUDGE),
    "classification, max": Pair(
        OPINIONS, both("characters", "labels"), {**TWO_WAYS, "pooling": "max", "input": "one_hot"}, JUDGE
    ),
    "classification, attention": Pair(OPINIONS, MOODS, {"num_layers": 2, "pooling": "attention"}, JUDGE),
    "classification, ensemble": Pair(OPINIONS, MOODS, {**TWO_WAYS, "ensemble": 3}, JUDGE),
    "classification, one-hot ensemble": Pair(OPINIONS, MOODS, {"input": "one_hot", "ensemble": 2}, JUDGE),
    "ordinal regression": Pair(RATED, both("words", "ratings"), {}, {"kind": "ordinal"}),
    "ordinal regression, ensemble": Pair(RATED, both("words", "ratings"), {"ensemble": 3}, {"kind": "ordinal"}),
    "regression": Pair(SUMS, both("frames", "frames"), {"kind": "gru"}, {"kind": "regression"}),
    "regression, ensemble": Pair(
        SUMS, both("frames", "frames"), {"kind": "gru", "ensemble": 3}, {"kind": "regression"}
    ),
    "forecast": Pair(
        LOADS,
        {"kind": "series"},
        {"kind": "gru"},
        {**AHEAD, "output": "student_t", "centre": True, "from_season": True},
    ),
    "forecast, counts": Pair(LOADS, {"kind": "series"}, {}, {**AHEAD, "output": "negative_binomial"}),
    "forecast, quantiles": Pair(LOADS, {"kind": "series", "lags": (2, 7)}, {}, {**AHEAD, "output": "quantiles"}),
    "tagging": Pair(NAMED, both("symbols", "labels"), {}, {"kind": "tagging"}),
    "tagging, CRF, spelled": Pair(
        NAMED, SPELLED, {**TWO_WAYS, "crf": True, "letters_size": 4}, {"kind": "tagging", "scheme": "iob"}
    ),
    "transcription": Pair(TONES, both("mel", "characters", rate_hz=8000, bands=8), TWO_WAYS, {"kind": "transcription"}),
    "translation": Pair(ORDERS, TEXTS, {**TWO_WAYS, "tie_weights": True}, {**TRANSLATE, "label_smoothing": 0.1}),
    "translation, input feeding": Pair(
        ORDERS, TEXTS, {"attention": "additive", "input_feeding": True}, {**TRANSLATE, "scheduled_sampling": 0.3}
    ),
    "frames, NADE": Pair(CHORALES, {"kind": "pianoroll"}, {"nade_size": 4}, {"kind": "frame_model"}),
    "frames, notes": Pair(
        CHORALES, {"kind": "pianoroll"}, {"output": "notes", "note_size": 4}, {"kind": "frame_model"}
    ),
    "strokes": Pair(WORDS_BY_HAND, {"kind": "strokes"}, {"kind": "gru", **PEN}, {"kind": "stroke_model"}),
    "strokes, text": Pair(
        WORDS_BY_HAND,
        {"kind": "strokes", "texts": True},
        PEN,
        {"kind": "stroke_model"},
        generation={"prompt": WORDS_BY_HAND[0].text},
    ),
    "notes": Pair(TUNES, {"kind": "notes"}, {"kind": "gru", "head_size": 4}, {"kind": "note_model"}),
    "notes, copied": Pair(TUNES, {"kind": "notes"}, {"head_size": 4, "copy": True}, {"kind": "note_model"}),
}


class Cut(Exception):
    """A training is cut short."""


def whole_use(pair: Pair, folder: Path, events: Any, to: Callable[[Any], Any] = lambda model: model) -> dict[str, Any]:
    """All that is done with a model: updates, a checkpoint written and read, the probe, metrics, findings, writing.
    `to` puts it on a device."""
    task, model, split = pair.build()
    found: dict[str, Any] = {"made": []}
    losses: list[tuple[Tensor, float]] = []
    cuts: list[None] = []

    def loss(*args: Any) -> tuple[Tally, State]:
        if len(losses) == UPDATES and not cuts:
            cuts.append(None)
            raise Cut
        tally, state = task.loss(*args)
        losses.append((tally.total.detach(), tally.count))
        return tally, state

    model = to(model)
    make = {"batch_size": ROWS, "window": STEPS, "seed": 0}
    batches, held = (task.batches(split, **make, training=training) for training in (True, False))
    torch.manual_seed(2)
    options = {"steps": UPDATES + 1, "batch_size": ROWS, "tbptt_length": STEPS, "checkpoint_seconds": 0.0}
    for _ in range(2):  # the second goes on from the first's checkpoint
        trainer = Trainer(model, loss, make_optimizer(model), Schedule(10), folder, events, **options, **pair.training)
        with suppress(Cut):
            trainer.train(batches, lambda: {"it": 1.0}, every=100, primary="it")
    found["losses"] = [float(total) / int(count) for total, count in losses]
    probe = held_out_probe(model, task.loss, held)
    found["probe"] = probe.measure().metrics() if probe else {}
    found["metrics"] = Evaluator(task, batch_size=ROWS, window=STEPS).evaluate(model, split)
    found["final"] = task.final_metrics(model, split)
    found["findings"] = [finding.name for finding in task.findings(model, split)]
    if task.settings is not None:
        made = task.generate(model, task.settings(count=2, max_length=8, **pair.generation), seed=0)
        found["made"] = [one.nats_per_token for one in made.sampled]
    assert len(found["losses"]) == UPDATES + 1
    return found
