"""Ratings: whole numbers on a scale, predicted in their order."""

from __future__ import annotations

import csv

import numpy as np
import pandas as pd
import pytest
import torch

from components.bundle import load_bundle, save_bundle
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.base import Field, encoding_from_state
from components.encodings.mel import Mel, Sound
from components.encodings.pair import Pair
from components.encodings.ratings import Ratings
from components.errors import UserError
from components.models.ordinal import Ordinal
from components.recipe import Recipe
from components.tasks.ordinal import OrdinalRegression
from components.training.session import Session
from components.use.files import reader_for
from components.use.lines import answer_texts
from components.use.table import predict_file

WORDS = {1: "awful", 2: "weak", 3: "fair", 4: "good", 5: "superb"}


def ratings(items=("1", "5"), **options) -> Ratings:
    made = Ratings(**options)
    made.fit(items)
    return made


def test_ratings_are_ids_in_the_order_of_the_scale() -> None:
    scale = ratings([["4"], [1.0], "3"])
    assert scale.classes == ("1", "2", "3", "4"), "what no item of training has is on the scale too"
    assert [int(scale.encode(item)[0]) for item in ("1", 2, [4.0])] == [4, 5, 7]
    again = encoding_from_state(scale.state())
    assert again.decode(again.encode("3")) == ["3"]
    assert ratings(["2"], low=1, high=5).classes == ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("6", r"the rating 6 is outside .* 1 to 5(.|\n)*encoding.target.high: 6"),
        (0, r"the rating 0 is outside(.|\n)*encoding.target.low: 0"),
        ("4.5", "a whole number, not '4.5'"),
        ("good", r"a whole number, not 'good'(.|\n)*regression"),
        ([1.0, 2.0], "a whole number, not 2 numbers"),
        (float("nan"), "a whole number"),
    ],
)
def test_what_is_no_rating_is_refused_with_the_way_out(item, said) -> None:
    with pytest.raises(UserError, match=said):
        ratings().encode(item)


@pytest.mark.parametrize("items", [["1", "200"], ["3"]])
def test_what_is_no_scale_is_refused(items) -> None:
    with pytest.raises(UserError, match="a scale must have 2 to 100"):
        ratings(items)


def test_a_scale_that_is_refused_costs_no_innocent_sequence(tmp_path) -> None:
    lines = [f"text {n}\t{n % 5 + 1}" for n in range(20)] + ["text\t300"]
    (tmp_path / "x.tsv").write_text("\n".join(["text\tstars", *lines]), encoding="utf-8")
    encoding = {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": "ratings"}}
    data = {"path": str(tmp_path / "x.tsv"), "reader": "table", "split": [1.0, 0.0, 0.0]}
    with pytest.raises(UserError, match="from 1 to 300"):
        ingest(data, encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0)


def task() -> OrdinalRegression:
    pair = Pair(input={"kind": "characters"}, target={"kind": "ratings"})
    pair.fit([("a", "1"), ("b", "4")])
    return OrdinalRegression(pair, "sequences")


def test_loss_probabilities_and_answers_are_those_of_the_thresholds() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0], [-3.0, -4.0, -5.0], [3.0, 2.0, 1.0]])
    targets = torch.tensor([[6], [4], [6]])  # ratings 3, 1, 3
    found = task()
    assert found.likeliest(logits).tolist() == [6, 4, 7]
    passed = 1 / (1 + np.exp(-logits.double().numpy()))
    probabilities = found.probabilities(logits)
    assert probabilities[:, 4:].sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert probabilities[0, 4:].tolist() == pytest.approx(
        [1 - passed[0, 0], passed[0, 0] - passed[0, 1], passed[0, 1] - passed[0, 2], passed[0, 2]]
    )
    by_hand = -(np.log(passed[0, :2]).sum() + np.log(1 - passed[0, 2]) + np.log(1 - passed[1]).sum())
    assert found.tally(logits[:2], targets[:2], torch.ones(2)).total.item() == pytest.approx(by_hand, rel=1e-5)
    metrics = {name: tally.value for name, tally in found.metrics(logits, targets, torch.ones(3)).items()}
    assert metrics["mae"] == pytest.approx(1 / 3)
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["macro_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert metrics["nats_per_example"] == pytest.approx(-probabilities.gather(1, targets).log().mean().item())


def test_thresholds_out_of_order_give_no_negative_probability() -> None:
    assert (task().probabilities(torch.tensor([[-1.0, 2.0, 0.0]])) >= 0).all()


def test_every_parameter_of_the_model_that_is_trained_gets_a_gradient() -> None:
    model = Ordinal(Field(width=2), 3, kind="gru", hidden_size=4)
    logits = model(torch.randn(5, 3, 2), torch.tensor([3, 3, 2, 1, 3]))
    assert logits.shape == (5, 3)
    assert (logits[:, :-1] > logits[:, 1:]).all()
    logits.square().sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.parameters() if parameter.requires_grad)


