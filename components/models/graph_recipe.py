"""Graphs in recipes: the `layers` of the model section, checked and built.

layers:
  embed:  {layer: embedding, of: tokens, size: 128}
  memory: {layer: lstm, of: embed, hidden_size: 256}
  again:  {share: memory, of: other}             # memory's weights, a separate state
  block:  {layer: graph, of: memory, layers: {…: {of: input, …}}, output: …}
  logits: {layer: linear, of: block}             # the size is the task's
outputs: {logits: logits}
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_type_hints

from components.errors import UserError, meant
from components.layers.base import Recurrent as RecurrentModule
from components.layers.stack import Stack
from components.models.graph import Graph, GraphCell
from components.models.graph_layers import LAYERS, Linear, Recurrent
from components.models.graph_symbols import MAX_INPUTS, Input, Layer, Symbol, ancestors, checked_name
from components.options import check_options
from components.registry import names, resolve

MAX_LAYERS = 256
MAX_DEPTH = 8
INNER_INPUT = "input"  # name of a nested graph's input


def graph_from_recipe(
    layers: Mapping[str, Any],
    inputs: Mapping[str, Symbol],
    outputs: Mapping[str, int],
    /,
    *,
    places: Mapping[str, str] | None = None,
    over_time: bool | None = None,
) -> Graph:
    """The graph that a recipe describes. Inputs that no layer reads are left out.

    `inputs`: symbols by name. `outputs`: the sizes that the task needs. `places`: the layer that gives each output
    (default: the one of the same name). `over_time`: whether outputs must be sequences, or vectors, one per row.

    Raises:
        UserError: all problems, one a line, each with its dotted key.
    """
    problems: list[str] = []
    places = {name: name for name in outputs} if places is None else places
    checked = check_layers(layers, places, inputs, problems)
    _check_outputs(outputs, places, problems)
    sizes = {places[name]: size for name, size in outputs.items() if name in places}
    symbols = _call_layers(checked, inputs, sizes, problems, "model.layers")
    for name, size in outputs.items():
        symbol = symbols.get(places.get(name, ""))
        if symbol is not None and (symbol.ids or symbol.size != size):
            problems.append(f"model.outputs.{name}: the task needs {size} features, not {symbol}")
        elif symbol is not None and over_time is not None and symbol.time != over_time:
            needed = "a sequence" if over_time else "one vector per sequence (use last, mean or max)"
            problems.append(f"model.outputs.{name}: the task needs {needed}, not {symbol}")
    graph = None
    if not problems:
        try:
            graph = _graph(inputs, {name: symbols[places[name]] for name in outputs})
        except UserError as error:
            problems.append(f"model.layers: {error.what}")
    if problems or graph is None:
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)} in the graph"
        raise UserError("\n".join([count, *(f"  {one}" for one in problems)]))
    return graph


def check_layers(
    layers: Any,
    places: Mapping[str, str],
    inputs: Iterable[str],
    problems: list[str],
    /,
    *,
    key: str = "model",
    depth: int = 0,
) -> dict[str, dict[str, Any]]:
    """The valid layers with defaults filled in, parents first. Problems are appended; shapes and weights aren't
    checked.

    `places`: the layer that gives each output. `inputs`: names that layers may read.
    """
    inputs, before = set(inputs), len(problems)
    if not isinstance(layers, Mapping) or not 0 < len(layers) <= MAX_LAYERS:
        problems.append(f"{key}.layers: must be a mapping of 1 to {MAX_LAYERS} layers by name")
        return {}
    sources: dict[str, list[str]] = {}
    checked = {}
    for name, entry in layers.items():
        where = f"{key}.layers.{name}"
        try:
            checked_name(name)
        except UserError as error:
            problems.append(f"{where}: {error.what}")
            continue
        if name in inputs:
            problems.append(f"{where}: the name {name!r} is already used by an input")
        elif not isinstance(entry, Mapping):
            problems.append(
                f"{where}: must be a mapping such as {{layer: lstm, of: tokens}}, not {reprlib.repr(entry)}"
            )
        else:
            sources[name] = _sources(entry.get("of"), where, [*inputs, *layers], problems)
            one = _check_entry(entry, where, layers, problems, depth)
            if one is not None:
                checked[name] = one
    for output, name in places.items():
        if name not in layers:
            where = f"{key}.output" if depth else f"{key}.outputs.{output}"
            problems.append(f"{where}: unknown layer {reprlib.repr(name)}{_meant(name, layers)}")
    order, cycle = _order(sources)
    if cycle:
        problems.append(f"{key}.layers.{cycle[0]}.of: circular: {' → '.join(cycle)}; for feedback use recurrent layers")
    if len(problems) == before:
        used = ancestors(places.values(), lambda name: sources.get(name, []))
        problems += [f"{key}.layers.{name}: no output depends on it" for name in layers if name not in used]
    return {name: checked[name] for name in order if name in checked}


def looks_ahead(layers: Mapping[str, Any]) -> list[str]:
    """The layers of a checked recipe whose output at a step depends on later steps. A model with any can't generate."""
    found = []
    for name, entry in layers.items():
        kind = entry.get("layer")
        if kind == "graph":
            found += [f"{name}.layers.{inner}" for inner in looks_ahead(entry["layers"])]
        elif kind is not None:
            made = LAYERS[kind] if kind in LAYERS else resolve("cell", kind)
            found += [name] if not made.causal or entry.get("bidirectional") else []
    return found


