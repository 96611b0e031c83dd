"""WAV files with transcripts. Files are untrusted input: each length is checked before use."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from components.datasets.files.codings import Coding
from components.datasets.labelled import NamedLabels, Row
from components.datasets.media.transcripts import Transcripts
from components.encodings.mel import HIGHEST_RATE_HZ, LOUDEST, LOWEST_RATE_HZ, Sound
from components.errors import UserError, listed
from components.paths import user_path
from components.provenance import digest_file, digest_json

LARGEST_BYTES = 128 << 20
LONGEST_SECONDS = 60.0
MOST_CHUNKS = 1000  # before the sound; real files have a handful
MOST_CHANNELS = 64
SILENT, SHORTEST_SECONDS = 1e-3, 0.03
FULL, CLIPPED = 0.999, 0.01  # of full scale; share of samples at it that counts as clipping
CANCELLED = 0.01  # of the loudest channel; a quieter mean means that channels cancel each other
UNKNOWN_SIZE = 0x7FFF0000  # larger sizes mean "to the end": SoX, arecord and FFmpeg each write another one
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
BITS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}
# WAVE_FORMAT_EXTENSIBLE gives the format as a GUID: the format's number, then these bytes
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
OTHER_FILES = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3\x03": "MP3", b"ID3\x04": "MP3", b"RIFX": "big-endian WAV"}


@dataclass(kw_only=True, eq=False)
class WavReader(NamedLabels):
    """WAV files, or folders of them at any depth, with transcripts. Items: (Sound, text).

    Either `file_name` says which part of a file's name is the text: "{text}_{speaker}_{index}" reads "7" from
    7_jackson_32.wav, and `labels` may map it ("7": "seven"). Or `transcripts` names a table of files and texts, see
    `Transcripts` (LJSpeech's metadata.csv, Common Voice's validated.tsv, or another table), next to the sounds, in the
    folder above, or by its full path; `file_column` and `text_column` name its columns; `coding`: its text encoding.
    Sounds that aren't in the table are left out. `max_seconds`: longer sounds are dropped.
    """

    endings = (".wav", ".wave")

    file_name: str | None = None
    transcripts: str | None = None
    file_column: str | None = None
    text_column: str | None = None
    coding: Coding = "utf-8"
    max_seconds: Annotated[float, Field(gt=0, le=3600)] = LONGEST_SECONDS

    def __post_init__(self, files: Sequence[Path]) -> None:
        super().__post_init__(files)
        if self.file_name and self.transcripts:
            what = "can't be used together with data.transcripts: a recording has one text"
            raise UserError(what, where="data.file_name", hint="--set data.file_name=null removes it")
        of_table = {"file_column": self.file_column, "text_column": self.text_column}
        for name in (name for name, column in of_table.items() if column and not self.transcripts):
            what, hint = "only works with data.transcripts, a table", "set data.transcripts too"
            raise UserError(what, where=f"data.{name}", hint=hint)
        self._name = _name_pattern(self.file_name) if self.file_name else None
        self._table = None
        if self.transcripts and files:
            folder = files[0] if files[0].is_dir() else files[0].parent
            places = [user_path(self.transcripts, where="data.transcripts", base=at) for at in (folder, folder.parent)]
            self._table = next((place for place in places if place.is_file()), places[0])
            for names in self.passed_over.values():
                names[:] = [name for name in names if folder / name != self._table]
            self.passed_over = {reason: names for reason, names in self.passed_over.items() if names}

    def rows(self, *, labelled: bool) -> Iterator[Row]:
        said = self._texts() if labelled else {}
        odd: dict[str, list[str]] = {}
        for path in self.files:
            shown = {"file": path.name}
            if labelled and path not in said:
                yield Row(str(path), shown, problem="no transcript")
                continue
            try:
                sound = read_wav(path, max_seconds=self.max_seconds)
            except UserError as error:
                yield Row(str(path), shown, problem=error.what)
                continue
            if what := _odd(sound):
                odd.setdefault(what, []).append(path.name)
            yield Row(str(path), shown, sound, said.get(path))
        for what, names in odd.items():
            self.tell(f"warning: {len(names):,} × {what}: {listed(names, 5)}")

    def digest(self) -> str | None:
        """Digest of the contents, the names, which may hold the text, and the transcripts."""
        table = digest_file(self._table) if self._table and self._table.is_file() else ""
        return digest_json([super().digest(), table])

    def _texts(self) -> dict[Path, str]:
        """The transcript of each file that has one."""
        if self._table is None:
            if self._name is None:
                hint = 'set data.file_name ("{text}_{speaker}") or data.transcripts (a table)'
                raise UserError("the texts of the recordings aren't set", where="data", hint=hint)
            matches = {path: self._name.fullmatch(path.stem) for path in self.files}
            return {path: match["text"] for path, match in matches.items() if match}
        how = {"file_column": self.file_column, "text_column": self.text_column, "coding": self.coding}
        table = Transcripts(self._table, self.files, **how)
        untold = [path.name for path in self.files if path not in table.texts]
        self.notes = table.notes + [f"no transcript: {listed(untold, 5)}"] * bool(untold)
        return table.texts


def read_wav(path: Path, *, max_seconds: float = LONGEST_SECONDS) -> Sound:
    """The sound of a WAV file.

    Raises:
        UserError: the file can't be read; `what` says why.
    """
    if not path.is_file():
        raise UserError("no such file", where=str(path))
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise UserError(f"larger than {LARGEST_BYTES >> 20} MiB", where=str(path))
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror}", where=str(path)) from None
    return parse_wav(content, where=str(path), max_seconds=max_seconds)


def wav_from_base64(text: str, *, where: str) -> Sound:
    """The sound of a WAV file in base64, as sent in JSON.

    Raises:
        UserError: it isn't base64, or `parse_wav` refuses it.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        raise UserError("not base64", where=where, hint="the bytes of a WAV file, written in base64") from None
    return parse_wav(content, where=where)


