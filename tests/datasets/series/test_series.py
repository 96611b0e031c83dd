"""Series of numbers: `.ts` files, a series a row, a file a series; and movement as a model reads it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.datasets.batches.examples import ExampleBatches
from components.datasets.series.labelled import FrameFilesReader, SeriesRowsReader, TsReader
from components.datasets.store import Examples, Sequences
from components.encodings.base import encoding_from_state
from components.encodings.motion import Motion
from components.errors import UserError

TS = """# a comment
@problemName Toy
@dimensions 2
@classLabel true up down
@data
1,2,3:4,5,6:up
1,2:4,5:down
1,2:4,5,6:up
1,?:4,5:up
1,nan:4,5:up
(0,1):(0,2):up
1,2:4,5:down
"""


def write(folder, content, name="x.ts"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def plain(items):
    return [(series.tolist(), label) for series, label in items]


def test_a_ts_file_gives_steps_of_channels_and_counts_what_it_leaves_out(tmp_path):
    reader = TsReader([write(tmp_path, TS)])
    assert plain(reader.items()) == [([[1, 4], [2, 5], [3, 6]], "up"), ([[1, 4], [2, 5]], "down")]
    assert reader.dropped == {
        "channels of unequal length": 1,
        "missing value": 2,
        "has time stamps": 1,
        "repeated": 1,
    }
    assert [row.problem for row in reader.inputs()].count("") == 3
    first, second, *_ = reader.items()
    assert reader.group(first) != reader.group(second)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("@problemName x\n1,2:up\n", "before @data"),
        ("@problemName x\n", "there is no @data"),
        ("@classLabel true\n@data\n", "must be followed by the labels"),
        ("@classLabel true up down\n@data\n1:2:upp\n", r"line 3: unknown label 'upp'\. Did you mean 'up'\?"),
    ],
)
def test_what_is_no_ts_file_is_refused(tmp_path, content, said):
    with pytest.raises(UserError, match=said):
        list(TsReader([write(tmp_path, content)]).items())


def test_a_series_a_row_with_its_label_at_the_end(tmp_path):
    path = write(tmp_path, "FIRST,SECOND,0.5,1,a\n1,2,3,4,a\n1,2,3,4,a\n1,2,3,a\n1,2,3,4,5,6,b\n\n", "x.csv")
    reader = SeriesRowsReader([path], features=2, steps=2)
    assert plain(reader.items()) == [([[1, 2], [3, 4]], "a")]
    assert reader.dropped == {
        "not a number": 1,
        "repeated": 1,
        "empty line": 1,
        "not frames of 2 numbers and a label, separated by , ; or tabs": 1,
        "not 2 frames": 1,
    }
    assert [label for _, label in SeriesRowsReader([path], features=2).items()] == ["a", "b"]


@pytest.mark.parametrize("options", [{"features": 2}, {"features": 2, "steps": 2}, {"features": 1, "steps": 4}])
def test_a_row_to_be_predicted_may_lack_the_label(tmp_path, options):
    reader = SeriesRowsReader([write(tmp_path, "1,2,3,4\n5,6,7,8,a\n", "x.csv")], **options)
    rows = list(reader.inputs())
    assert [row.problem for row in rows] == ["", ""]
    assert [row.input.ravel().tolist() for row in rows] == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_files_of_frames_lie_in_a_folder_for_each_label(tmp_path):
    write(tmp_path, "x,y\n1,2\n3,4\n", "run/one.csv")
    write(tmp_path, "5\t6\n", "walk/two.tsv")
    write(tmp_path, "1,2\n3\n", "walk/uneven.csv")
    write(tmp_path, "not frames", "walk/notes.txt")
    np.save(tmp_path / "walk" / "three.npy", np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "walk" / "flat.npy", np.array([[[1.0]]]))
    np.save(tmp_path / "walk" / "code.npy", np.array([object()]), allow_pickle=True)
    (tmp_path / "walk" / "header.npy").write_bytes(
        b"\x93NUMPY\x01\x00F\x00{'descr': '<f8', 'shape': (99999999999,), 'f"
    )
    reader = FrameFilesReader([tmp_path])
    assert plain(reader.items()) == [
        ([[1, 2], [3, 4]], "run"),
        ([[0, 1], [2, 3], [4, 5]], "walk"),
        ([[5, 6]], "walk"),
    ]
    assert reader.dropped == {
        "frames of unequal length": 1,
        "not frames [steps, features] of numbers": 1,
        "not a NumPy array of numbers (ValueError)": 2,
    }
    assert reader.passed_over == {"ending .txt": ["walk/notes.txt"]}
    write(tmp_path, "1\n", "loud/four.CSV")
    assert len(FrameFilesReader([tmp_path]).files) == 8, "endings in capitals too"


def test_files_of_pictures_are_read_and_those_of_another_scale_told(tmp_path):
    for at, label in enumerate(("up", "up", "down", "down")):
        (tmp_path / label).mkdir(exist_ok=True)
        np.save(tmp_path / label / f"{at}.npy", np.full((2, 4, 4), at + 1, np.uint8))
    reader = FrameFilesReader([tmp_path])
    assert [(frames.shape, label) for frames, label in reader.items()] == [((2, 4, 4), "down")] * 2 + [
        ((2, 4, 4), "up")
    ] * 2
    assert reader.notes == ["warning: the pictures of 1 of 4 files go to 1, those of others to 4: scale all alike"]
    np.save(tmp_path / "up" / "0.npy", np.full((2, 4, 4), 2, np.uint8))
    reader = FrameFilesReader([tmp_path])
    assert len(list(reader.items())) == 3
    assert reader.notes == []
    assert reader.dropped == {"repeated": 1}


def test_arrays_that_lie_on_their_side_are_refused(tmp_path):
    for label, lengths in (("run", (40, 55)), ("walk", (61, 47))):
        (tmp_path / label).mkdir()
        for length in lengths:
            np.save(tmp_path / label / f"{length}.npy", np.ones((3, length)))
    with pytest.raises(UserError, match=r"3 rows, but 40 to 61 columns.*\n.*array\.T"):
        list(FrameFilesReader([tmp_path]).items())
    assert len(list(FrameFilesReader([tmp_path]).inputs())) == 4
    for path in tmp_path.glob("*/*.npy"):
        np.save(path, np.load(path).T)
    assert {len(frames) for frames, _ in FrameFilesReader([tmp_path], unique=False).items()} == {40, 55, 61, 47}


def test_the_index_that_pandas_writes_is_no_feature(tmp_path):
    write(tmp_path, ",x,y\n0,1.5,2\n1,3,4\n", "run/one.csv")
    assert plain(FrameFilesReader([tmp_path]).items()) == [([[1.5, 2], [3, 4]], "run")]
    write(tmp_path, ",x,y\n7,1.5,2\n9,3,4\n", "run/one.csv")  # of another meaning
    assert plain(FrameFilesReader([tmp_path]).items()) == [([[7, 1.5, 2], [9, 3, 4]], "run")]


SERIES = [np.random.default_rng(seed).normal([1, 5], [1, 3], (20, 2)).cumsum(0) for seed in range(8)]


def fitted(**options):
    encoding = Motion(**options)
    encoding.fit(SERIES)
    return encoding


@pytest.mark.parametrize("centre", [False, True])
def test_movement_is_places_and_their_changes(centre):
    encoding = fitted(centre=centre)
    frames = encoding.encode(SERIES[0])
    assert frames.shape == (20, encoding.fields["frames"].width)
    changes = np.concatenate([encoding.encode(series)[1:, 2:] for series in SERIES])
    assert np.sqrt((changes**2).mean(0)) == pytest.approx([1, 1], abs=1e-4)
    assert np.diff(frames[:, :2], axis=0) / encoding.change_W == pytest.approx(frames[1:, 2:], abs=1e-4)
    assert (encoding_from_state(encoding.state()).encode(SERIES[3]) == encoding.encode(SERIES[3])).all()
    if centre:
        assert encoding.encode(SERIES[0] + 100) == pytest.approx(frames, abs=1e-3)
    else:
        assert encoding.decode(frames) == pytest.approx(SERIES[0], abs=1e-3)


@pytest.mark.slow
@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_a_variant_keeps_its_length_and_its_changes_are_those_of_its_places(seed):
    encoding = fitted(warp=0.5, scale=0.2, rotate=10.0, jitter=0.1)
    frames = encoding.encode(SERIES[1])
    variant = encoding.augment(frames, np.random.default_rng(seed))
    assert variant.shape == frames.shape
    assert (variant != frames).any()
    assert np.diff(variant[:, :2], axis=0) / encoding.change_W == pytest.approx(variant[1:, 2:], abs=1e-4)
    assert fitted().augment(frames, np.random.default_rng(seed)) is frames


def test_bent_time_begins_and_ends_where_the_series_does():
    encoding = fitted(warp=1.0)
    frames = encoding.encode(SERIES[2])
    variant = encoding.augment(frames, np.random.default_rng(3))
    assert variant[[0, -1], :2] == pytest.approx(frames[[0, -1], :2], abs=1e-5)
    turned = fitted(rotate=20.0).augment(frames, np.random.default_rng(0))
    assert np.linalg.norm(turned[:, :2], axis=1) == pytest.approx(np.linalg.norm(frames[:, :2], axis=1), rel=1e-4)


@pytest.mark.slow
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12), epoch=st.integers(0, 3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
def test_variants_are_made_in_training_only_and_are_a_function_of_seed_epoch_and_row(lengths, epoch):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    examples = Examples(
        {name: Sequences(np.ones((offsets[-1], 2), np.float32), offsets) for name in ("input", "target")}
    )

    def batches(size, training=True):
        made = ExampleBatches(
            examples, batch_size=size, seed=5, training=training, augment=lambda x, rng: x + rng.random(x.shape)
        )
        return {
            int(row): inputs[:length].tolist()
            for batch in made.epoch(epoch)
            for row, inputs, length in zip(batch.rows, batch.inputs, batch.lengths_B, strict=True)
            if not inputs[length:].any()
        }

    alone = batches(1)
    assert len(alone) == len(lengths)
    assert batches(4) == alone, "whatever else is in the batch"
    assert all(step[0] > 1.0 for steps in alone.values() for step in steps)
    assert all(step == [1.0, 1.0] for steps in batches(4, training=False).values() for step in steps)


def test_series_of_a_table_program_have_semicolons_and_decimal_commas(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("1,5;2,5;-3;up\n1;2;3,25;down\n")
    rows = list(SeriesRowsReader([path]).items())
    assert [(series.ravel().tolist(), label) for series, label in rows] == [
        ([1.5, 2.5, -3.0], "up"),
        ([1.0, 2.0, 3.25], "down"),
    ]
