"""SoundFonts (.sf2): sampled instruments instead of the built-in ones. NumPy only.

Follows the SoundFont 2.04 specification (E-mu, 2006). Supported: key and velocity ranges, tuning, loops, attenuation,
pan, the volume envelope and a fixed low-pass filter. Not supported: modulators, vibrato, the modulation envelope and
exclusive classes. The file is untrusted: its chunks, indices and counts are checked before they are used.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from components.errors import UserError
from components.provenance import digest_file
from components.render.record import printable
from components.score import Part

FILE_LIMIT_BYTES = 1 << 30
_TABLES_LIMIT_BYTES = 32 << 20  # presets, instruments and sample headers: 2 MB in the largest fonts in use
_MOST_ZONES, _MOST_AT_ONCE = 4096, 8  # per preset; per note
_LONGEST_RELEASE_SECONDS = 2.0
_RATES_HZ = (400, 192_000)
_DRUMS = 128  # the bank of drum kits
_ROM, _VORBIS = 0x8000, 0x10  # bits of a sample's type
# generators (section 8.1.2): sample addresses, addresses in units of 32,768 samples, settings of a zone
_START, _END, _LOOP_START, _LOOP_END, _COARSE_START, _COARSE_END = 0, 1, 2, 3, 4, 12
_COARSE_LOOP_START, _COARSE_LOOP_END, _CUTOFF, _PAN = 45, 50, 8, 17
_DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE, _KEY_TO_HOLD, _KEY_TO_DECAY = 33, 34, 35, 36, 37, 38, 39, 40
_INSTRUMENT, _KEYS, _VELOCITIES, _KEY, _VELOCITY, _ATTENUATION = 41, 43, 44, 46, 47, 48
_COARSE_TUNE, _FINE_TUNE, _SAMPLE, _LOOPED, _SCALE, _ROOT = 51, 52, 53, 54, 56, 58
_DEFAULTS = {_CUTOFF: 13500, _SCALE: 100, _ROOT: -1, _KEY: -1, _VELOCITY: -1} | dict.fromkeys(
    (_DELAY, _ATTACK, _HOLD, _DECAY, _RELEASE), -12000
)
_ALL = 0x7F00  # the range 0 to 127: the high byte is its end
# generators that a preset's zone may not add to its instrument's
_SAMPLE_ONLY = {_START, _END, _LOOP_START, _LOOP_END, _COARSE_START, _COARSE_END, _COARSE_LOOP_START, _COARSE_LOOP_END}
_SAMPLE_ONLY |= {_KEY, _VELOCITY, _LOOPED, _ROOT, _SAMPLE, _INSTRUMENT, _KEYS, _VELOCITIES}

_ROWS = {
    b"phdr": np.dtype([("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("rest", "V12")]),
    b"pbag": np.dtype([("generator", "<u2"), ("modulator", "<u2")]),
    b"pgen": np.dtype([("generator", "<u2"), ("amount", "<i2")]),
    b"inst": np.dtype([("name", "S20"), ("bag", "<u2")]),
    b"ibag": np.dtype([("generator", "<u2"), ("modulator", "<u2")]),
    b"igen": np.dtype([("generator", "<u2"), ("amount", "<i2")]),
    b"shdr": np.dtype(
        [("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"), ("loop_end", "<u4"),
         ("rate", "<u4"), ("root", "u1"), ("cents", "i1"), ("link", "<u2"), ("type", "<u2")]
    ),
}  # fmt: skip

Zone = dict[int, int]  # generator → amount


@dataclass(frozen=True)
class Soundfont:
    """An open font: its tables by chunk, and its samples int16 [N], memory-mapped."""

    name: str
    digest: str  # sha256 of the file
    where: str
    tables: dict[bytes, np.ndarray]
    samples: np.ndarray

    def tone(self, part: Part, pitch: int, velocity: int, seconds: float, rate: int) -> np.ndarray:
        """One note of a part, float32 [2, samples], release included. A program missing from the font is played by its
        first one; a key or velocity without a sample is silent.

        Raises:
            UserError: the font's tables contradict each other.
        """
        sounding = (
            zone for zone in self._preset(part) if _holds(zone, _KEYS, pitch) and _holds(zone, _VELOCITIES, velocity)
        )
        tones = [self._play(zone, pitch, velocity, seconds, rate) for zone in islice(sounding, _MOST_AT_ONCE)]
        mix = np.zeros((2, max((tone.shape[1] for tone in tones), default=0)), dtype=np.float32)
        for tone in tones:
            mix[:, : tone.shape[1]] += tone
        return mix

    @cached_property
    def _places(self) -> dict[tuple[int, int], int]:
        """(bank, program) → row of the preset; the last row is a terminator."""
        rows = self.tables[b"phdr"][:-1]
        return {(int(row["bank"]), int(row["program"])): at for at, row in reversed(list(enumerate(rows)))}

    @cached_property
    def _kept(self) -> dict[int, list[Zone]]:
        return {}

    def _preset(self, part: Part) -> list[Zone]:
        drums = part.role == "drums"
        wanted = ((_DRUMS if drums else 0, part.program), (_DRUMS if drums else 0, 0))
        row = next((self._places[key] for key in wanted if key in self._places), min(self._places.values()))
        if row not in self._kept:
            self._kept[row] = self._zones_of(row)
        return self._kept[row]

    def _zones_of(self, row: int) -> list[Zone]:
        """A preset's zones combined with those of its instruments: each sample with its summed generators."""
        found: list[Zone] = []
        instruments = len(self.tables[b"inst"]) - 1
        for outer in self._bags(b"phdr", b"pbag", b"pgen", row, _INSTRUMENT):
            if not 0 <= (instrument := outer[_INSTRUMENT] & 0xFFFF) < instruments:
                raise self._damaged("a preset refers to a missing instrument")
            for inner in self._bags(b"inst", b"ibag", b"igen", instrument, _SAMPLE):
                if not 0 <= (inner[_SAMPLE] & 0xFFFF) < len(self.tables[b"shdr"]) - 1:
                    raise self._damaged("an instrument refers to a missing sample")
                zone = _DEFAULTS | inner
                for generator, amount in outer.items():
                    if generator not in _SAMPLE_ONLY:
                        zone[generator] = zone.get(generator, 0) + amount
                for generator in (_KEYS, _VELOCITIES):
                    (low, high), (least, most) = _range(inner, generator), _range(outer, generator)
                    zone[generator] = max(low, least) | min(high, most) << 8
                found.append(zone)
                if len(found) > _MOST_ZONES:
                    raise self._damaged(f"a preset has more than {_MOST_ZONES:,} zones")
        return found

    def _bags(self, heads: bytes, bags: bytes, generators: bytes, row: int, ends_with: int) -> list[Zone]:
        """The zones of a preset or instrument. A first zone that plays nothing holds the defaults."""
        first, last = (int(at) for at in self.tables[heads]["bag"][row : row + 2])
        edges = self.tables[bags]["generator"]
        common: Zone = {}
        zones = []
        for bag in range(first, last):
            zone = dict(self.tables[generators][edges[bag] : edges[bag + 1]].tolist())
            if ends_with in zone:
                zones.append(common | zone)
            elif bag == first:
                common = zone
        return zones

    def _play(self, zone: Zone, pitch: int, velocity: int, seconds: float, rate: int) -> np.ndarray:
        """The sound of one zone for a note, float32 [2, samples]."""
        head = self.tables[b"shdr"][zone[_SAMPLE] & 0xFFFF]
        if head["type"] & _VORBIS:
            raise UserError(
                "its samples are compressed (.sf3)", where=self.where, hint="use an uncompressed SoundFont (.sf2)"
            )
        start, end, loop_start, loop_end = (
            int(head[name]) + zone.get(fine, 0) + 32768 * zone.get(coarse, 0)
            for name, fine, coarse in (
                ("start", _START, _COARSE_START), ("end", _END, _COARSE_END),
                ("loop_start", _LOOP_START, _COARSE_LOOP_START), ("loop_end", _LOOP_END, _COARSE_LOOP_END),
            )
        )  # fmt: skip
        if head["type"] & _ROM or end - start < 2:
            return np.zeros((2, 0), dtype=np.float32)
        if start < 0 or end > len(self.samples):
            raise self._damaged("a sample lies outside the sample data")
        key = zone[_KEY] if 0 <= zone[_KEY] <= 127 else pitch
        velocity = zone[_VELOCITY] if 0 <= zone[_VELOCITY] <= 127 else velocity
        root = next((root for root in (zone[_ROOT], int(head["root"])) if 0 <= root <= 127), 60)
        cents = (key - root) * zone[_SCALE] + 100 * zone.get(_COARSE_TUNE, 0) + zone.get(_FINE_TUNE, 0)
        speed = 2 ** (float(np.clip(cents + int(head["cents"]), -9600, 6000)) / 1200)
        speed *= float(np.clip(head["rate"], *_RATES_HZ)) / rate
        looped = zone.get(_LOOPED, 0) in (1, 3) and start <= loop_start < loop_end <= end
        release = min(_LONGEST_RELEASE_SECONDS, _seconds(zone[_RELEASE]))
        length = round((seconds + release) * rate)
        length = length if looped else min(length, int((end - 1 - start) / speed))
        place = np.arange(length) * speed
        if looped:
            first, stop = loop_start - start, loop_end - start
            place = np.where(place < stop, place, first + np.mod(place - stop, stop - first))
            whole = np.minimum(place.astype(np.int64), stop - 1)
            beyond = np.where(whole + 1 < stop, whole + 1, first)
        else:
            whole = place.astype(np.int64)
            beyond = whole + 1
        here = self.samples[start + whole].astype(np.float32)
        there = self.samples[start + beyond].astype(np.float32)
        tone = (here + (there - here) * (place - whole).astype(np.float32)) / np.float32(32768)
        tone = _duller(tone, 8.176 * 2 ** (zone[_CUTOFF] / 1200), rate)
        tone *= _envelope(zone, key, seconds, release, length, rate)
        gain = 10 ** (-float(np.clip(zone.get(_ATTENUATION, 0), 0, 1440)) / 200) * (velocity / 127) ** 2
        angle = (float(np.clip(zone.get(_PAN, 0), -500, 500)) / 1000 + 0.5) * np.pi / 2
        return tone * np.array([[gain * np.cos(angle)], [gain * np.sin(angle)]], dtype=np.float32)

    def _damaged(self, what: str) -> UserError:
        return UserError(f"the SoundFont is damaged: {what}", where=self.where, hint="use another .sf2 file")


