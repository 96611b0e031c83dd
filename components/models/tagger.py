"""Tagging: one vector for each step of a sequence (many-to-many of equal length).

Shapes: B batch, T time, S columns of ids, O outputs, Y labels, N distinct words, L letters, H hidden.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field as Bounds
from torch import Tensor, nn

from components.encodings.base import Field
from components.encodings.vocabulary import SPECIALS
from components.errors import UserError
from components.layers.base import moved, widen_one_hot
from components.layers.bidirectional import Bidirectional
from components.layers.crf import LinearChainCRF
from components.layers.ragged import lengths_on
from components.models.backbone import Backbone, Size
from components.models.letter_models import LetterModels
from components.options import options_of
from components.registry import resolve


class Tagger(Backbone):
    """Backbone → linear head at every step. `crf`: add a linear-chain CRF over the labels.

    With the encoding `spelled`, words come with their letters (`letters`: number of letters; their ids follow the
    words'). `letters_size`: half the size of the spelling's vector (`Spelling`), appended to the word's embedding.

    `letter_models`: registered language models of characters (NAME, NAME@champion, NAME@3 or run:ID), whose frozen
    states are features of each word (`LetterModels`). A run looks them up when it begins, and its model contains copies
    of them. `letter_models_size`: number of features, projected from the states of all of them.
    `letter_models_dropout`: dropout of the states before the projection.
    """

    def __init__(
        self,
        stream: Field,
        output_size: int,
        letters: int = 0,
        /,
        *,
        crf: bool = False,
        letters_size: Size = 32,
        letter_models: tuple[str | dict[str, Any], ...] = (),
        letter_models_size: Size = 64,
        letter_models_dropout: Annotated[float, Bounds(ge=0, lt=1)] = 0.5,
        **options: Any,
    ) -> None:
        if letters and options.get("input") == "one_hot":
            raise UserError(
                "words with letters need an embedding", where="model.input", hint="set model.input: embedding"
            )
        if letter_models and not letters:
            what, hint = "needs words with their letters", "set encoding.input.kind: spelled"
            raise UserError(what, where="model.letter_models", hint=hint)
        words = Field(size=stream.size - letters) if letters else stream
        beside = bool(letters) * 2 * letters_size + bool(letter_models) * letter_models_size
        super().__init__([words], beside, **options)
        self.first_letter = words.size
        self.spelling = Spelling(letters, letters_size, options) if letters else None
        self.letter_models = (
            LetterModels(letters, letter_models, letter_models_size, letter_models_dropout) if letter_models else None
        )
        self.head = nn.Linear(self.recurrent.output_size, output_size)
        self.crf = LinearChainCRF(output_size - len(SPECIALS)) if crf else None

    def forward(self, inputs: Tensor, lengths_B: Tensor) -> Tensor:
        """Outputs [B, T, O] for ids [B, T, S] or frames [B, T, I]; with a CRF, its scores [B, T, Y, Y] of the labels
        without the special ones. Ids of spelled words may be on the CPU, see `Spelling`."""
        outputs = self.head(self.outputs(inputs, None, lengths_B)[0])
        return outputs if self.crf is None else self.crf(outputs[..., len(SPECIALS) :], lengths_B)

    def rows(self, inputs: Tensor) -> Tensor:
        if self.spelling is None or inputs.is_floating_point():
            return super().rows(inputs)
        letters = (inputs[..., 1:] - self.first_letter).clamp(min=0)  # 0, no letter, stays 0
        words = moved(inputs[..., :1], self.head.weight.device)
        read = [self.spelling, self.letter_models] if self.letter_models else [self.spelling]
        return torch.cat([super().rows(words), *(self.dropout(each(letters)) for each in read)], dim=-1)


class Spelling(nn.Module):
    """A word's spelling as a vector of 2 H: the last outputs of a bidirectional layer of the model's cell."""

    def __init__(self, letters: int, hidden_size: int, options: dict[str, Any], /) -> None:
        super().__init__()
        cell = resolve("cell", options.get("kind", "lstm"))
        own = {name: options[name] for name in options_of(cell) if name in options} | {"hidden_size": hidden_size}
        self.both = Bidirectional(*(cell(letters, **own) for _ in range(2)))
        widen_one_hot(self.both)

    def forward(self, letters: Tensor) -> Tensor:
        """[..., 2 H] for letters [..., L], 0 after each word's end. Every distinct word is read once; counting them
        needs no synchronisation if the letters are on the CPU."""
        words_NL, where = torch.unique(letters.flatten(0, -2), dim=0, return_inverse=True)
        lengths_N = (words_NL > 0).sum(1)
        words_NL = words_NL[:, : max(1, int(lengths_N.max()))]
        device = next(self.parameters()).device
        words_NL, lengths_N, where = moved(words_NL, device), lengths_on(device, lengths_N), moved(where, device)
        # one-hot letters, by row look-up
        y_NLH, _ = self.both(words_NL.unsqueeze(2), None, lengths_N)
        ends = torch.arange(len(y_NLH), device=y_NLH.device), (lengths_N - 1).clamp(min=0)
        H = y_NLH.shape[2] // 2
        # each direction's last output; the backward one ends at the first letter
        vectors_NH = torch.cat([y_NLH[ends][:, :H], y_NLH[:, 0, H:]], dim=1)
        return vectors_NH[where].unflatten(0, letters.shape[:-1])
