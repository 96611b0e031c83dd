"""Models of frames: a distribution over the next frame, with dependent keys.

Shapes: B batch, T time, K keys, H outputs of the recurrent stack, N = B·T frames, D hidden units of the NADE.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.encodings.base import Field
from components.layers.base import State, moved
from components.models.backbone import Backbone
from components.models.frame_memory import FrameMemory
from components.models.note_head import NoteHead

CHUNK = 1024  # frames at once, to bound the memory of the keys' hidden units


class FrameModel(Backbone):
    """Backbone → P(frame), key by key or note by note.

    `output`: nade is the RNN-NADE of Boulanger-Lewandowski et al. (2012) after Larochelle & Murray (2011): key k is on
    with probability σ(b_k + V_k · h_k), h_k = σ(c + Σ_{j<k} W_j v_j), where the biases b and c are linear in the
    stack's output; with independent it is σ(b_k); with notes, the notes of the frame are predicted from the lowest up
    by a network shared by all keys (components.models.note_head). `nade_size`: size of h_k. `note_size`: hidden units
    per key of the network of notes. `note_dropout`: dropout rate of this network.
    """

    def __init__(
        self,
        frames: Field,
        /,
        *,
        output: Literal["nade", "independent", "notes"] = "nade",
        nade_size: Annotated[int, Bounds(gt=0, le=4096)] = 128,
        note_size: Annotated[int, Bounds(gt=0, le=1024)] = 32,
        note_dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.0,
        **options: Any,
    ) -> None:
        super().__init__([frames], **options)
        K, size = frames.width, self.recurrent.output_size
        self.notes = NoteHead(K, size, note_size, note_dropout) if output == "notes" else None
        if self.notes is not None:
            return
        self.visible = nn.Linear(size, K)
        self.hidden = nn.Linear(size, nade_size) if output == "nade" else None
        if self.hidden is not None:
            self.read = nn.Parameter(torch.randn(K, nade_size) * 0.05)  # W
            self.write = nn.Parameter(torch.randn(K, nade_size) * 0.05)  # V

    def memories(self, count: int) -> list[FrameMemory]:
        """A memory for each of `count` pieces; none if the model reads frames only."""
        return [FrameMemory(self.streams[0].width) for _ in range(count)] if self.notes is not None else []

    @staticmethod
    def inputs(frames_BTK: np.ndarray, memories: Sequence[FrameMemory]) -> np.ndarray:
        """The model's inputs, [B, T, I]: the frames and the features of each piece's memory."""
        if not memories:
            return frames_BTK
        told = np.stack([memory.read(frames) for memory, frames in zip(memories, frames_BTK, strict=True)])
        return np.concatenate([frames_BTK, told], axis=2)

    def forward(self, inputs_BTI: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The head's input for the next frame, [B, T, H]: the stack's outputs after each frame, with the features of
        `inputs` beside the frames; and the state."""
        y_BTH, state = self.outputs(self._frames(inputs_BTI), state)
        return self._with_told(y_BTH, inputs_BTI), state

    def _frames(self, inputs: Tensor) -> Tensor:
        return inputs[..., : self.streams[0].width] if self.notes is not None else inputs

    def _with_told(self, y: Tensor, inputs: Tensor) -> Tensor:
        return torch.cat([y, inputs[..., self.streams[0].width :]], dim=-1) if self.notes is not None else y

    def nats(self, y_NH: Tensor, frames_NK: Tensor) -> Tensor:
        """−log P of each frame given the stack's output before it, [N]. Frames may be on the CPU, where counting the
        keys that are on needs no synchronisation."""
        if self.notes is not None:
            return self.notes.nats(y_NH, frames_NK)
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
        """V_k · h_k [N, K]. h changes only after a key that is on: with M − 1 keys on, only M values of h are
        computed."""
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

    def step(self, inputs_NI: Tensor, state: State) -> tuple[Tensor, State]:
        """As `forward`, for one more frame: [N, H], and the state."""
        y_NH, state = self.recurrent.step(self.rows(self._frames(inputs_NI)), state)
        return self._with_told(self.dropout(y_NH), inputs_NI), state

    def sample(self, y_NH: Tensor, uniform_NK: Tensor, temperature: float) -> Tensor:
        """A frame [N, K] for each output; key k is on where `uniform` is below its probability. `temperature` divides
        the logits; 0 takes the more likely of on and off, or the most likely note."""
        if self.notes is not None:
            return self.notes.sample(y_NH, uniform_NK, temperature)
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
