"""Weights from Keras's files: the layers compute what Keras's equations say.

The files are written here as Keras 3 writes them (saving_lib.py: .keras and .weights.h5) and as Keras 1 and 2 did
(legacy_h5_format.py: .h5); the equations are those of keras/src/layers/rnn, in NumPy.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.datasets.files.sandbox import Outcome
from components.encodings.base import Field
from components.errors import UserError
from components.models.pooled import Pooled
from components.training import foreign_keras, hdf5
from components.training.imported import read_weights, take_file

h5py = pytest.importorskip("h5py", reason="needs h5py: pip install h5py")

GATES = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4}
WIDTH, UNITS = 5, 6
Weights = list[np.ndarray]


@pytest.fixture
def here(monkeypatch) -> None:
    """Files are read in this process: another one takes a second to start."""

    def read_all(function: str, paths: list[Path], *_: Any, **__: Any) -> list[Outcome]:
        return [Outcome(json.loads(json.dumps(hdf5.read(path.read_bytes(), path.name, {})))) for path in paths]

    monkeypatch.setattr(foreign_keras, "read_all", read_all)


def layer(kind: str, reads: int, seed: int, **config: Any) -> dict[str, Any]:
    """A layer's config, and its kernel, recurrent kernel and bias."""
    rng, columns = np.random.default_rng(seed), GATES[kind] * UNITS
    config = {"units": UNITS, "activation": "tanh", "use_bias": True, "go_backwards": False, **config}
    if kind != "SimpleRNN":
        config.setdefault("recurrent_activation", "sigmoid")
    shapes: list[tuple[int, ...]] = [(reads, columns), (UNITS, columns)]
    if config["use_bias"]:
        shapes.append((2, columns) if kind == "GRU" and config.setdefault("reset_after", True) else (columns,))
    weights = [rng.normal(0, 0.5, shape).astype(np.float32) for shape in shapes]
    return {"class_name": kind, "config": config, "weights": [weights]}


def both(kind: str, reads: int, seed: int, merge_mode: str = "concat", **config: Any) -> dict[str, Any]:
    ahead, back = layer(kind, reads, seed, **config), layer(kind, reads, seed + 1, go_backwards=True, **config)
    inner = {"layer": plain(ahead), "backward_layer": plain(back), "merge_mode": merge_mode}
    return {"class_name": "Bidirectional", "config": inner, "weights": ahead["weights"] + back["weights"]}


