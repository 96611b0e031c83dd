"""The page that generates from an exported model, in a real browser; the graph's place is taken by a table."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Browser

from components.export import onnx
from components.export.onnx import EXAMPLES

# counts its steps in its state: the next token is the next of 4, 5, 6 and then the end
TABLE = """
export const env = { wasm: {} };
export class Tensor { constructor(type, data, dims) { Object.assign(this, { type, data, dims }); } }
export class InferenceSession {
  static async create(path) { return new InferenceSession(); }
  async run({ ids, h }) {
    const steps = h.data[0] + 1, logits = new Float32Array(8).fill(-30);
    logits[steps > 3 ? 3 : 3 + steps] = 0;
    logits[1] = 9;
    return { logits: new Tensor("float32", logits, [1, 8]), "next.h": new Tensor("float32", [steps], [1, 1]) };
  }
}
"""
DESCRIPTION = {
    "model": "<b>abc</b>", "lowercase": True, "tokens": ["<PAD>", "<UNK>", "<BOS>", "<EOS>", "a", "bb", "c", "z"],
    "begin": 2, "end": 3, "unknown": 1, "never": [0, 1, 2], "prompt": "", "temperature": 0.5,
    "initial_state": {"h": [0]},
}  # fmt: skip


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Browser]:
    shutil.copy(Path(onnx.__file__).with_name(EXAMPLES["index.html"]), tmp_path / "index.html")
    (tmp_path / "ort.wasm.min.mjs").write_text(TABLE)
    (tmp_path / "encoding.json").write_text(json.dumps(DESCRIPTION))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.errors.clear()
        browser.requests.clear()
        address = f"http://127.0.0.1:{server.server_port}/"
        browser.call("Page.navigate", url=address)
        browser.until("document.getElementById('go')?.disabled === false")
        yield browser
        server.shutdown()
    assert browser.errors == []
    assert not [url for url in browser.requests if not url.startswith(address)]


def generated(page: Browser, **fields: str) -> str:
    for field, value in fields.items():
        page.value(f"document.getElementById('{field}').value = {json.dumps(value)}")
    page.click("#go")
    page.until("/tokens\\.$/.test(document.getElementById('status').textContent)")
    return page.value("document.getElementById('text').textContent")


def test_a_text_is_generated_to_its_end(page: Browser) -> None:
    assert page.value("document.getElementById('name').textContent") == "<b>abc</b>"
    assert page.value("document.getElementById('name').children.length") == 0
    assert generated(page) == "abbc"
    assert generated(page, length="2") == "abb"
    # "bb" and a character that is unknown were read after the beginning
    assert generated(page, length="9", prompt="BB😀") == "bb😀c"
