"""Engraved notation: MusicXML as SVG by Verovio, if it is installed (the extra `engraving`)."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from components.errors import UserError
from components.render.record import Record, embed_marker

_WIDTH, _HEIGHT = 2100, 60000  # page in Verovio's units, tenths of a millimetre; the height shrinks to fit the music
_OPTIONS = {
    "inputFrom": "musicxml",
    "pageWidth": _WIDTH,
    "pageHeight": _HEIGHT,
    "adjustPageHeight": True,
    "scale": 50,
    "footer": "none",
    "svgViewBox": True,
    "svgRemoveXlink": True,  # deprecated in SVG 2
    "xmlIdSeed": 1,  # a fixed seed for identifiers: the same score gives the same bytes
}


@cache
def can_engrave() -> bool:
    """Whether Verovio is installed."""
    return find_spec("verovio") is not None


def engrave(musicxml: str, record: Record | None = None) -> str:
    """The notation as one long page of self-contained SVG. The record is its last comment.

    Music longer than a page of 6 m, some 800 bars of two staves, is cut there.

    Raises:
        UserError: it can't be engraved, Verovio isn't installed, or the record isn't JSON-ready.
    """
    if not can_engrave():
        raise UserError("Verovio isn't installed", where="engraving", hint="pip install verovio")
    import verovio

    verovio.enableLog(verovio.LOG_OFF)  # it writes its warnings to stderr
    toolkit = verovio.toolkit()
    toolkit.setOptions(_OPTIONS)
    # Verovio would print the degrees of a chord symbol next to a text that already has them: B7b9(♭9)
    plain = re.sub(r"\s*<degree\b.*?</degree>", "", musicxml, flags=re.DOTALL)
    svg = toolkit.renderToSVG(1).rstrip() if toolkit.loadData(plain) else ""
    if 'class="measure"' not in svg:  # Verovio reads invalid input as an empty score
        raise UserError("Verovio can't read the notation", where="engraving")
    mark = f"<!-- {embed_marker(record)} -->\n" if record is not None else ""
    return f"{svg.removesuffix('</svg>')}{mark}</svg>\n"


def write_svg(sheet: Path, path: Path, record: Record | None = None) -> None:
    """Engrave the MusicXML file `sheet` as `path`.

    Raises:
        UserError: see `engrave`.
    """
    Path(path).write_text(engrave(Path(sheet).read_text(encoding="utf-8"), record), encoding="utf-8", newline="\n")
