"""The page "Your own data": each section's files are written, ingested with its lines, and reported as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from components.registry import names

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
SECTION = re.compile(r"^## (.+?)$\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^\*\*([^*]+)\*\*\n+```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MADE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)  # run in the folder: makes files
LINES = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REPORT = re.compile(r"^Reported:\n+```\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = [(title, text) for title, text in SECTION.findall(PAGE) if LINES.search(text)]
# read a package's corpus or make their items themselves; weimar is a format of one archive
WITHOUT_FILES = {
    "moving-shapes",
    "made-series",
    "made-handwriting",
    "made-drums",
    "made-piano",
    "copy-memory",
    "adding",
    "dates",
    "corpus-tunes",
    "corpus-chorales",
    "weimar",
}


@pytest.mark.slow
@pytest.mark.parametrize(("title", "text"), SECTIONS, ids=[title for title, _ in SECTIONS])
def test_what_the_page_shows_is_read_and_reported(tmp_path, monkeypatch, capsys, title, text) -> None:
    from components.recipe import Recipe
    from components.runs.ingest import ingest_recipe

    monkeypatch.setenv("REPRISE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name, content in FILE.findall(text):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content, encoding="utf-8")
    for code in MADE.findall(text):
        exec(compile(code, title, "exec"), {})
    values = {"model": {"kind": "gru", "hidden_size": 8}} | yaml.safe_load("".join(LINES.findall(text)))
    ingest_recipe(Recipe.from_dict("own", values))
    told = capsys.readouterr().out
    for line in "".join(REPORT.findall(text)).splitlines():
        assert line.strip() in told, told


def test_the_page_has_a_section_for_each_reader() -> None:
    shown = {yaml.safe_load("".join(LINES.findall(text)))["data"]["reader"] for _, text in SECTIONS}
    assert shown == set(names("reader")) - WITHOUT_FILES
