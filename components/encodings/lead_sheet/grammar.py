"""The grammar of lead sheets: a form, then a melody of the same length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from components.encodings.form import FAMILIES, Form, bar_end
from components.encodings.lead_sheet.plan import Written
from components.encodings.lead_sheet.signs import Places, Signs
from components.encodings.vocabulary import BOS, EOS
from components.score import Score


@dataclass(frozen=True)
class Grammar:
    """`form_steps`: the longest form to generate. `planned`: whether forms begin with their number of bars. `form_of`
    reads the form from the ids [T] before a melody."""

    signs: Signs
    form_steps: int
    planned: bool
    form_of: Callable[[np.ndarray], Form]

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """The mask after ids [T], bool [V]."""
        signs, places = self.signs, self.signs.places(ids)
        mask = np.zeros(len(signs), dtype=bool)
        last = int(ids[-1])
        if last == EOS:
            mask[EOS] = True
        elif places.inside[-1]:
            self._allow_melody(mask, ids, places)
        elif last == BOS:
            mask[signs.metre0 : signs.tempo0] = True
        else:
            self._allow_form(mask, ids, places)
            if signs.relative and not (ids >= signs.chord0).any():
                mask[signs.chord0 + len(FAMILIES) : signs.length0] = False  # the first chord is that of home
        return mask

    def _allow_form(self, mask: np.ndarray, ids: np.ndarray, places: Places) -> None:
        signs = self.signs
        last, before = int(ids[-1]), int(ids[-2]) if len(ids) > 1 else BOS
        chords = slice(signs.no_chord, signs.length0)
        if signs.metre0 <= last < signs.tempo0 and before == BOS:
            mask[signs.tempo0 : signs.no_chord] = True
        elif self.planned and signs.tempo0 <= last < signs.no_chord:
            mask[signs.bars0 : signs.home0] = True
        elif signs.relative and len(ids) == signs.said:
            mask[signs.home0 : signs.metre0] = True
        elif last == signs.upbeat:
            form = signs.read_form(ids.tolist())
            left = Score((), self.signs.steps_per_beat, form.metre).bar_steps - 1 - form.upbeat
            mask[signs.length0 : signs.length0 + max(1, min(signs.longest, left))] = True
        elif places.head[-1]:
            mask[signs.length0 : signs.length0 + max(1, min(signs.longest, self._form_left(ids, places)))] = True
        elif signs.metre0 <= last < signs.tempo0 or before == signs.upbeat:
            mask[chords] = True
            mask[signs.upbeat] = last == signs.pitch0 - 1  # only the longest length may be continued
        else:
            begun = places.time[-1] > 0
            left = self._form_left(ids, places)
            bars, written = signs.planned_bars(ids), Written(signs, ids, places.time).bars[-1]
            mask[signs.begin] = begun and (left <= 0 or written >= bars)
            if left <= 0:
                return
            mask[chords] = True
            mask[signs.upbeat] = not begun
            mask[signs.metre0 : signs.tempo0] = begun and (not bars or written < bars)

    def _form_left(self, ids: np.ndarray, places: Places) -> int:
        """Steps left until the latest end of the form, which is the end of a bar."""
        if bars := self.signs.planned_bars(ids):
            return int(Written(self.signs, ids, places.time).ends(bars)[-1] - places.time[-1])
        left = self.form_steps - int(places.time[-1])
        if left > 2 * self.signs.longest:
            return left
        form = self.signs.read_form(ids.tolist())
        return max(1, bar_end(form, self.form_steps, self.signs.steps_per_beat)) - int(places.time[-1])

    def _allow_melody(self, mask: np.ndarray, ids: np.ndarray, places: Places) -> None:
        signs = self.signs
        left = self.form_of(ids[: places.begin]).length - int(places.time[-1])
        if left <= 0:
            mask[EOS] = True
        elif places.head[-1]:
            mask[signs.length0 : signs.length0 + min(signs.longest, left)] = True
        else:
            mask[signs.rest] = mask[signs.pitch0 :] = True
            sounds = int(ids[-2]) >= signs.pitch0 or int(ids[-2]) == signs.tie
            mask[signs.tie] = sounds and int(ids[-1]) == signs.pitch0 - 1
