"""Events: scores in MidiTok's vocabularies, with and without merged tokens."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encodings.base import Encoding, encoding_from_state
from components.encodings.events import FIRST, Events
from components.encodings.merges import LONGEST, Merges
from components.encodings.midi_events import known_metre
from components.encodings.notes import settled
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.recipe import Recipe
from components.score import Note, Part, Score

pytestmark = pytest.mark.slow  # what reads them takes seconds to import

KINDS = ("remi", "tsd", "midi_like", "structured")
ENCODINGS = {kind: Events(tokenizer=kind, steps_per_beat=12) for kind in KINDS}
notes = st.lists(
    # no wait of more than 8 beats: structured rounds it
    st.builds(Note, st.integers(0, 90), st.integers(1, 96), st.integers(0, 127), st.integers(1, 127)),
    min_size=1,
    max_size=15,
)
drums = st.lists(st.builds(Note, st.integers(0, 90), st.integers(1, 12), st.integers(27, 88)), max_size=6)


def score(*parts: tuple[int, str, list[Note]], **facts) -> Score:
    made = tuple(Part("", tuple(sorted(part)), program, role) for program, role, part in parts)
    end = max(note.start + note.duration for part in made for note in part.notes)
    return Score(made, **{"steps_per_beat": 12, "length_steps": end, **facts})


def sounding(item: Score) -> dict[tuple[int, bool], list[tuple[int, int, int]]]:
    """Program and whether drums → start, duration and pitch of what is heard."""
    found: dict[tuple[int, bool], list[Note]] = {}
    for part in item.parts:
        found.setdefault((part.program, part.role == "drums"), []).extend(part.notes)
    return {key: [(n.start, n.duration, n.pitch) for n in settled(part)] for key, part in found.items() if part}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(piano=notes, more=notes, bass=notes, kit=drums)
@settings(max_examples=25)
def test_notes_on_the_grid_come_back_with_their_instruments(kind, piano, more, bass, kit) -> None:
    item = score((0, "", piano), (0, "melody", more), (33, "", bass), (0, "drums", kit))
    back = ENCODINGS[kind].decode(ENCODINGS[kind].encode(item))
    assert sounding(back) == sounding(item)
    assert back.length_steps == max(start + length for part in sounding(item).values() for start, length, _ in part)


@pytest.mark.parametrize("kind", KINDS)
def test_triplets_overlaps_upbeats_metres_and_tempo_come_back_where_the_vocabulary_has_them(kind) -> None:
    encoding = ENCODINGS[kind]
    melody = [Note(0, 12, 60), *(Note(12 + 4 * n, 4, 62 + n) for n in range(3)), Note(24, 36, 67), Note(30, 6, 72)]
    item = score((40, "", [*melody, Note(84, 9, 65)]), metre=(3, 4), tempo_bpm=141.6, metre_changes=((36, (6, 8)),))
    back = encoding.decode(encoding.encode(item))
    assert sounding(back) == sounding(item)
    if kind != "structured":
        assert (back.metre, back.metre_changes) == ((3, 4), ((36, (6, 8)),))
        assert abs(back.tempo_bpm - 141.6) < 3.5  # half the distance of two tempi
    upbeat = score((40, "", melody), upbeat_steps=12)
    begins = [note.start for note in encoding.decode(encoding.encode(upbeat)).parts[0].notes]
    assert begins == [note.start + 36 for note in sorted(melody)], "bar lines fall where they did"
    coarse = score((40, "", [Note(n, 1, 60 + n) for n in range(4)]), steps_per_beat=4)
    assert [n.start for n in encoding.decode(encoding.encode(coarse)).parts[0].notes] == [0, 3, 6, 9]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_lost_is_what_the_class_says(kind) -> None:
    encoding = ENCODINGS[kind]
    long = encoding.decode(encoding.encode(score((0, "", [Note(0, 100, 60), Note(0, 600, 64)]))))
    if kind != "midi_like":  # there an end is an event like any other
        assert [n.duration for n in long.parts[0].notes] == [96, 384]
    assert not encoding.decode(encoding.encode(Score((Part("a", ()),), length_steps=48))).parts
    quiet = Events(tokenizer=kind, velocities=0, programs=False)
    item = score((0, "", [Note(0, 12, 60, 30)]), (33, "", [Note(12, 12, 40, 90)]))
    back = quiet.decode(quiet.encode(item))
    assert sounding(back) == {(0, False): [(0, 12, 60), (12, 12, 40)]}
    assert {note.velocity for note in back.parts[0].notes} == {80}
    assert len(quiet.vocabulary) < len(encoding.vocabulary) - 100


def test_a_bar_shorter_than_a_step_is_no_division_by_zero() -> None:
    item = Score((Part("a", (Note(0, 96, 60),)),), steps_per_beat=96, metre=(1, 64), upbeat_steps=3, length_steps=96)
    assert len(Events(steps_per_beat=4).encode(item))


def test_metres_keep_the_length_of_their_bar_where_they_can() -> None:
    assert [known_metre(m) for m in ((2, 2), (3, 2), (6, 16), (4, 4), (7, 8))] == [
        (4, 4),
        (6, 4),
        (3, 8),
        (4, 4),
        (7, 8),
    ]
    assert known_metre((17, 4)) == (12, 4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(ids=st.lists(st.integers(0, 10**4), max_size=60))
@settings(max_examples=25)
def test_any_ids_are_some_score(kind, ids) -> None:
    encoding = ENCODINGS[kind]
    made = encoding.decode(np.array(ids, dtype=np.int64) % len(encoding.vocabulary))
    assert all(note.duration > 0 for part in made.parts for note in part.notes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(piano=notes, kit=drums, seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_what_is_written_down_is_allowed_and_what_is_allowed_can_be_read(kind, piano, kit, seed) -> None:
    encoding = ENCODINGS[kind]
    ids = np.array([BOS, *encoding.encode(score((0, "", piano), (0, "drums", kit))), EOS])
    for t in range(1, len(ids)):
        assert encoding.allowed(ids[:t])[ids[t]], encoding.vocabulary.token(ids[t])
    assert np.flatnonzero(encoding.allowed(ids)).tolist() == [EOS]
    rng, walk = np.random.default_rng(seed), [BOS]
    for _ in range(50):
        mask = encoding.allowed(np.array(walk))
        assert mask.any()
        assert not mask[:EOS].any()
        walk.append(int(rng.choice(np.flatnonzero(mask))))
    encoding.decode(np.array(walk))


def pieces() -> list[Score]:
    rng = np.random.default_rng(0)
    riff = [Note(6 * n, 6, int(p), 80) for n, p in enumerate(rng.integers(50, 70, 8))]
    return [
        score((0, "", [Note(n.start + 48 * k, n.duration, n.pitch + s) for n in riff for k in range(4)]))
        for s in (0, 2, 5, 7)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_merged_tokens_are_fewer_and_say_the_same(kind) -> None:
    plain = ENCODINGS[kind]
    encoding = Events(tokenizer=kind, bpe=len(plain.vocabulary) + 40)
    encoding.fit(pieces())
    assert len(plain.vocabulary) < len(encoding.vocabulary) <= encoding.bpe
    assert encoding.vocabulary.tokens[: len(plain.vocabulary)] == plain.vocabulary.tokens
    again = encoding_from_state(json.loads(json.dumps(encoding.state())))
    for item in [*pieces(), score((7, "", [Note(3, 5, 99)]))]:
        ids = encoding.encode(item)
        assert (again.encode(item) == ids).all()
        assert encoding.decode(ids) == plain.decode(plain.encode(item))
        assert encoding.counts(ids) == plain.counts(plain.encode(item)) == {"note": len(item.parts[0].notes)}
        row = [BOS, *ids, EOS]
        assert all(encoding.allowed(np.array(row[:t]))[row[t]] for t in range(1, len(row)))
    first = pieces()[0]
    assert len(encoding.encode(first)) < 0.7 * len(plain.encode(first))
    twin = Events(tokenizer=kind, bpe=encoding.bpe)
    twin.fit(pieces())
    assert twin.state() == encoding.state(), "the same pieces teach the same merges"


@given(ids=st.lists(st.integers(0, 4), max_size=60), cut=st.integers(0, 60))
def test_merges_are_undone_exactly_whatever_the_ids(ids, cut) -> None:
    merges = Merges(5, [(0, 1), (5, 5), (2, 2), (6, 0), (7, 7)])
    chunks = np.split(np.array(ids, dtype=np.int64), [min(cut, len(ids))])
    tokens = merges.apply(chunks)
    assert merges.expand(tokens).tolist() == ids
    assert len(tokens) <= len(ids)


@pytest.mark.slow
def test_stored_merges_are_bounded_and_checked() -> None:
    encoding = Events(bpe=700)
    encoding.fit(pieces())
    state = json.loads(json.dumps(encoding.state()))
    base = len(ENCODINGS["remi"].vocabulary) - FIRST
    doubling = [[1, 1], *([base + n, base + n] for n in range(60))]  # 2⁶¹ ids in one token
    began = time.monotonic()
    for merges in (doubling, [[1, 10**9]], [[1, -1]], [[1]], [["a", "b"]], "x", [[1, 1]] * 4000, [[1, 1]], []):
        with pytest.raises(UserError):
            encoding_from_state({**state, "learned": {"merges": merges}})
    assert time.monotonic() - began < 20
    with pytest.raises(UserError, match="isn't the one that this version"):
        encoding_from_state({**state, "vocabulary": state["vocabulary"][:-1]})
    assert max(len(expansion) for expansion in encoding._merges.expansions) <= LONGEST


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(piano=notes, kit=drums, seed=st.integers(0, 99))
@settings(max_examples=15)
def test_a_transposed_piece_moves_all_but_the_drums(kind, piano, kit, seed) -> None:
    encoding = Events(tokenizer=kind, transpose=(-5, 6)) if kind == "remi" else ENCODINGS[kind]
    encoding.transpose = (-5, 6)
    item = score((0, "", piano), (0, "drums", kit))
    ids = encoding.encode(item)
    moved = sounding(encoding.decode(encoding.augment(ids, np.random.default_rng(seed))))
    before = sounding(item)
    assert moved.get((0, True)) == before.get((0, True))
    shifts = {a[2] - b[2] for a, b in zip(moved[0, False], before[0, False], strict=True)}
    assert len(shifts) == 1
    assert -5 <= shifts.pop() <= 6


def test_a_metre_can_be_asked_for() -> None:
    encoding = ENCODINGS["remi"]
    ids, _ = encoding.prompt("3/4")
    assert encoding.decode([*ids, *encoding.encode(score((0, "", [Note(0, 6, 60)])))[2:]]).metre == (3, 4)
    assert len(encoding.prompt("")[0]) == 0
    for kind, text in (("remi", "polka"), ("structured", "3/4")):
        with pytest.raises(UserError, match="isn't a valid prompt"):
            ENCODINGS[kind].prompt(text)


def test_settings_out_of_range_or_that_do_not_go_together_are_refused() -> None:
    state = ENCODINGS["remi"].state()
    for name, value in (("steps_per_beat", 10**9), ("velocities", -1), ("bpe", 10**9), ("tokenizer", "remy")):
        with pytest.raises(UserError, match=name):
            encoding_from_state({**state, "options": {**state["options"], name: value}})
    with pytest.raises(UserError, match="100 tokens is too small"):
        Events(bpe=100)
    with pytest.raises(UserError, match="can't be used together"):
        Events(bpe=900, transpose=(-5, 6))


@pytest.mark.slow
def test_a_language_model_reads_and_writes_events(tmp_path, silent) -> None:
    from music_files import TUNE, midi

    from components.datasets.ingest import ingest
    from components.datasets.store import Store
    from components.generation.settings import Settings
    from components.training.session import Session

    for n in range(5):
        midi(tmp_path / "m" / f"{n}.mid", ("a", 40, [(s, d, p + n * (s < 1)) for s, d, p in TUNE]))
    recipe = Recipe.from_dict(
        "tiny-events",
        {
            "data": {"path": str(tmp_path / "m"), "reader": "music", "split": [0.6, 0.2, 0.2]},
            "encoding": {"kind": "events", "steps_per_beat": 4, "bpe": 600},
            "task": {"kind": "language_model"},
            "model": {"kind": "gru", "hidden_size": 48},
            "training": {"steps": 120, "batch_size": 3, "learning_rate": 2e-2, "warmup_steps": 0},
            "evaluation": {"every": 120},
        },
    )
    ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0)
    session = Session(recipe, Store.open(ref.path), "cpu", 1)
    session.train(tmp_path / "run", silent)
    measured = session.evaluate("train")
    assert measured["nats_per_event"] < 0.5
    assert measured["nats_per_note"] == pytest.approx(
        measured["nats_per_event"] * _tokens(session) / (3 * len(TUNE)), rel=1e-6
    )
    made = session.task.generate(session.model, Settings(count=1, temperature=0.0, max_length=300), seed=0)
    assert made.sampled[0].ended
    (part,) = made.items[0].parts
    assert part.program == 40
    assert [note.pitch for note in part.notes][1:] == [pitch for _, _, pitch in TUNE][1:]


def _tokens(session) -> int:
    train = session.store.split("train")
    return train.total_tokens - len(train)  # BOS isn't predicted


def test_every_encoding_of_scores_says_what_a_token_is() -> None:
    labels = {
        ENCODINGS["remi"].label(ENCODINGS["remi"].vocabulary.id(t)) for t in ("Pitch_60", "Bar_None", "Position_3")
    }
    assert labels == {"C4", "Bar", "3"}
    assert isinstance(ENCODINGS["tsd"], Encoding)
