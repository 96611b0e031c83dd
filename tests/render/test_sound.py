"""A score as sound: pitch, length, level, and the WAV file."""

from __future__ import annotations

import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from test_render import RECORD, chorale, scores

from components.errors import UserError
from components.render import audio, layout
from components.render.audio import synthesise, write_wav
from components.score import Note, Part, Score

# sound


def note_score(pitch: int, beats: int = 8) -> Score:
    return Score((Part("a", (Note(0, 4 * beats, pitch),)),), length_steps=4 * beats)


@pytest.mark.slow
@pytest.mark.parametrize(("pitch", "frequency"), [(69, 440.0), (45, 110.0), (84, 1046.50)])
def test_a_note_sounds_at_its_pitch(pitch, frequency):
    left = synthesise(note_score(pitch), 32000)[0]
    spectrum = np.abs(np.fft.rfft(left * np.hanning(len(left))))
    assert abs(np.argmax(spectrum) * 32000 / len(left) - frequency) < 0.005 * frequency


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(piece=scores())
def test_sound_never_clips_and_is_as_long_as_the_score(piece):
    samples = synthesise(piece, 8000)
    assert samples.dtype == np.float32
    assert np.isfinite(samples).all()
    assert len(samples) == 2
    seconds = layout.score_end(piece) / piece.steps_per_beat * 60 / piece.tempo_bpm
    assert seconds + 2 < samples.shape[1] / 8000 < seconds + 3
    peak = np.abs(samples).max()
    assert peak == pytest.approx(10 ** (-1 / 20) if sum(len(p.notes) for p in piece.parts) else 0.0, rel=1e-5)


@pytest.mark.slow
def test_the_last_tone_dies_away_and_is_not_cut():
    samples = np.abs(synthesise(chorale(), 16000)).max(axis=0)
    end = round(chorale().length_seconds * 16000)
    assert samples[end - 1600 : end].max() > 0.05
    assert samples[end + 3200 : end + 6400].max() > 1e-3
    assert samples[-160:].max() < 1e-4


def test_silence_sounds_as_silence():
    assert not synthesise(Score((Part("a", ()),), length_steps=8), 8000).any()


@pytest.mark.slow
def test_a_long_note_stays_in_tune():
    tone = audio._tone(69, 60.0, 32000)[-5 * 32000 - 8000 : -8000]
    spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 8 * len(tone)))
    assert abs(np.argmax(spectrum) * 32000 / (8 * len(tone)) - 440.0) < 0.8  # the detuned pair lies 0.64 Hz apart


@pytest.mark.slow
def test_wav_is_sixteen_bit_stereo_whose_chunks_add_up(tmp_path):
    write_wav(chorale(), tmp_path / "a.wav", RECORD)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:3] == (2, 2, 32000)
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert np.array_equal(frames.reshape(-1, 2).T, np.rint(synthesise(chorale()) * 32767).astype(np.int16))
    data, at, chunks = (tmp_path / "a.wav").read_bytes(), 12, []
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    while at < len(data):
        name, size = struct.unpack("<4sI", data[at : at + 8])
        chunks.append(name)
        at += 8 + size
    assert (chunks, at) == ([b"fmt ", b"data", b"LIST"], len(data))


def test_endless_scores_are_refused():
    with pytest.raises(UserError, match="at most 30 can be rendered"):
        synthesise(note_score(60, beats=84 * 31))
    crowd = tuple(Note(0, 4 * 84 * 29, 20 + i) for i in range(30))
    with pytest.raises(UserError, match="hours of notes"):
        synthesise(Score((Part("a", crowd),)))
