"""A graph as a task's model, with the input streams in one tensor, as in batches.

Shapes: B batch, T time, S input streams (the token and context features), V features of an output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from components.layers.base import State
from components.models.graph_recipe import check_layers, graph_from_recipe, looks_ahead
from components.models.graph_symbols import Input


class GraphModel(nn.Module):
    """The graph of a recipe, with `layers` by name (docs/graph.md); called like a SequenceModel.

    `input_sizes`: size of each stream by name, in order; layers may read any of them. `output_sizes`: the outputs that
    the task needs. `outputs`: the layer that gives each output (default: the layer of that name).
    """

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        output_sizes: Mapping[str, int],
        over_time: bool = True,
        /,
        *,
        layers: dict[str, Any],
        outputs: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        inputs = {name: Input(name, size, ids=True) for name, size in input_sizes.items()}
        self.graph = graph_from_recipe(layers, inputs, output_sizes, places=outputs, over_time=over_time)
        self.streams = {name: index for index, name in enumerate(input_sizes) if name in self.graph.inputs}

    @staticmethod
    def check(
        options: Mapping[str, Any], inputs: Iterable[str], outputs: Iterable[str], problems: list[str]
    ) -> dict[str, Any]:
        """A recipe's options with every layer's defaults filled in. Problems are appended to `problems`, each with its
        key.

        `inputs` and `outputs` are names of the task's inputs and outputs. Sizes and shapes are checked when the model
        is built.
        """
        places = options.get("outputs") or {name: name for name in outputs}
        return {**options, "layers": check_layers(options["layers"], places, inputs, problems)}

    @staticmethod
    def is_causal(options: Mapping[str, Any]) -> bool:
        """Whether the graph of these checked options ignores the future, so that it can generate."""
        return not looks_ahead(options["layers"])

    @property
    def causal(self) -> bool:
        return self.graph.causal

    def initial_state(self, batch_size: int) -> State:
        """The state before the first token."""
        return self.graph.initial_state(batch_size)

    def forward(
        self, inputs_BTS: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor | dict[str, Tensor], State]:
        """The output [B, T, V], or several by name, and the next state."""
        outputs, state = self.graph(self._by_name(inputs_BTS), state, lengths_B)
        return self._as_asked(outputs), state

    def step(self, inputs_BS: Tensor, state: State) -> tuple[Tensor | dict[str, Tensor], State]:
        """The same for one more token: [B, V]."""
        outputs, state = self.graph.step(self._by_name(inputs_BS), state)
        return self._as_asked(outputs), state

    def _by_name(self, inputs_S: Tensor) -> dict[str, Tensor]:
        return {name: inputs_S[..., index] for name, index in self.streams.items()}

    def _as_asked(self, outputs: dict[str, Tensor]) -> Tensor | dict[str, Tensor]:
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs
