"""Decoding of CTC outputs: best path, prefix beam search, and alignment.

A CTC model gives a distribution over the tokens and a blank at every frame. A path has one of them for each frame; its
text is the path with repeats merged and blanks removed, and a text's probability is the sum over all its paths (Graves
et al. 2006). Shapes: T frames, V tokens, K texts in the beam.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from components.encodings.vocabulary import BOS, PAD, SPECIALS, Vocabulary
from components.layers.base import State

BLANK = 0

# ids so far → log-probabilities [V] of the next token, or of the end, if `end` is given
Scorer = Callable[[tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Reading:
    """A text with its scores: `log_probability` of the model alone, `score` with language model and length bonus."""

    ids: tuple[int, ...]
    log_probability: float
    score: float


def collapse(path: Sequence[int] | np.ndarray) -> list[int]:
    """The text of a path: repeats merged, then blanks removed."""
    path = np.asarray(path)
    first = np.append(True, path[1:] != path[:-1])[: len(path)]
    return path[first & (path != BLANK)].tolist()


def greedy(log_probs_TV: np.ndarray) -> list[int]:
    """The text of the likeliest path (best path decoding): fast, but not always the likeliest text."""
    return collapse(log_probs_TV.argmax(axis=1))


def prefix_beam_search(
    log_probs_TV: np.ndarray,
    beam_size: int,
    *,
    scorer: Scorer | None = None,
    weight: float = 0.0,
    bonus: float = 0.0,
    end: int | None = None,
) -> list[Reading]:
    """Up to `beam_size` texts, best first, by log p(text) + `weight` · log p_LM(text) + `bonus` · length.

    At each frame every text in the beam stays (a blank, or its last token again) or grows by a token. Two sums are kept
    for each text, over the paths that end in a blank and over the others: a token repeated after a blank is a new
    token, without a blank it is the same one (Hannun et al. 2014, arXiv:1408.2873). The probabilities are exact if the
    beam never drops a text, else lower bounds.
    """
    ids: list[tuple[int, ...]] = [()]
    ends_blank_K, ends_token_K = np.zeros(1), np.full(1, -np.inf)
    prior_K = np.zeros(1)  # scores of language model and bonus
    V = log_probs_TV.shape[1]
    tokens_V = np.arange(V) != BLANK

    def next_prior(text: tuple[int, ...]) -> np.ndarray:
        return bonus + (weight * scorer(text) if scorer and weight else np.zeros(V))

    growth_KV = next_prior(())[None]
    for log_probs_V in np.asarray(log_probs_TV, dtype=np.float64):
        K = len(ids)
        last_K = np.array([text[-1] if text else BLANK for text in ids])
        whole_K = np.logaddexp(ends_blank_K, ends_token_K)
        stays_blank_K = whole_K + log_probs_V[BLANK]
        stays_token_K = ends_token_K + np.where(last_K == BLANK, -np.inf, log_probs_V[last_K])
        grown_KV = whole_K[:, None] + log_probs_V
        grown_KV[np.arange(K), last_K] = ends_blank_K + log_probs_V[last_K]
        grown_KV[:, ~tokens_V] = -np.inf
        # if a text and its prefix are both in the beam, merge the two ways to reach the text
        place = {text: index for index, text in enumerate(ids)}
        for index, text in enumerate(ids):
            parent = place.get(text[:-1]) if text else None
            if parent is not None:
                stays_token_K[index] = np.logaddexp(stays_token_K[index], grown_KV[parent, text[-1]])
                grown_KV[parent, text[-1]] = -np.inf
        stays_K = np.logaddexp(stays_blank_K, stays_token_K) + prior_K
        scores = np.concatenate([stays_K, (grown_KV + prior_K[:, None] + growth_KV).ravel()])
        best = _best(scores, beam_size)
        old, new = best[best < K], best[best >= K] - K
        parents, said = new // V, new % V
        grown = [(*ids[parent], int(token)) for parent, token in zip(parents, said, strict=True)]
        ids = [ids[index] for index in old] + grown
        ends_blank_K = np.append(stays_blank_K[old], np.full(len(new), -np.inf))
        ends_token_K = np.append(stays_token_K[old], grown_KV[parents, said])
        prior_K = np.append(prior_K[old], prior_K[parents] + growth_KV[parents, said])
        if scorer and weight:
            growth_KV = np.stack([*growth_KV[old], *(next_prior(text) for text in grown)])
        else:
            growth_KV = np.full((len(ids), V), bonus)
    found_K = np.logaddexp(ends_blank_K, ends_token_K)
    if scorer and weight and end is not None:
        prior_K = prior_K + growth_KV[:, end] - bonus
    readings = [Reading(text, float(p), float(p + prior)) for text, p, prior in zip(ids, found_K, prior_K, strict=True)]
    return sorted(readings, key=lambda reading: (-reading.score, reading.ids))


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` highest finite scores, in ascending order."""
    possible = np.flatnonzero(scores > -np.inf)
    if len(possible) > count:
        possible = possible[np.argpartition(-scores[possible], count - 1)[:count]]
    return np.sort(possible)


