"""Planned lead sheets: their forms have the bars that they begin with, and home is known beside each token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_lead_sheet import BAR, HARD, lead_sheet, melody

from components.bounds import MOST_BARS
from components.encodings.base import encoding_from_state
from components.encodings.form import BARS_LEFT, Form, bars_begun
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.lead_sheet.plan import Written
from components.encodings.lead_sheet.signs import LOWEST
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.score import Chord

ENCODING = LeadSheet(planned=True)
SIGNS = ENCODING.signs


@pytest.mark.parametrize("score", HARD.values(), ids=HARD)
def test_hard_music_comes_back_and_the_grammar_allows_it(score) -> None:
    ids = np.array([BOS, *ENCODING.encode(score), EOS])
    back = ENCODING.decode(ids)
    assert (melody(back), back.chords, back.length_steps) == (melody(score), score.chords, score.length_steps)
    assert back.metre_changes == score.metre_changes
    for t in range(1, len(ids)):
        assert ENCODING.allowed(ids[:t])[ids[t]], SIGNS.label(int(ids[t]))


def test_bars_are_counted_from_the_upbeat_and_across_changes_of_metre() -> None:
    form = Form(metre=(3, 4), upbeat=12, length=12 + 36 + 30 + 48, changes=((48, (2, 4)), (78, (4, 4))))
    assert [bars_begun(form, step, 12) for step in (0, 12, 13, 48, 49, 78, 126)] == [0, 0, 1, 1, 2, 3, 4]
    chords = tuple(Chord(step, 6, 0, "7") for step in range(0, 126, 6))
    facts = {"metre": (3, 4), "upbeat_steps": 12, "metre_changes": form.changes}
    ids = np.array([BOS, *ENCODING.encode(lead_sheet([], chords, **facts))])
    places = SIGNS.places(ids)
    written = Written(SIGNS, ids[: places.begin], places.time[: places.begin])
    assert written.ends(5)[-1] == 78 + 2 * BAR
    assert written.bars.tolist() == [bars_begun(form, int(step), 12) for step in places.time[: places.begin]]
    assert SIGNS.planned_bars(ids) == 4


def test_the_form_is_told_how_many_bars_it_still_gets() -> None:
    chords = tuple(Chord(BAR * bar, BAR, root, "maj") for bar, root in enumerate((0, 7, 0)))
    ids = np.array([BOS, *ENCODING.encode(lead_sheet([(0, 3 * BAR, 60)], chords))])
    left = ENCODING.context(ids)[: SIGNS.places(ids).begin, BARS_LEFT]
    assert left.tolist() == [0, 0, 0, 3, 3, 2, 2, 1, 1, 0], "BOS, metre, tempo, bars, then two tokens a chord"
    assert SIGNS.planned_bars(np.array([SIGNS.metre0 - 1])) == 0, "more than can be said is any number"
    long = ENCODING.encode(lead_sheet([], length_steps=(MOST_BARS + 5) * BAR))
    assert ENCODING.vocabulary.token(int(long[2])) == "bars more"


def test_the_last_steps_are_counted_down_to_an_end_that_the_upbeat_shortens() -> None:
    chords = (Chord(0, 12, 0, "maj"), Chord(12, BAR, 5, "maj"), Chord(12 + BAR, BAR - 12, 7, "7"))
    score = lead_sheet([(0, 12, 60), (12, BAR, 62), (12 + BAR, 24, 64), (36 + BAR, 12, 67)], chords, upbeat_steps=12)
    ids = np.array([BOS, *ENCODING.encode(score)])
    left = ENCODING.context(ids)[:, -1] - 1
    form, melody = left[: SIGNS.places(ids).begin], left[SIGNS.places(ids).begin :]
    assert form.tolist() == [-1, -1, -1, *[BAR] * 6, BAR - 12, BAR - 12, 0], "from the number of bars on"
    assert melody.tolist() == [*[BAR] * 4, BAR - 12, BAR - 12, 12, 12, 0], "the last bar: a half and a quarter note"


def test_a_model_that_was_trained_without_the_steps_left_reads_what_it_knows() -> None:
    state = ENCODING.state()
    old = encoding_from_state({**state, "learned": {"knows_chords": True, "form_steps": 384}})
    new = encoding_from_state(state)
    ids = np.array([BOS, *ENCODING.encode(HARD["an anacrusis"])])
    assert new.context_sizes == ENCODING.context_sizes == (*old.context_sizes, 50)
    assert (new.context(ids)[:, :-1] == old.context(ids)).all()
    assert encoding_from_state(new.state()).context_sizes == new.context_sizes


@pytest.mark.parametrize("shift", [0, 5])
def test_home_is_the_first_chord_s_root_in_every_key(shift) -> None:
    chords = (Chord(0, BAR, 2, "min"), Chord(BAR, BAR, 9, "7"))
    ids = SIGNS.transposed(np.array([BOS, *ENCODING.encode(lead_sheet([(0, BAR, 62), (BAR, BAR, 61)], chords))]), shift)
    home, chord, after, pitch = ENCODING.context(ids)[:, -5:-1].T
    first = int(np.flatnonzero(SIGNS.places(ids).inside)[0])
    assert (home[4:] == 1 + 2 + shift).all()
    assert not home[:4].any()
    assert (chord[first], after[first], pitch[first]) == (1, 1 + 7, 0)
    assert (chord[-2], after[-2], pitch[-2]) == (1 + 7, 0, 1 + 11)
    assert ids[first + 1] - SIGNS.pitch0 + LOWEST == 62 + shift


@settings(deadline=None, max_examples=60)
@given(
    ids=st.lists(st.integers(0, len(ENCODING.vocabulary) - 1), max_size=60),
    cut=st.integers(1, 60),
    planned=st.booleans(),
)
def test_any_ids_decode_and_have_a_context_of_the_past(ids, cut, planned) -> None:
    encoding, again = (LeadSheet(planned=planned) for _ in range(2))
    ids = np.array([BOS, *ids]) % len(encoding.vocabulary)
    encoding.decode(ids)
    context = encoding.context(ids)
    assert (context >= 0).all()
    assert (context < np.array(encoding.context_sizes)).all()
    assert (again.context(ids[:cut]) == context[:cut]).all()
    assert encoding.allowed(ids).any()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), bars=st.integers(1, 6))
def test_whatever_is_allowed_ends_with_the_bars_that_were_planned(seed, bars) -> None:
    rng = np.random.default_rng(seed)
    ids = [BOS, SIGNS.metre0 + int(rng.integers(0, 6)), SIGNS.tempo0, SIGNS.bars0 + bars - 1]
    while ids[-1] != SIGNS.begin:
        ids.append(int(rng.choice(np.flatnonzero(ENCODING.allowed(np.array(ids))))))
        assert len(ids) < 3000
    form = SIGNS.read_form(ids)
    assert bars_begun(form, form.length, 12) == bars


def test_an_encoding_that_isn_t_planned_is_what_it_was_and_a_stored_one_stays_as_it_is() -> None:
    plain = LeadSheet()
    assert not any(token.startswith("bars ") for token in plain.vocabulary.tokens)
    state = plain.state()
    del state["options"]["planned"]  # as stored before there were plans
    assert encoding_from_state(state).context_sizes == plain.context_sizes
    assert encoding_from_state(ENCODING.state()).planned
    with pytest.raises(UserError, match="vocabulary"):
        plain.vocabulary = ENCODING.vocabulary