def read_soundfont(path: Path) -> Soundfont:
    """The font in a file.

    Raises:
        UserError: it can't be read, is larger than 1 GiB, isn't a SoundFont 2, or its tables contradict each other.
    """
    path = Path(path)
    hint = "use a SoundFont 2 file (.sf2), such as a General MIDI set"
    try:
        if not path.is_file():
            raise UserError("is not a file", where=str(path), hint=hint)
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise UserError(f"is larger than {FILE_LIMIT_BYTES >> 30} GiB", where=str(path), hint=hint)
        with path.open("rb") as file:
            chunks, at, count = _chunks(file, path.stat().st_size)
    except OSError as error:
        raise UserError(f"can't be read: {error.strerror or error}", where=str(path), hint=hint) from None
    except (ValueError, struct.error) as error:
        raise UserError(f"isn't a SoundFont 2: {error}", where=str(path), hint=hint) from None
    samples = np.memmap(path, dtype="<i2", mode="r", offset=at, shape=(count,)) if count else np.zeros(0, dtype="<i2")
    font = Soundfont(path.name, digest_file(path), str(path), chunks, samples)
    for heads, bags, generators in ((b"phdr", b"pbag", b"pgen"), (b"inst", b"ibag", b"igen")):
        for pointers, last in (
            (chunks[heads]["bag"].astype(np.int64), len(chunks[bags]) - 1),
            (chunks[bags]["generator"].astype(np.int64), len(chunks[generators])),
        ):
            if not len(pointers) or (np.diff(pointers) < 0).any() or pointers[-1] > last:
                raise font._damaged("its tables contradict each other")
    if len(chunks[b"phdr"]) < 2:
        raise font._damaged("it has no preset")
    return font


