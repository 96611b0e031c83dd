"""Likelihood of texts or pieces under a language model: the nats of each token."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.bundle import Bundle
from components.datasets.files.folders import told
from components.datasets.sources import SECTION, build
from components.encodings.doubts import Doubts, understood
from components.encodings.vocabulary import BOS, EOS, UNK
from components.errors import UserError
from components.options import options_of
from components.paths import apart, existing
from components.registry import resolve
from components.tasks.language_model import LanguageModel
from components.tasks.surprise import surprise
from components.whole_files import written_whole

MOST_TOKENS = 1_000_000  # largest item
HARDEST = 5  # tokens listed in a line


@dataclass(frozen=True)
class Scored:
    """A scored item: `tokens` with their ids and `nats`, float64 [T], each conditional on all tokens before it. The end
    of a sequence is a token. The first token of a continuous text isn't scored, as nothing precedes it."""

    tokens: list[str]
    ids: np.ndarray
    nats: np.ndarray
    unit: str

    @property
    def total_nats(self) -> float:
        return float(self.nats.sum())

    @property
    def nats_per_token(self) -> float:
        return float(self.nats.mean())

    @property
    def bits_per_token(self) -> float:
        return self.nats_per_token / math.log(2)

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.nats_per_token, 700.0))

    @property
    def unknown(self) -> int:
        """Number of unknown tokens, scored as `<UNK>`."""
        return int((self.ids == UNK).sum())

    def line(self) -> str:
        """The averages, and the least likely tokens."""
        hardest = sorted(range(len(self.nats)), key=lambda n: -self.nats[n])[:HARDEST]
        shown = ", ".join(f"{self.tokens[n]!r} {self.nats[n]:.1f}" for n in hardest)
        unknown = f"; {self.unknown:,} unknown" if self.unknown else ""
        figures = f"{self.nats_per_token:.4f} nats per {self.unit}, {self.bits_per_token:.4f} bits"
        return (
            f"{figures}, perplexity {self.perplexity:.4g}, {len(self.nats):,} {self.unit}s{unknown}; hardest: {shown}"
        )


def score(
    bundle: Bundle, items: Sequence[Any], doubts: Doubts | None = None, *, where: str | None = None
) -> list[Scored]:
    """The likelihood of each text or score; warnings are added to `doubts`. `where`: name of a single item in errors,
    by default its number.

    Raises:
        UserError: the model isn't a language model, or an item can't be read or is too short or too long.
    """
    task = bundle.task
    if not isinstance(task, LanguageModel):
        hint = (
            f"reprise predict {bundle.name}"
            if task.settings is None
            else "use a model of text, chorales or lead sheets"
        )
        raise UserError(
            f"{bundle.name} can't score: its task is {bundle.recipe['task']['kind']}, not language_model", hint=hint
        )
    encoding, found = bundle.encoding, []
    for number, item in enumerate(items, 1):
        place = where or f"item {number} of {len(items)}"
        item = understood(encoding, item, place, doubts or Doubts(), exactly=True) if isinstance(item, str) else item
        try:
            ids = np.asarray(encoding.encode(item), dtype=np.int64)
        except AttributeError:
            raise UserError(f"the encoding {encoding.kind} can't read {type(item).__name__}", where=place) from None
        except (TypeError, ValueError) as error:
            raise UserError(f"the encoding {encoding.kind} can't read it: {error}", where=place) from None
        if task.framing == "sequences":
            ids = np.concatenate([[BOS], ids, [EOS]])
        if not 2 <= len(ids) <= MOST_TOKENS:
            raise UserError(f"has {len(ids):,} {encoding.unit}s; 2 to {MOST_TOKENS:,} can be scored", where=place)
        nats, scored = surprise(bundle.model, task.read, ids)[encoding.given :], ids[1 + encoding.given :]
        found.append(Scored([encoding.vocabulary.token(int(id)) for id in scored], scored, nats, encoding.unit))
    return found


def items_of(bundle: Bundle, path: Path, *written: Path) -> tuple[list[Any], list[str]]:
    """The items of a file or folder, read like the training data, and notes on skipped ones. A continuous text is one
    item.

    Raises:
        UserError: it can't be read, has no items, or contains a file that will be `written`.
    """
    data = bundle.recipe["data"]
    existing(path, where=str(path))
    options = {key: value for key, value in data.items() if key not in SECTION and value is not None}
    if "unique" in options_of(resolve("reader", str(data["reader"]))):
        options["unique"] = False  # only training drops repeated items
    reader = build("reader", str(data["reader"]), options, SECTION, [path])
    if reader.pairs or reader.own:
        raise UserError(
            f"this model's data come from the reader {data['reader']}, which can't read files to score", where=str(path)
        )
    for out in written:
        apart(out, reader.files)
    items = list(reader.items())
    left_out = [f"left out: {count:,} × {reason}" for reason, count in reader.dropped.items()]
    notes = [*told(reader.passed_over), *left_out, *reader.notes]
    if not items:
        raise UserError(
            f"the reader {data['reader']} can't read anything from it", where=str(path), hint="; ".join(notes)
        )
    return (["".join(items)] if reader.framing == "stream" and isinstance(items[0], str) else items), notes


def write_scores(path: Path, scored: Iterable[Scored]) -> None:
    """Write a table with a row for each token: item, position, token, nats."""
    with written_whole(path) as whole, whole.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item", "position", "token", "nats"])
        for number, one in enumerate(scored, 1):
            for position, (token, nats) in enumerate(zip(one.tokens, one.nats, strict=True), 1):
                writer.writerow([number, position, token, f"{nats:.6f}"])
