"""Constraints as texts, in recipes and commands: "range C4-A5", "chord-tones strong", "longest 2 beats"."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from components.encodings.meaning import Meaning
from components.errors import UserError, meant
from components.generation.constraints import (
    ChordTones,
    Constraint,
    Constraints,
    InKey,
    Longest,
    NoCrossing,
    NoParallels,
    Onsets,
    Range,
    Repeats,
    TonicEnding,
    WithinBars,
)
from components.harmony import parse_key

WHERE = "generation.constraints"
MOST = 32  # constraints at once


def parse_constraints(texts: Sequence[str], meaning: Meaning) -> Constraints:
    """Parse the constraints of a recipe or command.

    Raises:
        UserError: constraints are unknown or have wrong values; lists all of them.
    """
    if len(texts) > MOST:
        raise UserError(f"{len(texts)} constraints; at most {MOST} are allowed", where=WHERE)
    found, problems = [], []
    for text in texts:
        try:
            found.append(parse_constraint(text, meaning.voices))
        except UserError as error:
            problems.append(f"{error.what}: {error.hint}" if error.hint else error.what)
    if problems:
        raise UserError("; ".join(problems), where=WHERE)
    return Constraints(found, meaning)


def parse_constraint(text: str, voices: Sequence[str] = ()) -> Constraint:
    """Parse one constraint, such as "range 55-84" or "longest 2 beats". `voices`: names of voices for a range.

    Raises:
        UserError: it is unknown (with the nearest name), or its values are wrong (with an example).
    """
    name, _, rest = " ".join(text[:81].split()).partition(" ")
    name = name.casefold()
    if name not in RULES or len(text) > 80:
        examples = ", ".join(f'"{example}"' for example, _ in RULES.values())
        raise UserError(f"unknown constraint {text[:80]!r}{meant(name, RULES)}", where=WHERE, hint=f"rules: {examples}")
    example, make = RULES[name]
    constraint = make(rest, tuple(voice.casefold() for voice in voices))
    if constraint is None:
        raise UserError(f"can't understand the constraint {text!r}", where=WHERE, hint=f'write it like "{example}"')
    constraint.text = text
    return constraint


def _range(rest: str, voices: tuple[str, ...]) -> Constraint | None:
    pitch = r"(\d{1,3}|[a-g][b#]?-?\d)"
    found = re.fullmatch(rf"(?:([a-z]+) )?{pitch} ?(?:-|–|to) ?{pitch}", rest.casefold())
    if found is None:
        return None
    name, low, high = found[1], _pitch(found[2]), _pitch(found[3])
    if name and name not in voices:
        raise UserError(
            f"there is no voice {name!r}{meant(name, voices)}",
            where=WHERE,
            hint=f"voices: {', '.join(voices) or 'this music has only one, so leave the name out'}",
        )
    if not 0 <= low <= high <= 127:
        raise UserError(
            f"the range {rest!r} contains no note", where=WHERE, hint="the lower pitch first, 0 to 127 (C4 = 60)"
        )
    return Range(low, high, voices.index(name) if name else None)


def _pitch(text: str) -> int:
    """60 for "60" and for "c4"."""
    if text.isdigit():
        return int(text)
    found = re.fullmatch(r"([a-g])([b#]?)(-?\d)", text)
    assert found is not None  # matched by the caller
    written = {"b": -1, "#": 1, "": 0}[found[2]]
    return "c d ef g a b".index(found[1]) + written + 12 * (int(found[3]) + 1)


def _beats(rest: str) -> Fraction | None:
    """2 for "2 beats", 1/2 for "1/2 beat" and "0.5"."""
    found = re.fullmatch(r"(\d{1,3}(?:/[1-9]\d?|\.\d{1,3})?)(?: beats?)?", rest.casefold())
    beats = Fraction(found[1]) if found else Fraction(0)
    return beats if 0 < beats <= 64 else None


def _of_beats(make: Callable[[Fraction], Constraint]) -> Callable[[str, tuple[str, ...]], Constraint | None]:
    return lambda rest, voices: make(beats) if (beats := _beats(rest)) else None


def _chord(scale: bool) -> Callable[[str, tuple[str, ...]], Constraint | None]:
    def make(rest: str, voices: tuple[str, ...]) -> Constraint | None:
        when = rest.casefold() or "strong"
        return ChordTones(when, scale=scale) if when in ("strong", "beats", "always") else None

    return make


# first word → an example, and the function that makes the constraint from the remaining words
RULES: dict[str, tuple[str, Callable[[str, tuple[str, ...]], Constraint | None]]] = {
    "range": ("range C4-A5", _range),
    "key": ("key F major", lambda rest, voices: InKey(parse_key(rest, where=WHERE))),
    "scale": ("scale D dorian", lambda rest, voices: InKey(parse_key(rest, where=WHERE), exact=True)),
    "chord-tones": ("chord-tones strong", _chord(False)),
    "chord-scale": ("chord-scale always", _chord(True)),
    "no-crossing": ("no-crossing", lambda rest, voices: None if rest else NoCrossing()),
    "no-parallels": ("no-parallels", lambda rest, voices: None if rest else NoParallels()),
    "tonic-ending": ("tonic-ending", lambda rest, voices: None if rest else TonicEnding()),
    "within-bars": ("within-bars", lambda rest, voices: None if rest else WithinBars()),
    "onsets": ("onsets 1/2 beat", _of_beats(Onsets)),
    "longest": ("longest 2 beats", _of_beats(Longest)),
    "repeats": ("repeats 3", lambda rest, voices: Repeats(int(rest)) if re.fullmatch(r"[1-9]|1[0-6]", rest) else None),
}
