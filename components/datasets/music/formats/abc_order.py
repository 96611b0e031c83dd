"""The playing order of an ABC tune: its parts, repeats and endings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from components.datasets.files.sandbox import Refused
from components.datasets.music.formats.abc_fields import Element, Tune, Voice
from components.datasets.music.formats.abc_signs import MOST_ELEMENTS
from components.datasets.music.formats.repeats import DONT_FIT, Bar, Misfit, played, read_words

MOST_PARTS = 1000  # parts played in a tune


@dataclass
class Stretch:
    """The elements between two bar lines, and the metre at its beginning."""

    bar: Bar = field(default_factory=Bar)
    elements: list[Element] = field(default_factory=list)
    part: str = ""
    metre: tuple[int, int] = (4, 4)
    sounds: bool = False

    def add(self, element: Element) -> None:
        self.elements.append(element)
        self.sounds = self.sounds or bool(element.length)


def in_order(tune: Tune, voice: Voice, remarks: list[str]) -> list[Element]:
    """A voice's elements in playing order, or in written order, with a remark, if the repeats don't fit. A voice
    without repeat signs uses those of the first voice.

    Raises:
        Refused: the result is longer than MOST_ELEMENTS.
    """
    stretches = _stretches(voice.elements, tune.metre)
    others = _stretches(next(iter(tune.voices.values())).elements, tune.metre)
    if len(others) == len(stretches) and all(s.bar == Bar() and not s.part for s in stretches):
        stretches = [Stretch(o.bar, s.elements, o.part, s.metre) for s, o in zip(stretches, others, strict=True)]
    try:
        order = _order(stretches, tune.parts)
    except Misfit as misfit:
        remarks.append(f"{DONT_FIT} ({misfit}): read once, as written")
        order = list(range(len(stretches)))
    out: list[Element] = []
    metre = tune.metre
    for index in order:
        stretch = stretches[index]
        if stretch.metre != metre:
            out.append(Element("metre", value=stretch.metre))
        metre = stretch.metre
        for element in stretch.elements:
            metre = element.value if element.kind == "metre" else metre
            out.append(element)
        if len(out) > MOST_ELEMENTS:
            raise Refused(f"repeats play more than {MOST_ELEMENTS:,} signs")
    return out


def _stretches(elements: Sequence[Element], metre: tuple[int, int]) -> list[Stretch]:
    """The voice cut at its bar lines. Elements without a length go to the next stretch."""
    done: list[Stretch] = []
    now = Stretch(metre=metre)
    ending: frozenset[int] = frozenset()

    def cut() -> None:
        nonlocal now
        if now.sounds:
            done.append(now)
            now = Stretch(part=now.part, metre=metre)
        now.bar.ending = ending

    for element in elements:
        kind, value = element.kind, element.value
        if kind == "bar":
            now.add(element)
            if value:
                ending = frozenset()
            cut()
        elif kind == "close":
            last = now if now.sounds or not done else done[-1]
            last.bar.times, ending = value, frozenset()
        elif kind == "open":
            ending = frozenset()
            cut()
            now.bar.forward = True
        elif kind == "ending":
            ending = value
            cut()
        elif kind in ("segno", "coda"):
            cut()
            setattr(now.bar, kind, True)
        elif kind == "words":
            read_words(value, now.bar)
        elif kind == "part":
            ending = frozenset()
            cut()
            now.part = value
        else:
            metre = value if kind == "metre" else metre
            now.add(element)
    if now.sounds or not done:
        done.append(now)
    else:  # a jump may follow the last bar line
        read = now.bar
        done[-1].elements += now.elements
        done[-1].bar = replace(done[-1].bar, jump=read.jump, until=read.until) if read.jump else done[-1].bar
    return done


def _order(stretches: Sequence[Stretch], parts: str) -> list[int]:
    """Indices of the stretches in playing order."""
    letters = expand_parts(parts)
    written = [stretch.part for stretch in stretches]
    runs = [part for at, part in enumerate(written) if part and (not at or written[at - 1] != part)]
    if not letters or not runs or runs == letters:
        return played([stretch.bar for stretch in stretches])
    if len(set(runs)) < len(runs):
        raise Misfit(f"P:{parts[:40]} doesn't match the parts, written as {''.join(runs)[:40]}")
    order = [at for at, part in enumerate(written) if not part]  # before the first part
    for letter in letters:
        own = [at for at, part in enumerate(written) if part == letter]
        if not own:
            raise Misfit(f"there is no part {letter}")
        order += [own[at] for at in played([stretches[at].bar for at in own])]
    return order


def expand_parts(text: str) -> list[str]:
    """Expand "A2(BC)3D" to A A B C B C B C D; dots and blanks are ignored (ABC 2.1, 3.1.9).

    Raises:
        Misfit: brackets that don't match, an invalid sign, or more than MOST_PARTS parts.
    """
    stack: list[list[str]] = [[]]
    groups: list[str] = []
    for letter, bracket, number, other in re.findall(r"([A-Za-z])|([()])|(\d{1,3})|([^\s.])", text):
        if letter:
            groups = [letter]
            stack[-1].append(letter)
        elif bracket == "(":
            stack.append([])
            groups = []
        elif bracket == ")" and len(stack) > 1:
            groups = stack.pop()
            stack[-1] += groups
        elif number and groups:
            stack[-1] += groups * (int(number) - 1) if int(number) * len(groups) <= MOST_PARTS else [""] * MOST_PARTS
            groups = []
        else:
            raise Misfit(f"P:{text[:40]} can't be read at {(other or bracket or number)!r}")
        if sum(map(len, stack)) >= MOST_PARTS:
            raise Misfit(f"P:{text[:40]} plays more than {MOST_PARTS:,} parts")
    if len(stack) > 1:
        raise Misfit(f"P:{text[:40]} has an unclosed bracket")
    return stack[0]
