"""The report of a recipe's runs: one file that shows what MLflow has, names nothing outside itself, runs nothing."""

from __future__ import annotations

import base64
import io
import wave
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from chromium import Browser, Tags
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.errors import UserError
from components.evaluation import run_report
from components.evaluation.run_report import Grid, Picture, Piece, RunReport, curves_svg, render, small_sound
from components.runs import report as module
from components.tracking.mlflow_backend import MlflowTracker
from components.tracking.settings import Settings

pytest_plugins = ["tracking_fixtures"]
HOSTILE = '</pre></title><script>document.title="owned"</script><img src=x onerror=alert(1)> "&lt; \'quoted\' https://x.example'


def png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (60, 30), colour).save(out, "png")
    return out.getvalue()


def wav(seconds: float = 1.0, rate: int = 32000, channels: int = 2) -> bytes:
    out = io.BytesIO()
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype("<i2")
    with wave.open(out, "wb") as file:
        file.setparams((channels, 2, rate, len(tone), "NONE", ""))
        file.writeframes(np.repeat(tone, channels).tobytes())
    return out.getvalue()


def hostile() -> RunReport:
    """A report in which every text is hostile."""
    grid = Grid(HOSTILE, {HOSTILE: [HOSTILE, 1.5], "n": [1, 2000]})
    return RunReport(
        title=HOSTILE, subtitle=HOSTILE, facts={HOSTILE: HOSTILE}, figures=grid, runs=grid,
        curves=curves_svg({HOSTILE: [(1, 2.0), (2, 1.0)], "$broken_{math": [(1, float("nan"))]}, HOSTILE),
        pieces=[Piece(HOSTILE, small_sound(wav()), png())], texts=[(HOSTILE, HOSTILE)], tables=[grid],
        pictures=[Picture(HOSTILE, png("blue")), Picture("no picture", b"<svg onload=alert(1)>")], recipe=HOSTILE,
        digests={HOSTILE: HOSTILE},
    )  # fmt: skip


def addresses(page: str) -> list[str]:
    names = ("src", "href", "action", "data", "poster", "srcset", "background")
    return [value or "" for _, attrs in Tags(page).found for name, value in attrs.items() if name in names]


# the page


@pytest.mark.slow
def test_hostile_texts_stay_text_and_nothing_outside_is_named() -> None:
    page = render(hostile())
    tags = [tag for tag, _ in Tags(page).found]
    assert tags.count("img") == 3, "curves, piano roll, and of two pictures the one that is one"
    assert tags.count("img") + tags.count("audio") == len(addresses(page))
    assert {a.partition(",")[0] for a in addresses(page)} == {
        "data:image/png;base64", "data:image/svg+xml;base64", "data:audio/wav;base64",
    }  # fmt: skip
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "a"} & set(tags)
    assert not [name for _, attrs in Tags(page).found for name in attrs if name.startswith("on")]
    assert "default-src 'none'" in page


@given(st.text(max_size=200))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    class Texts(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def handle_data(self, data: str) -> None:
            self.seen.append(data)

    parser = Texts()
    empty = Grid("", {})
    parser.feed(render(RunReport("t", "", {}, empty, empty, recipe=f"«{text}»")))
    assert f"«{text}»".replace("\r\n", "\n") in "".join(parser.seen).replace("\r\n", "\n")


def test_the_page_stays_within_its_bound_and_names_what_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "MAX_BYTES", 4000)
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, "png")
    empty = Grid("", {"a": ["x" * 10_000], "b": list(range(1))})
    pictures = [Picture("small", png()), Picture("large", out.getvalue())]
    page = render(RunReport("t", "", {}, empty, empty, texts=[("long", "y" * 100_000)], pictures=pictures))
    assert "Left out because the page would be too large: large" in page
    assert 'alt="small"' in page
    assert 'alt="large"' not in page
    assert len(page) < 4000 + 20_000, "texts and cells are cut"
    rows = Grid("", {"n": list(range(1000))}, 7)
    assert "and 993 more rows" in render(RunReport("t", "", {}, rows, empty))


