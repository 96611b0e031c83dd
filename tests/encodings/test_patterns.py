"""Interval patterns that come back: what followed them is found from the past alone, in whatever key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encodings.base import encoding_from_state
from components.encodings.copying import LONGEST, Copying, match_class, returns
from components.encodings.lead_sheet.copies import HARMONIES
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.vocabulary import BOS, EOS, PAD
from components.errors import UserError
from components.evaluation.music_structure import structure
from components.generation.draft import Draft
from components.generation.sampling import sample
from components.generation.settings import Settings
from components.recipe import read_recipe
from components.score import Note, Part, Score
from components.tasks.music import Music, MusicSettings
from components.tasks.surprise import surprise

RECIPES = Path(__file__).parents[2] / "flows" / "recipes"
ENCODING = LeadSheet(steps_per_beat=4, patterns=True)
SIGNS = ENCODING.signs
FIRST = [(60, 2), (64, 2), (67, 1), (65, 1), (64, 2), (62, 4)]
LINE = st.lists(
    st.tuples(st.sampled_from([60, 62, 64, 65, 0]), st.sampled_from([1, 2, 4, 20])), min_size=1, max_size=30
)


def framed(line: list[tuple[int, int]]) -> np.ndarray:
    """Of pitches (0: a rest) and steps."""
    starts = np.cumsum([0, *(steps for _, steps in line)])
    notes = tuple(Note(int(at), steps, pitch) for at, (pitch, steps) in zip(starts, line, strict=False) if pitch)
    score = Score((Part("Melody", notes, role="melody"),), steps_per_beat=4, length_steps=int(starts[-1]))
    return np.array([BOS, *ENCODING.encode(score), EOS])


def said(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Candidates and classes of the place of patterns."""
    candidates_TL, classes_TL = ENCODING.copies(ids)
    assert candidates_TL.shape == classes_TL.shape == (len(ids), ENCODING.copy_places)
    return candidates_TL[:, -1], classes_TL[:, -1] // HARMONIES


def obvious_returns(intervals: list[int]) -> list[tuple[int, int]]:
    found = []
    for here in range(len(intervals)):
        best = (-1, 0)
        for there in range(here):
            length = 0
            while length < min(LONGEST, there + 1) and intervals[there - length] == intervals[here - length]:
                length += 1
            if length and length >= best[1]:
                best = (there, length)
        found.append(best)
    return found


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-2, 2), max_size=40))
def test_the_longest_stretch_that_was_there_counts_and_of_several_the_latest(intervals) -> None:
    source_N, longest_N = returns(np.array(intervals, dtype=np.int64))
    assert list(zip(source_N.tolist(), longest_N.tolist(), strict=True)) == obvious_returns(intervals)


def obvious_candidates(ids: np.ndarray) -> tuple[list[int], list[int]]:
    """Token after token, from the events written so far."""
    candidates, classes, events = [], [], []  # events: token, length
    wanted, match = (PAD, PAD), 0  # the event that may come next
    for t, id in enumerate(ids.tolist()):
        inside = t >= int(np.flatnonzero(ids == SIGNS.begin)[0])
        if inside and (id >= SIGNS.pitch0 or id in (SIGNS.rest, SIGNS.tie)):
            events.append([id, PAD])
            candidates.append(wanted[1])
            classes.append(match if id == wanted[0] else 0)
            continue
        if inside and SIGNS.length(id):
            events[-1][1] = id
        wanted, match = (PAD, PAD), 0
        notes = [n for n, (token, _) in enumerate(events) if token >= SIGNS.pitch0]
        pitches = [events[n][0] for n in notes]
        if len(notes) > 1 and (best := obvious_returns(np.diff(pitches).tolist())[-1])[1]:
            source = best[0] + 1
            there = notes[source] + len(events) - notes[-1]
            if there <= notes[source + 1]:
                token, length = events[there]
                moved = token + pitches[-1] - pitches[source] if token >= SIGNS.pitch0 else token
                if token < SIGNS.pitch0 or SIGNS.pitch0 <= moved < len(SIGNS):
                    wanted, match = (moved, length), int(match_class(np.array(best[1])))
        candidates.append(wanted[0])
        classes.append(match)
    return candidates, classes


@settings(max_examples=40, deadline=None)
@given(LINE)
def test_the_candidates_are_what_followed_there(line) -> None:
    ids = framed(line)[:-1]
    candidates_T, classes_T = said(ids)
    assert (candidates_T.tolist(), classes_T.tolist()) == obvious_candidates(ids)


@settings(max_examples=40, deadline=None)
@given(LINE, st.lists(st.tuples(st.integers(1, 60), st.integers(0, len(SIGNS) - 1)), max_size=5), st.integers(1, 70))
def test_it_looks_back_only_whatever_the_ids(line, broken, cut) -> None:
    ids = framed(line)
    for at, id in broken:  # the grammar needn't hold
        ids[at % len(ids)] = id
    whole, cut = said(ids), min(cut, len(ids))
    for column, so_far in zip(whole, said(ids[:cut]), strict=True):
        assert (column[:cut] == so_far).all()
    assert ((whole[0] >= 0) & (whole[0] < len(SIGNS))).all()
    context = Copying(ENCODING).context(ids)
    assert (context >= 0).all()
    assert (context < np.array(Copying(ENCODING).context_sizes)).all()


