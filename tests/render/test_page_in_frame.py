"""The listening page in a frame of another page, in a real browser."""

from __future__ import annotations

import contextlib
import html
import json

from test_page import score, written


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
