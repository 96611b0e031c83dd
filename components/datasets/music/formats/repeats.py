"""The playing order of the bars of a score: repeats, endings, da capo, dal segno, fine and coda.

All notation formats are converted to `Bar`, from which the order is computed. A repeat sign goes back to its forward
sign, else to the end of the last repeated section, else to the beginning. After a da capo or dal segno repeats aren't
played again, and the last ending is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_TIMES = 32  # times the piece's length; a longer result is an error
MOST_ENDINGS = 32
DONT_FIT = "its repeats don't fit together"


class Misfit(Exception):
    """Repeats that are inconsistent; the message says why."""


@dataclass
class Bar:
    """The repeat signs of one bar."""

    forward: bool = False  # a repeat begins here
    times: int = 1  # number of times the section ending here is played; 1: none ends here
    ending: frozenset[int] = frozenset()  # the passes that play it; empty: all
    segno: bool = False  # at its beginning
    coda: bool = False  # the coda begins here
    to_coda: bool = False  # at its end
    fine: bool = False  # at its end
    jump: str = ""  # at its end: "capo" or "segno"
    until: str = ""  # the sign to play to after the jump: "fine" or "coda"
    after_jump: bool = False  # the repeat is also played after a jump


@dataclass
class _Section:
    """Bars from `start` that are played `passes` times, with the endings at `group`, if any."""

    start: int
    passes: int
    group: range = range(0)


def played(bars: Sequence[Bar]) -> list[int]:
    """Indices of the bars in playing order.

    Raises:
        Misfit: the signs contradict each other, or play more than MOST_TIMES the number of bars.
    """
    _check(bars)
    closes, groups = _sections(bars)
    order: list[int] = []
    turns: dict[int, int] = {}  # start of a section → the current pass
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
            raise Misfit(f"they play it more than {MOST_TIMES} times")
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
        raise Misfit("a jump to a missing coda")
    if any(bar.until == "coda" for bar in bars) and not any(bar.to_coda for bar in bars):
        raise Misfit("a coda, but no sign where to jump to it")
    if any(bar.until == "fine" for bar in bars) and not fine:
        raise Misfit("a da capo al fine without a fine")


def _sections(bars: Sequence[Bar]) -> tuple[dict[int, _Section], dict[int, _Section]]:
    """Maps from bars to sections: of bars that end a repeat, and of bars in an ending."""
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
    """Consecutive endings with rising numbers."""
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
        raise Misfit("an ending without a repeat, followed by another ending")
    if start >= group.start:
        raise Misfit("endings with nothing before them")


def _passes(bars: Sequence[Bar], group: range) -> int:
    """How often a section with these endings is played."""
    endings = {bars[at].ending for at in group}
    # a single bracket: the next bars are the last ending
    return max(map(max, endings)) + (len(endings) == 1)


def played_or_once(bars: Sequence[Bar], remarks: list[str]) -> list[int]:
    """`played`; if the repeats are inconsistent, every bar once, with a remark."""
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
    """Read jumps in words ("D.C. al Fine", "dal segno al coda", "To Coda", "Fine") into `bar`, at its end."""
    words = re.sub(r"[\W_]+", " ", text.casefold())  # of "(Fine)", and of "To Coda" with a coda sign after it
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
    """Whether `read_words` finds a jump."""
    bar = Bar()
    read_words(text, bar)
    return bar != Bar()