def _sources(of: Any, where: str, choices: list[str], problems: list[str]) -> list[str]:
    """`of` as a list of existing names."""
    listed = [of] if isinstance(of, str) else of
    if not isinstance(listed, list | tuple) or not 0 < len(listed) <= MAX_INPUTS:
        problems.append(f"{where}.of: must name the layer's inputs (1 to {MAX_INPUTS}), not {reprlib.repr(of)}")
        return []
    for name in listed:
        if name not in choices:
            problems.append(f"{where}.of: unknown layer or input {reprlib.repr(name)}{_meant(name, choices)}")
    return [name for name in listed if name in choices]


def _check_entry(
    entry: Mapping[str, Any], where: str, layers: Mapping[str, Any], problems: list[str], depth: int
) -> dict[str, Any] | None:
    """One layer with its defaults, or None if it has a problem."""
    before = len(problems)
    options = {str(name): value for name, value in entry.items() if name not in ("layer", "share", "of")}
    kind, share = entry.get("layer"), entry.get("share")
    checked: dict[str, Any] = {}
    if (kind is None) == (share is None):
        problems.append(f"{where}: set either layer (its kind) or share (the layer whose weights it uses)")
    elif kind is None:
        share = str(share)
        other = layers.get(share)
        if not isinstance(other, Mapping) or "layer" not in other:
            meant = "" if share in layers else _meant(share, layers)
            problems.append(f"{where}.share: {reprlib.repr(share)} isn't a layer with its own weights{meant}")
        checked = {"share": share, **check_options(where, options, [], problems)}
    elif kind == "graph":
        checked = {"layer": kind, **_check_nested(options, where, problems, depth)}
    elif isinstance(kind, str) and kind in LAYERS:
        checked = {"layer": kind, **check_options(where, options, [], problems, extra=settings_of(LAYERS[kind]))}
    elif kind in names("cell"):
        targets = [Stack, resolve("cell", kind)]
        checked = {"layer": kind, **check_options(where, options, targets, problems, extra=settings_of(Recurrent))}
    else:
        choices = [*names("cell"), *LAYERS, "graph"]
        problems.append(
            f"{where}.layer: unknown {reprlib.repr(kind)}{_meant(kind, choices)} (choices: {', '.join(choices)})"
        )
    return {**checked, "of": entry.get("of")} if len(problems) == before else None


def _check_nested(options: Mapping[str, Any], where: str, problems: list[str], depth: int) -> dict[str, Any]:
    if depth >= MAX_DEPTH:
        problems.append(f"{where}: graphs can be nested at most {MAX_DEPTH} levels deep")
        return {}
    extra = {"layers": (dict[str, Any], ...), "output": (str, ...)}
    checked = check_options(where, options, [], problems, extra=extra)
    if checked:
        output = {"output": checked["output"]}
        inner = check_layers(checked["layers"], output, [INNER_INPUT], problems, key=where, depth=depth + 1)
        checked = {"layers": inner, **output}
    return checked


