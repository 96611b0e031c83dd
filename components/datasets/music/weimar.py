"""Jazz solos of the Weimar Jazz Database with annotated beats and chords, from tables saved by R.

The solos' MIDI files have the times as played at an average tempo, so their bar lines can't be used. Here every note
has its position in the bar and every beat its chord.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from components.datasets.base import Reader
from components.datasets.music.formats.grid import chord_spans
from components.datasets.tables.rdata import Table, read_tables
from components.errors import UserError
from components.harmony import Symbol, parse_chord
from components.score import Chord, Note, Part, Score

NOTES = ("melid", "bar", "beat", "tatum", "division", "pitch_raw", "articulation_raw")
BEATS = ("melid", "bar", "beat", "period", "chord", "chorus_id")
SOLOS = ("melid", "performer", "title", "avgtempo", "instrument", "rhythmfeel")
TENOR_SAX = 66
PROGRAMS = {
    "as": 65,
    "ss": 64,
    "bs": 67,
    "cl": 71,
    "bcl": 71,
    "tp": 56,
    "cor": 56,
    "tb": 57,
    "vib": 11,
    "g": 26,
    "p": 0,
}
BREATH_BEATS = 0.5  # a shorter silence after a note is articulation, not a rest
# The database's notation of extensions → the usual one.
_SUFFIXES = {
    "79b": "7b9", "79#": "7#9", "79": "9", "7911#": "7#11", "7913": "13", "7911": "9sus4", "79b13": "13b9",
    "7913b": "7b13", "79b13b": "7alt", "79#13": "7#9", "79#11#": "7#9", "sus79": "9sus4", "sus7913": "9sus4",
    "j79": "maj9", "j7911#": "maj7#11", "j79#": "maj7", "j79#11#": "maj7#11", "6911#": "69", "+j7": "maj7#5",
    "+79": "7#5", "+79b": "7alt", "+79#": "7alt", "+7911#": "7#5", "-79": "m9", "-79b": "m7", "-7911": "m11",
    "-7913": "m13", "-j7913": "mmaj7", "-j7911#": "mmaj7",
}  # fmt: skip


@dataclass(frozen=True)
class _Bar:
    number: int
    chorus: int
    chords: tuple[str, ...]  # one a beat
    whole: bool  # no beat is missing


@dataclass(kw_only=True, eq=False)
class WeimarReader(Reader):
    """Whole choruses of the solos in three .rda tables: notes, beats, and facts about each solo.

    An item is a run of choruses of at least `bars` bars, of one metre; notes before the first chorus are left out.
    `steps_per_beat`: the grid for the annotated divisions of the beat. An item of fewer than `min_notes` notes is left
    out.
    """

    framing = "sequences"
    _scores = None  # cached, because unpacking the tables takes seconds

    steps_per_beat: Annotated[int, Field(ge=2, le=48)] = 12
    bars: Annotated[int, Field(ge=4, le=512)] = 24
    min_notes: Annotated[int, Field(ge=1)] = 16

    def items(self) -> Iterator[Score]:
        """The solos in the order of the database, each cut into items.

        Raises:
            UserError: the files aren't these tables.
        """
        if self._scores is None:
            self._scores = list(self._read())
        return iter(self._scores)

    def _read(self) -> Iterator[Score]:
        self.dropped.clear()
        self.notes.clear()
        solos, beats, notes = self._tables()
        unread: Counter[str] = Counter()
        bars = _bars(beats)
        played = _by_solo(notes, NOTES)
        for row in zip(*(solos[column] for column in SOLOS), strict=True):
            facts = dict(zip(SOLOS, row, strict=True))
            yield from self._solo(facts, bars.get(facts["melid"], []), played.get(facts["melid"], []), unread)
        if unread:
            listed = ", ".join(f"{count:,} × {text}" for text, count in unread.most_common(5))
            self.notes.append(f"{sum(unread.values()):,} beats have an unreadable chord ({listed})")

    def group(self, item: Score) -> str:
        """The tune of a solo: choruses of it share their chords."""
        return item.title.split(" — ")[0].casefold()

    def _tables(self) -> tuple[Table, Table, Table]:
        found: dict[str, Table] = {}
        for file in self.files:
            tables = read_tables(file.read_bytes(), where=file.name)
            for table in tables.values():
                # the table of notes has the beats' columns too
                kinds = (("notes", NOTES), ("beats", BEATS), ("solos", SOLOS))
                kind = next((name for name, columns in kinds if set(columns) <= set(table)), None)
                if kind:
                    found[kind] = table
        missing = [name for name in ("solos", "beats", "notes") if name not in found]
        if missing:
            names = ", ".join(file.name for file in self.files)
            hint = "give wjd_meta.rda, wjd_annotated_beat_tracks.rda and wjd_transforms.rda"
            raise UserError(f"no table of {' and '.join(missing)} in {names or 'no files'}", where="data", hint=hint)
        return found["solos"], found["beats"], found["notes"]

    def _solo(
        self, facts: dict[str, Any], bars: list[_Bar], played: list[tuple], unread: Counter[str]
    ) -> Iterator[Score]:
        in_bars: dict[int, list[tuple]] = defaultdict(list)
        for note in played:
            in_bars[note[1]].append(note)
        before = sum(len(in_bars[bar.number]) for bar in bars if bar.chorus < 1)
        self.dropped["note before the first chorus"] += before
        last = max((note[1] for note in played), default=0)
        run: list[_Bar] = []
        for bar in [*(bar for bar in bars if bar.chorus >= 1 and bar.number <= last), None]:
            goes_on = (
                run
                and bar
                and bar.whole
                and len(bar.chords) == len(run[-1].chords)
                and bar.number == run[-1].number + 1
                and not (bar.chorus != run[-1].chorus and len(run) >= self.bars)
            )
            if not goes_on and run:
                yield from self._piece(facts, run, in_bars, unread)
                run = []
            if bar and bar.whole:
                run.append(bar)
            elif bar:
                self.dropped["note in a bar of an irregular length"] += len(in_bars[bar.number])

    def _piece(
        self, facts: dict[str, Any], run: list[_Bar], in_bars: dict[int, list[tuple]], unread: Counter[str]
    ) -> Iterator[Score]:
        spb, period = self.steps_per_beat, len(run[0].chords)
        end = len(run) * period * spb
        starts: dict[int, tuple[int, float | None]] = {}  # step → (pitch, share of the time to the next note)
        for index, bar in enumerate(run):
            for _, _, beat, tatum, division, pitch, share in in_bars[bar.number]:
                step = round((index * period + beat - 1 + (tatum - 1) / division) * spb)
                self.dropped["note on the same step as another"] += step in starts
                starts[step] = (pitch, share)
        if len(starts) < self.min_notes or period not in (3, 4):
            self.dropped["part of fewer notes than min_notes, or in no common metre"] += 1
            return
        notes = []
        for step, after in zip(sorted(starts), [*sorted(starts)[1:], end], strict=True):
            pitch, share = starts[step]
            room = after - step
            sounding = max(1, round(room * min(1.0, share or 1.0)))
            notes.append(Note(step, room if room - sounding <= BREATH_BEATS * spb else sounding, pitch))
        yield Score(
            (Part("Solo", tuple(notes), PROGRAMS.get(facts["instrument"], TENOR_SAX), "melody"),),
            steps_per_beat=spb,
            metre=(period, 4),
            length_steps=end,
            tempo_bpm=float(facts["avgtempo"] or 120.0),
            title=f"{facts['title']} — {facts['performer']}, bar {run[0].number}",
            chords=tuple(self._chords(run, end, unread)),
        )

    def _chords(self, run: list[_Bar], end: int, unread: Counter[str]) -> list[Chord]:
        symbols: list[tuple[int, Symbol | None]] = []
        for index, text in enumerate(text for bar in run for text in bar.chords):
            symbol = _symbol(text)
            if symbol is None and text not in ("NC", ""):
                unread[text] += 1
            symbols.append((index * self.steps_per_beat, symbol))
        return chord_spans(symbols, end)


def _by_solo(table: Table, columns: Sequence[str]) -> dict[int, list[tuple]]:
    """The table's rows without missing values (articulation may be missing), by solo."""
    found: dict[int, list[tuple]] = defaultdict(list)
    for row in zip(*(table[column] for column in columns), strict=True):
        if None not in row[:6]:
            found[row[0]].append(row)
    return found


def _bars(table: Table) -> dict[int, list[_Bar]]:
    """The bars of each solo in order; a chord lasts until the next one."""
    found: dict[int, list[_Bar]] = defaultdict(list)
    for solo, rows in _by_solo(table, BEATS).items():
        by_bar: dict[int, list[tuple]] = defaultdict(list)
        for row in rows:
            by_bar[row[1]].append(row)
        for number in sorted(by_bar):
            beats = by_bar[number]
            whole = [row[2] for row in beats] == list(range(1, beats[0][3] + 1))
            found[solo].append(_Bar(number, beats[0][5], tuple(row[4] for row in beats), whole))
    return found


def _symbol(text: str) -> Symbol | None:
    """A chord in the database's notation, "Bb79b/F"; None for no chord and for an unreadable one."""
    found = re.fullmatch(r"([A-G][b#]?)([^/]*)(/.*)?", text)
    if found is None:
        return None
    try:
        return parse_chord(f"{found[1]}{_SUFFIXES.get(found[2], found[2])}{found[3] or ''}")
    except UserError:
        return None
