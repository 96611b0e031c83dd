"""The neural cache: tokens that followed similar states become more likely (Grave et al. 2017, arXiv:1612.04426).

N steps of one text in order, H outputs of the last layer, C steps of a chunk, M steps in their cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from components.datasets.batches.truncated import Batches
from components.encodings.vocabulary import PAD
from components.models.sequence_model import SequenceModel
from components.tasks.base import to_device

CHUNK = 512  # steps whose similarities are computed at once


@torch.inference_mode()
def read(model: SequenceModel, batches: Batches) -> tuple[Tensor, Tensor, Tensor]:
    """Run the model over one row: the nats of each step's target [N], the outputs [N, H], and the targets [N]."""
    found, state = [], None
    for batch in batches.epoch():
        inputs_BTS, targets_BT = to_device(batch.inputs_BTS, model), to_device(batch.targets_BT, model)
        y_BTH, state = model.outputs(inputs_BTS, state)
        beside = (stream.flatten(0, 1) for stream in model.beside(inputs_BTS))
        nats_N, _ = model.head.judge(y_BTH.flatten(0, 1), targets_BT.flatten(), *beside)
        counted_N = targets_BT.flatten() != PAD
        found.append((nats_N[counted_N], y_BTH.flatten(0, 1)[counted_N], targets_BT.flatten()[counted_N]))
    nats_N, y_NH, targets_N = (torch.cat(each) for each in zip(*found, strict=True))
    return nats_N, y_NH, targets_N


@torch.inference_mode()
def cache_probabilities(
    y_NH: Tensor, targets_N: Tensor, asked_N: Tensor | None = None, *, size: int, flatness: float
) -> Tensor:
    """The cache's probability of each step's target (or of the token `asked_N`): the share of the last `size` steps
    before it with this target, each weighted by exp(flatness · its outputs · those of the step). 0 at the first step,
    where the cache is empty."""
    asked_N = targets_N if asked_N is None else asked_N
    y_NH = y_NH.float()
    found_N = y_NH.new_zeros(len(y_NH))
    for start in range(0, len(y_NH), CHUNK):
        stop, first = min(start + CHUNK, len(y_NH)), max(0, start - size)
        at_C, before_M = (torch.arange(*ends, device=y_NH.device) for ends in ((start, stop), (first, stop)))
        age_CM = at_C[:, None] - before_M
        likeness_CM = flatness * (y_NH[start:stop] @ y_NH[first:stop].t())
        likeness_CM = likeness_CM.masked_fill((age_CM < 1) | (age_CM > size), -torch.inf)
        share_CM = likeness_CM.softmax(dim=1).nan_to_num()  # 0 / 0 for a step with an empty cache
        found_N[start:stop] = (share_CM * (targets_N[first:stop] == asked_N[start:stop, None])).sum(dim=1)
    return found_N


def mixed(nats_N: Tensor, cached_N: Tensor, weight: float) -> Tensor:
    """Nats, float64 [N], of (1 − weight) · the model's probability + weight · the cache's; at the first step, with an
    empty cache, of the model's alone."""
    weight_N = torch.full_like(nats_N, weight, dtype=torch.float64)
    weight_N[:1] = 0.0
    return -torch.log((1 - weight_N) * (-nats_N.double()).exp() + weight_N * cached_N.double())
