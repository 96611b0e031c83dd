"""The table of contents: every name a recipe may use, and the class behind it.

Adding a cell, an encoding, a task or a reader is one new file and one line here.
Nothing is imported until it is asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from components.errors import unknown

TABLE: dict[str, dict[str, str]] = {
    "reader": {
        "text": "components.datasets.text:TextReader",
        "lines": "components.datasets.text:LinesReader",
        "corpus-chorales": "components.datasets.scores:CorpusChoralesReader",
    },
    "encoding": {
        "characters": "components.encodings.characters:Characters",
        "words": "components.encodings.words:Words",
        "chorale": "components.encodings.chorale:Chorale",
    },
    "cell": {
        "rnn": "components.layers.rnn:RNN",
        "gru": "components.layers.gru:GRU",
        "lstm": "components.layers.lstm:LSTM",
    },
    "task": {
        "language_model": "components.tasks.language_model:LanguageModel",
    },
}


def names(kind: str) -> list[str]:
    """The registered names of a kind, in the table's order."""
    return list(TABLE[kind])


def resolve(kind: str, name: str, *, where: str | None = None) -> Any:
    """The class registered as `name`.

    Raises:
        UserError: the name isn't registered; the nearest one is suggested.
    """
    if name not in TABLE[kind]:
        raise unknown(kind, name, TABLE[kind], where=where)
    module, _, attribute = TABLE[kind][name].partition(":")
    return getattr(importlib.import_module(module), attribute)
