"""Piano rolls: scores as frames of 88 keys, the RNN-NADE over them, and the task that joins the two."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.ingest import ingest
from components.datasets.music.rolls import RollsReader
from components.datasets.store import Store
from components.encodings.base import Field, encoding_from_state
from components.encodings.pianoroll import KEYS, LOWEST, PianoRoll
from components.errors import UserError
from components.models.nade import FrameModel
from components.recipe import Recipe
from components.score import Note, Part, Score
from components.tasks.frame_model import FrameSettings
from components.training.session import Session

frames = st.lists(st.lists(st.integers(0, KEYS - 1), max_size=6, unique=True), min_size=1, max_size=20)


def roll_of(keys: list[list[int]]) -> np.ndarray:
    roll = np.zeros((len(keys), KEYS), dtype=np.float32)
    for step, on in enumerate(keys):
        roll[step, on] = 1.0
    return roll


@given(keys=frames)
def test_a_roll_is_the_roll_of_its_score(keys) -> None:
    encoding, roll = PianoRoll(steps_per_beat=2), roll_of(keys)
    assert (encoding.encode(encoding.decode(roll)) == roll).all()
    again = encoding_from_state(json.loads(json.dumps(encoding.state())))
    assert again.options() == encoding.options()


def test_a_frame_shows_what_sounds_when_it_begins_and_short_notes_are_not_lost() -> None:
    notes = (Note(0, 24, 60), Note(6, 2, 64), Note(12, 12, 67), Note(0, 1, 10))
    score = Score((Part("a", notes),), steps_per_beat=12, length_steps=24)
    roll = PianoRoll(steps_per_beat=1).encode(score)
    assert [np.flatnonzero(frame).tolist() for frame in roll] == [
        [60 - LOWEST],
        [60 - LOWEST, 64 - LOWEST, 67 - LOWEST],
    ]
    drums = Score((Part("kit", notes, role="drums"),), steps_per_beat=12, length_steps=24)
    assert not PianoRoll().encode(drums).any()


@given(keys=frames, seed=st.integers(0, 99))
def test_a_transposed_piece_keeps_its_shape_and_stays_on_the_keyboard(keys, seed) -> None:
    roll = roll_of(keys)
    moved = PianoRoll(transpose=(-24, 24)).augment(roll, np.random.default_rng(seed))
    assert (moved.sum(axis=1) == roll.sum(axis=1)).all()
    assert (np.diff(np.nonzero(moved)[1]) == np.diff(np.nonzero(roll)[1])).all()


def model(output: str = "nade", keys: int = 12) -> FrameModel:
    torch.manual_seed(0)
    made = FrameModel(Field(width=keys), kind="gru", hidden_size=5, nade_size=7, output=output, backend="by_hand")
    with torch.no_grad():
        for name in ("read", "write"):
            if hasattr(made, name):
                getattr(made, name).normal_()
    return made.double()


@pytest.mark.slow
def test_the_nade_is_its_definition() -> None:
    made, y = model(), torch.randn(20, 5, dtype=torch.float64)
    v = (torch.rand(20, 12) < 0.3).double()
    v[3] = 0
    expected = []
    for n in range(len(y)):
        total, a = 0.0, made.hidden(y[n])
        for k in range(12):
            logit = made.visible(y[n])[k] + made.write[k] @ torch.sigmoid(a)
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(logit, v[n, k])
            a = a + made.read[k] * v[n, k]
        expected.append(total)
    torch.testing.assert_close(made.nats(y, v), torch.stack(expected))


@pytest.mark.parametrize("output", ["nade", "independent"])
def test_the_chances_of_all_frames_add_up_to_one_and_sampling_follows_them(output) -> None:
    made = model(output, keys=4)
    y = torch.randn(1, 5, dtype=torch.float64)
    every = torch.tensor([[float(n >> k & 1) for k in range(4)] for n in range(16)], dtype=torch.float64)
    chances = torch.exp(-made.nats(y.expand(16, 5), every))
    assert chances.sum().item() == pytest.approx(1.0)
    uniform = torch.rand(20_000, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sampled = made.sample(y.expand(len(uniform), 5), uniform, 1.0)
    counts = torch.bincount((sampled * torch.tensor([1.0, 2, 4, 8])).sum(1).long(), minlength=16) / len(uniform)
    assert (counts - chances).abs().max() < 0.015


@pytest.fixture
def rolls(tmp_path):
    scale = [[36 + (n + k) % 12, 40 + (n + k) % 12] for k in range(3) for n in range(20)]
    pieces = {
        "train": [[[LOWEST + key for key in f] for f in scale]] * 6,
        "valid": [[[57, 61], []]] * 2,
        "test": [[[57]]],
    }
    path = tmp_path / "rolls.json"
    path.write_text(json.dumps(pieces), encoding="utf-8")
    return path


@pytest.mark.slow
def test_the_split_inside_the_file_is_kept_and_the_task_learns(rolls, tmp_path, silent) -> None:
    recipe = Recipe.from_dict(
        "rolls",
        {
            "data": {"path": str(rolls), "reader": "rolls"},
            "encoding": {"kind": "pianoroll", "steps_per_beat": 1},
            "task": {"kind": "frame_model"},
            "model": {"kind": "gru", "hidden_size": 24, "nade_size": 16},
            "training": {"steps": 120, "batch_size": 3, "learning_rate": 2e-2, "warmup_steps": 0},
            "evaluation": {"every": 60},
        },
    )
    ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0)
    store = Store.open(ref.path)
    assert [len(store.split(split)) for split in ("train", "val", "test")] == [6, 2, 1]
    session = Session(recipe, store, "cpu", 1)
    before = session.evaluate("train")["nats_per_frame"]
    session.train(tmp_path / "run", silent)
    assert before > 50
    assert session.evaluator.evaluate(session.model, store.split("train"))["nats_per_frame"] < 8
    assert math.isfinite(session.evaluate("test")["nats_per_frame"])
    made = [session.task.generate(session.model, FrameSettings(max_length=9, most_keys=1), seed=s) for s in (3, 3, 4)]
    assert made[0].items == made[1].items != made[2].items
    assert all(score.length_steps == 9 for score in made[0].items)
    assert max(one.ids.sum(axis=1).max() for one in made[0].sampled) == 1


def test_every_frame_counts_once_the_first_from_silence(rolls, tmp_path) -> None:
    reader = RollsReader([rolls])
    scores = list(reader.items())
    assert len(scores) == 9
    reader.part = "test"
    assert [note.pitch for score in reader.items() for note in score.parts[0].notes] == [57]


@pytest.mark.parametrize(
    "content",
    ["", "[3]", '{"train": 3}', '{"other": []}', '{"train": [[[300]]]}', '{"train": [[["a"]]]}', '{"train": [3]}'],
)
def test_what_is_no_roll_is_refused(tmp_path, content) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError):
        list(RollsReader([path]).items())