def test_only_ratings_are_targets() -> None:
    pair = Pair(input={"kind": "characters"}, target={"kind": "labels"})
    pair.fit([("a", "1"), ("b", "4")])
    with pytest.raises(UserError, match="needs the target encoding"):
        OrdinalRegression(pair, "sequences")


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [True, False])
def test_reviews_are_rated_by_whole_numbers_through_every_door(tmp_path, silent, numbers) -> None:
    rng = np.random.default_rng(0)
    with (tmp_path / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "stars"])
        writer.writerows([f"{n} this was {WORDS[star]}", star] for n, star in enumerate(rng.integers(1, 6, 150)))
    recipe = Recipe.from_dict(
        "stars",
        {
            "data": {"path": str(tmp_path / "reviews.csv"), "reader": "table", "numbers": numbers},
            "encoding": {"kind": "pair", "input": {"kind": "words"}, "target": {"kind": "ratings"}},
            "task": {"kind": "ordinal"},
            "model": {"kind": "gru", "hidden_size": 12, "pooling": "max"},
            "training": {"steps": 120, "batch_size": 16, "learning_rate": 3e-2, "warmup_steps": 0},
            "evaluation": {"every": 60},
        },
    )
    store = Store.open(ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "c", seed=0).path)
    session = Session(recipe, store, "cpu", 1)
    session.train(tmp_path / "run", silent)
    test = store.split("test")
    assert session.evaluate("test")["mae"] < 0.3 * session.task.baselines(store.split("train"), test)["median"]
    assert {finding.name for finding in session.task.findings(session.model, test)} == {"confusion", "predictions"}
    facts = {"framing": "sequences"}
    save_bundle(tmp_path / "bundle", "stars", session.model, session.encoding, recipe.as_dict(), facts)
    bundle = load_bundle(tmp_path / "bundle")
    said = bundle.predict(["this was superb", "this was awful"])
    assert [answer["label"] for answer in said] == [5, 1]
    assert all(type(answer["label"]) is int and 0 < answer["probability"] <= 1 for answer in said)
    assert answer_texts(bundle, ["this was superb"], print)[0].startswith("5  ")
    (tmp_path / "ask.csv").write_text("review\nthis was weak\n", encoding="utf-8")
    counts = predict_file(bundle, reader_for(tmp_path / "ask.csv", recipe.data), tmp_path / "out.csv")
    assert counts == {"2": 1}
    if numbers:
        from mlflow.models import Model
        from mlflow.pyfunc import load_model

        from components.tracking.pyfunc import save_served_model

        save_served_model(tmp_path / "bundle", tmp_path / "served", Model())
        table = load_model(str(tmp_path / "served")).predict(pd.DataFrame({"input": ["this was superb"]}))
        assert table["label"].tolist() == [5]


def test_whole_targets_of_regression_are_told_that_ratings_are_there() -> None:
    def remarks(targets) -> list[str]:
        pair = Pair(input={"kind": "characters"}, target={"kind": "frames"})
        pair.fit([("a", target) for target in targets])
        return pair.remarks()

    assert "whole numbers from 1 to 5" in remarks([[1.0], [5.0]])[0]
    assert "kind: ordinal" in remarks(["1", "5"])[0]
    assert remarks([[1.0], [5.5]]) == remarks([[1.0], [500.0]]) == remarks([[1.0, 2.0], [3.0, 4.0]]) == []


def test_bands_above_what_the_sounds_have_are_told() -> None:
    mel = Mel(rate_hz=16_000, bands=8)
    mel.fit([Sound(np.zeros(800, np.float32), 8000)])
    assert (
        "so the sounds contain nothing above 4,000 Hz, but the bands go up to 8,000 (set rate_hz=8000)"
        in mel.remarks()[0]
    )
    mel.fit([Sound(np.zeros(1600, np.float32), 44_100)])
    assert mel.remarks() == []
