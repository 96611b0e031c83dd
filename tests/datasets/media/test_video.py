"""Video files as pictures: what is on the screen when, which way it moves, and what can be wrong with a file."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.bundle import load_bundle, save_bundle
from components.datasets.files.sandbox import Refused
from components.datasets.ingest import ingest
from components.datasets.made.moving import MOVES, MovingShapes
from components.datasets.media.video import VideoReader, decode
from components.datasets.store import Store
from components.encodings.base import encoding_from_state
from components.encodings.pictures import Pictures
from components.errors import UserError
from components.recipe import Recipe
from components.training.session import Session

av = pytest.importorskip("av", reason="needs av: pip install av")
OPTIONS = {"rate": 10.0, "size": 16, "max_seconds": 5.0}


def film(
    path: Path, pictures: np.ndarray, *, rate: int = 10, codec: str = "mpeg4", rotation: int = 0, title: str = ""
) -> Path:
    """A video file of grey pictures uint8 [T, height, width]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures.shape[1:]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="gray")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def steps(count: int, size: int = 64) -> np.ndarray:
    """Picture k has the grey 40 + 10 k."""
    return np.broadcast_to((40 + 10 * np.arange(count, dtype=np.uint8))[:, None, None], (count, size, size))


def read(path: Path, **options) -> np.ndarray:
    """As the sandbox's worker does."""
    _, content = decode(path.read_bytes(), path.name, OPTIONS | options)
    return np.frombuffer(base64.b64decode(content), np.uint8).reshape(-1, 16, 16)


def test_a_title_in_another_alphabet_is_no_obstacle(tmp_path):
    path = film(tmp_path / "a.mkv", steps(3), title="Zoo im Mai")
    content = path.read_bytes().replace(b"Zoo im Mai", b"Z\xfcrich \xe9t\xe9")
    assert content != path.read_bytes()
    path.write_bytes(content)
    assert len(read(path)) == 3


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "h264"), ("a.avi", "mpeg4"), ("a.mkv", "mjpeg"), ("a.webm", "vp8"), ("a.mpg", "mpeg1video")],
)
def test_the_kinds_of_files_that_people_have_are_read(tmp_path, name, codec):
    found = read(film(tmp_path / name, steps(12), rate=25, codec=codec), rate=25)
    assert found.shape == (12, 16, 16)
    greys = found.mean((1, 2))
    assert (np.diff(greys) > 5).all()
    assert np.abs(greys - steps(12).mean((1, 2))).max() < 20  # some codecs keep grey in 16 … 235


