"""Log mel spectrograms of sounds.

Shapes: N samples, T frames, K bins of the spectrum, M mel bands, S frames stacked into one.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field as Bounds

from components.encodings.base import Encoding, Field
from components.encodings.frames import warped
from components.errors import UserError

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 384_000
LOUDEST = 100.0  # largest valid sample; float samples may exceed full scale, but not by that much
FLOOR = 1e-10  # lower energies count as silence; 16 bits reach down to 1e-9
BLOCK = 1024  # frames whose spectra are in memory at once
NOISE_RANGE, NOISE_TILT = 30.0, 1.0  # decibels; nats, standard deviation at the lowest and the highest band


class Sound(NamedTuple):
    """Samples, float32 [N], full scale at ±1, `rate_hz` per second."""

    samples: np.ndarray
    rate_hz: int


@dataclass(kw_only=True, eq=False)
class Mel(Encoding):
    """Sound → log energies of `bands` mel bands, float32 [T, S · M], standardised over the training data.

    Sounds are resampled to `rate_hz`. `preemphasis`: coefficient of the filter that raises high frequencies. Hann
    windows of `window_seconds` are taken every `hop_seconds`. The bands' peaks lie at equal steps on HTK's mel scale,
    mel(f) = 2595 log₁₀(1 + f / 700), between `low_hz` and `high_hz` (default: half the rate). `centre`: subtract each
    band's mean over the recording, which removes loudness and microphone. `stack`: concatenate this many frames, so
    that the model has fewer steps (Sak et al. 2015, arXiv:1507.06947).

    Augmentation, drawn anew in every epoch. `noise`: add steady noise; the ratio of signal to noise is drawn between
    this and 30 decibels more (default: no noise), and the spectrum is tilted at random. `tempo`: stretch or compress
    the recording by a factor of up to this (Ko et al. 2015 change pitch and length together, here each has a setting).
    `warp`: warp time; standard deviation of the speed's logarithm. `shift`: shift the pitch by up to this many bands.
    `gain`: change the loudness; standard deviation in decibels. In training `time_masks` spans of up to `time_mask`
    frames and `band_masks` of up to `band_mask` bands are set to their mean (SpecAugment, Park et al. 2019,
    arXiv:1904.08779).
    """

    kind = "mel"
    form = "frames"
    reads = "audio"
    unit = "frame"

    rate_hz: Annotated[int, Bounds(ge=LOWEST_RATE_HZ, le=96_000)] = 16_000
    bands: Annotated[int, Bounds(gt=0, le=256)] = 40
    window_seconds: Annotated[float, Bounds(gt=0, le=1)] = 0.025
    hop_seconds: Annotated[float, Bounds(gt=0, le=1)] = 0.010
    low_hz: Annotated[float, Bounds(ge=0)] = 20.0
    high_hz: Annotated[float, Bounds(gt=0)] | None = None
    preemphasis: Annotated[float, Bounds(ge=0, lt=1)] = 0.97
    centre: bool = False
    stack: Annotated[int, Bounds(gt=0, le=16)] = 1
    noise: Annotated[float, Bounds(ge=-40, le=100)] | None = None
    tempo: Annotated[float, Bounds(ge=1, le=4)] = 1.0
    warp: Annotated[float, Bounds(ge=0, le=2)] = 0.0
    shift: Annotated[float, Bounds(ge=0, le=16)] = 0.0
    gain: Annotated[float, Bounds(ge=0, le=40)] = 0.0
    time_masks: Annotated[int, Bounds(ge=0, le=16)] = 0
    time_mask: Annotated[int, Bounds(gt=0)] = 10
    band_masks: Annotated[int, Bounds(ge=0, le=16)] = 0
    band_mask: Annotated[int, Bounds(gt=0)] = 8

    def __post_init__(self) -> None:
        self.window, self.hop = round(self.window_seconds * self.rate_hz), round(self.hop_seconds * self.rate_hz)
        if self.window < 2 or self.hop < 1:
            what, hint = "a frame must have at least two samples", "increase window_seconds, hop_seconds or rate_hz"
            raise UserError(what, where="encoding.window_seconds", hint=hint)
        self.filters_KM = mel_filters(self.rate_hz, self._bins, self.bands, self.low_hz, self.top_hz)
        self.mean_M, self.deviation_M = np.zeros(self.bands), np.ones(self.bands)
        self.rates: Counter[int] = Counter()  # of the training sounds

    @property
    def fields(self) -> dict[str, Field]:
        return {"frames": Field(width=self.bands * self.stack)}

    def fit(self, items: Iterable[Sound]) -> None:
        total, squares, count = np.zeros(self.bands), np.zeros(self.bands), 0
        self.rates.clear()
        for item in items:
            energies_TM = self.energies(item)
            self.rates[item[1]] += 1
            total, squares = total + energies_TM.sum(0), squares + (energies_TM**2).sum(0)
            count += len(energies_TM)
        self.mean_M = total / max(1, count)
        self.deviation_M = np.sqrt(np.maximum(squares / max(1, count) - self.mean_M**2, 0.0))
        self.deviation_M[self.deviation_M < 1e-6] = 1.0  # constant band

    def remarks(self) -> list[str]:
        fastest = max(self.rates, default=0)
        slower = Counter({rate: count for rate, count in self.rates.items() if self.too_slow(rate)})
        if not slower:
            return []
        if fastest in slower:
            return [
                f"the sample rate is at most {fastest:,} Hz, so the sounds contain nothing above "
                f"{fastest / 2:,g} Hz, but the bands go up to {self.top_hz:,g} (set rate_hz={fastest})"
            ]
        rates = ", ".join(f"{count:,} with {rate:,}" for rate, count in slower.most_common(3))
        return [
            f"warning: {slower.total():,} of {self.rates.total():,} sounds of train have too low a sample rate for "
            f"bands up to {self.top_hz:,g} Hz ({rates}): their highest bands are empty (rate_hz={min(slower)} fits all)"
        ]

    @property
    def top_hz(self) -> float:
        """The highest frequency of the bands."""
        return self.high_hz or self.rate_hz / 2

    def too_slow(self, rate_hz: int) -> bool:
        """Whether sounds with this sample rate have nothing in the highest bands."""
        return rate_hz < 2 * self.top_hz

    def encode(self, item: Sound) -> np.ndarray:
        return self._stacked((self.energies(item) - self.mean_M) / self.deviation_M)

    def decode(self, ids: Sequence[Any] | np.ndarray) -> np.ndarray:
        """The log energies, float64 [T · S, M]; the last frame may have been repeated to fill a stack."""
        return self._apart(np.asarray(ids, dtype=np.float64)) * self.deviation_M + self.mean_M

    def energies(self, item: Sound) -> np.ndarray:
        """Natural logarithms of the bands' energies, float64 [T, M]; `centre` applied.

        Raises:
            UserError: it isn't a sound.
        """
        samples = _checked(item)
        if item[1] != self.rate_hz:
            samples = resample(samples, item[1], self.rate_hz)
        samples = np.append(samples[:1], samples[1:] - self.preemphasis * samples[:-1])
        # at least one frame; an incomplete last frame is dropped
        samples = np.pad(samples, (0, max(0, self.window - len(samples))))
        frames_TW = np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.hop]
        window_W = np.hanning(self.window + 1)[:-1]
        energies_TM = np.concatenate(
            [
                power(frames_TW[start : start + BLOCK] * window_W, self._bins) @ self.filters_KM
                for start in range(0, len(frames_TW), BLOCK)
            ]
        )
        logs_TM = np.log(np.maximum(energies_TM, FLOOR))
        return logs_TM - logs_TM.mean(0) if self.centre else logs_TM

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        frames_TM = self._apart(np.array(ids, dtype=np.float64))
        if self.noise is not None:
            frames_TM = self._noisy(frames_TM, rng.uniform(self.noise, self.noise + NOISE_RANGE), rng)
        if self.tempo > 1:
            length = len(frames_TM) * self.tempo ** rng.uniform(-1.0, 1.0)
            frames_TM = _between(frames_TM, np.linspace(0, len(frames_TM) - 1, max(1, round(length))))
        T, M = frames_TM.shape
        if self.warp and T > 1:
            frames_TM = _between(frames_TM, warped(T, self.warp, rng))
        if self.shift:
            by = rng.uniform(-self.shift, self.shift)
            frames_TM = _between(frames_TM.T, np.clip(np.arange(M) + by, 0, M - 1)).T
        if self.gain:
            frames_TM = frames_TM + rng.normal(0.0, self.gain) * math.log(10) / 10 / self.deviation_M
        for axis, count, widest in ((0, self.time_masks, self.time_mask), (1, self.band_masks, self.band_mask)):
            for _ in range(count):
                length = frames_TM.shape[axis]
                # at most half of a short recording
                width = int(rng.integers(0, min(widest, length // 2) + 1))
                start = int(rng.integers(0, length - width + 1))
                frames_TM[(slice(None),) * axis + (slice(start, start + width),)] = 0.0  # the mean
        return self._stacked(frames_TM)

    def _noisy(self, frames_TM: np.ndarray, ratio_db: float, rng: np.random.Generator) -> np.ndarray:
        """Standardised frames with noise added to their energies; its mean over bands and frames is `ratio_db` below
        the recording's."""
        logs_TM = frames_TM * self.deviation_M + self.mean_M
        tilt_M = rng.normal(0.0, NOISE_TILT) * np.linspace(-1.0, 1.0, logs_TM.shape[1])
        # the energy of a band of a few bins fluctuates from frame to frame
        noise_TM = np.log(np.mean(np.exp(logs_TM))) - ratio_db * math.log(10) / 10 + tilt_M
        noise_TM = noise_TM + np.log(rng.gamma(2.0, 0.5, logs_TM.shape) + 1e-9)
        return (np.logaddexp(logs_TM, noise_TM) - self.mean_M) / self.deviation_M

    def learned(self) -> dict[str, Any]:
        return {"mean": self.mean_M.tolist(), "deviation": self.deviation_M.tolist()}

    def set_learned(self, state: Mapping[str, Any]) -> None:
        self.mean_M = np.array(state["mean"], dtype=np.float64)
        self.deviation_M = np.array(state["deviation"], dtype=np.float64)
        if self.mean_M.shape != (self.bands,) or self.deviation_M.shape != (self.bands,):
            raise ValueError(f"mean and deviation are of {self.bands} bands")

    @property
    def _bins(self) -> int:
        """Length of the Fourier transform: a power of two, twice the window, so that low bands have enough bins."""
        return 2 << (self.window - 1).bit_length()

    def _stacked(self, frames_TM: np.ndarray) -> np.ndarray:
        missing = -len(frames_TM) % self.stack
        padded = np.concatenate([frames_TM, np.repeat(frames_TM[-1:], missing, axis=0)])
        return padded.reshape(-1, self.stack * self.bands).astype(np.float32)

    def _apart(self, stacked: np.ndarray) -> np.ndarray:
        return stacked.reshape(-1, self.bands)


