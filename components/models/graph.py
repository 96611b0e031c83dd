"""The functional API: layers called on symbols form a model with several inputs, several outputs and shared layers.

    tokens, beat = Input("tokens", 96, ids=True), Input("beat", 16, ids=True)
    shared = Recurrent("lstm", hidden_size=128)
    memory = shared(Embedding(64)(tokens) + Embedding(64)(beat))
    graph = Graph(inputs=[tokens, beat], outputs={"pitch": Linear(96)(memory), "duration": Linear(32)(memory)})

The same graph runs over whole sequences and step by step. Shapes: B batch, T time, I input features, S one-hot
streams; ids are int64 [B, T], numbers [B, T, I].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from components.errors import UserError, unknown
from components.kernels.sequence import zero_after_end
from components.layers import base
from components.layers.base import State, part_of
from components.models.graph_layers import Recurrent, Repeat
from components.models.graph_symbols import Layer, Symbol, ancestors

MAX_CALLS = 1024


@dataclass(frozen=True)
class Call:
    """One call of a layer. `key` names the call and a recurrent layer's state: the layer's name, then "name@2" …, or in
    a recipe the call's name."""

    key: str
    name: str
    layer: Layer
    sources: tuple[str, ...]  # keys of calls or names of inputs
    gives: Symbol


