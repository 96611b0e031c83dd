"""Small real models that nobody trained, as bundles, and a server over a store of them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

TEXT = "the cat sat on the mat; the dog sat on the log. " * 20
WRITERS: dict[str, dict[str, Any]] = {
    "tales": {
        "encoding": {"kind": "characters"},
        "task": {"kind": "language_model"},
        "model": {"kind": "lstm", "hidden_size": 24, "num_layers": 2},
        "generation": {"prompt": "the ", "count": 2, "max_length": 40},
    },
    "names": {
        "encoding": {"kind": "characters"},
        "task": {"kind": "language_model"},
        "model": {"kind": "gru", "hidden_size": 16},
        "generation": {"max_length": 20},
    },
    "minimal": {  # a cell that the engine doesn't know
        "encoding": {"kind": "characters"},
        "task": {"kind": "language_model"},
        "model": {"kind": "mingru", "hidden_size": 12},
        "generation": {"max_length": 20},
    },
    "four-voices": {
        "encoding": {"kind": "chorale"},
        "task": {"kind": "language_model"},
        "model": {"kind": "gru", "hidden_size": 16},
        "generation": {"count": 1, "max_length": 100},
    },
    "blues": {
        "encoding": {"kind": "lead_sheet"},
        "task": {"kind": "music"},
        "model": {"kind": "gru", "hidden_size": 16},
        "generation": {"count": 1, "max_length": 120},
    },
    "rolls": {
        "encoding": {"kind": "pianoroll"},
        "task": {"kind": "frame_model"},
        "model": {"kind": "gru", "hidden_size": 8},
        "generation": {"count": 1, "max_length": 8},
    },
    "pens": {
        "encoding": {"kind": "strokes", "texts": True},
        "task": {"kind": "stroke_model"},
        "model": {"kind": "gru", "hidden_size": 8, "gaussians": 2, "window_gaussians": 2},
        "generation": {"count": 1, "max_length": 8, "prompt": "a hat"},
    },
}


def clip(speed: float) -> np.ndarray:
    """Pictures, uint8 [8, 12, 12], of a bright square that goes right, `speed` pixels a picture."""
    pictures_THW = np.full((8, 12, 12), 40, dtype=np.uint8)
    for at, picture in enumerate(pictures_THW):
        left = round(4 + speed * (at - 4))
        picture[4:8, left : left + 4] = 200
    return pictures_THW


ANSWERERS: dict[str, tuple[dict[str, Any], dict[str, Any], str, list[Any]]] = {
    "moods": (
        {"kind": "words"},
        {"kind": "labels"},
        "classification",
        [("a good day", ["good"]), ("a bad one", ["bad"])],
    ),
    "sums": (
        {"kind": "frames"},
        {"kind": "frames"},
        "regression",
        [([[0.0, 1.0], [1.0, 0.0]], [1.0]), ([[0.5, 0.5]], [0.5])],
    ),
    "marks": (
        {"kind": "symbols"},
        {"kind": "labels"},
        "tagging",
        [(["Ann", "sang"], ["B-PER", "O"]), (["sang", "Lee"], ["O", "B-PER"])],
    ),
    "people": (
        {"kind": "spelled"},
        {"kind": "labels"},
        "tagging",
        [(["Ann", "sang", "."], ["B-PER", "O", "O"]), (["Lee", "slept"], ["B-PER", "O"])],
    ),
    "ears": (
        {"kind": "mel", "rate_hz": 8000, "bands": 8},
        {"kind": "characters"},
        "transcription",
        [((np.sin(np.arange(4000, dtype=np.float32)), 8000), "ab")],
    ),
    "shapes": (
        {"kind": "pictures", "grid": 2, "directions": 4},
        {"kind": "labels"},
        "classification",
        [(clip(0.5), "right"), (clip(-0.5), "left")],
    ),
}
READERS = {"marks": "conll", "people": "conll", "ears": "wav", "shapes": "moving-shapes"}  # of the others: table
# what the store of the tests has
SOLD = ("tales", "four-voices", "blues", "pens", "moods", "sums", "marks", "people", "ears", "shapes", "loads")


def save_writer(folder: Path, name: str) -> None:
    import torch

    from components.bundle import save_bundle
    from components.datasets.made.handwriting import MadeHandwriting
    from components.recipe import Recipe
    from components.registry import resolve

    framing = "stream" if name == "tales" else "sequences"
    recipe = Recipe.from_dict(name, {"data": {"path": "x.txt", "reader": "lines"}, **WRITERS[name]}).as_dict()
    options = {key: value for key, value in recipe["encoding"].items() if key != "kind"}
    encoding = resolve("encoding", recipe["encoding"]["kind"])(**options)
    if encoding.kind == "characters":  # those of music know their ids already
        encoding.fit([TEXT])
    if encoding.kind == "strokes":
        encoding.fit(MadeHandwriting(count=20).items())
    task = resolve("task", recipe["task"]["kind"])(encoding, framing)
    torch.manual_seed(len(name))
    model = task.build_model(recipe["model"])
    with torch.no_grad():  # untrained, but sure of something: what is drawn depends on the state
        for parameter in model.parameters():
            parameter.mul_(3.0)
    facts = {"framing": framing, "data": {"name": "our own"}, "metrics": {"test/nats_per_char": 2.5}}
    save_bundle(folder, name, model, encoding, recipe, facts)


def save_answerer(folder: Path, name: str) -> None:
    import torch

    from components.bundle import save_bundle
    from components.encodings.pair import Pair
    from components.registry import resolve

    inputs, target, kind, items = ANSWERERS[name]
    encoding = Pair(input=inputs, target=target)
    encoding.fit(items)
    task = resolve("task", kind)(encoding, "sequences")
    torch.manual_seed(1)
    options = {"kind": "gru", "hidden_size": 8}
    recipe = {
        "encoding": {"kind": "pair", "input": inputs, "target": target},
        "task": {"kind": kind},
        "model": options,
        "data": {"reader": READERS.get(name, "table")},
    }
    save_bundle(folder, name, task.build_model(options), encoding, recipe, {"framing": "sequences"})


def save_forecaster(folder: Path, name: str) -> None:
    import torch

    from components.bundle import save_bundle
    from components.datasets.made.series import MadeSeries
    from components.registry import resolve

    encoding = resolve("encoding", "series")()
    encoding.fit(MadeSeries(count=2, steps=400, horizon=4).whole())
    task = {"kind": "forecast", "context": 24, "samples": 20}
    torch.manual_seed(1)
    options = {"kind": "gru", "hidden_size": 8}
    model = resolve("task", "forecast")(encoding, "sequences", context=24, samples=20).build_model(options)
    recipe = {"encoding": {"kind": "series"}, "task": task, "model": options, "data": {"reader": "made-series"}}
    save_bundle(folder, name, model, encoding, recipe, {"framing": "sequences"})


def save(folder: Path, name: str) -> None:
    """The bundle of one of the models above."""
    own = {"loads": save_forecaster, **dict.fromkeys(WRITERS, save_writer)}
    own.get(name, save_answerer)(folder, name)


@contextmanager
def serving(app: Any, limits: Any = None) -> Iterator[str]:
    """The application on a port of its own, its connections held to the `limits`; its address."""
    import uvicorn

    from components.serving.connections import configured

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(configured(app, limits, port=port))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
