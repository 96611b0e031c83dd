"""A linear-chain conditional random field (Lafferty et al. 2001): the labels of a sequence are scored together.

The score of labels y is Σ⟨t⟩ emission⟨t⟩[y⟨t⟩] + transition[y⟨t−1⟩, y⟨t⟩], with a score for the first label and one for
the last; p(y) = exp(score(y)) / Σ exp(score(any)). Everything is in nats.

Shapes: B rows, T steps, Y labels. scores_BTYY[b, t, i, j] is the score that label j at step t adds after label i; at
step 0, which has no previous label, it is the same for every i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMPOSSIBLE = -1e4  # nats: its exp is 0; unlike −inf, its gradient isn't NaN if no label is possible


class LinearChainCRF(nn.Module):
    """Emissions → scores of a chain. `constrain` sets which labels may follow each other."""

    def __init__(self, labels: int, /) -> None:
        super().__init__()
        self.transition_YY = nn.Parameter(torch.zeros(labels, labels))
        self.first_Y, self.last_Y = nn.Parameter(torch.zeros(labels)), nn.Parameter(torch.zeros(labels))
        # computed from the labels when the model is built, so not stored
        self.register_buffer("forbidden_YY", torch.zeros(labels, labels, dtype=torch.bool), persistent=False)
        self.register_buffer("forbidden_first_Y", torch.zeros(labels, dtype=torch.bool), persistent=False)

    def constrain(self, allowed_YY: Tensor, allowed_first_Y: Tensor) -> None:
        """Allow only these transitions and first labels (bool)."""
        self.forbidden_YY.copy_(~allowed_YY)
        self.forbidden_first_Y.copy_(~allowed_first_Y)

    def forward(self, emissions_BTY: Tensor, lengths_B: Tensor) -> Tensor:
        """scores_BTYY, float32; steps after a row's end are ignored downstream."""
        emissions_BTY = emissions_BTY.float()  # differences of long sums need float32
        transition_YY = self.transition_YY.masked_fill(self.forbidden_YY, IMPOSSIBLE)
        first_Y = self.first_Y.masked_fill(self.forbidden_first_Y, IMPOSSIBLE)
        Y = len(first_Y)
        before_TYY = torch.cat([first_Y.expand(1, Y, Y), transition_YY.expand(emissions_BTY.shape[1] - 1, Y, Y)])
        steps_T = torch.arange(emissions_BTY.shape[1], device=emissions_BTY.device)
        ends_BT = (steps_T == lengths_B[:, None] - 1).unsqueeze(2)
        return (emissions_BTY + self.last_Y * ends_BT).unsqueeze(2) + before_TYY


def log_partition(scores_BTYY: Tensor, lengths_B: Tensor) -> Tensor:
    """log Σ exp(score) over all label sequences of each row, [B]: the forward algorithm. 0 for empty rows.

    Its gradient with respect to `scores_BTYY` is the probability of each pair of labels; to the emissions, of each
    label.
    """
    alpha_BY = scores_BTYY[:, 0, 0]
    for t in range(1, scores_BTYY.shape[1]):
        after_BY = (alpha_BY.unsqueeze(2) + scores_BTYY[:, t]).logsumexp(1)
        alpha_BY = torch.where((t < lengths_B).unsqueeze(1), after_BY, alpha_BY)
    return alpha_BY.logsumexp(1) * (lengths_B > 0)


def nats(scores_BTYY: Tensor, labels_BT: Tensor, lengths_B: Tensor) -> Tensor:
    """−log p of each row's labels, [B]. A label of −1 is unknown: it is summed over (Tsuboi et al. 2008)."""
    labels_Y = torch.arange(scores_BTYY.shape[-1], device=scores_BTYY.device)
    other_BTY = (labels_Y != labels_BT.unsqueeze(2)) & (labels_BT >= 0).unsqueeze(2)
    given_BTYY = scores_BTYY.masked_fill(other_BTY.unsqueeze(2), IMPOSSIBLE)
    # both sums in one pass over the steps
    every_B, given_B = log_partition(torch.cat([scores_BTYY, given_BTYY]), lengths_B.repeat(2)).chunk(2)
    return every_B - given_B


def best_labels(scores_BTYY: Tensor, lengths_B: Tensor) -> Tensor:
    """The most likely labels of each row, int64 [B, T], 0 after its end (Viterbi 1967)."""
    delta_BY, T = scores_BTYY[:, 0, 0], scores_BTYY.shape[1]
    stay_BY = torch.arange(delta_BY.shape[1], device=delta_BY.device).expand_as(delta_BY)
    before = []  # previous label of the best path to each label; after a row's end, the label itself
    for t in range(1, T):
        alive_B1 = (t < lengths_B).unsqueeze(1)
        best_BY, from_BY = (delta_BY.unsqueeze(2) + scores_BTYY[:, t]).max(1)
        delta_BY = torch.where(alive_B1, best_BY, delta_BY)
        before.append(torch.where(alive_B1, from_BY, stay_BY))
    path = [delta_BY.argmax(1, keepdim=True)]
    for from_BY in reversed(before):
        path.append(from_BY.gather(1, path[-1]))
    labels_BT = torch.cat(path[::-1], dim=1)
    return labels_BT * (torch.arange(T, device=labels_BT.device) < lengths_B.unsqueeze(1))
