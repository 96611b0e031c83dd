"""Statistics of the targets, counted while the data are encoded: labels by split, ranges of numbers, steps to evaluate.

Data that can't be learned or evaluated are refused before training: a single label, a constant number, a split without
targets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import numpy as np

from components.datasets.base import Reader
from components.datasets.giveaways import Giveaways
from components.datasets.shifted import Shifted
from components.datasets.sides import Sides
from components.datasets.stand_ins import StandIns
from components.datasets.store import SPLITS
from components.datasets.unicode_forms import UnicodeForms
from components.encodings.base import Encoding
from components.encodings.vocabulary import PAD
from components.errors import UserError
from components.options import options_of

SHOWN = 12  # labels listed with their counts
NAMED = 5  # labels named in a sentence
MISSING = ("nan", "n/a", "#n/a", "na", "null", "none", "?")
LEFTOVERS = re.compile(
    r"(?i)unsup(ervised)?|unlabell?ed|unsorted|left[ _-]?overs?|to[ _-]?do|tmp|backup|trash|unsortiert|papierkorb"
)
MANY = 10  # with this many labels, it is odd if most occur once
WHOLE = 2.0**53  # from here on float64 can't represent every whole number
MOST_TEXTS = 100_000  # texts whose labels are compared
TRUTH = {
    *("true", "false", "yes", "no", "t", "f", "y", "n", "1", "0"),
    *("wahr", "falsch", "ja", "nein", "j", "vrai", "faux", "oui", "non", "o", "sí", "si", "verdadero", "falso"),
}
# Cyrillic and Greek letters that look like Latin ones
LOOK_ALIKE = str.maketrans("АВЕКМНОРСТУХаеорсухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEKMHOPCTYXaeopcyxijsABEZHIKMNOPTYXo")
JOINS = re.compile(r"[;,|]|\s*[+&]\s*")  # between labels in one cell
WITH_UNIT = re.compile(r"[$€£¥]\s*[-+]?\d[\d.,]*|[-+]?\d[\d.,]*\s*[%$€£¥°]")  # 43%, $5
FEWEST_AMOUNTS = 6  # labels
LOOKED_AT = 10_000  # rows of a file whose label is reported
Labels = Mapping[str, Mapping[str, int]]  # by split: label → count


class Targets:
    """The targets of an ingestion."""

    def __init__(self, encoding: Encoding, stream: bool) -> None:
        self.encoding, self.stream = encoding, stream
        self.labels: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.measured = dict.fromkeys(SPLITS, 0)
        self.stand_ins, self.forms, self.sides, self.shifted = StandIns(), UnicodeForms(), Sides(), Shifted()
        self.giveaways = Giveaways()
        self.of_texts: dict[int, set[str]] = {}  # the labels of train's texts, by the text's hash
        self.items = self.alike = 0  # in train: all items, and those with input equal to target
        self.whole = False  # one label for the item, not one for each step
        self.ends: tuple[np.ndarray, np.ndarray] | None = None  # minimum and maximum of train's numbers

    def add(self, split: str, item: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Count an encoded item."""
        labels = self.encoding.labels_of(item)
        self.labels[split].update(labels)
        if not labels and isinstance(item, tuple) and isinstance(item[0], str) and isinstance(item[1], str):
            self.sides.add(split, *item)
            self.shifted.add(*item)
        if split == "train":
            self.stand_ins.add(item)
            self.forms.add(item[0] if labels else item)  # labels that differ only in form are reported below
            self.items += 1
            if isinstance(item, tuple) and isinstance(item[0], str) and isinstance(item[1], str):
                self.alike += item[0] == item[1]
                if labels:
                    self.giveaways.add(*item)
                if len(self.of_texts) < MOST_TEXTS:
                    self.of_texts.setdefault(hash(item[0].casefold()), set()).add(item[1])
        steps = arrays.get("target", next(iter(arrays.values())))
        counted = np.count_nonzero(steps != PAD) if "target" in arrays and steps.dtype.kind in "iu" else len(steps)
        # the first token of a stream has no context; a sequence's end is measured too
        begins = self.stream and not self.measured[split] and self.encoding.form == "tokens"
        self.measured[split] += int(counted) - begins + (self.encoding.form == "tokens" and not self.stream)
        if "target" in arrays:
            self.whole |= isinstance(item[1], str)
            if steps.dtype.kind == "f" and split == "train":
                values = np.atleast_2d(np.asarray(item[1], dtype=np.float64))
                low, high = self.ends or (values.min(0), values.max(0))
                self.ends = (np.minimum(low, values.min(0)), np.maximum(high, values.max(0)))

    def check(self, wanted: Mapping[str, bool], readers: Mapping[str | None, Reader]) -> list[str]:
        """Warnings about the targets.

        Raises:
            UserError: there is nothing to learn, or a requested split has nothing to evaluate.
        """
        for split, measured in self.measured.items():
            if wanted[split] and measured <= 0:
                what = "learn from in train" if split == "train" else f"measure of {split}"
                hint = "give more data, or set the fraction of that split to 0 in data.split"
                raise UserError(f"nothing is left to {what}: none of its steps is counted", where="data", hint=hint)
        if self.whole and len(self.labels["train"]) == 1:
            raise self._one_label(readers)
        notes = [*self._alike(), *self._odd()]
        for doubts in (self.stand_ins, self.forms, self.sides, self.shifted, self.giveaways):
            notes += doubts.notes()
        several = sum(len(labels) > 1 for labels in self.of_texts.values())
        if self.labels["train"] and self.whole and several:
            many = "warning: " * (20 * several > len(self.of_texts))
            has = "has" if several == 1 else "have"
            notes.append(f"{many}{several:,} of the {len(self.of_texts):,} texts of train {has} several labels")
        if self.alike > 1 and 2 * self.alike > self.items:
            notes.append(f"warning: {self.alike:,} of {self.items:,} inputs of train are the same as their targets")
        if not self.whole and len(self.labels["train"]) == 1:
            notes.append(f"every step of train has the same label, {next(iter(self.labels['train']))!r}")
        if self.ends is not None and (same := np.flatnonzero(self.ends[0] == self.ends[1])).size:
            values = ", ".join(f"{self.ends[0][at]:g}" for at in same[:NAMED])
            if len(same) == len(self.ends[0]):
                hint = f"is it the right target?{_target(readers)}"
                raise UserError(f"the target is {values} in every item of train", where="data", hint=hint)
            notes.append(f"{len(same)} of the {len(self.ends[0])} numbers to predict never vary in train ({values})")
        largest = max(float(np.abs(edge).max()) for edge in self.ends) if self.ends is not None else 0.0
        if largest >= WHOLE:
            what = f"numbers to predict near {largest:g} are rounded to {np.spacing(largest):g}"
            notes.append(f"warning: {what}: subtract a constant first")
        return notes

    def facts(self) -> dict[str, dict[str, int]]:
        """For the manifest: the labels of each split with their counts, the commonest first; {} if there are none."""
        return {split: dict(count.most_common()) for split, count in self.labels.items()} if any(self._all) else {}

    def _alike(self) -> list[str]:
        """A note on labels that differ only in case, blanks or the form of their accents."""
        by_letters: dict[str, list[str]] = {}
        for label in self._all:
            by_letters.setdefault(sense(label), []).append(label)
        alike = [" and ".join(map(repr, sorted(found))) for found in by_letters.values() if len(found) > 1]
        if not alike or not self.whole:  # case distinguishes tags: NN and nn
            return []
        what = "labels that differ only in case, blanks or signs are treated as different"
        return [f"warning: {what}: {_names(alike, '; ')}"]

    def _odd(self) -> list[str]:
        """Notes on labels that mean "missing", and on items with a different label each."""
        if not self.whole:
            return []
        missing = [repr(label) for label in self._all if label.casefold() in MISSING]
        notes = []
        if missing:
            notes.append(f"read as a label: {_names(missing)} (leave the cell empty if it means a missing value)")
        unsorted = [repr(label) for label in self._all if LEFTOVERS.fullmatch(label)]
        if unsorted and len(self._all) > 2:
            what = "warning: read as a label, though its name says that its items have none"
            notes.append(f"{what}: {_names(unsorted)} (leave them out)")
        if len(self._all) > 2 and {label.casefold() for label in self._all} <= TRUTH:
            what = "yes and no in several spellings, treated as different labels"
            notes.append(f"warning: {what}: {_names(list(self._all))}")
        if joined := _joined(list(self._all)):
            what = "warning: labels that seem to be several labels joined, each treated as a label of its own"
            notes.append(f"{what}: {_names(joined)}")
        items, labels = sum(self.labels["train"].values()), len(self.labels["train"])
        if len(self._all) >= FEWEST_AMOUNTS and all(map(WITH_UNIT.fullmatch, self._all)):
            what = f"warning: the labels are numbers with a unit: {_names(list(self._all))}; to predict"
            notes.append(f"{what} numbers, leave out the unit and set target: {{kind: frames}}")
        if labels >= MANY and 2 * labels > items:
            what = f"warning: {labels:,} labels in {items:,} items of train: is it the right column,"
            notes.append(f"{what} or are they numbers (then set target: {{kind: frames}})?")
        return notes

    @property
    def _all(self) -> Counter[str]:
        return sum(self.labels.values(), Counter())

    def _one_label(self, readers: Mapping[str | None, Reader]) -> UserError:
        label, others = next(iter(self.labels["train"])), len(self._all) - 1
        count = self.labels["train"][label]
        what = f"all {count:,} items of train have the label {label!r}"
        what += f" ({others} other label{'s' * (others > 1)} in val and test)" if others else ""
        gave = [f"{name} gave {', '.join(map(repr, found))}" for name, found in islice(_by_file(readers), NAMED)]
        hint = f"give items with at least two labels{_target(readers)}"
        return UserError("; ".join([f"there is only one class: {what}", *gave]), where="data", hint=hint)