def plain(one: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": one["class_name"], "config": dict(one["config"])}


def other(kind: str, *shapes: tuple[int, ...]) -> dict[str, Any]:
    return {"class_name": kind, "config": {}, "weights": [[np.ones(shape, np.float32) for shape in shapes]]}


def named(layers: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """As Keras names the layers of one class: lstm, lstm_1 …"""
    counts: dict[str, int] = {}
    found = []
    for one in layers:
        name = {"SimpleRNN": "simple_rnn"}.get(one["class_name"], one["class_name"].lower())
        counts[name] = counts.get(name, -1) + 1
        found.append((name + (f"_{counts[name]}" if counts[name] else ""), one))
    return found


def config_of(layers: list[dict[str, Any]], kind: str = "Sequential") -> str:
    listed = [plain(one) | {"config": {**one["config"], "name": f"my_{name}"}} for name, one in named(layers)]
    return json.dumps({"class_name": kind, "config": {"name": "model", "layers": listed}})


def write_new(file: Any, layers: list[dict[str, Any]]) -> None:
    """As Keras 3."""
    for name, one in named(layers):
        ways = ("forward_layer/", "backward_layer/") if one["class_name"] == "Bidirectional" else ("",)
        cell = "cell/" if one["class_name"] in (*GATES, "Bidirectional") else ""
        for way, weights in zip(ways, one["weights"], strict=True):
            for number, value in enumerate(weights):
                file[f"layers/{name}/{way}{cell}vars/{number}"] = value
        file.require_group(f"layers/{name}/vars").attrs["name"] = f"my_{name}"
    file["optimizer/vars/0"] = np.ones((2, 2), np.float32)


def write_old(file: Any, layers: list[dict[str, Any]], where: str) -> None:
    """As Keras 1 and 2, with a colon after each name."""
    top = file.require_group(where) if where else file
    top.attrs["layer_names"] = [f"my_{name}".encode() for name, _ in named(layers)]
    roles = {"Embedding": ["embeddings"], "Dense": ["kernel", "bias"]}
    for name, one in named(layers):
        ways = ("forward_x/cell_1/", "backward_x/cell_2/") if one["class_name"] == "Bidirectional" else ("cell/",)
        for way, weights in zip(ways, one["weights"], strict=True):
            for role, value in zip(
                roles.get(one["class_name"], ["kernel", "recurrent_kernel", "bias"]), weights, strict=False
            ):
                top[f"my_{name}/my_{name}/{'' if one['class_name'] in roles else way}{role}:0"] = value


def written(path: Path, layers: list[dict[str, Any]]) -> str:
    """The kind of file that the name's ending says."""
    if path.suffix == ".keras":
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            write_new(file, layers)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", config_of(layers))
            archive.writestr("model.weights.h5", content.getvalue())
        return str(path)
    with h5py.File(path, "w") as file:
        if path.name.endswith(".weights.h5"):
            write_new(file, layers)
        else:
            file.attrs["model_config"] = config_of(layers)
            write_old(file, layers, "model_weights")
    return str(path)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def run(kind: str, config: dict[str, Any], weights: Weights, x_BTI: np.ndarray) -> np.ndarray:
    """What a layer of Keras gives at each step, in float64."""
    kernel, recurrent, *rest = [value.astype(np.float64) for value in weights]
    columns = kernel.shape[1]
    bias = rest[0] if rest else np.zeros(columns)
    given, carried = bias if bias.ndim == 2 else (bias, np.zeros(columns))
    h = c = np.zeros((len(x_BTI), UNITS))
    outputs = []
    for x in x_BTI.swapaxes(0, 1)[:: -1 if config["go_backwards"] else 1]:
        a = x @ kernel + given
        if kind == "SimpleRNN":
            total = a + h @ recurrent
            h = np.maximum(total, 0) if config["activation"] == "relu" else np.tanh(total)
        elif kind == "LSTM":
            i, f, g, o = np.split(a + h @ recurrent, 4, axis=1)  # g is Keras's candidate for the carry
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            x_z, x_r, x_h = np.split(a, 3, axis=1)
            U = recurrent[:, : 2 * UNITS]
            z, r = (sigmoid(v) for v in np.split(np.hstack([x_z, x_r]) + h @ U + carried[: 2 * UNITS], 2, axis=1))
            if config.get("reset_after", True):
                inner = r * (h @ recurrent[:, 2 * UNITS :] + carried[2 * UNITS :])
            else:
                inner = (r * h) @ recurrent[:, 2 * UNITS :]
            h = z * h + (1 - z) * np.tanh(x_h + inner)
        outputs.append(h)
    return np.stack(outputs, axis=1)


def expected(layers: list[dict[str, Any]], x_BTI: np.ndarray) -> np.ndarray:
    for one in layers:
        if one["class_name"] == "Bidirectional":
            ahead, back = one["config"]["layer"], one["config"]["backward_layer"]
            ys = [run(ahead["class_name"], ahead["config"], one["weights"][0], x_BTI)]
            ys.append(run(back["class_name"], back["config"], one["weights"][1], x_BTI)[:, ::-1])
            x_BTI = np.concatenate(ys, axis=2)
        elif one["class_name"] in GATES:
            x_BTI = run(one["class_name"], one["config"], one["weights"][0], x_BTI)
    return x_BTI


def ours(start: str) -> tuple[Pooled, Any]:
    """A model that such layers fit, started from them."""
    source = read_weights(start)
    settings = {**source.layers[0].settings, "num_layers": len(source.layers)}
    model = Pooled(Field(size=9), 3, embedding_size=source.layers[0].input_size, **settings)
    return model, take_file(model, source, settings)


MODELS = {
    "rnn": [layer("SimpleRNN", WIDTH, 1)],
    "relu": [layer("SimpleRNN", WIDTH, 1, activation="relu")],
    "gru": [layer("GRU", WIDTH, 2)],
    "gru, reset before": [layer("GRU", WIDTH, 3, reset_after=False)],
    "lstm": [layer("LSTM", WIDTH, 4)],
    "lstm, no biases": [layer("LSTM", WIDTH, 4, use_bias=False)],
    "two": [layer("LSTM", WIDTH, 5), other("Dropout"), layer("LSTM", UNITS, 6)],
    "two grus": [layer("GRU", WIDTH, 5), layer("GRU", UNITS, 6)],
    "both": [both("LSTM", WIDTH, 7)],
    "both, gru": [both("GRU", WIDTH, 9)],
    "both, rnn": [both("SimpleRNN", WIDTH, 9)],
    "two of both": [both("GRU", WIDTH, 11, reset_after=False), both("GRU", 2 * UNITS, 13, reset_after=False)],
}
AROUND = [other("Embedding", (9, WIDTH))], [other("Dense", (UNITS, 3), (3,))]


@pytest.mark.parametrize("name", ["theirs.keras", "theirs.weights.h5", "theirs.h5"])
@pytest.mark.parametrize("which", list(MODELS))
def test_the_layers_compute_what_keras_computes(tmp_path, here, which, name) -> None:
    before, after = AROUND
    layers = [*before, *MODELS[which], *after]
    path = written(tmp_path / name, layers)
    parts = [f"my_{part}" for part, one in named(layers) if one["class_name"] in (*GATES, "Bidirectional")]
    if name == "theirs.weights.h5":
        if len(parts) > 1:
            with pytest.raises(UserError, match="contains several recurrent layers") as caught:
                read_weights(path)
            assert caught.value.hint.endswith(f"--from '{path}#{','.join(parts)}'")
            path = f"{path}#{','.join(parts)}"
        if which == "relu":  # the file doesn't tell
            model, taken = ours(path)
            assert "Keras's defaults are assumed (tanh, sigmoid, concat)" in taken.told()[-1]
            return
    model, taken = ours(path)
    x_BTI = np.random.default_rng(0).normal(size=(3, 7, WIDTH)).astype(np.float32)
    with torch.no_grad():
        y_BTO, _ = model.recurrent(torch.from_numpy(x_BTI))
    y = expected(layers, x_BTI)
    assert np.abs(y_BTO.numpy() - y).max() < 1e-6 * max(1, np.abs(y).max())  # relu has no bound
    assert [theirs for theirs, _ in taken.taken.values()] == parts
    assert sorted(taken.source.left.values()) == sorted([(9, WIDTH), (UNITS, 3), (3,)])
    assert taken.anew == ["embedding.weight", "head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("cell", "order", "which"), [("gru", [0, 1, 2], "gru, reset before"), ("lstm", [0, 1, 3, 2], "lstm")]
)
def test_the_comparison_notices_a_wrong_order(tmp_path, here, monkeypatch, cell, order, which) -> None:
    monkeypatch.setitem(foreign_keras.GATES, cell, order)
    model, _ = ours(written(tmp_path / "theirs.keras", MODELS[which]))
    x_BTI = np.random.default_rng(0).normal(size=(3, 7, WIDTH)).astype(np.float32)
    with torch.no_grad():
        y_BTO, _ = model.recurrent(torch.from_numpy(x_BTI))
    assert np.abs(y_BTO.numpy() - expected(MODELS[which], x_BTI)).max() > 0.1


def test_layers_of_keras_2_12_are_found_where_it_kept_them(tmp_path, here) -> None:
    """With their settings: the class of this one isn't read by its shapes alone."""
    path = Path(written(tmp_path / "theirs.keras", MODELS["relu"]))
    with zipfile.ZipFile(path) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        content, config = io.BytesIO(), archive.read("config.json")
        with h5py.File(content, "w") as older:
            file.copy("layers", older, "_layer_checkpoint_dependencies")
            for group in older["_layer_checkpoint_dependencies"].values():
                del group["vars"].attrs["name"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", content.getvalue())
    (found,) = read_weights(str(path)).layers
    assert (found.part, found.options) == ("my_simple_rnn", {"nonlinearity": "relu"})


def test_an_embedding_and_a_dense_layer_are_taken_when_they_are_named(tmp_path, here) -> None:
    rng = np.random.default_rng(5)
    before, after = AROUND
    layers = [*before, layer("LSTM", WIDTH, 1), *after]
    layers[0]["weights"] = [[rng.normal(size=(9, WIDTH)).astype(np.float32)]]
    layers[2]["weights"] = [[rng.normal(size=shape).astype(np.float32) for shape in ((UNITS, 3), (3,))]]
    for name in ("theirs.keras", "theirs.h5"):
        model, taken = ours(written(tmp_path / name, layers) + "#my_lstm,my_embedding,my_dense")
        assert np.array_equal(model.embedding.weight.detach(), layers[0]["weights"][0][0])
        assert np.array_equal(model.head.weight.detach(), layers[2]["weights"][0][0].T)
        assert not taken.anew
        assert not taken.source.left


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([layer("LSTM", WIDTH, 1, recurrent_activation="hard_sigmoid")], "its recurrent_activation is 'hard_sigmoid'"),
        ([layer("GRU", WIDTH, 1, activation="relu")], "its activation is 'relu'; only tanh is supported"),
        ([layer("LSTM", WIDTH, 1, go_backwards=True)], "go_backwards"),
        ([both("LSTM", WIDTH, 1, merge_mode="sum")], "its merge_mode is 'sum'"),
        ([{**layer("LSTM", WIDTH, 1), "class_name": "PeepholeLSTM"}], "contains no recurrent layers|its class "),
        ([layer("LSTM", WIDTH, 1), other("RepeatVector"), layer("LSTM", UNITS, 2)], "several recurrent layers"),
        ([other("Dense", (4, 3), (3,))], "contains no recurrent layers; it contains .*dense"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["theirs.keras", "theirs.h5"])
def test_what_no_layer_here_computes_is_refused(tmp_path, here, layers, said, name) -> None:
    with pytest.raises(UserError, match=said):
        read_weights(written(tmp_path / name, layers))


def test_shapes_that_are_no_layer_s_are_refused(tmp_path, here) -> None:
    one = layer("GRU", WIDTH, 1)
    kernel, recurrent, _ = one["weights"][0]
    for weights, said in {
        "columns": ([kernel[:, :-1], recurrent], "no supported layer has tensors of shapes"),
        "bias": ([kernel, recurrent, np.ones(7, np.float32)], r"its bias \[7\] doesn't fit its kernel \[5, 18\]"),
        "nan": ([kernel * np.nan, recurrent], "contains NaN or infinity"),
    }.values():
        with pytest.raises(UserError, match=said):
            read_weights(written(tmp_path / "odd.keras", [{**one, "weights": [weights]}]))


@pytest.mark.slow  # reads in processes of their own
def test_what_lies_elsewhere_is_not_read(tmp_path) -> None:
    """Neither another file on this machine, nor what only claims to be large."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["w"] = np.ones((UNITS, 4 * UNITS), np.float32)
    (tmp_path / "raw").write_bytes(bytes(4 * 4 * UNITS * UNITS))
    path, at = tmp_path / "evil.weights.h5", "layers/lstm/cell/vars/1"
    shape = (UNITS, 4 * UNITS)

    def link(file: Any) -> None:
        file[at] = h5py.ExternalLink(str(secret), "w")

    def outside(file: Any) -> None:
        file.create_dataset(at, shape, "f4", external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)])

    def virtual(file: Any) -> None:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource(str(secret), "w", shape)
        file.create_virtual_dataset(at, layout)

    def huge(file: Any) -> None:
        file.create_dataset(at, (1 << 20, 1 << 20), "f4", chunks=(64, 64))

    def circle(file: Any) -> None:
        group = file.create_group("layers/again")
        group["round"] = file["layers"]

    said = {link: "is a link", outside: "another file", virtual: "another file", huge: "contains more than 1,024 MB"}
    for make, what in {**said, circle: "nested too deeply"}.items():
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(UserError, match=what):
            read_weights(str(path))


@pytest.mark.slow  # reads in processes of their own
def test_damaged_files_are_refused(tmp_path) -> None:
    whole = Path(written(tmp_path / "theirs.keras", MODELS["lstm"])).read_bytes()
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    (tmp_path / "cut.keras").write_bytes(whole[:400])
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with zipfile.ZipFile(tmp_path / "packed.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", " " * (33 << 20))
        archive.writestr("model.weights.h5", "")
    for name, said in {
        "cut.h5": "can't be parsed", "cut.keras": "can't be parsed", "empty.keras": "a .keras file written by Keras 3",
        "packed.keras": "config.json is larger than 32 MB",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=said):
            read_weights(str(tmp_path / name))
