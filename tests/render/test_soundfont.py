"""SoundFonts: what a font of one sine plays is that sine, where, how loud and how long the font says; a damaged one is
refused, and a replayed file names the font it needs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_audio import chunk

from components.errors import UserError
from components.render.audio import page_audio, synthesise, write_wav
from components.render.soundfont import font_of_record, read_soundfont
from components.score import Note, Part, Score

Zone = Sequence[tuple[int, int]]  # generators and their amounts
RATE, PERIOD = 22050, 50  # the recorded sine: 441 Hz
INSTRUMENT, KEYS, PAN, RELEASE, SUSTAIN, DECAY, ATTENUATION = 41, 43, 17, 38, 37, 36, 48
SAMPLE, LOOPED, ROOT, CUTOFF = 53, 54, 58, 8
PIANO = Part("a", ())


def listed(name: bytes, *chunks: bytes) -> bytes:
    return chunk(b"LIST", name + b"".join(chunks))


def rows(form: str, *values: tuple) -> bytes:
    return b"".join(struct.pack("<" + form, *value) for value in values)


def soundfont(path: Path, *, inside: Zone = (), preset: Zone = (), **numbers: int) -> Path:
    """A font with one preset, one instrument and one looped sine; more generators for its zones as given."""
    at = {"preset_bag": 1, "instrument": 0, "sample": 0, "program": 0, "bank": 0, "end": 20 * PERIOD, "kind": 1}
    at |= numbers
    sine = np.rint(20000 * np.sin(2 * np.pi * np.arange(20 * PERIOD) / PERIOD)).astype("<i2")
    outer = [*preset, (INSTRUMENT, at["instrument"])]
    inner = [*({LOOPED: 1, ROOT: 69} | dict(inside)).items(), (SAMPLE, at["sample"])]
    recorded = (b"sine", 0, at["end"], 0, 20 * PERIOD, RATE, 60, 0, 0, at["kind"])
    tables = (
        chunk(b"phdr", rows("20sHHH12x", (b"sine", at["program"], at["bank"], 0), (b"EOP", 0, 0, at["preset_bag"]))),
        chunk(b"pbag", rows("HH", (0, 0), (len(outer), 0))),
        chunk(b"pmod", bytes(10)),
        chunk(b"pgen", rows("Hh", *outer, (0, 0))),
        chunk(b"inst", rows("20sH", (b"sine", 0), (b"EOI", 1))),
        chunk(b"ibag", rows("HH", (0, 0), (len(inner), 0))),
        chunk(b"imod", bytes(10)),
        chunk(b"igen", rows("Hh", *inner, (0, 0))),
        chunk(b"shdr", rows("20sIIIIIBbHH", recorded, (b"EOS", *[0] * 9))),
    )
    body = listed(b"INFO", chunk(b"ifil", b"\2\0\1\0")) + listed(b"sdta", chunk(b"smpl", sine.tobytes()))
    path.write_bytes(chunk(b"RIFF", b"sfbk" + body + listed(b"pdta", *tables)))
    return path


def tone(path: Path, pitch: int = 69, velocity: int = 127, seconds: float = 1.0, part: Part = PIANO):
    return read_soundfont(path).tone(part, pitch, velocity, seconds, RATE)


def level(sound: np.ndarray) -> float:
    return float(np.sqrt((sound**2).mean()))


def loudest_hz(sound: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(spectrum.argmax() * RATE / len(sound))


@pytest.mark.parametrize(("pitch", "expected"), [(69, 441.0), (81, 882.0), (57, 220.5), (76, 441 * 2 ** (7 / 12))])
def test_a_recorded_sine_sounds_at_the_key_s_pitch_for_as_long_as_it_is_held(tmp_path, pitch, expected):
    sound = tone(soundfont(tmp_path / "a.sf2"), pitch)
    assert sound.shape == (2, RATE + round(RATE / 1024))  # a release of −12000 timecents: 1 ms
    assert loudest_hz(sound[0]) == pytest.approx(expected, abs=1.5)


def test_a_loop_goes_on_without_a_seam(tmp_path):
    sound = tone(soundfont(tmp_path / "a.sf2"))[0, 100 : RATE - 100]  # 22 times around
    sine = np.sin(2 * np.pi * (np.arange(RATE)[100 : RATE - 100]) / PERIOD)
    assert np.abs(sound / np.abs(sound).max() - sine).max() < 0.01


def test_without_a_loop_it_ends_with_its_recording(tmp_path):
    assert tone(soundfont(tmp_path / "a.sf2", inside=[(LOOPED, 0)])).shape[1] == 20 * PERIOD - 1


@pytest.mark.parametrize(
    ("generators", "ratio"),
    [([(ATTENUATION, 200)], 0.1), ([(SUSTAIN, 400), (DECAY, -12000)], 0.01), ([(CUTOFF, 6900)], 0.706)],
)
def test_generators_say_how_loud(tmp_path, generators, ratio):
    # 20 dB; 40 dB of decay, long over; a low-pass filter at 440 Hz, where it takes half of the power
    plain = tone(soundfont(tmp_path / "a.sf2"))[0, 2000:20000]
    changed = tone(soundfont(tmp_path / "b.sf2", inside=generators))[0, 2000:20000]
    assert level(changed) / level(plain) == pytest.approx(ratio, rel=0.02)


def test_a_preset_s_zone_adds_to_its_instrument_s(tmp_path):
    both = tone(soundfont(tmp_path / "a.sf2", inside=[(ATTENUATION, 100)], preset=[(ATTENUATION, 100)]))
    assert np.array_equal(both, tone(soundfont(tmp_path / "b.sf2", inside=[(ATTENUATION, 200)])))


def test_pan_key_range_and_velocity(tmp_path):
    left = tone(soundfont(tmp_path / "a.sf2", inside=[(PAN, -500)]))
    assert level(left[0]) > 0.1
    assert level(left[1]) < 1e-6
    low = soundfont(tmp_path / "b.sf2", preset=[(KEYS, 60 << 8)])
    assert tone(low, 60).size
    assert not tone(low, 61).size
    plain = soundfont(tmp_path / "c.sf2")
    assert level(tone(plain, velocity=64)) / level(tone(plain)) == pytest.approx((64 / 127) ** 2, rel=1e-3)


def test_a_release_rings_on(tmp_path):
    sound = tone(soundfont(tmp_path / "a.sf2", inside=[(RELEASE, 0)]))  # 100 dB in one second
    assert sound.shape[1] == 2 * RATE
    late = level(sound[0, RATE + RATE // 5 - 500 : RATE + RATE // 5 + 500])
    assert 20 * np.log10(late / level(sound[0, 5000:15000])) == pytest.approx(-20, abs=0.5)


def test_a_program_that_the_font_lacks_is_played_by_another(tmp_path):
    font = soundfont(tmp_path / "a.sf2", program=5, bank=3)
    assert tone(font, part=Part("drums", (), role="drums")).size
    assert tone(font, part=Part("sax", (), program=66)).size


def song() -> Score:
    notes = tuple(Note(4 * n, 4, 60 + n, 60 + 5 * n) for n in range(6))
    return Score((Part("a", notes), Part("b", notes[:3], program=32)), length_steps=24)


@pytest.mark.slow
def test_the_same_score_and_font_give_the_same_wav_and_another_one_than_the_pipes(tmp_path):
    font = read_soundfont(soundfont(tmp_path / "a.sf2"))
    for name in ("a.wav", "b.wav"):
        write_wav(song(), tmp_path / name, {"seed": 1}, soundfont=font)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    played, pipes = synthesise(song(), 16000, font), synthesise(song(), 16000)
    assert played.shape == pipes.shape
    assert np.abs(played).max() == pytest.approx(10 ** (-1 / 20))
    assert not np.allclose(played, pipes, atol=0.05)
    assert page_audio(song(), font) != page_audio(song())


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"preset_bag": 9}, "contradict each other"),
        ({"instrument": 7}, "missing instrument"),
        ({"instrument": -1}, "missing instrument"),
        ({"sample": 7}, "missing sample"),
        ({"end": 1 << 31}, "outside the sample data"),
        ({"kind": 0x11}, r"compressed \(.sf3\)"),
    ],
)
def test_a_font_that_contradicts_itself_is_refused(tmp_path, numbers, said):
    with pytest.raises(UserError, match=said):
        tone(soundfont(tmp_path / "a.sf2", **numbers))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "isn't a SoundFont 2"),
        (b"MThd" + bytes(40), "no SoundFont header"),
        (b"RIFF\x04\0\0\0sfbk", "has no chunk phdr"),
        (b"RIFF\x40\0\0\0sfbksmpl\xff\xff\xff\xff" + bytes(8), "cut off in its chunk 'smpl'"),
    ],
)
def test_what_is_no_soundfont_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "wrong.sf2"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_soundfont(path)
    assert error.value.where.endswith("wrong.sf2")
    with pytest.raises(UserError, match="not a file"):
        read_soundfont(tmp_path / "none.sf2")


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 400), change=st.binary(min_size=1, max_size=6))
def test_a_font_with_changed_tables_plays_or_is_refused(tmp_path, at, change):
    data = bytearray(soundfont(tmp_path / "a.sf2").read_bytes())
    begin = data.index(b"phdr") - 4 + at  # the tables are its end
    data[begin : begin + len(change)] = change
    (tmp_path / "b.sf2").write_bytes(data)
    try:
        sound = tone(tmp_path / "b.sf2", seconds=0.05)
    except UserError:
        return
    assert np.isfinite(sound).all()
    assert sound.shape[1] <= 2.1 * RATE


def test_replay_asks_for_the_font_that_the_record_names(tmp_path):
    font = soundfont(tmp_path / "a.sf2")
    other = soundfont(tmp_path / "b.sf2", program=1)
    file, asked = tmp_path / "x.wav", ("a.sf2", read_soundfont(font).digest)
    assert font_of_record(asked, font, file).digest == asked[1]
    assert font_of_record(None, None, file) is None
    for given_font, said in ((None, "made with the SoundFont a.sf2"), (other, "b.sf2 is a different one")):
        with pytest.raises(UserError, match=said):
            font_of_record(asked, given_font, file)
    with pytest.raises(UserError, match="without a SoundFont"):
        font_of_record(None, font, file)
