"""Scores as MIDI events in one of MidiTok's vocabularies, several instruments in one sequence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from components.encodings.base import Encoding
from components.encodings.copying import MATCHES
from components.encodings.event_copies import BEGINS, ENDS, LAGS, EventPlaces, event_copies
from components.encodings.notes import Shift, interval
from components.encodings.sections import Sections
from components.encodings.vocabulary import EOS, SPECIALS, Vocabulary
from components.errors import UserError
from components.score import Score, pitch_name

FIRST = len(SPECIALS)
PITCHES = ("Pitch", "NoteOn", "NoteOff")  # types that are transposed; drums aren't
ENDINGS = ("Duration", *ENDS)  # types after which a piece may end


@dataclass(kw_only=True, eq=False)
class Events(Encoding):
    """Scores ↔ ids of MidiTok's tokens, `steps_per_beat` steps in a quarter note.

    `tokenizer`: remi has bars and positions in them, tsd has time shifts, midi_like has the beginnings and ends of
    notes, structured is tsd in a fixed order without metre and tempo. `velocities`: number of velocity levels, 0: none.
    `programs`: keep the instruments; otherwise all notes are a piano's. `bpe`: vocabulary size with byte-pair encoding
    of pairs that are frequent in the training pieces; 0: none. `transpose`: in training each piece is transposed by a
    random number of semitones in this range (not with bpe: the length of the piece would change).

    Kept: notes on the grid, durations up to 8 beats exactly and up to 32 to the beat, the tempo as the nearest of 32
    from 40 to 250, metres in quarters and eighths (others as a bar of equal length) and where they change. Lost: parts
    of one instrument are merged; names, roles except drums, chord symbols and keys; an upbeat becomes a first bar that
    begins with silence; silence after the last note; overlaps of one pitch in one instrument. In structured, time
    shifts are rounded like durations.

    A model can copy from 1, 2, 4, 8 and 16 bars before (`components.encodings.event_copies`), but no merged tokens.
    """

    kind = "events"
    unit = "event"
    copy_lags = LAGS
    copy_classes = MATCHES

    tokenizer: Literal["remi", "tsd", "midi_like", "structured"] = "remi"
    steps_per_beat: Annotated[int, Field(ge=1, le=48)] = 12
    velocities: Annotated[int, Field(ge=0, le=127)] = 16
    programs: bool = True
    bpe: Annotated[int, Field(ge=0, le=1 << 16)] = 0
    transpose: tuple[Shift, Shift] = (0, 0)

    def __post_init__(self) -> None:
        from components.encodings.merges import Merges
        from components.encodings.midi_events import MidiTokens  # MidiTok imports torch: seconds

        if self.bpe and tuple(self.transpose) != (0, 0):
            hint = "leave one of them out: transposing a piece would change its merged tokens"
            raise UserError("bpe and transpose can't be used together", where="encoding", hint=hint)
        self._midi = MidiTokens(self.tokenizer, self.steps_per_beat, self.velocities, self.programs)
        base = len(self._midi.tokens)
        if self.bpe and self.bpe <= base + FIRST:
            many = f"{self.tokenizer} has {base + FIRST} tokens before merging"
            hint = f"{many}: choose a larger number, or 0 for no merging"
            raise UserError(f"a vocabulary of {self.bpe} tokens is too small", where="encoding.bpe", hint=hint)
        cuts = "Bar" if "Bar" in self._midi.types else "TimeShift"
        self._cuts = np.array([kind == cuts for kind in self._midi.types])
        self._given: Vocabulary | None = None
        self._use(Merges(base))
        self.copy_places = 0 if self.bpe else len(LAGS)
        self._places = EventPlaces(self._vocabulary.tokens, self.steps_per_beat)

    def _use(self, merges: Any) -> None:
        """Set the merges and build the lookup tables. V tokens, specials included."""
        self._merges = merges
        types, tokens = self._midi.types, self._midi.tokens
        names = ["+".join(tokens[id] for id in expansion) for expansion in merges.expansions]
        self._vocabulary = Vocabulary([*SPECIALS, *names])
        first = np.array(["", *[""] * (FIRST - 1), *(types[e[0]] for e in merges.expansions)])
        self._last = [*[""] * FIRST, *(types[expansion[-1]] for expansion in merges.expansions)]
        self._masks = {kind: np.isin(first, sorted(after)) for kind, after in self._midi.follows().items()}
        for kind in ENDINGS:
            if kind in self._masks:
                self._masks[kind][EOS] = True
        self._notes = np.array([0] * FIRST + [sum(types[id] in BEGINS for id in e) for e in merges.expansions])
        alone = [e[0] if len(e) == 1 and types[e[0]] in PITCHES else None for e in merges.expansions]
        self._pitch = np.array([-1] * FIRST + [-1 if id is None else int(tokens[id].split("_")[1]) for id in alone])

    @property
    def vocabulary(self) -> Vocabulary:
        """MidiTok's tokens and the merges of `fit`. A stored vocabulary must be the same."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, vocabulary: Vocabulary) -> None:
        self._given = vocabulary  # compared once the merges are known

    def fit(self, items: Iterable[Score]) -> None:
        """Learn the merges if `bpe` is set."""
        if self.bpe:
            from components.encodings.merges import Merges

            chunks = (chunk for item in items for chunk in self._chunks(self._midi.encode(item)))
            self._use(Merges.learn(len(self._midi.tokens), chunks, self.bpe - FIRST))

    def learned(self) -> dict[str, Any]:
        return {"merges": [list(pair) for pair in self._merges.pairs]} if self.bpe else {}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        """Restore the merges.

        Raises:
            ValueError: invalid merges.
            UserError: they don't result in the stored vocabulary.
        """
        from components.encodings.merges import Merges

        pairs = state.get("merges", [])
        if not isinstance(pairs, list) or not all(isinstance(n, int) for pair in pairs for n in pair):
            raise ValueError("merges are pairs of numbers")
        if len(pairs) > 4 * self.bpe:
            raise ValueError(f"{len(pairs)} merges where bpe is {self.bpe}")
        self._use(Merges(len(self._midi.tokens), pairs))
        if self._given not in (None, self._vocabulary):
            raise UserError(
                "the stored vocabulary isn't the one that this version of MidiTok gives",
                where="encoding",
                hint="ingest the data and train the model again, or install the version of MidiTok that wrote it",
            )

    def encode(self, item: Score) -> np.ndarray:
        return self._merges.apply(self._chunks(self._midi.encode(item))) + FIRST

    def decode(self, ids: Sequence[int] | np.ndarray) -> Score:
        ids = np.asarray(ids, dtype=np.int64)
        return self._midi.decode(self._merges.expand(ids[ids >= FIRST] - FIRST))

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """A metre, "3/4", if the vocabulary has metres. If empty, the model chooses it.

        Raises:
            UserError: any other text.
        """
        name = f"TimeSig_{text.strip()}"
        if not text.strip():
            return np.zeros(0, dtype=np.int64), []
        known = [token.split("_")[1] for token in self._midi.tokens if token.startswith("TimeSig_")]
        if name not in self._vocabulary.tokens:
            hint = f"metres: {', '.join(known)}" if known else f"{self.tokenizer} has no metres: leave the prompt out"
            raise UserError(f"{text[:80]!r} isn't a valid prompt for this model", where="prompt", hint=hint)
        bar = ["Bar_None"] if "Bar" in self._midi.types else []
        return self._vocabulary.ids([*bar, name]), []

    def copies(self, ids: np.ndarray, sections: Sections | None = None) -> tuple[np.ndarray, ...]:
        """What followed the same place one lag ago, in bars as long as here (`components.encodings.event_copies`)."""
        ids = np.asarray(ids, dtype=np.int64)
        if not self.copy_places:
            return super().copies(ids)
        time_T, bar_T = self._places.times(ids)
        return event_copies(self._places, ids, sections.lags(time_T // bar_T, LAGS) if sections else LAGS)

    def bar_reached(self, ids: np.ndarray) -> tuple[int, int]:
        time_T, bar_T = self._places.times(np.asarray(ids, dtype=np.int64))
        return int(time_T[-1] // bar_T[-1]), 1

    def against(self, ids: np.ndarray, sections: Sections) -> np.ndarray:
        """Changes of metre."""
        written = np.asarray(ids, dtype=np.int64)
        metres = written[self._places.metres_V[written]]
        mask = self._places.metres_V.copy() if len(metres) else super().against(ids, sections)
        mask[metres[-1:]] = False
        return mask

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """The mask of MidiTok's graph of token types: it depends on the last token only."""
        if len(ids) and int(ids[-1]) == EOS:
            return np.arange(len(self._vocabulary)) == EOS
        mask = self._masks.get(self._last[int(ids[-1])] if len(ids) else "")
        return mask.copy() if mask is not None and mask.any() else super().allowed(ids)

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The piece transposed by one random interval, except drums; int64 [T]."""
        ids = np.asarray(ids, dtype=np.int64)
        pitches = self._pitch[ids]
        return ids + interval(self.transpose, pitches[pitches >= 0], 128, rng) * (pitches >= 0)

    def counts(self, ids: np.ndarray) -> dict[str, int]:
        return {"note": int(self._notes[np.asarray(ids, dtype=np.int64)].sum())}

    def label(self, id: int) -> str:
        """The name of a pitch, the value of another token; for a merged one its first token and its length."""
        name, _, more = self._vocabulary.token(id).partition("+")
        kind, _, value = name.partition("_")
        short = pitch_name(int(value)) if kind in PITCHES else kind if value == "None" else value or kind
        return f"{short}+{more.count('+') + 1}" if more else short

    def _chunks(self, ids: np.ndarray) -> list[np.ndarray]:
        """Cut before each bar or time shift: no merge spans a cut."""
        cuts = np.flatnonzero(self._cuts[ids]) if len(ids) else []
        return [chunk for chunk in np.split(ids, cuts) if len(chunk)]
