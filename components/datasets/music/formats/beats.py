"""Beat tracking for music played without a click: a drifting tempo, followed from note to note.

A transcribed solo has one tempo, its average; its notes drift against it within a few bars. The model is a hidden
semi-Markov chain over beats: each lasts a little more or less than the one before, and the onsets within it fall where
players put them: on the beat, at the half, late as in swing, on thirds and quarters. Viterbi finds the best chain. The
likelihood by phase follows Cemgil and Kappen, Monte Carlo Methods for Tempo Tracking and Rhythm Quantization (2003);
the dynamic programme follows Ellis, Beat Tracking by Dynamic Programming (2007).
"""

from __future__ import annotations

import numpy as np

FRAMES = 24  # per beat of the average tempo
SHORTEST, LONGEST = 19, 30  # frames that a beat may last: 26 % faster, 25 % slower
CHANGE = 0.7  # frames by which a beat's length differs from the one before, standard deviation
PULL = 0.08  # standard deviation of a beat's length about the average, as a share
MOST_BEATS = 20_000
# (phase, weight, width) for a jazz line: eighths from even (0.5) to triplet swing (0.67)
PLACES = (
    (0.0, 1.0, 0.05), (1.0, 1.0, 0.05), (0.5, 0.35, 0.04), (0.58, 0.35, 0.04), (0.66, 0.35, 0.04),
    (0.33, 0.12, 0.03), (0.25, 0.08, 0.03), (0.75, 0.12, 0.03),
)  # fmt: skip
ANYWHERE = 0.25


def follow_beats(onsets: np.ndarray) -> np.ndarray:
    """Beats [M], ascending, in units of the average tempo's beats, for onsets [N] in the same unit.

    They extend from before the first onset to after the last. Which beats begin a bar isn't known.
    """
    first = float(onsets.min())
    frames = np.rint((onsets - first) * FRAMES).astype(np.int64) + 2 * LONGEST
    length = int(frames.max()) + 2 * LONGEST
    if length > MOST_BEATS * FRAMES:
        return np.arange(np.floor(first), np.ceil(onsets.max()) + 2)
    counts = np.bincount(frames, minlength=length + 1).astype(np.float64)
    lengths = np.arange(SHORTEST, LONGEST + 1)
    # fit[t, k]: log-likelihood of the onsets in a beat of lengths[k] frames that ends before frame t
    fit = np.full((length + 1, len(lengths)), -np.inf)
    for k, beat in enumerate(lengths):
        fit[beat:, k] = np.correlate(counts, _log_density(beat), mode="valid")[: length + 1 - beat]
        fit[:, k] -= 0.5 * (np.log(beat / FRAMES) / PULL) ** 2
    step = -0.5 * ((lengths[:, None] - lengths[None, :]) / CHANGE) ** 2  # [before, now]
    best = np.zeros((length + 1, len(lengths)))
    back = np.zeros((length + 1, len(lengths)), dtype=np.int8)
    columns = np.arange(len(lengths))
    for block in range(LONGEST, length + 1, SHORTEST):  # a beat looks back by at least SHORTEST
        times = np.arange(block, min(block + SHORTEST, length + 1))
        before = best[times[:, None] - lengths[None, :]] + step.T[None]  # [time, now, before]
        back[times] = before.argmax(axis=2)
        best[times] = before.max(axis=2) + fit[times]
    end = length - LONGEST + int(best[length - LONGEST :].max(axis=1).argmax())
    state = int(best[end].argmax())
    found = [end]
    while found[-1] - lengths[state] >= LONGEST:
        time = found[-1]
        found.append(time - int(lengths[state]))
        state = int(columns[back[time, state]])
    beats = np.array(found[::-1], dtype=np.float64)
    beats = np.concatenate([[beats[0] - FRAMES], beats, [beats[-1] + FRAMES]])
    return (beats - 2 * LONGEST) / FRAMES + first


def on_beats(times: np.ndarray, beats: np.ndarray) -> np.ndarray:
    """Times [N] in tracked beats: a time at beats[i] becomes i."""
    return np.interp(times, beats, np.arange(len(beats))) + np.maximum(times - beats[-1], 0.0)


def _log_density(frames: int) -> np.ndarray:
    """Log density of onsets at each frame of a beat, relative to a uniform one."""
    phase = np.arange(frames) / frames
    density = np.full(frames, ANYWHERE)
    for place, weight, width in PLACES:
        density += weight * np.exp(-0.5 * ((phase - place) / width) ** 2)
    return np.log(density / density.mean())
