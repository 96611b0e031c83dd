"""The order in which the bars of a score are played: repeats, endings, da capo, dal segno, fine and coda.

What every format of notation writes of them is brought into one form, `Bar`, and played out here. A repeat sign goes
back to the forward sign that it closes, else to the end of the last repeated section, else to the beginning. After a
da capo or dal segno repeats aren't played again, and of endings the last one is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_TIMES = 32  # that all bars together are played; more is no music
MOST_ENDINGS = 32
DONT_FIT = "its repeats don't fit together"


class Misfit(Exception):
    """Repeats that can't be played as they are written; says why."""


@dataclass
class Bar:
    """What is written about repeats at one bar."""

    forward: bool = False  # a repeat begins with it
    times: int = 1  # how often the section that ends with it is played; 1 = none ends
    ending: frozenset[int] = frozenset()  # the passes that play it; empty = all
    segno: bool = False  # at its beginning
    coda: bool = False  # the coda begins with it
    to_coda: bool = False  # at its end
    fine: bool = False  # at its end
    jump: str = ""  # at its end: "capo" or "segno"
    until: str = ""  # what the jump says to play to: "fine" or "coda"
    after_jump: bool = False  # its repeat is played after a jump too


@dataclass
class _Section:
    """Bars that are played `passes` times: from `start`; with endings, the group of them at `group`."""

    start: int
    passes: int
    group: range = range(0)


def played(bars: Sequence[Bar]) -> list[int]:
    """Indices of the bars in the order in which they sound.

    Raises:
        Misfit: the signs contradict each other, or play the piece more than MOST_TIMES over.
    """
    _check(bars)
    closes, groups = _sections(bars)
    order: list[int] = []
    turns: dict[int, int] = {}  # start of a section → the pass it is in
    at, jumped = 0, False
    while at < len(bars):
        bar, section = bars[at], groups.get(at)
        if section is not None:
            last = bar.ending == bars[section.group[-1]].ending
            if not (last if jumped else turns.get(section.start, 1) in bar.ending):
                at += 1
                if at == section.group.stop:
                    turns.pop(section.start, None)
                continue
        order.append(at)
        if len(order) > MOST_TIMES * len(bars):
            raise Misfit(f"they play it more than {MOST_TIMES} times over")
        if jumped and bar.fine:
            break
        if jumped and bar.to_coda:
            at = next(i for i, other in enumerate(bars) if other.coda)
            continue
        closed = closes.get(at)
        if closed is not None and (not jumped or bar.after_jump):
            turn = turns.get(closed.start, 1)
            if turn < closed.passes:
                turns[closed.start] = turn + 1
                at = closed.start
                continue
        if closed is not None:
            turns.pop(closed.start, None)
        if bar.jump and not jumped:
            jumped, turns = True, {}
            at = 0 if bar.jump == "capo" else next(i for i, other in enumerate(bars) if other.segno)
            continue
        at += 1
        if section is not None and at == section.group.stop:
            turns.pop(section.start, None)
    return order


def _check(bars: Sequence[Bar]) -> None:
    segno, coda, fine = (any(getattr(bar, name) for bar in bars) for name in ("segno", "coda", "fine"))
    if any(bar.jump == "segno" for bar in bars) and not segno:
        raise Misfit("a dal segno without a segno")
    if any(bar.to_coda or bar.until == "coda" for bar in bars) and not coda:
        raise Misfit("a jump to a coda that isn't there")
    if any(bar.until == "coda" for bar in bars) and not any(bar.to_coda for bar in bars):
        raise Misfit("a jump to a coda that nothing says where to make")
    if any(bar.until == "fine" for bar in bars) and not fine:
        raise Misfit("a da capo al fine without a fine")


def _sections(bars: Sequence[Bar]) -> tuple[dict[int, _Section], dict[int, _Section]]:
    """(bar that ends a repeat → its section, bar in an ending → its section)"""
    closes: dict[int, _Section] = {}
    groups: dict[int, _Section] = {}
    open_: list[int] = []
    floor = at = 0
    while at < len(bars):
        if bars[at].forward:
            open_.append(at)
        if bars[at].ending:
            group = _group(bars, at)
            section = _Section(open_.pop() if open_ else floor, _passes(bars, group), group)
            _check_endings(bars, section.start, group)
            for index in group:
                groups[index] = section
                if bars[index].times > 1:
                    closes[index] = section
            at = floor = group.stop
            continue
        if bars[at].times > 1:
            closes[at] = _Section(open_.pop() if open_ else floor, bars[at].times)
            floor = at + 1
        at += 1
    return closes, groups


def _group(bars: Sequence[Bar], start: int) -> range:
    """The endings that belong together: one after the other, their numbers rising."""
    seen = set(bars[start].ending)
    stop = start + 1
    while stop < len(bars) and bars[stop].ending and not bars[stop].forward:
        if bars[stop].ending != bars[stop - 1].ending:
            if seen & bars[stop].ending:
                break
            seen |= bars[stop].ending
        stop += 1
    return range(start, stop)


def _check_endings(bars: Sequence[Bar], start: int, group: range) -> None:
    ends = [i for i in group if i == group[-1] or bars[i + 1].ending != bars[i].ending]
    numbers = sorted(set().union(*(bars[i].ending for i in ends)))
    if numbers != list(range(1, len(numbers) + 1)):
        raise Misfit(f"endings {', '.join(map(str, numbers))}")
    if any(bars[i].times < 2 and not bars[i].jump for i in ends[:-1]):
        raise Misfit("an ending that doesn't go back, and another after it")
    if start >= group.start:
        raise Misfit("endings with nothing before them")


def _passes(bars: Sequence[Bar], group: range) -> int:
    """How often a section with these endings is played."""
    endings = {bars[at].ending for at in group}
    # one bracket alone: what follows it is the last ending, without a bracket
    return max(map(max, endings)) + (len(endings) == 1)


def played_or_once(bars: Sequence[Bar], remarks: list[str]) -> list[int]:
    """`played`; where the repeats don't fit every bar once, which is remarked."""
    try:
        return played(bars)
    except Misfit as misfit:
        remarks.append(f"{DONT_FIT} ({misfit}): read once, as written")
        return list(range(len(bars)))


def ending_numbers(text: str) -> frozenset[int]:
    """The passes of an ending: "1", "1,2", "1-3", "1., 2."."""
    numbers: set[int] = set()
    for first, last in re.findall(r"(\d{1,2})(?:\s*-\s*(\d{1,2}))?", text):
        numbers |= set(range(int(first), min(int(last or first), MOST_ENDINGS) + 1))
    return frozenset(numbers - {0})


def read_words(text: str, bar: Bar) -> None:
    """What words say of a jump ("D.C. al Fine", "dal segno al coda", "To Coda", "Fine"), noted at the bar's end."""
    words = re.sub(r"[\W_]+", " ", text.casefold())  # of "(Fine)", and "To Coda" with the sign of the coda after it
    plain = " ".join(words.split())
    jump = re.search(r"\bd ?c\b|\bda capo\b|\bd ?s\b|\bdal segno\b", plain)
    if jump:
        bar.jump = "segno" if "s" in jump[0] else "capo"
        until = re.search(r"\bal? (fine|coda)\b", plain)
        bar.until = until[1] if until else ""
    elif re.fullmatch(r"(to|al|alla|da) coda", plain):
        bar.to_coda = True
    elif plain == "fine":
        bar.fine = True


def says_jump(text: str) -> bool:
    """Whether `read_words` reads anything in it."""
    bar = Bar()
    read_words(text, bar)
    return bar != Bar()
