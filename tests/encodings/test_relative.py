"""Lead sheets that are written from the root of the first chord: the same music, and the same ids in every key."""

from __future__ import annotations

import numpy as np
import pytest
from test_lead_sheet import BAR, HARD, lead_sheet, melody

from components.encodings.base import encoding_from_state
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.lead_sheet.signs import HIGHEST
from components.encodings.meaning import meaning_of
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.generation.constraint_texts import parse_constraints
from components.generation.region import Piece
from components.progressions import parse_progression
from components.score import Chord
from components.tasks.music import Music, MusicSettings

ENCODING, PLAIN = LeadSheet(planned=True, relative=True), LeadSheet(planned=True)
SIGNS = ENCODING.signs


def tune(root: int, pitch: int):
    """Two bars in a key: I V7, home and away."""
    chords = (Chord(0, BAR, root, "maj"), Chord(BAR, BAR, (root + 7) % 12, "7"))
    return lead_sheet([(0, BAR, pitch), (BAR, 24, pitch + 7), (BAR + 24, 24, pitch)], chords)


@pytest.mark.parametrize("score", [*HARD.values(), *(tune(root, 60) for root in range(12))])
def test_the_music_that_comes_back_is_that_of_ids_that_are_not_relative(score) -> None:
    ids = np.array([BOS, *ENCODING.encode(score), EOS])
    back = ENCODING.decode(ids)
    assert back == PLAIN.decode(PLAIN.encode(score))
    assert melody(back) == melody(score)
    for t in range(1, len(ids)):
        assert ENCODING.allowed(ids[:t])[ids[t]], SIGNS.label(int(ids[t]))
    assert ENCODING.decode(ENCODING.onwards(score)) == PLAIN.decode(PLAIN.onwards(score))


def test_a_tune_has_the_same_ids_in_every_key_but_for_its_home() -> None:
    inD, inA = ENCODING.encode(tune(2, 62)), ENCODING.encode(tune(9, 57))
    assert np.flatnonzero(inD != inA).tolist() == [3], "metre, tempo, bars, home"
    assert [ENCODING.vocabulary.token(int(ids[3])) for ids in (inD, inA)] == ["home D", "home A"]
    assert (ENCODING.context(inD) == ENCODING.context(inA)).all()
    assert [SIGNS.label(int(id)) for id in inD[[4, 6, 9, 11]]] == ["I", "V 7", "1", "5"]


def test_transposed_ids_are_the_transposed_music() -> None:
    for semitones in range(-5, 7):
        ids = SIGNS.transposed(ENCODING.encode(tune(2, 62)), semitones)
        assert ENCODING.decode(ids) == ENCODING.decode(ENCODING.encode(tune((2 + semitones) % 12, 62 + semitones)))
    ids = ENCODING.encode(tune(2, 62))
    moved = {ENCODING.decode(ENCODING.augment(ids, np.random.default_rng(n))).chords[0].root for n in range(60)}
    assert len(moved) == 12


def test_notes_that_leave_the_keys_when_they_are_written_from_home_are_told() -> None:
    inside, outside = tune(1, HIGHEST - 12), tune(11, HIGHEST - 7)
    assert ENCODING.doubts(inside) == []
    assert PLAIN.doubts(outside) == []
    (told,) = ENCODING.doubts(outside)
    assert "1 of 3 notes" in told
    assert max(note.pitch for note in ENCODING.decode(ENCODING.encode(outside)).parts[0].notes) < HIGHEST


@pytest.mark.parametrize("seed", range(3))
def test_rules_are_about_the_pitches_that_sound(seed) -> None:
    rules = parse_constraints(["range 70-75", "chord-tones always"], meaning_of(ENCODING))
    rng = np.random.default_rng(seed)
    ids = [BOS, *SIGNS.form_ids(ENCODING.form_in(ENCODING.encode(tune(0, 60))[:8]), home=9)]
    while ids[-1] != EOS:
        mask = rules.mask(ENCODING.allowed(np.array(ids)), np.array(ids))
        mask[SIGNS.rest] = False
        ids.append(int(rng.choice(np.flatnonzero(mask))))
    score = ENCODING.decode(np.array(ids))
    assert [chord.root for chord in score.chords] == [9, 4]
    pitches = {note.pitch for note in score.parts[0].notes if note.start < BAR}
    assert pitches <= {73}, "the only tone of A major from 70 to 75"
    assert pitches


@pytest.mark.slow
def test_drawn_forms_begin_at_home_and_given_chords_sound_as_they_are_given() -> None:
    rng = np.random.default_rng(0)
    ids = [BOS]
    while not ids[-1] >= SIGNS.chord0:
        ids.append(int(rng.choice(np.flatnonzero(ENCODING.allowed(np.array(ids))))))
    assert ENCODING.form_in(np.array([*ids, SIGNS.length0])).home == SIGNS.home(np.array(ids))
    task = Music(ENCODING, "sequences")
    model = task.build_model({"kind": "gru", "hidden_size": 8, "copy": True})
    (score,) = task.generate(model, MusicSettings(count=1, chords="Dm7 G7 | Cmaj7"), seed=0).items
    assert score.chords == tuple(parse_progression("Dm7 G7 | Cmaj7", (4, 4), 12))


def test_a_piece_over_the_same_chords_in_another_key_is_another_piece() -> None:
    task = Music(ENCODING, "sequences")
    ids = ENCODING.encode(tune(2, 62))
    piece = Piece.read("bar 1, melody", ENCODING, ids)
    task._form(MusicSettings(chords="D | A7", given=tuple(ids.tolist()), rewrite="bar 1"), piece)
    with pytest.raises(UserError, match="other chords"):
        task._form(MusicSettings(chords="C | G7", given=tuple(ids.tolist()), rewrite="bar 1"), piece)


def test_without_the_setting_the_vocabulary_is_what_it_was() -> None:
    state = PLAIN.state()
    del state["options"]["relative"]
    assert encoding_from_state(state).vocabulary == PLAIN.vocabulary
    assert not any(token.startswith("home") for token in PLAIN.vocabulary.tokens)
    assert encoding_from_state(ENCODING.state()).vocabulary == ENCODING.vocabulary
    assert (LeadSheet(relative=True).signs.said, LeadSheet().prefix, PLAIN.prefix) == (3, 2, 3)
