"""Texts with tokens coloured by their contribution, as an HTML page without scripts."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from components.whole_files import written_whole

STYLE = """body{font:16px/1.7 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}
body{color:#222;background:#fff}
p.text{white-space:pre-wrap;font-size:18px}span{border-radius:3px;color:#222}td{padding:0 1.2rem 0 0}
.small{color:#555;font-size:14px}"""
DEEPEST = 0.75  # maximum opacity of the colour, so that letters stay readable


@dataclass(frozen=True)
class Marked:
    """A text, its tokens with their contributions, the answer, and lines of figures."""

    text: str
    tokens: Sequence[tuple[str, float]]
    answer: str
    about: str
    choices: Sequence[Sequence[str]] = ()


def write_marked(path: Path, title: str, texts: Sequence[Marked]) -> None:
    """Write the page. Blue is positive, red negative; the number is shown on hover."""
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for one in texts:
        parts.append(f'<h2>{html.escape(one.answer)}</h2><p class="text">{marked_text(one.text, one.tokens)}</p>')
        parts.append(f'<p class="small">{html.escape(one.about)}</p>')
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in one.choices)
        if one.choices:
            parts.append(f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>'
    with written_whole(path) as whole:
        whole.write_text(f"<!doctype html>\n{head}\n" + "\n".join(parts) + "\n", encoding="utf-8")


def marked_text(text: str, tokens: Sequence[tuple[str, float]]) -> str:
    """The text as HTML, each token coloured; the tokens alone, if they aren't found verbatim in the text."""
    most = max((abs(value) for _, value in tokens), default=0.0) or 1.0
    written, at = "", 0
    for token, value in tokens:
        start = text.find(token, at)
        if start < 0 or text[at:start].strip():
            return " ".join(_span(token, value, most) for token, value in tokens)
        written += html.escape(text[at:start]) + _span(token, value, most)
        at = start + len(token)
    return written + html.escape(text[at:])


def _span(token: str, value: float, most: float) -> str:
    colour = "33,102,172" if value > 0 else "178,24,43"
    share = DEEPEST * abs(value) / most
    style = f"background:rgba({colour},{share:.3f})"
    return f'<span style="{style}" title="{value:+.4g}">{html.escape(token)}</span>'
