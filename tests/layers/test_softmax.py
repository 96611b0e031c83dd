"""Large vocabularies: what is cheaper to learn is measured and sampled from exactly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from components.bundle import load_bundle, save_bundle
from components.datasets.batches.truncated import Batch
from components.encodings.vocabulary import PAD, SPECIALS, Vocabulary
from components.encodings.words import Words
from components.errors import UserError
from components.generation.engine import NOT_COMPILED, obstacle
from components.layers import softmax
from components.layers.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax
from components.models.sequence_model import SequenceModel
from components.tasks.language_model import LanguageModel
from components.training.optim import make_optimizer
from components.training.session import Session

H, V = 6, 50
HEADS = {
    "full": lambda: FullSoftmax(H, V),
    "sampled": lambda: SampledSoftmax(H, V, samples=20),
    "adaptive": lambda: AdaptiveSoftmax(H, V, (10, 30)),
}
KINDS = [{"softmax": "full"}, {"softmax": "sampled", "samples": 12}, {"softmax": "adaptive", "cutoffs": [4, 9]}]


@pytest.fixture(params=HEADS)
def head(request) -> nn.Module:
    torch.manual_seed(0)
    made = HEADS[request.param]()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)  # far from uniform
    return made.eval()


def steps(count: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(count, H, generator=generator), torch.randint(0, V, (count,), generator=generator)


@pytest.mark.parametrize("block", [1 << 24, 400, 7])  # logits at once: all, ten words' at a time, fewer than one step's
def test_what_is_judged_is_the_distribution_that_is_sampled_from(head, block, monkeypatch) -> None:
    monkeypatch.setattr(softmax, "BLOCK", block)
    y_NH, targets_N = steps()
    nats_N, best_N = head.judge(y_NH, targets_N)
    logp_NV = torch.log_softmax(head(y_NH), dim=1)
    torch.testing.assert_close(nats_N, -logp_NV.gather(1, targets_N[:, None]).squeeze(1))
    assert torch.equal(best_N, logp_NV.argmax(dim=1))
    assert len(best_N.unique()) > 5, "the guard must see many words"
    assert head(y_NH.view(5, 8, H)).shape == (5, 8, V)


@pytest.mark.parametrize("kind", ["full", "adaptive"])
def test_the_loss_of_training_is_the_sum_of_the_nats_and_leaves_padding_out(kind) -> None:
    torch.manual_seed(0)
    made = HEADS[kind]()
    y_NH, targets_N = steps()
    targets_N[::3] = PAD
    nats_N, _ = made.judge(y_NH, targets_N)
    loss = made.loss(y_NH.view(4, 10, H), targets_N.view(4, 10), PAD)
    torch.testing.assert_close(loss, nats_N[targets_N != PAD].sum())
    nothing = made.loss(y_NH.view(4, 10, H), torch.full((4, 10), PAD), PAD)
    assert nothing.item() == 0


def test_when_every_word_is_a_candidate_the_sampled_loss_is_the_full_one() -> None:
    torch.manual_seed(0)
    sampled = SampledSoftmax(H, V, samples=1_000_000)
    y_NH, targets_N = steps()
    assert sampled.draw().all()
    expected = FullSoftmax.loss(sampled, y_NH[None], targets_N[None], PAD)
    torch.testing.assert_close(sampled.loss(y_NH[None], targets_N[None], PAD), expected)


@pytest.mark.slow
def test_the_sampled_loss_draws_the_model_to_the_true_distribution() -> None:
    # Over all sets of candidates and all targets, each as likely as it is: where softmax(logits) = P the mean gradient
    # is zero. Without the correction by log Q it isn't.
    head = SampledSoftmax(1, 4, samples=2).double()
    p_V = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    head.chosen_V = head.chosen_V.double()
    q_V = head.chosen_V.clone()
    assert (q_V[:-1] > q_V[1:]).all()
    assert q_V.max() < 0.9
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(p_V.log())
    y_NH, targets_N = torch.zeros(1, 4, 1, dtype=torch.float64), torch.arange(4)[None]

    def gradient() -> Tensor:
        total = torch.zeros(4, dtype=torch.float64)
        for bits in itertools.product([False, True], repeat=4):
            drawn = torch.tensor(bits)
            head.draw = lambda drawn=drawn: drawn
            likely = torch.where(drawn, q_V, 1 - q_V).prod()
            for target in range(4):
                loss = head.loss(y_NH[:, :1], targets_N[:, target : target + 1], -100)
                total += likely * p_V[target] * torch.autograd.grad(loss, head.bias)[0]
        return total

    assert gradient().abs().max() < 1e-6  # logits are in float32 for the sums
    head.chosen_V = torch.ones_like(q_V)
    assert gradient().abs().max() > 1e-2


def test_candidates_are_as_likely_as_said_and_evaluation_draws_nothing() -> None:
    torch.manual_seed(0)
    head = SampledSoftmax(H, V, samples=20)
    share_V = torch.stack([head.draw() for _ in range(2000)]).float().mean(dim=0)
    assert (share_V - head.chosen_V).abs().max() < 0.05
    head.eval()
    before = torch.get_rng_state()
    assert torch.equal(head.draw(), head.draw())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
@pytest.mark.parametrize("options", KINDS, ids=lambda options: options["softmax"])
def test_a_text_is_learned_measured_saved_and_written(options, small_recipe, small_store, silent, tmp_path) -> None:
    recipe = small_recipe(
        "stream",
        encoding={"kind": "words"},
        model={"kind": "gru", "hidden_size": 24, "num_layers": 1, "dropout": 0.0, **options},
        training={"steps": 60, "tbptt_length": 12, "learning_rate": 3e-2},
        evaluation={"every": 30},
    )
    store = small_store(recipe)
    session = Session(recipe, store, "cpu", 1)
    session.train(tmp_path / "run", silent)
    metrics = session.evaluate("test")
    assert metrics["perplexity"] < 1.6
    assert metrics["accuracy"] > 0.8
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["nats_per_word"]))

    session.model.eval()
    save_bundle(tmp_path / "b", "x", session.model, session.encoding, recipe.as_dict(), {"framing": "stream"})
    bundle = load_bundle(tmp_path / "b")
    asked = {"prompt": "the cat", "max_length": 30, "temperature": 0.3, "count": 2, "particles": 5}
    made = bundle.generate(asked, seed=0)
    assert made.warnings == ["generation.particles: has no effect, since it needs rewrite, which isn't set"]
    assert all("sat on the" in item for item in made.items)
    assert (obstacle(bundle.model) in (None, NOT_COMPILED)) == (options["softmax"] != "adaptive")


@pytest.mark.slow
def test_training_goes_on_with_the_same_draws(small_recipe, small_store, silent, tmp_path) -> None:
    model = {"kind": "gru", "hidden_size": 12, "num_layers": 1, "softmax": "sampled", "samples": 6}
    recipe = small_recipe("stream", encoding={"kind": "words"}, model=model, training={"steps": 24})
    store = small_store(recipe)
    whole = Session(recipe, store, "cpu", 1)
    whole.train(tmp_path / "whole", silent)

    class Cut(type(silent)):
        def progress(self, step: int, steps: int, values: dict[str, float]) -> None:
            if step == 17:  # after the evaluation, and the checkpoint, at update 16
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Session(recipe, store, "cpu", 1).train(tmp_path / "cut", Cut())
    again = Session(recipe, store, "cpu", 1)
    again.train(tmp_path / "cut", silent)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("softmax_kind", ["sampled", "adaptive"])
def test_an_update_with_200000_words_is_a_small_thing(softmax_kind) -> None:
    size = 200_000
    words = Words()
    words.vocabulary = Vocabulary([*SPECIALS, *(f"w{n}" for n in range(size - 4))])
    task = LanguageModel(words, "stream")
    torch.manual_seed(0)
    options = {"kind": "gru", "hidden_size": 32, "embedding_size": 8, "softmax": softmax_kind, "samples": 2000}
    model = task.build_model(options)
    optimizer = make_optimizer(model)
    # common words mostly, and one of the rarest
    ids = torch.cat([torch.arange(4, 260), torch.tensor([size - 1])]).view(1, -1).numpy()
    batch = Batch(ids[:, :-1, None], ids[:, 1:], fresh=True)
    before = task.measure(model, batch, None)[0]["nats_per_word"].value
    # no word is preferred yet: among all, or among the first level's 4,000 and its two doors
    assert before == pytest.approx(math.log(size if softmax_kind == "sampled" else 4002), rel=0.1)
    for _ in range(3):
        tally, _ = task.loss(model, batch, None)
        optimizer.zero_grad()
        tally.total.backward()
        optimizer.step()
    assert task.measure(model, batch, None)[0]["nats_per_word"].value < before - 0.05


def test_bfloat16_learns_with_each_softmax() -> None:
    for kind in ("full", "sampled", "adaptive"):
        torch.manual_seed(0)
        model = SequenceModel(V, kind="gru", hidden_size=H, softmax=kind, cutoffs=(10,) if kind == "adaptive" else None)
        with torch.autocast("cpu", torch.bfloat16):
            y_BTH, _ = model.outputs(torch.arange(20).view(2, 10, 1))
            loss = model.head.loss(y_BTH, torch.arange(20).view(2, 10), PAD)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.isfinite(), kind


@pytest.mark.parametrize("cutoffs", [(10, 10), (30, 10), (0, 5), (10, 50)])
def test_cutoffs_that_are_none_are_refused(cutoffs) -> None:
    with pytest.raises(UserError, match=r"model\.cutoffs"):
        SequenceModel(V, kind="gru", hidden_size=H, softmax="adaptive", cutoffs=cutoffs)


def test_what_doesnt_go_together_is_refused() -> None:
    with pytest.raises(UserError, match="can't be used with an adaptive softmax"):
        SequenceModel(V, kind="gru", hidden_size=H, softmax="adaptive", tie_weights=True)


def test_a_sampled_softmax_can_be_tied() -> None:
    model = SequenceModel(V, kind="gru", hidden_size=H, softmax="sampled", tie_weights=True, embedding_scale=0.5)
    assert model.head.weight is model.embedding.weight
    assert model.embedding.weight.std().item() == pytest.approx(0.5 * H**-0.5, rel=0.2)


def test_clusters_are_chosen_by_the_vocabulary() -> None:
    assert AdaptiveSoftmax(H, 20, None).levels.cutoffs == [10, 20]
    assert AdaptiveSoftmax(H, 50_000, None).levels.cutoffs == [4_000, 40_000, 50_000]


def test_a_full_softmax_has_the_parameters_that_older_models_were_saved_with() -> None:
    model = SequenceModel(V, kind="gru", hidden_size=H)
    assert {"head.weight", "head.bias"} <= dict(model.named_parameters()).keys()
    torch.testing.assert_close(model.head(torch.ones(1, H)), F.linear(torch.ones(1, H), *model.head.parameters()))
