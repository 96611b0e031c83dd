"""MIDI files of drums and of pianos as they were played, and the data that are made instead of them."""

from __future__ import annotations

import numpy as np
import pytest
from music_files import TPQ, events, piano_piece, smf

from components.datasets.files.sandbox import Refused
from components.datasets.made.drums import MadeDrums
from components.datasets.made.piano import MadePiano
from components.datasets.music.performances import DrumsReader, PianoReader
from components.datasets.music.played import read_drums, read_piano
from components.errors import UserError
from components.score import note_columns

DRUMS = {"bars": 8, "min_notes": 1}
PIANO = {"seconds": 30.0, "min_notes": 1}


def hits(*rows: tuple[int, int, int]) -> bytes:
    """A file of drum hits (tick, key, velocity)."""
    parts = [(tick, bytes([0x99, key, loud])) for tick, key, loud in rows]
    parts += [(tick + 30, bytes([0x89, key, 0])) for tick, key, _ in rows]
    return smf(events(*sorted(parts)))


def notes(content: dict) -> np.ndarray:
    from components.datasets.music.reader import _score

    return note_columns(_score(content).parts[0].notes)


def test_hits_are_read_with_velocity_and_time_below_the_grid() -> None:
    row, content = read_drums(hits((0, 36, 100), (487, 38, 33), (1910, 22, 64), (500, 70, 50)), "a.mid", DRUMS)[0]
    start, _, key, loud = notes(content)
    assert list(zip(start.tolist(), key.tolist(), loud.tolist(), strict=True)) == [
        (0, 36, 100), (97, 38, 33), (382, 22, 64),
    ]  # fmt: skip
    assert '"hit of key 70, no piece of the kit": 1' in row["left_out"]
    assert (content["steps_per_beat"], content["timing"], row["reason"]) == (96, "played", "")
    late, content = read_drums(hits(*((2 * 4 * TPQ + 480 * n, 36, 90) for n in range(4))), "a.mid", DRUMS)[0]
    assert notes(content)[0, 0] == 0
    assert "2 silent bars before the first hit" in late["why"]


def test_a_long_file_is_cut_at_bars_and_an_early_hit_belongs_to_its_bar() -> None:
    bar = 4 * TPQ
    file = hits(*((n * bar - 6 * (n > 0), 36, 90) for n in range(20)))
    pieces = read_drums(file, "long.mid", DRUMS)
    assert [content["title"] for _, content in pieces] == [
        "long, bars 1 to 8", "long, bars 9 to 16", "long, bars 17 to 20",
    ]  # fmt: skip
    assert [notes(content).shape[1] for _, content in pieces] == [8, 8, 4]
    assert [content["length_steps"] for _, content in pieces] == [8 * 384, 8 * 384, 4 * 384]
    assert "moved to it (kept)" in pieces[0][0]["left_out"] or "moved to it (kept)" in pieces[1][0]["left_out"]
    assert len(read_drums(file, "long.mid", {**DRUMS, "bars": 0})) == 1


def test_a_performance_keeps_seconds_velocities_and_pedal() -> None:
    pedal = [(100, bytes([0xB0, 64, 127])), (900, bytes([0xB0, 64, 0])), (1000, bytes([0xB0, 64, 80]))]
    played = [
        (240, bytes([0x90, 60, 77])), (480, bytes([0x80, 60, 0])), (720, bytes([0x90, 64, 30])),
        (730, bytes([0x80, 64, 0])), (500, b"\xff\x51\x03" + (1_000_000).to_bytes(3, "big")),
    ]  # fmt: skip
    row, content = read_piano(smf(events(*sorted(pedal + played))), "p.mid", PIANO)[0]
    # 480 ticks are half a second, from tick 500 on a whole one
    assert notes(content).T.tolist() == [[0, 250, 60, 77], [729, 21, 64, 30]]
    assert content["parts"][0]["pedal"] == [[0, 1104]]  # the second time nothing sounds any more
    _, held = read_piano(smf(events(*sorted([*played, (600, bytes([0xB0, 64, 80]))]))), "p.mid", PIANO)[0]
    assert held["parts"][0]["pedal"] == [[479, 750]]  # it is never lifted: to the end of the music
    assert (content["timing"], row["reason"]) == ("seconds", "")


def test_a_long_performance_is_cut_before_a_note() -> None:
    rows = [(240 * n, bytes([0x90, 60 + n % 12, 80])) for n in range(200)]
    rows += [(240 * n + 200, bytes([0x80, 60 + n % 12, 0])) for n in range(200)]
    pieces = read_piano(smf(events(*sorted(rows))), "p.mid", {**PIANO, "seconds": 20.0})
    assert [notes(content).shape[1] for _, content in pieces] == [80, 80, 40]
    assert all(notes(content)[0, 0] == 0 for _, content in pieces)


