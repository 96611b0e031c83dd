"""A recipe's runs as one self-contained HTML page: no scripts, no network, no server.

The content is untrusted: text is escaped, pictures and audio are checked and embedded as data, and the page's policy
blocks everything else. The size is bounded: what doesn't fit is left out and listed.
"""

from __future__ import annotations

import base64
import html
import io
import math
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from components.evaluation.style import COLOURS, OTHER, style_axes
from components.render.figures import figure

MAX_BYTES = 16 << 20  # of the whole page
MAX_CELL, MAX_TEXT = 240, 6000  # characters
SOUND_HZ, SOUND_SECONDS = 16_000, 60
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Grid:
    """A table: `columns` of equal length; the first `rows` rows are shown."""

    title: str
    columns: Mapping[str, Sequence[object]]
    rows: int = 15


@dataclass(frozen=True)
class Picture:
    """A PNG's bytes, and its title."""

    title: str
    png: bytes


@dataclass(frozen=True)
class Piece:
    """An audio example: a wav's bytes from `small_sound`, and its piano roll."""

    title: str
    wav: bytes
    png: bytes = b""


@dataclass(frozen=True)
class RunReport:
    """The content of the page, in order. `curves` is an SVG; `texts` are (title, text)."""

    title: str
    subtitle: str
    facts: Mapping[str, str]
    figures: Grid
    runs: Grid
    curves: bytes = b""
    pieces: Sequence[Piece] = ()
    texts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Grid] = ()
    pictures: Sequence[Picture] = ()
    recipe: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)


STYLE = """
:root { --paper: #fbfaf7; --card: #fff; --ink: #22212a; --soft: #6a6875; --line: #dedbd3; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: clamp(1rem, 3.5vw, 2.75rem) clamp(.9rem, 3vw, 2rem) 3rem; }
h1, h2 { font: 600 clamp(1.55rem, 4vw, 2.35rem)/1.15 "Iowan Old Style", Palatino, "Palatino Linotype", Georgia, serif;
  margin: 0; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 .8rem; font-size: 1.35rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { margin: 1.2rem 0 .4rem; font-size: 1rem; }
.subtitle, figcaption, .note { color: var(--soft); margin: .35rem 0 .6rem; overflow-wrap: anywhere; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .7rem; margin: 1.4rem 0 0; }
.facts div, .scroll, figure, pre { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.facts div { padding: .6rem .85rem; }
.facts dt { color: var(--soft); font-size: .86rem; }
.facts dd { margin: 0; font-size: 1.12rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem; border-bottom: 1px solid var(--line); }
td { min-width: 4rem; white-space: pre-wrap; overflow-wrap: break-word; }
td:first-child { min-width: 9rem; }
th { color: var(--soft); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
figure { margin: 0 0 1.2rem; padding: .7rem; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
audio { width: 100%; margin-top: .5rem; }
pre { padding: .8rem 1rem; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .88rem; }
@media print { body { background: #fff; } figure, .scroll, pre { break-inside: avoid; } }
"""
POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def render(report: RunReport) -> str:
    """The report as HTML."""
    room = _Room(MAX_BYTES)
    title = html.escape(report.title)
    body = [f"<h1>{title}</h1>", f'<p class="subtitle">{html.escape(report.subtitle)}</p>']
    facts = "".join(f"<div><dt>{_cell(k)}</dt><dd>{_cell(v)}</dd></div>" for k, v in report.facts.items())
    body.append(f'<dl class="facts">{facts}</dl>')
    if report.curves:
        picture = room.image("image/svg+xml", report.curves, "learning curves")
        body.append(f"<h2>Learning curves</h2>\n<figure>{picture}</figure>")
    body.append(f"<h2>Runs</h2>\n{_grid(report.runs)}")
    body.append(f"<h2>Metrics</h2>\n{_grid(report.figures)}")
    if report.pieces or report.texts:
        body.append("<h2>Samples</h2>")
    if report.pieces:
        body.append(f'<p class="note">On this page, sound ends after {SOUND_SECONDS} seconds.</p>')
    for piece in report.pieces:
        roll = room.image("image/png", piece.png, piece.title) if piece.png.startswith(PNG) else ""
        body.append(f"<figure><figcaption>{html.escape(piece.title)}</figcaption>{roll}{room.sound(piece)}</figure>")
    for name, text in report.texts:
        body.append(f"<h3>{html.escape(name)}</h3>\n<pre>{_cut(text, MAX_TEXT)}</pre>")
    for grid in report.tables:
        body.append(f"<h2>{html.escape(grid.title)}</h2>\n{_grid(grid)}")
    pictures = [picture for picture in report.pictures if picture.png.startswith(PNG)]
    if pictures:
        body.append("<h2>Pictures</h2>")
    for picture in pictures:
        image = room.image("image/png", picture.png, picture.title)
        body.append(f"<figure><figcaption>{html.escape(picture.title)}</figcaption>{image}</figure>")
    if report.recipe:
        body.append(f"<h2>Recipe</h2>\n<pre>{_cut(report.recipe, MAX_TEXT)}</pre>")
    if report.digests:
        columns = {"what": list(report.digests), "value": list(report.digests.values())}
        body.append(f"<h2>Provenance</h2>\n{_grid(Grid('', columns, 100))}")
    if room.left_out:
        body.append(
            f'<p class="note">Left out because the page would be too large: {html.escape(", ".join(room.left_out))}</p>'
        )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


