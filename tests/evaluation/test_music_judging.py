"""Judging tells real music from damaged and copied music, by figures whose value is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.errors import UserError
from components.evaluation.music import GRAM, UNITS, jensen_shannon, judge
from components.evaluation.music_lines import lines
from components.evaluation.music_picture import write_judgement
from components.evaluation.music_structure import STRUCTURE_UNITS, bar_lags, structure
from components.evaluation.voice_leading import FAULTS, faults, is_four_part
from components.progressions import parse_progression
from components.render.band import accompaniment
from components.score import Note, Part, Score


def line(pitches, durations=4, start=0, name="Melody") -> Part:
    notes, at = [], start
    for index, pitch in enumerate(pitches):
        length = durations if isinstance(durations, int) else durations[index % len(durations)]
        if pitch:
            notes.append(Note(at, length, pitch))
        at += length
    return Part(name, tuple(notes), role="melody")


def tune(pitches, durations=4, **facts) -> Score:
    part = line(pitches, durations)
    return Score((part,), length_steps=max(n.start + n.duration for n in part.notes), **facts)


def random_tune(seed: int, length: int = 64, shift: int = 0) -> Score:
    """A walk on the C major scale, moved by `shift`."""
    rng = np.random.default_rng(seed)
    scale = [p for p in range(55, 80) if p % 12 in (0, 2, 4, 5, 7, 9, 11)]
    places = np.clip(8 + np.cumsum(rng.choice([-2, -1, 1, 2, 3, -3], length)) % 14, 0, len(scale) - 1)
    return tune([scale[p] + shift for p in places], rng.choice([2, 4, 8], length).tolist())


def voices(*rows: str) -> Score:
    """Four voices, soprano first: a pitch a beat, "-" goes on, "." is silence."""
    parts = []
    for name, row in zip("SATB", rows, strict=True):
        notes: list[Note] = []
        for beat, word in enumerate(row.split()):
            if word == "-":
                notes[-1] = replace(notes[-1], duration=notes[-1].duration + 4)
            elif word != ".":
                notes.append(Note(4 * beat, 4, int(word)))
        parts.append(Part(name, tuple(notes)))
    return Score(tuple(parts), length_steps=16)


TRAINING = [random_tune(seed) for seed in range(8)]
HELD_OUT = [random_tune(seed) for seed in range(8, 12)]

COUNTS = st.dictionaries(st.integers(0, 5), st.integers(1, 9), min_size=1).map(Counter)


@pytest.mark.slow
@given(one=COUNTS, other=COUNTS, third=COUNTS)
def test_the_distance_is_a_metric_from_0_to_1(one, other, third):
    assert 0 <= jensen_shannon(one, other) <= 1
    assert jensen_shannon(one, other) == pytest.approx(jensen_shannon(other, one))
    assert jensen_shannon(one, Counter({k: 3 * v for k, v in one.items()})) == pytest.approx(0, abs=1e-7)
    assert jensen_shannon(one, third) <= jensen_shannon(one, other) + jensen_shannon(other, third) + 1e-9


def test_the_distance_in_numbers():
    assert jensen_shannon(Counter("a"), Counter("b")) == 1
    # 1 bit less the entropy of the mixture (3/4, 1/4), half of it: by hand 0.311278 bits
    assert jensen_shannon(Counter("a"), Counter("ab")) ** 2 == pytest.approx(0.311278, abs=1e-6)


def test_real_and_like_music_is_near_and_noise_is_far():
    rng = np.random.default_rng(0)
    noise = [tune(rng.integers(40, 90, 64).tolist(), rng.choice([3, 5, 16], 64).tolist()) for _ in range(4)]
    like = judge([random_tune(seed) for seed in range(20, 24)], TRAINING, HELD_OUT)
    far = judge(noise, TRAINING, HELD_OUT)
    for name in ("pitch_class", "interval", "duration", "metric_position"):
        figure = like[f"{name}_distance"]
        assert abs(figure["generated"] - figure["held_out"]) < 0.1
        assert far[f"{name}_distance"]["generated"] > figure["generated"] + 0.1
    assert like["notes_in_best_key"]["generated"] == 1 > far["notes_in_best_key"]["generated"]
    assert set(like) <= set(UNITS)
    assert not {f"{fault}_per_bar" for fault in FAULTS} & set(like), "a tune has no four voices"
    assert "strong_beats_on_chord_tones" not in like


@pytest.mark.parametrize("shift", [0, 5, -3])
def test_a_copy_is_a_copy_in_any_key(shift):
    copied = judge([random_tune(3, shift=shift)], TRAINING, HELD_OUT)
    assert copied["copied_8_grams"]["generated"] == 1
    assert copied["longest_copy_notes"]["generated"] == 64
    assert copied["pitch_class_distance"]["generated"] < 0.4
    assert copied["copied_8_grams"]["held_out"] < 0.2


def test_the_length_of_a_copied_stretch_is_told_in_notes():
    real, other = TRAINING[0].parts[0].notes, random_tune(50, 40).parts[0].notes
    moved = [replace(note, start=note.start + 400) for note in real[10:30]]
    score = Score((Part("a", (*other, *moved), role="melody"),), length_steps=600)
    table = judge([score], TRAINING[:1], HELD_OUT)
    assert 20 <= table["longest_copy_notes"]["generated"] <= 22  # a neighbour may match by chance
    assert table["copied_8_grams"]["generated"] == pytest.approx((20 - GRAM) / (40 + 20 - GRAM), abs=0.06)


def test_the_same_pitches_in_another_rhythm_are_no_copy():
    real = TRAINING[0].parts[0].notes
    slower = [replace(note, start=2 * note.start, duration=2 * note.duration + 1) for note in real]
    assert judge([Score((Part("a", tuple(slower)),))], TRAINING[:1], HELD_OUT)["copied_8_grams"]["generated"] == 0


def test_the_grid_makes_no_difference():
    fine = [
        replace(
            score,
            steps_per_beat=12,
            length_steps=3 * score.length_steps,
            parts=(Part("m", tuple(Note(3 * n.start, 3 * n.duration, n.pitch) for n in score.parts[0].notes)),),
        )
        for score in HELD_OUT
    ]
    table = judge(fine, TRAINING, HELD_OUT)
    assert all(values["generated"] == pytest.approx(values["held_out"]) for values in table.values())


def test_held_out_pieces_are_compared_in_groups_as_large_as_what_was_generated():
    one = judge(HELD_OUT[:1], TRAINING, HELD_OUT)["interval_distance"]
    all_four = judge(HELD_OUT, TRAINING, HELD_OUT)["interval_distance"]
    assert one["held_out"] > all_four["held_out"] == all_four["generated"]


@pytest.mark.slow
def test_repeated_bars_are_counted_across_metre_changes_and_upbeats():
    four = [60, 62, 64, 65]
    figure = "bars_repeated"
    assert judge([tune(four * 3)], TRAINING, HELD_OUT)[figure]["generated"] == pytest.approx(2 / 3)
    assert judge([tune([60, *four * 3], upbeat_steps=4)], TRAINING, HELD_OUT)[figure]["generated"] == pytest.approx(0.5)
    waltz = tune([*four, 67, 69, 71, 67, 69, 71], metre_changes=((16, (3, 4)),))
    assert judge([waltz], TRAINING, HELD_OUT)[figure]["generated"] == pytest.approx(1 / 3)


def test_chord_tones_on_strong_beats_are_counted_for_the_melody_alone():
    chords = parse_progression("C | G7", steps_per_beat=4)
    score = tune([60, 61, 66, 61, 65, 61, 71, 61], chords=chords)  # strong: C yes, F♯ no; F yes, B yes
    played = accompaniment(score)
    for one in (score, played):
        table = judge([one], TRAINING, HELD_OUT)
        assert table["strong_beats_on_chord_tones"] == {"generated": 0.75}
    assert len(lines(played)) == 1


def test_each_fault_is_found_and_a_clean_close_has_none():
    clean = voices("72 71 72 -", "67 67 67 -", "64 62 64 -", "48 55 48 -")
    assert not faults(clean).total()
    fifths = voices("67 69 . .", "64 64 - -", "60 62 . .", "48 47 - -")
    assert faults(fifths) == {**dict.fromkeys(FAULTS, 0), "parallel_fifths": 1}
    octaves = voices("72 74 - -", "67 67 - -", "64 65 - -", "60 62 - -")
    assert faults(octaves)["parallel_octaves"] == 1
    spacing = voices("79 79 - -", "65 67 - -", "60 - - -", "48 - - -")
    assert faults(spacing) == {**dict.fromkeys(FAULTS, 0), "wide_spacing": 1}
    crossed = voices("67 67 67 -", "69 65 - -", "60 - - -", "48 - - -")
    assert faults(crossed) == {**dict.fromkeys(FAULTS, 0), "crossed_voices": 1}


def test_held_fifths_contrary_motion_and_rests_are_no_parallels():
    for score in (
        voices("67 67 - -", "64 64 - -", "60 60 - -", "48 48 - -"),
        voices("67 62 - -", "64 - - -", "60 . 67 -", "48 - - -"),
        voices("67 81 - -", "64 71 - -", "60 50 - -", "48 43 - -"),  # fifth to fifth, apart
        voices("67 . 69 -", "64 - - -", "60 . 62 -", "48 - - -"),
    ):
        assert faults(score)["parallel_fifths"] == 0


def test_a_held_voice_is_looked_at_whenever_another_moves():
    moving = voices("67 69 71 -", "64 - - -", "60 62 64 -", "48 - - -")
    assert faults(moving)["parallel_fifths"] == 2


def test_four_voices_are_told_apart_from_four_hands():
    assert is_four_part(voices("72 - - -", "67 - - -", "64 - - -", "48 - - -"))
    assert not is_four_part(TRAINING[0])
    chord = Part("p", (Note(0, 4, 60), Note(0, 4, 64)))
    assert not is_four_part(Score((chord, chord, chord, chord)))
    with pytest.raises(ValueError, match="1 parts"):
        faults(TRAINING[0])


def test_faults_are_counted_per_bar():
    four = voices("67 69 . .", "64 64 - -", "60 62 . .", "48 47 - -")
    table = judge([four, replace(four, length_steps=48)], TRAINING, HELD_OUT)
    assert table["parallel_fifths_per_bar"] == {"generated": pytest.approx(2 / 4)}


@pytest.mark.parametrize("which", range(3))
def test_nothing_to_judge_is_an_error_that_says_which(which):
    pieces = [HELD_OUT, TRAINING, HELD_OUT]
    for empty in ([], [Score((Part("silence", ()),))]):
        pieces[which] = empty
        with pytest.raises(UserError, match=["generated", "training", "held-out"][which]):
            judge(*pieces)


@st.composite
def odd_scores(draw):
    notes = draw(st.lists(st.builds(Note, st.integers(0, 80), st.integers(1, 99), st.integers(0, 127)), max_size=12))
    parts = tuple(Part("p", tuple(sorted(notes))) for _ in range(draw(st.sampled_from([1, 4]))))
    metre = draw(st.sampled_from([(4, 4), (6, 8), (5, 4), (1, 32)]))
    return Score(parts, draw(st.sampled_from([1, 4, 7])), metre, draw(st.integers(0, 3)), draw(st.integers(0, 99)))


@pytest.mark.slow
@given(score=odd_scores())
def test_any_score_has_figures_in_their_bounds(score):
    if not any(part.notes for part in score.parts):
        return
    for name, values in judge([score], TRAINING, HELD_OUT).items():
        for value in values.values():
            assert 0 <= value <= (1 if UNITS[name] == "share" else 10_000)


@pytest.mark.slow
def test_the_picture_is_drawn_whatever_figures_there_are(tmp_path):
    four = voices("67 69 . .", "64 64 - -", "60 62 . .", "48 47 - -")
    full = judge([four], [four, *TRAINING], [four, *HELD_OUT])
    for index, table in enumerate((full, judge(HELD_OUT, TRAINING, HELD_OUT), {})):
        path = tmp_path / f"{index}.png"
        write_judgement(path, table, title="chorales $ v1")
        with Image.open(path) as image:
            assert image.size[0] == 1092
            # dots, lines and words are there; with no figures only the title is
            inked = (np.asarray(image.convert("L")) < 200).mean()
        assert (inked > 0.01) == bool(table)


def test_how_far_back_a_bar_s_nearest_copy_is_and_how_pieces_end():
    a, b, c, d = [60, 62, 64, 65], [67, 69, 71, 67], [72, 71, 69, 67], [64, 62, 60, 60]
    score = tune(
        [*a, *b, *a, *b, *a, *a, *c, *d], chords=parse_progression("C | G7 | C | G7 | C | C | F | C", (4, 4), 4)
    )
    assert bar_lags(score) == [0, 0, 2, 2, 2, 1, 0, 0]
    figures = structure([score])
    assert figures["bars_repeated"] == figures["bars_repeated_5_percent"] == 0.5
    assert (figures["repeats_from_2_bars"], figures["repeats_from_1_bars"], figures["repeats_from_4_bars"]) == (
        0.75,
        0.25,
        0,
    )
    ends = [figures[name] for name in ("ends_on_root", "ends_on_first_chord", "last_note_quarters", "bars")]
    assert ends == [1, 1, 1, 8]
    other = replace(score, chords=score.chords[:-1])
    assert structure([score, other])["ends_on_root"] == 0.5, "C isn't the root of F"
    assert structure([score, other])["ends_on_first_chord"] == 0.5
    assert "ends_on_root" not in structure([tune(a)])
    assert set(figures) <= set(STRUCTURE_UNITS)


@pytest.mark.parametrize(
    ("ending", "on_tonic", "on_triad"),
    [
        ("72 67 64 48", 1, 1),
        ("72 64 60 48", 1, 1),  # without its fifth
        ("76 67 60 52", 0, 1),  # over its third
        ("74 71 67 55", 0, 1),  # on the dominant
        ("74 71 65 55", 0, 0),  # a seventh
        ("72 67 60 48", 1, 0),  # no third
    ],
)
def test_how_a_piece_in_four_parts_ends(ending, on_tonic, on_triad):
    before = ["72 74 76 72", "67 67 67 67", "64 65 60 64", "48 50 52 48"]
    score = voices(*(f"{row} {note}" for row, note in zip(before, ending.split(), strict=True)))
    figures = structure([score])
    assert (figures["ends_on_tonic"], figures["ends_on_triad"]) == (on_tonic, on_triad)
    assert "ends_on_root" not in figures, "there are no chord symbols"
    assert "ends_on_triad" not in structure([replace(score, parts=score.parts[:2])])


def test_bars_are_counted_without_the_upbeat_and_by_the_metre_that_holds():
    assert structure([tune([60, *[62] * 8], upbeat_steps=4)])["bars"] == 2
    assert structure([tune([60] * 10, metre_changes=((16, (3, 4)),))])["bars"] == 3
    assert structure([Score(())]) == {}, "of nothing there are no figures"


def test_patterns_come_back_at_any_pitch_and_in_any_rhythm() -> None:
    motif = [60, 62, 65, 64, 67, 71]  # five intervals
    again = tune([*motif, *(pitch + 3 for pitch in motif)], [4, 2, 2, 8, 4, 1, 3])
    assert structure([again])["patterns_returned"] == 1 / 7, "of the 7 stretches of 5 intervals the last"
    assert structure([tune([60, 61, 63, 60, 67, 66, 70, 72])])["patterns_returned"] == 0.0
    assert structure([tune([60] * 10)])["patterns_returned"] == 4 / 5, "all but the first"
    assert "patterns_returned" not in structure([tune(motif[:5])]), "four intervals are no pattern"


def test_what_repeats_compresses() -> None:
    bar = [60, 62, 64, 65, 67, 69, 71, 72]
    repeated, varied = tune(bar * 12), random_tune(3, length=96)
    assert structure([repeated])["compression_ratio"] > 2 * structure([varied])["compression_ratio"]
    moved = random_tune(3, length=96, shift=5)
    assert structure([moved])["compression_ratio"] == structure([varied])["compression_ratio"], "letters have no pitch"
