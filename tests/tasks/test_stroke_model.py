"""Models of strokes from training to drawings: what is learned, metrics in the data's units, files that can be made
again, and every door."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from scipy import stats
from task_pairs import Pair

from components.bundle import Bundle, load_bundle, save_bundle
from components.datasets.made.handwriting import MadeHandwriting
from components.errors import UserError
from components.ink import Ink
from components.recipe import Recipe
from components.render.ink import svg
from components.render.record import read_record
from components.use.description import describe
from components.use.opening import Opened
from components.use.writing import write

ITEMS = sorted(MadeHandwriting(count=40, words=1).items(), key=lambda item: item.points)[:6]
SMALL = {"gaussians": 3, "window_gaussians": 2}
TEXTS = Pair(ITEMS, {"kind": "strokes", "texts": True}, SMALL, {"kind": "stroke_model"})
DRAWINGS = Pair(ITEMS, {"kind": "strokes"}, {**SMALL, "kind": "gru"}, {"kind": "stroke_model"})


def saved(folder: Path, pair: Pair, **generation: object) -> Bundle:
    task, model, _ = pair.build()
    values = {"task": pair.task, "encoding": pair.encoding, "model": {"kind": "lstm", "hidden_size": 8, **pair.model}}
    values |= {"data": {"reader": "made-handwriting"}, "generation": generation}
    save_bundle(
        folder, "pen", model, task.encoding, Recipe.from_dict("pen", values).as_dict(), {"framing": "sequences"}
    )
    return load_bundle(folder)


def test_the_metric_is_in_the_units_of_the_data() -> None:
    """All coordinates twice as large: 2 ln 2 nats a point more, of the model and of the baseline."""
    found = []
    for factor in (1, 2):
        items = [Ink(tuple(factor * stroke for stroke in item.strokes), item.text) for item in ITEMS]
        task, model, split = Pair(items, TEXTS.encoding, SMALL, TEXTS.task).build()
        batch = task.batches(split, batch_size=6, window=1, seed=0, training=False).at(0, 0)
        assert batch.lengths_B.sum() == sum(item.points - 1 for item in items)
        with torch.no_grad():
            metrics, _ = task.measure(model, batch, None)
        found.append((metrics["nats_per_point"].value, task.baselines(split, split)["one Gaussian"]))
    np.testing.assert_allclose(np.diff(found, axis=0)[0], 2 * math.log(2), rtol=1e-5)


def test_the_baseline_is_one_gaussian_and_three_chances() -> None:
    task, _, split = DRAWINGS.build()
    offsets = np.concatenate([np.diff(np.concatenate(item.strokes), axis=0) for item in ITEMS])
    where = -stats.multivariate_normal(offsets.mean(0), np.cov(offsets.T, bias=True)).logpdf(offsets).sum()
    points, lifts, ends = len(offsets), sum(len(item.strokes) for item in ITEMS), len(ITEMS)
    lift, end = (lifts + 1) / (points + 2), (ends + 1) / (lifts + 2)
    pen = lifts * math.log(lift) + (points - lifts) * math.log(1 - lift)
    pen += ends * math.log(end) + (lifts - ends) * math.log(1 - end)
    assert task.baselines(split, split)["one Gaussian"] == pytest.approx((where - pen) / points, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("pair", [TEXTS, DRAWINGS])
def test_a_few_updates_learn(pair) -> None:
    task, model, split = pair.build()
    batches = task.batches(split, batch_size=6, window=1, seed=0, training=True)
    optimizer, losses = torch.optim.Adam(model.parameters(), 0.02), []
    for update in range(12):
        tally, _ = task.loss(model, batches.at(update, 0), None)
        optimizer.zero_grad()
        (tally.total / tally.count).backward()
        optimizer.step()
        losses.append(float(tally.total.detach()) / tally.count)
    assert losses[-1] < losses[0] - 0.3


def test_pieces_depend_on_their_number_alone_and_end_where_they_are_told(tmp_path) -> None:
    bundle = saved(tmp_path / "bundle", TEXTS, prompt=ITEMS[0].text, max_length=20)
    two, one = (bundle.generate({"count": count}, seed=3) for count in (2, 1))
    # float32's last digits depend on how many rows lie side by side
    np.testing.assert_allclose(two.sampled[0].ids, one.sampled[0].ids, atol=1e-4)
    assert two.items[0].text == ITEMS[0].text
    assert two.sampled[0].ids.shape[1] == 3
    assert max(item.points for item in two.items) <= 20
    with torch.no_grad():  # a window that runs: each step is twenty characters long
        bundle.model.window.linear.bias[-2:] = 10.0
    hasty = bundle.generate({"count": 2}, seed=3)
    assert all(one.ended and len(one.ids) < 20 for one in hasty.sampled)
    assert all((one.ids[:-1, 2] == 0).all() and one.ids[-1, 2] == 1 for one in hasty.sampled), "one stroke"


def test_what_cant_be_written_is_told(tmp_path) -> None:
    texts, drawings = saved(tmp_path / "a", TEXTS, prompt="so"), saved(tmp_path / "b", DRAWINGS)
    with pytest.raises(UserError, match="needs a text to write"):
        texts.generate({"prompt": ""}, seed=0)
    with pytest.raises(UserError, match="its characters"):
        texts.generate({"prompt": "ÄÖ"}, seed=0)
    with pytest.raises(UserError, match="can't write a given text"):
        drawings.generate({"prompt": "so"}, seed=0)
    told = [describe(one.task, one.encoding, one.recipe, one.info) for one in (texts, drawings)]
    assert [(one.writes, one.accepts) for one in told] == [("strokes", ["prompt"]), ("strokes", [])]
    made = texts.generate({"prompt": f"{ITEMS[0].text[0]}ÄÄ", "max_length": 5, "count": 1}, seed=0)
    assert made.warnings[0].endswith("don't contain them: 'Ä'")


@pytest.mark.slow
def test_drawings_are_written_as_files_that_say_how_they_were_made(tmp_path) -> None:
    bundle = saved(tmp_path / "bundle", DRAWINGS, max_length=30, count=2)
    made = bundle.generate({}, seed=5)
    opened = Opened(bundle, "pen", "1", "")
    first, again = (write(opened, made, tmp_path / folder) for folder in ("x", "y"))
    assert [path.name for path in first] == ["pen-1.svg", "pen-1.png", "pen-2.svg", "pen-2.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    assert [read_record(path)["number"] for path in first] == [1, 1, 2, 2]
    paths = ElementTree.parse(first[0]).getroot().findall("{*}path")
    assert len(paths) == len(made.items[0].strokes)
    assert b"script" not in first[0].read_bytes()
    assert b"http" not in re.sub(rb'xmlns="[^"]*"', b"", first[0].read_bytes())


def test_a_title_cant_break_out_of_the_drawing() -> None:
    ink = Ink((np.array([[0.0, 0.0]]), np.array([[1.0, 1.0], [2.0, 0.0]])))
    root = ElementTree.fromstring(svg(ink, "</title><script>x</script>\u0000 & so", {"text": "-->"}))
    assert [child.tag.split("}")[1] for child in root] == ["title", "style", "rect", "path", "path"]
    assert "l0 0" in root.findall("{*}path")[0].get("d"), "a point is a dot"
    ElementTree.fromstring(svg(Ink(()), "nothing"))
