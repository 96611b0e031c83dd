"""What hostile and hasty clients cost the API: python -m benchmarks.strangers [--uploads 12] [--halves 1100]

A server of its own on 127.0.0.1 with one small model that nobody trained. Four things are done to it, each bounded in
count and time: (1) uploads of music that take more memory and time than a file may, all at once, then some whose client
leaves, then some during which the server is killed (-9); (2) headers sent by halves over many connections, while honest
requests are timed; (3) streams that are left in their midst; (4) ordinary requests, many at once. Counted are
processes, memory, threads, descriptors, and lines in the server's log. Writes results/strangers.json and prints its
table for docs/reliability.md. Takes about three minutes.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.kernels import machine
from benchmarks.serving import Folder, free_port, wait_for

RESULTS = Path(__file__).parent / "results" / "strangers.json"
NOTES = 300_000  # of a hostile **kern file of 900 kB
RECIPE = {
    "data": {"path": "x.txt", "reader": "text"},
    "encoding": {"kind": "chorale"},
    "task": {"kind": "language_model"},
    "model": {"kind": "gru", "hidden_size": 16},
    "generation": {"count": 1, "max_length": 100},
}


def make(folder: Path) -> None:
    import torch

    from components.bundle import save_bundle
    from components.encodings.chorale.encoding import Chorale
    from components.recipe import Recipe
    from components.tasks.language_model import LanguageModel

    recipe, encoding = Recipe.from_dict("small", RECIPE).as_dict(), Chorale()
    torch.manual_seed(0)
    model = LanguageModel(encoding, "sequences").build_model(recipe["model"])
    save_bundle(folder, "small", model, encoding, recipe, {"framing": "sequences"})


def serve(folder: Path, port: int) -> None:
    import uvicorn

    from components.serving.app import build
    from components.serving.connections import configured

    uvicorn.Server(configured(build(Folder(folder)), port=port)).run()  # type: ignore[arg-type]


class Server:
    """The server's process, and what can be seen of it."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.port, self.log = free_port(), log
        command = [sys.executable, "-m", "benchmarks.strangers", "--server", str(folder), str(self.port)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_for(self.port, self.process)
        self.seen = psutil.Process(self.process.pid)
        self.ask({"model": "small", "seed": 0})  # loaded

    def ask(self, body: dict[str, Any], seconds: float = 150.0) -> int:
        """A request's status; 0: the connection was closed."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            line.request("POST", "/generate", json.dumps(body), {"content-type": "application/json"})
            return line.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            line.close()

    def honest(self) -> float:
        """Seconds until an honest request is answered."""
        start = time.monotonic()
        status = self.ask({"model": "small", "seed": 1, "settings": {"max_length": 10}}, 60)
        if status != 200:
            raise SystemExit(f"an honest request was answered {status}")
        return time.monotonic() - start

    def readers(self) -> list[psutil.Process]:
        return [one for one in self.seen.children() if "components.datasets.files.sandbox" in _words(one)]

    def counts(self) -> dict[str, int]:
        return {"threads": self.seen.num_threads(), "descriptors": self.seen.num_fds()}


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def watched(look: Callable[[], None]) -> Iterator[None]:
    """Look twenty times a second for the length of the block."""
    over = threading.Event()

    def go() -> None:
        while not over.wait(0.05):
            look()

    watching = threading.Thread(target=go)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def uploads(server: Server, count: int) -> dict[str, Any]:
    text = "**kern\n*M4/4\n" + "c\n" * NOTES + "*-\n"
    sent = base64.b64encode(text.encode()).decode()
    body = {"model": "small", "seed": 0, "start": {"name": "large.krn", "base64": sent}}
    found: dict[str, Any] = {"processes": 0, "megabytes_of_one": 0, "honest_seconds": 0.0}

    def look() -> None:
        readers = server.readers()
        found["processes"] = max(found["processes"], len(readers))
        for one in readers:
            try:
                found["megabytes_of_one"] = max(found["megabytes_of_one"], one.memory_info().rss >> 20)
            except psutil.Error:
                continue

    with ThreadPoolExecutor(count) as pool, watched(look):
        asked = [pool.submit(server.ask, body) for _ in range(count)]
        while not all(one.done() for one in asked):
            found["honest_seconds"] = round(max(found["honest_seconds"], server.honest()), 2)
            time.sleep(0.2)
        found["statuses"] = dict(Counter(one.result() for one in asked))
        leaving = [pool.submit(server.ask, body, 2.0) for _ in range(count)]  # the client leaves after two seconds
        [one.result() for one in leaving]
    time.sleep(2)
    found["readers_2s_after_clients_left"] = len(server.readers())
    with ThreadPoolExecutor(count) as pool:
        [pool.submit(server.ask, body, 10.0) for _ in range(count)]
        while not (readers := server.readers()):
            time.sleep(0.05)
        time.sleep(1)
        readers = server.readers()
        server.process.kill()
        server.process.wait()
    time.sleep(1)
    found["readers_when_the_server_was_killed"] = len(readers)
    found["readers_1s_after"] = sum(one.is_running() and one.status() != "zombie" for one in readers)
    return found


def halves(server: Server, count: int) -> dict[str, Any]:
    found: dict[str, Any] = {"before": server.counts(), "honest_seconds": 0.0}
    held = []
    for number in range(count):
        held.append(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        held[-1].sendall(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\nx-more: ")
        if number % 50 == 49:
            found["honest_seconds"] = round(max(found["honest_seconds"], server.honest()), 2)
    found["during"] = server.counts()
    start = time.monotonic()
    for one in held:  # they wait for an answer, until they are told that they took too long, or are closed
        with suppress(OSError):
            one.recv(1000)
        one.close()
    found["all_let_go_after_seconds"] = round(time.monotonic() - start, 1)
    time.sleep(2)
    return found | {"after": server.counts()}


def streams(server: Server, count: int) -> dict[str, Any]:
    body = json.dumps({"model": "small", "settings": {"count": 4, "max_length": 4000}}).encode()
    head = "POST /generate/stream HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as one:
            one.sendall(f"{head}{len(body)}\r\n\r\n".encode() + body)
            one.recv(200)
    time.sleep(3)
    return {"left": count, "lines_in_the_log": len(server.log.read_text().splitlines()), "after": server.counts()}


def ordinary(server: Server, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {"before": server.counts(), "most_threads": 0, "requests": 0}
    end = time.monotonic() + seconds

    def ask(seed: int) -> int:
        asked = 0
        while time.monotonic() < end:
            asked += server.ask({"model": "small", "seed": seed, "settings": {"count": 1 + seed % 4}}) == 200
        return asked

    def look() -> None:
        found["most_threads"] = max(found["most_threads"], server.seen.num_threads())

    with ThreadPoolExecutor(64) as pool, watched(look):
        found["requests"] = sum(pool.map(ask, range(64)))
    time.sleep(3)
    return found | {"after": server.counts()}


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    ups, half, left, use, counts = (found[name] for name in ("uploads", "halves", "streams", "ordinary", "counts"))

    def three(what: str) -> str:
        return f"{what} {half['before'][what]}, {half['during'][what]}, {half['after'][what]}"

    rows = {
        f"{counts['uploads']} uploads of {NOTES:,} notes at once": (
            f"{ups['processes']} reader processes of at most {ups['megabytes_of_one']} MB; answers "
            + ", ".join(f"{count} × {status}" for status, count in ups["statuses"].items())
            + f"; an honest request took at most {ups['honest_seconds']} s"
        ),
        "their clients disconnect after 2 s": f"{ups['readers_2s_after_clients_left']} readers 2 s later",
        "the server is killed (-9)": (
            f"{ups['readers_when_the_server_was_killed']} readers at that moment, "
            f"{ups['readers_1s_after']} a second later"
        ),
        f"{counts['halves']:,} half-sent headers": (
            f"an honest request took at most {half['honest_seconds']} s; before, during and after: "
            f"{three('threads')}; {three('descriptors')}"
        ),
        f"{left['left']} streams aborted midway": f"{left['lines_in_the_log']} lines in the log",
        f"{use['requests']:,} ordinary requests, 64 at once": (
            f"threads: {use['before']['threads']} before, at most {use['most_threads']}, "
            f"{use['after']['threads']} after"
        ),
    }
    lines = [f"| {done} | {seen} |" for done, seen in rows.items()]
    return "\n".join(["| attack | result |", "|---|---|", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=12)
    parser.add_argument("--halves", type=int, default=1100)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=30.0, help="of ordinary use")
    parser.add_argument("--server", nargs=2, metavar=("FOLDER", "PORT"), help="used by the benchmark itself")
    given = parser.parse_args()
    if given.server:
        serve(Path(given.server[0]), int(given.server[1]))
        return
    if not (1 <= given.uploads <= 64 and 1 <= given.halves <= 5000 and 1 <= given.streams <= 1000):
        parser.error("at most 64 uploads, 5,000 half headers and 1,000 streams")
    with tempfile.TemporaryDirectory() as folder:
        bundle, log = Path(folder) / "bundle", Path(folder) / "log"
        make(bundle)
        server = Server(bundle, log)
        try:
            found: dict[str, Any] = {"ordinary": ordinary(server, given.seconds)}
            found["streams"] = streams(server, given.streams)
            found["halves"] = halves(server, given.halves)
            found["uploads"] = uploads(server, given.uploads)
            said = log.read_text()
        finally:
            server.process.kill()
            server.process.wait()
    counts = {"uploads": given.uploads, "halves": given.halves, "streams": given.streams}
    found |= {"counts": counts, "log": said[-2000:], "machine": machine(), "load_average": round(os.getloadavg()[0], 1)}
    asked = " ".join(f"--{name} {count}" for name, count in counts.items())
    found["command"] = f"python -m benchmarks.strangers {asked} --seconds {given.seconds:g}"
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
