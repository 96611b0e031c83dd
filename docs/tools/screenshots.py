"""Pictures of MLflow, Prefect and a report for the docs: `python -m docs.tools.screenshots RECIPE [FOLDER]`.

They show what there is on this machine (REPRISE_HOME), so run, compare and schedule the recipe first.
Needs Chromium; starts an MLflow server of its own on a free port and ends it.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.paths import CODE
from components.runs.places import places
from components.runs.report import write
from components.tracking.mlflow_backend import MlflowTracker
from components.tracking.mlflow_client import ui_command
from components.tracking.mlflow_reader import MlflowReader
from components.tracking.promotion import lower_is_better
from flows.server import Server

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
MAX_BYTES = 200_000
WAIT_SECONDS = 300.0  # a busy machine takes its time to start two servers
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))
CLOSE_ASSISTANT = "document.querySelector('[data-component-id=\"mlflow.assistant.chat_panel.close\"]')?.click()"
# charts are drawn when they come into view, and behind a spinner until then
DRAWN = "document.querySelectorAll('.js-plotly-plot').length >= 2 && !document.querySelector('.spinner')"


class Page:
    """A page of a browser, driven over its DevTools socket."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._ids = socket, itertools.count(1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        wanted = next(self._ids)
        self._socket.send(json.dumps({"id": wanted, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == wanted:
                return message.get("result", {})

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True).get("result", {}).get("value")

    def open(self, address: str, ready: str, width: int, height: int) -> None:
        """Go to an address and wait until the expression `ready` is true."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Page.navigate", url="about:blank")  # an address that differs behind its # alone isn't loaded anew
        self.call("Page.navigate", url=address)
        wait(lambda: self.value(ready) is True, f"{address} doesn't become ready ({ready})")

    def picture(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


def wait(condition: Callable[[], bool], problem: str) -> None:
    """Raises UserError when the condition isn't true within 300 s."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise UserError(problem, where="screenshots")
        time.sleep(0.2)


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A headless browser's page. Raises UserError where there is no Chromium."""
    from websockets.sync.client import connect

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise UserError("there is no Chromium on this machine", where="screenshots")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        command = [program, *flags, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        with process(command):
            port = Path(profile, "DevToolsActivePort")
            wait(lambda: port.is_file() and bool(port.read_text().strip()), "Chromium opens no DevTools port")
            pages = json.load(LOCAL.open(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list", timeout=20))
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            with connect(address, max_size=None, proxy=None) as connection:
                yield Page(connection)


@contextlib.contextmanager
def process(command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A quiet process for the length of the block; `environment` adds to ours."""
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(command, stdout=quiet, stderr=quiet, env=os.environ | dict(environment or {}))
    try:
        yield
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()


def save(path: Path, png: bytes) -> None:
    """With at most 256 colours, and smaller where it would be more than 200 KB."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    for _ in range(8):
        out = io.BytesIO()
        image.quantize(256, dither=Image.Dither.NONE).save(out, "png", optimize=True)
        if len(out.getvalue()) <= MAX_BYTES:
            break
        image = image.resize((round(image.width * 0.88), round(image.height * 0.88)), Image.Resampling.LANCZOS)
    path.write_bytes(out.getvalue())
    print(f"{path} ({len(out.getvalue()) // 1000} KB)")


def main(recipe: str, folder: Path) -> None:
    """Write mlflow-run.png, mlflow-compare.png, report.png and prefect.png."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = replace(places().settings, ui_port=port)
    tracker, runs = MlflowTracker(settings), MlflowReader(settings).runs(recipe)
    registered = (run for run in runs if not run.tags.get("registered", "refused").startswith("refused"))
    shown = next(registered, None)
    if shown is None:
        raise UserError(f"{recipe} has no registered run here", where="screenshots", hint=f"reprise run {recipe}")
    parent = next((run.run_id for run in runs if "compare.digest" in run.tags and run.status == "FINISHED"), None)
    metric = shown.tags.get("primary.metric", "")
    order = (f"best/{metric}", lower_is_better(metric) is not False) if metric else None
    with contextlib.ExitStack() as stack:
        if not settings.served:
            arguments, addresses = ui_command(settings)
            stack.enter_context(process([sys.executable, "-m", "mlflow", *arguments], addresses))
        wait(lambda: _answers(settings.ui_url), "the MLflow server doesn't answer")
        page = stack.enter_context(browser())
        charts = tracker.experiment_url(recipe, parent, order)
        run_url = charts.partition("/runs?")[0] + f"/runs/{shown.run_id}?workflowType=machine_learning"
        page.open(run_url, "document.body.innerText.includes('Description')", 1280, 1150)
        _settle(page)
        save(folder / "mlflow-run.png", page.picture())
        page.open(charts, "document.body.innerText.includes('Run Name')", 1500, 900)
        _settle(page, DRAWN)
        save(folder / "mlflow-compare.png", page.picture())
        with tempfile.TemporaryDirectory() as temporary:
            address = write(recipe, None, Path(temporary, "report.html")).as_uri()
            page.open(address, "document.readyState === 'complete'", 1100, 1300)
            time.sleep(1)
            save(folder / "report.png", page.picture())
        if not (prefect := Server(places().prefect).url()):
            raise UserError("Prefect's server isn't running", where="screenshots", hint=f"reprise schedule {recipe} …")
        page.open(f"{prefect}/runs", "document.body.innerText.includes('Items per page')", 1400, 1050)
        time.sleep(3)
        save(folder / "prefect.png", page.picture())


def _settle(page: Page, ready: str = "true") -> None:
    """Close MLflow's assistant, which takes a third of the page, and wait until what is seen is drawn."""
    wait(lambda: page.value(f"{CLOSE_ASSISTANT}; {ready}") is True, f"never came true: {ready}")
    time.sleep(3)  # panels slide, charts fade in


def _answers(url: str) -> bool:
    try:
        return LOCAL.open(f"{url}/health", timeout=2).status == 200
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else CODE / "docs" / "images")
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        raise SystemExit(2) from None
