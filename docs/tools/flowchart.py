"""Mermaid flowcharts as SVG: GitHub draws them by a script that the site, which fetches nothing, doesn't have.

Only what our pages use: `graph LR` or `flowchart TD`, chains of `-->`, `-. label .->`, nodes `a`, `a["label"]` and
`a(["label"])`.
"""

from __future__ import annotations

import html
import itertools
import re
from zlib import crc32

HEADING = re.compile(r"(?:graph|flowchart) (LR|TD)")
NODE = re.compile(r'([\w/]+)(?:(\(?)\["(.+?)"\]\)?)?')
ARROW = re.compile(r"\s*(?:-->|-\.\s*(.+?)\s*\.->)\s*")
CHARACTER, HEIGHT, PAD, GAP, ASIDE = 7.2, 30.0, 12.0, 46.0, 16.0  # in pixels
Labels = dict[str, tuple[str, bool]]  # {node: (label, round?)}
Arrows = dict[tuple[str, str], str]  # {(from, to): label}
Box = tuple[float, float, float, float]  # centre, width and height
STYLE = "font: 13px sans-serif; max-width: 100%; height: auto"


def svg(source: str) -> str:
    """The drawing of a flowchart, in the colour of the text around it.

    Raises:
        ValueError: a line isn't of the kinds above, or the arrows lead in a circle.
    """
    heading, *lines = (line.strip() for line in source.strip().splitlines())
    found = HEADING.fullmatch(heading)
    if not found:
        raise ValueError(f"not a flowchart: {heading}")
    labels, arrows = _read(lines)
    across, tip = found[1] == "LR", f"tip{crc32(source.encode())}"  # a page may show several
    ways = _ways(_depths(labels, arrows), arrows)
    boxes = _placed(labels, arrows, ways, across)
    width, height = (max(box[i] + box[i + 2] / 2 for box in boxes.values()) + 2 for i in (0, 1))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'role="img" style="{STYLE}" fill="none" stroke="currentColor">',
        f'<defs><marker id="{tip}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8" fill="currentColor" stroke="none"/></marker></defs>',
    ]
    parts += [_arrow([boxes[point] for point in way], arrows[way[0], way[-1]], across, tip) for way in ways]
    for name, (label, is_round) in labels.items():
        x, y, w, h = boxes[name]
        place = f'x="{x - w / 2:.0f}" y="{y - h / 2:.0f}" width="{w:.0f}" height="{h:.0f}"'
        parts += [f'<rect {place} rx="{h / 2 if is_round else 4:.0f}"/>', _text(x, y, label)]
    return "".join([*parts, "</svg>"])


def _read(lines: list[str]) -> tuple[Labels, Arrows]:
    labels: Labels = {}
    arrows: Arrows = {}
    for line in filter(None, lines):
        at, before, arrow = 0, "", ""
        while True:
            node = NODE.match(line, at)
            if not node:
                raise ValueError(f"not understood: {line}")
            name = node[1]
            if node[3] or name not in labels:
                labels[name] = (node[3] or name, bool(node[2]))
            if before:
                arrows[before, name] = arrow
            at = node.end()
            if at == len(line):
                break
            step = ARROW.match(line, at)
            if not step:
                raise ValueError(f"not understood: {line}")
            at, before, arrow = step.end(), name, step[1] or ""
    return labels, arrows


def _depths(labels: Labels, arrows: Arrows) -> dict[str, int]:
    """Each node's layer: the length of the longest way to it."""
    depth = dict.fromkeys(labels, 0)
    for _ in labels:
        before = dict(depth)
        for a, b in arrows:
            depth[b] = max(depth[b], depth[a] + 1)
        if depth == before:
            return depth
    raise ValueError("the arrows lead in a circle")


def _ways(depth: dict[str, int], arrows: Arrows) -> list[list[str]]:
    """Each arrow as the points it leads through, one in each layer."""
    ways = []
    for a, b in arrows:
        between = {f"{a} {b} {d}": d for d in range(depth[a] + 1, depth[b])}
        depth |= between
        ways.append([a, *between, b])
    return ways


def _placed(labels: Labels, arrows: Arrows, ways: list[list[str]], across: bool) -> dict[str, Box]:
    """The nodes and the points between them; those of a layer stand beside what leads there."""
    steps = [step for way in ways for step in itertools.pairwise(way)]
    depth = _depths(dict.fromkeys([*labels, *(point for way in ways for point in way)]), dict.fromkeys(steps))
    layers: list[list[str]] = [[n for n in depth if depth[n] == d] for d in range(max(depth.values()) + 1)]
    place: dict[str, float] = {}
    for layer in layers:
        above = {name: [place[a] for a, b in steps if b == name] for name in layer}
        layer.sort(key=lambda name: sum(above[name]) / len(above[name]) if above[name] else 0)
        place |= {name: i - len(layer) / 2 for i, name in enumerate(layer)}
    sizes = {n: (CHARACTER * len(labels[n][0]) + 2 * PAD, HEIGHT) if n in labels else (0.0, 0.0) for n in depth}
    along, aside = (0, 1) if across else (1, 0)
    widest = max(sum(sizes[n][aside] + ASIDE for n in layer) for layer in layers)
    boxes, at = {}, 1.0
    for layer in layers:
        thick = max(sizes[n][along] for n in layer)
        start = (widest - sum(sizes[n][aside] + ASIDE for n in layer)) / 2
        for name in layer:
            start += sizes[name][aside] + ASIDE
            centre = (at + thick / 2, start - (sizes[name][aside] + ASIDE) / 2)
            boxes[name] = (*(centre if across else centre[::-1]), *sizes[name])
        told = max((len(label) for (a, _), label in arrows.items() if a in layer), default=0) if across else 0
        at += thick + max(GAP, CHARACTER * told + PAD)
    return boxes


def _arrow(way: list[Box], label: str, across: bool, tip: str) -> str:
    path, middles = "", []
    for (x0, y0, w0, h0), (x1, y1, w1, h1) in itertools.pairwise(way):
        if across:
            x0, x1 = x0 + w0 / 2, x1 - w1 / 2
            bend = f"C{(x0 + x1) / 2:.0f} {y0:.0f} {(x0 + x1) / 2:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
        else:
            y0, y1 = y0 + h0 / 2, y1 - h1 / 2
            bend = f"C{x0:.0f} {(y0 + y1) / 2:.0f} {x1:.0f} {(y0 + y1) / 2:.0f} {x1:.0f} {y1:.0f}"
        path += f"{'L' if path else 'M'}{x0:.0f} {y0:.0f}{bend}"
        middles.append(((x0 + x1) / 2, (y0 + y1) / 2 - 14))
    dashes = ' stroke-dasharray="4 3"' if label else ""
    return f'<path d="{path}"{dashes} marker-end="url(#{tip})"/>' + (_text(*middles[0], label) if label else "")


def _text(x: float, y: float, label: str) -> str:
    shown = html.escape(html.unescape(label))
    middle = 'text-anchor="middle" dominant-baseline="central" fill="currentColor" stroke="none"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {middle}>{shown}</text>'
