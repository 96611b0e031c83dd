"""Bag of tokens: a sequence as one step of token counts, without their order (one-to-one)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from components.encodings.base import Encoding, Field, encoding_from_state
from components.encodings.pair import make
from components.errors import UserError
from components.options import Nested


class Bag(Encoding):
    """Items of another `encoding` of tokens → frames [1, V]: how often each token of its vocabulary occurs.

    `decode` gives an item with the same tokens in the order of their ids: the original order is lost.
    """

    kind = "bag"
    form = "frames"
    unit = "item"

    def __init__(self, *, encoding: Annotated[dict[str, Any], Nested("encoding")]) -> None:
        self.encoding = make(encoding)
        if self.encoding.form != "tokens" or self.encoding.pairs or self.encoding.context_sizes:
            raise UserError(
                f"{self.encoding.kind} doesn't give plain tokens, which are needed for counting",
                where="encoding.encoding.kind",
            )

    @property
    def reads(self) -> str:  # type: ignore[override]
        return self.encoding.reads

    @property
    def fields(self) -> dict[str, Field]:
        return {"frames": Field(width=len(self.encoding.vocabulary))}

    def fit(self, items: Iterable[Any]) -> None:
        self.encoding.fit(items)

    def encode(self, item: Any) -> np.ndarray:
        return self._counts(self.encoding.encode(item))

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if type(self.encoding).augment is Encoding.augment:
            return ids
        each = np.repeat(np.arange(ids.shape[1]), ids[0].astype(np.int64))
        return self._counts(self.encoding.augment(each, rng))

    def _counts(self, ids: np.ndarray) -> np.ndarray:
        return np.bincount(ids, minlength=len(self.encoding.vocabulary))[None].astype(np.float32)

    def decode(self, ids: Sequence[Any] | np.ndarray) -> Any:
        counts = np.asarray(ids, dtype=np.float64).reshape(-1, len(self.encoding.vocabulary)).sum(axis=0)
        return self.encoding.decode(np.repeat(np.arange(len(counts)), counts.round().clip(0).astype(np.int64)))

    def prompt(self, text: str) -> tuple[np.ndarray, list[str]]:
        return self.encode(text), []

    def options(self) -> dict[str, Any]:
        return {"encoding": {"kind": self.encoding.kind, **self.encoding.options()}}

    def learned(self) -> dict[str, Any]:
        return self.encoding.state()

    def set_learned(self, state: Mapping[str, Any]) -> None:
        self.encoding = encoding_from_state(state)
