"""The playground and what models write in it, as text and in a real browser (skipped where there is no Chromium)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from chromium import Browser, Tags

from components.encodings.chorale.encoding import Chorale
from components.generation.region import Piece
from components.render.midi import write_midi
from components.score import Note, Part, Score

pytest_plugins = ["serving_fixtures", "tracking_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated")

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
READY = "document.getElementById('go')?.disabled === false"
STATUS = "(document.getElementById('status')?.textContent ?? '')"
PROBLEM = "(document.getElementById('problem')?.textContent ?? '')"
TEXTS = "[...document.querySelectorAll('#results pre')].map(pre => pre.textContent)"
WIDE = "document.documentElement.scrollWidth > innerWidth"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Browser]:
    browser.errors.clear()
    browser.requests.clear()
    browser.call("Page.navigate", url=f"{address}/")
    browser.until(READY)
    yield browser
    assert browser.errors == []
    assert not [url for url in browser.requests if not url.startswith((address, "data:", "blob:"))]


def choose(page: Browser, model: str, **values: str | int | float) -> None:
    page.value(
        f"(m => {{ m.value = '{model}'; m.dispatchEvent(new Event('change')) }})(document.getElementById('model'))"
    )
    page.until(READY)
    for name, value in values.items():
        field = f"document.getElementById('{name}') ?? document.getElementById('set-{name}')"
        page.value(f"(f => {{ f.value = {json.dumps(str(value))}; f.dispatchEvent(new Event('input')) }})({field})")


def give(page: Browser, field: str, path: Path) -> None:
    root = page.call("DOM.getDocument")["root"]["nodeId"]
    found = page.call("DOM.querySelector", nodeId=root, selector=f"#{field}")["nodeId"]
    page.call("DOM.setFileInputFiles", nodeId=found, files=[str(path)])


def go(page: Browser) -> None:
    page.value("document.getElementById('go').click()")
    page.until(f"{READY} && ({STATUS}.startsWith('Done') || {STATUS}.startsWith('Predicted') || {PROBLEM} !== '')", 60)


def test_the_page_is_one_file_that_names_nothing_outside_itself(address: str) -> None:
    answer = httpx.get(f"{address}/", trust_env=False)
    tags = Tags(answer.text).found
    addresses = [v for _, attrs in tags for k, v in attrs.items() if k in ("src", "href", "action", "data", "poster")]
    assert addresses == ["data:,"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_a_text_is_written_and_its_link_makes_it_again(page: Browser, address: str) -> None:
    choose(page, "tales", prompt="the cat", temperature=0.73, top_p=0.91, max_length=60, count=2)
    go(page)
    texts, link = page.value(TEXTS), page.value("location.href")
    assert len(texts) == 2
    assert all(text.startswith("the cat") and len(text) == 67 for text in texts)
    told = json.loads(urllib.parse.parse_qs(urllib.parse.urlsplit(link).fragment)["play"][0])
    assert (told["settings"]["temperature"], told["settings"]["top_p"]) == (0.73, 0.91)
    asked = {"model": f"{told['model']}@{told['version']}", "settings": told["settings"], "seed": told["seed"]}
    made = httpx.post(f"{address}/generate", json=asked, trust_env=False).json()
    assert [item["text"] for item in made["items"]] == texts
    go(page)
    assert page.value(TEXTS) != texts, "a fresh seed"
    page.call("Page.navigate", url="about:blank")
    page.call("Page.navigate", url=link)
    page.until(f"{READY} && {STATUS}.startsWith('Done')", 60)
    assert page.value(TEXTS) == texts
    assert page.value("document.getElementById('prompt').value") == "the cat"


def test_strokes_are_shown_as_a_drawing(page: Browser) -> None:
    choose(page, "pens", prompt="so", bias=2, count=2)
    assert page.value("document.getElementById('set-bias').type") == "range"
    go(page)
    drawn = "[...document.querySelectorAll('#results img')]"
    page.until(f"{drawn}.length === 2 && {drawn}.every(img => img.complete && img.naturalWidth > 0)")
    assert page.value(f"{drawn}.map(img => img.alt)")[0].startswith("'so': ")


def test_a_text_is_read_while_it_is_written(compiler: None, page: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.serving import batching

    monkeypatch.setattr(batching, "STEPS", 1)
    choose(page, "tales", max_length=8000, count=4)
    page.value("document.getElementById('go').click()")
    page.until(f"({TEXTS})[0]?.length > 50 && !({READY})", 30)
    assert page.value(STATUS) == "Generating …"
    page.value("document.getElementById('stop').click()")
    page.until(f"{READY} && {PROBLEM} === 'Stopped.'")
    monkeypatch.setattr(batching, "STEPS", 16)
    go(page)
    assert {len(text) for text in page.value(TEXTS)} == {8004}


def test_a_melody_is_harmonised_and_can_be_heard(page: Browser, tmp_path: Path) -> None:
    tune = Score((Part("tune", tuple(Note(4 * n, 4, 65 + n % 5) for n in range(8))),), length_steps=32)
    write_midi(tune, tmp_path / "tune.mid")
    choose(page, "four-voices")
    give(page, "melody", tmp_path / "tune.mid")
    go(page)
    page.until("!!document.querySelector('iframe')")
    frame = page.value("document.querySelector('iframe').getAttribute('src')")
    assert page.value("document.querySelector('iframe').getAttribute('sandbox')") == "allow-scripts"
    listening = page.value(f"fetch('{frame}').then(answer => answer.text())")
    assert "Four voices no. 1" in listening
    assert "<audio" in listening
    assert page.value("[...document.querySelectorAll('.facts a')].map(a => a.textContent)") == [
        "MIDI",
        "wav",
        "listening page",
    ]
    link = page.value("location.href")
    page.call("Page.navigate", url="about:blank")
    page.call("Page.navigate", url=link)
    page.until(f"{READY} && {STATUS}.startsWith('Done')", 60)
    assert page.value("document.querySelector('iframe').getAttribute('src')") == frame, "the same piece, upload and all"
    page.until("document.getElementById('held').hidden === false")


WATCHED = """
window.most = 0
new MutationObserver(() => {
  window.most = Math.max(window.most, document.querySelectorAll("#results svg rect").length)
}).observe(document.getElementById("results"), { childList: true, subtree: true })
"""


def test_notes_are_drawn_as_they_come(compiler: None, page: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    from components.serving import batching

    monkeypatch.setattr(batching, "SHOW_SECONDS", 0.02)
    choose(page, "four-voices", max_length=4000, seed=1)
    page.value(WATCHED)  # the piece may be whole before anyone looks
    page.value("document.getElementById('go').click()")
    page.until(f"{READY} && {STATUS}.startsWith('Done')", 60)
    assert page.value("window.most") > 10


def told(page: Browser) -> dict[str, Any]:
    """What the address says."""
    link = page.value("location.href")
    return json.loads(urllib.parse.parse_qs(urllib.parse.urlsplit(link).fragment)["play"][0])


def made(address: str, link: dict[str, Any]) -> dict[str, Any]:
    """The one piece that the address of a playground makes."""
    asked = {"model": f"{link['model']}@{link['version']}", "settings": link["settings"], "seed": link["seed"]}
    (item,) = httpx.post(f"{address}/generate", json=asked, trust_env=False).json()["items"]
    return item


def test_notes_that_are_dragged_over_are_written_anew_and_no_others(page: Browser, address: str) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=1000, height=900, deviceScaleFactor=1, mobile=False)
    choose(page, "four-voices", max_length=280, particles=4, seed=1)
    go(page)
    line, button = "document.querySelector('.again')", "document.querySelector('.again button')"
    shown = "document.querySelector('iframe')?.getAttribute('src')"
    assert page.value(f"{button}.disabled")
    part = "document.getElementById('set-rewrite').value"
    page.value("document.querySelector('iframe').scrollIntoView({block: 'start', behavior: 'instant'})")
    x, y = page.value("(b => [b.x + b.width / 2, b.y + 330])(document.querySelector('iframe').getBoundingClientRect())")
    for _ in range(40):  # the frame may not be there yet
        for kind, at in (("mousePressed", 0), ("mouseMoved", 60), ("mouseReleased", 60)):
            drag = {"x": x + at, "y": y + at, "button": "left", "buttons": 1, "clickCount": 1, "modifiers": 8}
            page.call("Input.dispatchMouseEvent", type=kind, **drag)
        with contextlib.suppress(AssertionError):
            page.until(f"{part} !== ''", seconds=0.5)
            break
    asked = page.value(part)
    assert re.fullmatch(r"bars? \d(-\d)?(, [a-z ]+)?", asked)
    assert f"Rewrite{asked}Edit" in page.value(f"{line}.textContent")
    pieces, addresses = [made(address, told(page))], [page.value(shown)]
    for _ in range(2):
        page.value(f"{button}.click()")
        page.until(f"{READY} && {shown} && {shown} !== '{addresses[-1]}'")
        assert page.value(f"[{PROBLEM}, {part}]") == ["", asked]
        link = told(page)
        assert link["settings"]["given"] == pieces[-1]["given"]
        assert link["settings"]["rewrite"] == asked
        pieces.append(made(address, link))
        addresses.append(page.value(shown))
        assert pieces[-1]["files"]["html"] == addresses[-1], "the link makes the same piece"
        before, after = (np.array(one["given"]) for one in pieces[-2:])
        free = Piece.read(asked, Chorale(), before).free
        assert (before[~free] == after[~free]).all()
        assert (before[free] != after[free]).any()
    assert 'class="marked"' in page.value(f"fetch({shown}).then(answer => answer.text())")
    page.value(f"{part} = 'bars 90-99'")
    page.value(f"{button}.click()")
    page.until(f"{PROBLEM}.includes('no bars 90-99') && {READY}")
    assert page.value(shown) == addresses[-1], "a refusal leaves the piece"
    page.errors.clear()  # the browser's note of the status 400
    page.value("history.back()")
    page.until(f"{READY} && {shown} === '{addresses[1]}'")
    page.call("Emulation.clearDeviceMetricsOverride")
    choose(page, "blues")
    assert page.value(f"[{part}, {button}.disabled]") == ["", True], "another model's form"
    page.value("history.forward()")
    page.until(f"{READY} && {shown} === '{addresses[2]}'")
    page.value("document.getElementById('drop').click()")
    assert page.value(f"[{part}, {button}.disabled, document.getElementById('set-max_length').value]") == [
        "",
        True,
        "280",
    ]
    # a form that the piece was asked to have is kept, unless nothing says any more how long its sections are
    for ended, kept in ((True, ["ABA", 9]), (False, ["", 0])):
        settings = json.dumps(link["settings"] | {"form": "ABA", "bars": 9, "chords": "" if ended else "C"})
        of = f"{{model: 'four-voices', version: '1', settings: {settings}, seed: 1}}"
        item = f"{{ended: {json.dumps(ended)}, number: 1, given: [4], score: {{tempo_bpm: 90}}}}"
        page.value(f"hold({{made: {of}, item: {item}}}, 'bar 1') && 0")
        page.until(f"{part} === 'bar 1'")
        assert page.value("(({form, bars}) => [form, bars])(chosen().settings)") == kept
        page.value("document.getElementById('drop').click()")
    choose(page, "tales", max_length=5, count=1)
    go(page)
    assert page.value(f"{line} === null")


def test_what_is_wrong_is_said(page: Browser, address: str) -> None:
    choose(page, "tales", prompt="")
    go(page)
    assert "needs a prompt" in page.value(PROBLEM)
    page.errors.clear()  # the browser's note of the status 400
    broken = f"{address}/#" + urllib.parse.urlencode({"play": json.dumps({"model": "gone", "version": "7"})})
    for link, said in (
        (broken, "The link is for gone v7, which isn't registered here."),
        (f"{address}/#play=%7B", "This link is incomplete or damaged."),
    ):
        page.call("Page.navigate", url="about:blank")
        page.call("Page.navigate", url=link)
        page.until(f"{PROBLEM} === {json.dumps(said)}")


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_is_wider_than_the_screen(page: Browser, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=700, deviceScaleFactor=1, mobile=width < 500)
    try:
        for model, values in (("tales", {"max_length": 300}), ("four-voices", {}), ("moods", {"texts": "good " * 90})):
            choose(page, model, **values)
            assert not page.value(WIDE)
            go(page)
            assert not page.value(WIDE), model
        small = page.value(
            "[...document.querySelectorAll('button, select, input:not([type=checkbox])')]"
            ".filter(e => e.offsetParent && e.getBoundingClientRect().height < 28).map(e => e.id)"
        )
        assert small == [], "too small for a finger"
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_it_can_be_used_by_keyboard(page: Browser) -> None:
    choose(page, "tales", max_length=20)
    unnamed = page.value(
        "[...document.querySelectorAll('input, select, textarea, button, a, iframe')].filter(e => e.offsetParent)"
        ".filter(e => !(e.labels?.length || e.textContent.trim() || e.ariaLabel || e.title)).map(e => e.outerHTML)"
    )
    assert unnamed == []
    page.value("document.getElementById('model').focus()")
    order = []
    for _ in range(9):
        order.append(page.value("document.activeElement.id || document.activeElement.tagName"))
        page.key("Tab", 9)
    settings = ["set-temperature", "set-top_p", "set-count", "set-max_length", "set-seed"]
    assert order == ["model", "version", "prompt", *settings, "SUMMARY"]
    page.value("document.getElementById('set-temperature').focus()")
    page.key("ArrowLeft", 37)
    assert page.value("document.querySelector('output').textContent") == "0.99"
    page.value("document.getElementById('go').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    page.until(f"{READY} && {STATUS}.startsWith('Done')", 60)
    assert page.value("document.getElementById('status').getAttribute('aria-live')") == "polite"
    assert page.value("document.activeElement.id") in ("go", "")
