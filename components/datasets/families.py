"""Families of tunes: melodies that share patterns of intervals, in any key and rhythm.

A model trained on one tune of a family knows the others in part, so a family belongs in one part of a split. A pattern
is `LENGTH` consecutive intervals, without repeated pitches. Two melodies are joined if they share enough patterns,
weighted by rarity; the families are the connected components.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from components.score import Score, note_columns

LENGTH = 8  # intervals of a pattern
LEAST = 5  # patterns that two melodies of a family share; with one title `LEAST_TITLED`
LEAST_TITLED = 3
SHARE = 0.2  # of the shorter melody, its patterns weighed by how rare they are
# Hymns of some thirty patterns share cadences: a short melody must share about so many patterns, but no more than half.
ALIKE = 9
NEXT = 20  # melodies with the same pattern that each is compared with, and the most that a title counts in
_WIDEST = 24  # semitones; wider intervals count as this wide


def in_any_key(score: Score) -> str:
    """Digest of the notes relative to the first one, so that a transposed piece is the same piece."""
    digest, reference = hashlib.sha256(), None
    for part in score.parts:
        columns = note_columns(part.notes)[:3].copy()
        if reference is None and columns.size:
            reference = columns[2, 0]
        columns[2] -= reference or 0
        digest.update(f"{columns.shape[1]} ".encode() + columns.tobytes())
    return digest.hexdigest()


def intervals(score: Score) -> np.ndarray:
    """Intervals of the melody, or else of the first part, in semitones, int64 [M]. Of chords the top notes are used;
    repeated pitches are skipped."""
    parts = [part for part in score.parts if len(part.notes) and part.role != "drums"]
    if not parts:
        return np.zeros(0, np.int64)
    start, _, pitch, _ = note_columns(next((part for part in parts if part.role == "melody"), parts[0]).notes)
    order = np.lexsort((-pitch, start))
    pitch = pitch[order][np.diff(start[order], prepend=start.min() - 1) > 0]
    steps = np.diff(pitch)
    return np.clip(steps[steps != 0], -_WIDEST, _WIDEST)


def families(melodies: Sequence[np.ndarray], titles: Sequence[str]) -> np.ndarray:
    """The family of each melody, int64 [N], numbered from 0 in order of appearance.

    `melodies`: intervals in semitones, int64 [M] each; `titles`: "" if unknown. Melodies with the same intervals are in
    one family; a melody shorter than a pattern is a separate family. The result doesn't depend on the order of the
    melodies. Each melody is compared with the next `NEXT` that share a pattern, so time and memory are linear in the
    number of notes.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    texts = [line.astype("<i4").tobytes() for line in melodies]
    known = sorted({text for text, line in zip(texts, melodies, strict=True) if len(line) >= LENGTH})
    number = {text: index for index, text in enumerate(known)}  # by content: the order of the pieces doesn't matter
    rows = [np.unique(_patterns(np.frombuffer(text, "<i4").astype(np.int64))) for text in known]
    names = sorted({title for title in titles if title})
    title_of = {title: index for index, title in enumerate(names)}
    titled = {(number[x], title_of[t]) for x, t in zip(texts, titles, strict=True) if t and x in number}
    pairs = _joined(rows, _one_title(sorted(titled))) if rows else np.zeros((2, 0), np.int64)
    _, family = connected_components(coo_array((np.ones(pairs.shape[1]), pairs), shape=(len(rows), len(rows))))
    found: dict[tuple[str, int], int] = {}
    keys = [("family", int(family[number[text]])) if text in number else ("alone", at) for at, text in enumerate(texts)]
    return np.array([found.setdefault(key, len(found)) for key in keys], dtype=np.int64)


def _patterns(line: np.ndarray) -> np.ndarray:
    """Each `LENGTH` intervals in a row as one number, int64 [M - LENGTH + 1]."""
    width = 2 * _WIDEST + 1
    return np.lib.stride_tricks.sliding_window_view(line + _WIDEST, LENGTH) @ width ** np.arange(LENGTH)


def _one_title(titled: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """The pairs of melodies with one title; a title of more than `NEXT` melodies is none ("Untitled")."""
    by_title: dict[int, list[int]] = {}
    for melody, title in titled:
        by_title.setdefault(title, []).append(melody)
    few = [found for found in by_title.values() if len(found) <= NEXT]
    return {(one, other) for found in few for at, one in enumerate(found) for other in found[at + 1 :]}


def _joined(rows: Sequence[np.ndarray], one_title: set[tuple[int, int]]) -> np.ndarray:
    """The pairs of melodies that are joined, int64 [2, pairs], given the different patterns of each."""
    count = len(rows)
    sizes = np.array([len(row) for row in rows])
    pattern, melody = np.concatenate(rows), np.repeat(np.arange(count), sizes)
    order = np.argsort(pattern, kind="stable")  # the melodies of a pattern stay in their order
    pattern, melody = pattern[order], melody[order]
    _, place, often = np.unique(pattern, return_inverse=True, return_counts=True)
    weight = np.log((1 + count) / often)[place]  # above 0 also where all have it
    totals = np.bincount(melody, weight, count)
    pairs, weights = [], []
    for ahead in range(1, NEXT + 1):
        at = np.flatnonzero(pattern[ahead:] == pattern[:-ahead])
        pairs.append(melody[at] * count + melody[at + ahead])
        weights.append(weight[at])
    codes, place, shared = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    one, other = np.divmod(codes, count)
    share = np.bincount(place, np.concatenate(weights), len(codes)) / np.minimum(totals[one], totals[other])
    needed = np.maximum(SHARE, np.minimum(0.5, ALIKE / np.minimum(sizes[one], sizes[other])))
    named = np.array([pair in one_title for pair in zip(one.tolist(), other.tolist(), strict=True)], dtype=bool)
    joined = (shared >= LEAST) & (share >= needed) | (shared >= LEAST_TITLED) & named
    return np.stack([one[joined], other[joined]])
