"""Explanations of predictions: the input as the model reads it, and the contribution of each part.

Shapes: T steps, W features of a step, I inputs of the first layer for a step, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.encodings.bag import Bag
from components.encodings.base import Encoding
from components.encodings.mel import Mel
from components.errors import UserError
from components.models.attribution import Contributions
from components.tasks.base import Matrix

MOST_FEATURES = 32  # features with a column each

Row = dict[str, Any]


@dataclass(kw_only=True)
class Explanation:
    """The explanation of one prediction. Rows are dictionaries.

    - `answer`: the prediction, as from `predict`, by columns.
    - `choices`: the possible answers, likeliest first, with their probabilities or scores.
    - `positions`: a row for each step of the input or the output.
    - `words`: speech: the time of each word.
    - `totals`: the sums of the contributions: for each output its value at the input and at the baseline, where the
      input is zeros, and the sum of all contributions, which is their difference.
    - `matrix`: attention, alignment, or contributions by step and output (`components.tasks.base.Matrix`).
    """

    answer: Row = field(default_factory=dict)
    choices: list[Row] = field(default_factory=list)
    positions: list[Row] = field(default_factory=list)
    words: list[Row] = field(default_factory=list)
    totals: list[Row] = field(default_factory=list)
    matrix: Matrix | None = None

    def as_dict(self) -> dict[str, Any]:
        """The explanation as JSON."""
        drawn = self.matrix and {
            "title": self.matrix.title,
            "rows": list(self.matrix.rows),
            "columns": list(self.matrix.columns),
            "values": [[float(f"{value:.6g}") for value in row] for row in self.matrix.values.tolist()],
        }
        return vars(self) | {"matrix": drawn}


def check_best(best: int | None, beam_size: int) -> None:
    """Raise UserError if `best` is more than the beam search keeps."""
    if best is not None and best > beam_size:
        what = f"{best} choices; the model's beam search gives at most {beam_size} (task.beam_size)"
        raise UserError(what, where="best", hint=f"at most {beam_size}, or leave it out to list them all")


def step_rows(encoding: Encoding, item: Any, steps: np.ndarray) -> list[Row]:
    """Rows for the steps of an input [T, …]: the `token` in the text, and `read`, the token in the model's vocabulary
    or <UNK>. Without tokens: the number of the `step`, and for audio its times."""
    pieces = encoding.pieces(item)
    if not pieces:
        seconds = seconds_of(encoding)
        rows: list[Row] = [{"step": number} for number in range(1, len(steps) + 1)]
        if seconds:
            for at, row in enumerate(rows):
                row |= {"start_seconds": round(at * seconds, 6), "end_seconds": round((at + 1) * seconds, 6)}
        return rows
    known = list(pieces)
    if encoding.form == "tokens":
        ids = steps.reshape(len(steps), -1)[:, 0]
        known = [encoding.vocabulary.token(int(id)) for id in ids]
    if len(pieces) != len(known):  # lower-casing has changed the length of the text
        pieces = known
    both = enumerate(zip(pieces, known, strict=True), 1)
    return [{"position": at, "token": token, "read": read} for at, (token, read) in both]


def seconds_of(encoding: Encoding) -> float:
    """Duration of a step of audio; 0 if the input isn't audio."""
    return encoding.hop * encoding.stack / encoding.rate_hz if isinstance(encoding, Mel) else 0.0


def contributed(
    encoding: Encoding, item: Any, steps: np.ndarray, found: Contributions, outputs: Sequence[str], unit: str
) -> Explanation:
    """An explanation with the contribution of each position to each of the named outputs, in their `unit`; for one
    output and few features also of each feature. For a bag of words the positions are the tokens that occur."""
    values_OTI = found.values_OTI
    if isinstance(encoding, Bag):
        there = np.flatnonzero(steps[0])
        known = encoding.encoding.vocabulary
        rows: list[Row] = [{"token": known.token(int(id)), "count": int(steps[0, id])} for id in there]
        values_OTI = values_OTI[:, 0, there, None]
    else:
        rows = step_rows(encoding, item, steps)
    names = ["contribution"] if len(outputs) == 1 else [f"contribution to {name}" for name in outputs]
    for at, row in enumerate(rows):
        row |= {name: float(value) for name, value in zip(names, values_OTI[:, at].sum(axis=1), strict=True)}
    of_steps = bool(rows) and "step" in rows[0]
    features = of_steps and len(outputs) == 1 and 1 < values_OTI.shape[2] <= MOST_FEATURES
    if features:
        for at, row in enumerate(rows):
            row |= {f"feature {w}": float(value) for w, value in enumerate(values_OTI[0, at], 1)}
    matrix = None
    if of_steps or len(outputs) > 1:
        named = [str(row.get("token", row.get("step"))) for row in rows]
        lines = [f"feature {w}" for w in range(1, values_OTI.shape[2] + 1)] if features else list(outputs)
        cells = values_OTI[0].T if features else values_OTI.sum(axis=2)
        title = f"contributions to {outputs[0]}, {unit}" if len(outputs) == 1 else f"contributions, {unit}"
        matrix = Matrix("contributions", title, cells, tuple(lines), tuple(named), "", "step" if of_steps else "input")
    return Explanation(positions=rows, totals=totals_of(found, outputs, unit), matrix=matrix)


def totals_of(found: Contributions, outputs: Sequence[str], unit: str) -> list[Row]:
    """The sums of the contributions to the named outputs."""
    figures = zip(outputs, found.at_input_O, found.at_zero_O, found.sums_O, strict=True)
    return [
        {"output": name, "unit": unit, "at_input": float(a), "at_baseline": float(b), "contributions": float(total)}
        for name, a, b, total in figures
    ]
