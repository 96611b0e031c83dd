"""Tags of spans: counted as conlleval does, learned with a CRF that keeps IOB2, answered and looked at."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from components.bundle import load_bundle, save_bundle
from components.datasets.ingest import ingest
from components.datasets.store import Examples, Sequences, Store
from components.datasets.text.spans import as_iob2
from components.encodings.pair import Pair
from components.errors import UserError
from components.recipe import Recipe
from components.tasks.tagging import Tagging, f1, precision, recall, span_counts, types_table
from components.training.session import Session

NAMES = ("Ada", "Bo", "Cy", "Di", "Eve")
WORDS = ("saw", "met", "and", "then", "with")


def conll(path: Path, *, sentences: int = 150) -> Path:
    """Words in small letters, and names of one or two words: a person with a title, else a place."""
    rng = np.random.default_rng(0)
    text = []
    for _ in range(sentences):
        lines = []
        for _ in range(rng.integers(1, 4)):
            lines.append(f"{rng.choice(WORDS)}\tO")
            kind = "person" if rng.random() < 0.5 else "place"
            lines += ["Dr\tO"] * (kind == "person")
            name = rng.choice(NAMES, rng.integers(1, 3))
            lines += [f"{word}\t{'BI'[at > 0]}-{kind}" for at, word in enumerate(name)]
        text.append("\n".join(lines) + "\n")
    path.write_text("\n".join(text), encoding="utf-8")
    return path


def recipe_for(path: Path, **model) -> Recipe:
    return Recipe.from_dict(
        "tags",
        {
            "seed": 1,
            "data": {"path": str(path), "reader": "conll"},
            "encoding": {"kind": "pair", "input": {"kind": "spelled"}, "target": {"kind": "labels"}},
            "task": {"kind": "tagging", "scheme": "iob"},
            "model": {
                "kind": "gru", "hidden_size": 12, "letters_size": 6, "bidirectional": True, "crf": True, **model,
            },
            "training": {"steps": 80, "batch_size": 16, "learning_rate": 2e-2, "warmup_steps": 0},
            "evaluation": {"every": 40},
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("tags")
    recipe = recipe_for(conll(folder / "a.conll"))
    return Store.open(ingest(recipe.data, recipe.encoding, root=folder, cache_dir=folder / "c", seed=0).path)


def test_variants_of_another_length_are_refused() -> None:
    """They would have no label for each frame."""
    for tempo, message in ((1.0, None), (1.2, "can't be used with tagging")):
        pair = Pair(input={"kind": "mel", "tempo": tempo}, target={"kind": "labels"})
        if message is None:
            Tagging(pair, "sequences")
        else:
            with pytest.raises(UserError, match=message):
                Tagging(pair, "sequences")


def task_of(labels: list[str], scheme: str = "iob", **options) -> Tagging:
    pair = Pair(input={"kind": "symbols"}, target={"kind": "labels"})
    pair.fit([(["a"], labels)])
    return Tagging(pair, "sequences", scheme=scheme, **options)


def test_span_figures_are_right_by_hand_over_rows_of_unequal_length() -> None:
    labels = ["B-x", "B-y", "I-x", "I-y", "O"]  # ids 4 to 8
    task = task_of(labels)
    wanted = [["B-x", "I-x", "O", "B-y"], ["B-x", "O"], ["O"]]
    said = [["B-x", "I-x", "B-x", "B-x"], ["B-x", "I-x"], ["O"]]
    # right: the first span of the first row. said 4: (0,2,x), (2,3,x), (3,4,x), (0,2,x); there 3
    lengths = torch.tensor([4, 2, 1])
    ids = torch.zeros(3, 4, dtype=torch.long)
    outputs = torch.zeros(3, 4, 9)
    outputs[:, :, 5] = 9.0  # padding says B-y: it must not count
    for row, (a, b) in enumerate(zip(wanted, said, strict=True)):
        ids[row, : len(a)] = torch.from_numpy(task.encoding.target.encode(a))
        outputs[row, : len(b)] = 20.0 * torch.nn.functional.one_hot(torch.from_numpy(task.encoding.target.encode(b)), 9)
    whole = {name: tally.value for name, tally in task.metrics(outputs, ids, lengths).items()}
    assert whole["span_precision"] == pytest.approx(1 / 4)
    assert whole["span_recall"] == pytest.approx(1 / 3)
    assert whole["span_f1"] == pytest.approx(2 / 7)
    assert whole["accuracy"] == pytest.approx(4 / 7)
    assert whole["whole_sequences_right"] == pytest.approx(1 / 3)
    parts = [task.metrics(outputs[i : i + 1], ids[i : i + 1], lengths[i : i + 1]) for i in range(3)]
    for name, value in whole.items():
        added = parts[0][name] + parts[1][name] + parts[2][name]
        assert added.value == pytest.approx(value), "sums are put together once"
    assert types_table(list(zip(wanted, said, strict=True))).columns == {
        "type": ["x", "y"], "precision": [0.25, 0.0], "recall": [0.5, 0.0], "f1": [0.3333, 0.0],
        "right": [1, 0], "said": [4, 0], "there": [2, 1],
    }  # fmt: skip


def test_a_span_bias_finds_more_spans_and_leaves_the_loss_alone() -> None:
    labels = ["B-x", "I-x", "O"]
    lengths, targets = torch.tensor([3]), torch.tensor([[6, 4, 5]])
    outputs = torch.full((1, 3, 7), -9.0)
    outputs[0, :, 6] = 0.0
    outputs[0, 1, 4], outputs[0, 2, 5] = -1.0, -0.5
    said = {}
    for bias in (0.0, 0.7, 1.2, -1.0):
        task = task_of(labels, span_bias=bias)
        said[bias] = task.answers(None, outputs, lengths.numpy())[0]
        figures = task.metrics(outputs, targets, lengths)
        assert (
            figures["nats_per_label"].value
            == task_of(labels).metrics(outputs, targets, lengths)["nats_per_label"].value
        )
        assert figures["span_recall"].value == (bias == 1.2)
    assert said == {0.0: ["O", "O", "O"], 0.7: ["O", "O", "I-x"], 1.2: ["O", "B-x", "I-x"], -1.0: ["O", "O", "O"]}
    with pytest.raises(UserError, match="only works with tags of spans"):
        task_of(["noun", "verb"], "none", span_bias=1.0)


def test_a_crf_reads_the_best_of_all_tags_with_their_bias() -> None:
    """Against every sequence of tags."""
    task = task_of(["B-x", "I-x", "O"], span_bias=1.5)
    scores_BTYY = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 2
    scores_BTYY[:, 0] = scores_BTYY[:, 0, :1]  # there is no tag before the first
    found, plain = (t.answers(None, scores_BTYY, np.array([3] * 4)) for t in (task, task_of(["B-x", "I-x", "O"])))
    for scores_TYY, tags in zip(scores_BTYY.tolist(), found, strict=True):

        def score(path: tuple[int, ...], scores_TYY=scores_TYY) -> float:
            return sum(scores_TYY[t][path[t - 1]][y] + 1.5 * (y != 2) for t, y in enumerate(path))

        best = max(itertools.product(range(3), repeat=3), key=score)
        assert [["B-x", "I-x", "O"][y] for y in best] == tags
    assert found != plain


def test_without_a_span_the_figures_are_0_and_not_a_nan() -> None:
    counts = span_counts(["O"], ["O"])[0]
    assert precision(counts, 1) == recall(counts, 1) == f1(counts, 1) == 0.0


def test_tags_of_no_spans_keep_their_metrics() -> None:
    task = task_of(["noun", "verb"], "none")
    assert task.primary == "accuracy"
    found = task.metrics(torch.randn(2, 3, 6), torch.tensor([[4, 5, 0], [5, 5, 5]]), torch.tensor([2, 3]))
    assert set(found) == {"accuracy", "nats_per_label", "whole_sequences_right"}


def test_a_crf_learns_spans_keeps_iob2_and_travels_in_a_bundle(store, tmp_path, silent) -> None:
    recipe = recipe_for(tmp_path / "unused")
    session = Session(recipe, store, "cpu", 1)
    assert session.task.primary == "span_f1"
    before = session.evaluate("test")
    session.train(tmp_path / "run", silent)
    after = session.evaluate("test")
    assert before["span_f1"] < 0.5 < 0.95 < after["span_f1"]
    assert after["nats_per_label"] < 0.1 < before["nats_per_label"]

    texts = [["Dr", "Zed", "Ada", "met", "Bo"], ["and", "Cy", "Cy"], ["Dr"]]
    save_bundle(tmp_path / "b", "tags", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    loaded = load_bundle(tmp_path / "b")
    answers = loaded.predict(texts)
    assert answers == session.task.predict(session.model, texts) == [loaded.predict([text])[0] for text in texts]
    assert answers[0][2:] == ["I-person", "O", "B-place"], "an unseen name is known by its letters and its title"
    assert loaded.predict(["Dr Ada met Bo"]) == loaded.predict([["Dr", "Ada", "met", "Bo"]])

    findings = {finding.name: finding for finding in session.task.findings(session.model, store.split("test"))}
    assert findings["confusion"].values.sum(1) == pytest.approx(np.ones(5))
    assert findings["types"].columns["there"] == sorted(findings["types"].columns["there"], reverse=True)
    wrong = findings["predictions"].columns["wrong"]
    assert wrong == sorted(wrong, reverse=True)
    assert "Dr" in " ".join(findings["predictions"].columns["input"]), "the words as they were written"


@pytest.mark.parametrize("crf", [True, False])
def test_only_with_a_crf_an_untrained_model_keeps_iob2(store, crf) -> None:
    session = Session(recipe_for(Path("unused"), crf=crf), store, "cpu", 1)
    torch.nn.init.normal_(session.model.head.weight, std=3.0)
    rng = np.random.default_rng(0)
    texts = [list(rng.choice([*NAMES, *WORDS], 12)) for _ in range(30)]
    answers = session.task.predict(session.model, texts)
    assert all(as_iob2(tags) == tags for tags in answers) == crf


def test_a_word_looked_up_is_the_baseline(store) -> None:
    task = Tagging(store.encoding(), "sequences", scheme="iob")
    value = task.baselines(store.split("train"), store.split("test"))["commonest tag of each word"]
    assert 0 < value < 0.6, "names are persons and places alike"


def test_training_tags_that_are_not_iob2_are_refused_with_the_way_out() -> None:
    task = task_of(["O", "I-x", "B-x"])
    fields = {
        name: Sequences(np.array(ids), np.array([0, 1, 3]))
        for name, ids in (("input", [4, 4, 4]), ("target", task.encoding.target.encode(["B-x", "O", "I-x"])))
    }
    with pytest.raises(UserError, match=r"example 1 has I-x after O(.|\n)*reader conll"):
        task.batches(Examples(fields), batch_size=2, window=8, seed=0, training=True)
    assert task.batches(Examples(fields), batch_size=2, window=8, seed=0, training=False).count(0) == 1


def test_a_label_that_training_never_saw_has_finite_nats(store) -> None:
    session = Session(recipe_for(Path("unused")), store, "cpu", 1)
    batch = session.task.batches(store.split("test"), batch_size=4, window=1, seed=0, training=False).at(0, 0)
    batch.targets[:, 0] = 1  # UNK
    measured, _ = session.task.measure(session.model, batch, None)
    assert np.isfinite(measured["nats_per_label"].value)
    assert measured["accuracy"].value < 1
