"""The documents as a site: it builds strictly, without a network, and shows what GitHub shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_docs import documents

from docs.tools.flowchart import svg

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
ABOVE = ("properdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff")
# what a browser fetches by itself; a link is only followed by a person
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|audio|video)[^>]* src=\"(https?:)?//|<link[^>]* href=\"(https?:)?//"
)
FETCHED_BY_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ABOVE:
        shutil.copy(ROOT / name, folder)
    return folder


def build(source: Path) -> tuple[int, str]:
    """The exit code of the strict build into `source`/build/site, and what it says."""
    command = [sys.executable, "-m", "properdocs", "build", "--strict"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def site(source: Path) -> Path:
    code, said = build(source)
    assert code == 0, said
    return source / "build" / "site"


def test_flowcharts_are_drawn(site: Path) -> None:
    for page, shown in (("design.html", "imports when asked"), ("graph.html", "memory&#x27;s weights → 64")):
        text = (site / page).read_text(encoding="utf-8")
        drawn = re.findall(r"<svg.*?</svg>", text)
        assert drawn
        assert any(shown in one for one in drawn), page
        assert "--&gt;" not in text
    for wrong in ("pie", "graph LR\n a --> b --> a", "graph LR\n a -- b"):
        with pytest.raises(ValueError, match=r"flowchart|circle|understood"):
            svg(wrong)


def test_the_site_is_built_strictly_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    assert len(pages) >= len(documents())
    assert "<h1" in pages["index.html"]
    assert 'href="course.html"' in pages["index.html"], "README's links lead to the pages"
    assert not [name for name, page in pages.items() if FETCHED.search(page)]
    styles = [path.read_text(encoding="utf-8") for path in site.rglob("*.css")]
    assert len(styles) >= 3
    assert not [style for style in styles if FETCHED_BY_STYLE.search(style)]
    assert FETCHED.search('<script async src="https://example.org/x.js">')
    assert FETCHED_BY_STYLE.search("@import '//example.org/x.css'")


def test_a_list_is_a_list_on_the_site_too(site: Path) -> None:
    for path in site.glob("*.html"):
        paragraphs = re.findall(r"<p>(.*?)</p>", path.read_text(encoding="utf-8"), re.DOTALL)
        assert not [text for text in paragraphs if re.search(r"\n(- |\d+\. |\|)", text)], path.name


def test_links_that_lead_nowhere_and_pages_that_nothing_leads_to_fail_the_build(source: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(source, tmp_path / "broken", ignore=shutil.ignore_patterns("build"))
    nowhere = ["nothing.md", "course.md#nowhere", "../flows/cli.py", "images/none.png"]
    with (broken / "docs" / "tour.md").open("a", encoding="utf-8") as tour:
        tour.write("".join(f"\n[a]({link})\n" for link in nowhere[:3]) + f"\n![a]({nowhere[3]})\n")
    (broken / "docs" / "forgotten.md").write_text("# Forgotten\n", encoding="utf-8")
    code, said = build(broken)
    assert code == 1
    for link in nowhere:
        assert re.search(rf"WARNING.*tour\.md.*{re.escape(link)}", said), (link, said)
    assert re.search(r"WARNING[^[]*forgotten\.md", said)


def test_no_list_holds_what_the_site_reads_differently() -> None:
    """GitHub takes two blanks for "inside the item", the site four."""

    def inside(text: str) -> list[str]:
        return re.findall(r"^ +(?:```|- |\d+\. ).*", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)

    assert not [f"{path.name}: {line}" for path in documents() for line in inside(path.read_text(encoding="utf-8"))]
    assert inside("- a list:\n\n  ```\n  code\n  ```\n")
    assert inside("- a list\n  - and another\n")
    assert not inside("```yaml\n  - a\n```\n- a list\n  that goes on\n")
