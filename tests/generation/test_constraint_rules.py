"""Rules about notes at one moment: how they are read, what each refuses, and which gives way first."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_constraints import CHORALE

from components.encodings.chorale.encoding import VOICES
from components.encodings.meaning import (
    HOLD,
    LENGTH,
    NOTE,
    OTHER,
    REST,
    Choices,
    Moment,
    meaning_of,
)
from components.errors import UserError
from components.generation.constraint_texts import RULES, parse_constraint, parse_constraints
from components.generation.constraints import Constraints, Longest
from components.score import Chord

MOMENT = Moment(0, 0, 16, 4, True, Chord(0, 16, 0, "maj"), 1, (67, 60, None, 48), 4, (60,) * 3)
# end, hold, rest, the pitches 48 to 72; then the lengths 1 to 8
CHOICES = Choices(
    np.array([OTHER, HOLD, REST, *[NOTE] * 25, *[LENGTH] * 8]),
    np.array([-1, -1, -1, *range(48, 73), *[-1] * 8]),
    np.array([0] * 28 + list(range(1, 9))),
)


def kept(text: str, moment: Moment = MOMENT, voices: tuple[str, ...] = VOICES) -> set[int | str]:
    """What a rule lets through: pitches, "hold", "rest", "end" and lengths as "3 steps"."""
    mask = parse_constraint(text, voices).allows(CHOICES, moment)
    names = ["end", "hold", "rest", *range(48, 73), *(f"{n} steps" for n in range(1, 9))]
    return {name for name, allowed in zip(names, mask, strict=True) if allowed}


def test_the_last_listed_is_given_up_first_and_counted():
    high, low = "range 70-72", "range 48-50"
    for texts, lost, pitches in (([high, low], low, {70, 71, 72}), ([low, high], high, {48, 49, 50})):
        rules = parse_constraints(texts, meaning_of(CHORALE))
        mask = replace_choices(rules).narrow(CHOICES.kind == NOTE, MOMENT)
        assert set(CHOICES.pitch[mask].tolist()) == pitches
        assert rules.relaxed == {lost: 1}


def test_a_rule_given_up_leaves_those_after_it_in_force():
    rules = parse_constraints(["range 70-72", "range 48-50", "key Db major"], meaning_of(CHORALE))
    mask = replace_choices(rules).narrow(CHOICES.kind == NOTE, MOMENT)
    assert set(CHOICES.pitch[mask].tolist()) == {70, 72}
    assert list(rules.relaxed) == ["range 48-50"]


def test_a_rule_about_pitch_is_given_up_before_it_silences_or_ends_the_music():
    rules = parse_constraints(["range 100-110"], meaning_of(CHORALE))
    open_to = (CHOICES.kind == NOTE) | (CHOICES.kind == REST) | (CHOICES.kind == OTHER)
    assert (replace_choices(rules).narrow(open_to, MOMENT) == open_to).all()
    assert rules.relaxed.total() == 1
    # a rule about time may well leave only silence
    rules = parse_constraints(["onsets 4 beats"], meaning_of(CHORALE))
    mask = replace_choices(rules).narrow(open_to, replace(MOMENT, in_bar=3))
    assert set(CHOICES.kind[mask].tolist()) == {REST, OTHER}
    assert not rules.relaxed


def replace_choices(rules: Constraints) -> Constraints:
    rules.meaning.choices = CHOICES
    return rules


@pytest.mark.parametrize(
    ("text", "moment", "refused"),
    [
        ("range 50-70", {}, {48, 49, 71, 72}),
        ("range D3 to A#4", {}, {48, 49, 71, 72}),
        ("range alto 50-70", {}, {48, 49, 71, 72}),
        ("range bass 50-70", {}, set()),
        ("key Bb", {}, {n for n in range(48, 73) if n % 12 in (1, 4, 6, 8, 11)}),
        ("key a minor", {}, {n for n in range(48, 73) if n % 12 in (1, 3, 10)}),
        ("scale a minor", {}, {n for n in range(48, 73) if n % 12 in (1, 3, 6, 8, 10)}),
        ("chord-tones", {}, {n for n in range(48, 73) if n % 12 not in (0, 4, 7)}),
        ("chord-tones strong", {"strong": False}, set()),
        ("chord-tones beats", {"strong": False, "in_bar": 4}, {n for n in range(48, 73) if n % 12 not in (0, 4, 7)}),
        ("chord-tones beats", {"in_bar": 5}, set()),
        ("chord-tones always", {"chord": None}, set()),
        ("chord-scale", {}, {n for n in range(48, 73) if n % 12 in (1, 3, 6, 8, 10)}),
        ("no-crossing", {}, set(range(68, 73))),
        ("no-crossing", {"sounding": (58, 60, None, 48)}, {"hold", *range(59, 73)}),
        ("no-crossing", {"sounding": (None, 60, None, 48)}, set()),
        ("no-crossing", {"voice": 0}, set()),
        # the alto stood on C4 under G4, a fifth; the soprano went up to A4: the fifth below it, reached upwards
        ("no-parallels", {"sounding": (69, 60, None, 48), "before": (67, 60, None, 48)}, {62}),
        ("no-parallels", {"sounding": (65, 60, None, 48), "before": (67, 60, None, 48)}, {58}),
        ("no-parallels", {"sounding": (74, 60, None, 48), "before": (72, 60, None, 48)}, {62}),  # octaves
        ("no-parallels", {"sounding": (67, 60, None, 48), "before": (67, 60, None, 48)}, set()),  # nobody moved
        ("no-parallels", {"sounding": (69, 60, None, 48), "before": (68, 60, None, 48)}, set()),  # no fifth before
        ("no-parallels", {"sounding": (69, None, None, 48), "before": (67, None, None, 48)}, set()),
        ("within-bars", {}, {"hold"}),
        ("within-bars", {"in_bar": 12, "pending": 60}, {f"{n} steps" for n in range(5, 9)}),
        ("within-bars", {"in_bar": 12}, set()),  # a rest may
        ("onsets 1 beat", {"in_bar": 4}, set()),
        ("onsets 1/2 beat", {"in_bar": 3}, set(range(48, 73))),
        ("longest 1 beat", {}, {"hold"}),
        ("longest 1.5 beats", {"pending": 60}, {"7 steps", "8 steps"}),
        ("longest 1/2 beat", {"held": 1}, set()),
        ("repeats 3", {}, {60}),
        ("repeats 3", {"history": (60, 60)}, set()),
        ("repeats 2", {"history": (62, 60, 62)}, set()),
    ],
)  # fmt: skip
def test_what_each_rule_refuses(text, moment, refused):
    everything = {"end", "hold", "rest", *range(48, 73), *(f"{n} steps" for n in range(1, 9))}
    assert everything - kept(text, replace(MOMENT, **moment)) == refused


def ending(**facts) -> Moment:
    """In the last beat of a piece that ends on D."""
    return replace(MOMENT, left=4, home=2, **facts)


@pytest.mark.parametrize(
    ("moment", "pitches"),
    [
        (ending(voice=0, sounding=(None, None, None, None)), {2, 5, 6, 9}),
        (ending(voice=1, sounding=(65, None, None, None)), {2, 5, 9}),  # minor it is
        (ending(voice=2, sounding=(69, 62, None, None)), {5, 6}),  # the last that can bring the third
        (ending(voice=2, sounding=(69, 66, None, None)), {2, 6, 9}),
        (ending(voice=3, sounding=(69, 66, 62, 50)), {2, "hold"}),
        (ending(voice=3, sounding=(69, 66, 62, 51)), {2}),
        (ending(voice=0, sounding=(62,)), {2, "hold"}),
        (replace(ending(voice=0), left=5), set(range(12)) | {"hold", "rest"}),
        (replace(ending(voice=0), home=None), set(range(12)) | {"hold", "rest"}),
    ],
)
def test_the_last_beat_is_home(moment, pitches):
    left = kept("tonic-ending", moment)
    assert {one % 12 if isinstance(one, int) else one for one in left if not str(one).endswith("steps")} == pitches | {
        "end"
    }


@pytest.mark.parametrize(("pending", "longest"), [(62, 8), (50, 8), (64, 4), (None, 4)])
def test_a_length_reaches_the_end_only_of_home(pending, longest):
    moment = replace(ending(), left=5, voice=0, sounding=(pending,), pending=pending)
    lengths = [one for one in kept("tonic-ending", moment) if str(one).endswith("steps")]
    assert len(lengths) == longest


def test_a_note_that_begins_in_the_last_beat_lasts_to_the_end():
    moment = replace(ending(), voice=0, sounding=(62,), pending=62)
    lengths = {one for one in kept("tonic-ending", moment) if str(one).endswith("steps")}
    assert lengths == {f"{n} steps" for n in range(4, 9)}, "the grammar excludes those beyond the end"


@pytest.mark.parametrize("example", [example for example, _ in RULES.values()])
def test_every_rule_reads_its_own_example(example):
    assert parse_constraint(example, VOICES).text == example
    assert parse_constraint(example.upper().replace("BEAT", "beat"), VOICES).text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rang 50-60", "did you mean 'range'"),
        ("", "unknown constraint"),
        ("x" * 500, "unknown constraint"),
        ("range 60", 'write it like "range C4-A5"'),
        ("range 70-60", "contains no note"),
        ("range 60-200", "contains no note"),
        ("range tenr 50-60", "did you mean 'tenor'"),
        ("key H major", "isn't a key"),
        ("key F majr", "Did you mean 'major'"),
        ("chord-tones weak", "write it like"),
        ("no-crossing please", "write it like"),
        ("longest 0 beats", "write it like"),
        ("longest 1/0 beat", "write it like"),
        ("longest", "write it like"),
        ("repeats 99", "write it like"),
    ],
)
def test_a_rule_that_cannot_be_read_says_the_way_out(text, told):
    with pytest.raises(UserError, match=told):
        parse_constraint(text, VOICES)


def test_all_wrong_rules_are_told_at_once():
    with pytest.raises(UserError, match=r"(?s)rang.*longst"):
        parse_constraints(["rang 50-60", "no-crossing", "longst 2"], meaning_of(CHORALE))
    with pytest.raises(UserError, match="at most 32"):
        parse_constraints(["no-crossing"] * 100, meaning_of(CHORALE))


@given(text=st.text(max_size=40) | st.text(alphabet="rangelostkyc 0123456789-/.b#", max_size=40))
def test_any_text_is_a_rule_or_a_user_error(text):
    with suppress(UserError):
        assert parse_constraint(text, VOICES).text == text


def test_a_limit_below_the_grid_still_lets_a_note_begin():
    mask = Longest(Fraction(1, 64)).allows(CHOICES, replace(MOMENT, pending=60))
    assert mask[CHOICES.kind == NOTE].all()
    assert mask[CHOICES.duration == 1].all()
