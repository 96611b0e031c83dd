"""Byte-pair encoding of ids: frequent pairs are merged into tokens (Sennrich et al. 2016).

For music after Fradet et al. (EMNLP 2023). Learned and applied by the `tokenizers` library, stored as pairs of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, models, trainers

LONGEST = 16  # ids in a token
LARGEST = 1 << 16  # largest vocabulary
FIRST = 0x20000  # ids are mapped to characters from here on: no spaces, nothing that Unicode normalises


class Merges:
    """`base` ids and the merged `pairs` of tokens, in order. A token is one of the ids, or the result of an earlier
    pair, numbered from `base`.

    Raises:
        ValueError: a pair contains an unknown token, or a token has more than LONGEST ids.
    """

    def __init__(self, base: int, pairs: Sequence[Sequence[int]] = ()) -> None:
        if base + len(pairs) > LARGEST:
            raise ValueError(f"{base} ids and {len(pairs)} merges: more than {LARGEST} tokens")
        self.base = base
        self.pairs = [(int(left), int(right)) for left, right in pairs]
        texts = [chr(FIRST + id) for id in range(base)]
        ids = {text: id for id, text in enumerate(texts)}
        for left, right in self.pairs:
            if not (0 <= left < len(texts) and 0 <= right < len(texts)):
                raise ValueError(f"the merge ({left}, {right}) refers to a token that doesn't exist yet")
            text = texts[left] + texts[right]
            if len(text) > LONGEST:
                raise ValueError(f"the merge ({left}, {right}) stands for more than {LONGEST} tokens")
            if text not in ids:  # two pairs may give the same token
                ids[text] = len(texts)
                texts.append(text)
        self.expansions = [tuple(ord(sign) - FIRST for sign in text) for text in texts]
        merges = [(texts[left], texts[right]) for left, right in self.pairs]
        self._model = Tokenizer(models.BPE(vocab=ids, merges=merges)) if pairs else None

    @classmethod
    def learn(cls, base: int, chunks: Iterable[np.ndarray], size: int) -> Merges:
        """Learn the merges of ids below `base` for a vocabulary of `size` tokens; none spans two chunks."""
        learner = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=[chr(FIRST + id) for id in range(base)],
            limit_alphabet=base,
            max_token_length=LONGEST,
            min_frequency=2,
            show_progress=False,
        )
        learner.train_from_iterator((_text(chunk) for chunk in chunks), trainer)
        texts = {chr(FIRST + id): id for id in range(base)}
        pairs = []
        for left, right in json.loads(learner.to_str())["model"]["merges"]:
            pairs.append((texts[left], texts[right]))
            texts.setdefault(left + right, len(texts))
        return cls(base, pairs)

    def __len__(self) -> int:
        return len(self.expansions)

    def apply(self, chunks: Iterable[np.ndarray]) -> np.ndarray:
        """The tokens of ids in chunks, int64 [T]."""
        chunks = list(chunks)
        if self._model is None:
            return np.concatenate([np.zeros(0, dtype=np.int64), *chunks])
        found = self._model.encode_batch_fast([_text(chunk) for chunk in chunks], add_special_tokens=False)
        return np.array([id for one in found for id in one.ids], dtype=np.int64)

    def expand(self, tokens: np.ndarray) -> np.ndarray:
        """The ids of the tokens, int64 [T']."""
        return np.array([id for token in tokens for id in self.expansions[int(token)]], dtype=np.int64)


def _text(ids: np.ndarray) -> str:
    return "".join(map(chr, (np.asarray(ids) + FIRST).tolist()))
