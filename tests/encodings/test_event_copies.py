"""Copying of events: their times, what followed the same place some bars ago, and one likelihood for all uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encodings.copying import match_class
from components.encodings.event_copies import BEGINS, ENDS, LAGS
from components.encodings.events import Events
from components.encodings.vocabulary import BOS, EOS, PAD
from components.errors import UserError
from components.generation.settings import Settings
from components.recipe import read_recipe
from components.score import Note, Part, Score
from components.tasks.language_model import LanguageModel
from components.tasks.surprise import surprise

pytestmark = pytest.mark.slow  # what reads them takes seconds to import

KINDS = ("remi", "tsd", "midi_like", "structured")
ENCODINGS = {kind: Events(tokenizer=kind, steps_per_beat=4, velocities=4) for kind in KINDS}
RECIPES = Path(__file__).parents[2] / "flows" / "recipes"
RIFF = [(0, 60), (0, 64), (4, 67), (6, 60), (8, 62), (8, 65), (12, 71)]  # a bar: start, pitch


def score(*bars: list[tuple[int, int]], bass: bool = True, loud: int = 80, **facts) -> Score:
    """Bars of notes of half a quarter, over a bass in another instrument."""
    steps = 16 if "metre" not in facts else facts["metre"][0] * 16 // facts["metre"][1]
    notes = [Note(steps * n + at, 2, pitch, loud) for n, bar in enumerate(bars) for at, pitch in bar if at < steps]
    low = [Note(steps * n, 8, 40, 80) for n in range(len(bars))]
    parts = (Part("", tuple(sorted(notes))), *[Part("", tuple(low), 33)] * bass)
    return Score(parts, 4, length_steps=steps * len(bars), **facts)


def framed(kind: str, item: Score) -> np.ndarray:
    return np.array([BOS, *ENCODINGS[kind].encode(item), EOS])


def obvious_copies(encoding: Events, ids: np.ndarray, lag: int) -> tuple[list[int], list[int]]:
    """What `copies` says of one lag, by a walk with tables of what followed which place."""
    same: dict[tuple, int] = {}
    as_many: dict[tuple, int] = {}
    time = start = shifted = place = bars = run = count = since = 0
    pitch = program = mark = ""
    unit, bar, candidate = 2, 32, PAD
    candidates, classes = [], []
    keys: list[tuple] = []
    for t, id in enumerate(ids.tolist()):
        kind, _, value = encoding.vocabulary.token(id).partition("_")
        for table, key in zip((same, as_many), keys, strict=False):
            table.setdefault(key, id)
        hit = candidate not in (PAD, -1) and candidate == id and t > 0
        if hit:
            run += kind in BEGINS
        elif kind not in ("Velocity", "Duration", "Tempo", *ENDS):
            run = 0
        before = time
        if kind == "TimeSig":
            beats, of = map(int, value.split("/"))
            unit, bar = 8 // of, beats * 4 * 8 // of
        elif kind == "Bar":
            start, place, bars = start + bar * (bars > 0), 0, bars + 1
        elif kind == "Position":
            place = int(value) * unit
        elif kind == "TimeShift":
            whole, part, per = map(int, value.split("."))
            shifted += (whole * per + part) * 4 // per * unit
        time = start + place + shifted
        if time != before:
            pitch = program = ""
            count = 0
        since += 1
        if kind not in ("Velocity", "Duration"):
            mark, since = kind, 0
        if kind in (*BEGINS, *ENDS):
            pitch, count = f"{kind} {value}", count + 1
        program = value if kind == "Program" else program
        keys = [(time, mark, since, pitch, program), (time, mark, since, count)]
        there = time - lag * bar
        found = same.get((there, *keys[0][1:]), as_many.get((there, *keys[1][1:]), PAD))
        candidate = found if there >= 0 else PAD
        candidates.append(candidate)
        classes.append(int(match_class(np.array(run))))
    return candidates, classes


BARS = st.sampled_from([RIFF, RIFF[:4], [(0, 60), (5, 62)], [], [(at, pitch + 1) for at, pitch in RIFF]])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(
    bars=st.lists(BARS, min_size=1, max_size=9),
    metres=st.sampled_from([((4, 4), (4, 4)), ((3, 4), (6, 8))]),
    broken=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 10**4)), max_size=3),
    cut=st.integers(1, 150),
)
def test_what_followed_there_is_what_a_table_of_the_past_says(kind, bars, metres, broken, cut) -> None:
    encoding = ENCODINGS[kind]
    bar = metres[0][0] * 16 // metres[0][1]
    ids = framed(kind, score(*bars, metre=metres[0], metre_changes=((2 * bar, metres[1]),)))
    for at, id in broken:  # the grammar needn't hold
        ids[at % len(ids)] = id % len(encoding.vocabulary)
    found = encoding.copies(ids)
    for column, lag in enumerate(LAGS):
        assert tuple(each[:, column].tolist() for each in found) == obvious_copies(encoding, ids, lag)
    cut = min(cut, len(ids))
    assert all((whole[:cut] == part).all() for whole, part in zip(found, encoding.copies(ids[:cut]), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_times_are_those_of_the_notes(kind) -> None:
    changes = () if kind == "structured" else ((24, (6, 8)), (48, (5, 4)))  # it has no metres
    item = score(*[RIFF] * 7, metre=(3, 4), metre_changes=changes)
    ids = framed(kind, item)
    encoding = ENCODINGS[kind]
    names = [encoding.vocabulary.token(id).partition("_")[0] for id in ids]
    time_T, bar_T = encoding._places.times(ids)
    begins = sorted(int(time) for time, name in zip(time_T, names, strict=True) if name in BEGINS)
    assert begins == sorted(2 * note.start for part in item.parts for note in part.notes)
    assert set(bar_T) == ({32} if kind == "structured" else {32, 24, 40})


@pytest.mark.parametrize("kind", KINDS)
def test_a_repeated_bar_is_foretold_whatever_its_loudness_until_the_pitches_differ(kind) -> None:
    other = [*RIFF[:5], (8, 66), RIFF[6]]
    third = [Note(32 + at, 2, pitch, 20) for at, pitch in other]
    first = score(RIFF, [(0, 50)], bass=False)
    item = Score((Part("", tuple(sorted([*first.parts[0].notes, *third]))),), 4, length_steps=48)
    ids, encoding = framed(kind, item), ENCODINGS[kind]
    candidates_TL, classes_TL = encoding.copies(ids)
    names = [encoding.vocabulary.token(id) for id in ids]
    begins = np.array([name.partition("_")[0] in BEGINS for name in names])
    two = LAGS.index(2)
    again = np.flatnonzero(begins)[-7:]  # the third bar's notes
    foretold = candidates_TL[again - 1, two] == ids[again]
    assert foretold.tolist() == [True] * 5 + [False, True]
    assert classes_TL[again, two].tolist() == [1, 2, 3, 4, 5, 0, 1]
    loud = [t for t in range(again[0], len(ids)) if names[t].startswith("Velocity")]
    assert not (candidates_TL[np.array(loud) - 1, two] == ids[loud]).any(), "each has another loudness"
    higher = Events(tokenizer=kind, steps_per_beat=4, velocities=4, transpose=(3, 3))
    moved = higher.augment(ids, np.random.default_rng(0))
    assert (encoding.copies(moved)[1] == classes_TL).all()


def small(kind: str = "remi", **options) -> tuple[LanguageModel, torch.nn.Module]:
    torch.manual_seed(0)
    task = LanguageModel(ENCODINGS[kind], "sequences")
    return task, task.build_model({"kind": "gru", "hidden_size": 8, "copy": True} | options).eval()


def test_steps_and_whole_windows_agree_and_sampling_uses_that_likelihood() -> None:
    task, model = small()
    ids = framed("remi", score(RIFF, RIFF))
    inputs_BTS = torch.from_numpy(np.concatenate([ids[:, None], task.read.context(ids)], axis=1))[None]
    whole, _ = model(inputs_BTS)
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(whole.shape[:2]))
    state = model.initial_state(1)
    for t in range(inputs_BTS.shape[1]):
        so_far = np.concatenate([ids[: t + 1, None], task.read.context(ids[: t + 1])], axis=1)[-1:]
        logits, state = model.step(torch.from_numpy(so_far), state)
        torch.testing.assert_close(logits, whole[:, t], rtol=1e-4, atol=1e-5)
    begun = tuple(ENCODINGS["remi"].onwards(score(RIFF)).tolist())
    (one,) = task.generate(model, Settings(count=1, max_length=60, given=begun, temperature=0.9), seed=1).sampled
    assert tuple(one.ids[: len(begun)].tolist()) == begun
    nats = surprise(model, task.read, np.array([BOS, *one.ids, *[EOS] * one.ended]))
    drawn = nats[len(begun) :]
    assert one.nats_per_token == pytest.approx(drawn.mean(), rel=1e-4)


def test_open_gates_repeat_the_bar_and_a_form_leads_to_its_section() -> None:
    task, model = small()
    with torch.no_grad():  # all for one bar ago, wherever something stood there
        model.head.gates.bias[1 + LAGS.index(1)] = 30.0
    # three sections of a bar; the metre of the third is chosen as the second's
    begun = ENCODINGS["remi"].encode(score(RIFF, [(0, 50), (4, 52)], [(0, 50), (4, 52)], bass=False))
    begun = begun[: np.flatnonzero(ENCODINGS["remi"]._places.bars_V[begun])[2]]
    bar = int(np.flatnonzero(ENCODINGS["remi"]._places.bars_V)[0])
    how = {"count": 1, "max_length": 12, "given": (*begun.tolist(), bar)}
    (one,) = task.generate(model, Settings(**how), seed=0).items
    assert [(n.start - 32, n.pitch) for n in one.parts[0].notes if 32 <= n.start < 48] == [(0, 50), (4, 52)]
    form = Settings(**{**how, "given": ()}, form="ABA", form_strength=4.0, bars=3)
    encoding, sections = task.formed(model, form, 3)
    ids = np.append(BOS, begun)
    assert encoding.leanings(ids).tolist() == [-4, 0, 0, 0, 0], "the second bar is B and isn't to be as A"
    third = np.append(ids, begun[:2])  # the bar and its metre
    assert encoding.leanings(third).tolist() == [-4, 4, 0, 0, 0]
    allowed = encoding.allowed(third[:-1])
    assert [encoding.encoding.vocabulary.token(id) for id in np.flatnonzero(allowed)] == ["TimeSig_4/4"]
    assert sections.letters == "ABA"


def test_merged_events_cannot_be_copied() -> None:
    merged = Events(bpe=700)
    task = LanguageModel(merged, "sequences")
    with pytest.raises(UserError, match="the encoding doesn't support copying"):
        task.build_model({"kind": "gru", "hidden_size": 4, "copy": True})
    changes = ["encoding.kind=events", "encoding.bpe=700", "model.copy=true"]
    with pytest.raises(UserError, match=r"model.copy: merged tokens can't be copied"):
        read_recipe(RECIPES / "piano.yaml", ["encoding.transpose=[0, 0]", "encoding.planned=null", *changes])
