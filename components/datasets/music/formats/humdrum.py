"""Humdrum `**kern` in playing order: reorders the lines of a file before music21 reads it.

The expansion list of a file (`*>[A,A1,A,A2]`) gives the playing order of its labelled sections; named variants
(`*>norep[A,A2]`) aren't the default. Without a list the repeat signs of the bar lines apply. Huron, The Humdrum
Toolkit: Reference Manual (1994), "thru".
"""

from __future__ import annotations

import re
from itertools import pairwise

from components.datasets.music.formats.repeats import Bar, Misfit, played

MOST_LINES = 200_000


def as_played(text: str) -> str | None:
    """The file's lines in playing order; None if that is the written order.

    Raises:
        Misfit: the order can't be resolved.
    """
    lines = text.splitlines()
    order = _order(lines)
    return as_written("\n".join(_in_order(lines, order))) if len(order) > 1 else None


def as_written(text: str) -> str:
    """The file without the repeat signs of its bar lines."""
    lines = text.splitlines()
    return "\n".join(re.sub(r"(^|\t)=+(\d*)[^\t]*", r"\1=\2", line) if line[:1] == "=" else line for line in lines)


def _order(lines: list[str]) -> list[range]:
    """The runs of lines in playing order."""
    stop = next((at for at, line in enumerate(lines) if line.startswith("*-")), len(lines))
    lists = [found[1] for line in lines[:stop] if (found := re.match(r"\*>\[([^\]]*)\]", line))]
    if lists:
        runs = _labelled(lines, lists[0], stop)
    else:
        begin = next((at for at in range(stop) if lines[at][:1] not in ("*", "!", "")), stop)
        edges = [at for at in range(begin + 1, stop) if lines[at].startswith("=")]
        stretches = [range(a, b) for a, b in pairwise([begin, *edges, stop])]
        runs = [stretches[at] for at in played([_bar(lines, stretch, stop) for stretch in stretches])]
        if runs == stretches:
            return [range(len(lines))]
        runs.insert(0, range(begin))
    if sum(map(len, runs)) > MOST_LINES:
        raise Misfit(f"they play more than {MOST_LINES:,} lines")
    return [*runs, range(stop, len(lines))]


def _labelled(lines: list[str], order: str, stop: int) -> list[range]:
    labels = [(at, found[1]) for at in range(stop) if (found := re.match(r"\*>([^\[\]\t]+)(?:\t|$)", lines[at]))]
    if not labels:
        raise Misfit("an expansion list without labels")
    ends = [*(at for at, _ in labels[1:]), stop]
    sections: dict[str, range] = {}
    for (at, label), end in zip(labels, ends, strict=True):
        if label in sections:
            raise Misfit(f"two sections are labelled {label[:40]}")
        sections[label] = range(at, end)
    names = [name.strip() for name in order.split(",") if name.strip()]
    if not names:
        raise Misfit("an expansion list that names no section")
    for name in names:
        if name not in sections:
            raise Misfit(f"there is no section {name[:40]}")
    return [range(labels[0][0]), *(sections[name] for name in names)]


def _bar(lines: list[str], stretch: range, stop: int) -> Bar:
    """The repeat signs of the bar lines at both ends of a stretch."""
    before = lines[stretch.start].split("\t")[0]
    after = lines[stretch.stop].split("\t")[0] if stretch.stop < stop else ""
    return Bar(forward=bool(re.search(r"[|!]:", before)), times=2 if re.search(r":[|!]", after) else 1)


def _in_order(lines: list[str], order: list[range]) -> list[str]:
    """The lines of the runs. A run's metre is repeated if another one is in effect before it."""
    held: dict[int, str] = {}  # line → the metre before it, as a line
    last = ""
    for at, line in enumerate(lines):
        held[at] = last
        last = line if re.match(r"\*M\d", line) else last
    out: list[str] = []
    now = ""
    for run in order:
        if run and run is not order[-1] and held[run.start] not in ("", now):
            out.append(held[run.start])
        for at in run:
            out.append(lines[at])
        if run:
            now = lines[run.stop - 1] if re.match(r"\*M\d", lines[run.stop - 1]) else held[run.stop - 1]
    return out
