"""Scores as audio: a small additive synthesiser (organ-like pipes, drums, struck strings) or a SoundFont, with
reverberation. NumPy only."""

from __future__ import annotations

import io
import struct
import wave
from functools import cache
from pathlib import Path

import numpy as np

from components.errors import UserError
from components.render.layout import score_end
from components.render.percussion import PLACES, drum, piece_of, struck
from components.render.record import Record, embed_marker
from components.render.soundfont import Soundfont
from components.score import Note, Part, Score, sounding

LIMIT_SECONDS = 30 * 60
_MOST_VOICES = 8  # mean over the longest score; more may sound at once
_MOST_CACHED_SAMPLES = 32_000_000
_PEAK = 10 ** (-1 / 20)  # −1 dBFS
_TAIL_SECONDS = 2.2  # reverberation after the last note
_ATTACK_SECONDS, _RELEASE_SECONDS, _GAP_SECONDS = 0.028, 0.16, 0.05
# each partial: its multiple of the fundamental, its amplitude, the share of it that decays, its decay rate (per second)
_PARTIALS = (
    (1, 1.00, 0.12, 0.8), (2, 0.52, 0.25, 1.4), (3, 0.30, 0.40, 2.0), (4, 0.17, 0.50, 2.8),
    (5, 0.085, 0.60, 3.6), (6, 0.055, 0.70, 4.6), (8, 0.030, 0.80, 6.0),
)  # fmt: skip
_BRIGHTNESS_HZ = 2600.0  # partials above are attenuated
_DETUNE_CENTS = 2.5  # the two pipes of a note are detuned by ± this much