@pytest.mark.parametrize(
    ("read", "data", "reason"),
    [
        (read_drums, smf(events((0, b"\x90\x3c\x40"), (9, b"\x80\x3c\x00"))), "has no drums"),
        (read_drums, smf(events((0, b"\xc0\x01"))), "has no notes"),
        (read_drums, hits((0, 70, 50)), "only percussion that is no piece"),
        (read_piano, hits((0, 36, 50)), "has only drums"),
        (read_piano, smf(events((0, b"\xc0\x28"), (0, b"\x90\x3c\x40"), (9, b"\x80\x3c\x00"))), "has no piano"),
        (read_piano, b"RIFFnothing", "isn't a MIDI file"),
    ],
)
def test_other_files_are_refused_with_the_reason(read, data, reason) -> None:
    with pytest.raises(Refused, match=reason):
        read(data, "x.mid", {**DRUMS, **PIANO})


@pytest.mark.slow
def test_folders_are_read_and_the_reader_says_which_other_one_takes_the_files(tmp_path) -> None:
    piano_piece(tmp_path / "piano" / "one.mid")
    with pytest.raises(UserError, match="no piece could be read from 1 files: 1 × has no drums") as error:
        list(DrumsReader([tmp_path / "piano"]).items())
    assert "read piano files with the reader piano" in error.value.hint
    reader = PianoReader([tmp_path / "piano"])
    (piece,) = reader.items()
    assert piece.timing == "seconds"
    assert any("only one velocity" in note and "one.mid" in note for note in reader.notes)
    assert reader.group(piece) == "one"


@pytest.mark.slow
def test_a_table_says_the_splits_and_what_isnt_in_it_is_left_out(tmp_path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.mid").write_bytes(hits(*((480 * n, 36 + 2 * (n % 2), 40 + number) for n in range(8))))
    rows = ["midi_filename,split", "0.mid,train", "1.mid,validation", "2.mid,test"]
    (tmp_path / "info.csv").write_text("\n".join(rows), encoding="utf-8")
    found = {}
    for part in ("train", "val", "test"):
        reader = DrumsReader([tmp_path])
        assert reader.holds_splits
        reader.part = part
        found[part] = [item.title for item in reader.items()]
        assert reader.dropped.total() == (2 if part == "train" else 1)  # the table itself, and 3.mid
    assert found == {"train": ["0"], "val": ["1"], "test": ["2"]}
    (tmp_path / "info.csv").write_text("midi_filename,split\n0.mid,dev-2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"info\.csv: unknown split 'dev-2' in the column split"):
        DrumsReader([tmp_path])
    (tmp_path / "info.csv").write_text('midi_filename,split\n"' + "x" * 200_000, encoding="utf-8")
    with pytest.raises(UserError, match=r"info\.csv: can't be read as a table: field larger"):
        DrumsReader([tmp_path])


@pytest.mark.slow
def test_made_data_are_the_same_every_time_and_played_like_a_person() -> None:
    for reader in (MadeDrums, MadePiano):
        one, again, other = (list(reader(count=12, seed=seed).items()) for seed in (0, 0, 1))
        assert one == again != other
        assert reader(count=12).digest() == reader(count=12).digest() != reader(count=12, seed=1).digest()
        made = reader(count=12)
        assert len({made.group(item) for item in made.items()}) > 8
        for item in one:
            start, duration, _, velocity = note_columns(item.parts[0].notes)
            assert velocity.std() > 5
            assert (start >= 0).all()
            assert (duration > 0).all()
            if item.only_drums:
                off = (start + 12) % 24 - 12  # from the sixteenth
                assert 0.5 < off.std() < 8
    assert sum(bool(item.parts[0].pedal) for item in one) > 5


def test_a_path_or_a_card_takes_the_place_of_made_data() -> None:
    from components.schema import check_data

    problems: list[str] = []
    given = check_data({"reader": "made-drums", "path": "beats"}, problems)
    card = check_data({"reader": "made-piano", "dataset": "maestro"}, problems)
    assert problems == []
    assert (given["reader"], given["bars"], card["reader"], card["dataset"]) == ("drums", 8, "piano", "maestro")
    check_data({"reader": "made-drums", "path": "beats", "count": 3}, problems)
    assert len(problems) == 1
    assert "data.count" in problems[0]
