"""Graphs as a recipe describes them: checked, built, trained, sampled from; the page's own examples."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_graph import same

from components.bundle import load_bundle, save_bundle
from components.encodings.characters import Characters
from components.errors import UserError
from components.generation.draft import Draft
from components.generation.sampling import sample
from components.generation.settings import Settings
from components.layers.stack import Stack
from components.models.graph import Graph, GraphCell
from components.models.graph_layers import (
    LAYERS,
    Concat,
    Embedding,
    Input,
    Linear,
    Recurrent,
)
from components.models.graph_model import GraphModel
from components.models.graph_recipe import check_layers, graph_from_recipe, looks_ahead
from components.models.sequence_model import SequenceModel
from components.recipe import Recipe
from components.registry import names
from components.tasks.language_model import LanguageModel
from components.training.session import Session

B, T = 3, 5
PAGE = Path(__file__).resolve().parents[2] / "docs" / "graph.md"


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
        "model.layers.again.share: 'logits2' isn't a layer with its own weights; did you mean 'logits'?",
        "model.layers.tokens: the name 'tokens' is already used by an input",
        "model.layers.c1.of: circular: c1 → c2 → c1",
        "model.layers.both.: 'both.' isn't a valid name",
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
        ({"again": {"layer": "linear", "of": "block"}}, r"layers.again.size: must be set \(only output layers"),
        (
            {"again": {"layer": "repeat", "of": "block"}},
            r"layers.again.of: repeat 'again': takes one vector per sequence",
        ),
        ({"extra": {"layer": "gru", "of": "both"}}, "layers.extra: no output depends on it"),
        (
            {"block": {**LAYERS_OF_A_RECIPE["block"], "of": "both", "output": "inner"}},
            "layers.block.layers.sum: no output",
        ),
        (
            {"again": {"share": "memory", "of": "wide"}, "wide": {"layer": "concat", "of": ["block", "beat"]}},
            r"layers.again.of: gru 'memory': its weights, which all calls share, are for 10 features, not .wide.",
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
    with pytest.raises(
        UserError, match=r"outputs.logits: the task needs a sequence, not 'logits' \(2 .*one per sequence"
    ):
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


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(["a", "b", "logits", "values"]), json))
@settings(max_examples=150)
def test_whatever_stands_in_a_recipe_is_a_graph_or_a_message(layers) -> None:
    told = "model."
    try:
        graph_from_recipe(layers, {"tokens": Input("tokens", 4, ids=True)}, {"logits": 4})
    except UserError as error:
        told = str(error)
    assert "model." in told


@pytest.mark.slow
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
    made = [sample(m, Draft(encoding, prompt, options, seed=3, framed=False)) for m in (graph, plain)]
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
    written = sample(
        graph, Draft(encoding, prompt, Settings(count=1, max_length=18, temperature=0), seed=0, framed=False)
    )
    assert encoding.decode(written[0].ids) == "the cat sat on the mat"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_page_shows_graphs_that_run_as_they_are_shown() -> None:
    from components.yaml_text import parse_yaml

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
    assert isinstance(Recurrent("gru", num_layers=2, hidden_size=2).build(Input("a", 64)), Stack)


@pytest.mark.slow
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
