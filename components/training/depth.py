"""The depth of each parameter in a model, for learning rates by layer and gradual unfreezing (ULMFiT, Howard and Ruder
2018, arXiv:1801.06146)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from components.errors import UserError
from components.models.graph_model import GraphModel

# of a model, of its encoder and decoder, or of an ensemble's members
READ = re.compile(r"(?:encoder\.|decoder\.|members\.\d+\.)?(?:embedding|context_embeddings|spelling)\.")
LAYER = re.compile(r"(?:encoder\.|decoder\.|members\.\d+\.)?recurrent\.(?:(?:layers|norms)\.(\d+)\.|first_states\.)")


def depths(model: nn.Module, *, where: str) -> dict[str, int]:
    """The level of each parameter by name, from 0 up: the embeddings (also if tied to the output matrix), each
    recurrent layer with its norm, and at the top the head and everything else. The encoder and the decoder of a model
    have the same levels.

    Raises:
        UserError: the model is a graph: its layers have no order.
    """
    if isinstance(model, GraphModel):
        hint = "freeze layers by name instead: training.freeze"
        raise UserError(
            "can't be used with a graph, whose layers have no order from bottom to top", where=where, hint=hint
        )
    found = {name: _level(name) for name, _ in model.named_parameters()}
    top = 1 + max((level for level in found.values() if level is not None), default=0)
    return {name: top if level is None else level for name, level in found.items()}


def _level(name: str) -> int | None:
    """The level of a parameter; None for the top one."""
    if READ.match(name):
        return 0
    layer = LAYER.match(name)
    return 1 + int(layer[1] or 0) if layer else None


class Thawing:
    """Gradual unfreezing: the highest level is trained from the first update on, the next one too after `every`
    updates, and so on. Parameters that are frozen from the start stay frozen, and levels with only such parameters are
    skipped.

    What is trained depends only on the number of updates, so training can be resumed.
    """

    def __init__(self, model: nn.Module, every: int) -> None:
        self.every, self.trained = every, -1
        self.levels: list[list[nn.Parameter]] = []
        self.names: list[str] = []
        if every:
            own = dict(model.named_parameters())
            level_of = depths(model, where="training.unfreeze")
            for level in sorted(set(level_of.values()), reverse=True):
                names = [name for name in own if level_of[name] == level and own[name].requires_grad]
                if names:
                    self.levels.append([own[name] for name in names])
                    self.names.append(_told(names))

    def __call__(self, step: int) -> None:
        """Called before update `step`, counted from 0."""
        trained = 1 + step // self.every if self.every else 0
        if trained == self.trained:
            return
        self.trained = trained
        for number, level in enumerate(self.levels):
            for parameter in level:
                parameter.requires_grad_(number < trained)

    def told(self, steps: int) -> list[str]:
        """Lines for the user: what is trained from which update on."""
        if not self.every:
            return []
        begun = [(name, number * self.every) for number, name in enumerate(self.names)]
        when = [f"{name} {f'from update {step + 1:,}' if step < steps else 'never'}" for name, step in begun]
        return [f"trained: {', '.join(when)}"]


def _told(names: Iterable[str]) -> str:
    """A short list of a level's parts: recurrent.layers.1, head."""
    short = (re.match(r"(?:(?:encoder|decoder|members\.\d+)\.)?(?:recurrent\.\w+\.\d+|\w+)", name) for name in names)
    return " and ".join(dict.fromkeys(found[0] for found in short if found))
