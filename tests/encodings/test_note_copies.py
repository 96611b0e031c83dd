"""Copying of notes: what began at the same place some bars ago, patterns of intervals, and one exact likelihood."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.bundle import load_bundle, save_bundle
from components.datasets.store import Examples, Sequences
from components.encodings.base import encoding_from_state
from components.encodings.copying import LONGEST, match_class
from components.encodings.note_copies import LAGS
from components.encodings.notes import FIRST, GAP, PITCH, PITCH0, REST, STREAMS, Notes
from components.encodings.vocabulary import BOS, EOS, PAD
from components.errors import UserError
from components.recipe import Recipe
from components.score import Note, Part, Score
from components.tasks.note_model import NoteModel, NoteSettings

ENCODING = Notes(steps_per_beat=4, longest_beats=4, velocities=4, patterns=True)
S, L = len(STREAMS), ENCODING.copy_places
BARS = {(4, 4): 16, (3, 4): 12, (6, 8): 12}
A = [(0, 60), (0, 64), (4, 67), (6, 60), (8, 62), (8, 65)]  # a bar: start, pitch
BAR = st.sampled_from([A, A[:3], [(0, 60), (5, 62)], [], [(at, pitch + 1) for at, pitch in A]])


def score(*bars: list[tuple[int, int]], metre: tuple[int, int] = (4, 4), upbeat: int = 0, **facts) -> Score:
    notes = [Note(upbeat + BARS[metre] * n + at, 2, p, 80) for n, bar in enumerate(bars) for at, p in bar]
    length = upbeat + BARS[metre] * len(bars)
    return Score((Part("", tuple(notes)),), 4, metre, upbeat_steps=upbeat, length_steps=length, **facts)


def stacked(item: Score) -> np.ndarray:
    return np.stack(list(ENCODING.encode(item).values()), axis=-1)


def by_place(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`copies` with an axis for the streams: candidates [T, S, L] and classes [T, L]."""
    candidates, classes = ENCODING.copies(ids)
    return candidates.reshape(len(ids), S, L), classes


def obvious_steps(ids: np.ndarray, lag: int) -> tuple[list[list[int]], list[int]]:
    """What `copies` says of one lag, by a walk with a table of what began when."""
    began: dict[int, list[list[int]]] = {}
    time, bar, run, candidate = 0, 0, 0, [PAD] * S
    candidates, classes = [], []
    for step in ids.tolist():
        began.setdefault(time, []).extend([step] if step[PITCH] >= REST else [])
        hit = candidate[PITCH] not in (PAD,) and candidate[PITCH] == step[PITCH]
        run = run + (step[PITCH] >= REST) if hit else 0
        if FIRST <= step[PITCH] < REST:
            bar = int(ENCODING._bars[step[PITCH] - FIRST, 0])
        gap = max(step[GAP] - FIRST, 0)
        time += gap
        floor = step[PITCH] if not gap and step[PITCH] > REST else 0
        above = [one for one in began.get(time - lag * bar, []) if one[PITCH] > floor] if bar else []
        candidate = min(above, key=lambda one: one[PITCH]) if above else [PAD] * S
        candidates.append(candidate)
        classes.append(int(match_class(np.array(run))))
    return candidates, classes


def obvious_patterns(ids: np.ndarray) -> tuple[list[list[int]], list[int]]:
    """What `copies` says of patterns: after each note all notes before are compared."""
    candidates, classes = [], []
    notes: list[list[int]] = []
    for step in ids.tolist():
        candidate, longest = [PAD] * S, 0
        if step[PITCH] >= PITCH0:
            notes.append(step)
            intervals = np.diff([note[PITCH] for note in notes]).tolist()
            for end in range(1, len(intervals)):
                length = 0
                while length < min(end, LONGEST) and intervals[end - 1 - length] == intervals[-1 - length]:
                    length += 1
                if length and length >= longest:
                    follows = notes[end + 1].copy()
                    follows[PITCH] += step[PITCH] - notes[end][PITCH]
                    candidate, longest = follows, length
            if not PITCH0 <= candidate[PITCH] < PITCH0 + 128:
                candidate, longest = [PAD] * S, 0
        candidates.append(candidate)
        classes.append(int(match_class(np.array(longest))))
    return candidates, classes