@pytest.mark.slow
@given(
    seconds=st.sampled_from([0.0, 0.01, 1.0, 75.0]),
    rate=st.sampled_from([8000, 22050, 44100]),
    channels=st.integers(1, 3),
)
def test_sound_becomes_small_and_stays_the_same_sound(seconds: float, rate: int, channels: int) -> None:
    small = small_sound(wav(seconds, rate, channels))
    with wave.open(io.BytesIO(small), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        assert 8000 <= file.getframerate() <= 23_000
        length = file.getnframes() / file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    assert length == pytest.approx(min(seconds, run_report.SOUND_SECONDS), abs=0.01)
    if seconds >= 1:
        spectrum = np.abs(np.fft.rfft(samples[:8000].astype(float)))
        heard = np.argmax(spectrum) * file.getframerate() / 8000
        assert heard == pytest.approx(440, abs=4)


@given(st.binary(max_size=300))
def test_what_is_no_sound_gives_none(content: bytes) -> None:
    assert small_sound(content) == b""
    assert small_sound(wav()[:44] + content[: len(content) // 4 * 4 + 1])[:4] in (b"", b"RIFF")


def test_a_real_browser_shows_it_without_a_request_or_an_error(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(hostile()), encoding="utf-8")
    browser.errors.clear(), browser.requests.clear()
    browser.call("Page.navigate", url=path.as_uri())
    browser.until("document.readyState === 'complete' && document.querySelector('audio')?.readyState >= 1")
    assert browser.value("document.title") == " ".join(HOSTILE.split())
    assert browser.value("[...document.images].every(image => image.naturalWidth > 0)")
    assert browser.value("document.images.length") == 3
    assert browser.value("document.querySelector('audio').duration") == pytest.approx(1.0, abs=0.01)
    browser.call("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)
    assert browser.value("document.documentElement.scrollWidth") <= 360, "no sideways scrolling on a phone"
    browser.call("Emulation.clearDeviceMetricsOverride")
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [path.as_uri()]


# from MLflow


@pytest.fixture
def tracker(home_settings: Settings) -> MlflowTracker:
    return MlflowTracker(home_settings)


@pytest.fixture
def runs(tracker: MlflowTracker, tmp_path: Path) -> Iterator[list[str]]:
    """Two finished runs, the second the better one with files, a failed one, and a comparison's parent."""
    ids = []
    for number, value in enumerate((2.0, 1.5)):
        run = tracker.start("songs", f"run-{number}", tags={"primary.metric": "nats_per_char", "data.digest": "d" * 64})
        run.params({"model.hidden_size": 8 * (number + 1), "model.kind": "gru", "parameters": 1234, "threads": number})
        for step in (10, 20):
            run.metrics({"val/nats_per_char": value + 1 / step}, step)
        run.metrics({"best/nats_per_char": value, "test/nats_per_char": value + 0.1, "best/accuracy": 0.5})
        run.dataset("own", "e" * 64, "own", {"sequences": 77}, "train")
        ids.append(run.ref.run_id)
        if number:
            for name, content in {"song-1.wav": wav(), "song-1.png": png(), "songs.txt": HOSTILE.encode()}.items():
                (tmp_path / name).write_bytes(content)
                run.file(tmp_path / name, "samples")
            (tmp_path / "surprise.png").write_bytes(png("green"))
            run.file(tmp_path / "surprise.png", "figures")
            run.table({"temperature": [0.5], "sample": ["la la"]}, "samples/temperatures.json")
            run.text("seed: 0\n", "recipe.yaml")
        run.finish()
    for tags, status in (({}, "FAILED"), ({"compare.digest": "x"}, "FINISHED")):
        other = tracker.start("songs", "other", tags=tags)
        other.metrics({"best/nats_per_char": 0.1})
        other.finish(status)
    return ids


@pytest.mark.slow
def test_a_report_shows_the_best_run_whole_and_all_runs_with_what_varied(runs: list[str], tmp_path: Path) -> None:
    report = module.gather("songs")
    assert "2 finished runs; 2 unfinished, failed or parent runs not shown. Details: run-1" in report.subtitle
    assert report.facts["test: nats/char"] == "1.6000"
    assert report.runs.columns["run"] == [f"run-1 ({runs[1][:6]})", f"run-0 ({runs[0][:6]})"]
    assert report.runs.columns["hidden_size"] == ["16", "8"]
    assert not {"kind", "threads", "parameters"} & set(report.runs.columns), "what is equal, or no setting"
    assert report.figures.columns["metric"] == ["accuracy", "nats_per_char"]
    assert report.figures.columns["test"] == [None, 1.6]
    assert [piece.title for piece in report.pieces] == ["song-1"]
    assert report.texts == [("songs.txt", HOSTILE)]
    assert [picture.title for picture in report.pictures] == ["surprise"]
    assert report.tables[0].columns["sample"] == ["la la"]
    assert report.digests["data, train"].startswith("e" * 64)
    out = module.write("songs", None, tmp_path / "songs.html")
    page = out.read_text(encoding="utf-8")
    assert base64.b64encode(png("green")).decode() in page
    assert "<script" not in page
    svg = base64.b64decode(next(a for a in addresses(page) if "svg" in a[:20]).partition(",")[2]).decode()
    assert "run-0" in svg
    assert "run-1" in svg
    other = module.gather("songs", runs[0][:8])
    assert other.subtitle.endswith("Details: run-0, chosen with --run.")
    assert not other.pieces


@pytest.mark.slow
def test_what_cannot_be_reported_is_explained(runs: list[str], tracker: MlflowTracker, tmp_path: Path) -> None:
    tracker.start("empty", "cut off", tags={}).finish("KILLED")
    for asked, said in (
        (("song", None, tmp_path / "x"), "Did you mean 'songs'"),
        (("empty", None, tmp_path / "x"), "none of the latest 1 runs of"),
        (("songs", "zzz", tmp_path / "x"), "no finished run 'zzz'"),
        (("songs", None, tmp_path / "no" / "x"), "No such file"),
    ):
        with pytest.raises(UserError, match=said):
            module.write(*asked)