def power(frames_TW: np.ndarray, bins: int) -> np.ndarray:
    """Power spectrum |X|² / `bins` of each frame, lower half, [T, bins // 2 + 1]; both halves add up to the frame's
    energy."""
    return np.abs(np.fft.rfft(frames_TW, bins, axis=1)) ** 2 / bins


@functools.lru_cache(maxsize=8)
def mel_filters(rate_hz: int, bins: int, bands: int, low_hz: float, high_hz: float) -> np.ndarray:
    """Triangular filters [K, M], linear in Hz, 1 at their peaks, each from the peak below to the peak above.

    Raises:
        UserError: the range is empty or beyond half the rate, or a band has no bin.
    """
    if not 0 <= low_hz < high_hz <= rate_hz / 2:
        raise UserError(f"invalid range: {low_hz:g} to {high_hz:g} Hz", where="encoding.low_hz",
                        hint=f"choose a range within 0 to {rate_hz / 2:g} Hz, half of rate_hz")  # fmt: skip
    edges_hz = 700.0 * (10.0 ** (np.linspace(_mel(low_hz), _mel(high_hz), bands + 2) / 2595.0) - 1.0)
    bins_hz = np.arange(bins // 2 + 1)[:, None] * rate_hz / bins
    rising = (bins_hz - edges_hz[:-2]) / (edges_hz[1:-1] - edges_hz[:-2])
    falling = (edges_hz[2:] - bins_hz) / (edges_hz[2:] - edges_hz[1:-1])
    filters_KM = np.maximum(np.minimum(rising, falling), 0.0)
    if not (filters_KM.sum(0) > 0).all():
        raise UserError(f"{bands} bands are too narrow for windows of this length", where="encoding.bands",
                        hint="use fewer bands, or a longer encoding.window_seconds")  # fmt: skip
    return filters_KM


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample a sound to another rate, float64 [N · to / from, rounded up]; higher frequencies are removed.

    The Fourier spectrum is cut or padded. Zeros after the end prevent wrap-around and make both lengths whole numbers
    of samples, so that the speed stays exact.
    """
    common = math.gcd(from_hz, to_hz)
    down, up = from_hz // common, to_hz // common
    turns = -(-(len(samples) + from_hz // 50) // down)
    spectrum = np.fft.rfft(samples, turns * down)
    kept = np.zeros(turns * up // 2 + 1, dtype=complex)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    return np.fft.irfft(kept, turns * up)[: -(-len(samples) * up // down)] * (up / down)


def _between(frames: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows of an array at fractional indices, by linear interpolation."""
    below = np.minimum(places.astype(np.int64), max(0, len(frames) - 2))
    above = np.minimum(below + 1, len(frames) - 1)
    share = (places - below)[:, None]
    return frames[below] * (1 - share) + frames[above] * share


def _mel(hz: Any) -> Any:
    return 2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0)


def _checked(item: Any) -> np.ndarray:
    """The samples of a sound, float64 [N]."""
    if not isinstance(item, tuple) or len(item) != 2:
        raise UserError("a sound must be (samples, sample rate)", where="data", hint="read_wav reads one from a file")
    samples, rate_hz = np.asarray(item[0], dtype=np.float64), item[1]
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise UserError(f"samples must be finite numbers of shape [N], not {samples.shape}", where="data")
    if (loudest := float(np.abs(samples).max())) > LOUDEST:
        hint = "divide integer samples by their full scale, e.g. 32768 for 16 bits"
        raise UserError(f"samples must lie between -1 and 1, but reach {loudest:,g}", where="data", hint=hint)
    if not isinstance(rate_hz, int) or not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        what = f"the sample rate must be from {LOWEST_RATE_HZ:,} to {HIGHEST_RATE_HZ:,} Hz, not {rate_hz!r}"
        raise UserError(what, where="data")
    return samples
