"""Frames note by note: an exact distribution over frames, the same in every key, that knows what followed before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from components.encodings.base import Field
from components.models.frame_memory import FRAMES, RUNS, FrameMemory
from components.models.nade import FrameModel
from components.models.note_head import Writing

pieces = st.lists(st.sets(st.integers(0, 5), max_size=3), min_size=1, max_size=24)


def roll_of(piece: list[set[int]], keys: int = 6) -> np.ndarray:
    roll = np.zeros((len(piece), keys), dtype=np.float32)
    for step, on in enumerate(piece):
        roll[step, list(on)] = 1.0
    return roll


def model(keys: int) -> FrameModel:
    torch.manual_seed(0)
    made = FrameModel(Field(width=keys), kind="gru", hidden_size=5, output="notes", note_size=6, backend="by_hand")
    with torch.no_grad():
        for parameter in made.notes.parameters():
            parameter.normal_()
    return made.double().eval()


def after(made: FrameModel, roll: np.ndarray) -> Tensor:
    """What the head reads after each frame of a piece, [T, H]."""
    inputs = made.inputs(roll[None].astype(np.float64), made.memories(1))
    with torch.no_grad():
        return made(torch.from_numpy(inputs).double())[0][0]


def every_frame(keys: int) -> Tensor:
    return torch.tensor([[float(n >> k & 1) for k in range(keys)] for n in range(2**keys)], dtype=torch.float64)


@given(piece=pieces)
def test_the_chances_of_all_frames_add_up_to_one(piece) -> None:
    made, every = model(6), every_frame(6)
    y_TH = after(made, roll_of(piece))
    with torch.no_grad():
        chances = torch.exp(-made.nats(y_TH[-1:].expand(len(every), -1), every))
    assert chances.sum().item() == pytest.approx(1.0)


def test_the_likelihood_is_the_product_of_one_note_after_the_other() -> None:
    """Frames that are shared out, sorted and cropped give what each gives alone, note by note, over all keys."""
    made, generator = model(8), np.random.default_rng(0)
    roll = (generator.random((700, 8)) < generator.random((700, 1)) * 0.7).astype(np.float32)
    y_NH, frames_NK = after(made, roll), torch.from_numpy(roll).double()
    assert len({int(frame.sum()) for frame in frames_NK}) > 6, "few notes and many"
    with torch.no_grad():
        found = made.nats(y_NH, frames_NK)
        for n in (0, 1, 5, 350, 511, 512, 699):
            writing, nats = Writing(made.notes, y_NH[n : n + 1]), 0.0
            for key in [*torch.nonzero(frames_NK[n])[:, 0].tolist(), 8]:
                nats -= writing.log_chances()[0, key].item()
                if key < 8:
                    writing.add(torch.tensor([key]))
            assert found[n].item() == pytest.approx(nats)


def test_sampling_follows_the_chances() -> None:
    made, every = model(4), every_frame(4)
    y_1H = after(made, roll_of([{0, 2}, {1}, {0, 2}], keys=4))[-1:]
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(20_000, 4, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        chances = torch.exp(-made.nats(y_1H.expand(16, -1), every))
        sampled = made.sample(y_1H.expand(len(uniform), -1), uniform, 1.0)
        likeliest = made.sample(y_1H, uniform[:1], 0.0)
    counts = torch.bincount((sampled @ torch.tensor([1.0, 2, 4, 8]).double()).long(), minlength=16) / len(uniform)
    assert (counts - chances).abs().max() < 0.015
    assert chances.max() > 0.1, "some frames are likely"
    assert set(likeliest.ravel().tolist()) <= {0.0, 1.0}


def test_what_is_learned_in_one_key_holds_in_all() -> None:
    """Without the parameters that name keys, a piece an octave higher is as likely."""
    made = model(40)
    with torch.no_grad():
        for parameter in (made.notes.place, made.notes.no_more_below):
            parameter.zero_()
        for linear in (made.notes.own, made.notes.output, made.notes.no_more_output):
            linear.weight.zero_()
            linear.bias.fill_(0.1)
    roll = np.zeros((9, 40), dtype=np.float32)
    for step, keys in enumerate([[3, 10], [5, 10], [3, 8], [3, 10], [5, 10]]):
        roll[step, keys] = 1.0
    # keys above the highest that can be reached from both are none's
    low, high = (
        Writing(made.notes, after(made, np.roll(roll, by, axis=1))[4:5]).log_chances()[0, :-1] for by in (0, 12)
    )
    difference = (high[12:] - low[:-12]).detach()
    assert difference.std().item() == pytest.approx(0.0, abs=1e-6), "the same but for what the edges take"
    assert low.std() > 0.1


@given(piece=pieces, cut=st.integers(0, 24))
def test_a_piece_read_in_parts_is_the_whole(piece, cut) -> None:
    roll = roll_of(piece)
    whole, memory = FrameMemory(6).read(roll), FrameMemory(6)
    parts = [memory.read(part) for part in (roll[:cut], roll[cut:]) if len(part)]
    assert (np.concatenate(parts) == whole).all()
    assert whole.shape == (len(roll), FrameMemory.width(6))


def test_the_future_changes_nothing_and_steps_are_the_whole() -> None:
    made, roll = model(6), roll_of([{0}, {1, 3}, {0}, {1, 3}, {2}, {0}, {1, 3}])
    whole_TH, (memory,) = after(made, roll), made.memories(1)
    state = made.initial_state(1)
    for now in range(len(roll)):
        torch.testing.assert_close(after(made, roll[: now + 1]), whole_TH[: now + 1])
        read = made.inputs(roll[None, now : now + 1].astype(np.float64), [memory])[:, 0]
        with torch.no_grad():
            y_1H, state = made.step(torch.from_numpy(read).double(), state)
        torch.testing.assert_close(y_1H[0], whole_TH[now])


@given(piece=pieces)
def test_the_memory_finds_the_longest_agreement_and_the_latest(piece) -> None:
    roll = roll_of(piece)
    told = FrameMemory(6).read(roll)
    again_TK, run_T = told[:, -7:-1], told[:, -1]
    for now in range(len(roll)):
        best, place = 0, None
        for earlier in range(now):
            run, back = 0, 0
            while back <= earlier and (roll[earlier - back] == roll[now - back]).all():
                run += now == back or bool((roll[now - back] != roll[now - back - 1]).any())
                back += 1
            run = max(run, 1 if back else 0)
            if run and run >= best:
                best, place = run, earlier
        assert run_T[now] == (best >= RUNS).sum()
        assert (again_TK[now] == (roll[place + 1] if place is not None else 0)).all()
    assert (told[:, :6] == roll).all()
    assert (told[FRAMES - 1 :, (FRAMES - 1) * 6 : FRAMES * 6] == roll[: max(0, len(roll) - FRAMES + 1)]).all()


def test_a_repeat_makes_what_followed_likely_once_the_mark_is_learned() -> None:
    made = model(6)
    with torch.no_grad():
        for parameter in made.notes.parameters():
            parameter.zero_()
        made.notes.second.weight.copy_(torch.eye(6))
        made.notes.logit.fill_(1.0)
        made.notes.again[1, 3:].fill_(2.0)  # three frames agree, and the notes below
    piece = [{0}, {1, 3}, {2}, {0, 4}, {0}, {1, 3}, {2}]
    y_TH, next_1K = after(made, roll_of(piece)), torch.from_numpy(roll_of([{0, 4}])).double()
    with torch.no_grad():
        early, late = (made.nats(y_TH[at : at + 1], next_1K).item() for at in (2, 6))
    assert late < early - 3
