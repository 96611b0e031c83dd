"""Why a model answered as it did: what it saw of one input, and what each part of it contributed.

Shapes: T steps, W features of a step, I numbers of a step as the first layer reads it, O outputs.
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

MOST_FEATURES = 32  # that get a column each

Row = dict[str, Any]


@dataclass
class Explanation:
    """What a model saw of one input, and why it answered as it did. Rows are dictionaries.

    - `answer`: as `predict` gives it, by columns.
    - `choices`: what else it could have answered, the likeliest first, with their probabilities or scores.
    - `positions`: a row for each step of what it read, or wrote.
    - `words`: of speech, when each word was said.
    - `totals`: what the contributions of the positions add up to: of each output its value at the input and at the
      baseline, zeros in the place of the input, and the sum of all contributions, which is their difference.
    - `matrix`: attention, alignment, or contributions by step and output (`components.tasks.base.Matrix`).
    """

    choices: list[Row] = field(default_factory=list)
    positions: list[Row] = field(default_factory=list)
    words: list[Row] = field(default_factory=list)
    totals: list[Row] = field(default_factory=list)
    matrix: Matrix | None = None
    answer: Row = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        drawn = self.matrix and {
            "title": self.matrix.title,
            "rows": list(self.matrix.rows),
            "columns": list(self.matrix.columns),
            "values": [[float(f"{value:.6g}") for value in row] for row in self.matrix.values.tolist()],
        }
        return {
            "answer": self.answer,
            "choices": self.choices,
            "positions": self.positions,
            "words": self.words,
            "totals": self.totals,
            "matrix": drawn,
        }


def check_best(best: int | None, beam_size: int) -> None:
    """Refuse to list more than a beam search keeps."""
    if best is not None and best > beam_size:
        what = f"{best} answers: the model's beam search keeps {beam_size} (task.beam_size)"
        raise UserError(what, where="best", hint=f"at most {beam_size}, or leave it out to list them all")


def step_rows(encoding: Encoding, item: Any, steps: np.ndarray) -> list[Row]:
    """The steps of an input [T, …] as the model reads them: `token` as it stands in the text, and `read` as the model
    knows it, <UNK> where it doesn't; else the number of the `step`, in sound from when to when it is."""
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
    if len(pieces) != len(known):  # a text that has another length in lower case
        pieces = known
    both = enumerate(zip(pieces, known, strict=True), 1)
    return [{"position": at, "token": token, "read": read} for at, (token, read) in both]


def seconds_of(encoding: Encoding) -> float:
    """Of a step of sound; 0 where steps are no sound."""
    return encoding.hop * encoding.stack / encoding.rate_hz if isinstance(encoding, Mel) else 0.0


def contributed(
    encoding: Encoding, item: Any, steps: np.ndarray, found: Contributions, outputs: Sequence[str], unit: str
) -> Explanation:
    """Positions with their contribution to each of the named outputs, which have the `unit`; of one output and few
    features also each feature's. Of a bag the positions are the tokens that occur."""
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
    """What the contributions to the named outputs add up to."""
    figures = zip(outputs, found.at_input_O, found.at_zero_O, found.sums_O, strict=True)
    return [
        {"output": name, "unit": unit, "at_input": float(a), "at_baseline": float(b), "contributions": float(total)}
        for name, a, b, total in figures
    ]
