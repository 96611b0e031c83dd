"""Four voices as tokens: nothing is lost, the grammar holds, every transposition can be sung."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.base import encoding_from_state
from components.encodings.chorale.encoding import HIGHEST, LOWEST, METRES, RANGES, SHIFTS, VOICES, Chorale
from components.encodings.vocabulary import BOS, EOS, PAD
from components.errors import UserError
from components.score import Note, Part, Score

ENCODING = Chorale()
ANY_IDS = st.lists(st.integers(0, len(ENCODING.vocabulary) - 1), max_size=60)


@st.composite
def voices(draw, length, pitches):
    """Notes and rests that fill a voice in any rhythm."""
    notes, step = [], 0
    while step < length:
        duration = draw(st.integers(1, min(8, length - step)))
        if draw(st.booleans()):
            notes.append(Note(step, duration, draw(pitches)))
        step += duration
    return tuple(notes)


@st.composite
def scores(draw, lowest=LOWEST, highest=HIGHEST, longest=40):
    metre = draw(st.sampled_from(METRES))
    length = draw(st.integers(0, longest))
    parts = tuple(Part(name, draw(voices(length, st.integers(lowest, highest)))) for name in VOICES)
    upbeat = draw(st.integers(0, Score((), metre=metre).bar_steps - 1))
    return Score(parts, metre=metre, upbeat_steps=upbeat, length_steps=length)


def framed(score):
    return np.concatenate([[BOS], ENCODING.encode(score), [EOS]])


def plain(length=16, upbeat=0, metre=(4, 4), pitches=(72, 67, 60, 48)):
    """One held note in each voice."""
    parts = tuple(Part(name, (Note(0, length, pitch),)) for name, pitch in zip(VOICES, pitches, strict=True))
    return Score(parts, metre=metre, upbeat_steps=upbeat, length_steps=length)


@pytest.mark.slow
@given(score=scores())
def test_a_score_comes_back_from_its_ids(score):
    assert ENCODING.decode(ENCODING.encode(score)) == score
    assert ENCODING.decode(framed(score)) == score


@pytest.mark.slow
@given(score=scores())
def test_the_state_rebuilds_the_encoding(score):
    again = encoding_from_state(json.loads(json.dumps(ENCODING.state())))
    assert again.encode(score).tolist() == ENCODING.encode(score).tolist()


def test_the_tokens_read_as_the_music_does():
    score = plain(length=2, upbeat=1, metre=(3, 4))
    score = replace(score, parts=(*score.parts[:3], Part("Bass", (Note(1, 1, 50),))))
    tokens = [ENCODING.vocabulary.token(id) for id in ENCODING.encode(score)]
    assert tokens[:2] == ["metre 3/4", "upbeat 1"]
    assert tokens[2:6] == ["pitch 72", "pitch 67", "pitch 60", "rest"]
    assert tokens[6:] == ["hold", "hold", "hold", "pitch 50"]


def test_two_notes_on_one_pitch_stay_two():
    score = plain(length=2)
    twice = replace(score, parts=(Part("Soprano", (Note(0, 1, 72), Note(1, 1, 72))), *score.parts[1:]))
    assert ENCODING.decode(ENCODING.encode(twice)) == twice != score


@given(ids=ANY_IDS)
def test_any_ids_decode_to_a_score(ids):
    score = ENCODING.decode(ids)
    assert len(score.parts) == 4
    assert ENCODING.decode(ENCODING.encode(score)) == score  # and to a sound one


def test_a_broken_prefix_and_a_torn_frame_are_read_leniently():
    vocabulary = ENCODING.vocabulary
    ids = vocabulary.ids(["hold", "pitch 60", "metre 3/2", "rest", "upbeat 23", "hold", "pitch 70"])
    score = ENCODING.decode([BOS, *ids, EOS, PAD])
    assert score.metre == (3, 2)
    assert score.upbeat_steps == 23
    assert score.length_steps == 1
    assert [len(part.notes) for part in score.parts] == [0, 1, 0, 0]


@pytest.mark.slow
@given(score=scores())
def test_the_context_tells_place_and_sounding_pitches_and_never_looks_ahead(score):
    ids = framed(score)
    context = ENCODING.context(ids)
    assert context.dtype == np.int64
    assert (context >= 0).all()
    assert (context.max(axis=0) < ENCODING.context_sizes).all()
    assert context[:2, 0].tolist() == [0, 1]
    for place, position in enumerate(context[2:, 0]):
        step = (place // 4 - score.upbeat_steps) % score.bar_steps
        assert position == 2 + 4 * step + place % 4
        assert context[2 + place, 1] == min((place // 4 - score.upbeat_steps) // score.bar_steps + 1, 31)
    for cut in range(len(ids)):
        assert ENCODING.context(ids[:cut]).tolist() == context[:cut].tolist()
    for voice, part in enumerate(score.parts):
        for step in range(score.length_steps):
            sounding = [note.pitch for note in part.notes if note.start <= step < note.start + note.duration]
            expected = sounding[0] - 24 + 1 if sounding else 0
            assert context[3 + 4 * step + voice, 2 + voice] == expected, "told as soon as it is read"
            assert context[3 + 4 * step + 3, 2 + voice] == expected, "and still there at the end of the frame"


def test_the_first_full_bar_begins_after_the_upbeat():
    ids = framed(plain(length=20, upbeat=4))
    begins = np.flatnonzero(ENCODING.context(ids)[:, 0] == 2)  # what follows is a soprano on beat one
    assert ((begins - 2) // 4).tolist() == [4, 20]


@given(ids=ANY_IDS)
def test_context_and_masks_are_total(ids):
    ids = np.array([BOS, *ids])
    context = ENCODING.context(ids)
    assert context.shape == (len(ids), 6)
    assert ((context >= 0) & (context < ENCODING.context_sizes)).all()
    mask = ENCODING.allowed(ids)
    assert mask.shape == (len(ENCODING.vocabulary),)
    assert mask.any()


@pytest.mark.slow
@given(score=scores())
def test_the_grammar_allows_every_score(score):
    ids = framed(score)
    for cut in range(1, len(ids) - 1):
        assert ENCODING.allowed(ids[:cut])[ids[cut]]
    may_end = score.length_steps >= score.upbeat_steps + score.bar_steps
    assert ENCODING.allowed(ids[:-1])[EOS] == may_end
    assert ENCODING.allowed(ids).nonzero()[0].tolist() == [EOS]


@pytest.mark.slow
@given(seed=st.integers(0, 2**32 - 1), ending=st.booleans())
def test_whatever_the_grammar_allows_is_a_score_that_encodes_to_itself(seed, ending):
    rng = np.random.default_rng(seed)
    ids = [BOS]
    while len(ids) < 3 + 4 * 30 and ids[-1] != EOS:
        allowed = np.flatnonzero(ENCODING.allowed(np.array(ids)))
        ids.append(EOS if ending and EOS in allowed else int(rng.choice(allowed)))
    whole = ids[1 : 3 + (len(ids) - 3) // 4 * 4]
    score = ENCODING.decode(whole)
    assert ENCODING.encode(score).tolist() == whole
    if ids[-1] == EOS:
        assert score.length_steps >= score.upbeat_steps + score.bar_steps


def test_only_an_upbeat_shorter_than_the_bar_is_allowed():
    for token, steps in (("metre 4/4", 16), ("metre 3/4", 12), ("metre 3/2", 24)):
        mask = ENCODING.allowed(np.array([BOS, ENCODING.vocabulary.id(token)]))
        allowed = {ENCODING.vocabulary.token(id) for id in np.flatnonzero(mask)}
        assert allowed == {f"upbeat {step}" for step in range(steps)}


def test_a_silent_voice_and_the_first_frame_have_nothing_to_hold():
    prefix = [BOS, *ENCODING.vocabulary.ids(["metre 4/4", "upbeat 0"])]
    assert not ENCODING.allowed(np.array(prefix))[ENCODING.signs.hold]
    frame = list(ENCODING.vocabulary.ids(["pitch 70", "rest", "pitch 60", "rest"]))
    after = [int(token) for token in frame]
    for voice, may_hold in enumerate((True, False, True, False)):
        ids = np.array([*prefix, *frame, *after[:voice]])
        assert ENCODING.allowed(ids)[ENCODING.signs.hold] == may_hold


def test_a_mask_may_be_changed_without_changing_the_grammar():
    ids = np.array([BOS])
    ENCODING.allowed(ids)[:] = False
    assert ENCODING.allowed(ids).any()


@pytest.mark.slow
@given(score=scores(LOWEST + 5, HIGHEST - 6), seed=st.integers(0, 2**32 - 1))
def test_a_transposition_moves_all_notes_alike_and_stays_in_range(score, seed):
    ids = framed(score)
    moved = ENCODING.augment(ids, np.random.default_rng(seed))
    assert moved.dtype == np.int64
    other = ENCODING.decode(moved)
    shifts = {
        b.pitch - a.pitch
        for before, after in zip(score.parts, other.parts, strict=True)
        for a, b in zip(before.notes, after.notes, strict=True)
    }
    assert len(shifts) <= 1
    assert shifts <= set(SHIFTS)
    for before, after, (low, high) in zip(score.parts, other.parts, RANGES, strict=True):
        used = [note.pitch for note in before.notes]
        for note in after.notes:
            assert min([low, *used]) <= note.pitch <= max([high, *used])
    unpitched = ids < ENCODING.signs.pitch0
    assert (moved[unpitched] == ids[unpitched]).all()


@pytest.mark.slow
def test_transpositions_reach_every_interval_that_can_be_sung():
    ids = framed(plain(pitches=(66, 60, 54, 46)))
    rng = np.random.default_rng(0)
    shifts = {int(ENCODING.augment(ids, rng)[3] - ids[3]) for _ in range(300)}
    assert shifts == set(SHIFTS)
    high = framed(plain(pitches=(80, 60, 54, 46)))
    assert {int(ENCODING.augment(high, rng)[3] - high[3]) for _ in range(300)} == {-5, -4, -3, -2, -1, 0, 1}


def test_frames_are_counted_with_and_without_the_framing():
    score = plain(length=7)
    assert ENCODING.counts(framed(score)) == ENCODING.counts(ENCODING.encode(score)) == {"frame": 7}


def test_a_finer_grid_reads_a_coarser_score_and_refuses_the_reverse():
    score = plain()
    fine = Chorale(steps_per_beat=8).decode(Chorale(steps_per_beat=8).encode(score))
    assert fine.length_steps == 32
    assert fine.length_seconds == score.length_seconds
    with pytest.raises(UserError, match=r"isn't on a grid of 1 .*\n.*steps_per_beat"):
        Chorale(steps_per_beat=1).encode(replace(score, length_steps=15))
    with pytest.raises(UserError, match=r"encoding\.steps_per_beat"):
        encoding_from_state({**Chorale().state(), "options": {"steps_per_beat": 0}})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"parts": plain().parts[:3]}, "3 parts"),
        ({"metre": (5, 4)}, "metre 5/4"),
        ({"upbeat_steps": 16}, "upbeat of 16"),
        ({"parts": (Part("Soprano", (Note(0, 1, 97),)), *plain().parts[1:])}, "pitch 97"),
    ],
)
def test_a_score_without_tokens_is_refused_by_its_title(change, what):
    with pytest.raises(UserError, match=f"My tune: .*{what}"):
        ENCODING.encode(replace(plain(), title="My tune", **change))