def settings_of(layer: type[Layer]) -> dict[str, tuple[Any, Any]]:
    """The named parameters of a layer's constructor: name → (type, default)."""
    hints = get_type_hints(layer.__init__, include_extras=True)
    return {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(layer).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }


def _order(sources: Mapping[str, list[str]]) -> tuple[list[str], list[str]]:
    """The layers, parents first, without those in a cycle or depending on one; and the cycle, if any."""
    done: dict[str, None] = {}
    left = dict(sources)
    while ready := [name for name, of in left.items() if not any(one in left for one in of)]:
        for name in ready:
            done[name] = None
            del left[name]
    path: list[str] = []
    if left:
        # every remaining layer reads a remaining one: following them finds a cycle
        name = next(iter(left))
        while name not in path:
            path.append(name)
            name = next(one for one in left[name] if one in left)
        path = [*path[path.index(name) :], name]
    return list(done), path


def _meant(name: Any, choices: Iterable[str]) -> str:
    return meant(name, [str(one) for one in choices]) if isinstance(name, str) else ""


def _check_outputs(outputs: Iterable[str], places: Mapping[str, str], problems: list[str]) -> None:
    for name in places:
        if name not in outputs:
            problems.append(f"model.outputs.{name}: the task has no such output (it has {', '.join(outputs)})")
    problems += [
        f"model.outputs.{name}: must be set, since the task needs it" for name in outputs if name not in places
    ]


def _call_layers(
    checked: Mapping[str, Mapping[str, Any]],
    inputs: Mapping[str, Symbol],
    sizes: Mapping[str, int],
    problems: list[str],
    key: str,
) -> dict[str, Symbol]:
    """The symbols of inputs and layers. Layers that read a layer with a problem are left out silently."""
    bases = {entry.get("share", name): sizes[name] for name, entry in checked.items() if name in sizes}
    made: dict[str, Layer] = {}
    for name, entry in checked.items():
        if "layer" in entry:
            made[name] = _make(entry, bases.get(name), problems, f"{key}.{name}")
            made[name].name = name
    symbols = dict(inputs)
    for name, entry in checked.items():
        of = [entry["of"]] if isinstance(entry["of"], str) else entry["of"]
        layer = made.get(entry.get("share", name))
        if layer is None or any(source not in symbols for source in of):
            continue
        if isinstance(layer, Linear) and layer.size is None:
            problems.append(f"{key}.{name}.size: must be set (only output layers get their size from the task)")
            continue
        before = len(problems)
        try:
            symbols[name] = replace(layer(*(symbols[source] for source in of)), name=name, call=name)
        except UserError as error:
            # problems of a nested graph are already listed
            if len(problems) == before:
                hint = f" ({error.hint})" if error.hint else ""
                problems.append(f"{key}.{name}.of: {error.where}: {error.what}{hint}")
    return symbols


def _make(entry: Mapping[str, Any], size: int | None, problems: list[str], key: str) -> Layer:
    """The layer of a checked entry. `size`: required size if it is an output."""
    kind = entry["layer"]
    options = {name: value for name, value in entry.items() if name not in ("layer", "of")}
    if kind == "graph":
        layer = Recurrent(lambda size: _nested(entry, size, problems, key))
        layer.kind = kind
        return layer
    if kind not in LAYERS:
        return Recurrent(kind, **options)
    if kind == "linear" and options["size"] is None:
        options["size"] = size
    return LAYERS[kind](**options)


def _nested(entry: Mapping[str, Any], size: int, problems: list[str], key: str) -> RecurrentModule:
    inputs = {INNER_INPUT: Input(INNER_INPUT, size)}
    symbols = _call_layers(entry["layers"], inputs, {}, problems, f"{key}.layers")
    if entry["output"] not in symbols:
        raise UserError("contains errors", where=key)
    return GraphCell(_graph(inputs, {"output": symbols[entry["output"]]}))


def _graph(inputs: Mapping[str, Symbol], outputs: Mapping[str, Symbol]) -> Graph:
    """The graph of these outputs, with the inputs they read."""
    read = ancestors(outputs.values(), lambda symbol: symbol.parents)
    return Graph([symbol for symbol in inputs.values() if symbol in read], outputs)
