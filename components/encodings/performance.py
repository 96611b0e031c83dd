"""Piano performances as events: keys, pedal, velocity and time shifts in hundredths of a second."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from components.bounds import MOST_SECONDS
from components.encodings.base import Encoding
from components.encodings.notes import Shift, interval, settled
from components.encodings.resumed import Resumed, Walk
from components.encodings.vocabulary import BOS, EOS, SPECIALS, Vocabulary
from components.errors import UserError
from components.score import Note, Part, Score, pitch_name

FIRST = len(SPECIALS)
LOWEST, HIGHEST = 21, 108  # a piano's keys
KEYS = HIGHEST - LOWEST + 1
DOWN, UP = FIRST, FIRST + 1  # of the pedal
ON = UP + 1
OFF = ON + KEYS
LOUD = OFF + KEYS
MOST_MINUTES = MOST_SECONDS // 60  # of a planned length; a longer one isn't said
MOST_LEFT = 60  # seconds to the planned end; more count as this many
MOST_HELD = 11  # number of held keys in the context; more count as this many
LONGEST_SECONDS = 4 * 3600


@dataclass(kw_only=True, eq=False)
class Performance(Encoding):
    """Performances ↔ ids: key down, key up, sustain pedal down or up, velocity of the next keys, time shift (Oore et
    al. 2018, who include the pedal in the notes' lengths).

    `steps_per_second`: resolution of time; a time shift is at most a second. `velocities`: number of velocity levels.
    `transpose`: in training each piece is transposed by a random number of semitones in this range.

    `planned`: a piece begins with its length, in minutes and seconds, and the seconds left are a context feature. So
    pieces end at the planned second.

    Context features: number of held keys, the lowest of them, the pedal, the current velocity, the held pitch classes,
    and with `planned` the seconds left.

    Lost: parts, other instruments and drums; half-pedalling; keys outside a piano's.
    """

    kind, performed = "performance", "piano"
    unit = "event"

    steps_per_second: Annotated[int, Field(ge=10, le=200)] = 100
    velocities: Annotated[int, Field(ge=1, le=127)] = 32
    transpose: tuple[Shift, Shift] = (0, 0)
    planned: bool = False

    def __post_init__(self) -> None:
        velocities, planned = self.velocities, self.planned
        self.prefix = 2 * planned
        self.wait = LOUD + velocities - 1  # + k: a time shift of k steps
        keys = [pitch_name(pitch) for pitch in range(LOWEST, HIGHEST + 1)]
        names = [
            "pedal down", "pedal up", *(f"{key} down" for key in keys), *(f"{key} up" for key in keys),
            *(f"loud {v + 1}" for v in range(velocities)), *(f"wait {k + 1}" for k in range(self.steps_per_second)),
        ]  # fmt: skip
        if planned:
            names += [
                *(f"minutes {n}" for n in range(MOST_MINUTES)),
                "minutes more",
                *(f"seconds {n}" for n in range(60)),
            ]
        self.minutes = FIRST + names.index("minutes 0") if planned else FIRST + len(names)
        self.seconds = self.minutes + MOST_MINUTES + 1
        self.vocabulary = Vocabulary([*SPECIALS, *names])
        self.context_sizes = (1 + MOST_HELD, 1 + KEYS, 2, 1 + velocities, *[2] * 12, *[2 + MOST_LEFT] * planned)
        self._resumed = Resumed(self._walk, len(self.context_sizes))
        self._beyond = 0

    def fit(self, items: Iterable[Score]) -> None:
        """Learns nothing; counts notes outside a piano's range, for `remarks`."""
        parts = (part for item in items for part in item.parts if part.role != "drums")
        self._beyond = sum(not LOWEST <= note.pitch <= HIGHEST for part in parts for note in part.notes)

    def remarks(self) -> list[str]:
        return [f"{self._beyond:,} notes outside a piano's range (A0 to C8): left out"] if self._beyond else []

    def encode(self, item: Score) -> np.ndarray:
        """The ids [T].

        Raises:
            UserError: no note is in a piano's range.
        """
        parts = [part for part in item.parts if part.role != "drums"]
        scale = 60.0 / item.tempo_bpm / item.steps_per_beat * self.steps_per_second
        notes = [
            Note(start, max(1, round((n.start + n.duration) * scale) - start), n.pitch, n.velocity)
            for part in parts
            for n in part.notes
            if LOWEST <= n.pitch <= HIGHEST
            for start in [round(n.start * scale)]
        ]
        if not notes:
            drums = any(part.role == "drums" and part.notes for part in item.parts)
            what = "the piece has only drums" if drums else "the piece has no note in a piano's range"
            hint = "read piano files with data.reader=piano; for drums use the encoding drums"
            raise UserError(what, where="encoding.kind", hint=hint)
        events: list[tuple[int, int, int, int]] = []  # step, order, id, velocity
        for note in settled(notes):
            key, loud = note.pitch - LOWEST, min(note.velocity * self.velocities // 128, self.velocities - 1)
            events.append((note.start, 3, ON + key, loud))
            events.append((note.start + note.duration, 0, OFF + key, -1))
        for down, up in _joined((round(a * scale), round(b * scale)) for part in parts for a, b in part.pedal):
            events += [(down, 2, DOWN, -1), (up, 1, UP, -1)]
        end = max((step for step, *_ in events), default=0)
        ids = self._plan(-(-end // self.steps_per_second)).tolist() if self.planned else []
        now, held = 0, -1
        for step, _, id, loud in sorted(events):
            ids += [self.wait + self.steps_per_second] * ((step - now) // self.steps_per_second)
            ids += [self.wait + rest] if (rest := (step - now) % self.steps_per_second) else []
            now = step
            if loud >= 0 and loud != held:
                ids.append(LOUD + loud)
                held = loud
            ids.append(id)
        return np.array(ids, dtype=np.int64)

    def _plan(self, seconds: int) -> np.ndarray:
        """The ids of a length."""
        minutes = min(seconds // 60, MOST_MINUTES)
        return np.array([self.minutes + minutes, self.seconds + seconds % 60], dtype=np.int64)

    def _planned(self, ids: np.ndarray) -> int:
        """The planned length of the ids [T], in steps; -1: none."""
        said = ids[ids >= self.minutes][:2]
        if len(said) < 2 or said[0] >= self.seconds - 1 or said[1] < self.seconds:
            return -1
        return int(60 * (said[0] - self.minutes) + said[1] - self.seconds) * self.steps_per_second

    def with_seconds(self, seconds: int) -> np.ndarray:
        return self._plan(seconds) if self.planned else super().with_seconds(seconds)

    def onwards(self, start: Score) -> np.ndarray:
        """The ids of the piece; with a plan for twice its length."""
        ids = self.encode(start)
        if self.planned:
            played = ids[(ids > self.wait) & (ids < self.minutes)] - self.wait
            ids[:2] = self._plan(-(-2 * int(played.sum()) // self.steps_per_second))
        return ids

    def decode(self, ids: Sequence[int] | np.ndarray) -> Score:
        """The score; a "bar" is a second. Keys still held at the end are released there."""
        now, loud = 0, self.velocities // 2
        struck: dict[int, tuple[int, int]] = {}
        notes: list[Note] = []
        pedal: list[tuple[int, int]] = []
        down: int | None = None
        for id in np.asarray(ids, dtype=np.int64).tolist():
            if id < FIRST or id >= self.minutes or now > LONGEST_SECONDS * self.steps_per_second:
                continue
            if id > self.wait:
                now += id - self.wait
            elif id >= LOUD:
                loud = id - LOUD
            elif id >= OFF:
                self._let_go(id - OFF, now, struck, notes)
            elif id >= ON:
                self._let_go(id - ON, now, struck, notes)
                struck[id - ON] = (now, min(127, max(1, (2 * loud + 1) * 64 // self.velocities)))
            elif id == DOWN:
                down = now if down is None else down
            elif down is not None:
                pedal += [(down, now)] if now > down else []
                down = None
        for key in list(struck):
            self._let_go(key, max(now, struck[key][0] + 1), struck, notes)
        pedal += [(down, now)] if down is not None and now > down else []
        kept = settled(notes)
        return Score(
            (Part("Piano", kept, pedal=tuple(pedal)),),
            steps_per_beat=self.steps_per_second,
            metre=(1, 4),
            length_steps=max([now, *(note.start + note.duration for note in kept)]),
            tempo_bpm=60.0,
            timing="seconds",
        )

    @staticmethod
    def _let_go(key: int, now: int, struck: dict[int, tuple[int, int]], notes: list[Note]) -> None:
        if key in struck:
            start, velocity = struck.pop(key)
            if now > start:
                notes.append(Note(start, now - start, LOWEST + key, velocity))

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """Always empty: prompts as text aren't supported.

        Raises:
            UserError: the text isn't empty.
        """
        if text.strip():
            raise UserError(
                f"this model takes no prompt, but {text[:80]!r} was given", where="prompt", hint="leave it out"
            )
        return np.zeros(0, dtype=np.int64), []

    def context(self, ids: np.ndarray) -> np.ndarray:
        """int64 [T, 16], with `planned` 17; see the class."""
        return self._resumed.rows(ids)

    def _walk(self) -> Walk:
        held: set[int] = set()
        classes, pedal, loud, now = [0] * 12, 0, 0, 0
        said: list[int] = []
        plan = -1
        row: tuple[int, ...] = (0,) * len(self.context_sizes)
        while True:
            id = yield row
            if ON <= id < LOUD:
                key = (id - ON) % KEYS
                if id < OFF and key not in held:
                    held.add(key)
                    classes[(LOWEST + key) % 12] += 1
                elif id >= OFF and key in held:
                    held.discard(key)
                    classes[(LOWEST + key) % 12] -= 1
            elif id in (DOWN, UP):
                pedal = int(id == DOWN)
            elif LOUD <= id <= self.wait:
                loud = 1 + id - LOUD
            elif self.wait < id < self.minutes:
                now += id - self.wait
            elif id >= self.minutes and len(said) < 2:
                said.append(id)
                plan = self._planned(np.array(said))
            left = -((now - plan) // self.steps_per_second)
            more = (0 if plan < 0 else 1 + min(max(left, 0), MOST_LEFT),) * self.planned
            sounds = [int(count > 0) for count in classes]
            row = (min(len(held), MOST_HELD), 1 + min(held, default=-1), pedal, loud, *sounds, *more)

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        """The grammar's mask: keys go down if up and up if down; a piece ends with all keys and the pedal up,
        in the last second of its planned length."""
        mask = np.zeros(len(self.vocabulary), dtype=bool)
        ids = np.asarray(ids, dtype=np.int64)
        last = int(ids[-1]) if len(ids) else BOS
        if last == EOS:
            mask[EOS] = True
            return mask
        if self.planned and last < FIRST:
            mask[self.minutes : self.seconds] = True
            return mask
        if self.minutes <= last < self.seconds:
            mask[self.seconds :] = True
            return mask
        latest = np.full(KEYS, -1)  # the latest event of each key
        for first in (ON, OFF):
            places = np.flatnonzero((ids >= first) & (ids < first + KEYS))
            np.maximum.at(latest, ids[places] - first, places)
        held = np.zeros(KEYS, dtype=bool)
        held[latest >= 0] = ids[latest[latest >= 0]] < OFF
        if LOUD <= last <= self.wait:  # a key down follows a velocity
            mask[ON:OFF] = ~held
            mask[last if held.all() else []] = True
            return mask
        pedals = ids[(ids == DOWN) | (ids == UP)]
        down = bool(len(pedals)) and int(pedals[-1]) == DOWN
        known = bool(((ids >= LOUD) & (ids <= self.wait)).any())
        mask[ON:OFF] = ~held & known
        mask[OFF:LOUD] = held
        waits = (ids > self.wait) & (ids < self.minutes)
        just = np.flatnonzero(waits)
        since = ids[just[-1] + 1 if len(just) else 0 :]
        struck = since[(since >= ON) & (since < OFF)] - ON
        mask[OFF + struck] = False  # notes have a length of at least one step
        mask[UP if down else DOWN] = not ((since == DOWN) | (since == UP)).any() or not down
        mask[LOUD : self.wait + 1] = not held.all()
        mask[self.wait + 1 : self.minutes] = last <= self.wait or last >= self.minutes - 1
        mask[EOS] = bool((ids[(ids >= ON) & (ids < OFF)]).size) and not held.any() and not down
        plan = self._planned(ids)
        if plan >= 0:
            self._end(mask, plan - int((ids[waits] - self.wait).sum()))
        return mask

    def _end(self, mask: np.ndarray, left: int) -> None:
        """Narrow the mask to a piece that ends at its planned length, with `left` steps to it."""
        mask[EOS] &= left < self.steps_per_second
        mask[self.wait + 1 + max(left, 0) : self.minutes] = False
        if left <= 0:  # what begins now would last longer
            mask[[*range(ON, OFF), *range(LOUD, self.wait + 1), DOWN]] = False
            mask[EOS] |= not mask.any()

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The piece transposed by one random interval, within the range of the keys; int64 [T]."""
        ids = np.asarray(ids, dtype=np.int64)
        keyed = (ids >= ON) & (ids < LOUD)
        return ids + interval(self.transpose, (ids[keyed] - ON) % KEYS, KEYS, rng) * keyed

    def counts(self, ids: np.ndarray) -> dict[str, int]:
        ids = np.asarray(ids)
        return {"note": int(((ids >= ON) & (ids < OFF)).sum())}

    def label(self, id: int) -> str:
        """The name of a key, with ↑ for its release; the number of a velocity or time shift."""
        token = self.vocabulary.token(id)
        if OFF <= id < LOUD:
            return f"{token.removesuffix(' up')}↑"
        return {DOWN: "Ped", UP: "*"}.get(id) or token.removesuffix(" down").replace("loud ", "v").replace("wait ", "·")


def _joined(spans: Any) -> list[tuple[int, int]]:
    """The spans in order, with overlapping ones merged and empty ones removed."""
    found: list[tuple[int, int]] = []
    for down, up in sorted(spans):
        if up <= down:
            continue
        if found and down < found[-1][1]:
            found[-1] = (found[-1][0], max(up, found[-1][1]))
        else:
            found.append((down, up))
    return found
