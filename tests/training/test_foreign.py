"""Weights from torch's files: the layers compute what torch's do, and what doesn't fit is told with what would."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from task_pairs import PAIRS
from torch import nn

from components.errors import UserError
from components.recipe import Recipe
from components.registry import resolve
from components.schema import check_model
from components.training import foreign
from components.training.foreign import described, named_file
from components.training.imported import check_fit, read_weights, take_file

WIDTH, HIDDEN, WORDS = 5, 6, ["good", "bad", "baobab"]
TORCH = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Theirs(nn.Module):
    """What people write: an embedding, a recurrent module, a linear head."""

    def __init__(self, cell: str = "lstm", tokens: int = 9, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, WIDTH)
        self.rnn = TORCH[cell](WIDTH, HIDDEN, batch_first=True, **options)
        self.fc = nn.Linear(HIDDEN * (2 if options.get("bidirectional") else 1), 2)


def theirs(cell: str = "lstm", **options: Any) -> Theirs:
    torch.manual_seed(1)
    return Theirs(cell, **options)


def ours(**model: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A classifier's model and its settings, all of them."""
    encoding = resolve("encoding", "pair")(input={"kind": "characters"}, target={"kind": "labels"})
    encoding.fit([(word, [word[0]]) for word in WORDS])
    task = resolve("task", "classification")(encoding, "sequences")
    values = {"kind": "lstm", "hidden_size": HIDDEN, "embedding_size": WIDTH, **model}
    settings = check_model(values, {"kind": "classification"}, problems := [])
    assert not problems
    torch.manual_seed(2)
    return task.build_model(settings), settings


def saved(path: Path, module: nn.Module) -> str:
    torch.save(module.state_dict(), path)
    return str(path)


