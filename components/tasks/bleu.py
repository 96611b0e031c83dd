"""Lower-cased BLEU and chrF of translations, with sacrebleu; BLEU from statistics that are summed over batches."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

ORDER = 4  # length of the longest n-grams


@functools.cache
def _metric() -> BLEU:
    return BLEU(lowercase=True, effective_order=True)


def bleu_statistics(said: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """float64 [10]: words of the translations, words of the references, matching n-grams for n = 1 to 4, n-grams of the
    translations."""
    total = np.zeros(2 + 2 * ORDER)
    for one, reference in zip(said, wanted, strict=True):
        found = _metric().sentence_score(one, [reference])
        total += [found.sys_len, found.ref_len, *found.counts, *found.totals]
    return total


def bleu_of(statistics: Any, count: float) -> float:
    """Corpus BLEU, 0 to 100, of summed `bleu_statistics`."""
    sums = [int(value) for value in statistics]
    found = BLEU.compute_bleu(
        sums[2 : 2 + ORDER], sums[2 + ORDER :], sums[0], sums[1], smooth_method="exp", effective_order=False
    )
    return float(found.score)


def sentence_bleu(said: str, wanted: str) -> float:
    """BLEU of one sentence, 0 to 100, without n-grams longer than the sentence."""
    return float(_metric().sentence_score(said, [wanted]).score)


def chrf(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Corpus chrF2, 0 to 100: n-grams of up to 6 characters."""
    return float(CHRF(lowercase=True).corpus_score(list(said), [list(wanted)]).score)
