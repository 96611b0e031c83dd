"""What properdocs.yml can't say: pages that lie above docs/, anchors as GitHub makes them, colours of code, and
flowcharts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from properdocs.structure.files import File
from pygments.formatters import HtmlFormatter

from docs.tools.flowchart import svg

ROOT = Path(__file__).resolve().parents[2]
# in the root → on the site
ABOVE = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
ABOVE |= {name: name for name in ("LICENSE", "CITATION.cff")}
FLOWCHART = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\(|src=\")(?!https?:)([^)\"#\s]+)")


def on_config(config: Any) -> None:
    config.mdx_configs["toc"]["slugify"] = slug


def on_files(files: Any, config: Any) -> None:
    """Add the pages from above, and the style sheet of the code."""
    for name, page in ABOVE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = LINK.sub(_from_above, text) if page.endswith(".md") else text
        files.append(File.generated(config, page, content=text))
    light, dark = HtmlFormatter(style="default"), HtmlFormatter(style="github-dark")
    colours = [light.get_style_defs(".codehilite"), dark.get_style_defs('[data-bs-theme="dark"] .codehilite')]
    files.append(File.generated(config, "code.css", content="\n".join(colours)))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    # GitHub reads Markdown inside of HTML, Python-Markdown where it is told to
    markdown = LINK.sub(_from_docs, markdown).replace("<details>", '<details markdown="1">')
    return FLOWCHART.sub(lambda found: f"<p>{svg(found[1])}</p>", markdown)


def slug(heading: str, separator: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def _from_above(link: re.Match[str]) -> str:
    """A link of a page that lies in the root."""
    target = link[2].removeprefix("docs/")
    return link[1] + ABOVE.get(target, target)


def _from_docs(link: re.Match[str]) -> str:
    """A link of a page in docs/."""
    above = ABOVE.get(link[2].removeprefix("../"))
    return link[1] + above if link[2].startswith("../") and above else link[0]
