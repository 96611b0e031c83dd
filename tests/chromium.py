"""Pages in a browser: headless Chromium as a fixture (skipped where there is none), and a page's tags."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


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
