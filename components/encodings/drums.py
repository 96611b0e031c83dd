"""Drum patterns as tokens: the hits on each sixteenth of a bar, their velocity and their offset from the grid."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated

import numpy as np
from pydantic import Field

from components.drums import KEYS, KIT, PIECE_OF, piece_name
from components.encodings.base import Encoding
from components.encodings.form import METRES, nearest_metre
from components.encodings.notes import settled
from components.encodings.resumed import Resumed, Walk
from components.encodings.vocabulary import BOS, EOS, SPECIALS, Vocabulary
from components.errors import UserError
from components.score import Note, Part, Score

GRID = 4  # steps in a quarter note: sixteenths
TEMPI = tuple(range(40, 301, 10))  # quarter notes a minute
FIRST = len(SPECIALS)
BAR = FIRST + len(METRES) + len(TEMPI)
AT = BAR + 1  # the first place in a bar; then the other places of the longest bar
PLACES = max(Score((), GRID, metre).bar_steps for metre in METRES)
PIECE = AT + PLACES
VELOCITY = PIECE + len(KIT)
LONGEST_BARS = 4096
HEAD, PLACE, WHICH, LOUD, OFF = range(5)  # kinds of tokens, after the specials; bar lines count as places


@dataclass(kw_only=True, eq=False)
class Drums(Encoding):
    """Drums ↔ ids: metre, tempo, then bar lines, places in the bar in sixteenths, and for each hit there its piece of
    the kit, its velocity and its offset: which of `offsets` equal parts of a sixteenth, from half of one before the
    place to half of one after it (Gillick et al. 2019).

    `velocities`: number of velocity levels. `offsets`: with 1, all hits are on the grid.

    Context features: the place, the bar modulo eight, and for the same place of the previous bar its pieces, the place
    of the next hit, and the velocity or offset of the same hit.

    Lost: all but the loudest of several hits of a piece on one sixteenth (rolls, flams); durations; keys that are no
    piece of the kit; the exact tempo (rounded to ten); changes of metre; other instruments.
    """

    kind, performed = "drums", "drums"
    unit = "token"
    prefix = 2

    velocities: Annotated[int, Field(ge=1, le=127)] = 16
    offsets: Annotated[int, Field(ge=1, le=24)] = 24

    def __post_init__(self) -> None:
        velocities, offsets = self.velocities, self.offsets
        self.offset0 = VELOCITY + velocities
        names = [
            *(f"{beats}/{unit}" for beats, unit in METRES), *(f"{bpm} bpm" for bpm in TEMPI), "bar",
            *(f"at {place + 1}" for place in range(PLACES)), *KIT, *(f"loud {v + 1}" for v in range(velocities)),
            *(f"off {o - offsets // 2}" for o in range(offsets)),
        ]  # fmt: skip
        self.vocabulary = Vocabulary([*SPECIALS, *names])
        ids = np.arange(len(self.vocabulary))
        self._kinds = np.searchsorted([BAR, PIECE, VELOCITY, self.offset0], ids, side="right")
        # place in the bar, bar modulo eight; one bar ago: pieces, next place, velocity or offset
        self.context_sizes = (1 + PLACES, 9, 1 << len(KIT), 1 + PLACES, 1 + max(velocities, offsets))
        self._resumed = Resumed(self._walk, len(self.context_sizes))
        self._lost = self._heard = 0

    def fit(self, items: Iterable[Score]) -> None:
        """Learns nothing; counts hits that can't be encoded, for `remarks`."""
        self._lost = self._heard = 0
        for item in items:
            self._lost += self._hits(item)[1]
            self._heard += sum(len(part.notes) for part in item.parts if part.role == "drums")

    def remarks(self) -> list[str]:
        if not self._lost:
            return []
        share = 100 * self._lost / max(1, self._heard)
        return [
            f"{self._lost:,} of {self._heard:,} hits ({share:.1f} %) left out: louder hits fall on the same sixteenth"
        ]

    def encode(self, item: Score) -> np.ndarray:
        metre = METRES.index(nearest_metre(item.metre))
        tempo = min(range(len(TEMPI)), key=lambda index: abs(TEMPI[index] - item.tempo_bpm))
        bar = Score((), GRID, METRES[metre]).bar_steps
        hits, _ = self._hits(item)
        scale = Fraction(GRID, item.steps_per_beat)
        upbeat = round(item.upbeat_steps * scale) % bar
        shift = bar - upbeat if upbeat else 0  # an upbeat is the end of a first bar
        length = math.ceil(item.length_steps * scale) + shift
        bars = max([-(-length // bar), *(1 + (step + shift) // bar for step, _ in hits)])
        ids, at = [FIRST + metre, FIRST + len(METRES) + tempo], -1
        by_bar: list[list[tuple[int, int, int, int]]] = [[] for _ in range(bars)]
        for (step, piece), (loud, off) in sorted(hits.items()):
            number, place = divmod(step + shift, bar)
            by_bar[number].append((place, piece, loud, off))
        for row in by_bar:
            ids.append(BAR)
            at = -1
            for place, piece, loud, off in row:
                if place != at:
                    ids.append(AT + place)
                    at = place
                ids += [PIECE + piece, VELOCITY + loud, self.offset0 + off]
        return np.array(ids, dtype=np.int64)

    def _hits(self, item: Score) -> tuple[dict[tuple[int, int], tuple[int, int]], int]:
        """(step, piece) → (velocity, offset) as encoded, and the number of hits dropped for a louder one.

        Raises:
            UserError: the score has no drums.
        """
        notes = [note for part in item.parts if part.role == "drums" for note in part.notes if note.pitch in PIECE_OF]
        if not notes:
            hint = (
                "read drum files with data.reader=drums; for other instruments use the encodings events or performance"
            )
            raise UserError("the piece has no drums", where="encoding.kind", hint=hint)
        scale = Fraction(GRID * self.offsets, item.steps_per_beat)
        hits: dict[tuple[int, int], tuple[int, int]] = {}
        for note in sorted(notes, key=lambda note: note.velocity):
            step, off = divmod(round(note.start * scale) + self.offsets // 2, self.offsets)
            hits[step, PIECE_OF[note.pitch]] = (min(note.velocity * self.velocities // 128, self.velocities - 1), off)
        return hits, len(notes) - len(hits)

    def decode(self, ids: Sequence[int] | np.ndarray) -> Score:
        """The score, with GRID · `offsets` steps per quarter note."""
        metre, tempo, bar, place, piece, loud = 0, TEMPI.index(120), -1, 0, 0, 0
        notes: list[Note] = []
        fine = GRID * self.offsets
        length = max(1, fine // 8)  # a thirty-second; the duration of a hit has no meaning
        for id in np.asarray(ids, dtype=np.int64).tolist():
            if id < FIRST or bar >= LONGEST_BARS:
                continue
            kind = self._kinds[id]
            if kind == HEAD:
                if id < FIRST + len(METRES):
                    metre = id - FIRST
                else:
                    tempo = id - FIRST - len(METRES)
            elif id == BAR:
                bar, place = bar + 1, 0
            elif kind == PLACE:
                place = id - AT
            elif kind == WHICH:
                piece = id - PIECE
            elif kind == LOUD:
                loud = id - VELOCITY
            else:
                step = max(bar, 0) * Score((), GRID, METRES[metre]).bar_steps + place
                start = max(0, step * self.offsets + id - self.offset0 - self.offsets // 2)
                velocity = min(127, max(1, (2 * loud + 1) * 64 // self.velocities))
                notes.append(Note(start, length, KEYS[piece], velocity))
        bars = (bar + 1) * Score((), fine, METRES[metre]).bar_steps
        return Score(
            (Part("Drums", settled(notes), role="drums"),),
            steps_per_beat=fine,
            metre=METRES[metre],
            length_steps=bars,
            tempo_bpm=float(TEMPI[tempo]),
            timing="played",
        )

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """A metre, "4/4", optionally with a tempo, "4/4 96". If empty, the model chooses both.

        Raises:
            UserError: any other text.
        """
        if not text.strip():
            return np.zeros(0, dtype=np.int64), []
        metre, *tempo = text.split()
        names = [f"{beats}/{unit}" for beats, unit in METRES]
        if metre not in names or len(tempo) > 1 or (tempo and not tempo[0].isdigit()):
            hint = f'give a metre and optionally a tempo: "4/4 96"; metres: {", ".join(names)}'
            raise UserError(f"{text[:80]!r} isn't a valid prompt for a drum pattern", where="prompt", hint=hint)
        ids = [FIRST + names.index(metre)]
        if not tempo:
            return np.array(ids), []
        index = min(range(len(TEMPI)), key=lambda index: abs(TEMPI[index] - int(tempo[0])))
        told = [f"the tempo {tempo[0]} is rounded to {TEMPI[index]}"] if TEMPI[index] != int(tempo[0]) else []
        return np.array([*ids, FIRST + len(METRES) + index]), told

    def context(self, ids: np.ndarray) -> np.ndarray:
        """int64 [T, 5]; see the class."""
        return self._resumed.rows(ids)

    def _walk(self) -> Walk:
        place, piece, number, after, mask = -1, 0, 0, 0, 0
        before: dict[int, dict[int, list[int]]] = {}  # previous bar: place → piece → velocity, offset, from 1
        here: dict[int, dict[int, list[int]]] = {}
        row = (0,) * len(self.context_sizes)
        while True:
            id = yield row
            if id < BAR:
                row = (0,) * len(self.context_sizes)
                continue
            kind, same = self._kinds[id], 0
            if id == BAR:
                before, here, place, number = here, {}, -1, number + 1
                mask, after = 0, 1 + min(before, default=-1)
            elif kind == PLACE:
                place = id - AT
                mask = sum(1 << p for p in before.get(place, ()))
                after = 1 + min((p for p in before if p > place), default=-1)
            elif kind == WHICH:
                piece = id - PIECE
                here.setdefault(place, {})[piece] = [0, 0]
                same = before.get(place, {}).get(piece, (0, 0))[0]
            elif here.get(place, {}).get(piece):
                here[place][piece][int(kind == OFF)] = id - (VELOCITY if kind == LOUD else self.offset0) + 1
                same = before.get(place, {}).get(piece, (0, 0))[1] if kind == LOUD else 0
            row = 1 + place, 1 + (number - 1) % 8 if number else 0, mask, after, same

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """The grammar's mask: places in a bar, and pieces on a place, come in order, each once."""
        ids = np.asarray(ids, dtype=np.int64)
        mask, last = np.zeros(len(self.vocabulary), dtype=bool), int(ids[-1]) if len(ids) else BOS
        kind = self._kinds[last]
        if last == EOS:
            mask[EOS] = True
        elif last < FIRST:
            mask[FIRST : FIRST + len(METRES)] = True
        elif last < BAR:
            mask[BAR if last >= FIRST + len(METRES) else slice(FIRST + len(METRES), BAR)] = True
        elif kind == WHICH:
            mask[VELOCITY : self.offset0] = True
        elif kind == LOUD:
            mask[self.offset0 :] = True
        elif kind == PLACE and last != BAR:
            mask[PIECE:VELOCITY] = True
        else:
            places = ids[(self._kinds[ids] == PLACE) & (ids >= BAR)]
            metres = ids[(ids >= FIRST) & (ids < FIRST + len(METRES))]
            bar = Score((), GRID, METRES[int(metres[-1]) - FIRST] if len(metres) else (4, 4)).bar_steps
            mask[int(places[-1]) + 1 if len(places) else AT : AT + bar] = True
            mask[BAR] = True
            mask[EOS] = bool((ids >= self.offset0).any())
            if kind == OFF:
                mask[int(ids[-3]) + 1 if len(ids) > 2 else PIECE : VELOCITY] = True
        return mask

    def counts(self, ids: np.ndarray) -> dict[str, int]:
        ids = np.asarray(ids)
        return {"hit": int(((ids >= PIECE) & (ids < VELOCITY)).sum())}

    def label(self, id: int) -> str:
        """A bar line, a place, a few letters for a piece, the number of a velocity or an offset."""
        token = self.vocabulary.token(id)
        if id == BAR:
            return "|"
        if PIECE <= id < VELOCITY:
            return "".join(word[0] for word in token.replace("-", " ").split()) if " " in token else token[:2]
        return token.split()[-1] if id >= BAR else token

    def layout(self, ids: np.ndarray, columns: int = 64) -> list[list[int]]:
        """A row for each bar, at most `columns` long."""
        rows: list[list[int]] = [[]]
        for index, id in enumerate(ids):
            if rows[-1] and (int(id) == BAR or len(rows[-1]) == columns):
                rows.append([])
            rows[-1].append(index)
        return rows


assert [piece_name(key) for key in KEYS] == list(KIT)