def _joined(labels: list[str]) -> list[str]:
    """The labels whose parts all occur in other labels: a;b beside a and b;c."""
    parts = {label: [part.strip() for part in JOINS.split(label)] for label in labels}
    several = {label: found for label, found in parts.items() if len(found) > 1 and all(found)}
    uses = Counter(part for found in parts.values() for part in set(found))
    return [repr(label) for label, found in several.items() if all(uses[part] > 1 for part in found)]


def sense(label: str) -> str:
    """A normal form, the same for labels that are likely to mean the same: x and X and 'x', 1 and 1.0."""
    label = label.translate(LOOK_ALIKE)
    with suppress(ValueError):
        if "_" not in label:  # Python reads 1_000 as a number
            return repr(float(label))
    seen = "".join(letter for letter in normalize("NFKC", label) if category(letter) != "Cf")  # zero-width characters
    return " ".join(seen.casefold().split()).strip("'\"“”„«». ") or seen


def _target(readers: Mapping[str | None, Reader]) -> str:
    """The setting of the readers that names the target column."""
    options = options_of(type(next(iter(readers.values()))))
    found = [name for name in ("target", "label", "label_in") if name in options]
    return f"; choose it with data.{found[0]}" if found else ""


def _by_file(readers: Mapping[str | None, Reader]) -> Any:
    """(a file's name, the labels of its first rows) for each file."""
    for reader in readers.values():
        for path in reader.files:
            found = Counter(label for label in islice(_labels_of_file(reader, path), LOOKED_AT) if label)
            if found:
                yield Path(path).name, list(found)[:NAMED]


