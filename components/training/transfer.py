"""Start from a trained model's weights, matched by tensor name and by token.

Tensors with the same name and shape are copied. Rows of the embedding and of the output layer (columns of the first
layer for one-hot ids) are copied token by token; new tokens start from the mean of the known ones. For
another task, the output's parameters are initialised anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from components.bundle import Bundle
from components.encodings.base import Encoding
from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.errors import UserError, listed, meant
from components.models.ensemble import MEMBER, members
from components.options import UserPath
from components.training.depth import Thawing
from components.training.foreign import FILES, LISTED

ANSWERS = ("head.", "crf.")  # parameters of target tokens, in addition to `token_rows`
LETTERS = ("spelling.",)  # parameters of input tokens, likewise
LEAST_SHARE = 0.1  # minimum share of weights that must fit


class Start:
    """Initial weights and frozen parameters. Keyword-only parameters are settings of the training section.

    `start`: source of the initial weights: a registered model (NAME, NAME@champion, NAME@3), run:ID, or a file of torch
    or Keras (FILE, or FILE#LAYER,LAYER; components.training.foreign).
    `freeze`: prefixes of the names of tensors that aren't trained: embedding, recurrent.layers.0, head; in an ensemble,
    those of every member.
    `unfreeze`: gradual unfreezing: only the head is trained at first, after this many updates the last recurrent layer
    too, after as many again the one below it, and so on down to the embedding (Howard & Ruder 2018); 0: all at once.
    """

    def __init__(
        self,
        *,
        start: Annotated[Annotated[str, Field(max_length=4096)] | None, UserPath(FILES)] = None,
        freeze: tuple[str, ...] = (),
        unfreeze: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.model, self.frozen, self.every = start, freeze, unfreeze

    def thawing(self, model: nn.Module) -> Thawing:
        """Freeze the frozen parameters; returns the gradual unfreezing of the rest."""
        self.freeze(model)
        return Thawing(model, self.every)

    def freeze(self, model: nn.Module) -> None:
        """Freeze the tensors of `freeze`.

        Raises:
            UserError: a name matches no tensor, or nothing is left to train.
        """
        own = dict(model.named_parameters())
        parts_of = {key: _parts(MEMBER.sub("", key)) for key in own}
        for name in self.frozen:
            matching = [key for key, parts in parts_of.items() if name in parts]
            if not matching:
                parts = sorted({part for parts in parts_of.values() for part in parts[:4]})
                near = meant(name, parts, "did you mean {!r}? ")
                raise UserError(
                    f"the model has no parameter {name!r}",
                    where="training.freeze",
                    hint=f"{near}for example {', '.join(parts[:6])}",
                )
            for key in matching:
                own[key].requires_grad_(False)
        if self.frozen and not any(parameter.requires_grad for parameter in own.values()):
            raise UserError("all parameters are frozen, so there is nothing to train", where="training.freeze")


def _parts(name: str) -> list[str]:
    """All prefixes of a tensor's name: recurrent, recurrent.layers, recurrent.layers.0, … to the full name."""
    words = name.split(".")
    return [".".join(words[:n]) for n in range(1, len(words) + 1)]


@dataclass
class Taken:
    """Names of tensors by outcome, and the tokens unknown to the trained model."""

    copied: list[str] = field(default_factory=list)
    by_token: list[str] = field(default_factory=list)
    anew: list[str] = field(default_factory=list)
    new_tokens: dict[str, list[str]] = field(default_factory=dict)
    share: float = 0.0  # share of all weights that were copied

    def told(self) -> list[str]:
        """Lines for the user."""
        lines = [f"{self.share:.0%} of the weights were copied, {len(self.by_token)} tensors token by token"]
        if self.anew:
            lines.append(f"initialised at random: {listed(self.anew, LISTED)}")
        for role, tokens in self.new_tokens.items():
            if tokens:
                lines.append(f"{len(tokens):,} {role} tokens are new: {listed([repr(one) for one in tokens], LISTED)}")
        return lines


def take_weights(model: nn.Module, encoding: Any, source: Bundle, *, same_task: bool) -> Taken:
    """Copy the weights of `source` to `model`. `same_task`: both have the same kind of output.

    Raises:
        UserError: hardly any weights fit, the tokens can't be matched, or the numbers of members differ.
    """
    count, given = len(members(model)), len(members(source.model))
    if count != given:
        what = f"the ensembles must have the same size: {source.name} has {given} members, this model {count}"
        raise UserError(what, where="training.start", hint=f"set model.ensemble: {given}")
    own, theirs = dict(model.named_parameters()), dict(source.model.named_parameters())
    equal = _same(encoding, source.encoding)
    rows, their_rows = _token_rows(model), _token_rows(source.model)
    if not equal and (rows is None or their_rows is None):
        raise UserError(
            f"the tokens can't be matched with those of {source.name}", where="training.start", hint="use its encoding"
        )
    vocabularies, known = _vocabularies(encoding), _vocabularies(source.encoding)
    taken = Taken()
    with torch.no_grad():
        for name, parameter in own.items():
            other, place, plain = theirs.get(name), (rows or {}).get(name), MEMBER.sub("", name)
            foreign = not same_task and ((place is not None and place[1] == "target") or plain.startswith(ANSWERS))
            unmatched = place is None and not equal and plain.startswith(ANSWERS + LETTERS)
            if other is None or foreign or unmatched:
                taken.anew.append(name)
            elif place is not None and not equal and place == (their_rows or {}).get(name):
                axis, role = place
                new = _by_token(parameter, other, axis, vocabularies[role], known[role])
                (taken.anew if new is None else taken.by_token).append(name)
                if new is not None:
                    taken.new_tokens[role] = new
            elif other.shape == parameter.shape and (equal or place is None):
                parameter.copy_(other)
                taken.copied.append(name)
            else:
                taken.anew.append(name)
    sizes = {name: parameter.numel() for name, parameter in own.items()}
    taken.share = sum(sizes[name] for name in taken.copied + taken.by_token) / sum(sizes.values())
    if taken.share < LEAST_SHARE:
        raise UserError(
            f"only {taken.share:.0%} of this model's weights fit those of {source.name}",
            where="training.start",
            hint=f"its model is {_described(source.recipe['model'])}",
        )
    return taken


def _token_rows(model: nn.Module) -> Mapping[str, tuple[int, str]] | None:
    return model.token_rows() if hasattr(model, "token_rows") else None


def _same(a: Encoding, b: Encoding) -> bool:
    return a.state() == b.state()


def _vocabularies(encoding: Any) -> dict[str, Vocabulary | None]:
    """The vocabularies of the input tokens ("input") and of the target tokens ("target")."""
    if getattr(encoding, "form", "") == "pairs":
        return {
            "input": getattr(encoding.input, "vocabulary", None),
            "target": getattr(encoding.target, "vocabulary", None),
        }
    return dict.fromkeys(("input", "target"), getattr(encoding, "vocabulary", None))


def _by_token(
    parameter: Tensor, other: Tensor, axis: int, vocabulary: Vocabulary | None, known: Vocabulary | None
) -> list[str] | None:
    """Copy rows token by token. Returns the new tokens, or None if the shapes don't fit."""
    if vocabulary is None or known is None:
        return None
    mine, theirs = parameter.movedim(axis, 0), other.movedim(axis, 0)
    V, W = len(vocabulary), len(known)
    if mine.shape[1:] != theirs.shape[1:] or len(mine) - V != len(theirs) - W or len(mine) < V:
        return None
    first = len(SPECIALS)
    new = [token for token in vocabulary.tokens[first:] if token not in known]
    ids = [*range(first), *(known.id(token) if token in known else -1 for token in vocabulary.tokens[first:])]
    mean = theirs[first:W].mean(dim=0) if first < W else theirs[:first].mean(dim=0)
    mine[:V] = torch.stack([theirs[id] if id >= 0 else mean for id in ids])
    mine[V:] = theirs[W:]  # rows of the context features
    return new


def _described(model: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={model[key]}" for key in ("kind", "hidden_size", "num_layers", "input") if key in model)