def synthesise(score: Score, rate: int = 32000, soundfont: Soundfont | None = None) -> np.ndarray:
    """The score as float32 [2, N] at `rate` samples a second, peak at −1 dBFS, including the release of the last note.

    `soundfont` replaces the built-in instruments. A silent score gives silence. Deterministic.

    Raises:
        UserError: the score is longer than 30 minutes or can't be played, or the font is damaged.
    """
    end, where = score_end(score), f"score {score.title[:60]!r}"
    seconds_per_step = 60.0 / score.tempo_bpm / score.steps_per_beat
    if end * seconds_per_step > LIMIT_SECONDS:
        what = f"lasts {end * seconds_per_step / 60:.0f} minutes; at most {LIMIT_SECONDS // 60} can be rendered"
        raise UserError(what, where=where, hint="render it in parts, or at a faster tempo")
    lengths = [sounding(part) for part in score.parts]
    in_all = sum(map(sum, lengths)) * seconds_per_step
    if in_all > _MOST_VOICES * LIMIT_SECONDS:
        what = f"has too many simultaneous notes: {in_all / 3600:.0f} hours of notes in all"
        raise UserError(what, where=where, hint="render it in parts")
    length = round((end * seconds_per_step + _RELEASE_SECONDS + _TAIL_SECONDS) * rate)
    mix = np.zeros((2, length), dtype=np.float32)
    tones: dict[tuple[object, ...], np.ndarray] = {}
    cached = 0
    for voice, part in enumerate(score.parts):
        for note, steps in zip(part.notes, lengths[voice], strict=True):
            gains = _gains(voice, score, note)
            key = _sound(score, part, note, steps, soundfont)
            tone = tones.get(key)
            if tone is None:
                if cached > _MOST_CACHED_SAMPLES:
                    tones.clear()
                    cached = 0
                seconds = steps * seconds_per_step
                tone = (
                    soundfont.tone(part, note.pitch, note.velocity, seconds, rate)
                    if soundfont
                    else _played(score, part, note, seconds, rate)[None]
                )
                tones[key] = tone
                cached += tone.size
            start = round(note.start * seconds_per_step * rate)
            stop = min(length, start + tone.shape[1])
            # a font's tones already include the velocity
            loudness = 1.0 if soundfont else (note.velocity / 100) ** 1.5
            for side, gain in enumerate(gains):
                mix[side, start:stop] += tone[side % len(tone), : stop - start] * np.float32(gain * loudness)
    peak = float(np.abs(mix).max(initial=0.0))
    if peak == 0.0:
        return mix
    mix = _room(mix, rate, 0.12 if score.only_drums else 0.30)
    fade = np.linspace(1.0, 0.0, max(1, rate // 4), dtype=np.float32)
    mix[:, -len(fade) :] *= fade[-length:]
    return mix * np.float32(_PEAK / np.abs(mix).max())


def _sound(score: Score, part: Part, note: Note, steps: int, soundfont: Soundfont | None) -> tuple[object, ...]:
    """Cache key of a note's sound: notes with equal keys sound the same."""
    drums = part.role == "drums"
    own = (part.program, drums, note.velocity) if soundfont else (drums,)
    struck = score.timing == "seconds" and not soundfont
    return (note.pitch, 0 if drums and not soundfont else steps, *own, *([_strength(note)] if struck else []))


def _played(score: Score, part: Part, note: Note, seconds: float, rate: int) -> np.ndarray:
    """One note with the built-in instruments: a drum, a struck string (in a performance) or a pipe."""
    if part.role == "drums":
        return drum(note.pitch, rate)
    if score.timing == "seconds":
        return struck(note.pitch, _strength(note), seconds, rate)
    return _tone(note.pitch, seconds, rate)


def _strength(note: Note) -> int:
    """The velocity quantised to eight levels, for the brightness of a struck string."""
    return note.velocity // 16 * 16 + 8


def _gains(voice: int, score: Score, note: Note) -> tuple[float, float]:
    """Equal-power gains, left and right: the voices are spread from slightly left to slightly right; each piece of a
    drum kit has a fixed position."""
    others = len(score.parts) - 1
    angle = np.pi / 4 + ((voice / others - 0.5) * 0.6 if others else 0.0)
    if score.parts[voice].role == "drums":
        angle = np.pi / 4 * (1 + 0.6 * PLACES[piece_of(note.pitch)])
    return float(np.cos(angle)), float(np.sin(angle))


def _tone(pitch: int, seconds: float, rate: int) -> np.ndarray:
    """One note, float32 [samples], release included. It ends a little early, so that repeated notes stay separate."""
    seconds -= min(_GAP_SECONDS, 0.15 * seconds)
    frequency = 440.0 * 2.0 ** ((pitch - 69) / 12)
    samples = round((seconds + _RELEASE_SECONDS) * rate)
    time = np.arange(samples, dtype=np.float32) / np.float32(rate)
    tone = np.zeros(samples, dtype=np.float32)
    for multiple, amplitude, dying, speed in _PARTIALS:
        partial = frequency * multiple
        if partial > 0.45 * rate:
            break
        # two slightly detuned pipes beat; a carrier times a slow envelope costs only one more sine
        beat = 2 * np.pi * partial * (2 ** (_DETUNE_CENTS / 1200) - 1)
        level = amplitude / (1 + (partial / _BRIGHTNESS_HZ) ** 2)
        decay = (1 - dying) + dying * np.exp(-speed * time)
        # the phase in double precision: in float32 long tones drift out of tune
        phase = np.remainder(np.arange(samples) * (partial / rate), 1.0).astype(np.float32)
        tone += (
            np.float32(level)
            * np.sin(np.float32(2 * np.pi) * phase)
            * decay
            * (0.8 + 0.2 * np.cos(np.float32(beat) * time))
        )
    # hearing is less sensitive to low tones: raise the bass
    tone *= np.float32((262.0 / frequency) ** 0.15) * _envelope(samples, rate)
    return tone


def _envelope(samples: int, rate: int) -> np.ndarray:
    """Attack and release as raised cosines, shortened in notes that are shorter than both together."""
    attack = min(samples // 2, round(_ATTACK_SECONDS * rate))
    release = min(samples - attack, round(_RELEASE_SECONDS * rate))
    envelope = np.ones(samples, dtype=np.float32)
    envelope[:attack] = 0.5 - 0.5 * np.cos(np.pi * np.arange(attack) / max(1, attack))
    envelope[samples - release :] = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, release + 1) / max(1, release))
    return envelope


@cache
def _impulse(rate: int) -> np.ndarray:
    """The room's impulse response: decaying, low-passed noise, float32 [2, N], from a fixed seed."""
    time = np.arange(round(1.8 * rate)) / rate
    noise = np.random.default_rng(20).standard_normal((2, len(time)))
    noise *= np.exp(-time * 4.2) * (1 - np.exp(-time * 90))  # 60 dB down after 1.6 s; builds up within 10 ms
    width = max(1, round(rate / 5000))
    kernel = np.hanning(width + 2)[1:-1]
    noise = np.stack([np.convolve(side, kernel, mode="same") for side in noise])
    impulse = noise / np.sqrt((noise**2).sum(axis=1, keepdims=True))
    return impulse.astype(np.float32)


def _room(dry: np.ndarray, rate: int, wet: float = 0.30) -> np.ndarray:
    """The sound [2, N] with its reverberation, by convolution in overlapping blocks (so memory stays small)."""
    impulse = _impulse(rate)
    size = 1 << 17
    step = size - impulse.shape[1] + 1
    room = np.fft.rfft(impulse, size)
    out = dry.copy()
    length = dry.shape[1]
    for start in range(0, length, step):
        block = np.fft.irfft(np.fft.rfft(dry[:, start : start + step], size) * room, size)
        stop = min(length, start + size)
        out[:, start:stop] += (wet * block[:, : stop - start]).astype(np.float32)
    return out


def wav_bytes(samples: np.ndarray, rate: int, record: Record | None = None) -> bytes:
    """float [channels, N] in −1 … 1 as a 16-bit PCM wav file; the record is the comment of an INFO chunk.

    Raises:
        UserError: the record isn't JSON-ready.
    """
    pcm = np.clip(np.rint(samples * 32767.0), -32768, 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((len(pcm), 2, rate, pcm.shape[1], "NONE", ""))
        file.writeframes(np.ascontiguousarray(pcm.T).tobytes())
    data = buffer.getvalue()
    if record is not None:
        text = embed_marker(record).encode() + b"\0"
        text += b"\0" * (len(text) % 2)  # chunks are even
        data += struct.pack("<4sI4s4sI", b"LIST", len(text) + 12, b"INFO", b"ICMT", len(text)) + text
        data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    return data


def write_wav(
    score: Score, path: Path, record: Record | None = None, *, rate: int = 32000, soundfont: Soundfont | None = None
) -> None:
    """The score as a stereo wav file of 16 bits a sample.

    Raises:
        UserError: the score is longer than 30 minutes or can't be played, or the record isn't JSON-ready.
    """
    Path(path).write_bytes(wav_bytes(synthesise(score, rate, soundfont), rate, record))


def page_audio(score: Score, soundfont: Soundfont | None = None) -> bytes:
    """The score as a mono wav for the listening page: 22,050 Hz, 2.6 MB a minute; a lower rate for long scores.

    Raises:
        UserError: the score is longer than 30 minutes or can't be played.
    """
    rate = 22050 if score_end(score) * 60 / score.tempo_bpm / score.steps_per_beat <= 120 else 16000
    return wav_bytes(synthesise(score, rate, soundfont).mean(axis=0, keepdims=True), rate)