class _Room:
    """Tracks the size of embedded data; returns "" for data that doesn't fit, and records its title."""

    def __init__(self, limit_bytes: int) -> None:
        self.left_bytes, self.left_out = limit_bytes, list[str]()

    def image(self, kind: str, content: bytes, title: str) -> str:
        address = self._data(kind, content, title)
        return f'<img alt="{html.escape(title)}" src="{address}">' if address else ""

    def sound(self, piece: Piece) -> str:
        address = self._data("audio/wav", piece.wav, piece.title) if piece.wav else ""
        return f'<audio controls preload="metadata" src="{address}"></audio>' if address else ""

    def _data(self, kind: str, content: bytes, title: str) -> str:
        size = 4 * len(content) // 3 + 100
        if size > self.left_bytes:
            self.left_out.append(title)
            return ""
        self.left_bytes -= size
        return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def curves_svg(curves: Mapping[str, Sequence[tuple[int, float]]], metric: str) -> bytes:
    """Draw a line for each run: {name: [(update, value on val), …]}. The first eight are coloured; the first is the
    widest."""
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, (name, points) in reversed(list(enumerate(curves.items()))):
        shown = [point for point in points if math.isfinite(point[1])]
        if not shown:
            continue
        named = place < len(COLOURS)
        look = {"color": COLOURS[place] if named else OTHER, "linewidth": 2.4 if place == 0 else 1.3}
        label = name.replace("$", r"\$") if named else "_"
        axes.plot(*zip(*shown, strict=True), marker="o", markersize=2.5, label=label, **look)
    later = [value for points in curves.values() for _, value in points[len(points) // 4 :] if math.isfinite(value)]
    if later and max(later) > min(later):
        # the first evaluations are much worse and would flatten the rest
        pad = 0.08 * (max(later) - min(later))
        axes.set_ylim(min(later) - pad, max(later) + pad)
    axes.set(xlabel="updates", ylabel=f"val {metric.replace('_', ' ')}")
    style_axes(axes)
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(handles[::-1], labels[::-1], frameon=False, fontsize=9)
    out = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "reprise"}):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return out.getvalue()


def small_sound(wav: bytes) -> bytes:
    """The first minute of a 16-bit PCM wav, mono, at about 16 kHz; b"" if it isn't one."""
    try:
        with wave.open(io.BytesIO(wav), "rb") as source:
            rate, channels, width = source.getframerate(), source.getnchannels(), source.getsampwidth()
            if width != 2 or not 1 <= channels <= 8 or not 1000 <= rate <= 400_000:
                return b""
            frames = source.readframes(min(source.getnframes(), SOUND_SECONDS * rate))
    except (wave.Error, EOFError, OSError, ValueError):
        return b""
    samples = np.frombuffer(frames[: len(frames) // (2 * channels) * 2 * channels], dtype="<i2")
    mono = samples.reshape(-1, channels).mean(axis=1)
    factor = max(1, round(rate / SOUND_HZ))
    mono = mono[: len(mono) // factor * factor].reshape(-1, factor).mean(axis=1)  # the mean is a low-pass filter
    out = io.BytesIO()
    with wave.open(out, "wb") as small:
        small.setparams((1, 2, rate // factor, len(mono), "NONE", ""))
        small.writeframes(np.rint(mono).astype("<i2").tobytes())
    return out.getvalue()


def _grid(grid: Grid) -> str:
    heads = []
    for name, values in grid.columns.items():
        number = ' class="number"' if any(map(_is_number, values)) else ""
        heads.append(f"<th{number}>{_cell(name)}</th>")
    head = "".join(heads)
    rows = list(zip(*grid.columns.values(), strict=True))
    lines = "\n".join("<tr>" + "".join(_data_cell(value) for value in row) + "</tr>" for row in rows[: grid.rows])
    more = f'<p class="note">… and {len(rows) - grid.rows:,} more rows</p>' if len(rows) > grid.rows else ""
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{lines}\n</table></div>{more}'


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _data_cell(value: object) -> str:
    if not _is_number(value):
        return f"<td>{_cell(value)}</td>"
    shown = f"{value:,}" if isinstance(value, int) else figure(value)
    return f'<td class="number">{shown}</td>'


def _cell(value: object) -> str:
    return _cut("" if value is None else str(value), MAX_CELL)


def _cut(text: str, limit: int) -> str:
    return html.escape(text if len(text) <= limit else text[:limit] + " …")
