"""Likelihood of texts or a file's items under a registered language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from components.console import say
from components.datasets.labelled import stem
from components.encodings.doubts import Doubts
from components.encodings.vocabulary import BOS
from components.errors import UserError
from components.evaluation.report import write_surprise
from components.paths import as_user
from components.runs.generate import open_model
from components.runs.places import places
from components.tasks.surprise import excerpt
from components.use.scoring import items_of, score, write_scores

SHOWN = 20  # items to print


def score_files(
    model: str, texts: Sequence[str] = (), file: str | None = None, out: str | None = None, device: str = "cpu"
) -> list[str]:
    """Print the likelihood of texts or of the items in a file. Returns the paths of a table of all tokens and of a
    picture of the first item's tokens."""
    if bool(texts) == bool(file):
        raise UserError("give either --text or --file", where="score")
    opened = open_model(model, device)
    name = stem(Path(file)) if file else "texts"
    target = Path(out) if out else places().generated / f"{opened.label}-{name}-scores.csv"
    picture = target.with_suffix(".png")
    if picture == target:
        raise UserError(
            "can't end in .png, as the picture next to it does", where="--out", hint="use a name that ends in .csv"
        )
    items, notes = (list(texts), []) if texts else items_of(opened.bundle, Path(str(file)), target, picture)
    for note in notes:
        say(f"        {note}")
    doubts = Doubts()
    scored = score(opened.bundle, items, doubts)
    for line in doubts.lines():
        say(f"        {line}")
    for number, one in enumerate(scored[:SHOWN], 1):
        say(f"{number:>5}  {one.line()}")
    if len(scored) > SHOWN:
        say(f"       … and {len(scored) - SHOWN:,} more, in the table")
    tokens = sum(len(one.nats) for one in scored)
    if len(scored) > 1:
        unit, nats = scored[0].unit, sum(one.total_nats for one in scored) / tokens
        say(f"  all  {nats:.4f} nats per {unit} over {len(scored):,} items, {tokens:,} {unit}s")
    first = excerpt(np.concatenate([[BOS], scored[0].ids]))
    with as_user():
        write_scores(target, scored)
        title = f"{opened.name}: surprise at {name}"
        write_surprise(picture, opened.bundle.encoding, first, scored[0].nats[: len(first) - 1], title=title)
    return [str(target), str(picture)]
