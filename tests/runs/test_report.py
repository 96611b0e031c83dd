"""The pictures of a run: what they show is what was measured, and they can be drawn of anything."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from components.datasets.store import Sequences
from components.encodings.characters import Characters
from components.encodings.vocabulary import SPECIALS, Vocabulary
from components.evaluation import report
from components.tasks.base import Matrix
from components.tasks.language_model import LanguageModel
from components.tasks.surprise import excerpt, surprise
from components.training.session import Session


def test_baselines_are_the_entropy_of_the_counts() -> None:
    train = np.array([4] * 60 + [5] * 30 + [6] * 10)
    encoding = Characters()
    encoding.vocabulary = Vocabulary([*SPECIALS, "a", "b", "c", "d"])
    task = LanguageModel(encoding, "stream")
    split = Sequences(train, np.array([0, len(train)]))
    values = task.baselines(split, split)
    counts = np.bincount(train, minlength=8) + 1
    p = counts / counts.sum()
    assert values["uniform"] == pytest.approx(math.log(8))
    assert values["unigram"] == pytest.approx(-np.mean(np.log(p[train])))
    assert math.isnan(task.baselines(split, Sequences(train[:0], np.array([0])))["unigram"])


def test_the_surprises_of_a_piece_are_the_loss_on_it(small_recipe, small_store) -> None:
    recipe = small_recipe()
    store = small_store(recipe)
    session = Session(recipe, store, "cpu", 1)
    session.model.eval()
    total = count = 0
    for ids in store.split("test"):
        nats = surprise(session.model, session.encoding, ids)
        assert len(nats) == len(ids) - 1
        total, count = total + nats.sum(), count + len(nats)
    assert total / count == pytest.approx(session.evaluate("test")["nats_per_char"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("framing", ["sequences", "stream"])
def test_pictures_can_be_drawn(small_recipe, small_store, tmp_path, framing) -> None:
    recipe = small_recipe(framing)
    store = small_store(recipe)
    session = Session(recipe, store, "cpu", 1)
    session.model.eval()
    ids = excerpt(store.split("test")[0])
    nats = surprise(session.model, session.encoding, ids)
    report.write_surprise(tmp_path / "s.png", session.encoding, ids, nats, title="held out")
    history = [{"step": s, "tokens": s * 10.0, "train": 3.0 / s, "val": 3.1 / s} for s in (1, 2, 3)]
    lines = {"uniform": 40.0, "unigram": 3.3}
    words = {"metric": "nats_per_char", "title": "a curve"}
    report.write_learning_curve(tmp_path / "a.png", history, baselines=lines, test=1.0, **words)
    empty = [{"step": 1, "tokens": 10.0, "train": math.nan, "val": math.nan}]
    report.write_learning_curve(tmp_path / "b.png", empty, baselines={}, test=None, **words)
    report.write_learning_curve(tmp_path / "c.png", history, baselines={}, test=1.0, loss_unit="nats", **words)
    names = tuple("abcdef")
    grid = Matrix("confusion", "what is taken for what", np.eye(6), names, names, "label", "predicted", cells=True)
    report.draw(grid, session.encoding, tmp_path / "d.png")
    for name in ("s", "a", "b", "c", "d"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100
            assert len(image.convert("L").getcolors(256)) > 10, "something is drawn"


@pytest.mark.slow
@pytest.mark.parametrize("val", [math.nan, 0.8])
def test_a_learning_curve_without_val_has_the_scale_of_its_baselines(val: float, tmp_path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(report, "Figure", lambda **words: drawn.append(Figure(**words)) or drawn[-1])
    history = [{"step": s, "tokens": s * 10.0, "train": 1.0 / s, "val": val} for s in (1, 2)]
    report.write_learning_curve(
        tmp_path / "a.png", history, metric="f1", baselines={"common": 0.1}, test=0.7, title="a", loss_unit="nats"
    )
    axes = drawn[0].axes[0]
    names, (low, high) = axes.get_legend_handles_labels()[1], axes.get_ylim()
    assert high > 0.7
    if math.isnan(val):
        assert names == ["common 0.1", "test 0.7"]
        assert low <= 0.1
    else:
        assert names == ["val", "common 0.1 (outside the plot)", "test 0.7"]
        assert low > 0.1


def test_every_token_of_a_piece_is_in_the_layout_once() -> None:
    from components.encodings.chorale.encoding import Chorale

    text = Characters()
    text.fit(["one line\nand another that is longer than a row " * 5])
    ids = text.encode("one line\nand another that is longer than a row " * 5)
    rows = text.layout(ids)
    assert sorted(index for row in rows for index in row) == list(range(len(ids)))
    assert max(map(len, rows)) <= 64
    assert text.label(text.vocabulary.id("\n")) == "⏎"
    chorale = Chorale()
    rng = np.random.default_rng(0)
    frames = rng.integers(chorale.signs.pitch0, len(chorale.vocabulary), 4 * 70)
    ids = np.concatenate([chorale.vocabulary.ids(["metre 4/4", "upbeat 0"]), frames, [3]])
    rows = chorale.layout(ids)
    assert sorted(index for row in rows for index in row) == list(range(len(ids)))
    assert [len(row) for row in rows[1:]] == [32] * 8 + [6] * 4
    assert all((index - 2) % 4 == voice for voice, row in enumerate(rows[1:5]) for index in row)
    assert chorale.label(int(chorale.vocabulary.id("pitch 60"))) == "C4"
    assert len({chorale.label(id) for id in range(chorale.signs.pitch0, len(chorale.vocabulary))}) == 73
