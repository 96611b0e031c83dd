"""The listening page, as text and in a real browser (skipped where there is no Chromium)."""

from __future__ import annotations

import base64
import contextlib
import html
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.render.audio import page_audio
from components.render.page import write_page
from components.render.piece import Piece
from components.render.record import read_record
from components.score import Chord, Note, Part, Score

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
HOSTILE = '</title><script>document.title="owned"</script><img src=x onerror=alert(1)> @@audio@@ & "quoted"'
RECORD = {"model": "chorales", "version": "3", "seed": 7}


def score(bars: int = 4) -> Score:
    beats = range(4 * bars)
    voices = [
        Part(name, tuple(Note(4 * b, 4, p + b % 3) for b in beats)) for name, p in [("Soprano", 72), ("Bass", 48)]
    ]
    return Score(tuple(voices), upbeat_steps=4, length_steps=16 * bars, tempo_bpm=120.0)


def written(path: Path, piece: Score, title: str = "A piece") -> str:
    facts = {"Model": "chorales v3", "Prompt": HOSTILE}
    write_page(Piece(piece, title, "of two voices", facts, RECORD), path, page_audio(piece))
    return path.read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.slow
def test_page_is_one_file_that_names_nothing_outside_itself(tmp_path):
    tags = Tags(written(tmp_path / "page.html", score())).found
    addresses = [v for _, attrs in tags for k, v in attrs.items() if k in ("src", "href", "action", "data", "poster")]
    assert len(addresses) == 2  # the sound, and the notes drawn twice
    assert sorted(a.partition(",")[0] for a in addresses) == ["#notes", "data:audio/wav;base64"]
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {tag for tag, _ in tags}


@pytest.mark.slow
def test_sound_and_record_in_the_page_are_those_given(tmp_path):
    page = written(tmp_path / "page.html", score())
    audio = next(attrs["src"] for tag, attrs in Tags(page).found if tag == "audio")
    assert base64.b64decode(audio.partition(",")[2]) == page_audio(score())
    assert read_record(tmp_path / "page.html") == RECORD


@pytest.mark.slow
def test_hostile_names_stay_text(tmp_path):
    page = written(tmp_path / "page.html", score(), HOSTILE)
    tags = [tag for tag, _ in Tags(page).found]
    assert tags.count("script") == 3
    assert "img" not in tags
    assert html.escape(HOSTILE) in page


@pytest.mark.slow
def test_every_note_is_drawn_where_it_sounds(tmp_path):
    piece = score()
    boxes = [attrs for tag, attrs in Tags(written(tmp_path / "page.html", piece)).found if tag == "rect"]
    drawn = sorted((int(box["x"]), int(box["width"])) for box in boxes)
    assert drawn == sorted((note.start, note.duration) for part in piece.parts for note in part.notes)


@pytest.mark.slow
def test_chord_symbols_stand_where_they_hold(tmp_path):
    chords = (Chord(4, 16, 5, "7"), Chord(20, 8, 10, "m7b5"))
    page = written(tmp_path / "page.html", replace(score(), chords=chords))
    spans = [attrs for tag, attrs in Tags(page).found if tag == "span" and "data-start" in attrs]
    assert [(int(a["data-start"]), int(a["data-end"])) for a in spans] == [(4, 20), (20, 28)]
    assert [a["style"].partition(";")[0] for a in spans] == ["left:6.250%", "left:31.250%"]
    assert ">F7</span>" in page
    assert ">Bbm7b5</span>" in page
    assert 'class="chords"' not in written(tmp_path / "plain.html", score())


@pytest.mark.slow
def test_bars_are_counted_through_a_change_of_the_metre(tmp_path):
    piece = replace(score(), upbeat_steps=0, metre_changes=((32, (3, 4)),))
    page = written(tmp_path / "page.html", piece)
    timing = json.loads(page.partition('id="score">')[2].partition("</script>")[0])
    assert timing["bars"] == [[1, 0, 16, 4], [2, 16, 32, 4], [3, 32, 44, 4], [4, 44, 56, 4], [5, 56, 64, 4]]
    assert 'd="M16 0v' in page
    assert "M44 0v" in page.partition("line bars")[2]
    assert '<span style="left:68.750%">4</span>' in page


