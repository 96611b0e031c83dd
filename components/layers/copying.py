"""An output layer with a copy mechanism: a mixture of a softmax over the vocabulary and copies of earlier tokens.

N steps (any number of leading dimensions), H hidden, V vocabulary, L copy candidates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.encodings.vocabulary import PAD
from components.kernels.head import step_nats
from components.layers.base import moved
from components.layers.softmax import BLOCK, FullSoftmax


class CopySoftmax(nn.Module):
    """P(token) = g₀ softmax(W y + b)[token] + Σ_l g_l [token = candidate l]: a pointer-generator without attention (See
    et al. 2017, arXiv:1704.04368). The candidates are given; when to copy is learned.

    The gates are a softmax over a linear map of y and learned vectors of the matches. The match of a candidate is a
    class: how well the text so far agrees with the candidate's context. A missing candidate (PAD) has gate 0. There are
    no labels for copying: training and evaluation use the likelihood of the mixture.
    """

    def __init__(self, size: int, vocabulary_size: int, places: int, matches: int, /) -> None:
        super().__init__()
        self.words = FullSoftmax(size, vocabulary_size)
        self.gates = nn.Linear(size, 1 + places)
        self.agreement = nn.Embedding(places * matches, 1 + places)
        nn.init.zeros_(self.agreement.weight)
        self.register_buffer("starts_L", torch.arange(places) * matches, persistent=False)

    def forward(
        self,
        y_NH: Tensor,
        candidates_NL: Tensor,
        matches_NL: Tensor,
        *,
        temperature: float = 1.0,
        gate_temperature: float = 1.0,
        leanings_NL: Tensor | None = None,
    ) -> Tensor:
        """Log-probabilities [N, V], with separate temperatures for the softmax and the gates. `leanings`: log of the
        factor by which each candidate's gate is multiplied."""
        gates_NG = self._log_gates(y_NH, candidates_NL, matches_NL, gate_temperature)
        if leanings_NL is not None:
            gates_NG = (gates_NG + nn.functional.pad(leanings_NL, (1, 0))).log_softmax(dim=-1)
        written_NV = (self.words(y_NH).float() / temperature).log_softmax(dim=-1) + gates_NG[..., :1]
        copied_NV = torch.zeros_like(written_NV).scatter_add(-1, candidates_NL, gates_NG[..., 1:].exp())
        return torch.logaddexp(written_NV, copied_NV.clamp_min(torch.finfo(torch.float32).tiny).log())

    def loss(
        self, y_BTH: Tensor, targets_BT: Tensor, ignore_index: int, candidates_BTL: Tensor, matches_BTL: Tensor
    ) -> Tensor:
        """Sum of the nats of all targets other than `ignore_index`."""
        targets_BT = moved(targets_BT, y_BTH.device)
        nats_BT = step_nats(y_BTH, self.words.weight, self.words.bias, targets_BT, ignore_index=ignore_index)
        nats_BT = self._mixed(y_BTH, nats_BT, targets_BT, candidates_BTL, matches_BTL)
        return nats_BT.masked_fill(targets_BT == ignore_index, 0.0).sum()

    def nats(self, y_NH: Tensor, candidates_NL: Tensor, matches_NL: Tensor, targets_N: Tensor) -> Tensor:
        """The nats of each target."""
        nats_N = nn.functional.cross_entropy(self.words(y_NH).float(), targets_N, reduction="none")
        return self._mixed(y_NH, nats_N, targets_N, candidates_NL, matches_NL)

    def judge(
        self, y_NH: Tensor, targets_N: Tensor, candidates_NL: Tensor, matches_NL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The nats of each target, and the most likely token of each step."""
        rows = max(1, BLOCK // len(self.words.weight))
        parts = zip(*(x.split(rows) for x in (y_NH, targets_N, candidates_NL, matches_NL)), strict=True)
        judged = []
        for y, targets, candidates, matches in parts:
            logp = self(y, candidates, matches)
            judged.append((-logp.gather(1, targets[:, None]).squeeze(1), logp.argmax(dim=1)))
        nats, best = zip(*judged, strict=True)
        return torch.cat(nats), torch.cat(best)

    def _mixed(
        self, y_NH: Tensor, nats_N: Tensor, targets_N: Tensor, candidates_NL: Tensor, matches_NL: Tensor
    ) -> Tensor:
        """Nats of the mixture, given those of the softmax alone, `nats_N`."""
        gates_NG = self._log_gates(y_NH, candidates_NL, matches_NL)
        copied_NL = gates_NG[..., 1:].masked_fill(candidates_NL != targets_N[..., None], -torch.inf)
        written_N1 = (gates_NG[..., 0] - nats_N)[..., None]
        return -torch.cat([written_N1, copied_NL], dim=-1).logsumexp(dim=-1)

    def _log_gates(self, y_NH: Tensor, candidates_NL: Tensor, matches_NL: Tensor, temperature: float = 1.0) -> Tensor:
        """Log gates [N, 1 + L], the softmax's first."""
        scores_NG = (self.gates(y_NH) + self.agreement(matches_NL + self.starts_L).sum(dim=-2)).float()
        closed_NG = nn.functional.pad(candidates_NL == PAD, (1, 0), value=False)
        return (scores_NG.masked_fill(closed_NG, -torch.inf) / temperature).log_softmax(dim=-1)
