"""The command line's reference as one page: docs/cli.md is what this module writes (`make docs`)."""

from __future__ import annotations

import sys

from flows.cli import app

NOTE = "Generated from the commands' own help by `make docs`; a test compares the two. Don't edit this page."


def markdown() -> str:
    """Every command's help, as Markdown that ends with one line feed."""
    title, _, rest = app.generate_docs(usage_name=app.name[0]).partition("\n")
    lines = [line.rstrip() for line in f"{title}\n\n{NOTE}\n{rest}".splitlines()]
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(markdown().encode("utf-8"))  # whatever coding the terminal has
