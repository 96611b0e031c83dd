"""BLEU and chrF of translations, lower-cased, as sacrebleu counts them; BLEU out of sums that add up over batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

ORDER = 4  # longest n-grams


@functools.cache
def _metric() -> BLEU:
    return BLEU(lowercase=True, effective_order=True)


def bleu_statistics(said: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """float64 [10]: words said, words of the references, n-grams of 1 to 4 that are right, n-grams said."""
    total = np.zeros(2 + 2 * ORDER)
    for one, reference in zip(said, wanted, strict=True):
        found = _metric().sentence_score(one, [reference])
        total += [found.sys_len, found.ref_len, *found.counts, *found.totals]
    return total


def bleu_of(statistics: Any, count: float) -> float:
    """Corpus BLEU, 0 to 100, of such sums."""
    sums = [int(value) for value in statistics]
    found = BLEU.compute_bleu(
        sums[2 : 2 + ORDER], sums[2 + ORDER :], sums[0], sums[1], smooth_method="exp", effective_order=False
    )
    return float(found.score)


def sentence_bleu(said: str, wanted: str) -> float:
    """Of one sentence, 0 to 100: n-grams longer than the sentence don't count."""
    return float(_metric().sentence_score(said, [wanted]).score)


def chrf(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Corpus chrF2, 0 to 100: n-grams of up to 6 characters."""
    return float(CHRF(lowercase=True).corpus_score(list(said), [list(wanted)]).score)