@settings(max_examples=25, deadline=None)
@given(
    bars=st.lists(BAR, min_size=1, max_size=9),
    metre=st.sampled_from(list(BARS)),
    upbeat=st.sampled_from([0, 3]),
    broken=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3), st.integers(0, 150)), max_size=3),
    cut=st.integers(1, 40),
)
def test_candidates_are_what_a_table_of_the_past_says(bars, metre, upbeat, broken, cut) -> None:
    ids = stacked(score(*bars, metre=metre, upbeat=upbeat, metre_changes=((upbeat + 24, (2, 4)),)))
    for at, stream, id in broken:  # the grammar needn't hold
        ids[at % len(ids), stream] = id % ENCODING.fields[STREAMS[stream]].size
    candidates, classes = by_place(ids)
    for place, lag in enumerate(LAGS):
        assert (candidates[:, :, place].tolist(), classes[:, place].tolist()) == obvious_steps(ids, lag)
    assert (candidates[:, :, -1].tolist(), classes[:, -1].tolist()) == obvious_patterns(ids)
    cut = min(cut, len(ids))
    for whole, so_far in zip((candidates, classes), by_place(ids[:cut]), strict=True):
        assert (whole[:cut] == so_far).all()


def test_a_repeated_bar_is_foretold_and_a_pattern_in_another_key() -> None:
    ids = stacked(score(A, [(0, 50)], A, [(2, 55), (4, 59), (5, 62), (6, 55), (9, 57)]))
    candidates, classes = by_place(ids)
    two = LAGS.index(2)
    third = np.flatnonzero(ids[:, PITCH] == PITCH0 + 50)[0]  # the third bar begins after it
    again = np.arange(third, third + 6)
    assert (candidates[again, :3, two] == ids[again + 1, :3]).sum() == 17, "all but one gap: the next bar begins later"
    assert classes[again + 1, two].tolist() == [1, 2, 3, 4, 5, 5]
    line = stacked(score([(n, p) for n, p in enumerate([60, 62, 65, 64, 70, 63, 65, 68, 67])]))
    found, length = by_place(line)
    assert found[-3:-1, PITCH, -1].tolist() == [PITCH0 + 67, PITCH0 + 73], "as 64 and 70 after 60, 62, 65"
    assert length[-4:-1, -1].tolist() == [1, 2, 3]


def small(**options) -> tuple[NoteModel, torch.nn.Module]:
    torch.manual_seed(0)
    task = NoteModel(ENCODING, "sequences")
    made = task.build_model({"kind": "gru", "hidden_size": 8, "head_size": 6, "copy": True} | options).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "heads" in name:
                parameter.add_(torch.randn_like(parameter))
    return task, made


def split(*items: Score) -> Examples:
    rows = [stacked(item) for item in items]
    offsets = np.cumsum([0, *map(len, rows)])
    fields = zip(STREAMS, np.concatenate(rows).T, strict=True)
    return Examples({name: Sequences(np.ascontiguousarray(column), offsets) for name, column in fields})


