"""Frames in, a distribution over the next frame out, its keys not independent of each other.

Shapes: B batch, T time, K keys, H outputs of the recurrent stack, N = B·T frames, D hidden units of the NADE.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.encodings.base import Field
from components.layers.base import State, moved
from components.models.backbone import Backbone

CHUNK = 1024  # frames at once: the keys' hidden units of more would fill the memory


class FrameModel(Backbone):
    """Backbone → P(frame), key by key.

    `output: nade` is the RNN-NADE of Boulanger-Lewandowski et al. (2012) after Larochelle & Murray (2011): key k is on
    with probability σ(b_k + V_k · h_k), h_k = σ(c + Σ_{j<k} W_j v_j) of `nade_size`, where the biases b and c are
    linear in the stack's output. `independent`: σ(b_k) alone.
    """

    def __init__(
        self,
        frames: Field,
        /,
        *,
        output: Literal["nade", "independent"] = "nade",
        nade_size: Annotated[int, Bounds(gt=0, le=4096)] = 128,
        **options: Any,
    ) -> None:
        super().__init__([frames], **options)
        K, size = frames.width, self.recurrent.output_size
        self.visible = nn.Linear(size, K)
        self.hidden = nn.Linear(size, nade_size) if output == "nade" else None
        if self.hidden is not None:
            self.read = nn.Parameter(torch.randn(K, nade_size) * 0.05)  # W
            self.write = nn.Parameter(torch.randn(K, nade_size) * 0.05)  # V

    def forward(self, inputs_BTK: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The stack's outputs [B, T, H] after each frame, which say what the next one may be; and the state."""
        return self.outputs(inputs_BTK, state)

    def nats(self, y_NH: Tensor, frames_NK: Tensor) -> Tensor:
        """−log P of each frame given the stack's output before it, [N]. Frames may stay on the CPU: then nobody waits
        to know how many keys are on."""
        parts = zip(y_NH.split(CHUNK), frames_NK.split(CHUNK), strict=True)
        return torch.cat([self._nats(y, frames) for y, frames in parts])

    def _nats(self, y_NH: Tensor, frames_NK: Tensor) -> Tensor:
        logits_NK = self.visible(y_NH)
        if self.hidden is not None:
            logits_NK = logits_NK + self._from_keys_before(self.hidden(y_NH), frames_NK)
        losses_NK = nn.functional.binary_cross_entropy_with_logits(
            logits_NK, moved(frames_NK, y_NH.device), reduction="none"
        )
        return losses_NK.sum(dim=1)

    def _from_keys_before(self, c_ND: Tensor, frames_NK: Tensor) -> Tensor:
        """V_k · h_k [N, K]. h changes only after a key that is on: where M − 1 of them are on, M different h stand for
        all K."""
        N, K = frames_NK.shape
        on_NK = frames_NK > 0.5
        before_NK = on_NK.cumsum(dim=1) - on_NK.long()
        rows, keys = on_NK.nonzero(as_tuple=True)
        on_keys_NM = torch.full((N, int(on_NK.sum(dim=1).max())), K, device=keys.device)  # K: none
        on_keys_NM[rows, before_NK[rows, keys]] = keys
        on_keys_NM, before_NK = moved(on_keys_NM, c_ND.device), moved(before_NK, c_ND.device)
        read = torch.cat([self.read, self.read.new_zeros(1, self.read.shape[1])])
        sums_NMD = torch.cat([torch.zeros_like(c_ND).unsqueeze(1), read[on_keys_NM].cumsum(dim=1)], dim=1)
        logits_NMK = torch.sigmoid(c_ND.unsqueeze(1) + sums_NMD) @ self.write.t()
        return logits_NMK.gather(1, before_NK.unsqueeze(1)).squeeze(1)

    def step(self, frame_NK: Tensor, state: State) -> tuple[Tensor, State]:
        """The stack's outputs [N, H] after one more frame, and the state."""
        y_NH, state = self.recurrent.step(self.rows(frame_NK), state)
        return self.dropout(y_NH), state

    def sample(self, y_NH: Tensor, uniform_NK: Tensor, temperature: float) -> Tensor:
        """A frame [N, K] for each output, key k on where `uniform` is below its probability. `temperature` divides the
        logits; 0 takes the likelier of on and off."""
        logits_NK = self.visible(y_NH)
        hidden_ND = self.hidden(y_NH) if self.hidden is not None else None
        frames_NK = torch.zeros_like(uniform_NK)
        for key in range(uniform_NK.shape[1]):
            logit_N = logits_NK[:, key]
            if hidden_ND is not None:
                logit_N = logit_N + torch.sigmoid(hidden_ND) @ self.write[key]
            chance_N = torch.sigmoid(logit_N / temperature) if temperature else (logit_N > 0).to(logit_N)
            on_N = (uniform_NK[:, key] < chance_N).to(logit_N)
            frames_NK[:, key] = on_N
            if hidden_ND is not None:
                hidden_ND = hidden_ND + on_N.unsqueeze(1) * self.read[key]
        return frames_NK
