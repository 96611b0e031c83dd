"""The playground's answers in a real browser: beside their inputs, marked, explained."""

# ruff: noqa: F811

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from chromium import Browser
from test_playground import HOSTILE, PROBLEM, READY, STATUS, WIDE, choose, give, go, page  # noqa: F401 - a fixture

from components.render.audio import wav_bytes

pytest_plugins = ["serving_fixtures", "tracking_fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Operation with range is deprecated")


def test_answers_stand_beside_their_inputs_and_stay_text(page: Browser) -> None:
    choose(page, "moods", texts=f"a good day\n\n{HOSTILE}\n")
    go(page)
    rows = page.value("[...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.textContent))")
    assert [row[0] for row in rows] == ["a good day", HOSTILE]
    assert {row[1] for row in rows} <= {"good", "bad"}
    assert page.value("document.title") == "Reprise playground"
    assert page.value("document.querySelectorAll('#results img').length") == 0
    choose(page, "sums", frames="0 1\n0.5, 0.5\n\n1 1")
    go(page)
    assert page.value("document.querySelectorAll('tbody tr').length") == 2
    assert page.value(STATUS) == "Predicted 2 inputs."


def test_words_are_marked_and_recordings_are_read(page: Browser, tmp_path: Path) -> None:
    cells = "[...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    choose(page, "marks", texts="Ann sang")
    go(page)
    assert page.value(PROBLEM) == ""
    (row,) = page.value(cells)
    assert row[:2] == ["Ann sang", "Ann sang"], "the text, and its tokens"
    assert len(re.findall(r"B-PER|O", row[2])) == 2, row
    recording = tmp_path / "digit.wav"
    sound = np.sin(np.arange(6000) / 8) / 3
    recording.write_bytes(wav_bytes(sound[None].astype(np.float32), 8000))
    choose(page, "ears")
    give(page, "wav", recording)
    go(page)
    assert page.value(PROBLEM) == ""
    assert page.value(STATUS) == "Predicted 1 input."
    recording.write_text("no sound")
    give(page, "wav", recording)
    go(page)
    assert "WAV" in page.value(PROBLEM)
    page.errors.clear()  # the browser's note of the status 400


MARKS = "[...document.querySelectorAll('.marked span')].map(s => [s.className, s.textContent, s.title])"


EXPLAINED = f"{READY} && ({STATUS}.startsWith('Explained') || {PROBLEM} !== '')"


def explain(page: Browser, told: str = "") -> None:
    page.value("document.getElementById('why').click()")
    page.until(EXPLAINED, 60)
    assert page.value(PROBLEM)[: len(told) or None] == told


def test_an_answer_is_explained_beside_its_input(page: Browser, address: str) -> None:
    texts = ["a good day", f"qux  {HOSTILE}"]
    choose(page, "moods", texts="\n".join(texts))
    explain(page, told="warning: the model knows no word of it")
    assert page.value(STATUS) == "Explained 2 inputs."
    asked = {"model": "moods", "inputs": texts}
    told = httpx.post(f"{address}/explain", json=asked, trust_env=False).json()["explanations"]
    assert page.value("[...document.querySelectorAll('.marked')].map(p => p.textContent)")[0] == texts[0]
    assert page.value("[...document.querySelectorAll('#results h2')].map(h => h.textContent)") == [
        one["answer"]["label"] for one in told
    ]
    found = page.value(MARKS)
    positions = [row for one in told for row in one["positions"]]
    assert [token for _, token, _ in found] == [row["token"] for row in positions]
    for (sign, _, title), row in zip(found, positions, strict=True):
        assert float(title) == pytest.approx(row["contribution"], rel=0.01)
        assert sign == ("against" if row["contribution"] < 0 else "for")
    shares = page.value(
        "[...document.querySelectorAll('.marked')].map(p => Math.max(...[...p.children]"
        ".map(s => +s.style.getPropertyValue('--share'))))"
    )
    assert shares == [55, 55], "the largest contribution of each text has the deepest colour"
    grounds = page.value("[...document.querySelectorAll('.marked span')].map(s => getComputedStyle(s).backgroundColor)")
    assert len(set(grounds)) > 2, "the policy allows the colours"
    rows = page.value(
        "[...document.querySelectorAll('#results tbody')].map(t => [...t.rows].map(r => [r.cells[0].textContent,"
        " r.querySelector('meter').value]))"
    )
    for one, shown in zip(told, rows, strict=True):
        assert [label for label, _ in shown] == [str(choice["label"]) for choice in one["choices"][:5]]
        assert [value for _, value in shown] == pytest.approx([choice["probability"] for choice in one["choices"][:5]])
    assert page.value("document.querySelectorAll('#results img').length") == 0
    assert not page.value(WIDE)


def test_each_tag_is_explained_and_so_is_where_a_translation_looked(page: Browser, address: str) -> None:
    choose(page, "marks", texts="Ann sang")
    explain(page)
    asked = {"model": "marks", "inputs": ["Ann sang"]}
    (told,) = httpx.post(f"{address}/explain", json=asked, trust_env=False).json()["explanations"]
    pick = "document.querySelector('#results select')"
    assert page.value(f"[...{pick}.options].map(o => o.textContent)") == told["matrix"]["rows"]
    for n, values in enumerate(told["matrix"]["values"]):
        page.value(f"(s => {{ s.value = {n}; s.dispatchEvent(new Event('change')) }})({pick})")
        assert [float(title) for _, _, title in page.value(MARKS)] == pytest.approx(values, rel=0.01)
    tags = page.value("[...document.querySelectorAll('#results tbody tr')].map(r => r.cells[1].textContent)")
    assert tags == [row["tag"] for row in told["positions"]]
    one = {
        "answer": {"text": "gut so"},
        "choices": [{"text": "gut so", "log_probability": -0.5, "score": -0.2}],
        "positions": [{"token": "gut"}, {"token": "so"}], "words": [], "totals": [],
        "matrix": {"rows": ["gut", "so"], "columns": ["so", "good"], "values": [[0.1, 0.9], [1, 0]]},
    }  # fmt: skip
    shown = f"because('so good', {json.dumps(one)})"
    page.value(f"document.getElementById('results').replaceChildren({shown})")
    assert page.value(MARKS) == [["for", "so", "+0.100"], ["for", "good", "+0.900"]]
    assert page.value("document.querySelector('.note:not(#held)').textContent").startswith("attention;")
    assert page.value("document.querySelector('meter').value") == pytest.approx(np.exp(-0.5))


def test_only_models_whose_tokens_can_be_coloured_offer_it(page: Browser) -> None:
    for model, offered in {"moods": True, "tales": False, "people": True, "sums": False, "ears": False}.items():
        choose(page, model)
        assert page.value("document.getElementById('why').hidden") is not offered, model
