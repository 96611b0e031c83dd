"""Output layers of a language model: distributions over V words, and their losses.

Three kinds: full; adaptive, with rare words in clusters; and sampled, which trains on a sample of the words. Evaluation
and generation are exact in each of them.

`loss` takes targets on the CPU, where the batch was built: the number of counted steps and the rare words are known
there without waiting for the outputs' device.

N steps, H hidden, V vocabulary, C candidates. Ids are ranks: the vocabulary is ordered by decreasing count.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.errors import UserError
from components.kernels.head import cross_entropy
from components.layers.base import moved, steps_where

BLOCK = 1 << 24  # logits held at once in evaluation: 64 MiB
CUTOFFS = (4_000, 40_000, 200_000)


class FullSoftmax(nn.Linear):
    """Linear layer → logits of all words."""

    sparse = False  # whether the matrix has sparse gradients

    def loss(self, y_BTH: Tensor, targets_BT: Tensor, ignore_index: int) -> Tensor:
        """The training loss: sum of the nats of all targets other than `ignore_index`."""
        # linear layer and cross-entropy fused: the native kernel overwrites the logits by their gradient
        targets_BT = moved(targets_BT, y_BTH.device)
        return cross_entropy(y_BTH, self.weight, self.bias, targets_BT, ignore_index=ignore_index)

    def judge(self, y_NH: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """The nats of each target, and the most likely word of each step. At most BLOCK logits at once, so that a
        million words fit into memory."""
        V = len(self.weight)
        width = max(1, BLOCK // max(1, len(y_NH)))
        if width >= V:
            logits_NV = self(y_NH).float()
            return F.cross_entropy(logits_NV, targets_N, reduction="none"), logits_NV.argmax(dim=1)
        total_N = y_NH.new_full((len(y_NH),), -torch.inf, dtype=torch.float32)
        highest_N, best_N = total_N.clone(), torch.zeros_like(targets_N)
        for start in range(0, V, width):
            logits = F.linear(y_NH, self.weight[start : start + width], self.bias[start : start + width]).float()
            total_N = torch.logaddexp(total_N, logits.logsumexp(dim=1))
            peak_N, at_N = logits.max(dim=1)
            best_N = torch.where(peak_N > highest_N, at_N + start, best_N)
            highest_N = torch.maximum(peak_N, highest_N)
        return total_N - self._of(y_NH, targets_N), best_N

    def _of(self, y_NH: Tensor, ids_N: Tensor) -> Tensor:
        """The logit of each step's id."""
        return (y_NH * F.embedding(ids_N, self.weight, sparse=self.sparse)).float().sum(dim=1) + self.bias[ids_N]


class SampledSoftmax(FullSoftmax):
    """Training compares each target with a sample of the words instead of all (Jean et al. 2015, arXiv:1412.2007).

    Each word is independently a candidate with probability Q, that of being among `samples` log-uniform draws (Zipf's
    law over ranks). Given that the right word is the target or a candidate, it is word w with probability
    ∝ P(w) / Q(w); so cross-entropy is applied to logits − log Q, and the logits become those of the full softmax. The
    sampled loss is lower than the nats, since there are fewer alternatives.
    """

    def __init__(self, size: int, vocabulary_size: int, /, samples: int) -> None:
        super().__init__(size, vocabulary_size)
        ranks_V = torch.arange(vocabulary_size, dtype=torch.float64)
        draw_V = torch.log1p(1 / (ranks_V + 1)) / torch.log(torch.tensor(vocabulary_size + 1.0, dtype=torch.float64))
        chosen_V = -torch.expm1(samples * torch.log1p(-draw_V))
        self.chosen_V = chosen_V.float()  # always on the CPU, where candidates are drawn

    def loss(self, y_BTH: Tensor, targets_BT: Tensor, ignore_index: int) -> Tensor:
        """The sampled loss. Candidates are drawn anew in each training call; in evaluation mode they are fixed, so that
        the global random state isn't changed."""
        device = y_BTH.device
        y_NH, targets_N = counted(y_BTH, targets_BT, ignore_index)
        candidates_C = self.draw().nonzero().squeeze(1)
        chances_C, chances_N = (moved(self.chosen_V[ids].log(), device) for ids in (candidates_C, targets_N))
        candidates_C, targets_N = moved(candidates_C, device), moved(targets_N, device)
        logits_NC = F.linear(
            y_NH, F.embedding(candidates_C, self.weight, sparse=self.sparse), self.bias[candidates_C]
        ).float()
        logits_NC = logits_NC - chances_C
        logits_NC = logits_NC.masked_fill(candidates_C == targets_N[:, None], -torch.inf)  # counted separately
        true_N = self._of(y_NH, targets_N) - chances_N
        return (torch.cat([true_N[:, None], logits_NC], dim=1).logsumexp(dim=1) - true_N).sum()

    def draw(self) -> Tensor:
        """Draw the candidates: bool [V], the same on every device."""
        generator = None if self.training else torch.Generator().manual_seed(0)
        return torch.rand(self.chosen_V.shape, generator=generator) < self.chosen_V


