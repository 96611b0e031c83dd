"""Music files as generation settings: a melody to harmonise, a beginning to continue, or a piece to rewrite in part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from components.bundle import Bundle
from components.datasets.music.given import music_reader
from components.errors import UserError
from components.score import Score

Tell = Callable[[str], None]


def given(
    bundle: Bundle,
    melody: str | None,
    start: str | None,
    tell: Tell,
    doubt: Tell,
    *,
    keep: str | None = None,
    rewrite: str | None = None,
) -> dict[str, Any]:
    """Generation settings from the first piece in a file. For a `melody` the model writes the other voices; a `start`
    is continued; in a piece to `keep` the region `rewrite` is rewritten. `tell` receives a line about the file, `doubt`
    a warning.

    Raises:
        UserError: two are given, the file can't be read, or the model can't represent such a piece or region.
    """
    files = {name: path for name, path in (("melody", melody), ("start", start), ("keep", keep)) if path}
    check_one_file(list(files), rewrite)
    if not files:
        return {"rewrite": rewrite} if rewrite else {}
    ((name, path),) = files.items()
    if rewrite:
        bundle.can_rewrite()
    score = _read(Path(path), bundle.grid(name), "melody" if melody else "all", doubt)
    tell(f"{name:7} {Path(path).name}: {sum(len(part.notes) for part in score.parts)} notes")
    for one in bundle.encoding.doubts(score):
        doubt(one)
    try:
        if rewrite:
            asked = bundle.rewritten(score, rewrite)
            tell(f"rewrite {rewrite}")
            return asked
        return bundle.under(score) if melody else bundle.onwards(score)
    except UserError as error:
        raise UserError(error.what, where=f"{name} {path}", hint=error.hint) from error


def check_one_file(names: Sequence[str], rewrite: str | None) -> None:
    """Check that at most one file is given.

    Raises:
        UserError: there are two files, or one of `keep` and `rewrite` without the other.
    """
    if len(names) > 1:
        raise UserError(f"{' and '.join(names)} can't be used together", where=names[0])
    if names and ("keep" in names) != bool(rewrite):
        what = "needs `rewrite` too" if "keep" in names else "needs `keep` too"
        hint = 'give both: --keep piece.musicxml --rewrite "bars 5-8, alto tenor"'
        raise UserError(what, where="keep" if "keep" in names else "rewrite", hint=hint)


def _read(path: Path, grid: int | str, parts: Literal["all", "melody"], doubt: Tell) -> Score:
    reader = music_reader(path, grid, parts)
    try:
        scores = list(reader.items())  # to the end, so that the reader's notes are complete
    except UserError:  # its hint is about settings of a recipe
        if len(reader.report) == 1:
            raise UserError(str(reader.report[0]["reason"]), where=str(path), hint="give another file") from None
        raise
    for note in reader.notes:
        doubt(note)
    if len(scores) > 1:
        doubt(f"{path.name} contains {len(scores):,} pieces; the first is used: {scores[0].title!r}")
    return scores[0]
