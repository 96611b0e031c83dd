"""Activation regularization of a language model's last layer (Merity et al. 2018, arXiv:1708.02182).

Shapes: B batch, T time, H hidden.
"""

from __future__ import annotations

from torch import Tensor

from components.layers.base import moved


def activation_penalty(
    dropped_BTH: Tensor, y_BTH: Tensor, counted_BT: Tensor, *, activation: float, temporal: float
) -> Tensor:
    """The sum over the counted steps of `activation` times the mean square of the outputs after dropout, and `temporal`
    times the mean square of their change since the previous step, without dropout. `counted_BT` is bool, on the CPU or
    the outputs' device."""
    counted_BT = moved(counted_BT, y_BTH.device)
    nats_BT = activation * dropped_BTH.float().square().mean(dim=2)
    penalty = nats_BT.masked_fill(~counted_BT, 0.0).sum()
    if temporal:
        change_BT = y_BTH.float().diff(dim=1).square().mean(dim=2)
        penalty = penalty + temporal * change_BT.masked_fill(~counted_BT[:, 1:], 0.0).sum()
    return penalty
