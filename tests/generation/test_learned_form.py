"""Forms that are learned from the training pieces and drawn for what is generated."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.sections import BARS, common_forms, form_of
from components.progressions import parse_progression
from components.score import Note, Part, Score
from components.tasks.music import Music, MusicSettings


def section(letter: str) -> list[list[int]]:
    """Eight bars of four quarters, others for each letter."""
    rng = np.random.default_rng(ord(letter))
    return rng.integers(55, 85, (BARS, 4)).tolist()


def tune(letters: str, *, upbeat: int = 0, changed: int = 0) -> Score:
    """A tune in 4/4; the last `changed` bars of each section are new ones. With an upbeat its last bar is cut short."""
    rows = []
    for number, letter in enumerate(letters):
        rows += section(letter)[: BARS - changed] + [[40 + number, 90, 90, 40 + number]] * changed
    notes = [Note(upbeat + 4 * (4 * bar + beat), 4, p) for bar, row in enumerate(rows) for beat, p in enumerate(row)]
    if upbeat:
        notes = [Note(0, upbeat, 60), *notes[:-1]]
    chords = parse_progression(" | ".join("CFGC" * (len(rows) // 4)), (4, 4), 4)
    length = 16 * len(rows) + (upbeat and upbeat - 4)
    return Score(
        (Part("Melody", tuple(notes), role="melody"),), 4, upbeat_steps=upbeat, length_steps=length, chords=chords
    )


@given(st.text("ABC", min_size=1, max_size=5), st.sampled_from([0, 4]), st.integers(0, 4))
def test_letters_are_found_again(letters: str, upbeat: int, changed: int) -> None:
    names: dict[str, str] = {}
    for letter in letters:
        if letter not in names:
            names[letter] = "ABC"[len(names)]
    assert form_of(tune(letters, upbeat=upbeat, changed=changed)) == "".join(names[letter] for letter in letters)


def test_no_form() -> None:
    whole = tune("AB")
    assert form_of(replace(whole, length_steps=whole.length_steps + 16)) == "", "17 bars aren't sections of eight"
    assert form_of(replace(whole, metre_changes=((64, (3, 4)),))) == ""
    assert form_of(Score(())) == ""
    assert form_of(tune("AA", changed=5)) == "AB", "three equal bars of eight are too few"


def test_the_form_is_that_of_the_melody() -> None:
    whole = tune("ABA")
    drone = Part("Drone", tuple(Note(16 * bar, 16, 40) for bar in range(24)))
    encoding = LeadSheet(steps_per_beat=2)
    encoding.fit([replace(whole, parts=(Part("Silent", ()), drone, *whole.parts))])
    assert encoding.forms == {"ABA": 1}


def test_few_pieces_with_a_form_decide_for_none() -> None:
    without = replace(tune("AB"), length_steps=15 * 16)
    assert common_forms(map(form_of, [tune("AB"), without])) == {"AB": 1}
    assert common_forms(map(form_of, [tune("AB"), without, without])) == {}
    assert common_forms([]) == {}


def writer() -> tuple[Music, torch.nn.Module]:
    torch.manual_seed(0)
    encoding = LeadSheet(steps_per_beat=2, planned=True)
    encoding.fit([tune("AABB")] * 6 + [tune("ABA")] * 3 + [tune("AB"), replace(tune("A"), length_steps=4)])
    task = Music(encoding, "sequences")
    return task, task.build_model({"kind": "lstm", "hidden_size": 8, "copy": True}).eval()


def test_drawn_as_often_as_in_training() -> None:
    task, _ = writer()
    encoding = LeadSheet(steps_per_beat=2, planned=True)
    encoding.set_learned(task.encoding.learned())
    drawn = Counter(encoding.drawn_form(0, seed) for seed in range(400))
    assert drawn == Counter(task.encoding.drawn_form(0, seed) for seed in range(400))
    assert drawn["AABB"] / 400 == pytest.approx(0.6, abs=0.08)
    assert set(drawn) == {"AABB", "ABA", "AB"}
    assert {encoding.drawn_form(24, seed) for seed in range(9)} == {"ABA"}
    assert encoding.drawn_form(40, 0) == ""
    encoding.set_learned({"forms": {"AABB": 0, "AB": -1}})
    assert encoding.drawn_form(0, 0) == "", "damaged"
    encoding.set_learned({"knows_chords": True})
    assert encoding.drawn_form(0, 0) == "", "a model of an earlier version has learned none"


@pytest.mark.slow
def test_pieces_follow_a_learned_form_unless_something_else_is_asked_for() -> None:
    task, model = writer()
    how = {"count": 1, "max_length": 60, "learned_form": True}
    for seed in range(3):
        sections = task.generate(model, MusicSettings(**how), seed=seed).sections
        assert sections is not None
        assert sections.letters == task.encoding.drawn_form(0, seed)
    assert task.generate(model, MusicSettings(**how, bars=24), seed=0).sections.letters == "ABA"
    assert task.generate(model, MusicSettings(**how, form="AB"), seed=0).sections.letters == "AB"
    for other in ({"learned_form": False}, {"form_strength": 0.0}, {"chords": "C | F | G | C"}, {"bars": 30}):
        assert task.generate(model, MusicSettings(**how | other), seed=0).sections is None, other
    task.encoding.forms = {}
    made = task.generate(model, MusicSettings(**how), seed=0)
    assert made.sections is None
    assert [w for w in made.warnings if "learned_form has no effect" in w]
    plain = task.build_model({"kind": "lstm", "hidden_size": 8}).eval()
    assert task.generate(plain, MusicSettings(**how), seed=0).sections is None, "it can't copy"