def parse_wav(content: bytes, *, where: str, max_seconds: float = LONGEST_SECONDS) -> Sound:
    """The sound in the bytes of a WAV file: PCM of 8, 16, 24 or 32 bits, or floats of 32 or 64; channels are averaged.

    RIFF is a list of chunks (name, size, content). `fmt ` comes before `data`; other chunks are skipped. A program that
    writes to a pipe doesn't know the size: 0 (with no chunk after it) or some 2 or 4 GiB mean "to the end".

    Raises:
        UserError: not a WAV file, truncated, or longer than `max_seconds`.
    """
    try:
        samples, rate_hz = _sound(content, max_seconds)
    except _Refused as refused:
        raise UserError(
            str(refused), where=where, hint="only WAV files with PCM or float samples are supported"
        ) from None
    return Sound(samples, rate_hz)


def _odd(sound: Sound) -> str:
    """A warning about a readable sound; "" if there is none."""
    samples, rate_hz = sound
    loud = np.abs(samples)
    if loud.max() < SILENT:
        return "silent sound"
    if len(samples) < SHORTEST_SECONDS * rate_hz:
        return f"sound shorter than {SHORTEST_SECONDS:g} s"
    return "clipped sound: many samples are at full scale" if (loud >= FULL).mean() > CLIPPED else ""


class _Refused(Exception):
    """Why a file can't be read."""


