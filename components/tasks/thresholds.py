"""Precision-recall and receiver operating characteristic (ROC) curves over thresholds of a score."""

from __future__ import annotations

import math

import numpy as np


def counts(scores_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many positives and negatives have at least a score, for each distinct score in descending order: float64 [D]
    each."""
    order = np.argsort(-scores_N, kind="stable")
    scores_N, positive_N = scores_N[order], positive_N[order].astype(float)
    last_D = np.append(np.flatnonzero(np.diff(scores_N)), len(scores_N) - 1) if len(scores_N) else np.zeros(0, int)
    true_D = np.cumsum(positive_N)[last_D]
    return true_D, last_D + 1 - true_D


def precision_recall(scores_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall [D] for descending thresholds."""
    true_D, false_D = counts(scores_N, positive_N)
    return true_D / (true_D + false_D), true_D / positive_N.sum()


def roc(scores_N: np.ndarray, positive_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates [D + 1] for descending thresholds, from (0, 0) to (1, 1)."""
    true_D, false_D = (np.append(0.0, each) for each in counts(scores_N, positive_N))
    return false_D / false_D[-1], true_D / true_D[-1]


def average_precision(scores_N: np.ndarray, positive_N: np.ndarray) -> float:
    """The mean precision, weighted by the increase in recall at each threshold, without interpolation, as in
    scikit-learn; NaN without positives."""
    if not positive_N.any():
        return math.nan
    precision_D, recall_D = precision_recall(scores_N, positive_N)
    return float((np.diff(recall_D, prepend=0.0) * precision_D).sum())


def roc_auc(scores_N: np.ndarray, positive_N: np.ndarray) -> float:
    """The probability that a positive scores higher than a negative, ties counted half; NaN if a class is missing."""
    if positive_N.all() or not positive_N.any():
        return math.nan
    false_D, true_D = roc(scores_N, positive_N)
    return float(np.trapezoid(true_D, false_D))
