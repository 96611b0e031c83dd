"""Table contents that aren't data: totals below the last line, and columns that number the lines."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

_FOOTER = re.compile(
    r"[*†‡\W]*((grand|sub)?[ -]?totals?|sum|average|avg|mean|median|std|summe|gesamt(summe)?|mittelwert|durchschnitt|"
    r"somme|moyenne|promedio|media|totale|合计|总计|平均)\W*|(sources?|notes?|quelle|anmerkung(en)?): .+",
    re.IGNORECASE,
)
_COUNTING = re.compile(
    r"(date[ _]?)?time([ _]?stamp)?s?([ _([].*)?|ts?|"
    r"(frame|sample|row|line|step)s?([ _]?(no|nr|number|id|index|count))?|"
    r"index|idx|id|n|no|nr|sec(ond)?s?|ms|millis(econds)?|(elapsed|epoch|unix)\b.*",
    re.IGNORECASE,
)
_RECORDING = re.compile(
    r"(subj(ect)?|user|person|participant|patient|proband|session|recording|trial|experiment|sequence|device|volunteer)"
    r"s?([ _]?(no|nr|number|id|code|name))?",
    re.IGNORECASE,
)
FEWEST = 5  # minimum number of values to recognise a count


def footer(cells: Iterable[str]) -> str:
    """The cell that marks a table's last line as a total, a mean or a note; "" if none does."""
    return next((cell.strip() for cell in cells if len(cell) < 200 and _FOOTER.fullmatch(cell.strip())), "")


def names_a_count(name: str) -> bool:
    """Whether a column is named as an index, a line number or time is."""
    return bool(_COUNTING.fullmatch(name.strip()))


def names_a_recording(name: str) -> bool:
    """Whether a column is named as one that tells recordings apart, such as subject_id."""
    return bool(_RECORDING.fullmatch(name.strip()))


def counts(name: str, values: np.ndarray) -> bool:
    """Whether a column is time, by its name and its numbers [T], which rise, or fall, in every line."""
    steps = np.diff(values)
    return names_a_count(name) and len(values) >= FEWEST and bool((steps > 0).all() or (steps < 0).all())


def rises_evenly(values: np.ndarray) -> bool:
    """Whether the numbers [T] rise by the same amount in every line, as a count or a clock does."""
    steps = np.diff(values)
    return len(values) >= FEWEST and bool(steps[0] > 0) and np.allclose(steps, steps[0], rtol=1e-4)
