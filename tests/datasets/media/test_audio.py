"""WAV files: every kind of sample reads to the same sound; what lies about itself is refused; texts come from names
or tables."""

from __future__ import annotations

import contextlib
import re
import struct
import tracemalloc
import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.datasets.ingest import ingest
from components.datasets.media.audio import GUID_TAIL, LARGEST_BYTES, WavReader, parse_wav, read_wav
from components.datasets.store import Store
from components.encodings.mel import Sound
from components.errors import UserError

TONE = (0.5 * np.sin(np.arange(400) / 7)).astype(np.float32)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def riff(*chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + sum(map(len, chunks))) + b"WAVE" + b"".join(chunks)


def form(bits: int, *, tag: int = 1, channels: int = 1, rate_hz: int = 8000, block: int | None = None) -> bytes:
    block = channels * bits // 8 if block is None else block
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block % 2**32, block, bits))


def raw(samples: np.ndarray, bits: int, tag: int = 1) -> bytes:
    if tag == 3:
        return samples.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return np.round(samples * 127 + 128).astype("u1").tobytes()
    integers = np.round(samples.astype(np.float64) * (2 ** (bits - 1) - 1)).astype("<i4")
    return integers.view("u1").reshape(-1, 4)[:, : bits // 8].tobytes()


def make(samples: np.ndarray = TONE, bits: int = 16, tag: int = 1, **options) -> bytes:
    return riff(form(bits, tag=tag, **options), chunk(b"data", raw(samples, bits, tag)))


def why(content: bytes, **options) -> str:
    with pytest.raises(UserError) as caught:
        parse_wav(content, where="x.wav", **options)
    assert caught.value.where == "x.wav"
    return caught.value.what


@pytest.mark.parametrize(
    ("turned", "left"), [(-TONE, False), (-0.99 * TONE, False), (-0.8 * TONE, True), (0 * TONE, True)]
)
def test_channels_that_cancel_each_other_are_refused(turned, left) -> None:
    content = make(np.stack([TONE, turned], axis=1).ravel(), channels=2)
    if left:
        assert np.abs(parse_wav(content, where="a").samples).max() > 0.01
    else:
        with pytest.raises(UserError, match="cancel each other"):
            parse_wav(content, where="a")
    assert not parse_wav(make(0 * np.stack([TONE, TONE], axis=1).ravel(), channels=2), where="a").samples.any()


@pytest.mark.parametrize(("bits", "tag"), [(8, 1), (16, 1), (24, 1), (32, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_kind_of_sample_is_the_same_sound(bits, tag, extensible, channels) -> None:
    # two channels whose mean is the tone
    samples = TONE if channels == 1 else np.stack([TONE * 1.5, TONE * 0.5], axis=1).ravel()
    header = form(bits, tag=tag, channels=channels)
    if extensible:
        fields = bytearray(header[8:])
        fields[:2] = struct.pack("<H", 0xFFFE)
        header = chunk(b"fmt ", bytes(fields) + struct.pack("<HHIH", 22, bits, 0, tag) + GUID_TAIL)
    sound = parse_wav(riff(header, chunk(b"data", raw(samples, bits, tag))), where="x.wav")
    assert sound.rate_hz == 8000
    assert sound.samples.dtype == np.float32
    np.testing.assert_allclose(sound.samples, TONE, atol=2 / 2 ** min(bits, 16))


def test_what_pythons_own_writer_writes_is_read_back() -> None:
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes(np.array([0, 16384, -32768, 32767], "<i2").tobytes())
    sound = parse_wav(buffer.getvalue(), where="x")
    assert sound.rate_hz == 44_100
    assert sound.samples.tolist() == [0.0, 0.5, -1.0, 32767 / 32768]


def test_chunks_that_nobody_asked_for_are_passed_over() -> None:
    content = riff(chunk(b"LIST", b"odd"), form(16), chunk(b"fact", b"1234"), chunk(b"data", raw(TONE, 16)), b"tail")
    assert len(parse_wav(content, where="x").samples) == 400


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "not a WAV file"),
        (b"fLaC" + bytes(100), "FLAC"),
        (b"RIFF\x24\0\0\0AVI " + bytes(40), "not a WAV file"),
        (make()[:-2], "cut off"),
        (make()[:43], "no sound"),
        (make()[:40], "no sound"),
        (make(tag=7, bits=8), r"compressed \(format 7\)"),
        (make(bits=12), "12 bits"),
        (make(bits=16, tag=3), "float samples of 16 bits"),
        (make(channels=0), "0 channels"),
        (make(channels=999, block=16), "999 channels"),
        (make(rate_hz=0), "a sample rate of 0 Hz"),
        (make(rate_hz=2**32 - 1), "a sample rate of 4,294,967,295 Hz"),
        (make(block=3), "contradicts itself"),
        (riff(chunk(b"data", raw(TONE, 16))), "its format is missing"),
        (riff(chunk(b"fmt ", b"\1\0"), chunk(b"data", b"12")), "format is cut off"),
        (riff(chunk(b"fmt ", form(16, tag=0xFFFE)[8:]), chunk(b"data", b"12")), "format is cut off"),
        (riff(form(16), chunk(b"data", b"123")), "middle of a sample"),
        (riff(form(16), chunk(b"data", b"")), "no samples"),
        (riff(form(16)), "no sound"),
        (riff(*[chunk(b"junk", b"")] * 5000, form(16), chunk(b"data", b"12")), "no sound"),
        (make(np.array([0.0, np.nan]), bits=32, tag=3), "finite"),
        (make(np.array([0.0, 1e300]), bits=64, tag=3), "finite"),
        (make(TONE, rate_hz=1000), "longer than 0.3 seconds"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused_with_the_reason(content, what) -> None:
    assert re.search(what, why(content, max_seconds=0.3))


SIZES = {"ffmpeg": 2**32 - 1, "sox": 0x7FFFF000, "arecord": 2**31, "zero": 0}


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("cut", [0, 1])
def test_a_size_that_a_pipe_could_not_know_means_to_the_end(size, cut) -> None:
    whole = make()
    piped = whole[:4] + struct.pack("<I", size) + whole[8:40] + struct.pack("<I", size) + whole[44 : len(whole) - cut]
    assert len(parse_wav(piped, where="x").samples) == 400 - cut


def test_no_sound_is_not_taken_for_sound_to_the_end() -> None:
    assert "no samples" in why(riff(form(16), chunk(b"data", b""), chunk(b"LIST", b"who made it?")))
    assert "no samples" in why(riff(form(16), chunk(b"data", b"")))


def test_sizes_of_64_bits_are_read_and_a_forgotten_padding_byte_is_forgiven() -> None:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 900, 400, 200, 0))
    data = b"data" + struct.pack("<I", 2**32 - 1) + raw(TONE, 16)[:400]
    assert len(parse_wav(b"RF64" + riff(ds64, form(16), data, chunk(b"LIST", b"end!"))[4:], where="x").samples) == 200
    unpadded = riff(b"LIST" + struct.pack("<I", 3) + b"odd", form(16), chunk(b"data", raw(TONE, 16)))
    assert len(parse_wav(unpadded, where="x").samples) == 400


def test_a_header_that_promises_gigabytes_takes_no_memory() -> None:
    lying = make()[:40] + struct.pack("<I", 2**30) + bytes(1000)
    tracemalloc.start()
    assert "cut off" in why(lying)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_file_too_large_is_not_read_on(tmp_path) -> None:
    path = tmp_path / "large.wav"
    with path.open("wb") as file:
        file.truncate(LARGEST_BYTES + 2)  # sparse
    with pytest.raises(UserError, match="larger than"):
        read_wav(path)


@pytest.mark.slow
@given(st.data())
def test_mutated_files_give_finite_samples_or_a_users_error(data) -> None:
    bits, tag = data.draw(st.sampled_from([(8, 1), (24, 1), (32, 3)]))
    content = bytearray(make(TONE[:50], bits=bits, tag=tag, channels=2))
    for _ in range(data.draw(st.integers(1, 4))):
        # mostly in the header
        place = data.draw(st.integers(0, min(60, len(content) - 1)))
        if data.draw(st.booleans()):
            content[place : place + 4] = struct.pack("<I", data.draw(st.integers(0, 2**32 - 1)))
        else:
            content[place] = data.draw(st.integers(0, 255))
    content = bytes(content)[: data.draw(st.integers(0, len(content)))]
    try:
        sound = parse_wav(content, where="x")
    except UserError:
        return
    assert 1 <= len(sound.samples) <= len(content)
    assert np.isfinite(sound.samples).all()


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_bytes_that_follow_a_wav_beginning_are_read_or_refused(rest) -> None:
    with contextlib.suppress(UserError):
        assert isinstance(parse_wav(b"RIFF\0\0\0\0WAVE" + rest, where="x"), Sound)


def spoken(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names, 1):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(make(TONE * (0.1 * number)))
    return folder


DIGITS = {"7": "seven", "0": "zero"}


def test_a_files_name_says_what_is_said_and_labels_spell_it(tmp_path) -> None:
    folder = spoken(tmp_path / "wavs", "7_ann_0.wav", "deep/0_bob_1.WAV", ".hidden.wav", "notes.txt", "hum.wav")
    reader = WavReader([folder], file_name="{text}_{speaker}_{index}", labels=DIGITS)
    items = list(reader.items())
    assert sorted(text for _, text in items) == ["seven", "zero"]
    assert reader.dropped == {"no transcript": 1}
    assert all(isinstance(sound, Sound) and sound.rate_hz == 8000 for sound, _ in items)
    assert [row.shown["file"] for row in reader.inputs()] == ["7_ann_0.wav", "hum.wav", "0_bob_1.WAV"]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_table_says_what_is_said(tmp_path, ending) -> None:
    folder = spoken(tmp_path / "wavs", "a.wav", "in/b.wav", "c.wav")
    comma = "," if ending == "csv" else "\t"
    quoted = '"one, two"' if ending == "csv" else "one, two"
    rows = [f"Text{comma}file", f"{quoted}{comma}a.wav", f"three{comma}./in/b.wav", f"gone{comma}x.wav"]
    (folder / f"texts.{ending}").write_text("\n".join(rows), encoding="utf-8")
    reader = WavReader([folder], transcripts=f"texts.{ending}")
    assert [text for _, text in reader.items()] == ["one, two", "three"]
    assert reader.dropped == {"no transcript": 1}


def test_a_changed_transcript_is_another_data_set(tmp_path) -> None:
    folder = spoken(tmp_path / "wavs", "a.wav")
    digests = []
    for text in ("one", "two"):
        (folder / "t.csv").write_text(f"file,text\na.wav,{text}\n", encoding="utf-8")
        digests.append(WavReader([folder], transcripts="t.csv").digest())
    assert digests[0] != digests[1]


def test_wrong_settings_are_refused(tmp_path) -> None:
    folder = spoken(tmp_path / "wavs", "a.wav")
    with pytest.raises(UserError, match=r"no \{text\}"):
        WavReader([], file_name="{speaker}_{index}")
    with pytest.raises(UserError, match="texts of the recordings aren't set"):
        list(WavReader([folder]).items())
    with pytest.raises(UserError, match="no such file of transcripts"):
        list(WavReader([folder], transcripts="none.csv").items())
    with pytest.raises(UserError, match="unknown label 'a'"):
        list(WavReader([folder], file_name="{text}", labels=DIGITS).items())


def test_unreadable_and_repeated_recordings_are_counted_with_their_reason(tmp_path) -> None:
    folder = spoken(tmp_path / "wavs", "0_a.wav", "7_b.wav")
    (folder / "0_c.wav").write_bytes((folder / "0_a.wav").read_bytes())
    (folder / "0_d.wav").write_bytes(b"RIFFnothing")
    (folder / "0_e.wav").write_bytes(make()[:-100])
    reader = WavReader([folder], file_name="{text}_{who}", labels=DIGITS)
    assert len(list(reader.items())) == 2
    assert reader.dropped == {
        "repeated": 1,
        "not a WAV file": 1,
        "cut off: it has less sound than its header says": 1,
    }
    problems = {row.shown["file"]: row.problem for row in reader.inputs()}
    assert problems["0_a.wav"] == ""
    assert problems["0_d.wav"] == "not a WAV file"


def test_the_same_recording_stays_on_one_side_and_a_store_is_made(tmp_path) -> None:
    folder = spoken(tmp_path / "wavs", *(f"{'07'[i % 2]}_{i}.wav" for i in range(12)))
    data = {
        "path": str(folder),
        "reader": "wav",
        "file_name": "{text}_{n}",
        "labels": DIGITS,
        "split": [0.5, 0.25, 0.25],
    }
    inputs = {"kind": "mel", "rate_hz": 8000, "bands": 8, "stack": 2}
    encoding = {"kind": "pair", "input": inputs, "target": {"kind": "characters"}}
    store = Store.open(ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0).path)
    assert store.manifest["counts"]["train"]["sequences"] == 6
    example = store.split("train")[0]
    assert example["input"].shape == (2, 16)  # 50 ms: three windows of 25, two by two
    assert store.encoding().target.decode(example["target"]) in ("seven", "zero")
    reader = WavReader([folder], file_name="{text}_{n}")
    a, b = [sound for sound, _ in reader.items()][:2]
    assert reader.group((a, "x")) == reader.group((Sound(a.samples.copy(), a.rate_hz), "y")) != reader.group((b, "x"))
    assert reader.group((a, "x")) != reader.group((Sound(a.samples, 16_000), "x"))


def test_what_is_passed_over_in_a_folder_of_sounds_is_named_but_the_transcripts(tmp_path) -> None:
    folder = spoken(tmp_path / "wavs", "a.wav", "in/b.wav")
    for name in ("c.mp3", "in/notes.txt", "metadata.csv"):
        (folder / name).write_text("a|one\nb|two\n", encoding="utf-8")
    reader = WavReader([folder], transcripts="metadata.csv")
    assert [text for _, text in reader.items()] == ["one", "two"]
    assert reader.passed_over == {"ending .mp3": ["c.mp3"], "ending .txt": ["in/notes.txt"]}


@pytest.mark.parametrize("samples", [TONE, np.concatenate([np.zeros(50, np.float32), TONE])])
def test_no_size_at_all_means_to_the_end_also_where_the_file_is_counted(samples: np.ndarray) -> None:
    counted = riff(form(16), b"data" + struct.pack("<I", 0) + raw(samples, 16))
    assert len(parse_wav(counted, where="x").samples) == len(samples)


def test_more_sound_than_the_header_says_is_refused_and_what_may_follow_isnt() -> None:
    short = b"data" + struct.pack("<I", 200) + raw(TONE, 16)
    assert "more sound than its header says" in why(riff(form(16), short))
    for after in (b"", b"\0" * 64, chunk(b"LIST", b"INFO"), b"\0" + chunk(b"id3 ", b"a tag")):
        assert len(parse_wav(make() + after, where="x").samples) == len(TONE)
