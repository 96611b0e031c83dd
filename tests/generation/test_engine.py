"""The native sampling loop: the plain loop's tokens, whatever is decoded beside them; int8 close to float32."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from instruction_sets import instruction_sets
from torch import nn

from components.encodings.characters import Characters
from components.encodings.chorale.encoding import Chorale
from components.encodings.vocabulary import EOS
from components.errors import UserError
from components.generation import engine as engines
from components.generation import sampling
from components.generation.draft import Draft
from components.generation.engine import Engine, engine_for, obstacle
from components.generation.native import decode as native
from components.generation.sampling import distribution, draw, sample, sample_plainly
from components.generation.settings import Settings
from components.models.sequence_model import SequenceModel

pytest_plugins = ["native_fixtures"]
pytestmark = pytest.mark.usefixtures("compiler")

KINDS = [
    ("rnn", {"nonlinearity": "tanh"}),
    ("rnn", {"nonlinearity": "relu"}),
    ("gru", {}),
    ("lstm", {}),
]
INPUTS = [{"input": "embedding"}, {"input": "embedding", "tie_weights": True}, {"input": "one_hot"}]
SETTINGS = [
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"temperature": 1.3},
    {"temperature": 1.3, "top_k": 5},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 1.0, "top_k": 9, "top_p": 0.9},
]
TEXT = "".join(chr(code) for code in range(40, 90))


def make(kind="lstm", V=54, contexts=(), sharp=6.0, **options) -> SequenceModel:
    torch.manual_seed(1)
    model = SequenceModel(V, contexts, kind=kind, **{"hidden_size": 20, **options}).eval()
    with torch.no_grad():
        model.head.weight.mul_(sharp)  # opinions strong enough to make sequences differ
    return model


def characters() -> Characters:
    encoding = Characters()
    encoding.fit([TEXT])
    return encoding


def listed(made) -> list[tuple[list[int], bool]]:
    return [(one.ids.tolist(), one.ended) for one in made]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("inputs", INPUTS, ids=str)
def test_the_tokens_are_those_of_the_plain_loop(kind, options, num_layers, inputs) -> None:
    encoding, length = characters(), 25
    model = make(kind, len(encoding.vocabulary), num_layers=num_layers, **options, **inputs)
    assert obstacle(model) is None
    ends = set()
    for seed, (settings, framed) in enumerate(itertools.product(SETTINGS, [True, False])):
        asked = Settings(count=3, max_length=length, **settings)
        prompt = encoding.encode("(A+"[: seed % 4 or 1]).tolist()
        ours = sample(model, Draft(encoding, prompt, asked, seed=seed, framed=framed))
        plain = sample_plainly(model, Draft(encoding, prompt, asked, seed=seed, framed=framed))
        assert listed(ours) == listed(plain), (settings, framed)
        np.testing.assert_allclose(
            [one.nats_per_token for one in ours], [one.nats_per_token for one in plain], rtol=1e-4, atol=1e-5
        )
        ends |= {one.ended for one in ours}
    assert False in ends


@pytest.mark.slow
def test_two_hundred_long_sequences_are_those_of_the_plain_loop() -> None:
    encoding = characters()
    model = make("lstm", len(encoding.vocabulary), num_layers=2, sharp=3.0)
    different = 0
    for seed in range(4):
        settings = Settings(count=50, max_length=200)
        ours = sample(model, Draft(encoding, [7], settings, seed=seed, framed=False))
        plain = sample_plainly(model, Draft(encoding, [7], settings, seed=seed, framed=False))
        different += sum(a.ids.tolist() != b.ids.tolist() for a, b in zip(ours, plain, strict=True))
    # 0 were seen; but a random number may fall where two roundings disagree, some 1e-5 of the tokens
    assert different <= 2


@pytest.mark.slow
def test_a_chorale_is_that_of_the_plain_loop_with_its_grammar_and_what_sounds() -> None:
    encoding = Chorale()
    model = make("gru", len(encoding.vocabulary), encoding.context_sizes, num_layers=2, sharp=2.0)
    assert obstacle(model) is None
    for prompt in ("", "3/4 upbeat 4"):
        ids, _ = encoding.prompt(prompt)
        settings = Settings(count=5, max_length=150)
        draft = Draft(encoding, ids.tolist(), settings, seed=0, framed=True)
        ours, plain = (loop(model, draft) for loop in (sample, sample_plainly))
        assert listed(ours) == listed(plain)
    assert any(one.ended for one in ours)


def stepped(engine: Engine, model: SequenceModel, tokens_NT: np.ndarray) -> np.ndarray:
    """The logits after each token, [N, T, V]."""
    streams, logits = engine.begin(model.initial_state(len(tokens_NT))), []
    for t in range(tokens_NT.shape[1]):
        column = np.ascontiguousarray(np.repeat(tokens_NT[:, t : t + 1], 2, axis=1))
        engine.advance(streams, column, np.zeros((len(column), 1)), np.ones(engine.vocabulary_size, bool))
        logits.append(streams.logits[:, : engine.vocabulary_size].copy())
    return np.stack(logits, axis=1)


@pytest.mark.parametrize("limit", instruction_sets("bw", "vnni"))
@pytest.mark.parametrize(
    ("precision", "kind", "options"),
    # not int8 with relu: it needs states within ±1, and `obstacle` refuses it
    [("float32", *one) for one in KINDS] + [("int8", *one) for one in KINDS if "relu" not in one[1].values()],
)
def test_every_instruction_set_gives_the_models_logits(limit, kind, options, precision) -> None:
    assert native.decoder(limit).contents.name.decode() == limit
    model = make(kind, num_layers=2, hidden_size=37, sharp=1.0, **options)
    tokens = np.random.default_rng(0).integers(0, 54, (7, 12))
    with torch.no_grad():
        expected = model(torch.from_numpy(tokens[..., None]))[0].numpy()
    got = stepped(Engine(model, precision, limit), model, tokens)
    np.testing.assert_allclose(got, expected, atol=2e-5 if precision == "float32" else 2e-2)
    if precision == "int8":
        assert np.abs(got - expected).max() > 1e-5, "it isn't int8"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
def test_neither_neighbours_nor_threads_nor_the_length_of_a_call_change_a_bit(precision, kind, monkeypatch) -> None:
    encoding = characters()
    model = make(kind, len(encoding.vocabulary), num_layers=2, hidden_size=64)

    def made(count: int) -> list[tuple[list[int], float]]:
        settings = Settings(count=count, max_length=40, precision=precision)
        return [
            (one.ids.tolist(), one.nats_per_token)
            for one in sample(model, Draft(encoding, [5], settings, seed=2, framed=True))
        ]

    whole, threads = made(33), torch.get_num_threads()
    assert made(1) == whole[:1]
    assert made(7) == whole[:7]
    monkeypatch.setattr(sampling, "STEPS", 7)
    monkeypatch.setattr(engines, "WORK", 1)
    try:
        torch.set_num_threads(2)
        assert made(33) == whole
    finally:
        torch.set_num_threads(threads)


logits = arrays(np.float32, 12, elements=st.floats(-30, 30, width=32))


@pytest.mark.slow
@given(
    logits,
    arrays(bool, 12).filter(lambda mask: mask.any()),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([0.0, 0.1, 0.7, 1.0, 5.0]),
    st.integers(0, 15),
    st.sampled_from([0.05, 0.5, 0.9, 1.0]),
)
def test_of_given_logits_the_token_drawn_is_that_of_the_plain_loop(logits, allowed, uniform, temperature, k, p) -> None:
    model = make("rnn", 12, hidden_size=4)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.from_numpy(logits))
    engine, tokens = Engine(model, "float32"), np.zeros((1, 2), np.int64)
    streams = engine.begin(model.initial_state(1))
    engine.advance(streams, tokens, np.full((1, 1), uniform), allowed, temperature=temperature, top_k=k, top_p=p)
    expected = distribution(logits, allowed, Settings(temperature=temperature, top_k=k, top_p=p))
    # a number within rounding of a border may fall to either side of it
    near = {draw(expected, max(0.0, min(uniform + nudge, 1.0))) for nudge in (-1e-12, 0.0, 1e-12)}
    assert tokens[0, 1] in near
    surprise = torch.nn.functional.cross_entropy(torch.from_numpy(logits).double(), torch.tensor(tokens[0, 1]))
    assert streams.nats[0] == pytest.approx(surprise.item(), abs=1e-9)


def trained() -> tuple[SequenceModel, np.ndarray]:
    """A small LSTM that has learned a made-up language, and a text of it."""
    rng = np.random.default_rng(0)
    words = [rng.integers(4, 30, rng.integers(2, 7)).tolist() for _ in range(40)]
    ids = np.array([id for n in rng.zipf(1.5, 6000) % 40 for id in [*words[n], 30]])
    torch.manual_seed(0)
    model = SequenceModel(31, kind="lstm", hidden_size=64, num_layers=2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(80):
        rows = rng.integers(0, 20_000, 16)
        batch = torch.from_numpy(np.stack([ids[row : row + 41] for row in rows]))
        predicted, _ = model(batch[:, :-1, None])
        loss = nn.functional.cross_entropy(predicted.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss.item() < 2.0, f"it hasn't learned: {loss.item()}"
    return model.eval(), ids[20_000:20_400]


def divergence(expected: np.ndarray, got: np.ndarray) -> float:
    """Mean KL(expected ‖ got) of logits [..., V], nats."""
    p, q = (torch.log_softmax(torch.from_numpy(x).double(), -1) for x in (expected, got))
    return (p.exp() * (p - q)).sum(-1).mean().item()


@pytest.mark.slow
def test_int8_is_close_to_float32_on_a_trained_model() -> None:
    model, ids = trained()
    with torch.no_grad():
        expected = model(torch.from_numpy(ids[None, :, None]))[0].numpy()
    exact = divergence(expected, stepped(Engine(model, "float32"), model, ids[None]))
    rounded = divergence(expected, stepped(Engine(model, "int8"), model, ids[None]))
    assert exact < 1e-9
    assert 1e-8 < rounded < 1e-4
    spoilt = Engine(model, "int8")
    spoilt.packed[0].weight.bitwise_and_(~0x0F)  # 4 bits
    assert divergence(expected, stepped(spoilt, model, ids[None])) > 1e-4, "the bound must bite"


def test_int8_is_refused_where_it_cannot_be() -> None:
    encoding = characters()
    model = make("rnn", len(encoding.vocabulary), nonlinearity="relu")
    assert engine_for(model) is not None
    with pytest.raises(UserError, match="relu is unbounded"):
        sample(model, Draft(encoding, [5], Settings(precision="int8"), seed=0, framed=False))


@pytest.mark.slow
def test_other_models_are_left_to_their_own_step() -> None:
    encoding = characters()
    V = len(encoding.vocabulary)
    double = make(V=V).double()
    assert "float32" in obstacle(double)

    around = make(V=V, num_layers=2, residual=True)
    assert "residual connections" in obstacle(around)
    before = make("gru", V, reset_after=False)
    assert "reset_after: false" in obstacle(before)
    twice = make(V=V)
    twice.rows = lambda ids: 2 * SequenceModel.rows(twice, ids)  # nothing but the numbers tells
    assert "results differ" in obstacle(twice)

    more = make(V=V)
    more.recurrent.layers[0].peepholes = nn.Parameter(torch.zeros(3, 20))
    assert "additional parameters" in obstacle(more)

    class Derived(SequenceModel):
        pass

    derived = make(V=V)
    derived.__class__ = Derived
    assert "plain" in obstacle(derived)
    assert "plain" in obstacle(nn.Linear(2, 2))

    for model in (double, around, before, twice, derived):
        draft = Draft(encoding, [5, 6], Settings(count=2, max_length=20), seed=0, framed=True)
        ours, plain = (loop(model, draft) for loop in (sample, sample_plainly))
        assert listed(ours) == listed(plain)
        with pytest.raises(UserError, match="precision int8 can't be used"):
            sample(model, Draft(encoding, [5], Settings(precision="int8"), seed=0, framed=True))


def test_without_a_compiler_the_plain_loop_runs(monkeypatch) -> None:
    encoding = characters()
    model = make(V=len(encoding.vocabulary))
    expected = listed(sample(model, Draft(encoding, [5], Settings(max_length=20), seed=0, framed=True)))
    monkeypatch.setattr(engines, "_builds", lambda: False)
    assert engine_for(model) is None
    assert listed(sample(model, Draft(encoding, [5], Settings(max_length=20), seed=0, framed=True))) == expected


def test_progress_is_told_and_a_sequence_ends_with_its_end() -> None:
    encoding, told = characters(), []
    model = make(V=len(encoding.vocabulary))
    sample(model, Draft(encoding, [5], Settings(count=2, max_length=600), seed=0, framed=False, progress=told.append))
    assert told == [256, 512, 600]
    with torch.no_grad():
        model.head.bias[EOS] = 100.0
    made = sample(model, Draft(encoding, [5], Settings(count=2, max_length=600), seed=0, framed=True))
    assert listed(made) == [([5], True)] * 2


def test_logits_that_are_no_numbers_still_give_allowed_tokens() -> None:
    encoding = characters()
    for value in (float("nan"), float("inf")):
        model = make(V=len(encoding.vocabulary))
        with torch.no_grad():
            model.head.bias.fill_(value)
        engine = Engine(model, "float32")
        tokens, allowed = np.zeros((9, 30), np.int64), encoding.allowed(np.zeros(1, np.int64))
        for options in ({"temperature": 0.0}, {}, {"top_k": 3, "top_p": 0.5}):
            engine.advance(
                engine.begin(model.initial_state(9)),
                tokens,
                np.random.default_rng(0).random((9, 29)),
                allowed,
                **options,
            )
            assert allowed[tokens[:, 1:]].all()


def test_arrays_that_do_not_fit_never_reach_the_native_loop() -> None:
    model = make("gru", 54, (7,))
    engine = Engine(model, "float32")
    right = {
        "tokens": np.zeros((3, 2), np.int64),
        "uniforms": np.zeros((3, 1)),
        "allowed": np.ones(54, bool),
        "context": np.zeros((3, 1), np.int64),
    }
    engine.advance(engine.begin(model.initial_state(3)), *right.values())
    wrong = {
        "tokens": [np.zeros((2, 2), np.int64), np.zeros((3, 2), np.int32), np.full((3, 2), 54), np.full((3, 2), -1)],
        "uniforms": [np.zeros((3, 2)), np.ones((3, 1)), np.full((3, 1), np.nan)],
        "allowed": [np.ones(53, bool), np.ones((2, 54), bool), np.zeros(54, bool), np.zeros((3, 54), bool)],
        "context": [np.full((3, 1), 7), np.full((3, 1), -1), np.zeros((3, 2), np.int64), None],
    }
    refused = 0
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=name):
                engine.advance(engine.begin(model.initial_state(3)), *(right | {name: value}).values())
            refused += 1
    assert refused == 15
    with pytest.raises(ValueError, match="temperature"):
        engine.advance(engine.begin(model.initial_state(3)), *right.values(), temperature=float("nan"))