def test_page_refuses_what_it_cannot_play(tmp_path):
    with pytest.raises(UserError, match="nothing to play"):
        written(tmp_path / "page.html", Score(()))
    with pytest.raises(UserError, match="isn't a wav"):
        write_page(Piece(score(), ""), tmp_path / "page.html", b"ID3")


class Browser:
    """A page in headless Chromium over its DevTools socket; records errors and every request it makes."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.ids = socket, itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        wanted = next(self.ids)
        self.socket.send(json.dumps({"id": wanted, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            kind, detail = message.get("method"), message.get("params", {})
            if kind == "Network.requestWillBeSent":
                self.requests.append(detail["request"]["url"][:300])
            elif kind == "Runtime.exceptionThrown":
                self.errors.append(str(detail["exceptionDetails"]))
            elif kind in ("Log.entryAdded", "Runtime.consoleAPICalled"):
                self.errors.append(str(detail))
            if message.get("id") == wanted:
                assert "error" not in message, message
                return message["result"]

    def value(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < deadline, f"never came true: {expression}"
            time.sleep(0.05)

    def open(self, path: Path) -> None:
        self.requests.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.until("document.readyState === 'complete' && document.getElementById('audio')?.readyState >= 2")

    def key(self, key: str, code: int, modifiers: int = 0) -> None:
        detail = {
            "key": key,
            "code": "Space" if key == " " else key,
            "windowsVirtualKeyCode": code,
            "modifiers": modifiers,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **detail, **({"text": " "} if key == " " else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **detail)

    def click(self, selector: str, share: float = 0.5) -> None:
        self.value(f"document.querySelector('{selector}').scrollIntoView({{block: 'center', behavior: 'instant'}})")
        box = f"document.querySelector('{selector}').getBoundingClientRect()"
        x, y = self.value(f"(b => [b.x + b.width * {share}, b.y + b.height / 2])({box})")
        self.click_at(x, y)

    def click_at(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    client = pytest.importorskip("websockets.sync.client", reason="needs websockets: pip install websockets")
    profile = tmp_path_factory.mktemp("profile")
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run --mute-audio"
    flags += " --disable-quic --disable-component-update --disable-sync"
    command = [CHROMIUM, *flags.split(), "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + 120  # for a busy machine
        while not port_file.is_file() or not port_file.read_text().strip():
            assert process.poll() is None, "Chromium ended at once"
            assert time.monotonic() < deadline, "Chromium opened no DevTools port"
            time.sleep(0.1)
        address = f"http://127.0.0.1:{port_file.read_text().split()[0]}/json/list"
        pages = json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=20))
        page = next(page for page in pages if page["type"] == "page")
        with client.connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            driver = Browser(socket)
            for domain in ("Page", "Runtime", "Network", "Log"):
                driver.call(f"{domain}.enable")
            yield driver
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    written(tmp_path / "page.html", score(), HOSTILE)
    browser.errors.clear()
    browser.open(tmp_path / "page.html")
    yield browser
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [(tmp_path / "page.html").as_uri()]


PLAYING = "document.documentElement.classList.contains('playing') && !document.getElementById('audio').paused"
LEFT = "parseFloat(document.querySelector('#sheet .cursor').style.left)"
PLACE = "document.getElementById('place').textContent"
LABEL = "document.getElementById('play').getAttribute('aria-label')"


def test_button_plays_and_pauses_and_the_cursor_follows(opened):
    assert (opened.value(LABEL), opened.value(LEFT)) == ("Play", 0)
    opened.click("#play")
    opened.until(f"{PLAYING} && {LABEL} === 'Pause'")
    opened.until(f"{LEFT} > 1")
    first = opened.value(LEFT)
    opened.until(f"{LEFT} > {first + 1}")
    opened.until("document.querySelectorAll('.voice .on').length === 2")
    opened.click("#play")
    opened.until(f"!({PLAYING}) && {LABEL} === 'Play'")


def test_keys_play_and_move_by_beat_and_bar(opened):
    opened.key(" ", 32)
    opened.until(PLAYING)
    opened.key(" ", 32)
    opened.until(f"!({PLAYING})")
    opened.key("Home", 36)
    opened.until(f"{PLACE} === 'Upbeat, beat 4'")
    for key, code, shift, place in (
        ("ArrowRight", 39, 0, "Bar 1, beat 1"),
        ("ArrowRight", 39, 0, "Bar 1, beat 2"),
        ("ArrowRight", 39, 8, "Bar 2, beat 1"),
        ("ArrowLeft", 37, 0, "Bar 1, beat 4"),
        ("ArrowLeft", 37, 8, "Bar 1, beat 1"),
        ("End", 35, 0, "Bar 4, beat 3"),
    ):
        opened.key(key, code, shift)
        opened.until(f"{PLACE} === '{place}'")
    assert opened.value("document.getElementById('overview').getAttribute('aria-valuetext')") == "bar 4, beat 3"


def test_a_click_in_the_notes_or_the_overview_moves_there(opened):
    for place in ("#sheet", "#overview"):
        opened.click(place, 0.75)
        opened.until(f"Math.abs({LEFT} - 75) < 1")
        opened.click(place, 0.25)
        opened.until(f"Math.abs({LEFT} - 25) < 1")


def test_the_chord_at_the_cursor_is_lit_and_told(browser, tmp_path):
    chords = (Chord(0, 20, 5, "7"), Chord(20, 44, 10, "7"))
    written(tmp_path / "page.html", replace(score(), chords=chords))
    browser.open(tmp_path / "page.html")
    browser.key("ArrowRight", 39)
    for key, chord in (("ArrowRight", "F7"), ("End", "Bb7")):
        browser.key(key, {"ArrowRight": 39, "End": 35}[key])
        browser.until(f"[...document.querySelectorAll('.chords .on')].map(n => n.textContent).join() === '{chord}'")
        told = browser.value("document.getElementById('overview').getAttribute('aria-valuetext')")
        assert told.endswith(f", {chord}")


def test_a_voice_can_be_picked_out(opened):
    assert opened.value("getComputedStyle(document.querySelector('.voice.v1')).opacity") == "1"
    opened.click(".legend button")
    assert opened.value("document.querySelectorAll('.voice.dim').length") == 1
    assert opened.value("document.querySelector('.legend button').getAttribute('aria-pressed')") == "true"
    opened.click(".legend button")
    assert opened.value("document.querySelector('.legend button').getAttribute('aria-pressed')") == "false"


def test_a_hostile_title_runs_nothing(opened):
    assert opened.value("document.title") == " ".join(HOSTILE.split())
    assert opened.value("document.querySelector('h1').textContent") == HOSTILE


def test_it_plays_in_a_sandboxed_frame(browser, tmp_path):
    probe = """<script>setInterval(() => {
      const box = document.getElementById('play')?.getBoundingClientRect();
      const left = parseFloat(document.querySelector('#sheet .cursor')?.style.left);
      const label = document.getElementById('play')?.getAttribute('aria-label');
      const status = document.getElementById('status')?.textContent;
      parent.postMessage({left, label, status, x: box?.x + box?.width / 2, y: box?.y + box?.height / 2, origin}, '*');
    }, 50)</script>"""  # before the page's policy, which would refuse it
    frame = html.escape(written(tmp_path / "page.html", score(1)).replace("<head>", "<head>" + probe))
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<script>window.heard = {}; addEventListener('message', e => window.heard = e.data)</script>"
        '<body style="margin:0"><iframe sandbox="allow-scripts" style="border:0;width:800px;height:600px"'
        f' srcdoc="{frame}"></iframe>',
        encoding="utf-8",
    )
    browser.errors.clear()
    browser.call("Page.navigate", url=outer.as_uri())
    browser.until("window.heard?.left === 0 && heard.x > 0")
    assert browser.value("heard.origin") == "null"  # nothing of the outer page is within reach
    x, y = browser.value("[heard.x, heard.y]")
    for _ in range(20):  # a frame in a process of its own may not take clicks from its first moment
        if browser.value("heard.label") == "Play":
            browser.click_at(x, y)
        with contextlib.suppress(AssertionError):
            browser.until("heard.left > 1", seconds=0.5)
            break
    assert browser.value("[heard.left > 1, heard.status]") == [True, ""]
    assert browser.errors == []


def test_bars_and_voices_are_selected_where_the_page_around_asks(browser, tmp_path):
    probe = """<script>setInterval(() => {
      const box = (s) => document.querySelector(s)?.getBoundingClientRect().toJSON();
      parent.postMessage({select: box('#select'), first: box('#first'), sheet: box('#sheet'),
        picture: box('.sheet svg'), stays: document.querySelectorAll('.stays').length,
        at: document.getElementById('place')?.textContent}, '*');
    }, 50)</script>"""
    frame = html.escape(written(tmp_path / "page.html", score()).replace("<head>", "<head>" + probe))
    outer = tmp_path / "outer.html"
    outer.write_text(
        "<script>window.told = []; addEventListener('message', ({data}) => "
        "data.reprise ? told.push([...data.bars, data.voices.join(' ')]) : window.heard = data)</script>"
        '<body style="margin:0"><iframe sandbox="allow-scripts" style="border:0;width:780px;height:590px"'
        f' srcdoc="{frame}"></iframe>',
        encoding="utf-8",
    )
    browser.errors.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=800, height=600, deviceScaleFactor=1, mobile=False)
    browser.call("Page.navigate", url=outer.as_uri())
    browser.until("window.heard?.sheet?.width > 0")
    assert browser.value("heard.select.width") == 0, "nobody asked"
    frames = "document.querySelector('iframe').contentWindow"
    browser.value(f"{frames}.postMessage({{reprise: 'select', voices: ['soprano', 'bass']}}, '*')")
    browser.until("heard.select.width > 0")

    def place(bar: float, high: float) -> tuple[float, float]:
        # the score has an upbeat of a quarter of a bar, and rows from 47 to 75
        sheet, picture = browser.value("[heard.sheet, heard.picture]")
        return sheet["x"] + sheet["width"] * (bar - 0.75) / 4, picture["y"] + picture["height"] * high

    def drag(*ends: tuple[float, float], shift: int = 8) -> None:
        words = {"button": "left", "buttons": 1, "clickCount": 1, "modifiers": shift}
        for kind, end in (("mousePressed", ends[0]), ("mouseMoved", ends[1]), ("mouseReleased", ends[1])):
            x, y = place(*end)
            browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **words)

    def told(*expected: object, seconds: float = 60.0) -> None:
        said = json.dumps(json.dumps(expected, separators=(",", ":")))
        browser.until(f"JSON.stringify(told.at(-1)) === {said}", seconds)

    def selected(*expected: object, ends: tuple[tuple[float, float], tuple[float, float]], shift: int = 8) -> None:
        for _ in range(20):  # on a busy machine a frame may miss a click, or have moved since its place was heard
            drag(*ends, shift=shift)
            with contextlib.suppress(AssertionError):
                told(*expected, seconds=2)
                break
        told(*expected, seconds=0)

    selected(1, 2, "soprano", ends=((1.1, 0), (2.9, 0.3)))
    browser.until("heard.stays === 8")  # the bass of two bars
    assert browser.value("heard.at") == "Upbeat, beat 4", "the cursor stays where it is"
    selected(0, 1, "bass", ends=((0.9, 0.8), (1.1, 1)), shift=0)  # the button is pressed now
    selected(3, 3, "soprano bass", ends=((3.2, 0.5), (3.2, 0.5)))
    count = browser.value("told.length")
    browser.click_at(*browser.value("[heard.first.x + 20, heard.first.y + 10]"))
    browser.key("ArrowDown", 40)
    told(2, 3, "soprano bass")
    browser.key("Tab", 9)
    browser.key("ArrowDown", 40)
    told(2, 2, "soprano bass")
    browser.key("Tab", 9)
    browser.key(" ", 32)
    told(2, 2, "bass")
    assert browser.value("told.length") == count + 3
    browser.key("Escape", 27)
    drag((2.6, 0.5), (2.6, 0.5), shift=0)
    browser.until("heard.at === 'Bar 2, beat 3'")  # as before
    assert browser.value("told.length") == count + 3
    browser.click_at(*browser.value("[heard.select.x + 9, heard.select.y + 9]"))
    browser.until("heard.first.width > 0")
    for kind, points in (("touchStart", [place(2.1, 0)]), ("touchMove", [place(3.5, 0.2)]), ("touchEnd", [])):
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y} for x, y in points])
    told(2, 3, "soprano")
    assert browser.errors == []
    browser.call("Emulation.clearDeviceMetricsOverride")
