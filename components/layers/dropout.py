"""Dropout between layers: a new mask at every step, or one mask for a whole sequence."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

DropoutKind = Literal["plain", "locked"]


class LockedDropout(nn.Dropout):
    """Variational dropout (Gal & Ghahramani 2016): one mask per row and call, the same for all its steps.

    A call is a window: with truncated BPTT each window draws a new mask. A single step x_BI gets a mask too.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or x.dim() < 3:
            return super().forward(x)
        return x * super().forward(x.new_ones(x.shape[0], 1, x.shape[2]))


def make_dropout(kind: DropoutKind, rate: float) -> nn.Dropout:
    return LockedDropout(rate) if kind == "locked" else nn.Dropout(rate)