def test_each_picture_is_the_one_on_the_screen_at_its_time(tmp_path):
    path = film(tmp_path / "a.avi", steps(12), rate=20)
    seen = [round((grey - 40) / 10) for grey in read(path, rate=20).mean((1, 2))]
    assert seen == list(range(12))
    halved = [round((grey - 40) / 10) for grey in read(path, rate=10).mean((1, 2))]
    assert halved == [0, 2, 4, 6, 8, 10]
    doubled = [round((grey - 40) / 10) for grey in read(path, rate=40).mean((1, 2))]
    assert doubled == [at // 2 for at in range(23)]


def test_a_video_held_upright_is_turned_upright(tmp_path):
    lit = np.zeros((4, 64, 64), np.uint8)
    lit[:, :32, :32] = 250  # above left
    for rotation, bright in ((0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (-90, (0, 1))):
        found = read(film(tmp_path / f"{rotation}.mp4", lit, codec="h264", rotation=rotation))
        quarters = found[0].reshape(2, 8, 2, 8).mean((1, 3))
        assert np.unravel_index(quarters.argmax(), (2, 2)) == bright, rotation


@pytest.mark.slow
def test_videos_of_another_aspect_ratio_are_told(tmp_path):
    wide, high = np.full((2, 36, 64), 90, np.uint8), np.full((2, 64, 36), 90, np.uint8)
    files = [film(tmp_path / f"{at}.avi", wide) for at in range(3)]
    files.append(film(tmp_path / "turned.mp4", high, codec="h264", rotation=90))  # 16:9 as it is shown
    reader = VideoReader(files, size=16)
    list(reader.rows(labelled=False))
    assert reader.notes == []
    reader = VideoReader([*files, film(tmp_path / "high.avi", high)], size=16)
    for _ in range(2):
        list(reader.rows(labelled=False))
        (note,) = reader.notes
        assert "1 of 5 videos have another aspect ratio than 1.78 (high.avi: 0.56)" in note


def bad_files(folder: Path) -> dict[str, Path]:
    good = film(folder / "good.mp4", steps(12), codec="h264").read_bytes()
    contents = {
        "can't be read as a video: ": good[:200],
        "contains only zeros": bytes(1000),
        "is empty": b"",
        "can't be read": b"no video at all\n" * 50,
        # FFmpeg follows such lists to other files of the machine
        "can't be read as a video": f"ffconcat version 1.0\nfile '{folder / 'good.mp4'}'\n".encode(),
        "can't be read as a": f"#EXTM3U\n#EXTINF:1,\n{folder / 'good.mp4'}\n#EXT-X-ENDLIST\n".encode(),
    }
    paths = {}
    for number, (reason, content) in enumerate(contents.items()):
        paths[reason] = folder / f"{number}.mp4"
        paths[reason].write_bytes(content)
    paths["is longer than 2 s"] = film(folder / "long.avi", steps(30))
    paths["has no pictures"] = sound(folder / "sound.avi")
    return paths


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    return path


@pytest.mark.slow
def test_what_cannot_be_read_is_named_and_the_rest_is_read(tmp_path):
    files = bad_files(tmp_path / "bad")
    again = film(tmp_path / "z.avi", steps(3))
    reader = VideoReader([*files.values(), again], size=16, max_seconds=2)
    for _ in range(2):  # decoded, and as kept
        *bad, last = reader.rows(labelled=False)
        for row, reason in zip(bad, files, strict=True):
            assert reason in row.problem
            assert row.input is None
        assert (last.input.shape, last.problem, last.target) == ((3, 16, 16), "", None)
    assert len(list(reader.items())) == 1
    assert sum(reader.dropped.values()) == len(files)


def test_a_list_of_other_files_would_be_followed_without_the_whitelist(tmp_path):
    path = bad_files(tmp_path)["can't be read as a video"]
    with av.open(path.open("rb"), options={"safe": "0"}) as container:
        assert container.streams.video
    with pytest.raises(Refused):
        decode(path.read_bytes(), path.name, OPTIONS)


@pytest.mark.slow
@given(data=st.data())
def test_damage_gives_pictures_or_a_reason(damaged, data):
    content = bytearray(data.draw(st.sampled_from(damaged)))
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=60)):
        content[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(1, len(content)))
    with contextlib.suppress(Refused):
        decode(bytes(content[:end]), "a.mp4", OPTIONS)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("damaged")
    kinds = (("a.mp4", "h264"), ("a.avi", "mpeg4"), ("a.mkv", "mjpeg"))
    return [film(folder / name, steps(6), codec=codec).read_bytes() for name, codec in kinds]


def test_pictures_too_large_are_refused(tmp_path, monkeypatch):
    path = film(tmp_path / "a.mkv", steps(2), codec="mjpeg")
    assert len(read(path)) == 2
    monkeypatch.setattr("components.datasets.media.video.MOST_PIXELS", 64 * 64 - 1)
    with pytest.raises(Refused, match="64 × 64 pixels"):
        read(path)


@pytest.mark.slow
def test_labels_are_the_folders_or_stand_in_a_table(tmp_path):
    film(tmp_path / "go" / "a.avi", steps(3))
    film(tmp_path / "stop" / "b.avi", steps(4))
    (tmp_path / "stop" / "notes.txt").write_text("no video")
    assert [(len(x), label) for x, label in VideoReader([tmp_path], size=16).items()] == [(3, "go"), (4, "stop")]
    table = tmp_path / "which.csv"
    table.write_text("file,label\nstop/b.avi,walks\ngo/a.avi,runs\n")
    reader = VideoReader([table], size=16)
    assert [(len(x), label) for x, label in reader.items()] == [(4, "walks"), (3, "runs")]
    other = reader.digest()
    table.write_text("stop/b.avi,runs\ngo/a.avi,runs\n")
    assert VideoReader([table], size=16).digest() != other
    for line, said in (("../x.avi,a", "no such video"), ("none.avi,a", "no such video"), ("a.avi", "1 columns")):
        table.write_text(line)
        with pytest.raises(UserError, match=said):
            VideoReader([table])
    odd = tmp_path / "odd.csv"
    for line, said in (
        ("go/a.avi,b", "'go/a.avi' has the different label 'a' in an earlier line"),
        ("x" * 200_000, "limit"),
    ):
        odd.write_text(f"go/a.avi,a\ngo/a.avi,a\n{line}\n")
        with pytest.raises(UserError, match=said) as caught:
            VideoReader([odd])
        assert "odd.csv: line 3" in str(caught.value)
    odd.write_text("go/a.avi,a\ngo/a.avi,a\n")
    assert len(VideoReader([odd]).files) == 1
    odd.unlink()
    assert VideoReader([tmp_path]).passed_over == {"ending .csv": ["which.csv"], "ending .txt": ["stop/notes.txt"]}


