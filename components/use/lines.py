"""Texts and their predictions as readable lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from components.answers import columns, input_of, read
from components.bundle import Bundle
from components.datasets.text.spans import spans
from components.encodings.doubts import Doubts
from components.errors import UserError
from components.tasks.language_model import LanguageModel
from components.tasks.tagging import Tagging
from components.tasks.transcription import Transcription
from components.use.table import cells

READS = {"frames": "numbers", "audio": "sound", "series": "series"}  # inputs other than text


def answer_texts(bundle: Bundle, texts: Sequence[str], tell: Callable[[str], None]) -> list[str]:
    """A line per text: the label, its probability and the text; or the text with its names marked, [Ann PERSON]; or its
    words with their tags. For `tell` and errors see `text_items`."""
    items = text_items(bundle, texts, tell)
    return [_line(bundle, text, answer) for text, answer in zip(items, bundle.predict(items), strict=True)]


def text_items(bundle: Bundle, texts: Sequence[str], tell: Callable[[str], None]) -> list[Any]:
    """The texts as the model reads them. `tell` receives warnings about words that the model doesn't know.

    Raises:
        UserError: the model doesn't read text, or a text can't be read.
    """
    encoding = input_of(bundle.encoding)
    if bundle.task.settings is not None:
        return list(texts)
    if encoding.reads in READS:
        what = READS[encoding.reads]
        raise UserError(f"{bundle.name} reads {what}, not text", where="--text", hint="give a file: --file")
    doubts = Doubts()
    items = [read(encoding, text, f"text {number}", doubts) for number, text in enumerate(texts, 1)]
    for text in items:
        for warning in encoding.prompt(text)[1]:
            tell(f"warning: {warning.replace('the prompt', repr(text[:60]))}")
    for line in doubts.lines():
        tell(line)
    return items


def _line(bundle: Bundle, text: str, answer: Any) -> str:
    named = columns(bundle, text, answer)
    if "tags" in named:
        tokens = named.get("tokens") or text.split()
        if len(tokens) == len(answer):
            if isinstance(bundle.task, Tagging) and bundle.task.scheme == "iob":
                return marked(text, tokens, answer)
            both = zip(tokens, answer, strict=True)
            return " ".join(token if tag in ("", "O") else f"{token}/{tag}" for token, tag in both)
    said = cells(named)
    return "  ".join([said["predicted"], *filter(None, [said.get("probability")]), text])


def marked(text: str, tokens: Sequence[str], tags: Sequence[str]) -> str:
    """The unchanged text with each span in brackets, followed by its type: [Harry Potter PERSON]."""
    places, at = [], 0
    for token in tokens:
        start = text.index(token, at)
        at = start + len(token)
        places.append((start, at))
    written, at = "", 0
    for first, end, kind in spans(tags):
        start, stop = places[first][0], places[end - 1][1]
        written += f"{text[at:start]}[{text[start:stop]} {kind.upper()}]"
        at = stop
    return written + text[at:]


def with_language_model(bundle: Bundle, writer: Bundle) -> None:
    """Make a speech model use a language model when decoding.

    Raises:
        UserError: the first isn't a speech model, or the second isn't a language model over its tokens.
    """
    if not isinstance(bundle.task, Transcription) or not isinstance(writer.task, LanguageModel):
        speech = isinstance(bundle.task, Transcription)
        what = f"{writer.name} isn't a language model" if speech else f"{bundle.name} isn't a speech model"
        raise UserError(what, where="language model")
    bundle.task.use_language_model(writer.model, writer.encoding)
