"""Text with its label as first token, so that generation can be conditioned on the label (one-to-many)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from components.encodings.base import Encoding
from components.encodings.pair import Pair
from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.errors import UserError, unknown
from components.options import Nested

LABEL_AND_BOS = 2  # tokens before the text


class Conditioned(Encoding):
    """(text, label) → the label's token, then the text's tokens by the `encoding`; `decode` returns the text only.

    Labels have separate tokens, after those of the text in the vocabulary. Metrics leave the label out.
    """

    kind = "conditioned"
    pairs = True
    given = 1

    def __init__(self, *, encoding: Annotated[dict[str, Any], Nested("encoding")]) -> None:
        self._pair = Pair(input=encoding, target={"kind": "labels"})
        text = self._pair.input
        if text.form != "tokens" or text.pairs or text.context_sizes:
            raise UserError(
                f"{text.kind} isn't an encoding of texts",
                where="encoding.encoding.kind",
                hint="for example: characters",
            )
        self.unit = text.unit

    @property
    def reads(self) -> str:  # type: ignore[override]
        return self.text.reads

    @property
    def text(self) -> Encoding:
        """The encoding of what follows the label."""
        return self._pair.input

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of their ids, which follow those of the text."""
        return self._pair.target.classes

    def fit(self, items: Iterable[tuple[Any, str]]) -> None:
        self._pair.fit(items)
        tokens, seen = list(self.text.vocabulary.tokens), set(self.text.vocabulary.tokens)
        for label in self.labels:
            token = f"<{label}>"
            while token in seen:  # a text may contain the same token
                token = f"<{token}>"
            tokens.append(token)
            seen.add(token)
        self.vocabulary = Vocabulary(tokens)

    def encode(self, item: tuple[Any, str]) -> np.ndarray:
        arrays = self._pair.encode(item)
        label = arrays["target"]
        known = label >= len(SPECIALS)
        return np.concatenate([np.where(known, label - len(SPECIALS) + self._first, label), arrays["input"]])

    def decode(self, ids: Sequence[int] | np.ndarray) -> Any:
        index = np.asarray(ids, dtype=np.int64)
        return self.text.decode(index[index < self._first])

    def labels_of(self, item: tuple[Any, str]) -> Sequence[str]:
        return [item[1]]

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        """Ids of "Italian" or "Italian: Ro". If empty, the model chooses the label.

        Raises:
            UserError: unknown label.
        """
        if not text.strip():
            return np.zeros(0, dtype=np.int64), []
        wanted = text.strip().casefold()
        matching = [label for label in self.labels if f"{wanted}:".startswith(f"{label}:".casefold())]
        if not matching:
            raise unknown("label", text.partition(":")[0].strip(), self.labels, where="generation.prompt")
        label = max(matching, key=len)
        begun, warnings = self.text.prompt(text.strip()[len(label) + 1 :].removeprefix(" "))
        return np.concatenate([[self._first + self.labels.index(label)], begun]), warnings

    def allowed(self, ids: np.ndarray) -> np.ndarray:
        mask = np.zeros(len(self.vocabulary), dtype=bool)
        if len(ids) < LABEL_AND_BOS:
            mask[self._first :] = True
        else:
            mask[: self._first] = self.text.allowed(np.concatenate([ids[:1], ids[LABEL_AND_BOS:]]))
        return mask

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        begun, text = np.split(ids, [LABEL_AND_BOS])
        return np.concatenate([begun, self.text.augment(text, rng)])

    def options(self) -> dict[str, Any]:
        return {"encoding": self._pair.options()["input"]}

    def learned(self) -> dict[str, Any]:
        return self._pair.learned()

    def set_learned(self, state: Mapping[str, Any]) -> None:
        self._pair.set_learned(state)

    @property
    def _first(self) -> int:
        """The id of the first label."""
        return len(self.text.vocabulary)
