"""Handwriting: parameters of the distribution of the next point, optionally with a soft window over a text.

Shapes: B batch, T steps, H hidden, P parameters, U characters of the text, V size of the alphabet, K Gaussians of the
window.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field as Bounds
from torch import Tensor, nn
from torch.nn.functional import one_hot

from components.encodings.base import Field
from components.encodings.strokes import MOST_TEXT, WIDTH
from components.encodings.vocabulary import PAD
from components.layers.base import State
from components.models.backbone import Backbone
from components.models.distributions import PenMixture

AT, SEEN = "window.at", "window.seen"  # entries of a state: the positions κ [B, K], and the window's output [B, V]
SLOW = -2.5  # initial log step of the window: e^−2.5 is a character in twelve points
# upper limits of the logarithms of the window's parameters: the height and inverse width of a Gaussian e^−β(κ − u)²,
# and the characters per step
HIGHEST, NARROWEST, FASTEST = 5.0, 4.6, 3.0


class SoftWindow(nn.Module):
    """A soft attention window over the text (Graves 2013, eq. 46 to 51): K Gaussians over character positions that only
    move forwards. Its output is the weighted sum of the characters' one-hot vectors."""

    def __init__(self, width: int, gaussians: int) -> None:
        super().__init__()
        self.gaussians = gaussians
        self.linear = nn.Linear(width, 3 * gaussians)
        with torch.no_grad():
            self.linear.bias[2 * gaussians :] += SLOW
        most = torch.tensor([HIGHEST, NARROWEST, FASTEST]).repeat_interleave(gaussians)
        self.register_buffer("most", most, persistent=False)
        self.register_buffer("places_U", torch.arange(MOST_TEXT + 1.0), persistent=False)

    def forward(self, y_BH: Tensor, at_BK: Tensor, text_BUV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The window's output [B, V], the positions after this step [B, K], and the weights φ [B, U] of the characters
        and of the end of `text`."""
        height_BK, beta_BK, step_BK = torch.minimum(self.linear(y_BH).float(), self.most).exp().chunk(3, dim=1)
        at_BK = at_BK + step_BK
        away_BKU = at_BK.unsqueeze(2) - self.places_U[: text_BUV.shape[1]]
        phi_BKU = height_BK.unsqueeze(2) * torch.exp(-beta_BK.unsqueeze(2) * away_BKU.square())
        phi_BU = phi_BKU.sum(dim=1)
        seen_BV = torch.bmm(phi_BU.to(text_BUV).unsqueeze(1), text_BUV).squeeze(1)
        return seen_BV, at_BK, phi_BU


class StrokeModel(Backbone):
    """Backbone → linear head: the parameters of a mixture of `gaussians` Gaussians for each point.

    Models with texts read them through a soft window of `window_gaussians`, moved by the last layer's output. The
    window's output is an input of the head and, a step later, of the first layer. So steps are sequential, and
    recurrent and locked dropout draw a mask at each step. Models without texts run all steps at once and ignore
    `window_gaussians`. `input`, `embedding_size`, `embedding_scale` and `vectors` are ignored: points have no
    embedding.
    """

    def __init__(
        self,
        characters: int,
        /,
        *,
        gaussians: Annotated[int, Bounds(gt=0, le=200)] = 20,
        window_gaussians: Annotated[int, Bounds(gt=0, le=100)] = 10,
        **options: Any,
    ) -> None:
        super().__init__([Field(width=WIDTH + characters)], **options)
        self.characters, self.mixture = characters, PenMixture(gaussians)
        width = self.recurrent.output_size
        self.window = SoftWindow(width, window_gaussians) if characters else None
        self.at_once = self.window is None  # whether the layers run over a whole piece at once
        self.head = nn.Linear(width + characters, self.mixture.parameters)

    def initial_state(self, batch_size: int) -> State:
        """The state before the first point; the window is before the text."""
        state = super().initial_state(batch_size)
        if self.window is None:
            return state
        zeros = self.head.bias.new_zeros
        at, seen = zeros(batch_size, self.window.gaussians), zeros(batch_size, self.characters)
        return state | {AT: at.float(), SEEN: seen}

    def forward(self, points_BT3: Tensor, text_BU: Tensor | None = None) -> Tensor:
        """Parameters [B, T, P] of the point after each; `text` holds ids, PAD after its end."""
        if self.window is None:
            return self.head(self.outputs(points_BT3)[0])
        text_BUV, state = self.letters(text_BU), self.initial_state(len(points_BT3))
        outputs, seen = [], []
        for point_B3 in points_BT3.unbind(1):
            y_BH, state, _ = self._advance(point_B3, state, text_BUV)
            outputs.append(y_BH)
            seen.append(state[SEEN])
        return self._mixed(torch.stack(outputs, dim=1), torch.stack(seen, dim=1))

    def step(
        self, point_B3: Tensor, state: State, text_BUV: Tensor | None = None
    ) -> tuple[Tensor, State, Tensor | None]:
        """The parameters [B, P] after one more point, the state, and the window's weights φ [B, U + 1]."""
        if text_BUV is None:
            y_BH, state = self.recurrent.step(point_B3, state)
            return self.head(self.dropout(y_BH)), state, None
        y_BH, state, phi_BU = self._advance(point_B3, state, text_BUV)
        return self._mixed(y_BH, state[SEEN]), state, phi_BU

    def letters(self, text_BU: Tensor) -> Tensor:
        """One-hot characters [B, U + 1, V], zeros after the text's end; the last position is after all texts."""
        here_BU1 = (text_BU != PAD).unsqueeze(2)
        text_BUV = (one_hot(text_BU, self.characters) * here_BU1).to(self.head.weight.dtype)
        return nn.functional.pad(text_BUV, (0, 0, 0, 1))

    def _advance(self, point_B3: Tensor, state: State, text_BUV: Tensor) -> tuple[Tensor, State, Tensor]:
        """The last layer's output [B, H], the state and the window's weights after one more point."""
        y_BH, after = self.recurrent.step(torch.cat([point_B3, state[SEEN]], dim=1), state)
        seen_BV, at_BK, phi_BU = self.window(y_BH, state[AT], text_BUV)
        return y_BH, after | {AT: at_BK, SEEN: seen_BV}, phi_BU

    def _mixed(self, y: Tensor, seen: Tensor) -> Tensor:
        """The head's output for outputs [..., H] and window outputs [..., V]."""
        return self.head(torch.cat([self.dropout(y), seen], dim=-1))