def font_of_record(asked: tuple[str, str] | None, given: Path | None, file: Path) -> Soundfont | None:
    """The font that a generated file was played with, by name and digest; `given` is the user's file.

    Raises:
        UserError: it isn't given, another one is given, or the file was made without one.
    """
    if not asked:
        if given:
            raise UserError("was made without a SoundFont", where=str(file), hint="leave --soundfont out")
        return None
    name, digest = (printable(text) for text in asked)
    font = read_soundfont(given) if given else None
    if font is None or font.digest != digest:
        raise UserError(
            f"was made with the SoundFont {name} (sha256 {digest[:16]}…)"
            + (f", but {given} is a different one" if font else ""),
            where=str(file),
            hint=f"reprise replay {file.name} --soundfont {name}",
        )
    return font


def _chunks(file: BinaryIO, size: int) -> tuple[dict[bytes, np.ndarray], int, int]:
    """The tables by chunk, the samples' offset in the file, and their number."""
    riff, _, form = struct.unpack("<4sI4s", file.read(12))
    if (riff, form) != (b"RIFF", b"sfbk"):
        raise ValueError("it has no SoundFont header")
    tables: dict[bytes, np.ndarray] = {}
    at, offset, count = 12, 0, 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        at += 8
        if name == b"LIST":
            at += 4  # its subchunks come next
            continue
        if length > size - at:
            raise ValueError(f"it is cut off in its chunk {name.decode('latin-1')!r}")
        if name == b"smpl":
            offset, count = at, length // 2
        elif name in _ROWS:
            rows = length // _ROWS[name].itemsize
            if length > _TABLES_LIMIT_BYTES or name in tables:
                raise ValueError(f"its chunk {name.decode()!r} is too long or occurs twice")
            tables[name] = np.frombuffer(file.read(rows * _ROWS[name].itemsize), dtype=_ROWS[name])
        at += length + length % 2
    if missing := [name.decode() for name in _ROWS if name not in tables]:
        raise ValueError(f"it has no chunk {', '.join(missing)}")
    return tables, offset, count