def test_without_pyav_the_way_to_get_it_is_told(tmp_path, monkeypatch):
    reader = VideoReader([film(tmp_path / "a.avi", steps(2))])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install") as raised:
        list(reader.items())
    assert "PyAV" in raised.value.what


def moved(rng: np.random.Generator, way: tuple[int, int], bright: int) -> np.ndarray:
    picture = rng.normal(0, 20, (2, 2))[:, :, None, None] * np.ones((1, 1, 6, 6))
    ground = np.zeros((32, 32))
    ground[10:22, 10:22] = picture.transpose(0, 2, 1, 3).reshape(12, 12) + 80
    return 128 + bright * np.stack([ground, np.roll(ground, way, (0, 1))])


@given(seed=st.integers(0, 2**32 - 1), turn=st.integers(0, 3), bright=st.sampled_from([-1, 1]))
def test_movement_is_counted_under_its_direction(seed, turn, bright):
    """Directions begin at the right and go clockwise, as rows are counted downwards."""
    way = [(0, 1), (1, 0), (0, -1), (-1, 0)][turn]
    encoding = Pictures(grid=2, directions=4)
    frames = encoding.movement(moved(np.random.default_rng(seed), way, bright))
    assert frames.shape == (2, 16)
    assert not frames[0].any()
    assert np.square(frames[1]).reshape(4, 4).sum(0).argmax() == turn


def test_what_stands_still_or_changes_everywhere_alike_has_no_movement():
    picture = np.random.default_rng(0).integers(0, 255, (32, 32))
    assert not Pictures().movement(np.stack([picture] * 5)).any()
    assert not Pictures().movement(steps(5)).any()


def test_pictures_are_rebuilt_from_their_state_and_refuse_what_is_none():
    encoding = Pictures(grid=3, directions=6)
    clips = [clip for clip, _ in MovingShapes(count=5).items()]
    encoding.fit(clips)
    frames = encoding.encode(clips[0])
    assert frames.shape == (16, 54) == (16, encoding.fields["frames"].width)
    again = encoding_from_state(encoding.state())
    assert np.array_equal(again.encode(clips[0]), frames)
    together = np.concatenate([encoding.encode(clip) for clip in clips])
    assert np.square(together).mean() == pytest.approx(1, rel=1e-4)
    for wrong in (np.zeros((3, 2)), np.zeros((0, 8, 8)), np.zeros((4, 2, 2)), np.array([[["a"] * 4] * 4])):
        with pytest.raises(UserError, match="pictures must be numbers"):
            encoding.encode(wrong)


@pytest.mark.slow
def test_a_gru_tells_from_files_which_way_a_shape_moves(tmp_path, silent):
    """Files, frames, features, training and the answer to a new file."""
    for number, (clip, label) in enumerate(MovingShapes(count=180, pictures=8, seed=1).items()):
        film(tmp_path / "clips" / label / f"{number}.avi", clip.repeat(2, 1).repeat(2, 2))
    recipe = Recipe.from_dict(
        "moves",
        {
            "data": {"path": str(tmp_path / "clips"), "reader": "video", "split": [0.7, 0.1, 0.2]},
            "encoding": {"kind": "pair", "input": {"kind": "pictures"}, "target": {"kind": "labels"}},
            "task": {"kind": "classification"},
            "model": {"kind": "gru", "hidden_size": 24},
            "training": {"steps": 90, "batch_size": 32, "learning_rate": 1e-2},
            "evaluation": {"every": 30},
        },
    )
    ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    session = Session(recipe, Store.open(ref.path), "cpu", 1)
    session.train(tmp_path / "run", silent)
    assert session.evaluate("test")["accuracy"] >= 0.9
    save_bundle(
        tmp_path / "bundle", "moves", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"}
    )
    bundle = load_bundle(tmp_path / "bundle")
    clips = {label: clip for clip, label in MovingShapes(count=60, pictures=8, seed=2).items()}
    assert set(clips) == set(MOVES)
    new = [film(tmp_path / f"{label}.mp4", clip, codec="h264") for label, clip in clips.items()]
    rows = list(VideoReader(new).inputs())
    right = [
        row.shown["file"].startswith(answer["label"])
        for row, answer in zip(rows, bundle.predict([row.input for row in rows]), strict=True)
    ]
    assert sum(right) >= 5
