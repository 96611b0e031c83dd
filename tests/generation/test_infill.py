"""Parts of a piece written anew: what stays stays, and what is new is drawn given both sides."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encodings.characters import Characters
from components.encodings.chorale.encoding import Chorale
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.meaning import meaning_of
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.generation.constraint_texts import parse_constraints
from components.generation.constraints import Constrained
from components.generation.draft import Draft
from components.generation.infill import Particles, rewrite
from components.generation.region import Piece, read_regions
from components.generation.settings import Settings
from components.models.sequence_model import SequenceModel
from components.score import Chord, Note, Part, Score
from components.tasks.language_model import LanguageModel
from components.tasks.surprise import surprise

CHORALE = Chorale()
NAMES = ("soprano", "alto", "tenor", "bass")


class Letters(Characters):
    """Texts whose every character is a step of one voice."""

    voices, takes_turns = ("voice",), True

    def timeline(self, ids: np.ndarray) -> Letters:
        self.voice, self.start = np.zeros(len(ids), dtype=np.int64), np.arange(len(ids))
        self.stop = self.start + 1
        return self

    def choices(self, gap, free, ids, begun):
        return None if len(ids) - 1 == gap.last else np.ones(len(self.vocabulary), dtype=bool)


@pytest.fixture(scope="module")
def letters() -> tuple[SequenceModel, Letters, Piece]:
    encoding = Letters()
    encoding.fit(["abc"])
    torch.manual_seed(4)
    model = SequenceModel(len(encoding.vocabulary), kind="gru", hidden_size=8)
    with torch.no_grad():  # untrained, but sure of something
        for parameter in model.parameters():
            parameter.mul_(4.0)
    ids = encoding.encode("abcabca")
    free = np.array([False, True, True, False, True, False, False])
    return model.eval(), encoding, Piece(ids, encoding.timeline(ids), free)


def posterior(model: SequenceModel, encoding: Letters, piece: Piece) -> tuple[dict[str, float], float]:
    """Of every way to fill the gaps its probability given the rest, and the logarithm of the likelihood of the rest
    after the first gap: all by enumeration."""
    found = {}
    first = int(np.flatnonzero(piece.free)[0])
    for fill in itertools.product(encoding.encode("abc").tolist(), repeat=int(piece.free.sum())):
        ids = piece.ids.copy()
        ids[piece.free] = fill
        nats = surprise(model, encoding, np.array([BOS, *ids, EOS]))
        found[encoding.decode(ids)] = -float(nats[first:].sum())
    whole = float(np.logaddexp.reduce(list(found.values())))
    return {text: float(np.exp(one - whole)) for text, one in found.items()}, whole


def distance(drawn: Counter[str], exact: dict[str, float]) -> float:
    """Of two distributions: 0 the same, 1 nothing in common."""
    return sum(abs(drawn[text] / drawn.total() - p) for text, p in exact.items()) / 2


def test_many_particles_are_the_exact_posterior(letters) -> None:
    model, encoding, piece = letters
    exact, whole = posterior(model, encoding, piece)
    assert len(exact) == 27
    particles = Particles(model, encoding, piece, Settings(particles=2000), np.random.default_rng(0))
    particles.run(lambda done: None)
    weights, drawn = particles._weights(), Counter()
    for ids, weight in zip(particles.ids, weights, strict=True):
        drawn[encoding.decode(ids[ids > 0])] += weight
    assert distance(drawn, exact) < 0.05
    assert particles.evidence() == pytest.approx(whole, abs=0.05)


@pytest.mark.slow
def test_what_is_drawn_nears_the_posterior_with_the_number_of_particles(letters) -> None:
    model, encoding, piece = letters
    exact, _ = posterior(model, encoding, piece)
    far = []
    for particles in (1, 64):
        asked = Settings(particles=particles, count=64)
        made = [one for seed in range(2) for one in rewrite(model, Draft(encoding, (), asked, piece=piece, seed=seed))]
        far.append(distance(Counter(encoding.decode(one.ids) for one in made), exact))
    assert far[0] > 2 * far[1], far
    assert far[1] < 0.15


def chorale(seed: int, steps: int = 32, upbeat: int = 4) -> np.ndarray:
    """Ids of a chorale that nobody would sing, its notes and rests of any length."""
    rng = np.random.default_rng(seed)
    parts = []
    for voice, name in enumerate(NAMES):
        at, notes = int(rng.integers(0, 3)), []
        while at < steps:
            length = int(rng.integers(1, 7))
            if rng.random() < 0.85:
                notes.append(Note(at, min(length, steps - at), 72 - 7 * voice + int(rng.integers(-3, 4))))
            at += length
        parts.append(Part(name, tuple(notes)))
    return CHORALE.encode(Score(tuple(parts), upbeat_steps=upbeat, length_steps=steps))


def chorale_model() -> SequenceModel:
    torch.manual_seed(2)
    return SequenceModel(len(CHORALE.vocabulary), CHORALE.context_sizes, kind="gru", hidden_size=8)


MODEL = chorale_model()


def piece_of(text: str, encoding: Chorale | LeadSheet, ids: np.ndarray) -> Piece | None:
    """None where nothing begins and ends in the region."""
    try:
        return Piece.read(text, encoding, ids)
    except UserError as error:
        if "no note lies completely in" not in error.what:
            raise
        return None


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    first=st.integers(0, 7),
    length=st.integers(1, 4),
    voices=st.sets(st.sampled_from(NAMES)),
    rules=st.booleans(),
)
def test_whatever_the_region_all_other_notes_stay(seed, first, length, voices, rules) -> None:
    ids = chorale(seed)
    text = f"beats {first}-{min(7, first + length)}, {' '.join(sorted(voices))}".rstrip(" ,")
    before = CHORALE.decode(ids)
    ((region,)) = read_regions(text, before, NAMES)
    piece = piece_of(text, CHORALE, ids)
    if piece is None:
        return
    encoding = CHORALE
    if rules:
        encoding = Constrained(CHORALE, parse_constraints(["no-crossing", "no-parallels"], meaning_of(CHORALE)))
    (made,) = rewrite(MODEL, Draft(encoding, (), Settings(particles=4, count=1), piece=piece, seed=seed))
    assert (made.ids[~piece.free] == ids[~piece.free]).all()
    assert len(made.ids) == len(ids)
    after = CHORALE.decode(made.ids)
    for voice, (old, new) in enumerate(zip(before.parts, after.parts, strict=True)):
        mine = voice in region.voices

        def outside(note: Note, mine: bool = mine) -> bool:
            return not (mine and region.start <= note.start and note.start + note.duration <= region.stop)

        assert [n for n in old.notes if outside(n)] == [n for n in new.notes if outside(n)]
    assert (CHORALE.encode(after) == made.ids).all(), "it says what a score can say"


def sheet(seed: int, bars: int = 8) -> Score:
    rng = np.random.default_rng(seed)
    notes, chords, at = [], [], 0
    while at < bars * 48:
        length = int(rng.choice([3, 6, 12, 24, 60]))
        if rng.random() < 0.9:
            notes.append(Note(at, min(length, bars * 48 - at), 60 + int(rng.integers(0, 20))))
        at += length
    at = 0
    while at < bars * 48:
        length = int(rng.choice([24, 48, 96]))
        if rng.random() < 0.9:
            chords.append(Chord(at, min(length, bars * 48 - at), int(rng.integers(0, 12)), "maj"))
        at += length
    tune = (Part("Melody", tuple(notes), role="melody"),)
    return Score(tune, steps_per_beat=12, length_steps=bars * 48, chords=tuple(chords))


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    first=st.integers(1, 8),
    length=st.integers(0, 3),
    of=st.sampled_from(["melody", "chords", "melody chords"]),
    planned=st.booleans(),
)
def test_notes_and_chords_of_a_lead_sheet_are_rewritten_and_the_others_stay(seed, first, length, of, planned) -> None:
    torch.manual_seed(3)
    encoding = LeadSheet(planned=planned)
    task = LanguageModel(encoding, "sequences")
    model = task.build_model({"kind": "gru", "hidden_size": 8, "copy": planned})
    ids = encoding.encode(sheet(seed))
    before, last = encoding.decode(ids), min(8, first + length)
    piece = piece_of(f"bars {first}-{last}, {of}", encoding, ids)
    if piece is None:
        return
    (made,) = rewrite(model, Draft(task.read, (), Settings(particles=3, count=1), piece=piece, seed=seed))
    after = encoding.decode(made.ids)
    start, stop = (first - 1) * 48, last * 48
    assert after.length_steps == before.length_steps

    def outside(events, name: str):
        return [e for e in events if name not in of or e.start < start or e.start + e.duration > stop]

    assert outside(before.parts[0].notes, "melody") == outside(after.parts[0].notes, "melody")
    assert outside(before.chords, "chords") == outside(after.chords, "chords")
    locked, new = ids[~piece.free].tolist(), iter(made.ids.tolist())
    assert all(id in new for id in locked), "the tokens that stay are there in their order"


def test_a_piece_is_the_same_whatever_is_made_beside_it() -> None:
    piece = Piece.read("bar 1, alto bass", CHORALE, chorale(1))
    one = rewrite(MODEL, Draft(CHORALE, (), Settings(particles=8, count=1), piece=piece, seed=5))
    three = rewrite(MODEL, Draft(CHORALE, (), Settings(particles=8, count=3), piece=piece, seed=5))
    assert (one[0].ids == three[0].ids).all()
    assert one[0].nats_per_token == three[0].nats_per_token
    assert len({tuple(each.ids) for each in three}) == 3
    others = rewrite(MODEL, Draft(CHORALE, (), Settings(particles=8, count=1), piece=piece, seed=6))
    assert (one[0].ids != others[0].ids).any()
    cold = Settings(particles=8, temperature=0)
    coldest = [rewrite(MODEL, Draft(CHORALE, (), cold, piece=piece, seed=s))[0] for s in (1, 2)]
    assert all((each.ids[~piece.free] == piece.ids[~piece.free]).all() for each in coldest)


def test_a_region_is_read_and_what_there_is_is_said() -> None:
    score = CHORALE.decode(chorale(0))
    (one,) = read_regions("Bars 1 - 2, Alto and tenor", score, NAMES)
    assert (one.start, one.stop, one.voices) == (4, 32, (1, 2))
    upbeat, beat = read_regions("bar 0; beat 3, bass", score, NAMES)
    assert (upbeat.start, upbeat.stop, upbeat.voices) == (0, 4, (0, 1, 2, 3))
    assert (beat.start, beat.stop, beat.voices) == (12, 16, (3,))
    changing = Score((Part("x", (Note(0, 60, 60),)),), metre=(4, 4), metre_changes=((32, (3, 4)),), length_steps=60)
    assert [(r.start, r.stop) for r in read_regions("bars 2-3; bar 4", changing, ("x",))] == [(16, 44), (44, 56)]
    for text, what in (
        ("bars 1-9", "the piece has no bars 1-9"),
        ("bars 2-1", "the piece has no bars 2-1"),
        ("bar 1, alto tennor", "no voice 'tennor'; did you mean 'tenor'?"),
        ("alto", "can't understand"),
        ("", "can't understand"),
        ("bar 1;", "can't understand"),
        ("bar 1" + " " * 2000, "can't understand"),
    ):
        with pytest.raises(UserError) as refused:
            read_regions(text, score, NAMES)
        assert what in refused.value.what
        assert "bars 1-2 and beats 1-7, 0 for the upbeat; voices: soprano, alto, tenor, bass" in refused.value.hint
    held = CHORALE.encode(Score(tuple(Part(n, (Note(0, 32, 60),)) for n in NAMES), length_steps=32))
    with pytest.raises(UserError, match="alto: no note lies completely in 'bar 1, alto'"):
        Piece.read("bar 1, alto", CHORALE, held)


def test_who_cannot_rewrite_says_so() -> None:
    encoding = Characters()
    encoding.fit(["abc"])
    with pytest.raises(UserError, match="can't rewrite a part") as refused:
        Piece.read("bar 1", encoding, encoding.encode("abc"))
    assert "chorales or lead-sheets" in refused.value.hint
    task = LanguageModel(CHORALE, "sequences")
    with pytest.raises(UserError, match="needs a complete piece"):
        task.generate(MODEL, Settings(rewrite="bar 1"), seed=0)
    ids = tuple(chorale(1).tolist())
    made = task.generate(MODEL, Settings(given=ids, rewrite="bar 1", particles=2, count=2), seed=0)
    assert len(made.items) == 2
    assert task.rehearse(Settings(given=ids, rewrite="bar 1")) == []
