"""Lead sheets as tokens: first the form (metre, tempo, chords), then the melody over it.

    4/4 · tempo 140 · F7 48 · Bb7 48 · F7 48 F7 48 · … · begin · rest 12 · A4 6 · C5 6 · D5 12 · …

Every chord, rest and note is two tokens: its name and its length in grid steps. As the form comes first, the current
chord, the next one and the bars left are context features of each token of the melody. Given a form, a model writes a
melody over it that ends with it; otherwise it generates a form first. The vocabulary is fixed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.encodings.base import Signed
from components.encodings.copying import MATCHES, latest
from components.encodings.form import (
    METRES,
    MOST_STEPS,
    TEMPI,
    Form,
    bar_end,
    bar_numbers,
    form_columns,
    form_sizes,
    nearest_metre,
    tempo_class,
)
from components.encodings.lead_sheet.copies import HARMONIES, LAGS, form_returns, lead_sheet_copies
from components.encodings.lead_sheet.doubts import doubts, of_chords
from components.encodings.lead_sheet.grammar import Grammar
from components.encodings.lead_sheet.melody import line_of, melody_of
from components.encodings.lead_sheet.patterns import pattern_copies
from components.encodings.lead_sheet.plan import plan_columns, plan_sizes
from components.encodings.lead_sheet.signs import HIGHEST, LOWEST, Places, Signs, above
from components.encodings.lead_sheet.timeline import LeadSheetTimeline
from components.encodings.meaning import Meaning
from components.encodings.sections import Sections, common_forms, draw_form, form_of
from components.errors import UserError
from components.score import Chord, Note, Part, Score

SHIFTS = range(-5, 7)  # semitones of a transposition: every key once
COMFORTABLE = (48, 88)  # a transposition leaves this range only if the piece itself does
REMEMBERED = 256  # cached forms: those of a batch and of the pieces being generated


@dataclass(kw_only=True, eq=False)
class LeadSheet(Signed):
    """Scores ↔ ids: the melody, one note at a time, with its chord symbols, `steps_per_beat` steps in a quarter.

    12 steps allow triplets and sixteenths, so swing can be written. The melody is the part with the role `melody`, else
    the first with notes. Notes end at the latest where the next one begins; of notes that begin together the highest is
    kept; pitches outside a piano's keys are moved by octaves. Chord kinds are reduced to families
    (`components.encodings.form`), the bass note of a chord symbol is lost, adjacent equal chords are merged, a rare
    metre becomes the one with the nearest bar. Everything else is decoded exactly.

    `planned`: a form begins with its number of bars; context features give the music relative to the root of the first
    chord, and the last steps left (`components.encodings.lead_sheet.plan`). So pieces end at the planned bar, on their
    home.

    `patterns`: a copying model may also continue as the melody did after the same intervals, in any key
    (`components.encodings.lead_sheet.patterns`).

    `relative`: chords and pitches are written from the root of the first chord, as if it were C, after a token that
    says it. So what a model learns in one key it knows in all.
    """

    kind = "lead_sheet"
    unit = "token"
    copy_lags = LAGS  # bars
    copy_classes = MATCHES * HARMONIES

    steps_per_beat: Annotated[int, Field(ge=2, le=48)] = 12
    planned: bool = False
    patterns: bool = False
    relative: bool = False

    def __post_init__(self) -> None:
        if self.steps_per_beat % 2:
            what = f"must be an even number from 2 to 48, not {self.steps_per_beat}"
            hint = "for example 12, which allows triplets and sixteenth notes"
            raise UserError(what, where="encoding.steps_per_beat", hint=hint)
        self.copy_places = len(LAGS) + self.patterns
        self.signs = Signs(self.steps_per_beat, self.planned, self.relative)
        self.prefix = self.signs.prefix
        self.knows_chords = True  # whether the training pieces had any
        self.form_steps = MOST_STEPS  # the longest form that is generated (see `fit`)
        self._lost: list[str] = []  # what the training pieces' chord symbols lose
        self.forms: dict[str, int] = {}  # the training pieces' forms, such as AABB, and how many pieces have each
        # type of the next token (see `context`), the form's columns, the last pitch and its role in the chord
        self.context_sizes = (5, *form_sizes(self.steps_per_beat), 2 + HIGHEST - LOWEST, 5)
        self.context_sizes += plan_sizes(self.steps_per_beat) if self.planned else ()

    def fit(self, items: Iterable[Score]) -> None:
        """Learn whether there are chord symbols (if not, chords given in generation are left out), the longest form
        to generate, and the forms of the melodies.

        The token that ends a form may be cut off by `top_p` and `top_k` every time. Therefore forms end at the latest
        at the 95th percentile of the training pieces' lengths; without chords, when a form is nothing but a length, at
        their median.
        """
        lengths, forms, self.knows_chords = [], [], False
        chords: list[Chord] = []
        for item in items:
            chords += item.chords
            lengths.append(item.length_steps * self.steps_per_beat // item.steps_per_beat)
            forms.append(form_of(replace(item, parts=(Part("", melody_of(item)),))))
            self.knows_chords |= bool(item.chords)
        self.forms, self._lost = common_forms(forms), of_chords(chords)
        lengths = [length for length in lengths if length] or [MOST_STEPS]
        self.form_steps = min(MOST_STEPS, int(np.quantile(lengths, 0.95 if self.knows_chords else 0.5)))

    def remarks(self) -> list[str]:
        if self.knows_chords:
            return self._lost
        return ["no training piece has chord symbols: the model writes melodies without chords"]

    def learned(self) -> dict[str, Any]:
        own = {"knows_chords": self.knows_chords, "form_steps": self.form_steps, "forms": self.forms}
        return own | {"steps_left": self.planned}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        self.knows_chords = bool(state.get("knows_chords", True))
        self.form_steps = int(state.get("form_steps", MOST_STEPS))
        self.forms = {str(form): int(count) for form, count in state.get("forms", {}).items()}
        if self.planned and not state.get("steps_left"):  # older models don't read the last column
            self.context_sizes = self.context_sizes[:-1]

    def encode(self, item: Score) -> np.ndarray:
        """The ids of the score's form and melody, int64 [T].

        Raises:
            UserError: the piece is longer than MOST_STEPS.
        """
        ratio = Fraction(self.steps_per_beat, item.steps_per_beat)
        scale = ratio.numerator if ratio.denominator == 1 else ratio  # fractions are slow
        chords = tuple(Chord(round(c.start * scale), round(c.duration * scale), c.root, c.kind) for c in item.chords)
        home = Form(length=round(item.length_steps * scale), chords=chords).home * self.relative
        notes = line_of(item, scale, above(home))
        end = max([round(item.length_steps * scale), *(note.start + note.duration for note in notes[-1:])])
        if end > MOST_STEPS:
            what = f"{end // self.steps_per_beat:,} beats, more than the limit of {MOST_STEPS // self.steps_per_beat:,}"
            raise UserError(what, where=item.title or "score", hint="split it into several pieces")
        metre = nearest_metre(item.metre)
        form = Form(
            metre=metre,
            tempo=tempo_class(item.tempo_bpm),
            upbeat=round(item.upbeat_steps * scale) % Score((), self.steps_per_beat, metre).bar_steps,
            length=end,
            chords=chords,
            changes=tuple((round(step * scale), nearest_metre(changed)) for step, changed in item.metre_changes),
        )
        signs = self.signs
        ids = signs.form_ids(form.moved(-home), home)
        at = 0
        for note in notes:
            ids += signs.spans(signs.rest, signs.rest, note.start - at)
            ids += signs.spans(signs.pitch0 + note.pitch - LOWEST, signs.tie, note.duration)
            at = note.start + note.duration
        return np.array(ids + signs.spans(signs.rest, signs.rest, end - at), dtype=np.int64)

    def decode(self, ids: Sequence[int] | np.ndarray) -> Score:
        """The lead sheet for the ids. Ids that break the grammar are skipped and an unfinished note is dropped. If the
        melody ends before its form, the piece ends with the bar that the melody reached."""
        ids, signs = np.asarray(ids, dtype=np.int64), self.signs
        begin = signs.places(ids).begin
        form = self.form_in(ids[:begin])
        lowest = LOWEST + above(signs.home(ids[:begin]))
        notes: list[Note] = []
        at = head = 0
        for id in ids[begin + 1 :].tolist():
            length = signs.length(id)
            if not length:
                head = id
                continue
            if head >= signs.pitch0:
                notes.append(Note(at, length, head - signs.pitch0 + lowest))
            elif head == signs.tie and notes and notes[-1].start + notes[-1].duration == at:
                notes[-1] = Note(notes[-1].start, notes[-1].duration + length, notes[-1].pitch)
            at += length if head >= signs.pitch0 or head in (signs.tie, signs.rest) else 0
            head = 0
        score = Score(
            (Part("Melody", tuple(notes), role="melody"),),
            steps_per_beat=self.steps_per_beat,
            metre=form.metre,
            upbeat_steps=form.upbeat,
            length_steps=max(form.length, at),
            tempo_bpm=float(TEMPI[form.tempo][1]),
            chords=form.chords,
            metre_changes=form.changes,
        )
        return score if at >= form.length else score.until(bar_end(form, at, self.steps_per_beat))

    def doubts(self, melody: Score) -> list[str]:
        ids = self.encode(melody)
        return doubts(melody, self.decode(ids), above(self.signs.home(ids)))

    def onwards(self, start: Score) -> np.ndarray:
        """The ids of the piece, int64 [T], with its form repeated once: the model writes a second chorus over it."""
        ids = self.encode(start)
        begin = int(np.flatnonzero(ids == self.signs.begin)[0])
        twice = self._form(ids[:begin])[0].repeated(self.steps_per_beat)
        return np.concatenate([self.signs.form_ids(twice, self.signs.home(ids)), ids[begin + 1 :]])

    def form_ids(self, form: Form) -> np.ndarray:
        """The tokens of the form before the melody, int64 [T]; without its chords if the model knows none."""
        known = form if self.knows_chords else Form(form.metre, form.tempo, form.upbeat, form.length)
        home = known.home * self.relative
        return np.array(self.signs.form_ids(known.moved(-home), home), dtype=np.int64)

    def form_in(self, ids: np.ndarray) -> Form:
        """The form in the ids [T] before a melody."""
        return self._form(ids)[0].moved(self.signs.home(ids))

    def drawn_form(self, bars: int, seed: int) -> str:
        return draw_form(self.forms, bars, seed)

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """A metre, "3/4". If empty, the model chooses it.

        Raises:
            UserError: any other text.
        """
        name = f"metre {text.strip()}"
        if text.strip() and name not in self.vocabulary.tokens:
            known = ", ".join(f"{beats}/{unit}" for beats, unit in METRES)
            raise UserError(f"{text[:80]!r} isn't a metre", where="prompt", hint=f"metres: {known}")
        return self.vocabulary.ids([name] if text.strip() else []), []

    def label(self, id: int) -> str:
        return self.signs.label(id)

    def layout(self, ids: np.ndarray, columns: int = 32) -> list[list[int]]:
        """The form, then the melody, in separate rows."""
        begin = min(self.signs.places(np.asarray(ids, dtype=np.int64)).begin + 1, len(ids))
        cuts = [*range(0, begin, columns), *range(begin, len(ids), columns), len(ids)]
        return [list(range(a, b)) for a, b in pairwise(cuts) if a < b]

    def context(self, ids: np.ndarray) -> np.ndarray:
        """int64 [T, C]: the type of the next token, its position, and the chords there.

        The first column: 0 metre or tempo, 1 a part of the form, 2 its length, 3 a note or rest, 4 its length. Then
        `form_columns` of the step; the latest pitch (from 1), and its role in the chord. Before the melody only the
        place, the bars so far instead of the bars left, and the latest chord.
        """
        ids, signs = np.asarray(ids, dtype=np.int64), self.signs
        places = signs.places(ids)
        inside = places.inside
        has_tempo = np.cumsum((ids >= signs.tempo0) & (ids < signs.no_chord)) > 0
        out = np.zeros((len(ids), 3 + len(form_sizes(self.steps_per_beat))), dtype=np.int64)
        out[:, 0] = np.where(inside, 3, has_tempo) + (places.head & (inside | has_tempo))
        out[: places.begin, 1:8] = self.signs.form_so_far(ids[: places.begin], places.time[: places.begin])
        if places.begin < len(ids):
            table = self._form(ids[: places.begin])[1]
            rows = table[np.minimum(places.time[inside], len(table) - 1)]
            out[inside, 1:-2] = rows
            last = latest(ids >= signs.pitch0)[inside]
            pitch = ids[last] - signs.pitch0
            roles = rows[np.arange(len(rows)), len(rows[0]) - 12 + (pitch + LOWEST) % 12]
            out[inside, -2], out[inside, -1] = np.where(last >= 0, [pitch + 1, roles], 0)
        if not self.planned:
            return out
        length = self._form(ids[: places.begin])[0].length if places.begin < len(ids) else 0
        planned = np.concatenate([out, plan_columns(signs, ids, places, length, out)], axis=1)
        return planned[:, : len(self.context_sizes)]

    def copies(self, ids: np.ndarray, sections: Sections | None = None) -> tuple[np.ndarray, ...]:
        """Notes and chords that began one lag ago (`components.encodings.lead_sheet.copies`); with `patterns` also the
        event that followed the latest intervals before."""
        ids = np.asarray(ids, dtype=np.int64)
        places = self.signs.places(ids)
        form = ids[: places.begin if places.begin < len(ids) else 0]  # counts as empty until it is complete
        returns = self._returned(form.tobytes(), sections)
        lags = sections.lags(self._bar_numbers(ids, places), LAGS) if sections else LAGS
        found = lead_sheet_copies(self.signs, ids, places, *returns, lags)
        if not self.patterns:
            return found
        candidates_T, classes_T = pattern_copies(self.signs, ids, places)
        columns = (candidates_T, HARMONIES * classes_T)
        return tuple(np.column_stack([lags_TL, column]) for lags_TL, column in zip(found, columns, strict=True))

    def bar_reached(self, ids: np.ndarray) -> tuple[int, int]:
        ids = np.asarray(ids, dtype=np.int64)
        return int(self._bar_numbers(ids, self.signs.places(ids))[-1]), 1

    def against(self, ids: np.ndarray, sections: Sections) -> np.ndarray:
        """Lengths that cross the boundary between two sections, and changes of metre."""
        ids, signs = np.asarray(ids, dtype=np.int64), self.signs
        mask, places = np.zeros(len(signs), dtype=bool), signs.places(ids)
        mask[signs.metre0 : signs.tempo0] = places.time[-1] > 0
        bar = int(self._bar_numbers(ids, places)[-1])
        if not places.head[-1] or int(ids[-1]) == signs.upbeat or bar >= sections.total:
            return mask
        form = self._form_so_far(ids, places)
        # a form that is being written is extended by a bar, as the next boundary may be its end
        ahead = replace(form, length=form.length + signs.longest)
        number_S, now = bar_numbers(ahead, self.steps_per_beat), int(places.time[-1])
        left = np.searchsorted(number_S, (bar // sections.bars + 1) * sections.bars) - now
        mask[signs.length0 + left : signs.pitch0] = True
        return mask

    def _form_so_far(self, ids: np.ndarray, places: Places) -> Form:
        """The form before the melody, as far as the ids have it."""
        form = ids[: places.begin]
        return self._form(form)[0] if places.begin < len(ids) else self.signs.read_form(form.tolist())

    def _bar_numbers(self, ids: np.ndarray, places: Places) -> np.ndarray:
        """The bar of the token after each of the ids [T], int64 [T]."""
        number_S = bar_numbers(self._form_so_far(ids, places), self.steps_per_beat)
        return number_S[np.minimum(places.time, len(number_S) - 1)]

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """The grammar's mask, bool [V]: a melody is as long as its form."""
        grammar = Grammar(self.signs, self.form_steps, self.planned, lambda form: self._form(form)[0])
        return grammar.allowed(np.asarray(ids, dtype=np.int64))

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Melody and chords transposed by one random interval of SHIFTS; int64 [T]."""
        ids = np.asarray(ids, dtype=np.int64)
        pitches = ids[ids >= self.signs.pitch0] - self.signs.pitch0 + LOWEST + above(self.signs.home(ids))
        low, high = SHIFTS[0], SHIFTS[-1]
        if len(pitches):
            low = max(low, min(0, COMFORTABLE[0] - int(pitches.min())))
            high = min(high, max(0, COMFORTABLE[1] - int(pitches.max())))
        return self.signs.transposed(ids, int(rng.integers(low, high + 1)))

    def counts(self, ids: np.ndarray) -> dict[str, int]:
        """Number of notes; the loss of the form's tokens is included in the loss per note."""
        return {"note": int((np.asarray(ids) >= self.signs.pitch0).sum())}

    def meaning(self, chords: Sequence[Chord] = ()) -> Meaning:
        """The musical meaning of the tokens, for constraints; `chords` replace those of the form."""
        from components.encodings.lead_sheet.meaning import LeadSheetMeaning

        return LeadSheetMeaning(self.signs, self.reached, chords)

    def timeline(self, ids: np.ndarray) -> LeadSheetTimeline:
        """The melody and the chords."""
        return LeadSheetTimeline(self.signs, np.asarray(ids, dtype=np.int64))

    def reached(self, ids: np.ndarray) -> tuple[Form, int] | None:
        """The form of the ids [T] and the current step of their melody; None before the melody."""
        places = self.signs.places(np.asarray(ids, dtype=np.int64))
        return (self.form_in(ids[: places.begin]), int(places.time[-1])) if places.inside[-1] else None

    def _form(self, ids: np.ndarray) -> tuple[Form, np.ndarray]:
        """The form in the ids [T] before a melody, and its columns [steps + 1, C]; cached."""
        return self._read(np.asarray(ids, dtype=np.int64).tobytes())

    @lru_cache(maxsize=REMEMBERED)  # noqa: B019 - an encoding lives as long as its model or run
    def _read(self, ids: bytes) -> tuple[Form, np.ndarray]:
        form = self.signs.read_form(np.frombuffer(ids, dtype=np.int64).tolist())
        return form, form_columns(form, self.steps_per_beat)

    @lru_cache(maxsize=REMEMBERED)  # noqa: B019
    def _returned(self, ids: bytes, sections: Sections | None) -> tuple[np.ndarray, np.ndarray]:
        """`form_returns` of the form in the ids before a melody; cached."""
        return form_returns(self._read(ids)[0], self.steps_per_beat, sections)
