"""Sounds of a drum kit's nine pieces, and of a struck string for performances: synthesised, NumPy only."""

from __future__ import annotations

import numpy as np

from components.drums import KIT, PIECE_OF

# for each piece: seconds to decay by 60 dB, the tone's frequency at the beginning and at the end (0: none), share of
# noise, and the band of the noise, all in Hz
_SOUNDS = (
    (0.45, 120.0, 46.0, 0.06, (20.0, 4000.0)),
    (0.32, 210.0, 175.0, 0.72, (900.0, 9000.0)),
    (0.09, 0.0, 0.0, 1.0, (6500.0, 15000.0)),
    (0.60, 0.0, 0.0, 1.0, (5500.0, 15000.0)),
    (0.65, 105.0, 82.0, 0.10, (100.0, 3000.0)),
    (0.55, 150.0, 118.0, 0.10, (100.0, 3500.0)),
    (0.45, 205.0, 165.0, 0.10, (100.0, 4000.0)),
    (1.90, 0.0, 0.0, 1.0, (2500.0, 15000.0)),
    (1.20, 3350.0, 3350.0, 0.75, (4000.0, 15000.0)),
)
LOUDNESS = (1.0, 0.75, 0.32, 0.34, 0.8, 0.75, 0.7, 0.45, 0.30)  # relative to each other
PLACES = (0.0, -0.05, 0.35, 0.35, -0.5, -0.1, 0.25, -0.4, -0.55)  # from left (−1) to right (1), for the audience
_RELEASE_SECONDS = 0.12


def piece_of(key: int) -> int:
    """The piece of the kit that plays a key; other keys are played by the piece with the nearest number."""
    return PIECE_OF[key] if key in PIECE_OF else PIECE_OF[min(PIECE_OF, key=lambda known: abs(known - key))]


def drum(key: int, rate: int) -> np.ndarray:
    """One hit, float32 [samples], deterministic. Its length depends on the drum only."""
    piece = piece_of(key)
    seconds, high, low, noisy, (least, most) = _SOUNDS[piece]
    time = np.arange(round(seconds * rate)) / rate
    decay = np.exp(-6.9 * time / seconds)
    sound = np.zeros(len(time))
    if high:
        falling = low + (high - low) * np.exp(-time * 28)
        sound += (1 - noisy) * np.sin(2 * np.pi * np.cumsum(falling) / rate) * decay
    noise = np.random.default_rng(piece).standard_normal(len(time))
    spectrum = np.fft.rfft(noise)
    hz = np.fft.rfftfreq(len(time), 1 / rate)
    spectrum *= 1 / (1 + (least / np.maximum(hz, 1.0)) ** 4) / (1 + (hz / min(most, 0.45 * rate)) ** 8)
    noise = np.fft.irfft(spectrum, len(time))
    noise /= np.abs(noise).max()
    sound += noisy * noise * (decay if KIT[piece] != "snare" else np.exp(-9.0 * time / seconds))
    sound[-max(1, rate // 200) :] *= np.linspace(1, 0, max(1, rate // 200))
    return (sound * LOUDNESS[piece]).astype(np.float32)


def struck(pitch: int, velocity: int, seconds: float, rate: int) -> np.ndarray:
    """A struck string, float32 [samples], released after `seconds`. Its partials are slightly sharp; high partials and
    high notes decay faster, and a higher velocity is brighter."""
    frequency = 440.0 * 2.0 ** ((pitch - 69) / 12)
    length = 9.0 * 2.0 ** (-(pitch - 48) / 18)  # seconds to decay by 60 dB
    samples = round(min(seconds + _RELEASE_SECONDS, max(length, 0.3)) * rate)
    time = np.arange(samples, dtype=np.float32) / np.float32(rate)
    tone = np.zeros(samples, dtype=np.float32)
    hardness = 0.35 + 0.55 * velocity / 127
    for n in range(1, 13):
        partial = n * frequency * np.sqrt(1 + 0.0004 * n * n)
        if partial > 0.45 * rate:
            break
        level = hardness ** (n - 1) / n**0.6
        phase = np.remainder(np.arange(samples) * (partial / rate), 1.0).astype(np.float32)
        tone += (
            np.float32(level) * np.sin(np.float32(2 * np.pi) * phase) * np.exp(-6.9 * time * (0.6 + 0.4 * n) / length)
        )
    tone *= np.minimum(1.0, time / 0.003)
    tone *= np.exp(-np.maximum(0.0, time - np.float32(seconds)) * (6.9 / _RELEASE_SECONDS))
    tone[-max(1, min(samples, rate // 200)) :] *= np.linspace(1, 0, max(1, min(samples, rate // 200)), dtype=np.float32)
    return tone * np.float32((262.0 / frequency) ** 0.25)
