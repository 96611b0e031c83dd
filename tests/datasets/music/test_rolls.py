"""Piano rolls of every file that they are passed on in; and one grid for reader and encoding."""

from __future__ import annotations

import json
import pickle
import shlex
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from components.datasets.files.sandbox import Refused
from components.datasets.ingest import ingest
from components.datasets.music.roll_files import read
from components.datasets.music.rolls import RollsReader
from components.datasets.sources import on_one_grid
from components.datasets.store import Store
from components.errors import UserError
from components.recipe import Recipe

# three pieces to train on, one for each other split; a frame is a chord
PIECES = {"train": [[[60, 64], [62]], [[48]], [[50], [], [52]]], "valid": [[[61]]], "test": [[[59, 71]] * 3]}


def roll(piece, keys=88) -> np.ndarray:
    array = np.zeros((len(piece), keys), np.uint8)
    for frame, pitches in enumerate(piece):
        array[frame, [pitch - (21 if keys == 88 else 0) for pitch in pitches]] = 1
    return array


def cells(pieces) -> np.ndarray:
    made = np.empty((1, len(pieces)), dtype=object)
    for at, piece in enumerate(pieces):
        made[0, at] = roll(piece)
    return made


def write(path, ending):
    path = path / f"rolls.{ending}"
    if ending == "mat":
        savemat(path, {f"{name}data": cells(pieces) for name, pieces in PIECES.items()}, do_compression=True)
    elif ending == "npz":
        arrays = {f"{s}_{n}": roll(piece, 128) for s, pieces in PIECES.items() for n, piece in enumerate(pieces)}
        np.savez_compressed(path, **arrays)
    elif ending == "npy":
        np.save(path, roll(PIECES["test"][0]))
    else:
        path.write_text(json.dumps(PIECES if ending == "json" else PIECES["train"]), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["json", "mat", "npz"])
def test_a_set_with_its_splits_is_read_from_every_kind_of_file(tmp_path, ending) -> None:
    data = {"path": str(write(tmp_path, ending)), "reader": "rolls"}
    encoding = {"kind": "pianoroll", "steps_per_beat": 2}
    store = Store.open(ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
    frames = {split: store.manifest["counts"][split]["tokens"] for split in ("train", "val", "test")}
    assert frames == {"train": 6, "val": 1, "test": 3}, "a frame of the file is a frame of the store"
    first = store.encoding().decode(store.split("train")[0]["frames"])
    assert sorted(note.pitch for note in first.parts[0].notes) == [60, 62, 64]


@pytest.mark.slow
def test_pieces_without_splits_are_dealt_out(tmp_path) -> None:
    assert len(list(RollsReader([write(tmp_path, "npy")]).items())) == 1
    path = tmp_path / "list.json"
    path.write_text(json.dumps(PIECES["train"]), encoding="utf-8")
    reader = RollsReader([path])
    assert not reader.holds_splits
    assert len(list(reader.items())) == 3
    assert RollsReader([write(tmp_path, "json")]).holds_splits


@pytest.mark.parametrize(("silent", "told"), [(5, True), (1, False)])
def test_silence_at_the_ends_of_pieces_is_told(tmp_path, silent, told) -> None:
    pieces = [[[60], []] * 15 + [[62]] + [[]] * silent, [[64]] * 30]
    (tmp_path / "padded.json").write_text(json.dumps(pieces), encoding="utf-8")
    reader = RollsReader([tmp_path / "padded.json"])
    assert [len(list(reader.items())) for _ in range(2)] == [2, 2]
    said = "warning: padded.json: 5 of 66 frames are silence at the ends of pieces (padding? save the pieces without it"
    assert [note[: len(said)] for note in reader.notes] == [said] * told


@pytest.mark.slow
def test_a_pickle_is_refused_and_the_way_out_works_when_typed(tmp_path) -> None:
    path = tmp_path / "my set.pickle"
    path.write_bytes(pickle.dumps({name: [[tuple(f) for f in p] for p in ps] for name, ps in PIECES.items()}))
    with pytest.raises(UserError, match="a pickle file, which isn't read") as caught:
        RollsReader([path]).holds_splits  # noqa: B018
    command = shlex.split(str(caught.value.hint).partition(": ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert json.loads((tmp_path / "my set.json").read_text()) == PIECES


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"train": np.zeros((5, 7))}, "a piece of 5 × 7"),
        ({"train": np.full((5, 88), 3)}, "numbers other than 0 and 1"),
        ({"train": np.full((5, 88), np.nan)}, "numbers other than 0 and 1"),
        ({"music": np.zeros((5, 88))}, "contains 'music'"),
        ({"train": np.array([[None]])}, "contains a pickle"),
    ],
)
def test_what_is_no_roll_in_numpys_files_is_refused(tmp_path, arrays, said) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(Refused, match=said):
        read((tmp_path / "x.npz").read_bytes(), "x.npz", {})


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + bytes(200), b"\x89HDF" + bytes(600)])
def test_what_is_no_matlab_file_is_refused(content) -> None:
    with pytest.raises(Refused, match="isn't a MATLAB file"):
        read(content, "x.mat", {})


@pytest.mark.slow
def test_a_bomb_ends_only_the_process_that_reads_it(tmp_path) -> None:
    path = tmp_path / "x.npz"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000, 88), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("train.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(UserError, match="more memory than a file may"):
        list(RollsReader([path]).items())


def recipe(**sections) -> Recipe:
    values = {
        "data": {"path": "x.json", "reader": "rolls"},
        "encoding": {"kind": "pianoroll", "steps_per_beat": 2},
        "task": {"kind": "frame_model"},
        "model": {"kind": "gru"},
    }
    return Recipe.from_dict("rolls", {name: values[name] | sections.get(name, {}) for name in values})


def test_reader_and_encoding_have_one_grid_or_are_refused() -> None:
    assert recipe().data["frames_per_beat"] == 2
    assert recipe(data={"frames_per_beat": 4}).data["frames_per_beat"] == 4
    with pytest.raises(UserError, match=r"data.frames_per_beat: 1 steps per beat(.|\n)*data.frames_per_beat=2"):
        recipe(data={"frames_per_beat": 1})
    with pytest.raises(UserError, match="frames_per_beat"):
        recipe(data={"frames_per_beat": 3})


@pytest.mark.parametrize("encoding", ["notes", "events", "lead_sheet", "pianoroll"])
def test_music_is_not_read_on_a_coarser_grid_than_it_is_encoded_on(encoding) -> None:
    assert on_one_grid({"steps_per_beat": 12}, {"kind": encoding, "steps_per_beat": 4}, "music")["steps_per_beat"] == 12
    with pytest.raises(UserError, match=r"data.steps_per_beat=24"):
        on_one_grid({}, {"kind": encoding, "steps_per_beat": 24}, "music")
    inner = {"kind": "conditioned", "encoding": {"kind": encoding, "steps_per_beat": 24}}
    with pytest.raises(UserError, match="12 steps per beat"):
        on_one_grid({}, inner, "music")
    assert on_one_grid({}, {"kind": "characters"}, "text") == {}
