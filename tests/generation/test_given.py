"""Writing around what is given: a melody stays as it is, a beginning is gone on from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from components.bundle import PART_WRITING, load_bundle, save_bundle
from components.encodings.characters import Characters
from components.encodings.chorale.encoding import Chorale
from components.encodings.vocabulary import EOS
from components.errors import UserError
from components.evaluation.voice_leading import faults
from components.generation.given import FREE, Given
from components.generation.settings import Settings
from components.models.sequence_model import SequenceModel
from components.recipe import Recipe
from components.render.midi import write_midi
from components.score import Note, Part, Score
from components.tasks.language_model import LanguageModel
from components.use.given import given

TUNE = ((0, 4, 67), (4, 4, 69), (8, 2, 71), (10, 2, 72), (12, 4, 71), (16, 8, 69), (24, 8, 67))
MELODY = Score((Part("tune", tuple(Note(*note) for note in TUNE)),), length_steps=32)


@pytest.fixture
def bundle(tmp_path: Path):
    """A chorale model that nobody trained: the rules must hold whatever it likes best."""
    torch.manual_seed(2)
    encoding = Chorale()
    model = SequenceModel(len(encoding.vocabulary), encoding.context_sizes, kind="gru", hidden_size=16)
    values = {
        "data": {"dataset": "chorales"},
        "encoding": {"kind": "chorale"},
        "task": {"kind": "language_model"},
        "model": {"kind": "gru", "hidden_size": 16},
    }
    recipe = Recipe.from_dict("chorales", values).as_dict()
    save_bundle(tmp_path / "bundle", "chorales", model, encoding, recipe, {"framing": "sequences"})
    return load_bundle(tmp_path / "bundle")


def soprano(score: Score) -> list[tuple[int, int, int]]:
    return [(note.start, note.duration, note.pitch) for note in score.parts[0].notes]


@pytest.mark.slow
def test_a_melody_stays_and_the_voices_under_it_keep_the_rules(bundle, tmp_path) -> None:
    write_midi(MELODY, tmp_path / "tune.mid")
    settings = given(bundle, str(tmp_path / "tune.mid"), None, print, print)
    assert settings["constraints"] == PART_WRITING
    made = bundle.generate(settings | {"count": 4}, seed=1)
    for score, sampled in zip(made.items, made.sampled, strict=True):
        assert soprano(score) == list(TUNE)
        assert sampled.ended
        assert score.length_steps == 32
        assert any(part.notes for part in score.parts[1:])
    found = sum((faults(score) for score in made.items), start=type(faults(made.items[0]))())
    given_up = "couldn't be met" in " ".join(made.warnings)
    assert given_up or found["crossed_voices"] == found["parallel_fifths"] == found["parallel_octaves"] == 0
    free = bundle.generate(settings | {"count": 4, "constraints": ()}, seed=1)
    assert sum(sum(faults(score).values()) for score in free.items) > sum(found.values()), "the rules did something"
    again = bundle.generate(made.settings, seed=1)
    assert again.items == made.items


@pytest.mark.slow
def test_a_piece_goes_on_from_the_beginning_in_a_file(bundle, tmp_path) -> None:
    voices = tuple(
        Part(name, tuple(Note(s, d, p - drop) for s, d, p in TUNE))
        for name, drop in zip("SATB", (0, 5, 12, 19), strict=True)
    )
    start = replace(MELODY, parts=voices)
    write_midi(start, tmp_path / "start.mid")
    settings = given(bundle, None, str(tmp_path / "start.mid"), print, print)
    made = bundle.generate(settings | {"count": 2, "max_length": 40}, seed=3)
    for score in made.items:
        assert soprano(score)[: len(TUNE) - 1] == list(TUNE)[:-1], "the last note may go on"
        assert score.length_steps > 32


def test_ids_that_are_given_stand_and_the_end_waits_for_them() -> None:
    encoding = Characters()
    encoding.fit(["abc"])
    a, b = encoding.encode("ab").tolist()
    wrapped = Given(encoding, [a, FREE, b], ends=True)
    assert wrapped.beginning.tolist() == [a]
    begun = np.array([2])
    assert np.flatnonzero(wrapped.allowed(begun)).tolist() == [a]
    begun = np.append(begun, a)
    free = wrapped.allowed(begun)
    assert not free[EOS]
    assert free.sum() == encoding.allowed(begun).sum() - 1
    begun = np.append(begun, [b, b])
    assert np.flatnonzero(wrapped.allowed(begun)).tolist() == [EOS]
    assert not Given(encoding, [a], ends=False).allowed(begun)[[0, 1, 2]].any()
    for wrong in ([99], [-2]):
        with pytest.raises(ValueError, match="ids from -1"):
            Given(encoding, wrong, ends=False)


@pytest.mark.slow
def test_what_cannot_be_taken_from_a_file_is_said(bundle, tmp_path, capsys) -> None:
    write_midi(MELODY, tmp_path / "tune.mid")
    tune = str(tmp_path / "tune.mid")
    assert given(bundle, None, None, print, print) == {}
    with pytest.raises(UserError, match="can't be used together"):
        given(bundle, tune, tune, print, print)
    with pytest.raises(UserError):
        given(bundle, str(tmp_path / "nothing.mid"), None, print, print)
    (tmp_path / "silent.abc").write_text("X:1\nK:C\nz4|\n")
    with pytest.raises(UserError, match="has no notes") as caught:
        given(bundle, str(tmp_path / "silent.abc"), None, print, print)
    assert caught.value.where == str(tmp_path / "silent.abc")
    assert "data." not in str(caught.value), "the settings of a recipe are no way out here"
    with pytest.raises(UserError, match="has 1 parts, but a chorale needs four"):
        given(bundle, None, tune, print, print)
    high = tmp_path / "high.abc"
    high.write_text("X:1\nM:4/4\nL:1/8\nK:C\nc'2d'2(3e'f'g'e'2|c'8|]\nX:2\nK:C\ncdef|\n")
    given(bundle, str(high), None, print, print)
    told = capsys.readouterr().out
    assert "2 × note moved to a grid of 4 steps in a beat (kept)" in told
    assert "high.abc contains 2 pieces; the first is used: 'high 1'" in told
    assert "7 of 7 notes are outside a soprano's range, C4 to A5: the melody goes from C6 to G6" in told
    high.write_text("X:1\nM:4/4\nL:1/4\nQ:1/4=66\nK:C\ncdef|\n")
    given(bundle, str(high), None, print, print)
    assert "its tempo, 66, isn't kept: chorales are written at 84 quarter notes per minute" in capsys.readouterr().out
    high.write_text("X:1\nM:5/4\nL:1/4\nK:C\ncdefg|\n")
    with pytest.raises(
        UserError, match=r"melody .*high\.abc: the metre 5/4 isn't supported; chorales can have 4/4, 3/4, 3/2"
    ):
        given(bundle, str(high), None, print, print)
    text = Characters()
    text.fit(["abc"])
    with pytest.raises(UserError, match="can't write voices"):
        text.with_melody(MELODY)
    task = LanguageModel(text, "sequences")
    model = SequenceModel(len(text.vocabulary), kind="gru", hidden_size=4)
    for settings in (Settings(given=(999,)), Settings(given=(4,), prompt="a")):
        with pytest.raises(UserError):
            task.generate(model, settings, seed=0)
