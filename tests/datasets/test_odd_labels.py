"""Small doubts about labels, series, strokes and sounds, each with a file of its own."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from components.datasets.ingest import ingest
from components.datasets.media.audio import WavReader
from components.datasets.media.strokes import StrokesReader
from components.datasets.series.table import SeriesTableReader
from components.datasets.store import Store
from components.datasets.text.parallel import ParallelReader
from components.encodings.doubts import Doubts, understood
from components.encodings.words import Words
from components.errors import UserError

LABELS = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "labels"}}


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["TRUE", "FALSE", "1", "0"], "yes and no in several spellings"),
        (["yes", "no"], ""),
        (["up", "'up'", "down"], "labels that differ only in case, blanks or signs"),
        (["C", "C++", "C#"], ""),
        (["y", "n", "x"], ""),
        (
            ["a;b", "a", "b;c", "c"],
            "labels that seem to be several labels joined, each treated as a label of its own: 'a;b'",
        ),
        (["rock & roll", "jazz", "x;y"], ""),
        (["10%", "20%", "30%", "40%", "50%", "60%"], "the labels are numbers with a unit: "),
        (["cat", "c\u0430t", "dog"], "labels that differ only in case, blanks or signs"),  # a Cyrillic letter
    ],
)
@pytest.mark.slow
def test_labels_that_mean_the_same_are_told(labels: list[str], told: str, tmp_path) -> None:
    rows = "".join(f"raft {n},{labels[n % len(labels)]}\n" for n in range(24))
    (tmp_path / "t.csv").write_text(f"text,kind\n{rows}", encoding="utf-8")
    data = {"path": "t.csv", "reader": "table", "split": [0.6, 0.2, 0.2]}
    notes = Store.open(ingest(data, LABELS, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path).manifest["notes"]
    assert [told in note for note in notes] == [True] * bool(told)


@pytest.mark.slow
def test_an_encoding_that_does_not_fit_the_reader_is_refused(tmp_path) -> None:
    (tmp_path / "t.conll").write_text("\n\n".join(f"Ann{n} B\nruns O" for n in range(9)))
    data = {"path": "t.conll", "reader": "conll", "split": [0.6, 0.2, 0.2]}
    encoding = {"kind": "pair", "input": {"kind": "tokens"}, "target": {"kind": "labels"}}
    with pytest.raises(UserError, match="which the encoding pair can't read"):
        ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0)


def series(folder: Path, head: str, rows: list[str]) -> SeriesTableReader:
    (folder / "s.csv").write_text("\n".join([head, *rows]))
    return SeriesTableReader([folder / "s.csv"], horizon=2)


@pytest.mark.slow
def test_a_series_that_sums_up_the_others_is_told_and_a_time_of_day_is_no_series(tmp_path) -> None:
    made = series(tmp_path, "day,a,b,Total", [f"2023-05-{n + 1:02},{n},{n * n},{n + n * n}" for n in range(20)])
    assert len(list(made.items())) == 3
    assert any("series called Total: are they sums of the others?" in note for note in made.notes)
    twice = [f"2023-05-{n + 1:02},{name},{n}" for n in range(20) for name in ("north", "North ", "05", "5", "east")]
    made = series(tmp_path, "day,place,y", twice)
    assert len(list(made.items())) == 5
    assert "'north' and 'North'; '05' and '5'" in "".join(made.notes)
    hours = [f"2023-05-{1 + n // 24:02},{n % 24:02}:00,{n % 7}" for n in range(24 * 20)]
    with pytest.raises(UserError, match="the date is in day, but the time of day in hour"):
        list(series(tmp_path, "day,hour,y", hours).items())


def strokes(folder: Path, *drawings: list) -> StrokesReader:
    (folder / "s.ndjson").write_text("\n".join(json.dumps({"word": "w", "drawing": one}) for one in drawings))
    return StrokesReader([folder / "s.ndjson"])


def test_strokes_as_lists_of_points_are_refused_or_told(tmp_path) -> None:
    of_axes, two, five = [[0, 1, 4], [2, 2, 5]], [[0, 1], [2, 2]], [[0, 1], [2, 2], [3, 4], [5, 5], [6, 6]]
    made = strokes(tmp_path, [of_axes, two], [of_axes])
    assert len(list(made.items())) == 2
    assert made.notes == []
    with pytest.raises(UserError, match=r"line 2: isn't a drawing: a stroke of 5 lists"):
        list(strokes(tmp_path, [two], [five, two]).items())
    made = strokes(tmp_path, [two, two], [two])
    assert len(list(made.items())) == 2
    assert "every stroke has two points" in made.notes[0]


def test_a_translation_with_nul_characters_is_read_and_not_called_skipped(tmp_path) -> None:
    (tmp_path / "a.de").write_bytes(b"ein\0 Boot\nzwei")
    (tmp_path / "a.en").write_text("a boat\ntwo")
    made = ParallelReader([tmp_path], source="de", target="en")
    assert list(made.items()) == [("ein Boot", "a boat"), ("zwei", "two")]
    assert (made.passed_over, dict(made.dropped)) == ({}, {"NUL character": 1})


def test_a_first_word_that_is_known_from_within_texts_is_read_as_there() -> None:
    encoding, doubts = Words(), Doubts()
    encoding.fit(["the boat sinks", "a boat"])
    assert understood(encoding, "boat sinks", "text 1", doubts) == " boat sinks"
    assert understood(encoding, "the boat", "text 2", doubts) == "the boat"
    assert understood(encoding, "boat", "text 3", doubts, exactly=True) == "boat"
    assert doubts.lines() == ["warning: the model knows no word of it, so its answer is meaningless: 1 input (text 3)"]


def test_sounds_that_are_silent_short_or_clipped_are_told(tmp_path) -> None:
    tone = np.sin(np.arange(4000) / 3)
    sounds = {
        "one_1": 0.5 * tone,
        "two_1": 0.0 * tone,
        "two_2": 9 * tone,
        "one_2": 0.5 * tone[:99],
        "one_3": 0.99 * tone,
    }
    for name, samples in sounds.items():
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    made = WavReader([tmp_path], file_name="{text}_{number}")
    for _ in range(2):
        assert len(list(made.items())) == 5
    assert sorted(made.notes) == [
        "warning: 1 × clipped sound: many samples are at full scale: two_2.wav",
        "warning: 1 × silent sound: two_1.wav",
        "warning: 1 × sound shorter than 0.03 s: one_2.wav",
    ]
