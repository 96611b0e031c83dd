"""Positions of bars and notes in a score, for all pictures of it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from components.drums import KIT, PIECE_OF
from components.errors import UserError
from components.score import Note, Part, Score, pitch_name

# Okabe and Ito's colours, which colour-blind readers can tell apart; one a voice, repeated when there are more voices.
PALETTE = ("#d55e00", "#0072b2", "#009e73", "#aa4499", "#e69f00", "#56b4e9")
NOTE_LIMIT = 200_000
KIT_GROUPS = {"Kick": (0,), "Snare": (1,), "Hi-hat": (2, 3), "Toms": (4, 5, 6), "Cymbals": (7, 8)}
Units = dict[int, tuple[int, int]]  # number → (first step, end step)


class Bar(NamedTuple):
    """A bar and its metre. `full`: steps of a whole bar. `beat`: steps of a counted beat. An upbeat is bar 0; the last
    bar, and one before a change of the metre, may be incomplete."""

    number: int
    start: int
    end: int
    metre: tuple[int, int]
    full: int
    beat: int

    @property
    def origin(self) -> int:
        """The step from which beats are counted: an upbeat is the end of a bar."""
        return self.start if self.number else self.end - self.full

    @property
    def beats(self) -> list[int]:
        """The first step of each beat."""
        return [self.start, *(step for step in range(self.origin, self.end, self.beat) if step > self.start)]


def colour(voice: int) -> str:
    """The colour of the voice with this index, as #rrggbb."""
    return PALETTE[voice % len(PALETTE)]


def score_end(score: Score) -> int:
    """The score's length in steps: its own, or the end of its last note if that is later.

    Raises:
        UserError: the score can't be drawn, played or written (a pitch out of range, a bar without steps …).
    """
    notes = [note for part in score.parts for note in part.notes]
    where = f"score {score.title[:60]!r}" if score.title else "score"
    for wrong, what in (
        (len(notes) > NOTE_LIMIT, f"has {len(notes):,} notes; at most {NOTE_LIMIT:,} can be shown"),
        (score.steps_per_beat < 1, f"has {score.steps_per_beat} steps per beat"),
        (not (math.isfinite(score.tempo_bpm) and 1 <= score.tempo_bpm <= 1000), f"has a tempo of {score.tempo_bpm}"),
        (min(score.metre) < 1 or score.bar_steps < 1, f"has bars without a step: metre {score.metre}"),
        (
            any(min(metre) < 1 or in_metre(score, metre).bar_steps < 1 for _, metre in score.metre_changes),
            f"has bars without a step: metres {[metre for _, metre in score.metre_changes][:4]}",
        ),
        (score.upbeat_steps < 0 or score.length_steps < 0, "has a negative length"),
        (any(not 0 <= n.pitch <= 127 for n in notes), "has a pitch outside MIDI's 0 to 127"),
        (any(n.start < 0 or n.duration < 1 for n in notes), "has a note before the start or without duration"),
    ):
        if wrong:
            raise UserError(what, where=where, hint="this score can't be rendered")
    return max([score.length_steps, *(note.start + note.duration for note in notes)])


def bars(score: Score) -> list[Bar]:
    """The bars in order, including changes of the metre. Pictures, the page and regions all use this numbering."""
    end = score_end(score)
    upbeat = score.upbeat_steps % score.bar_steps
    found = [_bar(score, 0, 0, min(upbeat, end), score.metre)] if upbeat and end else []
    changes = metres(score)
    for (start, metre), stop in zip(changes, [*(step for step, _ in changes[1:]), end], strict=True):
        for first, last in pairwise([*range(start, stop, in_metre(score, metre).bar_steps), stop]):
            found.append(_bar(score, found[-1].number + 1 if found else 1, first, last, metre))
    return found


def metres(score: Score) -> list[tuple[int, tuple[int, int]]]:
    """The metres, each with the step where it begins; the first one begins at the first bar line."""
    upbeat, end = score.upbeat_steps % score.bar_steps, score_end(score)
    opening = [metre for step, metre in score.metre_changes if step <= upbeat]
    later = [(step, metre) for step, metre in score.metre_changes if upbeat < step < end]
    return [(upbeat, opening[-1] if opening else score.metre), *later]


