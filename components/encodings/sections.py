"""The form of a piece, "AABA": its sections, and the earlier section that each one repeats.

T tokens, L lags of an encoding with copy candidates (`Encoding.copies`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

import numpy as np

from components.bounds import MOST_BARS
from components.errors import UserError
from components.score import Score

WHERE = "generation.form"
MOST_FORMS = 32  # rarer ones are left out
BARS = 8  # of a section, if the length of the piece isn't given


def form_of(score: Score) -> str:
    """The form of a piece's first part: a letter for each section of BARS bars, the same as that of the earlier section
    to which most of its bars are equal, if half of them are. "" if the piece isn't made of such sections.

    Equal bars have the same notes; the metre may not change. The last bar may be cut short, as after an upbeat.
    """
    bars = -(-(score.length_steps - score.upbeat_steps) // score.bar_steps)
    if score.metre_changes or not score.parts or bars % BARS:
        return ""
    notes: list[set[tuple[int, int, int]]] = [set() for _ in range(bars)]
    for note in score.parts[0].notes:
        bar, at = divmod(note.start - score.upbeat_steps, score.bar_steps)
        if 0 <= bar < bars:
            notes[bar].add((at, note.duration, note.pitch))
    letters = ""
    for first in range(0, bars, BARS):
        same = [sum(notes[first + n] == notes[before + n] for n in range(BARS)) for before in range(0, first, BARS)]
        most = max(same, default=0)
        new = ascii_uppercase[len(set(letters)) % 26]
        letters += letters[same.index(most)] if 2 * most >= BARS else new
    return letters


def common_forms(forms: Iterable[str]) -> dict[str, int]:
    """The most common forms that can be asked for, and how often each occurs. Empty if fewer than half of the pieces
    have one: their few forms would become those of everything."""
    pieces = list(forms)
    found = Counter(form for form in pieces if 0 < len(form) * BARS <= MOST_BARS)
    return dict(found.most_common(MOST_FORMS)) if 2 * found.total() >= len(pieces) else {}


def draw_form(forms: Mapping[str, int], bars: int, seed: int) -> str:
    """One of the forms, drawn by how often it occurs, of `bars` bars (0: any); "" if there is none."""
    fit = {form: count for form, count in forms.items() if count > 0 and bars in (0, len(form) * BARS)}
    shares = np.array([*fit.values()], dtype=np.float64)
    return str(np.random.default_rng(seed).choice([*fit], p=shares / shares.sum())) if fit else ""


@dataclass(frozen=True)
class Sections:
    """A letter for each section, all of `bars` bars: sections with the same letter should be similar."""

    letters: str
    bars: int

    @classmethod
    def read(cls, text: str, total: int = 0) -> Sections:
        """The sections of a piece of `total` bars; with 0, each has `BARS` bars.

        Raises:
            UserError: the text isn't letters, or `total` isn't a multiple of their number.
        """
        letters = text.strip().upper()
        if not (letters.isascii() and letters.isalpha()):
            hint = "write one letter per section, e.g. AABA: sections with the same letter are alike"
            raise UserError(f"{text[:60]!r} isn't a form", where=WHERE, hint=hint)
        count = len(letters)
        if not total and count * BARS > MOST_BARS:
            what = f"{letters} has {count} sections: with {BARS} bars each that is more than {MOST_BARS} bars"
            hint = f"set the length of the piece: bars {MOST_BARS // count * count}"
            raise UserError(what, where=WHERE, hint=hint)
        if total % count:
            fit = sorted({max(count, total // count * count), (total // count + 1) * count})
            what = f"{total} bars can't be divided evenly among the {count} sections of {letters}"
            hint = f"use {' or '.join(map(str, fit))} bars, or a form with another number of letters"
            raise UserError(what, where=WHERE, hint=hint)
        return cls(letters, total // count or BARS)

    @property
    def total(self) -> int:
        """Number of bars."""
        return len(self.letters) * self.bars

    def backs(self, bar_T: np.ndarray) -> np.ndarray:
        """For each bar (from 0), the distance in bars to the latest earlier section with its letter; 0: none."""
        backs = [section - self.letters.rfind(letter, 0, section) for section, letter in enumerate(self.letters)]
        found = np.array([back * self.bars if back <= n else 0 for n, back in enumerate(backs)])
        inside = (bar_T >= 0) & (bar_T < self.total)
        return np.where(inside, found[np.clip(bar_T // self.bars, 0, len(found) - 1)], 0)

    def lags(self, bar_T: np.ndarray, lags: Sequence[int], unit: int = 1) -> np.ndarray:
        """The lags to use in each bar, int64 [T, L]: `lags`, in units of which a bar has `unit`. If none of them leads
        to the earlier section with the same letter, the last one is replaced."""
        found = np.tile(np.array(lags, dtype=np.int64), (len(bar_T), 1))
        back_T = self.backs(bar_T) * unit
        other = (back_T > 0) & ~(found == back_T[:, None]).any(axis=1)
        found[other, -1] = back_T[other]
        return found

    def leanings(self, bar: int, lags: Sequence[int], unit: int = 1) -> np.ndarray:
        """For each of the lags of `lags`, float64 [L]: 1 if it leads to the same bar of the latest section with the
        letter, −1 if to that of a section with another letter, else 0."""
        leaning = np.zeros(len(lags))
        if not 0 <= bar < self.total:
            return leaning
        here, bars = self.letters[bar // self.bars], np.array([bar])
        back = int(self.backs(bars)[0]) * unit
        for place, lag in enumerate(self.lags(bars, lags, unit)[0].tolist()):
            sections, rest = divmod(lag, self.bars * unit)
            if not rest and 0 < sections <= bar // self.bars:
                there = self.letters[bar // self.bars - sections]
                leaning[place] = float(lag == back) if there == here else -1.0
        return leaning
