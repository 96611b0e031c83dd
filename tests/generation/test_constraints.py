"""Rules about notes hold in what is sampled, never empty the choice, and give way in the order that they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.characters import Characters
from components.encodings.chorale.encoding import LOWEST, METRES, Chorale
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.meaning import (
    HOLD,
    NOTE,
    OTHER,
    REST,
    Moment,
    chord_at,
    meaning_of,
)
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.evaluation.music_structure import structure
from components.generation.constraint_texts import parse_constraints
from components.generation.constraints import Constrained, Constraints
from components.generation.draft import Draft
from components.generation.sampling import sample
from components.generation.settings import Settings
from components.harmony import chord_tones, parse_key
from components.progressions import parse_progression
from components.score import Chord, Note, Part, Score
from components.tasks.language_model import LanguageModel

CHORALE = Chorale()


def write(texts: list[str], seed: int, frames: int = 48, chords: tuple[Chord, ...] = ()) -> tuple[Score, Constraints]:
    """A chorale of random tokens that the grammar and the rules allow; metre 4/4, no upbeat."""
    rules = parse_constraints(texts, meaning_of(CHORALE, chords))
    rng = np.random.default_rng(seed)
    ids = np.concatenate([[BOS], CHORALE.prompt("4/4 upbeat 0")[0], np.zeros(4 * frames, dtype=np.int64)])
    for t in range(3, len(ids)):
        mask = rules.mask(CHORALE.allowed(ids[:t]), ids[:t])
        mask[EOS] = False
        # as a model would: notes near those of a choir, many of them held
        weights = mask * np.where(np.arange(len(mask)) == CHORALE.signs.hold, 30.0, 1.0)
        ids[t] = rng.choice(len(mask), p=weights / weights.sum())
    return CHORALE.decode(ids), rules


def sounding(score: Score) -> np.ndarray:
    """int64 [frames, voices], −1 for silence."""
    grid = np.full((score.length_steps, len(score.parts)), -1)
    for voice, part in enumerate(score.parts):
        for note in part.notes:
            grid[note.start : note.start + note.duration, voice] = note.pitch
    return grid


def crossings(score: Score) -> int:
    grid = sounding(score)
    return sum(a < b for row in grid for i, a in enumerate(row) for b in row[i + 1 :] if a >= 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_voices_never_cross_where_they_are_told_not_to(seed):
    score, rules = write(["no-crossing"], seed)
    assert crossings(score) == 0
    assert rules.relaxed.total() == 0
    assert rules.moments == 4 * 48
    assert crossings(write([], seed)[0]) > 50, "without the rule they do"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_rules_together_hold_in_the_score(seed):
    chords = parse_progression("Dm7 G7 | Cmaj7 | F6 E7", steps_per_beat=4)
    texts = [
        "range bass C2-C4", "range soprano 60-81", "key C major", "chord-tones strong", "longest 2 beats", "repeats 2",
        "onsets 1/2 beat", "within-bars",
    ]  # fmt: skip
    score, rules = write(texts, seed, chords=chords)
    assert not rules.relaxed
    assert all(36 <= note.pitch <= 60 for note in score.parts[3].notes)
    assert all(60 <= note.pitch <= 81 for note in score.parts[0].notes)
    strong = 0
    for part in score.parts:
        for note in part.notes:
            assert note.pitch % 12 in parse_key("C").pitch_classes
            assert note.duration <= 8
            assert note.start % 2 == 0
            assert note.start // 16 == (note.start + note.duration - 1) // 16
            if note.start % 8 == 0:
                strong += 1
                assert note.pitch % 12 in chord_tones(chord_at(chords, note.start))
        pitches = [note.pitch for note in part.notes]
        assert not [1 for a, b, c in zip(pitches, pitches[1:], pitches[2:], strict=False) if a == b == c]
    assert strong > 10


ANY_RULES = st.lists(
    st.sampled_from(
        [
            "range 60-60", "range 127-127", "range alto 24-30", "key C", "scale F# blues", "chord-tones always",
            "no-crossing", "within-bars", "onsets 4 beats", "longest 1/4 beat", "repeats 1",
        ]
    ),
    max_size=8,
)  # fmt: skip


@pytest.mark.slow
@given(texts=ANY_RULES, seed=st.integers(0, 99), length=st.integers(0, 60))
def test_whatever_is_asked_something_is_left_and_the_grammar_holds(texts, seed, length):
    rules = parse_constraints(texts, meaning_of(CHORALE, (Chord(0, 64, 1, "5"),)))
    rng = np.random.default_rng(seed)
    ids = np.array([BOS])
    for _ in range(length):
        grammar = CHORALE.allowed(ids)
        mask = rules.mask(grammar.copy(), ids)
        assert mask.any()
        assert not (mask & ~grammar).any()
        ids = np.append(ids, rng.choice(np.flatnonzero(mask)))
    assert rules.relaxed.total() <= rules.moments * len(texts)


@pytest.mark.parametrize("encoding", [Chorale(planned=True), LeadSheet(planned=True)], ids=lambda one: one.kind)
@pytest.mark.parametrize("seed", range(3))
def test_a_planned_piece_ends_at_home(encoding, seed):
    rules = parse_constraints(["tonic-ending"], meaning_of(encoding))
    rng = np.random.default_rng(seed)
    ids = [BOS]
    while ids[-1] != EOS:
        allowed = encoding.allowed(np.array(ids))
        names = encoding.vocabulary.tokens
        short = np.array([not name.startswith("bars") or name in ("bars 1", "bars 2") for name in names])
        mask = rules.mask(allowed & short if (allowed & short).any() else allowed, np.array(ids))
        ids.append(int(rng.choice(np.flatnonzero(mask))))
    score = encoding.decode(np.array(ids))
    assert not rules.relaxed
    if encoding.kind == "chorale":
        home = encoding.signs.planned_home(np.array(ids))
    else:  # of a form whose last bar has no chord nothing is home
        home = next((chord.root for chord in score.chords if chord.start + chord.duration == score.length_steps), None)
    if home is not None:
        last = [part.notes[-1] for part in score.parts]
        assert last[-1].pitch % 12 == home
        assert all(note.start + note.duration == score.length_steps for note in last)
    assert structure([score]).get("ends_on_triad", 1) == 1


@pytest.mark.parametrize(("left", "held"), [(18, False), (12, True), (6, True)])
def test_the_last_beat_of_a_bar_that_an_upbeat_shortens_is_that_of_the_metre(left, held):
    meaning = meaning_of(LeadSheet())
    short = Moment(step=0, in_bar=30 - left, bar_steps=36, beat_steps=18, strong=False, left=left, home=0, pending=60)
    rule = parse_constraints(["tonic-ending"], meaning).constraints[0]
    signs = LeadSheet().signs
    lengths = rule.allows(meaning.choices, short)[signs.length0 : signs.length0 + left]
    assert lengths.tolist() == [not held] * (left - 1) + [True], "of five eighths the last two are the last beat"


def test_constraints_on_text_are_refused():
    with pytest.raises(UserError, match="need an encoding of notes"):
        meaning_of(Characters())


def test_an_encoding_brings_its_own_meaning():
    class Own(Characters):
        def meaning(self, chords):
            return chords

    assert meaning_of(Own(), (Chord(0, 1, 0, "maj"),)) == (Chord(0, 1, 0, "maj"),)


@pytest.mark.slow
@given(metre=st.sampled_from(METRES), seed=st.integers(0, 50), upbeat=st.integers(0, 11))
def test_the_moment_says_where_a_chorale_stands(metre, seed, upbeat):
    """Against the score that the ids so far decode to."""
    rng = np.random.default_rng(seed)
    ids = np.concatenate([[BOS], CHORALE.prompt(f"{metre[0]}/{metre[1]} upbeat {upbeat}")[0]])
    meaning = CHORALE.meaning((Chord(4, 4, 7, "7"),))
    assert meaning.moment(ids[:1]) is meaning.moment(ids[:2]) is None
    for place in range(40):
        step, voice = divmod(place, 4)
        moment = meaning.moment(ids)
        assert (moment.step, moment.voice) == (step, voice)
        assert moment.in_bar == (step - upbeat) % Score((), 4, metre).bar_steps
        assert (moment.chord is not None) == (4 <= step < 8)
        assert moment.strong == (moment.in_bar == 0 or (metre == (4, 4) and moment.in_bar == 8))
        # the step is completed by what each voice would go on with, so that it decodes
        filled = np.append(ids, [CHORALE.signs.hold if step else CHORALE.signs.rest] * (4 - voice))
        score = CHORALE.decode(filled)
        grid = sounding(score)
        for other in range(4):
            row = step if other < voice else step - 1
            before = int(grid[row, other]) if row >= 0 else -1
            assert (moment.sounding[other] if moment.sounding[other] is not None else -1) == before
        own = [note for note in score.parts[voice].notes if note.start < step]
        assert moment.history == tuple(note.pitch for note in own)[-16:]
        goes_on = moment.sounding[voice] is not None
        assert moment.held == (step - own[-1].start if goes_on else 0)
        ids = np.append(
            ids, rng.choice(np.flatnonzero(CHORALE.allowed(ids) & (np.arange(len(CHORALE.vocabulary)) != EOS)))
        )


@pytest.mark.slow
def test_a_model_samples_under_rules_and_says_what_gave_way():
    torch.manual_seed(0)
    model = LanguageModel(CHORALE, "sequences").build_model({"kind": "gru", "hidden_size": 8, "num_layers": 1})
    rules = parse_constraints(["no-crossing", "range 48-72", "range soprano 100-110"], meaning_of(CHORALE))
    prompt = CHORALE.prompt("4/4 upbeat 0")[0].tolist()
    settings = Settings(count=2, max_length=300)
    made = sample(model, Draft(Constrained(CHORALE, rules), prompt, settings, seed=1, framed=True))
    for one in made:
        score = CHORALE.decode(one.ids)
        assert crossings(score) == 0
        assert {48 <= note.pitch <= 72 for part in score.parts for note in part.notes} == {True}
    assert set(rules.relaxed) == {"range soprano 100-110"}
    assert rules.report() == [
        f"the constraint 'range soprano 100-110' couldn't be met for {rules.relaxed.total()} of {rules.moments} tokens"
    ]


def test_choices_of_a_chorale_name_their_pitches():
    choices = CHORALE.meaning().choices
    assert choices.pitch[CHORALE.signs.pitch0] == LOWEST
    assert choices.kind[CHORALE.signs.pitch0] == NOTE
    assert choices.kind[CHORALE.signs.hold] == HOLD
    assert choices.kind[CHORALE.signs.rest] == REST
    assert choices.kind[EOS] == OTHER
    assert (choices.kind == NOTE).sum() == 73 == (choices.pitch >= 0).sum()


def test_the_score_of_a_part_is_what_it_was():
    # `sounding` above is what the other tests rest on
    score = Score((Part("a", (Note(1, 2, 60),)),), length_steps=4)
    assert sounding(score).ravel().tolist() == [-1, 60, 60, -1]
