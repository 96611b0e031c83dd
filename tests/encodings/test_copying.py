"""Copying: what stood so many bars ago is found from the past alone, and the mixture's likelihood is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.bundle import load_bundle, save_bundle
from components.datasets.batches.truncated import Batch
from components.encodings.chorale.encoding import Chorale
from components.encodings.copying import Copying
from components.encodings.form import Form
from components.encodings.lead_sheet.copies import HARMONIES
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.vocabulary import BOS, EOS, PAD
from components.errors import UserError
from components.generation.draft import Draft
from components.generation.engine import obstacle, refused
from components.generation.sampling import sample, sample_plainly
from components.generation.settings import Settings
from components.progressions import parse_progression
from components.recipe import read_recipe
from components.score import Note, Part, Score
from components.tasks.music import Music, MusicSettings
from components.tasks.surprise import surprise

ENCODING = LeadSheet(steps_per_beat=4)
SIGNS, LAGS = ENCODING.signs, ENCODING.copy_lags
H, V, L = 6, 30, 3
RECIPES = Path(__file__).parents[2] / "flows" / "recipes"


def tune(*bars: str, upbeat: str = "", metre: tuple[int, int] = (4, 4)) -> Score:
    """A lead sheet of such bars as "60:4 62:12": pitch (0: a rest) and steps."""
    notes, at = [], 0
    for bar in (upbeat, *bars):
        for one in bar.split():
            pitch, steps = map(int, one.split(":"))
            notes += [Note(at, steps, pitch)] if pitch else []
            at += steps
    return Score(
        (Part("Melody", tuple(notes), role="melody"),),
        steps_per_beat=4,
        metre=metre,
        upbeat_steps=sum(int(one.split(":")[1]) for one in upbeat.split()),
        length_steps=at,
        chords=tuple(parse_progression("C | G7 | C", metre, 4)),
    )


def framed(score: Score) -> np.ndarray:
    return np.array([BOS, *ENCODING.encode(score), EOS])


def obvious_copies(ids: np.ndarray, lag: int) -> tuple[list[int], list[int]]:
    """What `copies` says of one lag, one token after the other, by a table of what began when."""
    candidates, matches = [], []
    began: dict[tuple[bool, int], tuple[int, int]] = {}  # (in the melody, step) → the note and its length
    run, candidate = 0, PAD
    for t in range(len(ids)):
        places = SIGNS.places(ids[: t + 1])
        inside, now, pending = bool(places.inside[-1]), int(places.time[-1]), bool(places.head[-1])
        id = int(ids[t])
        run = 0 if candidate == PAD or candidate != id else run + pending
        if pending and id != SIGNS.upbeat:
            began.setdefault((inside, now), (id, PAD))
        elif SIGNS.length(id) and t and places.head[-2] and ids[t - 1] != SIGNS.upbeat:
            before = (inside, now - SIGNS.length(id))
            if began.get(before, (0, 1))[1] == PAD and began[before][0] == ids[t - 1]:
                began[before] = (int(ids[t - 1]), id)
        form = ENCODING._form(ids[: places.begin])[0] if inside else SIGNS.read_form(ids[: t + 1].tolist())
        metre = form.metre
        if inside:
            metre = max([(0, form.metre), *((s, m) for s, m in form.changes if s <= now)])[1]
        bar = Score((), 4, metre).bar_steps
        there = began.get((inside, now - lag * bar), (PAD, PAD)) if now >= lag * bar else (PAD, PAD)
        candidate = there[1 if pending else 0]
        candidates.append(candidate)
        matches.append(
            HARMONIES * (run if run < 5 else 5 if run < 8 else 6) + (obvious_harmony(form, now, lag) if inside else 0)
        )
    return candidates, matches


def obvious_harmony(form: Form, now: int, lag: int) -> int:
    """How long the chords from a step on are those of `lag` bars before, as a class."""
    codes = [span[2:] for span in form.spans() for _ in range(span[0], span[1])]
    bar = Score((), 4, max([(0, form.metre), *((s, m) for s, m in form.changes if s <= now)])[1]).bar_steps
    if now < lag * bar:
        return 0
    ahead = 0
    while now + ahead < form.length and codes[now + ahead] == codes[now + ahead - lag * bar]:
        ahead += 1
    if now + ahead == form.length:
        return 3
    return 3 if ahead >= 4 * bar else 2 if ahead >= bar else 1 if ahead else 0


BARS = st.sampled_from(["60:4 62:4 64:8", "67:16", "65:6 64:2 0:8", "60:4 62:4 65:8", "0:16"])


@settings(max_examples=12, deadline=None)
@given(bars=st.lists(BARS, min_size=1, max_size=18), upbeat=st.sampled_from(["", "59:4", "0:2 59:2"]))
def test_what_stood_there_is_what_a_table_of_the_past_says(bars, upbeat) -> None:
    ids = framed(tune(*bars, upbeat=upbeat))
    candidates_TL, matches_TL = ENCODING.copies(ids)
    for column, lag in enumerate(LAGS):
        assert (candidates_TL[:, column].tolist(), matches_TL[:, column].tolist()) == obvious_copies(ids, lag)


@settings(max_examples=40, deadline=None)
@given(
    bars=st.lists(BARS, min_size=2, max_size=12),
    broken=st.lists(st.tuples(st.integers(1, 40), st.integers(0, len(SIGNS) - 1)), max_size=6),
    cut=st.integers(1, 60),
)
def test_it_is_the_same_while_sampling_and_never_looks_ahead(bars, broken, cut) -> None:
    ids = framed(tune(*bars))
    for at, id in broken:  # the grammar needn't hold
        ids[at % len(ids)] = id
    cut = min(cut, len(ids))
    for whole, so_far in zip(ENCODING.copies(ids), ENCODING.copies(ids[:cut]), strict=True):
        assert whole.shape == (len(ids), len(LAGS))
        assert (whole[:cut] == so_far).all()
    candidates_TL, matches_TL = ENCODING.copies(ids)
    assert ((candidates_TL >= 0) & (candidates_TL < len(SIGNS))).all()
    assert ((matches_TL >= 0) & (matches_TL < ENCODING.copy_classes)).all()


def test_a_repeated_bar_is_foretold_token_by_token_and_the_match_grows() -> None:
    ids = framed(tune("60:4 62:4 64:8", "67:16", "60:4 62:4 65:8"))
    candidates_TL, classes_TL = ENCODING.copies(ids)
    matches_TL = classes_TL // HARMONIES
    third = len(ids) - 1 - 6  # the third bar's first token
    two = LAGS.index(2)
    assert candidates_TL[third - 1 : third + 3, two].tolist() == ids[third : third + 4].tolist()
    assert matches_TL[third - 1 : third + 4, two].tolist() == [0, 1, 1, 2, 2]
    assert matches_TL[third + 4, two] == 0, "65 isn't 64: the match ends with the pitch"
    assert (candidates_TL[:, LAGS.index(4)] == PAD).all()
    one = LAGS.index(1)
    assert (candidates_TL[third - 1, one], candidates_TL[third + 1, one]) == (SIGNS.pitch0 + 67 - 21, PAD)


def test_chords_of_the_form_come_back_too_and_a_bar_is_one_of_the_metre_that_holds() -> None:
    score = tune(*["60:12"] * 8, metre=(3, 4))
    chords = tuple(parse_progression("C | G7 | Am | F | C | G7 | Am | F", (3, 4), 4))
    ids = framed(replace(score, chords=chords))
    candidates_TL, _ = ENCODING.copies(ids)
    fifth = int(np.flatnonzero(ids >= SIGNS.no_chord)[8])  # two tokens a chord
    four = candidates_TL[:, LAGS.index(4)]
    assert four[fifth - 1 : fifth + 7].tolist() == ids[fifth : fifth + 8].tolist()


def test_transposing_a_piece_transposes_what_could_be_copied() -> None:
    ids = framed(tune("60:4 62:4 64:8", "60:4 62:4 64:8", "67:16"))
    moved = SIGNS.transposed(ids, 3)
    (candidates, matches), (after, same) = ENCODING.copies(ids), ENCODING.copies(moved)
    assert (after == SIGNS.transposed(candidates, 3)).all()
    assert (matches == same).all()
    assert matches.any()


def test_a_chorale_s_line_that_comes_back_is_foretold_in_every_voice() -> None:
    encoding = Chorale(steps_per_beat=2)
    rng = np.random.default_rng(0)
    line = rng.integers(60, 66, (16, 4))  # four bars of quarters
    parts = tuple(
        Part(name, tuple(Note(2 * at, 2, int(pitch)) for at, pitch in enumerate([*voice, *voice, 60])))
        for name, voice in zip("SATB", line.T, strict=True)
    )
    ids = np.array([BOS, *encoding.encode(Score(parts, steps_per_beat=2, length_steps=66)), EOS])
    candidates_TL, matches_TL = encoding.copies(ids)
    assert encoding.copy_lags[0] == 16
    once, again = slice(0, 2 + 128), slice(2 + 128, 2 + 256)
    assert (candidates_TL[once] == PAD).all()
    assert (candidates_TL[again, 0] == ids[3 + 128 : 3 + 256]).all()
    assert matches_TL[2 + 128 + 3, 0] == 3, "three voices have begun a note"
    assert matches_TL[2 + 128 + 7, 0] == 4, "what is held counts once"
    assert matches_TL[2 + 128 + 9, 0] == 5
    for cut in (1, 3, 100, 200):
        assert all(
            (whole[:cut] == part).all()
            for whole, part in zip(encoding.copies(ids), encoding.copies(ids[:cut]), strict=True)
        )


def small(**options) -> tuple[Music, torch.nn.Module]:
    torch.manual_seed(0)
    task = Music(ENCODING, "sequences")
    model = task.build_model({"kind": "lstm", "hidden_size": 12, "copy": True} | options)
    return task, model.eval()


@pytest.mark.parametrize("options", [{}, {"input": "one_hot"}, {"tie_weights": True, "num_layers": 2}])
def test_training_measuring_and_sampling_use_one_likelihood(options) -> None:
    task, model = small(**options)
    ids = framed(tune(*["60:4 62:4 64:8", "67:16"] * 3))
    inputs = np.concatenate([ids[:, None], task.read.context(ids)], axis=1)[None, :-1]
    batch = Batch(inputs, ids[None, 1:], fresh=True)
    with torch.no_grad():
        loss, _ = task.loss(model, batch, None)
    measured, _ = task.measure(model, batch, None)
    nats = surprise(model, task.read, ids)
    assert loss.value == pytest.approx(nats.mean(), rel=1e-5)
    assert measured["nats_per_token"].value == pytest.approx(nats.mean(), rel=1e-5)
    made = task.generate(model, MusicSettings(count=2, max_length=60, temperature=0.7), seed=1)
    for one in made.sampled:
        written = np.array([BOS, *one.ids, *([EOS] if one.ended else [])])
        assert one.nats_per_token == pytest.approx(surprise(model, task.read, written).mean(), rel=1e-4)


def test_whole_windows_and_single_steps_agree() -> None:
    task, model = small()
    ids = framed(tune(*["60:4 62:4 64:8"] * 3))
    inputs_BTS = torch.from_numpy(np.concatenate([ids[:, None], task.read.context(ids)], axis=1))[None]
    whole, _ = model(inputs_BTS)
    state = model.initial_state(1)
    for t in range(inputs_BTS.shape[1]):
        logits, state = model.step(inputs_BTS[:, t], state)
        torch.testing.assert_close(logits, whole[:, t], rtol=1e-4, atol=1e-5)


def test_open_gates_copy_and_constraints_act_on_the_mixture() -> None:
    task, model = small()
    with torch.no_grad():  # all for one bar ago, wherever something stood there
        model.head.gates.bias[1 + LAGS.index(1)] = 30.0
    start = [*ENCODING.encode(tune("60:4 62:4 64:8", "0:16", "0:16", "0:16"))]
    begin = start.index(SIGNS.begin)
    prompt = start[: begin + 7]  # the form and the first bar
    how = Settings(count=2, max_length=40, gate_temperature=0.5)
    for one in sample(model, Draft(task.read, prompt, how, seed=0, framed=True)):
        bars = [[(n.start % 16, n.duration, n.pitch) for n in bar] for bar in by_bar(ENCODING.decode(one.ids))]
        assert len(bars) == 4
        assert all(bar == bars[0] for bar in bars)
    held = MusicSettings(count=1, max_length=60, chords="C | C | C | C", constraints=("range 70-75",))
    made = task.generate(model, held, seed=0)
    pitches = {note.pitch for note in made.items[0].parts[0].notes}
    assert pitches
    assert pitches <= set(range(70, 76))
    likeliest = Settings(count=2, max_length=40, temperature=0.0)
    first, second = sample(model, Draft(task.read, prompt, likeliest, seed=0, framed=True))
    assert first.ids.tolist() == second.ids.tolist()


def by_bar(score: Score) -> list[list[Note]]:
    notes = score.parts[0].notes
    return [[n for n in notes if n.start // 16 == bar] for bar in range(score.length_steps // 16)]


def test_the_native_loop_leaves_it_to_the_plain_one_and_a_gpu_does_not_record_it() -> None:
    task, model = small()
    assert obstacle(model) is not None
    assert not task.capturable(model)
    assert refused({"kind": "lstm", "softmax": "full", "copy": True}, "int8") is not None
    draft = Draft(task.read, [], Settings(count=2, max_length=30), seed=3, framed=True)
    one, other = (made(model, draft) for made in (sample, sample_plainly))
    assert [a.ids.tolist() for a in one] == [b.ids.tolist() for b in other]


def test_what_says_nothing_that_could_be_copied_is_refused() -> None:
    from components.encodings.characters import Characters

    task = Music(Characters(), "sequences")
    task.encoding.fit(["abc"])
    with pytest.raises(UserError, match="the encoding doesn't support copying"):
        task.build_model({"kind": "lstm", "hidden_size": 4, "copy": True})
    with pytest.raises(UserError, match="softmax adaptive doesn't support copying"):
        small(softmax="adaptive")
    assert Copying(ENCODING).context_sizes[-len(LAGS) :] == (ENCODING.copy_classes,) * len(LAGS)


def test_a_stored_model_copies_as_it_did(tmp_path) -> None:
    recipe = read_recipe(RECIPES / "lead-sheets.yaml", ["model.hidden_size=8"])
    task = Music(LeadSheet(planned=True), "sequences")
    model = task.build_model(recipe.model)
    save_bundle(tmp_path / "b", "x", model, task.encoding, recipe.as_dict(), {"framing": "sequences"})
    bundle = load_bundle(tmp_path / "b")
    how = {"count": 1, "max_length": 80, "gate_temperature": 0.6, "band": "none", "bars": 2}
    made = bundle.generate(how, seed=4).sampled[0]
    settings = recipe.generation | how
    assert made.ids.tolist() == task.generate(model, MusicSettings(**settings), seed=4).sampled[0].ids.tolist()


def test_a_recipe_that_can_t_copy_says_so_before_anything_is_read() -> None:
    with pytest.raises(UserError, match=r"model.copy: not supported by the encoding characters .*chorale, lead_sheet"):
        read_recipe(RECIPES / "names.yaml", ["model.copy=true"])
    with pytest.raises(UserError, match="precision: int8 can't be used"):
        read_recipe(RECIPES / "lead-sheets.yaml", ["generation.precision=int8"])


@pytest.mark.slow
def test_a_model_that_copies_learns_tunes_that_repeat_sooner() -> None:
    """Bars of random notes, each four played twice: only copying can know the second time."""
    rng = np.random.default_rng(0)

    def piece() -> np.ndarray:
        four = [" ".join(f"{pitch}:4" for pitch in rng.integers(55, 80, 4)) for _ in range(4)]
        return framed(tune(*four, *four))

    reached = {}
    for copy in (False, True):
        task, model = small(copy=copy, hidden_size=24)
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(60):
            pieces = [piece() for _ in range(8)]
            inputs = [np.concatenate([ids[:, None], task.read.context(ids)], axis=1)[:-1] for ids in pieces]
            tally, _ = task.loss(model, Batch(np.stack(inputs), np.stack([i[1:] for i in pieces]), True), None)
            optimizer.zero_grad()
            (tally.total / tally.count).backward()
            optimizer.step()
        model.eval()
        ids = piece()
        nats = surprise(model, task.read, ids)[-33:-1]  # the second time, without the end
        reached[copy] = nats.mean()
    assert reached[True] < 0.3 < 1.0 < reached[False]
