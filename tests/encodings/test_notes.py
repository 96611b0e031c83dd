"""Notes as streams: the encoding, the model with one head a stream, and the task that joins the two."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from music_files import midi

from components.bundle import load_bundle, save_bundle
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.base import Field, encoding_from_state
from components.encodings.notes import DURATION, FIRST, GAP, PITCH, PITCH0, REST, STREAMS, Notes, settled
from components.encodings.vocabulary import BOS, EOS, PAD
from components.errors import UserError
from components.models import graph_layers
from components.models.graph import Graph
from components.models.graph_symbols import Input
from components.models.streams import StreamsModel
from components.recipe import Recipe
from components.score import Note, Part, Score
from components.tasks.note_model import NoteModel, NoteSettings
from components.training.session import Session

notes = st.lists(
    st.builds(Note, st.integers(0, 300), st.integers(1, 96), st.integers(0, 127), st.integers(1, 127)),
    min_size=1,
    max_size=40,
)


def score(*parts: list[Note], **facts) -> Score:
    length = max(note.start + note.duration for part in parts for note in part)
    facts = {"steps_per_beat": 12, "length_steps": length, **facts}
    return Score(tuple(Part(str(n), tuple(sorted(part))) for n, part in enumerate(parts)), **facts)


def stacked(encoding: Notes, item: Score) -> np.ndarray:
    return np.stack(list(encoding.encode(item).values()), axis=-1)


@pytest.mark.slow
@given(upper=notes, lower=notes, silence=st.integers(0, 400), upbeat=st.integers(0, 35))
def test_notes_come_back_with_their_form(upper, lower, silence, upbeat) -> None:
    encoding = Notes(velocities=127)
    item = score(upper, lower, metre=(3, 4), upbeat_steps=upbeat, tempo_bpm=240.0)
    item = Score(item.parts, 12, (3, 4), upbeat, item.length_steps + silence, 240.0)
    ids = stacked(encoding, item)
    for name, column in zip(STREAMS, ids.T, strict=True):
        assert 0 <= column.min() <= column.max() < encoding.fields[name].size
    back = encoding.decode(ids)
    kept = settled([*upper, *lower])
    assert [(n.start, n.duration, n.pitch) for n in back.parts[0].notes] == [
        (n.start, n.duration, n.pitch) for n in kept
    ]
    assert all(abs(a.velocity - b.velocity) <= 1 for a, b in zip(back.parts[0].notes, kept, strict=True))
    assert (back.metre, back.upbeat_steps, back.length_steps) == ((3, 4), upbeat, item.length_steps)
    assert back.tempo_bpm == 240.0
    again = encoding_from_state(json.loads(json.dumps(encoding.state())))
    assert (stacked(again, item) == ids).all()


def test_triplets_chords_overlaps_and_a_change_of_metre_are_written_down_and_drums_left_out() -> None:
    chord = [Note(0, 48, 48), Note(0, 48, 52), Note(0, 12, 55)]
    triplets = [Note(12 + 4 * n, 4, 72 + n) for n in range(3)]
    after = [Note(48, 18, 60), Note(300, 6, 62)]
    item = score(chord, triplets, after, metre_changes=((48, (6, 8)),))
    drums = Part("kit", (Note(5, 1, 36),), role="drums")
    encoding = Notes(longest_beats=4)
    ids = stacked(
        encoding, Score((*item.parts, drums), 12, (4, 4), 0, item.length_steps, 84.0, "", (), "", ((48, (6, 8)),))
    )
    with pytest.raises(UserError, match="only drums"):
        encoding.encode(Score((drums,), 12))
    back = encoding.decode(ids)
    assert back.metre_changes == ((48, (6, 8)),)
    assert [(n.start, n.duration, n.pitch) for n in back.parts[0].notes] == [
        (n.start, n.duration, n.pitch) for n in sorted([*chord, *triplets, *after])
    ]
    assert (ids[:, PITCH] == REST).sum() == 5  # 252 steps are one gap of 48 and rests of 48, 48, 48, 48, 12
    cut = Notes(longest_beats=2)
    assert max(note.duration for note in cut.decode(stacked(cut, item)).parts[0].notes) == 24


@given(ids=st.lists(st.tuples(*[st.integers(0, 300)] * 4), max_size=40))
def test_any_ids_are_some_score(ids) -> None:
    encoding = Notes()
    sizes = [field.size for field in encoding.fields.values()]
    made = encoding.decode(np.array(ids, dtype=np.int64).reshape(-1, 4) % sizes)
    assert all(note.duration > 0 and 0 <= note.pitch < 128 and 0 < note.velocity < 128 for note in made.parts[0].notes)


@pytest.mark.slow
@given(upper=notes, upbeat=st.integers(0, 47), cut=st.integers(1, 30))
def test_the_context_is_where_the_next_note_stands_and_a_function_of_the_past(upper, upbeat, cut) -> None:
    encoding = Notes()
    ids = stacked(encoding, score(upper, upbeat_steps=upbeat))
    context = encoding.context(ids)
    assert (context < np.array(encoding.context_sizes)).all()
    assert (encoding.context(ids[:cut]) == context[:cut]).all()
    begins = np.cumsum(np.maximum(ids[:, GAP] - FIRST, 0))
    assert (context[0] == 0).all()
    assert (context[1:, 0] - 1 == (begins[1:] - upbeat) % 48).all()
    assert (context[1:, 1] - 1 == (begins[1:] - upbeat) % 48 % 12).all()


@pytest.mark.slow
@given(upper=notes, upbeat=st.integers(0, 47))
def test_what_is_written_down_is_allowed(upper, upbeat) -> None:
    encoding = Notes(longest_beats=4)
    ids = stacked(encoding, score(upper, upbeat_steps=upbeat))
    for t in range(1, len(ids)):
        for stream in range(len(STREAMS)):
            mask = encoding.allowed_in(ids[:t], ids[t, :stream].tolist())
            assert mask[ids[t, stream]], (t, STREAMS[stream])
            assert not mask[BOS]


@pytest.mark.slow
@given(seed=st.integers(0, 10**6))
def test_a_walk_through_the_grammar_is_written_down_as_itself(seed) -> None:
    rng = np.random.default_rng(seed)
    encoding = Notes(steps_per_beat=2, longest_beats=2)
    ids = [[BOS] * 4]
    while len(ids) < 60 and ids[-1][PITCH] != EOS:
        step: list[int] = []
        for _ in STREAMS:
            step.append(int(rng.choice(np.flatnonzero(encoding.allowed_in(np.array(ids), step)))))
        ids.append(step)
    if ids[-1][PITCH] != EOS:
        return
    made = encoding.decode(np.array(ids))
    assert encoding.decode(stacked(encoding, made)) == made


@pytest.mark.slow
@given(upper=notes, seed=st.integers(0, 99))
def test_augmented_pieces_keep_their_shape(upper, seed) -> None:
    encoding = Notes(transpose=(-24, 24), stretch=True, longest_beats=16)
    item = score(upper)
    ids = stacked(encoding, item)
    moved = encoding.augment(ids, np.random.default_rng(seed))
    assert moved.shape == ids.shape
    sounding = ids[:, PITCH] >= PITCH0
    assert len({*(moved - ids)[sounding, PITCH]}) == 1
    assert (moved[~sounding, PITCH] == ids[~sounding, PITCH]).all()
    before, after = encoding.decode(ids), encoding.decode(moved)
    factor = after.length_steps / before.length_steps
    assert factor in (0.5, 1, 2)
    assert len(after.parts[0].notes) == len(before.parts[0].notes)
    if factor != 1:
        assert [n.start for n in after.parts[0].notes] == [n.start * factor for n in before.parts[0].notes]


def test_all_three_lengths_are_drawn() -> None:
    encoding = Notes(stretch=True)
    ids = stacked(encoding, score([Note(0, 12, 60), Note(12, 12, 64)]))
    seen = {int(encoding.augment(ids, np.random.default_rng(n))[2, DURATION]) - FIRST for n in range(40)}
    assert seen == {6, 12, 24}


def model(sizes=(7, 5, 6), context=(4,), **options) -> StreamsModel:
    torch.manual_seed(0)
    made = StreamsModel([Field(size=n) for n in sizes], context, kind="gru", hidden_size=8, head_size=6, **options)
    return made.double()


def test_the_chances_of_all_steps_add_up_to_one_and_sampling_follows_them() -> None:
    made = model((4, 3, 3))
    # PAD never counts as a target, so a chance is lost to it: leave it none
    with torch.no_grad():
        for head in made.heads:
            head.bias[PAD] = -1e9
    y = torch.randn(1, 8, dtype=torch.float64)
    every = torch.cartesian_prod(torch.arange(1, 4), torch.arange(1, 3), torch.arange(1, 3))
    chances = torch.exp(-made.nats(y.expand(len(every), -1), every).double().sum(dim=1))
    assert chances.sum().item() == pytest.approx(1.0, abs=1e-5)
    torch.manual_seed(1)

    drawn = torch.zeros(20_000, 0, dtype=torch.long)
    for _ in range(3):
        chosen = torch.distributions.Categorical(logits=made.logits(y.expand(20_000, -1), drawn)).sample()
        drawn = torch.cat([drawn, chosen[:, None]], dim=1)
    counts = torch.stack([(drawn == one).all(dim=1).double().mean() for one in every])
    assert (counts - chances).abs().max() < 0.015


def test_a_whole_sequence_is_its_steps_and_a_later_stream_hears_the_earlier() -> None:
    made = model()
    x = torch.stack([torch.randint(0, size, (3, 9)) for size in (7, 5, 6, 4)], dim=-1)
    whole, last = made(x)
    state, outputs = made.initial_state(3), []
    for t in range(9):
        y, state = made.step(x[:, t], state)
        outputs.append(y)
    torch.testing.assert_close(whole, torch.stack(outputs, dim=1))
    torch.testing.assert_close(last, state)
    y, drawn = whole[:, 0], torch.tensor([[1, 1], [1, 2], [2, 1]])
    same = y[:1].expand(3, -1)
    assert (made.logits(same, drawn)[0] - made.logits(same, drawn)[1]).abs().max() > 1e-3
    assert (made.logits(same, drawn)[0] - made.logits(same, drawn)[2]).abs().max() > 1e-3
    assert (made.logits(same, drawn[:, :0]) == made.logits(same, drawn[:, :0])[0]).all()


def test_the_functional_graph_makes_the_same_model() -> None:
    sizes, context = (7, 5, 6), 4
    made = model(sizes, (context,))
    inputs = [Input(f"s{n}", size, ids=True) for n, size in enumerate((*sizes, context))]
    targets = [Input(f"t{n}", size, ids=True) for n, size in enumerate(sizes[:-1])]
    embedded = graph_layers.Add()(
        *(graph_layers.Embedding(8)(symbol, name=f"in{n}") for n, symbol in enumerate(inputs))
    )
    y = graph_layers.Recurrent("gru", hidden_size=8)(embedded, name="gru")
    outputs = {}
    for stream, size in enumerate(sizes):
        hidden = graph_layers.Linear(6)(y, name=f"hidden{stream}")
        if stream:
            before = [graph_layers.Embedding(6)(targets[r], name=f"drawn{stream}{r}") for r in range(stream)]
            hidden = graph_layers.Add()(hidden, *before)
        outputs[f"logits{stream}"] = graph_layers.Linear(size)(
            graph_layers.Activation("relu")(hidden), name=f"head{stream}"
        )
    graph = Graph([*inputs, *targets], outputs).double()
    tables = {"in0": made.embedding, **{f"in{n}": t for n, t in enumerate(made.context_embeddings, 1)}}
    tables |= {"gru": made.recurrent.layers[0]}
    for stream in range(len(sizes)):
        tables |= {f"hidden{stream}": made.hidden[stream], f"head{stream}": made.heads[stream]}
        tables |= {f"drawn{stream}{r}": table for r, table in enumerate(made.drawn[stream])}
    for name, module in tables.items():
        graph.layers[name].load_state_dict(module.state_dict())
    x = torch.stack([torch.randint(0, size, (2, 5)) for size in (*sizes, context)], dim=-1)
    following = torch.stack([torch.randint(0, size, (2, 5)) for size in sizes], dim=-1)
    given = {f"s{n}": x[..., n] for n in range(4)} | {f"t{n}": following[..., n] for n in range(2)}
    theirs, _ = graph(given)
    ours, _ = made(x)
    for stream in range(len(sizes)):
        torch.testing.assert_close(theirs[f"logits{stream}"], made.logits(ours, following[..., :stream]))


TUNE = [60, 64, 67, 72, 71, 67, 64, 62, 65, 69, 73, 74, 76, 70, 66, 60]


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    for n, shift in enumerate((0, 2, 4, 5, 7, 9)):  # the same tune on another scale is another piece
        tune = [(beat, 1, pitch + shift * (beat == 0)) for beat, pitch in enumerate(TUNE)]
        bass = [(4.0 * bar, 4, 36 + shift) for bar in range(4)]
        midi(tmp_path / "midi" / f"{n}.mid", ("tune", 0, tune), ("bass", 32, bass))
    return Recipe.from_dict(
        "tiny-notes",
        {
            "data": {"path": str(tmp_path / "midi"), "reader": "music", "split": [0.67, 0.17, 0.16]},
            "encoding": {"kind": "notes", "steps_per_beat": 4},
            "task": {"kind": "note_model"},
            "model": {"kind": "gru", "hidden_size": 48, "head_size": 32},
            "training": {"steps": 150, "batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 0, "tbptt_length": 12},
            "evaluation": {"every": 150, "window": 9},
            "generation": {"count": 2, "max_length": 60, "temperature": 0.5},
        },
    )


@pytest.mark.slow
def test_the_task_learns_by_heart_and_writes_the_same_again_from_a_bundle(recipe, tmp_path, silent) -> None:
    ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0)
    store = Store.open(ref.path)
    session = Session(recipe, store, "cpu", 1)
    task, model = session.task, session.model
    train, test = store.split("train"), store.split("test")
    before = session.evaluate("train")
    parts = [before[f"{name}_nats_per_note"] for name in STREAMS]
    assert before["nats_per_note"] == pytest.approx(sum(parts))
    whole = session.evaluator.task.batches(train, batch_size=1, window=1000, seed=0, training=False)
    nats, count = 0.0, 0
    for batch in whole.epoch():
        measured, _ = task.measure(model.eval(), batch, None)
        nats, count = nats + measured["nats_per_note"].total, count + measured["nats_per_note"].count
    assert count == 4 * (16 + 4)
    assert nats / count == pytest.approx(before["nats_per_note"], rel=1e-4), "windows carry the state on"
    assert 0 < task.baselines(train, test)["streams alone"] < before["nats_per_note"]
    session.train(tmp_path / "run", silent)
    after = session.evaluator.evaluate(model, train)["nats_per_note"]
    assert after < 0.5 < 5 < before["nats_per_note"]
    assert math.isfinite(session.evaluate("test")["nats_per_note"])

    facts = {"framing": "sequences", "data": {"name": "tiny"}}
    save_bundle(tmp_path / "bundle", "tiny-notes", model, session.encoding, recipe.as_dict(), facts)
    made = [load_bundle(tmp_path / "bundle").generate({"temperature": 1.0}, seed=seed) for seed in (3, 3, 4)]
    assert made[0].items == made[1].items != made[2].items
    learned = load_bundle(tmp_path / "bundle").generate({"temperature": 0.0, "count": 1}, seed=0)
    (item,), (one,) = learned.items, learned.sampled
    assert one.ended
    assert one.nats_per_token < 0.5
    assert [note.pitch for note in item.parts[0].notes if note.pitch > 50][1:] == TUNE[1:]
    assert [note.start for note in item.parts[0].notes if note.pitch < 50] == [0, 16, 32, 48]
    assert item.length_steps == 64
    short = task.generate(model, NoteSettings(count=1, max_length=5), seed=0)
    assert len(short.sampled[0].ids) == 5
    assert "were cut off at" in short.warnings[0]


@pytest.mark.slow
def test_its_files_can_be_made_again(recipe, tmp_path, monkeypatch) -> None:
    from components.runs import generate as flow

    encoding = Notes(steps_per_beat=4)
    torch.manual_seed(0)
    fresh = NoteModel(encoding, "sequences").build_model(recipe.model)
    facts = {"framing": "sequences", "data": {"name": "tiny"}}
    save_bundle(tmp_path / "bundle", "tiny-notes", fresh, encoding, recipe.as_dict(), facts)
    monkeypatch.setattr(
        flow, "open_model", lambda selector: flow.Opened(load_bundle(tmp_path / "bundle"), "tiny-notes", "1", "r")
    )
    opened = flow.open_model("tiny-notes")
    paths = flow.write(opened, flow.generate(opened, {"count": 1, "max_length": 12}, 7), tmp_path / "files")
    assert {path.suffix for path in paths} >= {".mid", ".musicxml", ".wav", ".png", ".html"}
    again, same = flow.replay(paths[0], tmp_path / "again")
    assert same
    for one, other in zip(paths, again, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.suffix


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("task", {"kind": "language_model"}, "notes gives streams, but the task language_model needs tokens"),
        ("encoding", {"kind": "pianoroll"}, "choices: notes"),
        ("encoding", {"kind": "notes", "longest_beats": 0}, "encoding.longest_beats"),
        ("model", {"kind": "gru", "bidirectional": True}, "model.bidirectional"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_recipe_is_read(recipe, section, changes, message) -> None:
    values = {**recipe.as_dict(), section: changes}
    with pytest.raises(UserError, match=message):
        Recipe.from_dict("x", values)


def test_settings_out_of_range_are_refused_in_a_stored_encoding_too() -> None:
    state = Notes().state()
    for name, value in (("longest_beats", 10**9), ("velocities", 0), ("steps_per_beat", -2), ("velocities", "8")):
        with pytest.raises(UserError, match=name):
            encoding_from_state({**state, "options": {**state["options"], name: value}})
    with pytest.raises(UserError, match="must be even"):
        Notes(steps_per_beat=3)