@pytest.mark.parametrize("ending", [".pt", ".safetensors"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", list(TORCH))
def test_the_layers_compute_what_torch_computes(tmp_path, cell, layers, bidirectional, ending) -> None:
    module = theirs(cell, num_layers=layers, bidirectional=bidirectional)
    path = tmp_path / f"theirs{ending}"
    if ending == ".pt":
        saved(path, module)
    else:
        save_file(module.state_dict(), path)
    model, settings = ours(kind=cell, num_layers=layers, bidirectional=bidirectional)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    taken = take_file(model, read_weights(str(path)), settings)
    x_BTI = torch.randn(3, 7, WIDTH)
    with torch.no_grad():
        expected, (mine, _) = module.rnn(x_BTI)[0], model.recurrent(x_BTI)
    assert (expected - mine).abs().max() < 1e-6
    assert list(taken.taken) == [f"recurrent.layers.{n}" for n in range(layers)]
    # whose tokens and labels the others are, the file doesn't tell
    assert taken.anew == ["embedding.weight", "head.weight", "head.bias"]
    assert all(torch.equal(model.get_parameter(name), before[name]) for name in taken.anew)
    told = "\n".join(taken.told())
    G, both = foreign.CELLS[cell] * HIDDEN, 2 if bidirectional else 1
    assert f"recurrent.layers.0 from rnn, layer 1 [{G}, {WIDTH}] [{G}, {HIDDEN}]" in told
    left = {"embedding.weight": [9, WIDTH], "fc.weight": [2, HIDDEN * both], "fc.bias": [2]}
    assert taken.facts()["left"] == left
    assert all(f"{name} {shape}" in told for name, shape in left.items())
    assert ("tanh or relu" in told) == (cell == "rnn")


def test_a_checkpoint_from_several_gpus_without_biases(tmp_path) -> None:
    module = theirs("gru", bias=False)
    values = {f"module.{name}": value for name, value in module.state_dict().items()}
    torch.save({"epoch": 3, "optimizer": {"state": {}}, "model_state_dict": values}, tmp_path / "best.pth")
    model, settings = ours(kind="gru")
    take_file(model, read_weights(str(tmp_path / "best.pth")), settings)
    x_BTI = torch.randn(2, 5, WIDTH)
    assert (module.rnn(x_BTI)[0] - model.recurrent(x_BTI)[0]).abs().max() < 1e-6


def test_an_embedding_and_a_head_are_taken_when_they_are_named(tmp_path) -> None:
    model, settings = ours()
    tokens, labels = len(model.embedding.weight), len(model.head.weight)
    module = theirs(tokens=tokens)
    module.fc = nn.Linear(HIDDEN, labels)
    path = saved(tmp_path / "theirs.pt", module)
    taken = take_file(model, read_weights(f"{path}#embedding,rnn,fc"), settings)
    assert torch.equal(model.embedding.weight, module.embedding.weight)
    assert torch.equal(model.head.bias, module.fc.bias)
    assert not taken.anew
    assert not taken.source.left
    module.fc = nn.Linear(HIDDEN, labels + 1)
    path = saved(tmp_path / "other.pt", module)
    with pytest.raises(UserError, match=r"fc doesn't fit the model's head: .* the model has") as caught:
        take_file(ours()[0], read_weights(f"{path}#rnn,fc"), settings)
    assert caught.value.hint == "leave fc out"


@pytest.mark.parametrize(
    ("cell", "options", "recipe", "says"),
    [
        ("gru", {}, {}, "kind=lstm, hidden_size=6"),
        ("lstm", {"num_layers": 3}, {}, "num_layers=1"),
        ("lstm", {}, {"bidirectional": True}, "bidirectional=true"),
        ("lstm", {"bidirectional": True}, {"hidden_size": 8, "embedding_size": None}, "bidirectional=false"),
        ("gru", {}, {"kind": "gru", "reset_after": False}, "reset_after=false"),
        ("lstm", {}, {"embedding_size": 7}, ""),
        ("lstm", {}, {"kind": "peephole-lstm"}, "kind=peephole-lstm"),
        ("rnn", {}, {"kind": "mingru", "embedding_size": None}, "kind=mingru"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_settings_that_do(tmp_path, cell, options, recipe, says) -> None:
    path = saved(tmp_path / "theirs.pt", theirs(cell, **options))
    model, settings = ours(**recipe)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with pytest.raises(UserError) as caught:
        take_file(model, read_weights(path), settings)
    assert says in caught.value.what
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    asked = re.findall(r"--set model\.(\w+)=(\S+)", caught.value.hint)
    assert asked
    given = {
        name: json.loads(value) if value[0].isdigit() or value in ("true", "false") else value for name, value in asked
    }
    kept = {name: value for name, value in recipe.items() if name not in given and value is not None}
    if "kind" in given:
        kept.pop("reset_after", None)
    model, settings = ours(**{**kept, **given})
    assert take_file(model, read_weights(path), settings).taken


def test_layers_of_several_modules_are_taken_when_their_order_is_said(tmp_path) -> None:
    module = nn.ModuleDict({"above": nn.LSTM(HIDDEN, HIDDEN), "below": nn.LSTM(WIDTH, HIDDEN)})
    path = saved(tmp_path / "two.pt", module)
    with pytest.raises(UserError, match="contains several recurrent layers") as caught:
        read_weights(path)
    assert "below: LSTM, 1 layer, 5 → 6" in caught.value.what
    assert caught.value.hint.endswith(f"--from '{path}#above,below'")
    model, settings = ours(num_layers=2)
    with pytest.raises(
        UserError, match=r"below, layer 1 has input size 5, but above, layer 1 below it has output size 6"
    ):
        take_file(model, read_weights(f"{path}#above,below"), settings)
    take_file(model, read_weights(f"{path}#below,above"), settings)
    x_TBI = torch.randn(4, 2, WIDTH)
    expected = module["above"](module["below"](x_TBI)[0])[0]
    assert (model.recurrent(x_TBI.transpose(0, 1))[0].transpose(0, 1) - expected).abs().max() < 1e-6
    with pytest.raises(UserError, match="Did you mean 'below'"):
        read_weights(f"{path}#bellow")
    uneven = nn.ModuleDict({"a": nn.LSTM(WIDTH, 4), "b": nn.LSTM(4, HIDDEN)})
    with pytest.raises(UserError, match="its layers have different settings; the file has: LSTM, 2 layers, 5 → 4, 6"):
        check_fit(read_weights(saved(tmp_path / "uneven.pt", uneven) + "#a,b"), settings)


def test_one_hot_columns_belong_to_tokens_and_start_anew(tmp_path) -> None:
    model, settings = ours(input="one_hot", embedding_size=None)
    module = nn.LSTM(21, HIDDEN)
    first = model.recurrent.layers[0]
    before = first.weight_ih.detach().clone()
    taken = take_file(model, read_weights(saved(tmp_path / "chars.pt", module)), settings)
    assert torch.equal(first.weight_ih, before)
    assert torch.equal(first.weight_hh, module.weight_hh_l0)
    assert "recurrent.layers.0.weight_ih" in taken.anew
    assert "its columns stand for tokens" in taken.told()[-1]


def test_an_encoder_is_started_and_a_graph_refused(tmp_path) -> None:
    _, model, _ = PAIRS["translation"].build()
    options = {"hidden_size": 8, "kind": "lstm", **PAIRS["translation"].model}
    reader = model.encoder.recurrent
    first = reader.layers[0].directions[0] if options.get("bidirectional") else reader.layers[0]
    module = TORCH[options["kind"]](
        reader.input_size, first.hidden_size, len(reader.layers), bidirectional=options.get("bidirectional", False)
    )
    source = read_weights(saved(tmp_path / "theirs.pt", module))
    taken = take_file(model, source, options)
    assert torch.equal(first.weight_hh, module.weight_hh_l0)
    assert {name.partition(".")[0] for name in taken.taken} == {"encoder"}
    assert any(name.startswith("decoder.") for name in taken.anew)
    with pytest.raises(UserError, match="its layers have no order"):
        check_fit(source, {"kind": "graph"})
    with pytest.raises(UserError, match="all members would be equal"):
        check_fit(source, {"kind": "lstm", "ensemble": 3})


def test_what_the_recipe_adds_is_told(tmp_path) -> None:
    model, settings = ours(num_layers=2, residual=True, layer_norm=True)
    taken = take_file(model, read_weights(saved(tmp_path / "theirs.pt", theirs(num_layers=2))), settings)
    assert "the recipe's residual and layer_norm the layers compute something else" in taken.told()[-1]


def test_files_are_told_from_models_and_found_from_any_folder(tmp_path, monkeypatch) -> None:
    assert named_file("dir/a.PT#lstm, fc") == (Path("dir/a.PT"), ["lstm", "fc"])
    assert named_file("a.weights.h5") == (Path("a.weights.h5"), [])
    assert [named_file(name) for name in ("names@3", "names", "run:abc.ptx")] == [None] * 3
    monkeypatch.chdir(tmp_path)
    values = {
        "encoding": {"kind": "characters"}, "task": {"kind": "language_model"}, "data": {"dataset": "names"},
        "model": {"kind": "lstm", "hidden_size": 6},
    }  # fmt: skip
    for start, kept in {"a.pt#lstm": f"{tmp_path}/a.pt#lstm", "names@3": "names@3"}.items():
        values["training"] = {"start": start}
        assert Recipe.from_dict("here", values, where="here").training["start"] == kept


def test_a_model_to_start_from_is_looked_for_before_anything_is_done(small_recipe, monkeypatch) -> None:
    from components.runs import start

    asked: list[str] = []
    monkeypatch.setattr(start, "exactly", asked.append)
    start.check_start(small_recipe(training={"start": "names@3"}))
    assert asked == ["names@3"]


def test_the_run_keeps_what_it_started_from(small_recipe, small_store, tmp_path) -> None:
    from components.runs.start import begin, check_start, override
    from components.training.session import Session

    module = nn.LSTM(WIDTH, HIDDEN)
    path = saved(tmp_path / "theirs.pt", module)
    sizes = {"hidden_size": HIDDEN, "num_layers": 1, "embedding_size": WIDTH}
    recipe = small_recipe(model={"kind": "lstm", **sizes}, training={"start": path})
    check_start(recipe)
    session, kept = Session(recipe, small_store(recipe), "cpu", 1), {}
    tracked = SimpleNamespace(tags=kept.update, text=lambda text, name: kept.update({name: json.loads(text)}))
    lines = begin(path, session, tracked)
    assert lines[0] == "theirs.pt: recurrent.layers.0 from layer 1 [24, 5] [24, 6]"
    facts = kept["start.json"]
    assert facts["file"] == path
    assert len(kept["start.sha256"]) == 64
    assert facts["sha256"] == kept["start.sha256"]
    assert kept["start.layers"] == "recurrent.layers.0 from layer 1"
    assert facts["taken"]["recurrent.layers.0"] == {"from": "layer 1", "shapes": [[24, 5], [24, 6]]}
    assert torch.equal(session.model.recurrent.layers[0].weight_hh, module.weight_hh_l0)
    with pytest.raises(UserError, match="doesn't fit the recipe"):
        check_start(small_recipe(model={"kind": "gru", "hidden_size": HIDDEN}, training={"start": path}))
    assert override(path) == f'training.start="{path}"'
    (tmp_path / "theirs.bin").write_bytes(b"")
    with pytest.raises(UserError, match="isn't a file of weights that Reprise can read") as caught:
        override(str(tmp_path / "theirs.bin"))
    assert ".safetensors" in caught.value.hint


def test_layers_are_described_in_words(tmp_path) -> None:
    layers = read_weights(saved(tmp_path / "theirs.pt", theirs("gru", num_layers=2, bidirectional=True))).layers
    assert described(layers) == "bidirectional GRU, 2 layers, 5 → 6"