def _sound(content: bytes, max_seconds: float) -> tuple[np.ndarray, int]:
    if content[:4] not in (b"RIFF", b"RF64") or content[8:12] != b"WAVE":
        raise _Refused(f"not a WAV file{f' but {OTHER_FILES[content[:4]]}' if content[:4] in OTHER_FILES else ''}")
    position, form, long_size = 12, None, None
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(content):
            break
        name, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if name == b"fmt ":
            form = content[position : position + min(size, 40)]
        elif name == b"ds64" and size >= 16:  # RF64: sizes beyond 4 GiB
            long_size = int.from_bytes(content[position + 8 : position + 16], "little")
        elif name == b"data":
            channels, rate_hz, tag, bits = _form(form)
            size = long_size if long_size is not None and size == 0xFFFFFFFF else size
            counted = 8 + int.from_bytes(content[4:8], "little")  # file size according to the header
            goes_on = _goes_on(content[position + size :])
            if UNKNOWN_SIZE <= size <= 0xFFFFFFFF or (size == 0 and (goes_on or not position < counted < UNKNOWN_SIZE)):
                size = len(content) - position
                size -= size % (channels * bits // 8)
                goes_on = False
            if size > len(content) - position:
                raise _Refused("cut off: it has less sound than its header says")
            if size and goes_on:
                raise _Refused("it has more sound than its header says")
            steps, rest = divmod(size, channels * bits // 8)
            if rest or not steps:
                raise _Refused("it ends in the middle of a sample" if rest else "it has no samples")
            if steps > max_seconds * rate_hz:
                raise _Refused(f"longer than {max_seconds:g} seconds")
            samples = _samples(memoryview(content)[position : position + size], channels, tag, bits)
            if not np.isfinite(samples).all():
                raise _Refused("a sample is not a finite number")
            if np.abs(samples).max() > LOUDEST:
                raise _Refused(f"its float samples must lie between -1 and 1, but reach {np.abs(samples).max():,g}")
            return samples, rate_hz
        position += size
        # a chunk of odd size is followed by a padding byte, which some programs leave out
        if size % 2 and not all(32 <= byte < 127 for byte in content[position : position + 4]):
            position += 1
    raise _Refused("it has no sound")


def _goes_on(rest: bytes) -> bool:
    """Whether the bytes after the sound are more sound: not another chunk (padded or not), an MP3 tag or zeros."""

    def chunk(at: int) -> bool:
        name, size = rest[at : at + 4], int.from_bytes(rest[at + 4 : at + 8], "little")
        return all(32 <= byte < 127 for byte in name) and (at + 8 + size <= len(rest) or name[:3] == b"TAG")

    return len(rest) >= 8 and any(rest) and not (chunk(0) or chunk(1))


def _form(form: bytes | None) -> tuple[int, int, int, int]:
    """Channels, sample rate, sample type (PCM or FLOAT) and bits, from a `fmt ` chunk."""
    if form is None or len(form) < 16:
        raise _Refused("its format is missing" if form is None else "its format is cut off")
    tag, channels, rate_hz, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE:
        if len(form) < 40 or form[26:40] != GUID_TAIL:
            raise _Refused("its format is cut off" if len(form) < 40 else "its format is unknown")
        tag = struct.unpack_from("<H", form, 24)[0]
    if tag not in BITS:
        raise _Refused(f"its samples are compressed (format {tag})")
    if bits not in BITS[tag]:
        raise _Refused(f"{'PCM' if tag == PCM else 'float'} samples of {bits} bits")
    if not 1 <= channels <= MOST_CHANNELS:
        raise _Refused(f"{channels} channels")
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise _Refused(f"a sample rate of {rate_hz:,} Hz")
    if block != channels * bits // 8:
        raise _Refused("its header contradicts itself: channels and bits don't fit the block size")
    return channels, rate_hz, tag, bits


def _samples(raw: memoryview, channels: int, tag: int, bits: int) -> np.ndarray:
    """float32 [N], full scale at ±1, the mean over channels."""
    if tag == FLOAT:
        values, full = np.frombuffer(raw, f"<f{bits // 8}"), 1.0
    elif bits == 24:
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        values, full = wide.view("<i4")[:, 0], 2.0**31
    else:
        values, full = np.frombuffer(raw, "u1" if bits == 8 else f"<i{bits // 8}"), 2.0 ** (bits - 1)
    with np.errstate(over="ignore", invalid="ignore"):  # of huge floats, which the caller refuses
        frames = values.reshape(-1, channels)
        mean = frames.mean(axis=1, dtype=np.float64)
        loudest = max(float(channel.std(dtype=np.float64)) for channel in frames.T) if channels > 1 else 0.0
        if mean.std() < CANCELLED * loudest:
            raise _Refused("its channels cancel each other out: one is the inverse of the other")
        return ((mean - (128 if bits == 8 else 0)) / full).astype(np.float32)


def _name_pattern(template: str) -> re.Pattern[str]:
    """A pattern that matches names of a template such as "{text}_{speaker}"."""
    parts = re.split(r"\{(\w+)\}", template)
    if parts[1::2].count("text") != 1:
        raise UserError(f"{template!r} has no {{text}}", where="data.file_name", hint='for example "{text}_{speaker}"')
    fields = ["(?P<text>.+?)" if name == "text" else ".+?" for name in parts[1::2]]
    literals = [re.escape(part) for part in parts[::2]]
    return re.compile("".join(a + b for a, b in zip(literals, [*fields, ""], strict=True)))
