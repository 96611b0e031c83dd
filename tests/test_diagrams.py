"""The diagrams of the course: drawn alike each time, small, and readable: no text lies on a line or on another text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Outline
from matplotlib.transforms import Bbox
from PIL import Image

from docs.tools.diagrams import DIAGRAMS, Drawing

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
NAMES = sorted(DIAGRAMS)


def unreadable(drawing: Drawing) -> list[str]:
    """Texts that leave the sheet, meet another text, or are cut by the outline of a box or by a wire."""
    canvas = FigureCanvasAgg(drawing.figure)
    canvas.draw()
    renderer, axes, found = canvas.get_renderer(), drawing.axes, []
    outlines: list[Outline] = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    for patch in axes.patches:
        path = patch.get_path()
        transform = patch.get_transform() if not isinstance(patch, FancyArrowPatch) else axes.transData
        if isinstance(patch, FancyArrowPatch):
            path = Outline([patch._posA_posB[0], patch._posA_posB[1]])
        outlines.append(transform.transform_path(path))
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in axes.texts]
    sheet = drawing.figure.bbox
    for at, (text, box) in enumerate(boxes):
        if not (sheet.x0 <= box.x0 and box.x1 <= sheet.x1 and sheet.y0 <= box.y0 and box.y1 <= sheet.y1):
            found.append(f"{text} leaves the sheet")
        found += [f"{text} meets {other}" for other, where in boxes[at + 1 :] if box.overlaps(where)]
        inner = Bbox.from_extents(box.x0 + 1, box.y0 + 1, box.x1 - 1, box.y1 - 1)
        found += [f"{text} is cut" for outline in outlines if outline.intersects_bbox(inner, filled=False)]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_text_can_be_read(name) -> None:
    drawing = DIAGRAMS[name]()
    assert len(drawing.axes.texts) > 8
    assert not unreadable(drawing)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_drawn_again_it_is_the_same_and_small(name, tmp_path) -> None:
    for folder in ("one", "two"):
        DIAGRAMS[name]().write(tmp_path / folder / name)
    one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
    assert one == two
    assert len(one) < 60_000
    assert (IMAGES / name).stat().st_size < 60_000


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_kept_picture_is_the_one_that_is_drawn(name, tmp_path) -> None:
    DIAGRAMS[name]().write(tmp_path / name)
    drawn, kept = (np.asarray(Image.open(path).convert("L"), dtype=float) for path in (tmp_path / name, IMAGES / name))
    assert drawn.shape == kept.shape, "`make pictures` draws it anew"
    assert np.abs(drawn - kept).mean() < 0.5, "`make pictures` draws it anew"  # fonts are smoothed a little differently


def test_the_guard_sees_what_cannot_be_read() -> None:
    drawing = Drawing(4, 2)
    drawing.box(2, 1, "much too long for its box")
    assert "much too long for its box is cut" in unreadable(drawing)
    drawing = Drawing(4, 2)
    drawing.text(1, 1, "one text")
    drawing.text(1.2, 1, "another")
    drawing.text(3.9, 1, "outside")
    drawing.text(2, 0.3, "struck")
    drawing.wire((0, 0.3), (3, 0.3))
    said = unreadable(drawing)
    assert {"one text meets another", "outside leaves the sheet", "struck is cut"} <= set(said)
