"""The functional API: a graph is its steps, shares what it shares, nests, and wrong ones are refused by name."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.bundle import load_bundle, save_bundle
from components.encodings.characters import Characters
from components.errors import UserError
from components.generation.sampling import Settings, sample
from components.layers.stack import Stack
from components.models.graph import Graph, GraphCell
from components.models.graph_layers import (
    LAYERS,
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
from components.models.graph_model import GraphModel
from components.models.graph_recipe import check_layers, graph_from_recipe, looks_ahead
from components.models.sequence_model import SequenceModel
from components.recipe import Recipe
from components.registry import names, resolve
from components.tasks.language_model import LanguageModel
from components.training.session import Session

B, T = 3, 5
LENGTHS = torch.tensor([T, 0, 2])
PAGE = Path(__file__).resolve().parents[1] / "docs" / "graph.md"


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
        with pytest.raises(UserError, match=f"no step: {name} reads the whole sequence"):
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
    with pytest.raises(UserError, match=r"'a' \(3 features\) can't be 'd' \(4 features\)"):
        inner.on({"a": Input("d", 4), "b": c})


def test_a_layer_that_is_made_already_keeps_its_weights() -> None:
    cell = resolve("cell", "gru")(9, hidden_size=2)
    before = cell.weight_ih.clone()
    Recurrent(cell)(Input("ids", 9, ids=True))
    assert torch.equal(cell.weight_ih, before)


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
        (lambda: Recurrent("gru")(ROW), r"gru: takes a sequence, not 'row' \(5 features, one a row\)"),
        (lambda: Repeat()(A), "repeat: takes one vector a row, not 'a'"),
        (lambda: Concat()(A, ROW), "concat: can't join a sequence and one vector a row"),
        (lambda: Concat()(A), "concat: takes 2 to 64 inputs, not 1"),
        (lambda: Linear(3)(A, TWO), "linear: takes one input, not 2"),
        (lambda: Linear(3)(torch.zeros(2)), "linear: is called on symbols, not on Tensor"),
        (lambda: Linear(0)(A), "linear: the size must be a whole number from 1 to"),
        (lambda: Linear()(A), "linear: has no size"),
        (lambda: [h := Linear(3), h(A, name="h"), h(TWO)], r"linear 'h': its weights, .* are for 64 features, not"),
        (lambda: [h := Linear(3), h(A, name="h"), h(A, name="g")], "linear 'h': is named already"),
        (lambda: Linear(3)(A, name="a.b"), "'a.b' may hold only letters"),
        (lambda: Linear(3)(A, name="values"), "'values' is taken by torch"),
        (lambda: Input("x", 1 << 40), "input 'x': the size must be"),
        (lambda: Recurrent(resolve("cell", "gru")(3))(A), r"reads 3 features, not 'a' \(64 features\)"),
        (lambda: Recurrent("grru"), "unknown cell 'grru'. Did you mean 'gru'"),
        (lambda: Graph([A], {"y": A + Linear(64)(TWO)}), "graph: unknown input 'two'"),
        (lambda: Graph([A, Input("a", 3)], {"y": A}), "graph: two inputs have one name"),
        (lambda: Graph([A, TWO], {"y": A}), "graph: no output reads the input 'two'"),
        (lambda: Graph([A], {}), "graph: a graph needs an output"),
        (lambda: Graph([IDS], {"y": IDS}), "graph: the output 'y' would be ids"),
        (lambda: Graph([A], {"y": Linear(2)(Linear(3)(A, name="h"), name="h")}), "graph: the name 'h' stands twice"),
        (lambda: Graph([A], {"y": Linear(2)(A, name="a")}), "graph: the name 'a' stands twice"),
        (lambda: Graph([ROW], {"y": Repeat()(ROW)}), "graph: repeat needs an input over time"),
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
        ({"a": torch.zeros(2, 4, 64), "ids": torch.zeros(2, 3).long()}, r"differ: a \[2, 4\], ids \[2, 3\]"),
        ({"a": torch.zeros(2, 0, 64), "ids": torch.zeros(2, 0).long()}, "at least one step"),
    ],
)
def test_wrong_tensors_are_refused_with_their_shapes(inputs, message: str) -> None:
    graph = Graph([A, IDS], {"y": Linear(2)(Concat()(A, Embedding(3)(IDS)))})
    with pytest.raises(UserError, match=message):
        graph(inputs)


LAYERS_OF_A_RECIPE = {
    "embed": {"layer": "embedding", "of": "tokens", "size": 6},
    "beat": {"layer": "embedding", "of": "context_0", "size": 4},
    "both": {"layer": "concat", "of": ["embed", "beat"]},
    "logits": {"layer": "linear", "of": "skip"},  # in no particular order
    "memory": {"layer": "gru", "of": "both", "hidden_size": 10},
    "again": {"share": "memory", "of": "block"},
    "block": {
        "layer": "graph",
        "of": "memory",
        "layers": {
            "inner": {"layer": "lstm", "of": "input", "hidden_size": 10},
            "sum": {"layer": "add", "of": ["inner", "input"]},
        },
        "output": "sum",
    },
    "skip": {"layer": "add", "of": ["both", "again"]},
}
SIZES = {"tokens": 12, "context_0": 3, "context_1": 5}


def model(**changes) -> GraphModel:
    return GraphModel(SIZES, {"logits": 12}, layers={**LAYERS_OF_A_RECIPE, **changes})


def test_a_recipe_is_the_graph_that_it_describes() -> None:
    torch.manual_seed(0)
    made = model().double()
    layers = made.graph.layers
    tokens, beat = Input("tokens", 12, ids=True), Input("context_0", 3, ids=True)
    inside = Input("input", 10)
    both = Concat()(Embedding(6)(tokens, name="embed"), Embedding(4)(beat, name="beat"))
    memory = Recurrent("gru", hidden_size=10)
    first = memory(both, name="memory")
    inner = Graph([inside], {"y": Recurrent("lstm", hidden_size=10)(inside, name="inner") + inside})
    again = memory(Recurrent(GraphCell(inner))(first, name="block"))
    expected = Graph([tokens, beat], {"logits": Linear(12)(both + again, name="logits")}).double()
    expected.load_state_dict(made.graph.state_dict())
    inputs = torch.stack([torch.randint(0, size, (B, T)) for size in SIZES.values()], dim=-1)
    logits, state = made(inputs)
    other, after = expected({"tokens": inputs[..., 0], "context_0": inputs[..., 1]})
    assert [name for name in state if name.startswith("again")] == ["again.h"], "a share's state has its own name"
    same(
        {"y": logits, **state}, {"y": other["logits"], **{k.replace("memory@2", "again"): v for k, v in after.items()}}
    )
    assert set(layers) == {"embed", "beat", "memory", "block", "logits"}
    assert set(made.graph.inputs) == {"tokens", "context_0"}, "nobody reads context_1"


def test_a_checked_recipe_is_whole_and_checks_again() -> None:
    problems: list[str] = []
    checked = check_layers(LAYERS_OF_A_RECIPE, {"logits": "logits"}, SIZES, problems)
    assert not problems
    assert checked["memory"] == {"layer": "gru", "of": "both", **checked["memory"]}
    assert checked["memory"]["backend"] == "auto"
    assert checked["block"]["layers"]["inner"]["forget_bias"] == 1.0
    assert check_layers(checked, {"logits": "logits"}, SIZES, problems) == checked
    assert model(**checked).graph.state_dict().keys() == model().graph.state_dict().keys()


def test_a_recipe_tells_what_looks_ahead() -> None:
    changed = copy.deepcopy(LAYERS_OF_A_RECIPE)
    assert GraphModel.is_causal({"layers": changed})
    changed["memory"]["bidirectional"] = True
    changed["block"]["layers"]["mean"] = {"layer": "mean", "of": "inner"}
    assert looks_ahead(changed) == ["memory", "block.layers.mean"]
    assert not GraphModel.is_causal({"layers": changed})


def test_all_problems_of_a_recipe_are_told_at_once_each_with_its_key() -> None:
    layers = {
        **LAYERS_OF_A_RECIPE,
        "embed": {"layer": "embeding", "of": "tokens"},
        "memory": {"layer": "gru", "of": "boht", "hiden_size": 10},
        "again": {"share": "logits2", "of": "both"},
        "tokens": {"layer": "linear", "of": "both"},
        "c1": {"layer": "add", "of": ["c2", "both"]},
        "c2": {"layer": "add", "of": ["both", "c1"]},
        "both.": {"layer": "add", "of": "both"},
        "none": {"of": "both"},
        "block": {"layer": "graph", "of": "memory", "layers": {"a": {"layer": "rnn", "of": "inpt"}}, "output": "b"},
        "three": 3,
    }
    with pytest.raises(UserError) as caught:
        GraphModel(SIZES, {"logits": 12}, layers=layers, outputs={"logits": "logit", "extra": "both"})
    told = str(caught.value)
    for expected in [
        "model.layers.embed.layer: unknown 'embeding'; did you mean 'embedding'?",
        "model.layers.memory.of: unknown layer or input 'boht'; did you mean 'both'?",
        "model.layers.memory.hiden_size: unknown setting; did you mean 'hidden_size'?",
        "model.layers.again.share: 'logits2' is no layer with weights of its own; did you mean 'logits'?",
        "model.layers.tokens: 'tokens' is the name of an input",
        "model.layers.c1.of: a circle, c1 → c2 → c1",
        "model.layers.both.: the name 'both.' may hold only",
        "model.layers.none: set either layer",
        "model.layers.block.layers.a.of: unknown layer or input 'inpt'; did you mean 'input'?",
        "model.layers.block.output: unknown layer 'b'",
        "model.layers.three: must be a mapping",
        "model.outputs.logits: unknown layer 'logit'; did you mean 'logits'?",
        "model.outputs.extra: the task has no such output (it has logits)",
    ]:
        assert expected in told
    assert told.startswith("13 problems")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"skip": {"layer": "add", "of": ["beat", "again"]}},
            r"layers.skip.of: add 'skip': the sizes differ: 4 \('beat'\) and 10 \('again'\) features",
        ),
        (
            {"logits": {"layer": "linear", "of": "skip", "size": 3}},
            r"outputs.logits: the task needs 12 .* \(3 features",
        ),
        ({"logits": {"layer": "last", "of": "skip"}}, r"outputs.logits: the task needs 12 features, not 'logits' \(10"),
        ({"again": {"layer": "linear", "of": "block"}}, r"layers.again.size: must be set \(only an output's size"),
        ({"again": {"layer": "repeat", "of": "block"}}, r"layers.again.of: repeat 'again': takes one vector a row"),
        ({"extra": {"layer": "gru", "of": "both"}}, "layers.extra: no output depends on it"),
        (
            {"block": {**LAYERS_OF_A_RECIPE["block"], "of": "both", "output": "inner"}},
            "layers.block.layers.sum: no output",
        ),
        (
            {"again": {"share": "memory", "of": "wide"}, "wide": {"layer": "concat", "of": ["block", "beat"]}},
            r"layers.again.of: gru 'memory': its weights, shared by all its calls, are for 10 features, not .wide.",
        ),
    ],
)
def test_shapes_in_a_recipe_are_refused_with_the_key(changes, message: str) -> None:
    with pytest.raises(UserError, match=r"(?s)1 problem in the graph.*model\." + message):
        model(**changes)


def test_an_output_for_each_row_and_one_for_each_step_are_told_apart() -> None:
    layers = {"memory": {"layer": "rnn", "of": "tokens", "hidden_size": 3}, "logits": {"layer": "linear", "of": "end"}}
    layers["end"] = {"layer": "last", "of": "memory"}
    made = GraphModel({"tokens": 5}, {"logits": 2}, False, layers=layers)
    assert made(torch.zeros(B, T, 1, dtype=torch.int64))[0].shape == (B, 2)
    with pytest.raises(UserError, match=r"outputs.logits: the task needs a sequence, not 'logits' \(2 .*one a row"):
        GraphModel({"tokens": 5}, {"logits": 2}, True, layers=layers)


json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([*LAYERS, "lstm", "graph", "a", "tokens"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["layer", "of", "share", "size", "layers", "output", "a", "b", "num_layers"]), inner
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "logits", "values"]), json))
@settings(max_examples=150)
def test_whatever_stands_in_a_recipe_is_a_graph_or_a_message(layers) -> None:
    told = "model."
    try:
        graph_from_recipe(layers, {"tokens": Input("tokens", 4, ids=True)}, {"logits": 4})
    except UserError as error:
        told = str(error)
    assert "model." in told


def test_a_graph_is_the_sequence_model_that_it_describes_and_learns_and_samples_as_one() -> None:
    torch.manual_seed(0)
    encoding = Characters()
    encoding.fit(["the cat sat on the mat"])
    size = len(encoding.vocabulary)
    plain = SequenceModel(size, kind="lstm", hidden_size=16, num_layers=2)
    layers = {
        "embed": {"layer": "embedding", "of": "tokens", "size": 16},
        "memory": {"layer": "lstm", "of": "embed", "hidden_size": 16, "num_layers": 2},
        "logits": {"layer": "linear", "of": "memory"},
    }
    graph = GraphModel({"tokens": size}, {"logits": size}, layers=layers)
    graph.load_state_dict(dict(zip(graph.state_dict(), plain.state_dict().values(), strict=True)))
    ids = torch.from_numpy(encoding.encode("the cat sat on the mat")).long()[None]
    assert torch.equal(graph(ids[..., None])[0], plain(ids[..., None])[0])
    options = Settings(count=2, max_length=30)
    prompt = ids[0, :4].tolist()
    made = [sample(m, encoding, prompt, options, seed=3, framed=False) for m in (graph, plain)]
    assert [one.ids.tolist() for one in made[0]] == [one.ids.tolist() for one in made[1]]

    class Once:
        inputs_BTS, targets_BT, units = ids[:, :-1, None].numpy(), ids[:, 1:].numpy(), {}

    task = LanguageModel(encoding, "stream")
    optimizer = torch.optim.Adam(graph.parameters(), lr=0.02)
    for _ in range(60):
        tally, _ = task.loss(graph, Once, None)
        optimizer.zero_grad()
        tally.total.backward()
        optimizer.step()
    assert tally.total.item() < 0.3 * tally.count
    written = sample(graph, encoding, prompt, Settings(count=1, max_length=18, temperature=0), seed=0, framed=False)
    assert encoding.decode(written[0].ids) == "the cat sat on the mat"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_shows_graphs_that_run_as_they_are_shown() -> None:
    from components.recipe import parse_yaml

    shown: dict = {}
    assert len(blocks("python")) >= 3
    for block in blocks("python"):
        exec(block, shown)  # the page's own code
    (drawing,), (recipe,) = blocks("mermaid"), blocks("yaml")
    options = parse_yaml(recipe, where=PAGE.name)["model"]
    assert options.pop("kind") == "graph"
    built = GraphModel({"tokens": 30, "context_0": 16}, {"logits": 30}, **options)
    assert drawing.strip() == built.graph.mermaid()
    inputs = torch.zeros(B, T, 2, dtype=torch.int64)
    assert built(inputs)[0].shape == (B, T, 30)
    text = PAGE.read_text(encoding="utf-8")
    assert not [kind for kind in LAYERS if f"`{kind}`" not in text], "the table has every layer"


def test_a_layer_of_a_recipe_is_no_cell_too() -> None:
    assert not set(LAYERS) & set(names("cell"))
    assert len(LAYERS) >= 12
    assert isinstance(Recurrent("gru", num_layers=2, hidden_size=2).build(A), Stack)


def test_a_recipe_with_a_graph_trains_is_saved_and_writes(small_recipe, small_store, silent, tmp_path) -> None:
    layers = {
        "embed": {"layer": "embedding", "of": "tokens", "size": 8},
        "memory": {"layer": "gru", "of": "embed", "hidden_size": 8},
        "again": {"share": "memory", "of": "memory"},
        "skip": {"layer": "add", "of": ["again", "embed"]},
        "logits": {"layer": "linear", "of": "skip"},
    }
    values = small_recipe().as_dict() | {"model": {"kind": "graph", "layers": layers}}
    recipe = Recipe.from_dict("drawn", values)
    assert Recipe.from_dict("drawn", recipe.as_dict()).digest == recipe.digest
    store = small_store(recipe)
    session = Session(recipe, store, "cpu", 1)
    before = session.evaluate("test")["nats_per_char"]
    session.train(tmp_path / "run", silent)
    assert session.evaluate("test")["nats_per_char"] < before
    save_bundle(
        tmp_path / "bundle", "drawn", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"}
    )
    made = [load_bundle(tmp_path / "bundle").generate(seed=3) for _ in range(2)]
    assert made[0].items == made[1].items

    layers["logits"]["of"] = "skipp"
    layers["embed"]["size"] = 0
    with pytest.raises(UserError) as error:
        Recipe.from_dict("drawn", values | {"model": {"kind": "graph", "layers": layers}})
    assert "model.layers.logits.of" in str(error.value)
    assert "model.layers.embed.size" in str(error.value)
