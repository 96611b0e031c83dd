"""The tour, typed: every command of docs/tour.md in its order, over trainings of a few updates, without a network."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TEXT
from small_recipes import in_this_process
from test_docs import FENCE

from components.render.midi import write_midi
from components.runs.processes import Processes
from components.score import Note, Part, Score

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120.0  # for a busy machine
SMALL = ["evaluation.every=30", "model.hidden_size=16", "generation.count=1", "generation.max_length=60"]
# what goes on until Ctrl-C: more options, and what it says when it is there
SERVERS = {
    "ui": (["--port", "{0}", "--playground", "0"], r"playground  http\S+"),
    "serve": ([], r"Ctrl-C stops it"),
    "api": (["--port", "0"], r"playground  (http\S+)/"),
}


def typed() -> list[str]:
    lines = [
        line.strip() for block in FENCE.findall((ROOT / "docs" / "tour.md").read_text()) for line in block.splitlines()
    ]
    return [line for line in lines if line]


def smaller(words: list[str]) -> list[str]:
    """The same command over fewer chorales, a smaller model and fewer updates."""
    for option, value in (("--steps", "6"), ("--trials", "1"), ("--seeds", "1"), ("--vary", "model.kind=rnn,gru")):
        if option in words:
            words[words.index(option) + 1] = value
    settings = SMALL if words[0] in ("run", "compare", "tune") else []
    if words[0] == "run":
        settings = [*settings, "training.steps=8", "accept={}"]
    if settings and words[1] == "chorales":
        settings = [*settings, "data.limit=30"]
    if words == ["run", "chorales"]:
        # better than tokens drawn as often as in training, or it would be no champion
        settings += ["training.steps=90", "training.learning_rate=0.02", "training.warmup_steps=10"]
        settings += ["model.hidden_size=32"]
    return [*words, *(word for setting in settings for word in ("--set", setting))]


class Server:
    """A command that goes on until Ctrl-C, in a process of its own."""

    def __init__(self, words: list[str], folder: Path) -> None:
        more, self.said = SERVERS[words[0]]
        self.log = folder / f"{words[0]}.log"
        words = [*words, *(word.format(_free_port()) for word in more)]
        with self.log.open("wb") as output:
            command = [sys.executable, "-m", "flows.cli", *words]
            self.process = subprocess.Popen(command, stdout=output, stderr=output, cwd=ROOT, start_new_session=True)

    def ready(self) -> re.Match[str]:
        end = time.monotonic() + SECONDS
        while not (found := re.search(self.said, self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)
        return found

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.wait(SECONDS) in (0, 130), self.log.read_text()


@pytest.fixture
def servers() -> Iterator[dict[str, Server]]:
    running: dict[str, Server] = {}
    yield running
    for server in running.values():
        if server.process.poll() is None:
            os.killpg(server.process.pid, signal.SIGKILL)


def test_a_stranger_can_type_the_tour(home: Path, tmp_path: Path, monkeypatch, capsys, servers) -> None:
    from flows.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setattr(Processes, "run", in_this_process)  # test_compare.py has those of their own
    Path("mytext.txt").write_text(TEXT * 20)
    Path("FOLDER").mkdir()
    for number in range(12):
        notes = tuple(Note(4 * beat, 4, 60 + (beat * number) % 13, 80) for beat in range(24))
        write_midi(Score((Part("melody", notes),)), Path("FOLDER", f"{number}.mid"))
    done = []
    for line in typed():
        words = shlex.split(line)
        if words == ["make", "run"]:
            recipe = re.search(r"^run:.*\n\t\$\(BIN\)/(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
            words = recipe[1].split()
        if words[0] == ".":
            assert words[1].partition("/")[0] in (ROOT / "Makefile").read_text()
        elif words[0] == "curl":
            address = servers["api"].ready()[1]
            url, data = next(word for word in words if word.startswith("http")), words[words.index("-d") + 1]
            request = urllib.request.Request(re.sub(r"^http://[^/]+", address, url), data.encode())
            request.add_header("content-type", "application/json")
            with urllib.request.urlopen(request, timeout=SECONDS) as reply:
                assert json.load(reply)["seed"] == 7
        elif words[1] in SERVERS:
            servers[words[1]] = Server(words[1:], tmp_path)
            if words[1] != "api":  # the next command asks it
                servers[words[1]].ready()
                servers[words[1]].end()
        else:
            assert words[0] == "reprise"
            app(smaller(words[1:]), result_action="return_value")
        done.append((line, capsys.readouterr().out))
    servers["api"].end()
    said = dict(done)
    assert len(done) > 20
    assert "chorales v1 registered as champion" in said["make run"]
    assert re.search(r"chorales v2 registered", next(out for line, out in done if "model.kind=gru" in line))
    assert Path("chorales.html").stat().st_size > 10_000
    assert "champion" in said["reprise models chorales"]


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