def units(score: Score) -> tuple[Units, Units]:
    """The steps of each bar and of each counted beat (a dotted quarter in 6/8). An upbeat is number 0 in both."""
    of_bars: Units = {}
    of_beats: Units = {}
    for bar in bars(score):
        of_bars[bar.number] = (bar.start, bar.end)
        for first, last in pairwise([*(bar.beats if bar.number else [bar.start]), bar.end]):
            of_beats[max(of_beats, default=0) + 1 if bar.number else 0] = (first, last)
    return of_bars, of_beats


def in_metre(score: Score, metre: tuple[int, int]) -> Score:
    """An empty score in this metre on the same grid, to compute `bar_steps` and `beat_steps`."""
    return Score((), score.steps_per_beat, metre)


def _bar(score: Score, number: int, start: int, end: int, metre: tuple[int, int]) -> Bar:
    here = in_metre(score, metre)
    return Bar(number, start, end, metre, here.bar_steps, beat_steps(here))


def beat_steps(score: Score) -> int:
    """Steps in a counted beat: a quarter in 4/4, a dotted quarter in 6/8, an eighth in 3/8."""
    beats, unit = score.metre
    if beats % 3 == 0 and beats > 3 and unit >= 8:
        beats //= 3
    return max(1, score.bar_steps // beats)


def pitch_range(score: Score, least: int = 12) -> tuple[int, int]:
    """Lowest and highest pitch to show: the range of the notes, widened to `least` semitones."""
    pitches = [note.pitch for part in score.parts for note in part.notes] or [60]
    low, high = min(pitches) - 1, max(pitches) + 1
    missing = max(0, least - (high - low))
    return max(0, low - missing // 2), min(127, high + (missing + 1) // 2)


@dataclass(frozen=True)
class Rows:
    """The rows of a picture from `low` to `high`: pitches, or drum pieces if `names` is set."""

    low: int
    high: int
    names: tuple[str, ...] = ()

    def name(self, row: int) -> str:
        return self.names[row] if self.names else pitch_name(row)

    def is_shaded(self, row: int) -> bool:
        """Whether the row is a black key, or every second piece of a kit."""
        return row % 2 == 1 if self.names else row % 12 in (1, 3, 6, 8, 10)


def pictured(score: Score, least: int = 12) -> tuple[Score, Rows]:
    """The score as it is drawn, and its rows: at least `least` semitones. A score of drums only gets a row for each
    piece of the kit and a part for each group of them, its hits lengthened to be visible."""
    if not score.only_drums:
        return score, Rows(*pitch_range(score, least))
    length = max(1, score.steps_per_beat * 3 // 16)
    groups: dict[str, list[Note]] = {name: [] for name in KIT_GROUPS}
    for part in score.parts:
        for note in part.notes:
            if note.pitch in PIECE_OF:
                piece = PIECE_OF[note.pitch]
                name = next(name for name, members in KIT_GROUPS.items() if piece in members)
                groups[name].append(Note(note.start, length, piece, note.velocity))
    # all groups, so that each has the same colour in every picture
    parts = tuple(Part(name, tuple(notes)) for name, notes in groups.items())
    end = score_end(score)
    return replace(score, parts=parts, length_steps=end).until(end), Rows(0, len(KIT) - 1, KIT)


def loudness(note: Note) -> float:
    """Opacity of a note, by its velocity."""
    return 0.2 + 0.8 * note.velocity / 127


def lanes(score: Score) -> list[list[tuple[Note, int, int]]]:
    """For each part its notes as (note, lane, lane count): voices in unison divide a row into lanes."""
    rows: dict[int, list[tuple[int, int, int, Note]]] = defaultdict(list)
    for voice, part in enumerate(score.parts):
        for note in part.notes:
            rows[note.pitch].append((note.start, voice, note.start + note.duration, note))
    placed: list[list[tuple[Note, int, int]]] = [[] for _ in score.parts]
    for row in rows.values():
        cluster: list[tuple[int, int, int, Note]] = []
        reach = 0
        for item in [*sorted(row), None]:
            if item is None or item[0] >= reach:  # nothing of the cluster sounds any more: place it
                voices = sorted({member[1] for member in cluster})
                for _, voice, _, note in cluster:
                    placed[voice].append((note, voices.index(voice), len(voices)))
                cluster, reach = [], 0
            if item is not None:
                cluster.append(item)
                reach = max(reach, item[2])
    return [sorted(voice) for voice in placed]
