"""Video files as small grey pictures at a fixed rate, decoded by FFmpeg (PyAV) in the sandbox."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import IO, Annotated, Any

import numpy as np
from pydantic import Field

from components.datasets.files.cells import lines, split_cells
from components.datasets.files.folders import ending
from components.datasets.files.sandbox import Limits, Refused, read_all
from components.datasets.files.text import TextFiles
from components.datasets.labelled import NamedLabels, Row, one_label
from components.errors import UserError, listed
from components.provenance import digest_json

# Common formats. No playlists: they contain other files and addresses, which FFmpeg would open.
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegvideo,gif,flv,asf,ogg"
VIDEOS = (
    ".mp4", ".m4v", ".mov", ".3gp", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".gif", ".flv", ".wmv", ".ogv",
)  # fmt: skip
TABLES = (".csv", ".tsv")
MOST_PIXELS = 4096 * 2304  # of a frame
MOST_PICTURES = 36_000  # of a clip
LIMITS = Limits(file_bytes=256 << 20, cpu_seconds=120.0, wall_seconds=600.0, memory_bytes=2 << 30)
TELL_EVERY = 100
ALIKE = 0.05  # aspect ratios that differ by less count as one


@dataclass(kw_only=True, eq=False)
class VideoReader(NamedLabels):
    """A folder with a folder for each label and videos in it, or a table of `file, label` lines next to its videos.

    Items: (uint8 [pictures, size, size], label). Pictures are grey, rotated upright and scaled to a square; a warning
    tells if the videos have several aspect ratios. `size`: width and height of a picture in pixels. `rate`: pictures a
    second, each the frame shown at its time. `max_seconds`: longer videos are dropped. Each file is decoded in a
    subprocess, so that a bad file can't crash the run; it is dropped with its reason.

    Raises:
        UserError: there are no videos, a video in a table is missing, or PyAV isn't installed.
    """

    endings = VIDEOS

    rate: Annotated[float, Field(gt=0, le=120)] = 10.0
    size: Annotated[int, Field(ge=8, le=128)] = 32
    max_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    workers: Annotated[int, Field(ge=1, le=64)] = 2

    def __post_init__(self, files: Sequence[Path]) -> None:
        tables = [path for path in files if ending(path) in TABLES]
        super().__post_init__([path for path in files if path not in tables])
        if self.rate * self.max_seconds > MOST_PICTURES:
            what = f"{self.rate:g} pictures per second for {self.max_seconds:g} s are more than {MOST_PICTURES:,}"
            raise UserError(what, where="data", hint="decrease data.rate or data.max_seconds")
        self.options = {"rate": float(self.rate), "size": self.size, "max_seconds": float(self.max_seconds)}
        self._label: dict[Path, str] = {}  # from a table; else a video's folder is its label
        for table in tables:
            self.files += self._listed(table)
        self._kept: IO[bytes] | None = None  # decoding is slow: later passes use the results of the first one
        self._outcomes: list[tuple[int, str]] = []  # number of pictures and reason of each file

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        found = one_label([path for path in self.files if path not in self._label]) if labelled else []
        self.decided += [note for note in found if note not in self.decided]
        decoded = self._decode() if self._kept is None else self._again()
        for path, (pictures, problem) in zip(self.files, decoded, strict=True):
            label = self._label.get(path, path.parent.name)
            yield Row(str(path), {"file": path.name}, pictures, label if labelled else None, problem)

    def digest(self) -> str | None:
        return digest_json([super().digest(), [self._label.get(path) for path in self.files]])

    def _decode(self) -> Iterator[tuple[np.ndarray | None, str]]:
        if importlib.util.find_spec("av") is None:
            raise UserError(
                "reading videos needs PyAV", where="data.reader: video", hint="pip install 'reprise[video]'"
            )
        kept, outcomes = tempfile.TemporaryFile(), []  # noqa: SIM115 - lives as long as the reader
        ratios: list[tuple[float, str]] = []  # width / height, file
        decoded = read_all("components.datasets.media.video:decode", self.files, self.options, LIMITS, self.workers)
        for number, outcome in enumerate(decoded, start=1):
            ratio, content = (0.0, b"") if outcome.reason else (outcome.value[0], base64.b64decode(outcome.value[1]))
            if ratio:
                ratios.append((ratio, self.files[number - 1].name))
            pictures = np.frombuffer(content, np.uint8).reshape(-1, self.size, self.size)
            outcomes.append((len(pictures), outcome.reason))
            kept.write(pictures.tobytes())
            yield (pictures if len(pictures) else None), outcome.reason
            if number % TELL_EVERY == 0:
                self.progress(f"decoded {number:,} of {len(self.files):,} videos")
        kept.flush()
        self.tell(_told(ratios))
        self._kept, self._outcomes = kept, outcomes  # only a whole pass is cached

    def _again(self) -> Iterator[tuple[np.ndarray | None, str]]:
        start, size = 0, self.size
        for count, reason in self._outcomes:
            content = os.pread(self._kept.fileno(), count * size * size, start)
            start += len(content)
            yield (np.frombuffer(content, np.uint8).reshape(count, size, size) if count else None), reason

    def _listed(self, table: Path) -> Iterator[Path]:
        """The videos in a table; a header line is skipped."""
        folder = table.parent.resolve()
        text = (line for _, line in lines(TextFiles(errors="refuse", max_bytes=None, dropped=self.dropped), table))
        separator = "\t" if ending(table) == ".tsv" else ","
        for number, line in enumerate(text, start=1):
            where = f"{table}: line {number}"
            cells = split_cells(line, separator, where)
            if not cells or (number == 1 and ending(Path(cells[0].strip())) not in VIDEOS):
                continue
            if len(cells) != 2:
                raise UserError(f"has {len(cells)} columns instead of two, file and label", where=where)
            path = (folder / cells[0].strip()).resolve()
            if not path.is_relative_to(folder) or not path.is_file():
                hint = "give paths relative to the table's folder, to files inside it"
                raise UserError(f"no such video {cells[0][:200]!r}", where=where, hint=hint)
            label = cells[1].strip()
            if self._label.get(path, label) != label:
                what = f"{cells[0]!r} has the different label {self._label[path]!r} in an earlier line"
                raise UserError(what, where=where, hint="leave one of them out")
            if path not in self._label:
                self._label[path] = label
                yield path


def _told(ratios: list[tuple[float, str]]) -> str:
    """A warning about videos whose aspect ratio isn't the usual one; "" if there are none."""
    usual = median_low(ratio for ratio, _ in ratios) if ratios else 1.0
    others = [f"{name}: {ratio:.2f}" for ratio, name in ratios if abs(ratio / usual - 1) > ALIKE]
    if not others:
        return ""
    return (
        f"warning: {len(others):,} of {len(ratios):,} videos have another aspect ratio than {usual:.2f} "
        f"({listed(others, 3)}): all are scaled to a square, which distorts them differently; crop them alike first"
    )