class AdaptiveSoftmax(nn.Module):
    """Frequent words at the first level, the others in clusters, each narrower than the one before (Grave et al. 2017,
    arXiv:1609.04309): a rare word costs only its cluster. The logits are log-probabilities.

    `cutoffs`: the ids at which a new cluster begins. Cluster n reads H / 4ⁿ features; with a small H the divisor is
    smaller, so that the last cluster reads at least one.
    """

    def __init__(self, size: int, vocabulary_size: int, /, cutoffs: Sequence[int] | None) -> None:
        super().__init__()
        edges = cutoffs or [edge for edge in CUTOFFS if edge < vocabulary_size] or [vocabulary_size // 2]
        if sorted({*edges, 0, vocabulary_size}) != [0, *edges, vocabulary_size]:
            raise UserError(
                f"must increase and lie between 1 and {vocabulary_size - 1:,} (vocabulary size - 1), not {list(edges)}",
                where="model.cutoffs",
            )
        narrower = min(4.0, (size / 2) ** (1 / len(edges)))
        self.levels = nn.AdaptiveLogSoftmaxWithLoss(size, vocabulary_size, list(edges), narrower, head_bias=True)

    def forward(self, y: Tensor) -> Tensor:
        """Log-probabilities [..., V]."""
        return self.levels.log_prob(y.flatten(0, -2).float()).unflatten(0, y.shape[:-1])

    def loss(self, y_BTH: Tensor, targets_BT: Tensor, ignore_index: int) -> Tensor:
        """Sum of the nats of all targets other than `ignore_index`."""
        return self._nats(*counted(y_BTH, targets_BT, ignore_index)).sum()

    def judge(self, y_NH: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        """The nats of each target, and the most likely word of each step."""
        levels, shortlist = self.levels, self.levels.shortlist_size
        first = F.log_softmax(levels.head(y_NH.float()), dim=1)
        highest_N, best_N = first[:, :shortlist].max(dim=1)
        for index, cluster in enumerate(levels.tail):
            start, stop = levels.cutoffs[index], levels.cutoffs[index + 1]
            door_N = first[:, shortlist + index]
            # no word is more likely than its cluster
            for rows in (door_N > highest_N).nonzero().squeeze(1).split(max(1, BLOCK // (stop - start))):
                peak, at = (F.log_softmax(cluster(y_NH[rows].float()), dim=1) + door_N[rows, None]).max(dim=1)
                best_N[rows] = torch.where(peak > highest_N[rows], at + start, best_N[rows])
                highest_N[rows] = torch.maximum(peak, highest_N[rows])
        return self._nats(y_NH, targets_N), best_N

    def _nats(self, y_NH: Tensor, targets_N: Tensor) -> Tensor:
        """As `levels` computes it, but that selects each cluster's words on the device and waits for the result."""
        levels, targets_N, device = self.levels, targets_N.cpu(), y_NH.device
        with torch.autocast(device.type, enabled=False):  # the sums below are in float32
            y_NH = y_NH.float()
            first_N, logp_N = targets_N.clone(), y_NH.new_zeros(len(y_NH))  # at the first level: a word or a cluster
            for index, cluster in enumerate(levels.tail):
                start, stop = levels.cutoffs[index], levels.cutoffs[index + 1]
                rows_M = ((targets_N >= start) & (targets_N < stop)).nonzero().squeeze(1)
                if not len(rows_M):
                    continue
                first_N[rows_M] = levels.shortlist_size + index
                words_M, rows_M = moved(targets_N[rows_M] - start, device), moved(rows_M, device)
                inside_MV = F.log_softmax(cluster(y_NH.index_select(0, rows_M)), dim=1)
                logp_N = logp_N.index_copy(0, rows_M, inside_MV.gather(1, words_M[:, None]).squeeze(1))
            first_NV = F.log_softmax(levels.head(y_NH), dim=1)
            return -(logp_N + first_NV.gather(1, moved(first_N, device)[:, None]).squeeze(1))


def counted(y_BTH: Tensor, targets_BT: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """The outputs [N, H] of steps whose target isn't `ignore_index`, and these targets [N], on the CPU."""
    targets_BT = targets_BT.cpu()
    counts_BT = targets_BT != ignore_index
    return steps_where(y_BTH, counts_BT), targets_BT[counts_BT]
