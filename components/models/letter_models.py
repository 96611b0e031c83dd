"""States of trained language models of characters as features of words (Akbik et al. 2018, "Contextual string
embeddings for sequence labeling").

Shapes: B batch, T words, L letters of a word, N characters of a text, H hidden, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from components.encodings.base import Field
from components.encodings.vocabulary import BOS, PAD
from components.layers.base import moved
from components.models.backbone import Backbone
from components.options import checked_options
from components.registry import resolve

WHERE = "model.letter_models"
SCALE = 0.2  # standard deviation of the states: about that of LSTM's; larger ones were learned by heart
LARGEST = 5 * SCALE  # states are clipped to it


class LetterModels(nn.Module):
    """The frozen states of all models, standardised, with dropout, projected to D = `size` features for each word."""

    def __init__(self, letters: int, models: Sequence[Mapping[str, Any]], size: int, dropout: float, /) -> None:
        super().__init__()
        self.models = nn.ModuleList(LetterModel(letters, facts) for facts in models)
        self.dropout = nn.Dropout(dropout)
        width = sum(model.reader.recurrent.output_size for model in self.models)
        self.project = nn.Linear(width, size)
        self.register_buffer("mean_H", torch.zeros(width))
        self.register_buffer("scale_H", torch.ones(width))

    def forward(self, letters: Tensor) -> Tensor:
        """Features [B, T, D] for letters [B, T, L], 0 after each word's end."""
        states = (self.states(letters) - self.mean_H) * self.scale_H
        return self.project(self.dropout(states.clamp(-LARGEST, LARGEST)))

    def states(self, letters: Tensor) -> Tensor:
        """The states [B, T, H] of all models, as they are."""
        return torch.cat([model(letters) for model in self.models], dim=-1)

    def standardise(self, states_NH: Tensor) -> None:
        """From now on the features of the states have the mean and the standard deviation over these 0 and `SCALE`."""
        self.mean_H.copy_(states_NH.mean(0))
        self.scale_H.copy_(SCALE / (states_NH.std(0, correction=0) + 1e-3))


class LetterModel(nn.Module):
    """A language model without its output layer. It reads the words with a blank between each two, after a line break
    (after BOS, if it was trained on single lines). A word's state is that after its last letter, or, if the model reads
    from the end, after its first.

    `letters` is the number of letters in the words' encoding. `facts` describe the model: `size` of its vocabulary,
    whether it is `reversed`, and the `settings` of its layers; see `components.training.letter_models`.
    """

    def __init__(self, letters: int, facts: Mapping[str, Any], /) -> None:
        super().__init__()
        settings = dict(facts["settings"])
        kinds = [Backbone, resolve("cell", str(settings.get("kind")), where=f"{WHERE}.kind")]
        self.reader = Backbone([Field(size=int(facts["size"]))], **checked_options(WHERE, settings, kinds))
        self.reader.requires_grad_(False)
        self.reversed = bool(facts["reversed"])
        # the model's id of each letter; of the blank at PAD, and of what it begins with at BOS
        self.register_buffer("ids_L", torch.zeros(letters, dtype=torch.int64))

    def train(self, mode: bool = True) -> LetterModel:
        """The model is only read, so its dropout is always off."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, letters: Tensor) -> Tensor:
        """States [B, T, H] for letters [B, T, L]. Nothing waits for the device if the letters are on the CPU."""
        there_BTL = letters > 0
        lengths_BT = there_BTL.sum(2)
        spans_BT = lengths_BT + (lengths_BT > 0)  # with a blank, but none for the steps after the last word
        starts_BT = spans_BT.cumsum(1) - spans_BT
        counts_B1 = (spans_BT.sum(1, keepdim=True) - 1).clamp(min=1)
        places_BTL = starts_BT.unsqueeze(2) + torch.arange(letters.shape[2], device=letters.device)
        read_BT = starts_BT + lengths_BT - 1
        if self.reversed:
            places_BTL, read_BT = counts_B1.unsqueeze(2) - 1 - places_BTL, counts_B1 - 1 - starts_BT
        text_BN = letters.new_full((len(letters), 1 + int(counts_B1.max())), PAD)
        text_BN[:, 0] = BOS
        rows_BTL = torch.arange(len(letters), device=letters.device)[:, None, None].expand_as(places_BTL)
        text_BN[rows_BTL[there_BTL], 1 + places_BTL[there_BTL]] = letters[there_BTL]
        device = self.ids_L.device
        states_BNH, _ = self.reader.outputs(self.ids_L[moved(text_BN, device)].unsqueeze(2))
        at_BT = moved((1 + read_BT).clamp(0, text_BN.shape[1] - 1), device)
        return states_BNH.gather(1, at_BT.unsqueeze(2).expand(-1, -1, states_BNH.shape[2]))
