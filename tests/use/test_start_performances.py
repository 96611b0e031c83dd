"""A drum pattern and a piano performance of a file, which a model goes on from, in every door."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from music_files import events, smf

from components.bundle import Bundle, make_task
from components.errors import UserError
from components.recipe import Recipe
from components.registry import resolve
from components.score import note_columns
from components.serving.batching import Deadline
from components.serving.problems import Limits
from components.serving.requests import GenerateRequest, Upload
from components.serving.uploads import Uploads
from components.use.given import given

BAR = 4 * 480


def writer(kind: str) -> Bundle:
    """An untrained model."""
    sections = {
        "data": {"path": "x", "reader": {"drums": "drums", "performance": "piano"}[kind]},
        "encoding": {"kind": kind},
        "task": {"kind": "language_model"},
        "model": {"kind": "gru", "hidden_size": 4},
        "generation": {"max_length": 60, "count": 1},
    }
    recipe = Recipe.from_dict(kind, sections).as_dict()
    encoding = resolve("encoding", kind)()
    task = make_task(recipe["task"], encoding, "sequences")
    torch.manual_seed(3)
    return Bundle(kind, task.build_model(recipe["model"]).eval(), encoding, task, recipe, {}, "")


def midi(path: Path, channel: int) -> Path:
    """A bar of eight notes, then two in the next, with the pedal down at first."""
    ticks = [240 * n for n in range(8)] + [BAR, BAR + 480]
    keys = [36, 42, 38, 42, 36, 42, 38, 42, 36, 38] if channel == 9 else list(range(60, 70))
    rows = [(tick, bytes([0x90 | channel, key, 60 + n])) for n, (tick, key) in enumerate(zip(ticks, keys, strict=True))]
    rows += [(tick + 100, bytes([0x80 | channel, key, 0])) for tick, key in zip(ticks, keys, strict=True)]
    rows += [(0, bytes([0xB0 | channel, 64, 127])), (BAR, bytes([0xB0 | channel, 64, 0]))]
    path.write_bytes(smf(events(*sorted(rows, key=lambda row: row[0]))))
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "channel"), [("drums", 9), ("performance", 0)])
def test_a_performance_of_a_file_is_gone_on_from(kind: str, channel: int, tmp_path) -> None:
    model, told = writer(kind), list[str]()
    path = midi(tmp_path / "mine.mid", channel)
    asked = given(model, None, str(path), told.append, told.append)
    assert told == ["start   mine.mid: 10 notes"]
    made = model.generate(seed=1, overrides={**asked, "max_length": len(asked["given"]) + 20})
    (piece,) = made.items
    begun = model.encoding.decode(np.array(asked["given"]))
    first, whole = (note_columns(score.parts[0].notes)[[0, 2, 3]] for score in (begun, piece))
    assert first.shape[1] == 10
    assert {tuple(note) for note in first.T.tolist()} <= {tuple(note) for note in whole.T.tolist()}
    assert piece.parts[0].pedal[:1] == begun.parts[0].pedal[:1]

    upload = Upload(name="mine.mid", base64=base64.b64encode(path.read_bytes()).decode())
    request = GenerateRequest(model=kind, start=upload)
    over_http = Uploads(Limits()).given(model, request, Deadline(60.0))
    assert over_http == asked


@pytest.mark.slow
def test_what_is_no_such_performance_is_refused(tmp_path) -> None:
    drums, quiet = writer("drums"), lambda line: None
    with pytest.raises(UserError, match="has no drums"):
        given(drums, None, str(midi(tmp_path / "piano.mid", 0)), quiet, quiet)
    with pytest.raises(UserError, match="it can only continue a file: start"):
        given(drums, str(midi(tmp_path / "drums.mid", 9)), None, quiet, quiet)
    (tmp_path / "tune.abc").write_text("X:1\nK:C\nCDEF|")
    with pytest.raises(UserError, match=r"supported: \.mid"):
        given(drums, None, str(tmp_path / "tune.abc"), quiet, quiet)
    score: Any = Upload(name="tune.abc", base64=base64.b64encode(b"X:1\nK:C\nCDEF|").decode())
    with pytest.raises(UserError, match=r"'\.abc' isn't a supported music format") as caught:
        Uploads(Limits()).given(drums, GenerateRequest(model="drums", start=score), None)  # type: ignore[arg-type]
    assert ".abc" not in str(caught.value.hint)
