"""A form that is asked for: sections with one letter come back, others don't, and files say which bar came from which
earlier one."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from components.bundle import Bundle, Generation, load_bundle, save_bundle
from components.encodings.chorale.encoding import Chorale
from components.encodings.copying import Copying, Formed
from components.encodings.form import Form, bar_numbers, bars_begun
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.sections import Sections
from components.encodings.vocabulary import BOS
from components.errors import UserError
from components.recipe import read_recipe
from components.render.record import read_record
from components.score import Note, Part, Score
from components.serving.requests import GenerateRequest
from components.tasks.language_model import LanguageModel
from components.tasks.music import Music, MusicSettings
from components.use.form import came_from, outside, spans_of, told
from components.use.opening import Opened
from components.use.writing import piece, write

RECIPES = Path(__file__).parents[2] / "flows" / "recipes"
LAGS = (1, 2, 4, 8, 16)
CHORDS = "C | F | G7 | Am | Dm | G7 | C | E7"


def writer(*, planned: bool = False) -> tuple[Music, torch.nn.Module]:
    torch.manual_seed(0)
    task = Music(LeadSheet(steps_per_beat=2, planned=planned), "sequences")
    model = task.build_model({"kind": "lstm", "hidden_size": 8, "copy": True}).eval()
    with torch.no_grad():  # by itself it hardly copies
        model.head.gates.bias[0] = 4.0
    return task, model


def bars_of(score: Score) -> list[set[tuple[int, int, int]]]:
    length = score.bar_steps
    found: list[set[tuple[int, int, int]]] = [set() for _ in range(score.length_steps // length)]
    for note in score.parts[0].notes:
        found[note.start // length].add((note.start % length, note.duration, note.pitch))
    return found


def agreement(score: Score, letters: str, *, alike: bool) -> float:
    """Of the bars at the same places of two sections, those that are the same: with one letter, or with two."""
    bars = bars_of(score)
    size, same = len(bars) // len(letters), []
    for first in range(len(letters)):
        for second in range(first + 1, len(letters)):
            if (letters[first] == letters[second]) == alike:
                same += [bars[first * size + n] == bars[second * size + n] for n in range(size)]
    return float(np.mean(same))


@pytest.mark.slow
@pytest.mark.parametrize("letters", ["AABA", "ABAC", "ABCA"])  # of the last, no lag of its own leads six bars back
def test_sections_with_one_letter_agree_and_others_do_not(letters: str) -> None:
    task, model = writer()
    how = {"count": 2, "max_length": 400, "chords": CHORDS, "form": letters}
    strong = task.generate(model, MusicSettings(**how, form_strength=12.0), seed=1)
    assert strong.sections == Sections(letters, 2)
    off = task.generate(model, MusicSettings(**how, form_strength=0.0), seed=1)
    plain = task.generate(model, MusicSettings(**how | {"form": ""}), seed=1)
    assert [one.ids.tolist() for one in off.sampled] == [one.ids.tolist() for one in plain.sampled], "0 is off"
    for one, other in zip(strong.items, off.items, strict=True):
        assert agreement(one, letters, alike=True) >= 0.9
        assert agreement(one, letters, alike=False) <= 0.2
        assert agreement(other, letters, alike=True) < 0.5, "nobody trained this model: it doesn't repeat by itself"


@pytest.mark.slow
def test_a_form_that_the_model_writes_has_its_chords_come_back_too() -> None:
    task, model = writer(planned=True)
    how = MusicSettings(count=1, max_length=2000, prompt="4/4", form="ABA", bars=6, form_strength=12.0, top_k=12)
    (score,) = task.generate(model, how, seed=0).items
    assert score.length_steps == 6 * score.bar_steps
    starts = [{c.start % 16 for c in score.chords if n * 16 <= c.start < (n + 1) * 16} for n in range(3)]
    roots = [[c.root for c in score.chords if n * 16 <= c.start < (n + 1) * 16] for n in range(3)]
    assert (starts[0], roots[0]) == (starts[2], roots[2])
    assert roots[0] != roots[1]
    assert agreement(score, "ABA", alike=True) >= 0.9


def test_a_form_of_eight_bars_a_section_is_what_a_plan_is_made_of() -> None:
    task, model = writer(planned=True)
    assert task.bars(MusicSettings(form="AABA"), Sections.read("aaba")) == 32
    assert task.bars(MusicSettings(form="AABA", bars=16), Sections.read("AABA", 16)) == 16
    with pytest.raises(UserError, match=r"generation.form: 18 bars can't .*\n.*16 or 20 bars"):
        task.generate(model, MusicSettings(form="AABA", bars=18), seed=0)
    with pytest.raises(UserError, match="8 bars can't be divided evenly among the 3 sections"):
        task.generate(model, MusicSettings(form="ABA", chords=CHORDS), seed=0)
    with pytest.raises(UserError, match="isn't a form"):
        Sections.read("A-B")
    with pytest.raises(UserError, match=r"more than 64 bars\n.*bars 63"):
        Sections.read("ABCABCABC")


def obvious_back(letters: str, section: int) -> int:
    return next((n for n in range(1, section + 1) if letters[section - n] == letters[section]), 0)


@settings(max_examples=60, deadline=None)
@given(st.text("ABC", min_size=1, max_size=8), st.integers(1, 9), st.sampled_from([1, 3, 4]))
def test_lags_lead_to_the_latest_section_with_the_letter(letters: str, bars: int, unit: int) -> None:
    sections, places = Sections.read(letters, bars * len(letters)), tuple(lag * unit for lag in LAGS)
    every = np.arange(-1, sections.total + 2)
    lags_TL = sections.lags(every, places, unit)
    for bar, lags in zip(every.tolist(), lags_TL.tolist(), strict=True):
        inside = 0 <= bar < sections.total
        back = obvious_back(letters, bar // bars) * bars * unit if inside else 0
        assert lags[:-1] == list(places[:-1])
        assert back in (0, *lags)
        if back in (0, *places):
            assert lags[-1] == places[-1]
        leanings = sections.leanings(bar, places, unit).tolist()
        assert leanings.count(1.0) == (back > 0), "one place leads there"
        for lag, leaning in zip(lags, leanings, strict=True):
            there = bar - lag // unit
            whole = inside and lag % (bars * unit) == 0 and there >= 0
            assert (leaning == 1) == (whole and lag == back)
            assert (leaning == -1) == (whole and letters[there // bars] != letters[bar // bars])


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["AABA", "ABCA", "ABAB"]),
    st.sampled_from([1, 3]),
    st.lists(st.sampled_from(["60:2 62:2 64:4", "67:8", "65:3 64:1 0:4"]), min_size=12, max_size=12),
    st.integers(4, 90),
)
def test_a_place_of_its_own_looks_back_only(letters: str, bars: int, written: list[str], cut: int) -> None:
    notes = [tuple(map(int, one.split(":"))) for bar in written for one in bar.split()]
    starts = np.cumsum([0, *(length for _, length in notes)])
    melody = tuple(Note(int(at), length, pitch) for at, (pitch, length) in zip(starts, notes, strict=False) if pitch)
    lead = LeadSheet(steps_per_beat=2, planned=True)
    score = Score((Part("Melody", melody, role="melody"),), steps_per_beat=2, length_steps=int(starts[-1]))
    ids = np.array([BOS, *lead.encode(score)])
    formed = Formed(lead, Sections.read(letters, bars * len(letters)), 4.0)
    assert formed.context_sizes == Copying(lead).context_sizes
    whole = formed.context(ids)
    assert (whole >= 0).all()
    assert (whole < np.array(formed.context_sizes)).all()
    assert (formed.context(ids[:cut]) == whole[:cut]).all()
    assert formed.leanings(ids[:cut]).shape == (len(LAGS),)
    assert formed.allowed(ids[:cut]).any()


@pytest.mark.parametrize(("bars", "last"), [(4, -3.0), (2, 3.0)])
def test_the_last_bar_of_long_sections_is_no_copy(bars: int, last: float) -> None:
    lead = LeadSheet(steps_per_beat=2)
    form = lead.form_ids(Form(length=16 * bars))
    formed, whole = Formed(lead, Sections("AA", bars), 3.0), [lead.signs.pitch0, lead.signs.length0 + 7]
    by_bar = [formed.leanings(np.array([BOS, *form, *bar * whole])) for bar in range(2 * bars)]
    back = LAGS.index(bars)
    assert [leanings[back] for leanings in by_bar] == [0.0] * bars + [3.0] * (bars - 1) + [last]
    assert (by_bar[-1] == last).all() == (last < 0)


def test_no_note_lasts_over_the_line_between_sections_and_the_metre_stays() -> None:
    lead = LeadSheet(steps_per_beat=2)
    form = lead.form_ids(Form(length=64))  # eight bars of 4/4
    formed, signs = Formed(lead, Sections("AB", 2), 4.0), lead.signs
    note = [signs.pitch0 + 40, signs.length0 + 4]  # five steps
    ids = np.array([BOS, *form, *note, *note, *note[:1]])  # ten of sixteen steps are written
    lengths = np.flatnonzero(formed.allowed(ids)[signs.length0 : signs.pitch0]) + 1
    assert lengths.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.flatnonzero(lead.allowed(ids)[signs.length0 : signs.pitch0]).tolist() == list(range(8))
    begun = np.array([BOS, signs.metre0, signs.tempo0, signs.chord0, signs.length0 + 7])
    assert lead.allowed(begun)[signs.metre0 + 1]
    assert not formed.allowed(begun)[signs.metre0 : signs.tempo0].any()


def test_bars_are_numbered_as_they_are_counted() -> None:
    form = Form(metre=(3, 4), upbeat=12, length=12 + 36 + 30 + 48, changes=((48, (2, 4)), (78, (4, 4))))
    numbers = bar_numbers(form, 12)
    assert [bars_begun(form, step + 1, 12) - 1 for step in range(form.length)] == numbers[:-1].tolist()


@pytest.mark.slow
def test_a_chorale_that_copies_comes_back_in_all_voices() -> None:
    torch.manual_seed(0)
    task = LanguageModel(Chorale(steps_per_beat=1, planned=True), "sequences")
    model = task.build_model({"kind": "lstm", "hidden_size": 8, "copy": True}).eval()
    how = {"prompt": "4/4 upbeat 0", "count": 1, "max_length": 200, "form": "ABA", "bars": 9, "form_strength": 12.0}
    made = task.generate(model, task.settings(**how), seed=0)
    assert came_from(made.items[0], made.sections) == {7: 1, 8: 2, 9: 3}
    assert agreement(made.items[0], "ABA", alike=False) < 0.5

    opened = Opened(SimpleNamespace(encoding=task.encoding, weights_digest="", info={}), "chorales", "1", "")
    kept = tuple(task.encoding.encode(made.items[0]).tolist())
    how |= {"prompt": "", "given": kept, "given_ends": True, "rewrite": "bars 3-4", "particles": 2, "max_length": 400}
    again = task.generate(model, task.settings(**how), seed=1)
    assert again.sections == made.sections
    assert came_from(again.items[0], again.sections).items() >= {8: 2}.items(), "the other bars stay"
    shown = piece(opened, Generation(again.items, again.sampled, how, 1, [], again.sections), 1)
    ((first, end),) = shown.marked
    bar = (end - first) // 2
    assert [(letter, start // bar, stop // bar) for letter, start, stop in shown.sections] == [
        ("A", 0, 2), ("B", 4, 6), ("A", 6, 9),
    ]  # fmt: skip
    with pytest.raises(UserError, match="the piece keeps its length"):
        task.generate(model, task.settings(**how | {"form": ""}), seed=1)


def test_sections_are_cut_where_something_was_written_anew() -> None:
    spans = (("A", 0, 8), ("B", 8, 16), ("A", 16, 24))
    assert outside(spans, []) == spans
    assert outside(spans, [(6, 18), (20, 22)]) == (("A", 0, 6), ("A", 18, 20), ("A", 22, 24))
    assert outside(spans, [(0, 24)]) == ()


def test_models_that_can_not_copy_and_pieces_from_files_are_refused() -> None:
    lead = LeadSheet(steps_per_beat=2)
    task = Music(lead, "sequences")
    model = task.build_model({"kind": "lstm", "hidden_size": 4}).eval()
    with pytest.raises(UserError, match=r"generation.form: this model can't repeat sections.*\n.*model.copy: true"):
        task.generate(model, MusicSettings(form="AABA"), seed=0)
    copies, able = writer()
    begun = tuple(lead.form_ids(Form(length=64)).tolist())
    with pytest.raises(UserError, match=r"generation.form: can't be used together with a file"):
        copies.generate(able, MusicSettings(form="AABA", given=begun), seed=0)
    assert copies.rehearse(MusicSettings(form="AABA")) == [], "a recipe may have one"
    with pytest.raises(UserError, match=r"generation.form: only models that can copy"):
        read_recipe(RECIPES / "jazz-offline.yaml", ["generation.form=AABA"])
    read_recipe(RECIPES / "lead-sheets.yaml", ["generation.form=AABA"])


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    recipe = read_recipe(RECIPES / "lead-sheets.yaml", ["model.hidden_size=8"])
    task = Music(LeadSheet(), "sequences")
    save_bundle(
        tmp_path / "b", "x", task.build_model(recipe.model), task.encoding, recipe.as_dict(), {"framing": "sequences"}
    )
    return load_bundle(tmp_path / "b")


@pytest.mark.slow
def test_page_and_record_say_which_bar_came_from_which(bundle: Bundle, tmp_path: Path) -> None:
    asked = GenerateRequest.model_validate(
        {"model": "x", "settings": {"form": "AABA", "form_strength": 15, "chords": CHORDS, "count": 1}}
    )
    over = asked.settings.model_dump(exclude_unset=True) | {"max_length": 600, "constraints": ()}
    made = bundle.generate(over, seed=2)
    score = made.items[0]
    assert came_from(score, made.sections) == {3: 1, 4: 2, 7: 3, 8: 4}
    assert told(score, made.sections)["repeated bars"] == "3–4 from 1–2; 7–8 from 3–4"
    bar = score.bar_steps
    assert spans_of(score, made.sections) == tuple((x, n * 2 * bar, (n + 1) * 2 * bar) for n, x in enumerate("AABA"))
    files = write(Opened(bundle, "x", "1", ""), made, tmp_path / "out")
    (page,) = (path.read_text(encoding="utf-8") for path in files if path.suffix == ".html")
    assert re.findall(r'<rect class="section (v\d)" x="(\d+)"', page) == [
        (colour, str(n * 2 * bar)) for n, colour in enumerate(("v3", "v3", "v4", "v3"))
    ]
    assert re.search(r'<div class="form".*?</div>', page).group().count("</span>") == 4
    assert "AABA, 2 bars each" in page
    record = read_record(files[0])
    assert record["sections"]["came_from"] == {"3": 1, "4": 2, "7": 3, "8": 4}
    assert record["settings"]["form"] == "AABA"