def aligned(log_probs_TV: np.ndarray, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Forced alignment: the first frame and the frame after the last of each token on the text's likeliest path
    (Viterbi 1967).

    Raises:
        ValueError: the text needs more frames than there are.
    """
    states = np.full(2 * len(ids) + 1, BLANK)  # a blank before, between and after the tokens
    states[1::2] = ids
    S, T = len(states), len(log_probs_TV)
    # the blank between two different tokens may be skipped
    skips_S = np.zeros(S, dtype=bool)
    skips_S[3::2] = states[3::2] != states[1:-2:2]
    best_S = np.full(S, -np.inf)
    best_S[:2] = log_probs_TV[0, states[:2]] if T else -np.inf
    before_TS = np.zeros((T, S), dtype=np.int64)
    for t in range(1, T):
        came = np.full((3, S), -np.inf)  # from the same state, the one before, the one before that
        came[0], came[1, 1:], came[2, 2:] = best_S, best_S[:-1], np.where(skips_S[2:], best_S[:-2], -np.inf)
        before_TS[t] = came.argmax(axis=0)
        best_S = came.max(axis=0) + log_probs_TV[t, states]
    state = S - 1 if S == 1 or best_S[-1] >= best_S[-2] else S - 2
    if not T or best_S[state] == -np.inf:
        raise ValueError(f"{len(ids)} tokens can't be aligned with only {T} frames")
    path = [state]
    for t in range(T - 1, 0, -1):
        path.append(path[-1] - before_TS[t, path[-1]])
    path_T = np.array(path[::-1])
    ends = [np.flatnonzero(path_T == place) for place in range(1, S, 2)]
    return [(int(frames[0]), int(frames[-1]) + 1) for frames in ends]


class ModelScorer:
    """A trained language model as a Scorer over the ids of another `vocabulary` with the same unit. Tokens outside its
    own vocabulary count as UNK.

    The state after each text is cached, so that a text only needs one step from the text without its last token.
    """

    remembered = 1 << 16  # texts in the cache, which is cleared when full

    def __init__(self, model: nn.Module, known: Vocabulary, vocabulary: Vocabulary) -> None:
        self.model = model.eval()
        ordinary = known.ids(vocabulary.tokens[len(SPECIALS) :])
        self.ids_V = np.concatenate([np.arange(len(SPECIALS)), ordinary])
        self._memory: dict[tuple[int, ...], tuple[np.ndarray, State]] = {}

    def __call__(self, text: tuple[int, ...]) -> np.ndarray:
        """log p [V] of the next token after the text, or of the end (EOS)."""
        return self._after(text)[0]

    @torch.inference_mode()
    def _after(self, text: tuple[int, ...]) -> tuple[np.ndarray, State]:
        if text not in self._memory:
            # one step, as the texts in the beam grow by one token; more after the cache was cleared
            start = len(text)
            while start and text[:start] not in self._memory:
                start -= 1
            if not start and () not in self._memory:
                self._memory[()] = self._step(BOS, self.model.initial_state(1))
            for length in range(start + 1, len(text) + 1):
                before = self._memory[text[: length - 1]][1]
                self._memory[text[:length]] = self._step(int(self.ids_V[text[length - 1]]), before)
        found = self._memory[text]
        if len(self._memory) > self.remembered:
            self._memory = {}
        return found

    def _step(self, id: int, state: State) -> tuple[np.ndarray, State]:
        device = next(self.model.parameters()).device
        logits_BV, state = self.model.step(torch.tensor([[id]], device=device), state)
        never = torch.tensor([PAD, BOS], device=device)
        log_probs = logits_BV[0].float().index_fill(0, never, -torch.inf).log_softmax(dim=0)
        return log_probs.cpu().numpy()[self.ids_V], state
