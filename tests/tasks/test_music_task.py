"""Music over given chords: the form is kept, the band plays along, the pictures and notation show the chords."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from components.encodings.characters import Characters
from components.encodings.chorale.encoding import Chorale
from components.encodings.form import bars_begun
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.vocabulary import BOS
from components.errors import UserError
from components.generation.settings import Settings
from components.harmony import KINDS, chord_tones, strong_steps
from components.options import generation_targets, options_of
from components.progressions import parse_progression
from components.render.musicxml import write_musicxml
from components.render.pianoroll import write_pianoroll
from components.render.swing import swung
from components.score import Chord, Note, Part, Score
from components.tasks.language_model import LanguageModel
from components.tasks.music import Music, MusicSettings


@pytest.fixture(scope="module")
def task() -> Music:
    return Music(LeadSheet(), "sequences")


@pytest.fixture(scope="module")
def model(task):
    torch.manual_seed(0)
    return task.build_model({"kind": "gru", "hidden_size": 16})


@pytest.mark.slow
def test_a_piece_over_given_chords_lasts_as_long_as_they_do(task, model) -> None:
    settings = MusicSettings(count=3, max_length=4000, chords="blues in F", choruses=2, tempo_bpm=150, temperature=0.7)
    made = task.generate(model, settings, seed=1)
    assert [one.ended for one in made.sampled] == [True] * 3
    for score in made.items:
        assert score.length_steps == 24 * 48
        assert score.chords == parse_progression("blues in F x2")
        assert score.tempo_bpm == 150
        assert all(note.start + note.duration <= 24 * 48 for note in score.parts[0].notes)
    again = task.generate(model, settings, seed=1)
    assert again.items == made.items


def test_the_chords_that_were_asked_for_are_kept_to_the_letter(task, model) -> None:
    asked = "F13 / G7#11 Bb7alt/D | N.C. | Cm11 | N.C."
    (score,) = task.generate(model, MusicSettings(count=1, chords=asked, max_length=3000), seed=0).items
    assert score.chords == parse_progression(asked)
    assert score.length_steps >= 3 * 48


@pytest.mark.slow
def test_the_band_plays_along_in_its_style(task, model) -> None:
    settings = {"count": 1, "max_length": 3000, "chords": "Dm7 G7 | Cmaj7", "choruses": 2}
    for band, programs in (("swing", [66, 0, 32]), ("folk", [40, 0, 32])):
        made = task.generate(model, MusicSettings(band=band, **settings), seed=3)
        (score,) = made.items
        assert not made.warnings
        assert [part.program for part in score.parts] == programs
        assert [part.role for part in score.parts] == ["melody", "chords", "bass"]
        assert max(note.start + note.duration for part in score.parts for note in part.notes) <= 4 * 48


@pytest.mark.slow
def test_rules_hold_over_the_chords(task, model) -> None:
    rules = ("chord-tones strong", "range 60-84")
    settings = MusicSettings(count=2, max_length=4000, chords="minor blues in C", constraints=rules)
    for score in task.generate(model, settings, seed=5).items:
        strong = [n for n in score.parts[0].notes if n.start % 48 in strong_steps((4, 4), 48)]
        assert strong
        for note in score.parts[0].notes:
            assert 60 <= note.pitch <= 84
        for note in strong:
            chord = next(c for c in score.chords if c.start <= note.start < c.start + c.duration)
            assert note.pitch % 12 in chord_tones(chord)


@pytest.mark.slow
def test_a_piece_that_ran_out_of_tokens_is_said_to(task, model) -> None:
    made = task.generate(model, MusicSettings(count=2, max_length=20, chords="blues in F"), seed=0)
    assert made.warnings == ["2 of 2 pieces were cut off at generation.max_length (20)"]


def test_the_prompt_is_the_metre_of_the_chords(task, model) -> None:
    settings = MusicSettings(count=1, max_length=2000, prompt="3/4", chords="G | D7 | G | %")
    (score,) = task.generate(model, settings, seed=0).items
    assert (score.metre, score.length_steps) == ((3, 4), 4 * 36)


def test_a_beginning_from_a_file_is_gone_on_from(task, model) -> None:
    begun = Score((Part("", (Note(0, 12, 60), Note(12, 12, 64))),), 12, length_steps=96)
    given = tuple(task.encoding.encode(begun).tolist()[:-2])
    (score,) = task.generate(model, MusicSettings(count=1, given=given), seed=0).items
    assert [(n.start, n.pitch) for n in score.parts[0].notes[:2]] == [(0, 60), (12, 64)]
    assert score.length_steps == 96
    with pytest.raises(UserError, match="can't be used together"):
        task.generate(model, MusicSettings(count=1, given=given, chords="C"), seed=0)


@pytest.mark.slow
def test_without_chords_the_model_makes_up_its_own_form(task, model) -> None:
    made = task.generate(model, MusicSettings(count=1, max_length=300), seed=2)
    assert isinstance(made.items[0], Score)
    made = task.generate(model, MusicSettings(count=1, max_length=300, band="swing"), seed=2)
    assert not made.items[0].chords
    assert any("no accompaniment, since the pieces have no chords" in warning for warning in made.warnings)
    with pytest.raises(UserError, match="choruses: only works with chords"):
        task.generate(model, MusicSettings(count=1, choruses=2), seed=2)


def test_a_model_that_never_saw_chords_says_so() -> None:
    encoding = LeadSheet()
    encoding.knows_chords = False
    task = Music(encoding, "sequences")
    made = task.generate(
        task.build_model({"kind": "rnn", "hidden_size": 8}),
        MusicSettings(count=1, max_length=2000, chords="F7 | Bb7", constraints=("chord-scale always",)),
        seed=0,
    )
    assert "had no chords" in made.warnings[0]
    assert made.items[0].chords == parse_progression("F7 | Bb7")


@pytest.mark.slow
def test_rules_about_chords_reach_other_encodings_of_music_and_text_has_none() -> None:
    task = Music(Chorale(), "sequences")
    model = task.build_model({"kind": "rnn", "hidden_size": 8})
    settings = MusicSettings(count=1, max_length=2 + 4 * 16, chords="C | %", constraints=("chord-tones always",))
    (score,) = task.generate(model, settings, seed=0).items
    assert {n.pitch % 12 for part in score.parts for n in part.notes if n.start < 16} <= {0, 4, 7}
    text = Characters()
    text.fit(["abc"])
    with pytest.raises(UserError, match="isn't a music encoding"):
        Music(text, "sequences").generate(model, MusicSettings(chords="C"), seed=0)


def test_the_settings_of_sampling_are_there_with_the_same_defaults() -> None:
    own = {
        name: default
        for part in generation_targets({"kind": "music"})
        for name, (_, default) in options_of(part).items()
    }
    assert own.keys() > {"chords", "band"}
    for name, (_, default) in options_of(Settings).items():
        assert own[name] == getattr(MusicSettings(), name) == default


def test_even_eighths_swing_and_what_is_finer_stays() -> None:
    notes = ((0, 6), (6, 6), (12, 4), (16, 4), (20, 4), (24, 6), (30, 3), (33, 3), (36, 18), (54, 6))
    score = Score((Part("", tuple(Note(start, length, 60) for start, length in notes)),), 12, length_steps=60)
    played = [(note.start, note.duration) for note in swung(score).parts[0].notes]
    assert played == [(0, 8), (8, 4), (12, 4), (16, 4), (20, 4), (24, 6), (30, 3), (33, 3), (36, 20), (56, 4)]
    for other in (Score(score.parts, 4, length_steps=60), Score(score.parts, 12, (6, 8), length_steps=60)):
        assert swung(other) is other


@pytest.mark.slow
def test_chord_symbols_stand_in_the_notation_with_their_notes(tmp_path) -> None:
    from music21 import converter

    chords = tuple(
        Chord(n * 48, 48, n % 12, kind, (n + 7) % 12 if n % 5 == 0 else None) for n, kind in enumerate(KINDS)
    )
    score = Score((Part("Melody", (Note(0, 48 * len(chords), 60),)),), 12, length_steps=48 * len(chords), chords=chords)
    write_musicxml(score, tmp_path / "x.musicxml")
    symbols = list(converter.parse(tmp_path / "x.musicxml").recurse().getElementsByClass("ChordSymbol"))
    assert len(symbols) == len(chords)
    exact = 0
    for chord, symbol in zip(chords, symbols, strict=True):
        assert symbol.root().pitchClass == chord.root
        assert symbol.bass().pitchClass == (chord.root if chord.bass is None else chord.bass)
        assert symbol.getOffsetInHierarchy(symbol.activeSite.activeSite) == chord.start / 12
        exact += {pitch.pitchClass for pitch in symbol.pitches} == chord_tones(chord) | {chord.bass} - {None}
    assert exact >= len(chords) - 5  # music21 adds an eleventh to thirteenth chords, a fifth to an altered one
    write_musicxml(score, tmp_path / "y.musicxml")
    assert (tmp_path / "x.musicxml").read_bytes() == (tmp_path / "y.musicxml").read_bytes()


@pytest.mark.slow
def test_the_piano_roll_has_room_for_chord_symbols(tmp_path) -> None:
    from matplotlib.image import imread

    plain = Score((Part("Melody", (Note(0, 12, 60),)),), 12, length_steps=96)
    named = Score(plain.parts, 12, length_steps=96, chords=parse_progression("Dm7 G7 | Cmaj7"))
    pictures = []
    for name, score in (("plain", plain), ("named", named)):
        write_pianoroll(score, tmp_path / f"{name}.png")
        pictures.append(imread(tmp_path / f"{name}.png"))
    without, with_chords = pictures
    extra = with_chords.shape[0] - without.shape[0]
    assert extra > 20
    # between the title and the roll there is ink only where a chord begins
    top = 74  # pixels of title
    band = with_chords[top : top + extra, :, :3].min(axis=(0, 2))
    left = np.flatnonzero(band < 0.5)
    assert len(left) > 20


def planning(**options) -> tuple[Music, torch.nn.Module]:
    torch.manual_seed(0)
    task = Music(LeadSheet(planned=True), "sequences")
    return task, task.build_model({"kind": "gru", "hidden_size": 16} | options)


@pytest.mark.parametrize("bars", [1, 3, 12])
def test_a_planned_piece_has_as_many_bars_as_were_asked_for(bars) -> None:
    task, model = planning(copy=True)
    settings = MusicSettings(count=2, max_length=4000, bars=bars, prompt="3/4", temperature=0.6)
    made = task.generate(model, settings, seed=0)
    for one, score in zip(made.sampled, made.items, strict=True):
        assert one.ended
        form, _ = task.encoding.reached(np.array([BOS, *one.ids]))
        assert bars_begun(form, form.length, 12) == bars
        assert score.metre == (3, 4)


def test_bars_are_refused_where_they_are_not_planned_or_known_already(task, model) -> None:
    with pytest.raises(UserError, match="can't be given a length in bars"):
        task.generate(model, MusicSettings(bars=8), seed=0)
    planned, its_model = planning()
    with pytest.raises(UserError, match="chords, which determine the length"):
        planned.generate(its_model, MusicSettings(bars=8, chords="C | G7"), seed=0)


@pytest.mark.parametrize("prompt", ["", "3/4", "3/4 upbeat 4"])
def test_a_planned_chorale_has_as_many_bars_as_were_asked_for(prompt) -> None:
    torch.manual_seed(0)
    task = LanguageModel(Chorale(planned=True), "sequences")
    model = task.build_model({"kind": "gru", "hidden_size": 16})
    settings = Settings(count=2, max_length=1000, bars=4, prompt=prompt, constraints=("no-crossing",))
    made = task.generate(model, settings, seed=0)
    for one, score in zip(made.sampled, made.items, strict=True):
        assert one.ended
        assert score.length_steps == 4 * score.bar_steps
        assert score.metre == (3, 4) or not prompt
        assert score.upbeat_steps == 4 or "upbeat" not in prompt
    (warning,) = task.generate(model, Settings(count=2, max_length=20, bars=4), seed=0).warnings
    assert "2 of 2 pieces were cut off at" in warning
    begun = tuple(task.encoding.encode(score)[:10].tolist())
    with pytest.raises(UserError, match="a file, which determines the length"):
        task.generate(model, Settings(bars=4, given=begun), seed=0)


def test_bars_are_refused_by_a_model_of_text() -> None:
    text = Characters()
    text.fit(["abc"])
    task = LanguageModel(text, "sequences")
    with pytest.raises(UserError, match="can't be given a length in bars"):
        task.generate(task.build_model({"kind": "rnn", "hidden_size": 8}), Settings(bars=4), seed=0)


def test_given_chords_are_planned_for() -> None:
    task, model = planning()
    (score,) = task.generate(model, MusicSettings(count=1, max_length=2000, chords="C | G7 | C"), seed=0).items
    assert score.length_steps == 3 * 48
