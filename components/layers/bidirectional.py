"""Two layers over one sequence, one in each direction (Schuster & Paliwal 1997)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from components.errors import UserError
from components.layers.base import Recurrent, State, part_of

DIRECTIONS = ("forward", "backward")


class Bidirectional(Recurrent):
    """y⟨t⟩ = [forward output, backward output] at t, which depend on the whole sequence.

    The backward layer starts at each row's end; its final state is the one at the row's beginning. So states must not
    be carried from one window to the next. They are named "forward.h", "backward.h" …
    """

    causal = False

    def __init__(self, forward: Recurrent, backward: Recurrent, /) -> None:
        super().__init__()
        self.directions = nn.ModuleList([forward, backward])
        self.input_size, self.output_size = forward.input_size, forward.output_size + backward.output_size

    def initial_state(self, batch_size: int) -> State:
        return _named([layer.initial_state(batch_size) for layer in self.directions])

    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        ahead, back = self.directions
        y_ahead, after_ahead = ahead(x_BTI, part_of(state, DIRECTIONS[0]), lengths_B)
        y_back, after_back = back(reverse(x_BTI, lengths_B), part_of(state, DIRECTIONS[1]), lengths_B)
        return torch.cat([y_ahead, reverse(y_back, lengths_B)], dim=-1), _named([after_ahead, after_back])

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        """Not possible: the output of a step depends on the steps after it.

        Raises:
            UserError: always.
        """
        raise UserError(
            "a bidirectional layer needs the whole sequence, so it can't be run step by step",
            where="model.bidirectional",
            hint="to generate, train a model with model.bidirectional: false",
        )


def reverse(x_BTX: Tensor, lengths_B: Tensor | None = None) -> Tensor:
    """Each row's steps in reverse order; padding stays at the end."""
    if lengths_B is None:
        return x_BTX.flip(1)
    t_1T, lengths_B1 = torch.arange(x_BTX.shape[1], device=x_BTX.device)[None], lengths_B.to(x_BTX.device)[:, None]
    source_BT = torch.where(t_1T < lengths_B1, lengths_B1 - 1 - t_1T, t_1T)
    return x_BTX.gather(1, source_BT[:, :, None].expand_as(x_BTX))


def _named(states: list[State]) -> State:
    return {f"{at}.{k}": v for at, state in zip(DIRECTIONS, states, strict=True) for k, v in state.items()}
