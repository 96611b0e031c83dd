"""The functional API: a graph is its steps, shares what it shares, nests, and wrong ones are refused by name."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import UserError
from components.models.graph import Graph, GraphCell
from components.models.graph_layers import (
    Activation,
    Add,
    Concat,
    Dropout,
    Embedding,
    Input,
    Last,
    LayerNorm,
    Linear,
    Max,
    Mean,
    Multiply,
    Recurrent,
    Repeat,
)
from components.registry import names, resolve

B, T = 3, 5
LENGTHS = torch.tensor([T, 0, 2])


def same(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-11)


def at(values: dict, symbols: dict, t: int) -> dict:
    return {name: value[:, t] if symbols[name].time else value for name, value in values.items()}


def values_for(graph: Graph, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random inputs that fit the graph."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, symbol in graph.inputs.items():
        shape = (B, T) if symbol.time else (B,)
        if symbol.ids:
            made[name] = torch.randint(0, symbol.size, shape, generator=generator)
        else:
            made[name] = torch.randn(*shape, symbol.size, generator=generator, dtype=torch.float64)
    return made


def random_graph(draw) -> Graph:
    """Layers of every kind that steps, called on what is there; some are called again."""
    tokens, frames = Input("tokens", 7, ids=True), Input("frames", 3)
    speaker = Input("speaker", 4, ids=True, time=False)
    there = [frames, Embedding(4)(tokens), Repeat()(Embedding(3)(speaker)), Recurrent("gru", hidden_size=3)(tokens)]
    layers = []
    for _ in range(draw(st.integers(1, 7))):
        one = draw(st.sampled_from(there))
        kind = draw(st.sampled_from(["recurrent", "graph", "again", "merge", "each"]))
        if kind == "recurrent":
            options = {"num_layers": draw(st.integers(1, 2)), "residual": draw(st.booleans())}
            layers.append(Recurrent(draw(st.sampled_from(names("cell"))), hidden_size=3, **options))
            there.append(layers[-1](one))
        elif kind == "graph":
            inside = Input("inside", one.size)
            layers.append(Recurrent(GraphCell(Graph([inside], {"y": Recurrent("rnn", hidden_size=2)(inside)}))))
            there.append(layers[-1](one))
        elif kind == "again":
            fitting = [layer for layer in layers if layer.made_for[0] == (one.size, False)]
            if fitting:
                there.append(draw(st.sampled_from(fitting))(one))
        elif kind == "merge":
            other = draw(st.sampled_from(there))
            layer = draw(st.sampled_from([Add, Multiply, Concat]))
            if layer is Concat or one.size == other.size:
                there.append(layer()(one, other))
        else:
            layers.append(draw(st.sampled_from([lambda: Linear(4), LayerNorm, Dropout, lambda: Activation("silu")]))())
            there.append(layers[-1](one))
    outputs = {"last": Linear(2)(there[-1]), "other": draw(st.sampled_from(there[1:])), "all": Concat()(*there)}
    return Graph([tokens, frames, speaker], outputs).double().eval()


@pytest.mark.slow
@given(st.data())
@settings(max_examples=40)
def test_a_whole_sequence_is_its_steps_whatever_the_graph(data) -> None:
    torch.manual_seed(0)
    graph = random_graph(data.draw)
    inputs = values_for(graph)
    state = {name: torch.rand_like(value) - 0.5 for name, value in graph.initial_state(B).items()}
    whole, last = graph(inputs, state)
    steps = []
    for t in range(T):
        out, state = graph.step(at(inputs, graph.inputs, t), state)
        steps.append(out)
    same(whole, {name: torch.stack([step[name] for step in steps], dim=1) for name in whole})
    same(last, state)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=25)
def test_padding_changes_nothing_whatever_the_graph(data) -> None:
    torch.manual_seed(0)
    graph = random_graph(data.draw)
    inputs = values_for(graph)
    for row, length in enumerate(LENGTHS):
        inputs["frames"][row, length:] = torch.nan
        inputs["tokens"][row, length:] = -1
    whole, last = graph(inputs, None, LENGTHS)
    sum(value.pow(2).sum() for value in whole.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in graph.parameters())
    for row, length in enumerate(LENGTHS.tolist()):
        assert all((value[row, length:] == 0).all() for value in whole.values())
        if length:
            alone = {
                name: value[row : row + 1, :length] if graph.inputs[name].time else value[row : row + 1]
                for name, value in inputs.items()
            }
            expected, after = graph(alone)
            same({name: value[row : row + 1, :length] for name, value in whole.items()}, expected)
            same({name: value[row : row + 1] for name, value in last.items()}, after)


F = torch.nn.functional
COMPUTES = {
    "add": (lambda a, b: a + b + a, lambda x, y: 2 * x + y),
    "multiply": (lambda a, b: Multiply()(a, b, b), lambda x, y: x * y * y),
    "concat": (lambda a, b: Concat()(b, a), lambda x, y: torch.cat([y, x], dim=-1)),
    "layer_norm": (lambda a, b: LayerNorm()(a) + b, lambda x, y: F.layer_norm(x, (3,)) + y),
    "dropout": (lambda a, b: Dropout(0.9)(a) + b, lambda x, y: x + y),  # evaluating, not training
    **{
        name: (lambda a, b, name=name: Activation(name)(a + b), lambda x, y, of=of: of(x + y))
        for name, of in {
            "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "gelu": F.gelu, "silu": F.silu,
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", COMPUTES)
def test_a_layer_without_a_state_computes_what_its_name_says(name: str) -> None:
    a, b = Input("a", 3), Input("b", 3)
    made, expected = COMPUTES[name]
    graph = Graph([a, b], {"y": made(a, b)}).double().eval()
    x = values_for(graph)
    same(graph(x)[0], {"y": expected(x["a"], x["b"])})


def test_weights_are_used_as_in_torch_and_dropout_is_for_training() -> None:
    ids, row = Input("ids", 5, ids=True), Input("row", 4, time=False)
    y = Linear(2, bias=False)(Embedding(4)(ids) + Repeat()(row))
    graph = Graph([ids, row], {"y": y, "dropped": Dropout(0.5)(y)}).double()
    x, layers = values_for(graph), graph.layers
    expected = (layers["embedding"].weight[x["ids"]] + x["row"].unsqueeze(1)) @ layers["linear"].weight.T
    torch.manual_seed(0)
    out = graph(x)[0]
    same({"y": out["y"]}, {"y": expected})
    kept = out["dropped"] != 0
    assert 0.2 < kept.double().mean() < 0.8
    same({"y": out["dropped"][kept]}, {"y": 2 * expected[kept]})


def two_calls() -> tuple[Graph, Recurrent]:
    a, b = Input("a", 3), Input("b", 3)
    shared = Recurrent("lstm", hidden_size=4)
    first = shared(a, name="memory")
    return Graph([a, b], {"first": first, "second": shared(b)}).double(), shared


def test_a_layer_called_twice_shares_its_weights_and_has_a_state_for_each_call() -> None:
    graph, shared = two_calls()
    assert [name for name, _ in graph.named_parameters()] == [
        f"layers.memory.{name}" for name, _ in shared.module.named_parameters()
    ]
    assert list(graph.initial_state(2)) == ["memory.h", "memory.c", "memory@2.h", "memory@2.c"]
    inputs = values_for(graph)
    both, state = graph(inputs)
    for name, key, source in (("first", "memory", "a"), ("second", "memory@2", "b")):
        y, after = shared.module(inputs[source])
        same({"y": both[name], "h": state[f"{key}.h"]}, {"y": y, "h": after["h"]})
    swapped, _ = graph({"a": inputs["b"], "b": inputs["a"]})
    same({"y": swapped["first"]}, {"y": both["second"]})


def test_the_gradient_of_a_shared_layer_is_the_sum_over_its_calls() -> None:
    graph, shared = two_calls()
    inputs = values_for(graph)
    weight, grads = shared.module.weight_ih, []
    for name in ("first", "second"):
        grads.append(torch.autograd.grad(graph(inputs)[0][name].sum(), weight)[0])
    outputs, _ = graph(inputs)
    torch.testing.assert_close(torch.autograd.grad(sum(y.sum() for y in outputs.values()), weight)[0], sum(grads))


def test_every_input_and_every_weight_matters() -> None:
    torch.manual_seed(0)
    a, b, c = Input("a", 3), Input("b", 5, ids=True), Input("c", 4, time=False)
    x = Concat()(a, Embedding(2)(b), Repeat()(Linear(3)(c)))
    x = LayerNorm()(Recurrent("gru", hidden_size=6, num_layers=2, layer_norm=True)(x))
    graph = Graph([a, b, c], {"y": Linear(2)(x * Activation("sigmoid")(x)), "z": Max()(x)}).double()
    inputs = {name: v.requires_grad_(v.is_floating_point()) for name, v in values_for(graph).items()}
    outputs, _ = graph(inputs, None, LENGTHS)
    sum(value.pow(2).sum() for value in outputs.values()).backward()
    for name, value in [*graph.named_parameters(), ("a", inputs["a"]), ("c", inputs["c"])]:
        assert value.grad is not None, name
        assert value.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Last, lambda rows: rows[-1]),
        (Mean, lambda rows: rows.mean(dim=0)),
        (Max, lambda rows: rows.amax(dim=0)),
    ],
)
def test_pooling_reads_each_row_to_its_end(layer, expected) -> None:
    a = Input("a", 3)
    graph = Graph([a], {"y": layer()(a)})
    x = values_for(graph)["a"]
    y = graph({"a": x}, None, LENGTHS)[0]["y"]
    assert y.shape == (B, 3)
    for row, length in enumerate(LENGTHS.tolist()):
        torch.testing.assert_close(y[row], expected(x[row, :length]) if length else torch.zeros(3).double())
    same({"y": graph({"a": x})[0]["y"]}, {"y": torch.stack([expected(row) for row in x])})


def test_what_looks_ahead_has_no_step_and_says_why() -> None:
    a = Input("a", 3)
    forward = Recurrent("rnn", hidden_size=2)(a)
    assert Graph([a], {"y": forward}).causal
    for name, output in {
        "summary": Last()(forward, name="summary"),
        "both": Recurrent("gru", hidden_size=2, bidirectional=True)(a, name="both"),
        "inner": Recurrent(GraphCell(Graph([a], {"y": Repeat()(Mean()(a))})))(a, name="inner"),
    }.items():
        graph = Graph([a], {"y": output}).double()
        assert graph.looks_ahead == [name]
        assert graph(values_for(graph))[0]["y"].isfinite().all()
        with pytest.raises(UserError, match=f"step by step: {name} needs the whole sequence"):
            graph.step(at(values_for(graph), graph.inputs, 0), graph.initial_state(B))


def test_a_graph_in_a_graph_is_the_same_layers() -> None:
    a, b = Input("a", 3), Input("b", 3)
    torch.manual_seed(0)
    inner = Graph([a, b], {"sum": Recurrent("gru", hidden_size=2)(a + b), "product": Linear(2)(a * b)})
    c = Input("c", 3)
    nested = inner.on({"a": c, "b": Activation("tanh")(c)})
    outer = Graph([c], {"y": Concat()(nested["sum"], nested["product"])}).double()
    x = values_for(outer)["c"]
    expected, state = inner.double()({"a": x, "b": x.tanh()})
    y, after = outer({"c": x})
    same({"y": y["y"], **after}, {"y": torch.cat(list(expected.values()), dim=-1), **state})
    with pytest.raises(UserError, match=r"'a' \(3 features\) can't be replaced by 'd' \(4 features\)"):
        inner.on({"a": Input("d", 4), "b": c})


def test_a_layer_that_is_made_already_keeps_its_weights() -> None:
    cell = resolve("cell", "gru")(9, hidden_size=2)
    before = cell.weight_ih.clone()
    Recurrent(cell)(Input("ids", 9, ids=True))
    assert torch.equal(cell.weight_ih, before)


@pytest.mark.slow
def test_copies_and_weights_on_file_are_whole(tmp_path: Path) -> None:
    x = Input("x", 4)
    y = x
    for _ in range(300):  # deeper than Python's recursion would follow
        y = Activation("tanh")(y)
    deep = Graph([x], {"y": Linear(2)(y)}).double()
    other = copy.deepcopy(deep)
    inputs = values_for(deep)
    same(deep(inputs)[0], other(inputs)[0])
    with torch.no_grad():
        other.layers["linear"].bias += 1.0
    assert (deep(inputs)[0]["y"] - other(inputs)[0]["y"]).abs().min() > 0.5
    other.load_state_dict(deep.state_dict())
    same(deep(inputs)[0], other(inputs)[0])


A, IDS, ROW, TWO = Input("a", 64), Input("ids", 9, ids=True), Input("row", 5, time=False), Input("two", 32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Add()(A, TWO, name="x"), r"add 'x': the sizes differ: 64 \('a'\) and 32 \('two'\) features"),
        (lambda: A * TWO, r"multiply: the sizes differ: 64 \('a'\) and 32"),
        (lambda: Linear(3)(IDS, name="head"), r"linear 'head': takes numbers, not 'ids' \(ids below 9\)"),
        (lambda: Embedding(3)(A), r"embedding: takes ids, not 'a' \(64 features\)"),
        (lambda: Recurrent("gru")(ROW), r"gru: takes a sequence, not 'row' \(5 features, one per sequence\)"),
        (lambda: Repeat()(A), "repeat: takes one vector per sequence, not 'a'"),
        (lambda: Concat()(A, ROW), "concat: can't combine a sequence with one vector per sequence"),
        (lambda: Concat()(A), "concat: takes 2 to 64 inputs, not 1"),
        (lambda: Linear(3)(A, TWO), "linear: takes one input, not 2"),
        (lambda: Linear(3)(torch.zeros(2)), "linear: must be called on symbols, not on Tensor"),
        (lambda: Linear(0)(A), "linear: the size must be a whole number from 1 to"),
        (lambda: Linear()(A), "linear: needs a size"),
        (lambda: [h := Linear(3), h(A, name="h"), h(TWO)], r"linear 'h': its weights, .* are for 64 features, not"),
        (lambda: [h := Linear(3), h(A, name="h"), h(A, name="g")], "linear 'h': already has a name"),
        (lambda: Linear(3)(A, name="a.b"), "'a.b' isn't a valid name"),
        (lambda: Linear(3)(A, name="values"), "'values' is taken by torch"),
        (lambda: Input("x", 1 << 40), "input 'x': the size must be"),
        (lambda: Recurrent(resolve("cell", "gru")(3))(A), r"needs 3 features, not 'a' \(64 features\)"),
        (lambda: Recurrent("grru"), "unknown cell 'grru'. Did you mean 'gru'"),
        (lambda: Graph([A], {"y": A + Linear(64)(TWO)}), "graph: unknown input 'two'"),
        (lambda: Graph([A, Input("a", 3)], {"y": A}), "graph: two inputs have the same name"),
        (lambda: Graph([A, TWO], {"y": A}), "graph: the input 'two' isn't used by any output"),
        (lambda: Graph([A], {}), "graph: a graph needs an output"),
        (lambda: Graph([IDS], {"y": IDS}), "graph: the output 'y' can't be ids"),
        (
            lambda: Graph([A], {"y": Linear(2)(Linear(3)(A, name="h"), name="h")}),
            "graph: the name 'h' is used more than once",
        ),
        (lambda: Graph([A], {"y": Linear(2)(A, name="a")}), "graph: the name 'a' is used more than once"),
        (lambda: Graph([ROW], {"y": Repeat()(ROW)}), "graph: repeat needs a sequence as another input"),
        (lambda: GraphCell(Graph([A], {"y": Last()(A)})), "graph cell: needs one input and one output"),
    ],
)
def test_a_wrong_graph_is_refused_at_once_with_the_layer_and_the_shapes(wrong, message: str) -> None:
    with pytest.raises(UserError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"ids": torch.zeros(2, 3, dtype=torch.int64)}, "missing inputs: a"),
        ({"a": torch.zeros(2, 3, 64), "idz": torch.zeros(2, 3)}, "unknown input 'idz'. Did you mean 'ids'"),
        ({"a": torch.zeros(2, 3, 64), "ids": torch.zeros(2, 3)}, r"'ids' \(ids below 9\) can't be float32 \[2, 3\]"),
        ({"a": torch.zeros(2, 3, 5), "ids": torch.zeros(2, 3).long()}, r"'a' \(64 features\) can't be float32"),
        ({"a": torch.zeros(2, 4, 64), "ids": torch.zeros(2, 3).long()}, r"differ in .*: a \[2, 4\], ids \[2, 3\]"),
        ({"a": torch.zeros(2, 0, 64), "ids": torch.zeros(2, 0).long()}, "at least one step"),
    ],
)
def test_wrong_tensors_are_refused_with_their_shapes(inputs, message: str) -> None:
    graph = Graph([A, IDS], {"y": Linear(2)(Concat()(A, Embedding(3)(IDS)))})
    with pytest.raises(UserError, match=message):
        graph(inputs)
