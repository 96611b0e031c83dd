"""The lead-sheet encoding, and music that is written over chords."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.base import encoding_from_state
from components.encodings.form import FAMILIES, FAMILY_OF, METRES, Form, bar_and_beat, form_columns, form_sizes
from components.encodings.lead_sheet.encoding import LeadSheet
from components.encodings.lead_sheet.signs import HIGHEST, LOWEST
from components.encodings.meaning import HOLD, LENGTH, NOTE, meaning_of
from components.encodings.vocabulary import BOS, EOS
from components.errors import UserError
from components.harmony import KINDS, chord_tones
from components.progressions import parse_progression
from components.score import Chord, Note, Part, Score

ENCODING = LeadSheet()
BAR = 48


def lead_sheet(notes: list[tuple[int, int, int]], chords: tuple[Chord, ...] = (), **facts) -> Score:
    end = max([n[0] + n[1] for n in notes] + [c.start + c.duration for c in chords] + [facts.pop("length_steps", 0)])
    part = Part("Tune", tuple(Note(*note) for note in notes), role="melody")
    return Score((part,), steps_per_beat=12, chords=chords, length_steps=end, **facts)


def melody(score: Score) -> list[tuple[int, int, int]]:
    return [(note.start, note.duration, note.pitch) for note in score.parts[0].notes]


HARD = {
    "triplets": lead_sheet([(0, 4, 60), (4, 4, 62), (8, 4, 64), (12, 36, 65)]),
    "sixteenths and rests": lead_sheet([(3, 3, 60), (9, 3, 60), (24, 1, 61)], length_steps=BAR),
    "a note tied over three bars": lead_sheet([(12, 3 * BAR, 72), (12 + 3 * BAR, 5, 72)]),
    "the same pitch again after exactly the longest length": lead_sheet([(0, BAR, 60), (BAR, BAR, 60)]),
    "an anacrusis": lead_sheet([(0, 12, 67), (12, 48, 72)], upbeat_steps=12),
    "a long anacrusis": lead_sheet([(0, 71, 67), (71, 1, 72)], upbeat_steps=71, metre=(3, 2)),
    "metre changes": lead_sheet(
        [(0, 36, 60), (36, 30, 62), (66, 30, 64)], metre=(3, 4), metre_changes=((36, (2, 4)), (60, (3, 4)))
    ),
    "chords that leave a gap": lead_sheet([(0, 96, 60)], (Chord(12, 12, 2, "m7"), Chord(48, 24, 7, "7"))),
    "nothing but rests": lead_sheet([], length_steps=BAR),
    "a chord that changes under a note": lead_sheet([(6, 60, 60)], (Chord(0, 24, 0, "maj7"), Chord(24, 42, 9, "m7"))),
}


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (
            lead_sheet([(0, 12, 60), (0, 12, 64), (12, 12, 65)]),
            "only the melody is read, one note at a time: 2 of 3 notes",
        ),
        (lead_sheet([(0, 12, 9), (12, 12, 60)]), "1 of 2 notes are outside a piano's range and are moved by octaves"),
        (lead_sheet([(0, 12, 60)], metre=(11, 8)), "its metre, 11/8, is read as 12/8"),
        (lead_sheet([(0, 12, 60)], tempo_bpm=400.0), "its tempo, 400, is read as 240 quarter notes per minute"),
    ],
)
def test_what_a_lead_sheet_does_not_keep_of_a_piece_is_told(score: Score, told: str) -> None:
    assert ENCODING.doubts(score) == [told]
    assert ENCODING.doubts(lead_sheet([(0, 12, 60)], metre=(3, 4), tempo_bpm=120.0)) == []


@pytest.mark.parametrize("score", HARD.values(), ids=HARD)
def test_hard_music_comes_back(score) -> None:
    back = ENCODING.decode(ENCODING.encode(score))
    assert melody(back) == melody(score)
    assert (back.metre, back.metre_changes, back.upbeat_steps, back.length_steps, back.chords) == (
        score.metre, score.metre_changes, score.upbeat_steps, score.length_steps, score.chords,
    )  # fmt: skip


@st.composite
def scores(draw) -> Score:
    """A tune whose notes don't overlap, over chords that don't either."""
    at, notes = draw(st.integers(0, 60)), []
    for _ in range(draw(st.integers(0, 12))):
        length = draw(st.integers(1, 110))
        notes.append((at, length, draw(st.integers(LOWEST, HIGHEST))))
        at += length + draw(st.sampled_from([0, 0, 3, 50]))
    start, chords = draw(st.integers(0, 30)), []
    for _ in range(draw(st.integers(0, 6))):
        length = draw(st.integers(1, 120))
        symbol = (draw(st.integers(0, 11)), draw(st.sampled_from(FAMILIES)))
        if not chords or chords[-1].start + chords[-1].duration < start or (chords[-1].root, chords[-1].kind) != symbol:
            chords.append(Chord(start, length, *symbol))
        start += length + draw(st.sampled_from([0, 0, 7]))
    metre = draw(st.sampled_from(METRES))
    facts = {"metre": metre, "upbeat_steps": draw(st.integers(0, bar_and_beat(metre, 12)[0] - 1)), "tempo_bpm": 140.0}
    return lead_sheet(notes, tuple(chords), length_steps=1, **facts)


@pytest.mark.slow
@given(scores())
def test_every_lead_sheet_comes_back(score) -> None:
    back = ENCODING.decode(ENCODING.encode(score))
    assert melody(back) == melody(score)
    assert (back.metre, back.upbeat_steps, back.length_steps, back.chords, back.tempo_bpm) == (
        score.metre, score.upbeat_steps, score.length_steps, score.chords, score.tempo_bpm,
    )  # fmt: skip


@pytest.mark.slow
@given(scores())
def test_the_grammar_allows_what_is_written_and_the_context_is_of_the_past(score) -> None:
    ids = np.array([BOS, *ENCODING.encode(score), EOS])
    context = ENCODING.context(ids)
    assert (context >= 0).all()
    assert (context < np.array(ENCODING.context_sizes)).all()
    for length in range(1, len(ids)):
        assert ENCODING.allowed(ids[:length])[ids[length]], (length, ENCODING.vocabulary.token(int(ids[length])))
    for length in range(1, len(ids), 7):
        assert (LeadSheet().context(ids[:length]) == context[:length]).all()


@pytest.mark.slow
def test_a_piece_drawn_at_random_within_the_grammar_ends_with_its_form() -> None:
    rng, ended = np.random.default_rng(0), 0
    for _ in range(10):
        ids = [BOS]
        while len(ids) < 400 and ids[-1] != EOS:
            ids.append(int(rng.choice(np.flatnonzero(ENCODING.allowed(np.array(ids))))))
        ended += ids[-1] == EOS
        score = ENCODING.decode(np.array(ids))
        if ids[-1] == EOS:
            form = ENCODING.reached(np.array(ids))[0]
            assert score.length_steps == form.length > 0
            assert (ENCODING.encode(score)[-1:] != EOS).all()
    assert ended >= 3


def test_what_chord_symbols_lose_is_told_of_training_pieces_and_of_a_given_one() -> None:
    over, plain = Chord(0, 48, 0, "maj", 7), Chord(48, 48, 2, "m7")
    piece = lead_sheet([(0, 96, 60)], (over, plain, Chord(96, 48, 7, "m9", 5)), length_steps=144)
    told = [
        "chord symbols that lose their bass note (C/G is kept as C): 2 of 3",
        "chord symbols kept as a simpler kind (Cm9 as Cm7): 1 of 3",
    ]
    encoding = LeadSheet()
    encoding.fit([piece])
    assert encoding.remarks() == told
    assert encoding.doubts(piece)[-2:] == told
    assert [chord.bass for chord in encoding.decode(encoding.encode(piece)).chords] == [None] * 3
    encoding.fit([lead_sheet([(0, 96, 60)], (plain,), length_steps=144)])
    assert encoding.remarks() == []


@pytest.mark.parametrize(("chords", "bars"), [((), 8), ((Chord(0, 96, 0, "maj"),), 11)])
def test_a_form_that_the_model_makes_up_is_no_longer_than_the_training_pieces(chords, bars) -> None:
    """The sign that ends a form is rare: cut off by top_p each time, it never came, and nothing was left for notes."""
    fitted, rng = LeadSheet(), np.random.default_rng(0)
    fitted.fit([lead_sheet([(0, 36, 60)], chords, metre=(3, 4), length_steps=n * 36) for n in (4, 8, 11)])
    encoding = encoding_from_state(fitted.state())
    assert bool(encoding.remarks()) == (not chords)
    ids, signs = [BOS, encoding.vocabulary.id("metre 3/4")], set(range(encoding.signs.upbeat, encoding.signs.tempo0))
    while ids[-1] != encoding.signs.begin:
        choices = set(np.flatnonzero(encoding.allowed(np.array(ids)))) - signs
        ids.append(int(rng.choice(sorted(choices - {encoding.signs.begin} or choices))))  # it ends when it must
    form, _ = encoding.reached(np.array(ids))
    assert form.length == bars * 36


def test_a_melody_that_was_cut_off_ends_with_its_bar() -> None:
    ids = ENCODING.encode(lead_sheet([(0, 40, 60), (40, 20, 62)], (Chord(0, 10 * BAR, 0, "maj"),)))
    cut = ENCODING.decode(ids[: int(np.flatnonzero(ids == ENCODING.signs.rest)[0])])
    assert (cut.length_steps, [c.duration for c in cut.chords]) == (2 * BAR, [2 * BAR])
    assert ENCODING.decode(ids[: int(np.flatnonzero(ids == ENCODING.signs.begin)[0]) + 1]).length_steps == 0


@pytest.mark.parametrize("upbeat", [0, 12])
def test_going_on_from_a_piece_is_a_second_chorus_over_its_chords(upbeat) -> None:
    chords = (Chord(upbeat, BAR, 0, "maj"), Chord(upbeat + BAR, BAR, 7, "7"))
    piece = lead_sheet([(0, 24, 60), (upbeat + BAR, BAR, 62)], chords, upbeat_steps=upbeat)
    ids = ENCODING.onwards(piece)
    form, reached = ENCODING.reached(np.array([BOS, *ids]))
    assert (form.length, reached) == (upbeat + 4 * BAR, upbeat + 2 * BAR)
    assert [(c.start - upbeat, c.root) for c in form.chords] == [(0, 0), (BAR, 7), (2 * BAR, 0), (3 * BAR, 7)]
    assert melody(ENCODING.decode(ids)) == melody(piece)


@given(st.lists(st.integers(0, len(ENCODING.vocabulary) - 1), max_size=60))
def test_any_ids_decode_and_have_a_context_of_the_past(ids) -> None:
    ids = np.array([BOS, *ids])
    ENCODING.decode(ids)
    context = ENCODING.context(ids)
    assert (context >= 0).all()
    assert (context < np.array(ENCODING.context_sizes)).all()
    half = len(ids) // 2 + 1
    assert (LeadSheet().context(ids[:half]) == context[:half]).all()
    assert ENCODING.allowed(ids).any()


def test_overlapping_notes_are_cut_and_the_highest_of_a_chord_stays() -> None:
    back = ENCODING.decode(ENCODING.encode(lead_sheet([(0, 20, 60), (12, 12, 64), (24, 12, 60), (24, 6, 67)])))
    assert melody(back) == [(0, 12, 60), (12, 12, 64), (24, 6, 67)]


def test_what_has_no_sign_becomes_the_nearest_that_has() -> None:
    odd = lead_sheet([(0, 12, 5), (12, 12, 120)], (Chord(0, 24, 2, "13b9", bass=7),), metre=(13, 16))
    back = ENCODING.decode(ENCODING.encode(odd))
    assert [note.pitch for note in back.parts[0].notes] == [29, 108]
    assert back.chords == (Chord(0, 24, 2, "7b9"),)
    assert back.metre == (3, 4)


def test_the_melody_is_the_part_that_is_called_so() -> None:
    other, tune = Part("Piano", (Note(0, 12, 40),), role="chords"), Part("Sax", (Note(0, 12, 70),), role="melody")
    assert melody(ENCODING.decode(ENCODING.encode(Score((other, tune), 12, length_steps=12)))) == [(0, 12, 70)]
    assert melody(ENCODING.decode(ENCODING.encode(Score((other,), 12, length_steps=12)))) == [(0, 12, 40)]


def test_another_grid_is_put_on_this_one() -> None:
    quarters = Score((Part("", (Note(1, 1, 60), Note(2, 2, 62))),), steps_per_beat=4, length_steps=4)
    assert melody(ENCODING.decode(ENCODING.encode(quarters))) == [(3, 3, 60), (6, 6, 62)]


def test_a_transposition_moves_notes_and_chords_alike() -> None:
    score = lead_sheet([(0, 12, 65), (12, 12, 69), (24, 24, 72)], (Chord(0, 48, 5, "7"), Chord(48, 48, 10, "7")))
    ids = ENCODING.encode(score)
    shifts = set()
    for seed in range(60):
        moved = ENCODING.decode(ENCODING.augment(ids, np.random.default_rng(seed)))
        shift = moved.parts[0].notes[0].pitch - 65
        shifts.add(shift)
        assert [note.pitch for note in moved.parts[0].notes] == [65 + shift, 69 + shift, 72 + shift]
        assert [chord.root for chord in moved.chords] == [(5 + shift) % 12, (10 + shift) % 12]
        assert len(ENCODING.augment(ids, np.random.default_rng(seed))) == len(ids)
    assert shifts == set(range(-5, 7))


def test_the_context_says_the_place_the_chord_and_what_the_note_is_to_it() -> None:
    chords = parse_progression("F7 | Bb7 | F7 | %")
    ids = np.array([BOS, *ENCODING.encode(lead_sheet([(0, 36, 65), (36, 24, 69), (60, 132, 62)], chords))])
    row = ENCODING.context(ids)[-7]  # after the second note's length: step 60, the second bar's second beat
    stage, in_bar, in_beat, bar, left, ahead, root, family, next_root, next_family, *roles, pitch, last = row
    assert (stage, in_bar, in_beat, bar, left, ahead) == (3, 13, 1, 1, 3, 3)
    assert (root - 1, FAMILIES[family - 1]) == (10, "7")
    assert (next_root - 1, FAMILIES[next_family - 1]) == (5, "7")
    assert {pitch for pitch, role in enumerate(roles) if role in (1, 2)} == chord_tones(chords[1])
    assert roles[10] == 1
    assert (pitch - 1 + LOWEST, last) == (69, roles[69 % 12])


def test_while_the_form_is_written_its_place_and_latest_chord_are_known() -> None:
    chords = parse_progression("F7 | Bbm7", (3, 4))
    ids = np.array([BOS, *ENCODING.form_ids(Form((3, 4), 2, 12, 72 + 12, tuple(chords)))])
    row = ENCODING.context(ids[:-1])[-1]  # after the second chord's length: step 72 after an upbeat of 12
    assert ENCODING.signs.read_form(ids.tolist()).upbeat == 12
    stage, in_bar, in_beat, bar, written, ahead, root, family, *_ = row
    assert (stage, in_bar, in_beat, bar, written, ahead) == (1, 1, 1, 2, 2, 0)
    assert (root, family) == (0, 0)  # the last of the form is without a chord
    row = ENCODING.context(ids[:-3])[-1]
    assert (row[6] - 1, FAMILIES[row[7] - 1]) == (10, "m7")


def test_every_chord_kind_has_a_family_that_shares_its_third_and_seventh() -> None:
    assert set(FAMILY_OF) == set(KINDS)
    for kind, family in FAMILY_OF.items():
        missing = set(KINDS[FAMILIES[family]].tones) - set(KINDS[kind].tones)
        assert not missing & {3, 4} or kind in ("sus2", "5")


def test_columns_stay_within_their_sizes_in_every_metre() -> None:
    for metre in METRES:
        form = Form(metre, 1, 5, 400, (Chord(0, 100, 11, "m7"), Chord(300, 500, 0, "aug")), ((200, (2, 4)),))
        columns = form_columns(form, 12)
        assert columns.shape == (401, len(form_sizes(12)))
        assert (columns >= 0).all()
        assert (columns < np.array(form_sizes(12))).all()


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="not 3"):
        LeadSheet(steps_per_beat=3)
    with pytest.raises(UserError, match="isn't a metre"):
        ENCODING.prompt("Dm7 G7")
    with pytest.raises(UserError, match="limit of 5,461"):
        ENCODING.encode(lead_sheet([(0, 1 << 17, 60)]))
    ids, warnings = ENCODING.prompt("3/4")
    assert ENCODING.vocabulary.token(int(ids[0])) == "metre 3/4"
    assert not warnings


def test_an_encoding_that_saw_no_chords_gives_a_model_none() -> None:
    plain = LeadSheet()
    plain.fit([lead_sheet([(0, 12, 60)])])
    again = LeadSheet(**plain.options())
    again.set_learned(plain.learned())
    form = Form((4, 4), 2, 0, 96, parse_progression("F7 | Bb7"))
    assert again._form(again.form_ids(form)[:-1])[0].chords == ()
    assert again._form(again.form_ids(form)[:-1])[0].length == 96
    assert ENCODING._form(ENCODING.form_ids(form)[:-1])[0].chords == form.chords


def test_rules_know_where_the_music_stands() -> None:
    chords = parse_progression("F13 | Bb7")
    meaning = meaning_of(ENCODING, chords)
    ids = [BOS, *ENCODING.encode(lead_sheet([(0, 54, 65), (54, 42, 70)], chords))]
    begin = ids.index(ENCODING.signs.begin)
    assert meaning.moment(np.array(ids[:begin])) is None
    start = meaning.moment(np.array(ids[: begin + 1]))
    assert (start.step, start.in_bar, start.beat_steps, start.strong, start.sounding) == (0, 0, 12, True, (None,))
    assert start.chord == chords[0]  # as it was given, not its family
    chosen = meaning.moment(np.array(ids[: begin + 2]))
    assert (chosen.pending, chosen.held) == (65, 0)
    tied = meaning.moment(np.array(ids[: begin + 3]))
    assert (tied.step, tied.in_bar, tied.held, tied.pending, tied.history) == (48, 0, 48, None, (65,))
    choices = meaning.choices
    kinds = [int(choices.kind[id]) for id in ids[begin + 1 :]]
    assert kinds == [NOTE, LENGTH, HOLD, LENGTH, NOTE, LENGTH]
    assert [int(choices.duration[id]) for id in ids[begin + 1 :]] == [0, 48, 0, 6, 0, 42]
    assert int(choices.pitch[ids[begin + 1]]) == 65
