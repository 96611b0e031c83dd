"""The musical meaning of a lead sheet's tokens, for constraints (`components.encodings.meaning`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from components.encodings.form import Form, bar_and_beat
from components.encodings.lead_sheet.signs import LOWEST, Signs, above
from components.encodings.meaning import HOLD, LENGTH, NOTE, OTHER, REMEMBERED, REST, Choices, Moment, chord_at
from components.harmony import strong_steps
from components.score import Chord


class LeadSheetMeaning:
    """One voice, the melody; the form's tokens have no meaning here. `reached` is `LeadSheet.reached`."""

    voices = ("Melody",)

    def __init__(
        self, signs: Signs, reached: Callable[[np.ndarray], tuple[Form, int] | None], chords: Sequence[Chord] = ()
    ) -> None:
        self.signs, self.reached, self.chords = signs, reached, tuple(chords)
        ids = np.arange(len(signs))
        lengths = (ids >= signs.length0) & (ids < signs.pitch0)
        kind = np.where(ids >= signs.pitch0, NOTE, np.where(lengths, LENGTH, OTHER))
        kind[signs.rest], kind[signs.tie] = REST, HOLD
        pitch = np.where(ids >= signs.pitch0, ids - signs.pitch0 + LOWEST, -1)
        self.choices = Choices(kind, pitch, np.where(lengths, ids - signs.length0 + 1, 0))

    def moment(self, ids: np.ndarray) -> Moment | None:
        signs = self.signs
        ids = np.asarray(ids, dtype=np.int64)
        reached = self.reached(ids)
        if reached is None:
            return None
        form, step = reached
        origin, metre = max(((s, m) for s, m in form.changes if s <= step), default=(form.upbeat, form.metre))
        bar, beat = bar_and_beat(metre, signs.steps_per_beat)
        in_bar = (step - origin) % bar
        begins = np.flatnonzero((ids >= signs.pitch0) | (ids == signs.rest))
        own = int(ids[begins[-1]]) if len(begins) else signs.rest
        sounds = own >= signs.pitch0
        since = ids[begins[-1] :] if sounds else ids[:0]
        lengths = since[(since >= signs.length0) & (since < signs.pitch0)] - signs.length0 + 1
        shift = above(signs.home(ids))
        pitches = ids[ids >= signs.pitch0][-REMEMBERED:] - signs.pitch0 + LOWEST + shift
        pending = sounds and (int(ids[-1]) >= signs.pitch0 or int(ids[-1]) == signs.tie)
        chords = self.chords or form.chords
        last = chord_at(chords, form.length - 1)
        return Moment(
            step=step,
            in_bar=in_bar,
            bar_steps=bar,
            beat_steps=beat,
            strong=in_bar in strong_steps(metre, bar),
            chord=chord_at(chords, step),
            sounding=(int(pitches[-1]) if sounds else None,),
            held=int(lengths.sum()),
            history=tuple(pitches.tolist()),
            pending=int(pitches[-1]) if pending else None,
            left=form.length - step,
            home=last.root if last else None,
            shift=shift,
        )