def test_every_stream_is_a_distribution_and_all_uses_have_one_likelihood() -> None:
    task, model = small()
    ids = stacked(score(A, A, [(at, pitch + 1) for at, pitch in A]))
    inputs_TS = torch.from_numpy(np.concatenate([ids, task.read.context(ids)], axis=1))[:-1]
    with torch.no_grad():
        y_TH, _ = model(inputs_TS[None])
    beside, following = model.beside(inputs_TS), torch.from_numpy(ids[1:])
    nats = np.zeros((len(following), S))
    for stream in range(S):
        logp_TV = model.logits(y_TH[0], following[:, :stream], *beside)
        torch.testing.assert_close(logp_TV.exp().sum(-1), torch.ones(len(following)))
        kept = following[:, stream] != PAD
        nats[:, stream] = (-logp_TV.gather(1, following[:, stream : stream + 1])[:, 0] * kept).detach().numpy()
    held = split(score(A, A, [(at, pitch + 1) for at, pitch in A]))
    (batch,) = task.batches(held, batch_size=1, window=99, seed=0, training=False).epoch()
    with torch.no_grad():
        loss, _ = task.loss(model, batch, None)
        measured, _ = task.measure(model, batch, None)
    assert float(loss.total) == pytest.approx(nats.sum(), rel=1e-5)
    assert measured["nats_per_note"].total == pytest.approx(nats.sum(), rel=1e-5)
    state = model.initial_state(1)
    for t in range(len(following)):
        read = task._inputs(ids[None, : t + 1], t)
        assert (read[0] == inputs_TS[t]).all()
        y_NH, state = model.step(read, state)
        torch.testing.assert_close(y_NH[0], y_TH[0, t], rtol=1e-4, atol=1e-5)
    (one,) = task.generate(model, NoteSettings(count=1, max_length=40, temperature=0.8), seed=1).sampled
    written = np.array([[BOS] * S, *one.ids, *([[EOS, PAD, PAD, PAD]] if one.ended else [])])
    read = torch.from_numpy(np.concatenate([written, task.read.context(written)], axis=1))[:-1]
    with torch.no_grad():
        own = model.nats(model(read[None])[0][0], torch.from_numpy(written[1:]), *model.beside(read))
    assert one.nats_per_token == pytest.approx(float(own.sum()) / (len(written) - 1), rel=1e-4)


def test_open_gates_copy_steps_and_a_low_gate_temperature_opens_them() -> None:
    task, model = small()
    ids = stacked(score(A, A, A))
    read = torch.from_numpy(np.concatenate([ids, task.read.context(ids)], axis=1))[:-1]
    with torch.no_grad():
        for head in model.heads:  # one bar ago rather than others, wherever something began there
            head.gates.bias.copy_(torch.eye(1 + L)[1 + LAGS.index(1)])
            head.gates.weight.zero_()
            head.agreement.weight.zero_()
        y_TH, following = model(read[None])[0][0], torch.from_numpy(ids[1:])
        second = slice(len(A) + 2, -1)
        for temperature in (1.0, 0.05):
            beside = model.beside(read)
            logp_TV = model.logits(y_TH, following[:, :0], *beside, gate_temperature=temperature)
            least = float(logp_TV.exp().gather(1, following[:, :1])[second].min())
            assert (least > 0.99) == (temperature < 1), least


def test_a_stored_model_copies_as_it_did_and_one_of_before_has_no_patterns(tmp_path) -> None:
    task, model = small()
    recipe = {
        "data": {"path": str(tmp_path), "reader": "music"},
        "encoding": {"kind": "notes", **ENCODING.options()},
        "task": {"kind": "note_model"},
        "model": {"kind": "gru", "hidden_size": 8, "head_size": 6, "copy": True},
    }
    stored = Recipe.from_dict("x", recipe).as_dict()
    save_bundle(tmp_path / "b", "x", model, ENCODING, stored, {"framing": "sequences"})
    how = {"count": 1, "max_length": 30, "gate_temperature": 0.7}
    (made,) = load_bundle(tmp_path / "b").generate(how, seed=4).sampled
    assert made.ids.tolist() == task.generate(model, NoteSettings(**how), seed=4).sampled[0].ids.tolist()
    state = ENCODING.state()
    assert encoding_from_state(state).copy_places == len(LAGS) + 1
    del state["options"]["patterns"]
    assert encoding_from_state(state).copy_places == len(LAGS)
    with pytest.raises(UserError, match="the encoding doesn't support copying"):
        type(model)(list(ENCODING.fields.values()), (), kind="gru", hidden_size=4, copy=True)
