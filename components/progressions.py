"""Chord progressions in text, "Dm7 G7 | Cmaj7 | %", and named forms, "blues in F"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from components.errors import UserError, unknown
from components.harmony import LONGEST_NAME, Symbol, parse_chord, parse_key
from components.score import Chord, Score

MOST_CHARACTERS = 20_000
MOST_BARS = 1024

# In C and C minor; traditional.
FORMS = {
    "blues": "C7 | F7 | C7 | Gm7 C7 | F7 | F#dim7 | C7 | Em7b5 A7b9 | Dm7 | G7 | C7 A7 | Dm7 G7",
    "basic blues": "C7 | % | % | % | F7 | % | C7 | % | G7 | F7 | C7 | G7",
    "minor blues": "Cm7 | Fm7 | Cm7 | % | Fm7 | % | Cm7 | % | Ab7 | G7b9 | Cm7 | Dm7b5 G7b9",
    "rhythm changes": (
        "[C6 A7 | Dm7 G7 | Em7 A7 | Dm7 G7 | Gm7 C7 | F6 F#dim7 | Em7 A7 | Dm7 G7] x2"
        " | E7 | % | A7 | % | D7 | % | G7 | %"
        " | C6 A7 | Dm7 G7 | Em7 A7 | Dm7 G7 | Gm7 C7 | F6 F#dim7 | Dm7 G7 | C6"
    ),
    "ii-v-i": "Dm7 | G7 | Cmaj7 | %",
    "minor ii-v-i": "Dm7b5 | G7b9 | Cm6 | %",
    "turnaround": "Cmaj7 A7 | Dm7 G7",
    "doo-wop": "C | Am | F | G7",
}
_FORM = re.compile(
    r"\s*(?P<name>[a-z][a-z -]*?)\s+in\s+(?P<tonic>[a-g][b#♭♯]?)(?P<minor>m|\s+minor)?(?:\s+major)?"
    r"(?:\s+x\s?(?P<times>\d{1,4}))?\s*",
    re.IGNORECASE,
)
_WORD = re.compile(r"\|+|\[|\]|[^\s|\[\]]+")
_TIMES = re.compile(r"x(\d{1,4})")
_Bar = list[Symbol | None]  # equal shares of a bar; None is silence


def parse_progression(text: str, metre: tuple[int, int] = (4, 4), steps_per_beat: int = 12) -> tuple[Chord, ...]:
    """Parse a written progression or a named form to chords, from step 0.

    Bars are separated by `|`; the chords of a bar share it evenly, `/` extends the chord before it by one share
    ("Dm7 / G7 C7"); `%` repeats the bar before; `[…] x4` repeats the bracket's content, `x4` at the end everything;
    `N.C.` is silence. A named form is "blues in F", "minor blues in C", "rhythm changes in Bb", "ii-V-I in C x3" (see
    FORMS). Adjacent equal symbols become one `Chord`.

    Raises:
        UserError: something can't be parsed (with its bar, and the nearest name), or a bar can't be divided so.
    """
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"too long: {len(text):,} characters, at most {MOST_CHARACTERS:,} are allowed", where="chords")
    form = _FORM.fullmatch(text)
    bars = _form_bars(form) if form else _read_bars(text)
    bar_steps = Score((), steps_per_beat, metre).bar_steps
    if bar_steps < 1:
        what = f"a bar of {metre[0]}/{metre[1]} is too short for a grid of {steps_per_beat} steps per quarter note"
        raise UserError(what, where="chords")
    shares: list[tuple[int, int, Symbol]] = []
    for number, bar in enumerate(bars):
        if not _can_share(len(bar), bar_steps, metre[0]):
            raise UserError(
                f"{len(bar)} chords can't share a bar of {metre[0]}/{metre[1]} evenly",
                where=f"chords, bar {number + 1}",
                hint='"/" lengthens the chord before it by one share: "Dm7 / G7 C7"',
            )
        share = bar_steps // len(bar)
        starts = range(number * bar_steps, (number + 1) * bar_steps, share)
        shares += [(start, share, symbol) for start, symbol in zip(starts, bar, strict=True) if symbol is not None]
    return _merged(shares)


def _can_share(count: int, bar_steps: int, beats: int) -> bool:
    """Whether chords can share a bar evenly and fall on halves, beats or divisions of beats."""
    return bar_steps % count == 0 and (count <= 2 or beats % count == 0 or count % beats == 0)


def _form_bars(form: re.Match[str]) -> list[_Bar]:
    name = re.sub(r"\s+", " ", form["name"].casefold())
    minor = f"minor {name}"
    name = minor if form["minor"] and minor in FORMS else name
    if name not in FORMS:
        raise unknown("form", form["name"], FORMS, where="chords")
    shift = parse_key(form["tonic"].upper()[:1] + form["tonic"][1:]).tonic
    return _times([[_moved(symbol, shift) for symbol in bar] for bar in _read_bars(FORMS[name])], form["times"] or 1)


def _moved(symbol: Symbol | None, shift: int) -> Symbol | None:
    if symbol is None:
        return None
    bass = None if symbol.bass is None else (symbol.bass + shift) % 12
    return Symbol((symbol.root + shift) % 12, symbol.kind, bass)


def _read_bars(text: str) -> list[_Bar]:
    """The bars of a written progression, with repeats expanded."""
    bars: list[_Bar] = []
    cells: list[Symbol | None] = []
    opened: int | None = None  # start of the open bracket
    closed: int | None = None  # start of the bracket closed by the previous word
    repeated = False  # the bar is a %
    words = list(_WORD.finditer(text))
    for index, word in enumerate(words):
        token, where = word[0], f"chords, bar {len(bars) + 1}, character {word.start() + 1}"
        times = _TIMES.fullmatch(token)
        if token[0] == "|" or token in "[]" or times:
            bars, cells = [*bars, cells] if cells else bars, []
            repeated = False
        if token == "[":
            if opened is not None:
                raise UserError("brackets can't be nested", where=where, hint="write out the inner repeat")
            opened = len(bars)
        elif token == "]":
            if opened is None:
                raise UserError("found ] without [", where=where, hint='for example "[Dm7 | G7] x2"')
        elif times:
            if closed is None and index + 1 < len(words):
                raise UserError(
                    f"which bars does {token} repeat?", where=where, hint='put them in brackets: "[Dm7 G7 | Cmaj7] x4"'
                )
            begin = closed or 0
            bars = bars[:begin] + _times(bars[begin:], times[1])
        elif token == "%":
            if not bars or cells:
                what = "a bar of its own" if cells else "a bar before it"
                raise UserError(f"% needs {what}", where=where, hint="% repeats the previous bar")
            cells, repeated = list(bars[-1]), True
        elif token[0] != "|":
            if repeated:
                what = f"{token[:LONGEST_NAME]!r} can't be in the same bar as %"
                raise UserError(what, where=where, hint="% must be alone in its bar")
            if token == "/" and not cells:
                raise UserError("a bar can't begin with /", where=where, hint="repeat the chord's name")
            cells.append(cells[-1] if token == "/" else parse_chord(token, where=where))
        closed, opened = (opened, None) if token == "]" else (None, opened)
        if len(bars) > MOST_BARS:
            raise UserError(f"too long: at most {MOST_BARS:,} bars are allowed", where="chords")
    if opened is not None:
        raise UserError("found [ without ]", where=f"chords, bar {opened + 1}", hint='for example "[Dm7 | G7] x2"')
    bars = [*bars, cells] if cells else bars
    if not bars:
        raise UserError(
            "no chords", where="chords", hint=f'write "Dm7 G7 | Cmaj7 | %", or a form: {", ".join(FORMS)} in a key'
        )
    return bars


def _times(bars: list[_Bar], times: str | int) -> list[_Bar]:
    if not 1 <= int(times) * len(bars) <= MOST_BARS:
        what = f"x{times} repeats {len(bars)} bars to {int(times) * len(bars):,}"
        raise UserError(what, where="chords", hint=f"1 to {MOST_BARS:,} bars in all are allowed")
    return bars * int(times)


def _merged(shares: Sequence[tuple[int, int, Symbol]]) -> tuple[Chord, ...]:
    chords: list[Chord] = []
    for start, duration, symbol in shares:
        last = chords[-1] if chords else None
        goes_on = last is not None and last.start + last.duration == start
        if last and goes_on and (last.root, last.kind, last.bass) == symbol:
            chords[-1] = Chord(last.start, last.duration + duration, *symbol)
        else:
            chords.append(Chord(start, duration, *symbol))
    return tuple(chords)
