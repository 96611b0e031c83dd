"""Log-mel frames: a tone lands in its band, energy is kept, gain adds a constant, variants keep their length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.encodings.base import encoding_from_state
from components.encodings.mel import Mel, Sound, mel_filters, power, resample
from components.errors import UserError

RATE = 16_000


def tone(hz: float, seconds: float = 0.3, rate_hz: int = RATE, gain: float = 0.3) -> Sound:
    return Sound(
        (gain * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32), rate_hz
    )


def noise(seed: int, seconds: float = 0.3) -> Sound:
    return Sound(np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32), RATE)


def fitted(**options) -> Mel:
    mel = Mel(**options)
    mel.fit([noise(1), noise(2), tone(440)])
    return mel


@pytest.mark.parametrize("hz", [150, 440, 1000, 2500, 5000, 7000])
def test_a_pure_tone_is_loudest_in_the_band_around_it(hz) -> None:
    mel = Mel(bands=30, low_hz=0)
    # the bands' middles, written out again: equal steps of 2595 log10(1 + f / 700)
    top = 2595 * np.log10(1 + 8000 / 700)
    middles_hz = 700 * (10 ** (np.arange(1, 31) * top / 31 / 2595) - 1)
    energies_TM = mel.energies(tone(hz))
    assert (energies_TM.argmax(axis=1) == np.abs(np.log(middles_hz + 700) - np.log(hz + 700)).argmin()).all()


def test_the_filters_are_triangles_that_hand_over_to_each_other() -> None:
    filters_KM = mel_filters(RATE, 1024, 20, 100.0, 4000.0)
    bins_hz = np.arange(513) * RATE / 1024
    edges_hz = 700 * (10 ** (np.linspace(*2595 * np.log10(1 + np.array([100, 4000]) / 700), 22) / 2595) - 1)
    assert (filters_KM[(bins_hz <= 100) | (bins_hz >= 4000)] == 0).all()
    assert 0.9 < filters_KM.max() <= 1
    between = filters_KM[(bins_hz >= edges_hz[1]) & (bins_hz <= edges_hz[-2])]
    assert len(between) > 200
    np.testing.assert_allclose(between.sum(axis=1), 1.0, atol=1e-9)  # what one band loses the next one gets


@given(st.integers(0, 10**6), st.sampled_from([64, 200, 256]))
def test_the_spectrum_holds_the_frames_energy(seed, window) -> None:
    frames_TW = np.random.default_rng(seed).normal(size=(3, window))
    half = power(frames_TW, 256)
    whole = half[:, 0] + half[:, -1] + 2 * half[:, 1:-1].sum(axis=1)
    np.testing.assert_allclose(whole, (frames_TW**2).sum(axis=1), rtol=1e-9)


@pytest.mark.slow
@given(st.floats(0.1, 20))
def test_gain_adds_twice_its_logarithm(gain) -> None:
    sound = noise(3)
    quiet, loud = (Mel().energies(Sound(sound.samples * g, RATE)) for g in (1.0, np.float32(gain)))
    np.testing.assert_allclose(loud - quiet, 2 * np.log(np.float32(gain)), atol=1e-4)
    centred = [Mel(centre=True).energies(Sound(sound.samples * g, RATE)) for g in (1.0, np.float32(gain))]
    np.testing.assert_allclose(*centred, atol=1e-4)


def test_silence_is_finite_and_short_sounds_have_one_frame() -> None:
    mel = fitted()
    assert np.isfinite(mel.encode(Sound(np.zeros(4000, np.float32), RATE))).all()
    assert mel.encode(Sound(np.ones(1, np.float32), RATE)).shape == (1, 40)


@pytest.mark.parametrize(("samples", "frames"), [(400, 1), (559, 1), (560, 2), (16_000, 98)])
def test_a_frame_every_ten_milliseconds_where_a_whole_window_fits(samples, frames) -> None:
    assert Mel().energies(Sound(np.ones(samples, np.float32), RATE)).shape == (frames, 40)


@pytest.mark.parametrize("centre", [False, True])
def test_training_data_have_mean_zero_and_variance_one(centre) -> None:
    sounds = [noise(1), tone(440), noise(2, 0.5)]
    mel = Mel(centre=centre)
    mel.fit(sounds)
    frames = np.concatenate([mel.encode(sound) for sound in sounds])
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(frames.std(0), 1, atol=1e-4)


@pytest.mark.parametrize("stack", [1, 2, 3])
def test_stacking_lays_frames_side_by_side_and_decode_takes_them_apart(stack) -> None:
    mel = fitted(stack=stack)
    sound = noise(5)
    energies_TM = mel.energies(sound)
    stacked = mel.encode(sound)
    assert stacked.shape == (-(-len(energies_TM) // stack), 40 * stack) == (len(stacked), mel.fields["frames"].width)
    np.testing.assert_allclose(mel.decode(stacked)[: len(energies_TM)], energies_TM, atol=1e-4)


def test_a_stored_encoding_gives_the_same_frames() -> None:
    mel = fitted(rate_hz=8000, bands=20, stack=2, centre=True, high_hz=3500.0, warp=0.1, time_masks=1)
    again = encoding_from_state(mel.state())
    np.testing.assert_array_equal(again.encode(noise(9)), mel.encode(noise(9)))
    assert again.options() == mel.options()


@pytest.mark.parametrize(("from_hz", "to_hz"), [(44_100, 16_000), (8000, 16_000), (48_000, 8000), (11_025, 16_000)])
def test_another_rate_is_the_same_tone(from_hz, to_hz) -> None:
    before, after = tone(440, rate_hz=from_hz), tone(440, rate_hz=to_hz)
    changed = resample(before.samples, from_hz, to_hz)
    assert abs(len(changed) - len(after.samples)) <= 1
    middle = slice(len(changed) // 4, len(changed) // 2)
    np.testing.assert_allclose(changed[middle], after.samples[middle], atol=2e-3)


def test_tones_that_the_lower_rate_cannot_hold_are_cut_away() -> None:
    changed = resample(tone(6000).samples, RATE, 8000)
    assert np.abs(changed[100:-100]).max() < 0.01


def test_a_recording_at_any_rate_gives_nearly_the_same_frames() -> None:
    mel = Mel(rate_hz=8000, bands=20, high_hz=3000.0)
    a, b = (mel.energies(tone(700, rate_hz=rate)) for rate in (8000, 44_100))
    loud = a > a.max() - 5
    np.testing.assert_allclose(a[loud], b[loud], atol=0.05)


MASKED = {"time_masks": 2, "time_mask": 8, "band_masks": 2, "band_mask": 8}
VARIED = {"noise": 10.0, "warp": 0.3, "shift": 2.0, "gain": 6.0, **MASKED}


@pytest.mark.slow
@given(st.integers(0, 10**6), st.floats(0.001, 0.4), st.integers(1, 3))
def test_variants_keep_their_length_and_are_a_function_of_the_seed(seed, seconds, stack) -> None:
    mel = fitted(stack=stack, **VARIED)
    frames = mel.encode(noise(7, seconds))
    kept = frames.copy()
    one, two = (mel.augment(frames, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == frames.shape
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(frames, kept)


@pytest.mark.slow
@given(st.integers(0, 10**6), st.floats(0.001, 0.4), st.integers(1, 3))
def test_another_tempo_is_another_length_within_its_bounds(seed, seconds, stack) -> None:
    mel = fitted(stack=stack, tempo=1.5, **VARIED)
    frames = mel.encode(noise(7, seconds))
    one, two = (mel.augment(frames, np.random.default_rng(seed)) for _ in range(2))
    assert len(frames) / 1.5 - 1 <= len(one) <= len(frames) * 1.5 + 1
    assert len(one) >= 1
    np.testing.assert_array_equal(one, two)


def test_a_slower_recording_says_the_same_later() -> None:
    mel = fitted(tempo=2.0)
    click = np.concatenate([tone(1000, 0.2).samples * 0.01, tone(1000, 0.2).samples])
    frames = mel.encode(Sound(click, RATE))
    lengths = set()
    for seed in range(20):
        changed = mel.augment(frames, np.random.default_rng(seed))
        lengths.add(len(changed))
        starts = [int((array.mean(axis=1) > frames.mean()).argmax()) / len(array) for array in (frames, changed)]
        assert starts[1] == pytest.approx(starts[0], abs=0.1)
    assert len(lengths) > 10


def test_masks_silence_whole_frames_and_bands_and_leave_the_rest_alone() -> None:
    mel = fitted(time_masks=1, band_masks=1)
    frames = mel.encode(noise(8))
    hit = {"frames": 0, "bands": 0}
    for seed in range(20):
        gone = mel.augment(frames, np.random.default_rng(seed)) != frames
        rows, columns = gone.all(axis=1), gone.all(axis=0)
        np.testing.assert_array_equal(gone, rows[:, None] | columns[None, :])
        assert rows.sum() <= 10
        assert columns.sum() <= 8
        hit = {"frames": hit["frames"] + rows.any(), "bands": hit["bands"] + columns.any()}
    assert min(hit.values()) >= 10


def test_gain_in_training_is_gain_in_the_sound() -> None:
    mel = fitted(gain=6.0)
    sound = noise(8)
    changed = mel.decode(mel.augment(mel.encode(sound), np.random.default_rng(2)))
    decibels = np.random.default_rng(2).normal(0.0, 6.0)
    louder = Sound(sound.samples * np.float32(10 ** (decibels / 20)), RATE)
    np.testing.assert_allclose(changed, mel.energies(louder), atol=1e-4)


def test_noise_fills_the_silence_at_the_ratio_that_was_drawn() -> None:
    mel = fitted(noise=10.0)
    half = np.concatenate([np.zeros(8000, np.float32), noise(8, 0.5).samples])
    before = mel.energies(Sound(half, RATE))
    ratios = []
    for seed in range(20):
        after = mel.decode(mel.augment(mel.encode(Sound(half, RATE)), np.random.default_rng(seed)))
        assert (after >= before - 1e-4).all(), "noise only adds"
        added = np.exp(after) - np.exp(before)
        ratios.append(10 * np.log10(np.exp(before).mean() / added.mean()))
        assert added[:40].mean() == pytest.approx(added[-40:].mean(), rel=0.5), "as much in the silence as in the sound"
    assert 5 < min(ratios) < 20 < 30 < max(ratios) < 45  # 10 to 40, but for the tilt
    assert np.ptp(ratios) > 10


def test_a_shifted_pitch_is_the_neighbouring_bands() -> None:
    mel = fitted(shift=3.0)
    frames = mel.encode(tone(1000))
    peaks = {int(mel.augment(frames, np.random.default_rng(seed))[5].argmax()) for seed in range(40)}
    here = int(frames[5].argmax())
    assert len(peaks) >= 3
    assert {peak - here for peak in peaks} <= set(range(-3, 4))


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"high_hz": 9000.0}, "invalid range"),
        ({"low_hz": 500.0, "high_hz": 400.0}, "invalid range"),
        ({"bands": 256, "window_seconds": 0.005}, "too narrow"),
        ({"window_seconds": 1e-5}, "at least two samples"),
    ],
)
def test_settings_that_leave_no_bands_are_refused(options, what) -> None:
    with pytest.raises(UserError, match=what):
        Mel(**options)


@pytest.mark.parametrize(
    "item", ["a text", np.zeros(100), Sound(np.zeros(0), RATE), Sound(np.zeros((2, 5)), RATE), Sound(np.ones(9), 0),
             Sound(np.array([np.nan]), RATE), (1, 2, 3)]
)  # fmt: skip
def test_what_is_no_sound_is_refused(item) -> None:
    with pytest.raises(UserError):
        Mel().encode(item)