def _range(zone: Zone, generator: int) -> tuple[int, int]:
    value = zone.get(generator, _ALL)
    return value & 0xFF, value >> 8 & 0xFF


def _holds(zone: Zone, generator: int, value: int) -> bool:
    low, high = _range(zone, generator)
    return low <= value <= high


def _seconds(timecents: float) -> float:
    return 2 ** (float(np.clip(timecents, -12000, 8000)) / 1200)


def _envelope(zone: Zone, key: int, seconds: float, release: float, length: int, rate: int) -> np.ndarray:
    """The volume envelope, float32 [length]: linear attack; decay and release linear in decibels (100 in their
    time)."""
    time = np.arange(length, dtype=np.float32) / np.float32(rate)
    begin = _seconds(zone[_DELAY]) if zone[_DELAY] > -12000 else 0.0
    attack = _seconds(zone[_ATTACK])
    hold = _seconds(zone[_HOLD] + (60 - key) * zone.get(_KEY_TO_HOLD, 0))
    decay = _seconds(zone[_DECAY] + (60 - key) * zone.get(_KEY_TO_DECAY, 0))
    rising = np.clip((time - begin) / attack, 0, 1)
    fallen = np.clip((time - begin - attack - hold) * (100 / decay), 0, np.clip(zone.get(_SUSTAIN, 0) / 10, 0, 100))
    fallen += np.clip((time - seconds) * (100 / release), 0, 100)
    return (rising * 10 ** (-fallen / 20)).astype(np.float32)


def _duller(tone: np.ndarray, cutoff_hz: float, rate: int) -> np.ndarray:
    """The tone [samples] after a second-order low-pass filter, without phase shift."""
    if cutoff_hz >= 0.45 * rate or not len(tone):
        return tone
    size = 1 << (len(tone) + 1024).bit_length()
    response = 1 / np.sqrt(1 + (np.fft.rfftfreq(size, 1 / rate) / max(20.0, cutoff_hz)) ** 4)
    return np.fft.irfft(np.fft.rfft(tone, size) * response, size)[: len(tone)].astype(np.float32)