def test_a_pattern_in_another_key_at_another_beat_is_foretold() -> None:
    ids = framed([*FIRST, (0, 1), *((pitch + 5, steps) for pitch, steps in FIRST)])
    candidates_T, classes_T = said(ids)
    again = len(ids) - 1 - 2 * len(FIRST)
    start = again + 4  # two notes are an interval
    assert candidates_T[start - 1 : -2].tolist() == ids[start:-1].tolist()
    assert classes_T[start - 1 : -2 : 2].tolist() == [1, 2, 3, 4]
    literal = ENCODING.copies(ids)[0][start - 1 : -2, :-1]
    pitches = ids[start:-1] >= SIGNS.pitch0
    assert not (literal == ids[start:-1, None])[pitches].any(), "no lag leads there"
    moved = SIGNS.transposed(ids, 5)
    assert (said(moved)[0] == SIGNS.transposed(candidates_T, 5)).all()
    assert (said(moved)[1] == classes_T).all()


def test_the_place_is_one_of_the_model_s_and_decoding_is_one_pass() -> None:
    torch.manual_seed(0)
    task = Music(ENCODING, "sequences")
    model = task.build_model({"kind": "lstm", "hidden_size": 12, "copy": True}).eval()
    ids = framed([*FIRST, (0, 1), *((pitch + 5, steps) for pitch, steps in FIRST)])
    inputs_BTS = torch.from_numpy(np.concatenate([ids[:, None], task.read.context(ids)], axis=1))[None]
    whole, _ = model(inputs_BTS)
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(whole.shape[:2]))
    state = model.initial_state(1)
    for t in range(inputs_BTS.shape[1]):
        logits, state = model.step(inputs_BTS[:, t], state)
        torch.testing.assert_close(logits, whole[:, t], rtol=1e-4, atol=1e-5)
    with torch.no_grad():  # where something followed, it is copied
        model.head.gates.bias[-1] = 30.0
    nats = surprise(model, task.read, ids)
    assert nats[-9:-1].max() < 1e-3, "all but the end, from the third note on"
    prompt = ids[1:-9].tolist()
    (made,) = sample(model, Draft(task.read, prompt, Settings(count=1, max_length=4), seed=0, framed=True))
    assert made.nats_per_token == pytest.approx(
        surprise(model, task.read, np.append(BOS, made.ids))[-4:].mean(), rel=1e-3, abs=1e-3
    )


def test_a_stored_encoding_keeps_its_patterns_and_one_of_before_has_none() -> None:
    assert encoding_from_state(ENCODING.state()).copy_places == len(ENCODING.copy_lags) + 1
    state = LeadSheet().state()
    del state["options"]["patterns"]
    assert encoding_from_state(state).copy_places == len(LeadSheet.copy_lags)


@pytest.mark.slow
def test_a_solo_comes_back_to_its_patterns_as_strongly_as_it_is_asked_to() -> None:
    torch.manual_seed(0)
    task = Music(ENCODING, "sequences")
    model = task.build_model({"kind": "lstm", "hidden_size": 8, "copy": True}).eval()
    with torch.no_grad():  # by itself it hardly copies
        model.head.gates.bias[0] = 4.0
    how = {"count": 1, "max_length": 200, "chords": "C | F | G7 | Am", "choruses": 2, "constraints": ("range 60-67",)}
    made = [task.generate(model, MusicSettings(**how, pattern_strength=s), seed=1) for s in (0.0, 8.0)]
    plain = task.generate(model, MusicSettings(**how), seed=1)
    assert made[0].sampled[0].ids.tolist() == plain.sampled[0].ids.tolist(), "0 is off"
    formed = task.generate(model, MusicSettings(**how, pattern_strength=8.0, form="AB", form_strength=2.0), seed=1)
    without, with_, beside = (structure(one.items)["patterns_returned"] for one in (*made, formed))
    assert min(with_, beside) > 0.3 > without


@pytest.mark.parametrize(("patterns", "copy"), [(False, True), (True, False)])
def test_a_model_that_copies_no_patterns_cannot_come_back_to_them(patterns: bool, copy: bool) -> None:
    task = Music(LeadSheet(steps_per_beat=4, patterns=patterns), "sequences")
    model = task.build_model({"kind": "rnn", "hidden_size": 4, "copy": copy})
    with pytest.raises(UserError, match=r"generation.pattern_strength: .*\n.*encoding.patterns(: | to )true"):
        task.generate(model, MusicSettings(pattern_strength=1.0), seed=0)
    with pytest.raises(UserError, match=r"generation.pattern_strength: this model doesn't copy patterns"):
        read_recipe(RECIPES / "jazz.yaml", [f"encoding.patterns={patterns}", f"model.copy={copy}"])
