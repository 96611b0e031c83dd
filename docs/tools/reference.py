"""The references: docs/cli.md, docs/settings.md, and docs/python.md from its heading "Reference" on, are what this
module writes (`make docs`)."""

from __future__ import annotations

import inspect
import re
import sys

import reprise
from components.paths import CODE
from docs.tools.settings import settings_page
from flows.cli import app

NOTE = "Generated from the commands' own help by `make docs`; a test compares the two. Don't edit this page."
REFERENCE = "## Reference\n"
SECTIONS = {"Args:": "Arguments:", "Returns:": "Gives:", "Raises:": "Refuses:"}


def markdown() -> str:
    """Every command's help, as Markdown that ends with one line feed. The same whoever asks for it."""
    started_as = sys.argv
    # cyclopts names a command after the program that is running, and of "python -m docs.tools.reference" it cuts the
    # first word only: the rest would stand in the usage lines
    sys.argv = [app.name[0]]
    try:
        title, _, rest = app.generate_docs().partition("\n")
    finally:
        sys.argv = started_as
    lines = [line.rstrip() for line in f"{title}\n\n{NOTE}\n{rest}".splitlines()]
    return "\n".join(lines).strip() + "\n"


def python_page(page: str) -> str:
    """docs/python.md with its reference written anew out of the docstrings of `reprise`."""
    note = "Generated from the docstrings by `make docs`; a test compares the two. Don't edit this part."
    shown = [(f"reprise.{name}", getattr(reprise, name)) for name in ("load", "run")]
    members = {name: one for name, one in vars(reprise.Model).items() if not name.startswith("_")}
    facts = {name: one for name, one in members.items() if isinstance(one, property)}
    shown += [(f"Model.{name}", one) for name, one in members.items() if name not in facts]
    parts = [page.partition(REFERENCE)[0] + REFERENCE, note]
    for name, function in shown:
        if name == "Model.describe":
            about = "\n".join(f"- `{name}`: {_told(inspect.getdoc(one) or '')}" for name, one in facts.items())
            parts.append(f"### reprise.Model\n\n{_told(inspect.getdoc(reprise.Model) or '')}\n\n{about}")
        signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function))).replace("(self, ", "(")
        parts.append(f"### {name}\n\n```\n{name}{signature.replace('(self)', '()')}\n```")
        parts.append(_told(inspect.getdoc(function) or ""))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _told(doc: str) -> str:
    """A docstring as Markdown: its sections as lists."""
    lines, listed = [], False
    for line in doc.splitlines():
        entry = re.match(r"    (\w[\w, ]*): (.*)", line) if listed else None
        if line in SECTIONS:
            lines.append(f"**{SECTIONS[line]}**\n")
            listed = line != "Returns:"
        elif entry:
            lines.append(f"- `{entry[1].replace(', ', '`, `')}`: {entry[2]}")
        else:
            lines.append(f"  {line.strip()}" if listed and line.strip() else line.strip())
    return "\n".join(lines)


if __name__ == "__main__":
    page = CODE / "docs" / "python.md"
    written = {"cli.md": markdown(), "settings.md": settings_page()}
    for name, text in {**written, page.name: python_page(page.read_text(encoding="utf-8"))}.items():
        (CODE / "docs" / name).write_bytes(text.encode("utf-8"))  # whatever coding the machine has
