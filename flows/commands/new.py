"""The command that proposes a recipe for the user's own data."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from flows.commands.base import START, app


@app.command(group=START)
def new(path: str, /, *, kind: Annotated[str | None, Parameter(name="--as")] = None, out: str | None = None) -> None:
    """Look at a file or folder, say what it seems to be, and write a recipe for it.

    Only the beginnings of files are read. The recipe has the settings of the built-in recipe for such data, with fewer
    steps where there are few data.

    Example: `reprise new reviews.csv` · `reprise new sales.csv --as windows --out sales.yaml`

    Args:
        kind: The kind of data, if several are possible (the output lists them).
        out: File to write (default: NAME.yaml in the current folder). Never overwritten.
    """
    from components.runs.propose import propose

    found = propose(path, kind, out)
    print(f"{path}: {found.proposal.what}")
    print(f"taken as {found.kind}: {found.proposal.why}")
    for name, means in found.others.items():
        print(f"  or --as {name}: {means}")
    for note in found.proposal.notes:
        print(f"note    {note}")
    print(f"wrote {found.file}. next: {found.command}")
