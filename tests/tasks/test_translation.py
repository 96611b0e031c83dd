"""Translation: unequal lengths learned, answered alone as in a batch, scored as sacrebleu scores."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st

from components.bundle import load_bundle, save_bundle
from components.datasets.base import Reader
from components.datasets.batches.examples import ExampleBatch
from components.datasets.ingest import ingest
from components.datasets.store import Store
from components.encodings.base import Field
from components.encodings.vocabulary import BOS, EOS, PAD
from components.errors import UserError
from components.models.encoder_decoder import EncoderDecoder
from components.recipe import Recipe
from components.registry import TABLE, names
from components.tasks import translation as module
from components.tasks.base import Tally
from components.tasks.bleu import bleu_of, bleu_statistics, chrf, sentence_bleu
from components.tasks.translation import framed
from components.training.session import Session
from components.training.state_gradients import probes

SPELLED = {"1": "one", "2": "two", "3": "six", "4": "ten", "5": "odd", "6": "bee"}


class Digits(Reader):
    """("132", "one six two"): each digit spelled."""

    framing, pairs, own = "sequences", True, True

    def __init__(self, files, /, *, count: int = 1500) -> None:
        super().__init__(files)
        self.count = count

    def items(self) -> Iterator[tuple[str, str]]:
        rng = np.random.default_rng(0)
        for _ in range(self.count):
            digits = rng.permutation(list(SPELLED))[: rng.integers(1, 5)]
            yield "".join(digits), " ".join(SPELLED[digit] for digit in digits)

    def group(self, item: tuple[str, str]) -> str:
        return item[0]

    def digest(self) -> str:
        return str(self.count)


@pytest.fixture(autouse=True)
def digits(monkeypatch) -> None:
    monkeypatch.setitem(TABLE["reader"], "digits", f"{__name__}:Digits")


def recipe_for(
    task: dict | None = None, training: dict | None = None, target: str = "characters", count: int = 60, **model
) -> Recipe:
    values = {
        "seed": 1,
        "data": {"reader": "digits", "count": count, "split": [0.6, 0.2, 0.2]},
        "encoding": {"kind": "pair", "input": {"kind": "characters"}, "target": {"kind": target}},
        "task": {"kind": "translation", "primary": "exact", "beam_size": 3, "max_ratio": 6.0, **(task or {})},
        "model": {"kind": "gru", "hidden_size": 32, "bidirectional": True, **model},
        "training": {"steps": 300, "batch_size": 32, "learning_rate": 1e-2, **(training or {})},
        "evaluation": {"every": 300},
    }
    return Recipe.from_dict("digits", values)


def session_for(recipe: Recipe, tmp_path) -> Session:
    ref = ingest(recipe.data, recipe.encoding, root=tmp_path, cache_dir=tmp_path / "cache", seed=0)
    return Session(recipe, Store.open(ref.path), "cpu", 1)


@pytest.mark.slow
def test_it_learns_to_write_longer_sequences_and_the_bundle_answers(tmp_path, silent) -> None:
    recipe = recipe_for(task={"label_smoothing": 0.05}, training={"steps": 200, "learning_rate": 2e-2}, count=600)
    session = session_for(recipe, tmp_path)
    session.train(tmp_path / "run", silent)
    metrics = session.final_metrics("train")
    for name, least in {"accuracy": 0.98, "exact": 0.9, "beam_exact": 0.9, "beam_bleu": 90, "beam_chrf": 90}.items():
        assert metrics[name] > least, name
    assert session.final_metrics("test")["accuracy"] > 0.9, "digits in an order that it never saw"

    save_bundle(tmp_path / "b", "digits", session.model, session.encoding, recipe.as_dict(), {"framing": "sequences"})
    bundle = load_bundle(tmp_path / "b")
    items = [item for item, _ in Digits([], count=20).items()]
    assert bundle.predict(items) == session.task.predict(session.model, items)

    findings = {finding.name: finding for finding in session.task.findings(session.model, session.store.split("test"))}
    table = findings["predictions"].columns
    assert len({len(column) for column in table.values()}) == 1
    assert table["bleu"] == sorted(table["bleu"]), "the hardest first"
    looked = findings["attention_1"]
    assert looked.values.shape == (len(looked.rows), len(looked.columns))
    assert looked.values.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert looked.rows[-1] == "<EOS>"


WAYS = [
    {"attention": "none", "bidirectional": False},
    {"attention": "additive", "input_feeding": True},
    {"attention": "dot", "tie_weights": True, "embedding_size": 24},
    {"kind": "lstm", "num_layers": 2, "layer_norm": True, "learn_initial_state": True},
    {"input": "one_hot", "attention": "none", "input_feeding": True},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_every_way_learns_by_heart(options, tmp_path, silent) -> None:
    task = {"scheduled_sampling": 0.2} if options.get("attention") == "dot" else {}
    session = session_for(recipe_for(task, {"steps": 80}, count=24, **options), tmp_path)
    session.train(tmp_path / "run", silent)
    assert session.evaluate("train")["accuracy"] > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("options", WAYS, ids=str)
def test_an_item_alone_is_answered_as_in_a_batch(options, tmp_path) -> None:
    session = session_for(recipe_for(**options), tmp_path)
    items = [item for item, _ in Digits([], count=12).items()]
    alone = [session.task.predict(session.model, [item])[0] for item in items]
    assert session.task.predict(session.model, items) == alone


def made(**options) -> EncoderDecoder:
    torch.manual_seed(0)
    options = {"kind": "gru", "hidden_size": 6, "bidirectional": True, **options}
    return EncoderDecoder(Field(size=9), 8, **options).double()


INPUTS, LENGTHS = torch.tensor([[4, 5, 6, 7], [5, 0, 0, 0], [8, 6, 4, 0]]).unsqueeze(2), torch.tensor([4, 1, 3])
TOKENS = torch.tensor([[BOS, 4, 5, 6, 7], [BOS, 7, 0, 0, 0], [BOS, 5, 5, 4, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("cell", names("cell"))
@pytest.mark.parametrize("options", [{}, {"attention": "additive"}, {"attention": "none"}], ids=str)
def test_steps_give_what_the_whole_sequence_gives_and_padding_nothing(cell, options) -> None:
    model = made(kind=cell, num_layers=2, **options).eval()
    start = model(INPUTS, LENGTHS)
    y, _ = model.forced(start, TOKENS)
    for row, length in enumerate([5, 2, 4]):
        state = model(INPUTS[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1])
        for u in range(length):
            logits, state = model.step(TOKENS[row : row + 1, u], state)
            torch.testing.assert_close(logits[0], model.head(y[row, u]))


def test_input_feeding_gives_each_step_what_the_head_read_before() -> None:
    model = made(input_feeding=True).eval()
    y, _ = model.forced(model(INPUTS, LENGTHS), TOKENS)
    state = model(INPUTS, LENGTHS)
    for u in range(TOKENS.shape[1]):
        _, state = model.step(TOKENS[:, u], state)
        torch.testing.assert_close(state["fed"], y[:, u])
    state["fed"] = state["fed"] + 1
    changed, _ = model.step(TOKENS[:, 0], state)
    same, _ = model.step(TOKENS[:, 0], state | {"fed": state["fed"] - 1})
    assert (changed - same).abs().max() > 1e-3


@pytest.mark.parametrize("options", [*WAYS, {"kind": "mingru"}, {"residual": True, "num_layers": 2}], ids=str)
def test_every_parameter_gets_a_gradient(options) -> None:
    model = made(**options).train()
    y, _ = model.forced(model(INPUTS, LENGTHS), TOKENS, own=0.5)
    model.head(y).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_scheduled_sampling_feeds_the_models_own_words() -> None:
    model = made().eval()
    start = model(INPUTS, LENGTHS)
    taught, _ = model.forced(start, TOKENS)
    y, _ = model.forced(start, TOKENS, own=1.0)
    torch.testing.assert_close(y[:, 0], taught[:, 0])
    state, token = start, TOKENS[:, 0]
    for u in range(TOKENS.shape[1]):
        logits, state = model.step(token, state)
        torch.testing.assert_close(logits, model.head(y[:, u]))
        token = logits.argmax(dim=1)


def test_tied_weights_are_one_matrix_and_need_its_size() -> None:
    model = made(tie_weights=True, embedding_size=5)
    assert model.head.weight is model.embedding.weight
    with pytest.raises(UserError, match="embedding's size"):
        made(tie_weights=True, embedding_size=5, attention="none")


def test_targets_are_framed_each_at_its_own_end() -> None:
    batch = ExampleBatch(
        inputs=np.zeros((2, 1)), lengths_B=np.array([1, 1]), targets=np.array([[7, 8, 9], [5, PAD, PAD]]),
        target_lengths_B=np.array([3, 1]), rows=np.arange(2),
    )  # fmt: skip
    before, after = framed(batch)
    assert before.tolist() == [[BOS, 7, 8, 9], [BOS, 5, PAD, PAD]]
    assert after.tolist() == [[7, 8, 9, EOS], [5, EOS, PAD, PAD]]


@pytest.mark.slow
def test_label_smoothing_is_torchs(tmp_path) -> None:
    session = session_for(recipe_for(task={"label_smoothing": 0.3}), tmp_path)
    batch = session.task.batches(session.store.split("train"), batch_size=9, window=0, seed=0, training=False).at(0, 0)
    session.model.train()
    outputs, targets, lengths = session.task.outputs(session.model, batch)
    tally = session.task.tally(outputs, targets, lengths)
    logits = outputs.head(outputs.y_NA)
    expected = torch.nn.functional.cross_entropy(logits, targets, label_smoothing=0.3, reduction="sum")
    torch.testing.assert_close(tally.total, expected)
    mine = torch.autograd.grad(tally.total, session.model.parameters(), retain_graph=True)
    theirs = torch.autograd.grad(expected, session.model.parameters())
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert tally.count == int(batch.target_lengths_B.sum()) + 9, "EOS counts, padding doesn't"


def test_bleu_by_hand() -> None:
    said, wanted = ["the cat sat on the mat"], ["The cat sat on a mat"]
    # right n-grams: 5 of 6 (one "the" too many), 3 of 5, 2 of 4, 1 of 3; no brevity penalty
    assert bleu_statistics(said, wanted).tolist() == [6, 6, 5, 3, 2, 1, 6, 5, 4, 3]
    expected = 100 * math.exp(sum(math.log(p) for p in (5 / 6, 3 / 5, 2 / 4, 1 / 3)) / 4)
    assert bleu_of(bleu_statistics(said, wanted), 1) == pytest.approx(expected)
    short = bleu_statistics(["the cat sat on"], ["the cat sat on the mat"])
    assert bleu_of(short, 1) == pytest.approx(100 * math.exp(1 - 6 / 4)), "brevity alone"
    assert bleu_of(bleu_statistics([""], ["a"]), 1) == 0
    assert sentence_bleu("A mat.", "a mat.") == pytest.approx(100), "of a sentence shorter than four words too"


TEXTS = st.text(alphabet="abAB .,!é", max_size=20)


@pytest.mark.slow
@given(pairs=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12), cut=st.integers(0, 12))
def test_bleu_of_ragged_parts_is_sacrebleus_of_the_whole(pairs, cut) -> None:
    said, wanted = ([pair[side] for pair in pairs] for side in (0, 1))
    parts = [(said[:cut], wanted[:cut]), (said[cut:], wanted[cut:])]
    sums = [Tally(bleu_statistics(*part), len(part[0]), bleu_of) for part in parts]
    tally = sums[0] + sums[1]
    assert tally.value == pytest.approx(sacrebleu.corpus_bleu(said, [wanted], lowercase=True, force=True).score)
    assert chrf([t.upper() for t in said], wanted) == pytest.approx(chrf(said, wanted))


@pytest.mark.slow
def test_greedy_figures_are_of_all_sequences_whatever_the_batch(tmp_path) -> None:
    session = session_for(recipe_for(target="subwords"), tmp_path)
    found = []
    for size in (1, 7, 64):
        session.evaluator.batch_size = size
        found.append(session.evaluate("val"))
    assert found[0].keys() >= {"bleu", "exact", "nats_per_token", "accuracy"}
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[2] == pytest.approx(found[0], abs=1e-4)


def test_the_recipe_says_what_is_best() -> None:
    assert recipe_for(task={"primary": "nats_per_token"}).task["primary"] == "nats_per_token"
    with pytest.raises(UserError, match=r"task\.primary"):
        recipe_for(task={"primary": "blue"})
    with pytest.raises(UserError, match=r"model\.attention"):
        recipe_for(attention="dott")


@pytest.mark.slow
def test_many_rows_are_searched_in_parts(tmp_path, monkeypatch) -> None:
    session = session_for(recipe_for(), tmp_path)
    items = [item for item, _ in Digits([], count=12).items()]
    monkeypatch.setattr(module, "LONGEST", 12)
    together = session.task.predict(session.model, items)
    assert max(map(len, together)) == 12, "the model never learned to end"
    monkeypatch.setattr(module, "TOGETHER", 30)
    assert session.task.predict(session.model, items) == together


def test_the_gradient_probe_leaves_it_alone() -> None:
    assert not probes(made(bidirectional=False))  # its lag counts back from a step: a target has no step of the input


def test_frames_can_be_read(tmp_path) -> None:
    model = EncoderDecoder(Field(width=3), 8, kind="gru", hidden_size=6)
    state = model(torch.randn(2, 5, 3), torch.tensor([5, 2]))
    assert model.forced(state, TOKENS[:2])[0].shape == (2, 5, 6)
