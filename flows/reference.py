"""The command line's reference as one page: docs/cli.md is what this module writes (`make docs`)."""

from __future__ import annotations

import sys

from flows.cli import app

NOTE = "Generated from the commands' own help by `make docs`; a test compares the two. Don't edit this page."


def markdown() -> str:
    """Every command's help, as Markdown that ends with one line feed. The same whoever asks for it."""
    started_as = sys.argv
    # cyclopts names a command after the program that is running, and of "python -m flows.reference" it cuts the
    # first word only: the rest would stand in the usage lines
    sys.argv = [app.name[0]]
    try:
        title, _, rest = app.generate_docs().partition("\n")
    finally:
        sys.argv = started_as
    lines = [line.rstrip() for line in f"{title}\n\n{NOTE}\n{rest}".splitlines()]
    return "\n".join(lines).strip() + "\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(markdown().encode("utf-8"))  # whatever coding the terminal has
