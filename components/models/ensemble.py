"""Ensembles: several models trained together, with combined outputs.

Shapes: N members, B batch, T time, S ids to a step, I features of a step, O outputs of the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.models.backbone import Backbone

MEMBER = re.compile(r"members\.\d+\.")  # prefix of a member's parameters


class Ensemble(nn.Module):
    """`ensemble`: number of models trained together, each with its own loss and initial weights; the output is the mean
    of their probabilities at each step, of their numbers, or of a CRF's scores. Training and prediction take `ensemble`
    times as long.

    `join` combines the members' outputs [N, B, …] to [B, …].
    """

    def __init__(
        self,
        make: Callable[[], Backbone],
        join: Callable[[Tensor], Tensor],
        /,
        *,
        ensemble: Annotated[int, Bounds(ge=1, le=64)] = 1,
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(make() for _ in range(ensemble))
        self.join = join

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        """Combined outputs [B, …] for ids [B, T, S] or frames [B, T, I], or for the result of `first_inputs`: the
        members' embedded inputs, concatenated."""
        embedded = self.embeds and inputs.is_floating_point()
        each = inputs.chunk(len(self.members), dim=-1) if embedded else [inputs] * len(self.members)
        said = [member(own, lengths_B) for member, own in zip(self.members, each, strict=True)]
        return self.join(torch.stack(said))

    @property
    def embeds(self) -> bool:
        """Whether each member has its own embedding, so that their first layers read different numbers."""
        return self.members[0].embedding is not None

    @property
    def vectors(self) -> str | None:
        """See `Backbone`."""
        return self.members[0].vectors

    def take_vectors(self, vocabulary: Any) -> dict[str, float]:
        """See `Backbone.take_vectors`."""
        *_, shares = (member.take_vectors(vocabulary) for member in self.members)
        return shares

    def token_rows(self) -> dict[str, tuple[int, str]] | None:
        """See `Backbone.token_rows`."""
        rows = {}
        for number, member in enumerate(self.members):
            own = member.token_rows()
            if own is None:
                return None
            rows |= {f"members.{number}.{name}": place for name, place in own.items()}
        return rows


def members(model: nn.Module) -> list[nn.Module]:
    """The members of an ensemble; any other model itself."""
    return list(model.members) if isinstance(model, Ensemble) else [model]


def mean_probabilities(logits: Tensor) -> Tensor:
    """Log [B, …, O] of the mean of the members' probabilities, for logits [N, B, …, O]."""
    return logits.float().log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(logits))


def mean_chains(outputs: Tensor) -> Tensor:
    """The mean [B, T, Y, Y] of the scores of the members' CRFs, for [N, B, T, Y, Y]; without a CRF as
    `mean_probabilities`."""
    return outputs.mean(dim=0) if outputs.dim() == 5 else mean_probabilities(outputs)


def mean_thresholds(logits_NBO: Tensor) -> Tensor:
    """Logits [B, O] of the mean of the members' probabilities, for independent binary outputs."""
    passed_NBO = logits_NBO.float()
    yes_BO, no_BO = (nn.functional.logsigmoid(sign * passed_NBO).logsumexp(dim=0) for sign in (1, -1))
    return yes_BO - no_BO


def mean_numbers(outputs_NBO: Tensor) -> Tensor:
    """The mean [B, O] of the members' outputs."""
    return outputs_NBO.mean(dim=0)