def _labels_of_file(reader: Reader, path: Path) -> Any:
    rows = getattr(reader, "rows", None)
    if rows is None:
        return
    files, reader.files = reader.files, [path]
    try:
        yield from (row.target for row in rows(labelled=True) if isinstance(row.target, str))
    finally:
        reader.files = files


def told(labels: Labels) -> list[str]:
    """The labels with their counts by split, and those that only some splits have, in lines."""
    if not labels:
        return []
    splits = [split for split in SPLITS if labels[split]]
    everything = sum((Counter(labels[split]) for split in splits), Counter())
    order = [label for label, _ in everything.most_common()]
    shown = order if len(order) <= SHOWN else order[: SHOWN - 2]
    counts = [f"{label} {'/'.join(f'{labels[split].get(label, 0):,}' for split in splits)}" for label in shown]
    rest = len(order) - len(shown)
    more = f" · {rest} more, the rarest {order[-1]} {everything[order[-1]]:,}" if rest else ""
    lines = [f"{len(order)} label{'s' * (len(order) > 1)} ({'/'.join(splits)}): {' · '.join(counts)}{more}"]
    for split in ("val", "test"):
        if said := unseen(labels, split):
            lines.append(f"warning: labels in {split} that don't occur in training: {said}")
    last = next((split for split in ("test", "val") if labels[split]), "")
    if last and (only := [label for label in labels["train"] if label not in labels[last]]):
        lines.append(f"{len(only)} of the {len(labels['train'])} labels of train aren't in {last}: {_names(only)}")
    return lines


def unseen(labels: Labels, split: str) -> str:
    """The labels of a split that don't occur in train, and their share of the split; "" if there are none."""
    if not labels or not labels.get(split):
        return ""
    there = labels[split]
    new = [label for label in there if label not in labels["train"]]
    if not new:
        return ""
    items, total = sum(there[label] for label in new), sum(there.values())
    return f"{len(new)} of {len(there)}, {items:,} of {total:,} targets: {_names(new)}"


def _names(labels: list[str], between: str = ", ") -> str:
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return between.join(labels[:NAMED]) + more