class Graph(nn.Module):
    """A model as a graph of layers: inputs by name → outputs by name.

    A layer that is called twice shares its weights. A recurrent layer has a state for each call. Layers without a name
    are named after their kind: "linear", "linear_2" …
    """

    def __init__(self, inputs: Sequence[Symbol], outputs: Mapping[str, Symbol]) -> None:
        """Collect all layers that the outputs depend on.

        Raises:
            UserError: an output reads an input that isn't listed, an input is read by no output, or a name occurs
                twice.
        """
        super().__init__()
        reached = _reached(outputs)
        by_name = {symbol.name: symbol for symbol in inputs}
        if len(by_name) < len(inputs):
            raise UserError(
                f"two inputs have the same name: {', '.join(symbol.name for symbol in inputs)}", where="graph"
            )
        for symbol in reached:
            if symbol.layer is None and by_name.get(symbol.name) is not symbol:
                raise unknown("input", symbol.name, by_name, where="graph")
        for name, symbol in by_name.items():
            if symbol not in reached:
                raise UserError(f"the input {name!r} isn't used by any output", where="graph")
        names = _layer_names([symbol.layer for symbol in reached if symbol.layer is not None], by_name)
        keys: dict[Symbol, str] = {symbol: name for name, symbol in by_name.items()}
        counts: dict[str, int] = {}
        self.calls: list[Call] = []
        for symbol in reached:
            if symbol.layer is not None:
                name = names[symbol.layer]
                counts[name] = counts.get(name, 0) + 1
                keys[symbol] = symbol.call or (name if counts[name] == 1 else f"{name}@{counts[name]}")
                sources = tuple(keys[parent] for parent in symbol.parents)
                self.calls.append(Call(keys[symbol], name, symbol.layer, sources, _alone(symbol)))
        self.layers = nn.ModuleDict({name: layer.module for layer, name in names.items() if layer.module is not None})
        self.inputs = {name: _alone(symbol) for name, symbol in by_name.items()}
        self.outputs = {name: _alone(symbol) for name, symbol in outputs.items()}
        self._keys_of_outputs = {name: keys[symbol] for name, symbol in outputs.items()}

    @property
    def looks_ahead(self) -> list[str]:
        """The layers whose output at a step depends on later steps. A graph with such a layer has no `step`."""
        return list(dict.fromkeys(call.name for call in self.calls if not call.layer.causal))

    @property
    def causal(self) -> bool:
        return not self.looks_ahead

    def initial_state(self, batch_size: int) -> State:
        """The state before the first step: "call.name" for each recurrent call."""
        return {
            f"{call.key}.{name}": value
            for call in self.calls
            if isinstance(call.layer, Recurrent)
            for name, value in call.layer.module.initial_state(batch_size).items()
        }

    def forward(
        self, inputs: Mapping[str, Tensor], state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[dict[str, Tensor], State]:
        """The outputs for whole sequences, and the state after each row's last step.

        `lengths_B` (0 to T) marks the end of each row: inputs after it are ignored, outputs after it are 0.
        """
        steps = self._steps_of(inputs)
        # inputs are zeroed too: a gradient of 0 times NaN would be NaN
        values = {
            name: zero_after_end(value, lengths_B) if self.inputs[name].time else value
            for name, value in inputs.items()
        }
        after = self._run(values, state, steps, lengths_B)
        outputs = {name: values[key] for name, key in self._keys_of_outputs.items()}
        return {
            name: zero_after_end(value, lengths_B) if self.outputs[name].time else value
            for name, value in outputs.items()
        }, after

    def step(self, inputs: Mapping[str, Tensor], state: State) -> tuple[dict[str, Tensor], State]:
        """One time step: ids [B] and numbers [B, I] in, numbers [B, I] out, and the next state.

        Raises:
            UserError: a layer reads the whole sequence.
        """
        if not self.causal:
            raise UserError(
                f"can't be run step by step: {', '.join(self.looks_ahead)} needs the whole sequence",
                where="graph",
                hint="run it on whole sequences, or generate with a graph without such a layer",
            )
        self._check_names(inputs)
        for name, symbol in self.inputs.items():
            _check_value(symbol, inputs[name], dimensions=1 if symbol.ids else 2)
        values = dict(inputs)
        after = self._run(values, state, None, None)
        return {name: values[key] for name, key in self._keys_of_outputs.items()}, after

    def on(self, inputs: Mapping[str, Symbol]) -> dict[str, Symbol]:
        """Apply the graph to symbols and return its outputs as symbols: a graph in a graph. The weights are shared; the
        states belong to the outer graph."""
        self._check_names(inputs)
        symbols = dict(inputs)
        for name, ours in self.inputs.items():
            theirs = symbols[name]
            if (theirs.size, theirs.ids, theirs.time) != (ours.size, ours.ids, ours.time):
                raise UserError(f"the input {ours} can't be replaced by {theirs}", where="graph")
        for call in self.calls:
            symbols[call.key] = call.layer(*(symbols[source] for source in call.sources))
        return {name: symbols[key] for name, key in self._keys_of_outputs.items()}

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        keys = [*self.inputs, *(call.key for call in self.calls)]
        node = {key: f"n{number}" for number, key in enumerate(keys)}  # names could be keywords of Mermaid
        lines = ["flowchart TD"]
        for name, symbol in self.inputs.items():
            lines.append(f'  {node[name]}(["{name}: {"ids below " if symbol.ids else ""}{symbol.size}"])')
        for call in self.calls:
            shown = call.key if call.layer.kind == call.key else f"{call.key}: {call.layer.kind}"
            if call.key != call.name and call.layer.module is not None:
                shown += f", {call.name}'s weights"
            lines.append(f'  {node[call.key]}["{shown} → {call.gives.size}"]')
            lines += [f"  {node[source]} --> {node[call.key]}" for source in call.sources]
        for number, (name, key) in enumerate(self._keys_of_outputs.items()):
            lines.append(f'  {node[key]} --> o{number}(["{name}"])')
        return "\n".join(lines)

    def _run(
        self, values: dict[str, Tensor], state: State | None, steps: int | None, lengths_B: Tensor | None
    ) -> State:
        """Add every call's output to `values` and return the next state. `steps` None means a single step."""
        after: State = {}
        for call in self.calls:
            given = [values[source] for source in call.sources]
            if not isinstance(call.layer, Recurrent):
                values[call.key] = call.layer.run(given, steps, lengths_B)
                continue
            module, (x,), part = call.layer.module, given, part_of(state, call.key)
            if not x.is_floating_point():
                x = x.unsqueeze(-1)  # one stream of ids
            values[call.key], part = module.step(x, part) if steps is None else module(x, part, lengths_B)
            after |= {f"{call.key}.{name}": value for name, value in part.items()}
        return after

    def _steps_of(self, inputs: Mapping[str, Tensor]) -> int | None:
        """T, the same for all inputs over time; None if there are none."""
        self._check_names(inputs)
        shapes = {}
        for name, symbol in self.inputs.items():
            _check_value(symbol, inputs[name], dimensions=1 + symbol.time + (not symbol.ids))
            shapes[name] = tuple(inputs[name].shape[: 1 + symbol.time])
        times = {shape[1] for shape in shapes.values() if len(shape) == 2}
        if len(times) > 1 or len({shape[0] for shape in shapes.values()}) > 1:
            shown = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise UserError(f"the inputs differ in batch size or number of steps: {shown}", where="graph")
        steps = times.pop() if times else None
        if steps == 0:
            raise UserError("a sequence needs at least one step", where="graph")
        return steps

    def _check_names(self, inputs: Mapping[str, object]) -> None:
        for name in inputs:
            if name not in self.inputs:
                raise unknown("input", name, self.inputs, where="graph")
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise UserError(f"missing inputs: {', '.join(missing)}", where="graph")


class GraphCell(base.Recurrent):
    """A graph with one input and one output, both numbers over time, as a recurrent layer, for nested graphs."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        ends = [*graph.inputs.values(), *graph.outputs.values()]
        if len(graph.inputs) != 1 or len(graph.outputs) != 1 or not all(end.time and not end.ids for end in ends):
            raise UserError(
                f"needs one input and one output, both sequences of vectors, not {', '.join(map(str, ends))}",
                where="graph cell",
                hint="use graph.on(symbols) to nest any graph",
            )
        self.graph = graph
        (self._input,), (self._output,) = graph.inputs, graph.outputs
        self.input_size, self.output_size = (end.size for end in ends)

    @property
    def causal(self) -> bool:
        return self.graph.causal

    def initial_state(self, batch_size: int) -> State:
        return self.graph.initial_state(batch_size)

    def forward(
        self, x_BTI: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        outputs, state = self.graph({self._input: self._numbers(x_BTI)}, state, lengths_B)
        return outputs[self._output], state

    def step(self, x_BI: Tensor, state: State) -> tuple[Tensor, State]:
        outputs, state = self.graph.step({self._input: self._numbers(x_BI)}, state)
        return outputs[self._output], state

    def _numbers(self, x_S: Tensor) -> Tensor:
        """The stacked one-hot vectors of ids [..., S]."""
        if x_S.is_floating_point():
            return x_S
        like = next(self.parameters(), torch.empty(0))
        return base.one_hot(x_S, self.input_size, like)


def _reached(outputs: Mapping[str, Symbol]) -> list[Symbol]:
    """Every symbol that the outputs depend on, parents first."""
    if not outputs:
        raise UserError("a graph needs an output", where="graph")
    found = ancestors(outputs.values(), lambda symbol: symbol.parents)
    if len(found) > MAX_CALLS:
        raise UserError(f"{len(found)} calls of layers; at most {MAX_CALLS} are allowed", where="graph")
    for name, symbol in outputs.items():
        if symbol.ids:
            raise UserError(f"the output {name!r} can't be ids: {symbol}", where="graph")
    over_time = any(symbol.layer is None and symbol.time for symbol in found)
    if not over_time and any(isinstance(symbol.layer, Repeat) for symbol in found):
        raise UserError("repeat needs a sequence as another input, to know the number of steps", where="graph")
    return sorted(found, key=lambda symbol: symbol.order)


def _layer_names(layers: Iterable[Layer], inputs: Iterable[str]) -> dict[Layer, str]:
    """A name for each layer: the given one, or one derived from its kind."""
    distinct = list(dict.fromkeys(layers))
    taken = set(inputs)
    for layer in distinct:
        if layer.name in taken:
            raise UserError(f"the name {layer.name!r} is used more than once", where="graph")
        taken |= {layer.name} if layer.name else set()
    names = {}
    for layer in distinct:
        number, names[layer] = 1, layer.name or layer.kind
        while not layer.name and names[layer] in taken:
            number += 1
            names[layer] = f"{layer.kind}_{number}"
        taken.add(names[layer])
    return names


def _check_value(symbol: Symbol, value: Tensor, *, dimensions: int) -> None:
    right_type = value.is_floating_point() != symbol.ids and (not symbol.ids or value.dtype == torch.int64)
    if not right_type or value.ndim != dimensions or (not symbol.ids and value.shape[-1] != symbol.size):
        raise UserError(
            f"the input {symbol} can't be {str(value.dtype).removeprefix('torch.')} {list(value.shape)}", where="graph"
        )


def _alone(symbol: Symbol) -> Symbol:
    """The symbol without its parents: copying a graph must not recurse through its whole depth."""
    return replace(symbol, layer=None, parents=())