def decode(data: bytes, name: str, options: dict[str, Any]) -> tuple[float, str]:
    """A video's width / height as shown, and its pictures, uint8 [pictures, size, size] in base64: a reading function
    of the sandbox.

    Raises:
        Refused: it isn't a video, or it is too long or too large.
    """
    import av

    size, interval = options["size"], 1 / options["rate"]
    whitelist = {"format_whitelist": DEMUXERS, "protocol_whitelist": ""}
    try:
        container = av.open(io.BytesIO(data), options=whitelist, metadata_errors="replace")
    except av.FFmpegError as error:
        raise Refused(f"can't be read as a video: {error.strerror}") from error
    pictures: list[np.ndarray] = []
    with container:
        if not container.streams.video:
            raise Refused("has no pictures")
        stream = container.streams.video[0]
        codec = stream.codec_context
        if codec is None:
            raise Refused("uses a codec that isn't supported here")
        if codec.width * codec.height > MOST_PIXELS:
            raise Refused(f"has too large pictures: {codec.width} × {codec.height} pixels")
        codec.thread_count, codec.options = 1, {"max_pixels": str(MOST_PIXELS)}  # a later frame may be larger
        shown, at, begin = None, 0.0, None
        try:
            for frame in container.decode(stream):
                if frame.time is None:
                    raise Refused("has frames without a time")
                begin = frame.time if begin is None else begin
                at = frame.time - begin
                if at > options["max_seconds"]:
                    raise Refused(f"is longer than {options['max_seconds']:g} s")
                while shown is not None and len(pictures) * interval < at - interval / 1000:
                    pictures.append(shown)
                shown = _small(frame, size)
        except av.FFmpegError as error:
            raise Refused(f"can't be decoded after {max(at, 0.0):.1f} s: {error.strerror}") from error
    if shown is None:
        raise Refused("has no pictures")
    if not pictures or len(pictures) * interval <= at + interval / 1000:
        pictures.append(shown)
    ratio = frame.width / frame.height * float(codec.sample_aspect_ratio or 1)
    upright = 1 / ratio if round(frame.rotation / 90) % 2 else ratio
    return upright, base64.b64encode(np.stack(pictures).tobytes()).decode()


def warm_up() -> None:
    """Import what the worker needs before its limits are set."""
    import av

    av.logging.set_level(av.logging.PANIC)


def _small(frame: Any, size: int) -> np.ndarray:
    """The frame in grey, upright, uint8 [size, size]; each pixel is the mean of its area."""
    grey = frame.reformat(size, size, format="gray", interpolation="AREA").to_ndarray()
    return np.rot90(grey, round(frame.rotation / 90))
