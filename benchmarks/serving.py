"""Requests for new text, a hundred at once against one at a time, through the server's own front door.

    python -m benchmarks.serving [--rounds 9] [--threads 2] [--concurrent 100]

The server runs in a process of its own (`--threads` is its torch's); this one asks, over plain sockets that stay open.
A round is a few requests one after the other, then `--concurrent` at once; rounds are interleaved, so that a busy
machine slows both alike, and the ratio is the median over rounds of (requests a second together / one at a time). Every
request is for 64 characters of an LSTM of H = 512 and 2 layers (96 characters, random weights made larger), each with
its own seed, every fourth with other settings. First every answer is compared with what the model writes alone: what is
wrong isn't timed. Times are those the client sees, JSON and HTTP included. Writes results/serving.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.kernels import machine
from components.bundle import Bundle, load_bundle, save_bundle
from components.encodings.characters import Characters
from components.recipe import Recipe
from components.tasks.language_model import LanguageModel
from components.tracking.base import ModelRef

RESULTS = Path(__file__).parent / "results" / "serving.json"
ALPHABET = "\n" + "".join(chr(code) for code in range(32, 123))  # four specials make 96
TOKENS = 64
WIDTHS = {"hidden_size": 512, "num_layers": 2}


class Folder:
    """A store of one model in a folder: what the registry costs is not measured here."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, name: str, selector: str) -> ModelRef:
        return ModelRef(name, "1", "")

    def fetch(self, ref: ModelRef) -> Path:
        return self.path


def make(folder: Path) -> Bundle:
    encoding = Characters()
    encoding.fit([ALPHABET])
    recipe = Recipe.from_dict(
        "speed",
        {
            "data": {"path": "x.txt", "reader": "text"},
            "encoding": {"kind": "characters"},
            "task": {"kind": "language_model"},
            "model": {"kind": "lstm", **WIDTHS},
            "generation": {"prompt": "The ", "count": 1, "max_length": TOKENS},
        },
    ).as_dict()
    torch.manual_seed(0)
    model = LanguageModel(encoding, "stream").build_model(recipe["model"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
    save_bundle(folder, "speed", model, encoding, recipe, {"framing": "stream"})
    return load_bundle(folder)


def serve(folder: Path, port: int, threads: int) -> None:
    import uvicorn

    from components.serving.app import build
    from components.serving.connections import configured

    torch.set_num_threads(threads)
    uvicorn.Server(configured(build(Folder(folder)), port=port)).run()  # type: ignore[arg-type]


def request(seed: int) -> dict[str, Any]:
    settings = {"temperature": 0.8, "top_p": 0.95} if seed % 4 == 3 else {}
    return {"model": "speed", "seed": seed, "settings": settings}


class Line:
    """A connection that stays open, and a client that costs little."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None

    async def post(self, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        if self.reader is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        content = json.dumps(body).encode()
        head = "POST /generate HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
        start = time.perf_counter()
        self.writer.write(f"{head}{len(content)}\r\n\r\n".encode() + content)
        headers = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(headers.partition("content-length:")[2].split()[0])
        answer = await self.reader.readexactly(length)
        seconds = time.perf_counter() - start
        if " 200 " not in headers.splitlines()[0]:
            sys.exit(f"refused: {answer.decode()}")
        return json.loads(answer), seconds


async def together(lines: list[Line], seeds: list[int]) -> tuple[list[dict[str, Any]], list[float], float]:
    start = time.perf_counter()
    found = await asyncio.gather(*(line.post(request(seed)) for line, seed in zip(lines, seeds, strict=True)))
    return [one for one, _ in found], [seconds for _, seconds in found], time.perf_counter() - start


async def one_by_one(line: Line, seeds: list[int]) -> tuple[list[float], float]:
    start = time.perf_counter()
    return [(await line.post(request(seed)))[1] for seed in seeds], time.perf_counter() - start


async def ask(
    port: int, bundle: Bundle, rounds: int, concurrent: int, processor: Callable[[], float]
) -> dict[str, Any]:
    lines, line = [Line(port) for _ in range(concurrent)], Line(port)
    seeds = list(range(concurrent))
    answers, _, _ = await together(lines, seeds)
    for seed, answer in zip(seeds, answers, strict=True):
        alone = bundle.generate(request(seed)["settings"], seed=seed)
        if answer["items"][0]["text"] != alone.items[0]:
            sys.exit(f"seed {seed}: together it is another text than alone: not timed")
    ratios, alone_seconds, shared_seconds, rates, spent = [], [], [], [], []
    few = max(8, concurrent // 8)
    for turn in range(rounds):
        before = processor()
        seconds, whole = await one_by_one(line, [1000 * turn + n for n in range(few)])
        alone_seconds += seconds
        between = processor()
        _, seconds, shared = await together(lines, [1000 * turn + 100 + n for n in range(concurrent)])
        shared_seconds += seconds
        spent.append(((between - before) / few, (processor() - between) / concurrent))
        rates.append((few / whole, concurrent / shared))
        ratios.append(rates[-1][1] / rates[-1][0])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "answers_compared": concurrent,
        "ratio_median": round(middle, 2),
        "ratio_quartiles": [round(low, 2), round(high, 2)],
        "requests_per_second": {
            "one at a time": round(statistics.median(one for one, _ in rates), 1),
            "together": round(statistics.median(all_ for _, all_ in rates), 1),
        },
        # of the server, both its cores; right on a busy machine too
        "processor_milliseconds_per_request": {
            "one at a time": round(1e3 * statistics.median(one for one, _ in spent), 2),
            "together": round(1e3 * statistics.median(all_ for _, all_ in spent), 2),
        },
        "milliseconds": {"one at a time": spread(alone_seconds), "together": spread(shared_seconds)},
    }


def spread(seconds: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"median": round(1e3 * cuts[49], 1), "p99": round(1e3 * cuts[98], 1), "requests": len(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concurrent", type=int, default=100)
    parser.add_argument("--server", nargs=2, metavar=("FOLDER", "PORT"), help="used by the benchmark itself")
    options = parser.parse_args()
    if options.server:
        serve(Path(options.server[0]), int(options.server[1]), options.threads)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bundle, port = make(Path(folder)), free_port()
        command = [sys.executable, "-m", "benchmarks.serving", "--threads", str(options.threads)]
        server = subprocess.Popen([*command, "--server", folder, str(port)])
        try:
            wait_for(port, server)
            spent = psutil.Process(server.pid).cpu_times

            def processor() -> float:
                return spent().user + spent().system

            found = asyncio.run(ask(port, bundle, options.rounds, options.concurrent, processor))
        finally:
            server.terminate()
            server.wait()
    about = machine() | {"load_average_before": round(load, 2), "load_average_after": round(os.getloadavg()[0], 2)}
    shape = {"tokens": TOKENS, **WIDTHS, "vocabulary": 96, "concurrent": options.concurrent}
    said = {"machine": about, "threads": options.threads, "rounds": options.rounds, "shape": shape, **found}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(said, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    import socket

    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    sys.exit("the server didn't start")


if __name__ == "__main__":
    main()
