"""What each variant is: compared with its equation written out. What all must keep is the contract's business."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_kernels import B, H, loss_of, make, naive
from torch import nn

from components.errors import UserError
from components.layers.bidirectional import Bidirectional, reverse
from components.layers.dropout import LockedDropout, make_dropout
from components.layers.linear_cell import LinearCell, positive
from components.layers.scan import CHUNKS_BELOW, linear_scan
from components.layers.stack import Stack
from components.models.sequence_model import SequenceModel
from components.models.weights import read_tensors
from components.registry import names, resolve
from components.training.session import Session


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def cell(kind: str, size: int, hidden: int, **options):
    torch.manual_seed(1)
    return resolve("cell", kind)(size, hidden_size=hidden, **options).double()


# the linear recurrence


def steps(a, b, h):
    states = []
    for t in range(len(a)):
        h = a[t] * h + b[t]
        states.append(h)
    return torch.stack(states)


@pytest.mark.slow
@given(
    T=st.integers(1, 40), chunk=st.integers(1, 45), seed=st.integers(0, 10**6), edge=st.sampled_from([None, 0.0, 1.0])
)
def test_a_scan_in_chunks_of_any_length_is_the_recurrence_step_by_step(T, chunk, seed, edge) -> None:
    torch.manual_seed(seed)
    a, b, h = (torch.randn(*shape, 2, 3, dtype=torch.float64) for shape in ((T,), (T,), ()))
    a = a.sigmoid()
    if edge is not None:  # a gate shut or open for good: no logarithm of it may be taken
        a[torch.rand(T) < 0.5] = edge
    for value in (a, b, h):
        value.requires_grad_()
    weights = torch.randn(T, 2, 3, dtype=torch.float64)
    results = []
    for run in (lambda: linear_scan(a, b, h, chunk), lambda: steps(a, b, h)):
        y = run()
        results.append([y, *torch.autograd.grad((y * weights).sum(), (a, b, h))])
    for ours, reference in zip(*results, strict=True):
        same(ours, reference)


@pytest.mark.slow
def test_a_long_scan_in_float32_loses_no_digits() -> None:
    torch.manual_seed(0)
    a, b, h = torch.rand(3000, 1, 8) ** 0.01, torch.randn(3000, 1, 8), torch.randn(1, 8)
    wanted = steps(a.double(), b.double(), h.double())
    for chunk in (None, 1, 3000):
        error = (linear_scan(a, b, h, chunk).double() - wanted).abs().max()
        assert error < 1e-5 * wanted.abs().max()


def test_a_scan_leaves_its_inputs_alone() -> None:
    for shape in ((5, 1, 3), (4, 2, CHUNKS_BELOW)):
        a, b, h = torch.rand(shape), torch.rand(shape), torch.rand(shape[1:])
        before = [value.clone() for value in (a, b, h)]
        linear_scan(a, b, h)
        assert all(torch.equal(x, y) for x, y in zip((a, b, h), before, strict=True))


@pytest.mark.parametrize("kind", ["mingru", "minlstm"])
def test_the_minimal_cells_are_the_papers_log_space_form(kind) -> None:
    """Its appendix B computes the same in logarithms (F. Heinsen 2023), for states above 0."""
    layer = cell(kind, 4, 5)
    x, h = torch.randn(2, 9, 4, dtype=torch.float64), torch.rand(2, 5, dtype=torch.float64)
    softplus = nn.functional.softplus
    first, *rest = nn.functional.linear(x, layer.weight_ih, layer.bias_ih).chunk(layer.gates, dim=2)
    candidate = rest[-1]
    if kind == "mingru":
        log_keep, log_take = -softplus(first), -softplus(-first)
    else:
        odds = softplus(-rest[0]) - softplus(-first)
        log_keep, log_take = -softplus(odds), -softplus(-odds)
    log_values = torch.cat([h.log()[:, None], log_take + positive(candidate).log()], dim=1)
    log_kept = nn.functional.pad(log_keep, (0, 0, 1, 0)).cumsum(dim=1)
    wanted = (log_kept + (log_values - log_kept).logcumsumexp(dim=1)).exp()[:, 1:]
    if kind == "minlstm":  # there, odds is f's denominator: f′ = σ(−odds), i′ = σ(odds)
        same(layer.coefficients((first, *rest))[0], torch.sigmoid(-odds))
    same(layer(x, {"h": h})[0], wanted)


@pytest.mark.parametrize("size", [1e3, -1e3])
def test_shut_gates_give_no_nan(size) -> None:
    for kind in ("mingru", "minlstm"):
        layer = cell(kind, 1, 2).float()
        assert isinstance(layer, LinearCell)
        nn.init.ones_(layer.weight_ih)
        y, _ = layer(torch.full((1, 6, 1), size))
        y.sum().backward()
        assert y.isfinite().all()
        assert layer.weight_ih.grad.isfinite().all()


# forms that torch's kernels don't know


@pytest.mark.parametrize(
    ("kind", "case", "options"),
    [("gru", "gru-reset-before", {"reset_after": False}), ("peephole-lstm", "lstm-peepholes", {})],
)
@pytest.mark.parametrize("lengths", [None, [3, 0, 7]])
def test_the_layer_is_its_equation(kind, case, options, lengths) -> None:
    inputs, kernel_options = make(case, 7)
    lengths = None if lengths is None else torch.tensor(lengths)
    layer = cell(kind, 4, H, **options)
    layer.load_state_dict({name: inputs[name].detach() for name in layer.parameters_by_name})
    state = {name: inputs[name] for name in layer.state_names}
    y, after = layer(inputs["x"], state, lengths)
    wanted, wanted_after = naive(case, inputs, kernel_options, lengths)
    same(y, wanted)
    same(loss_of(y, after), loss_of(wanted, wanted_after), 1e-11)


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_a_backend_that_resets_after_the_product_refuses_to_reset_before(backend) -> None:
    with pytest.raises(UserError, match="resets after the product"):
        cell("gru", 4, H, reset_after=False, backend=backend)


def test_peepholes_of_zero_leave_an_lstm() -> None:
    with_peepholes, without = cell("peephole-lstm", 4, 5), cell("lstm", 4, 5, backend="by_hand")
    without.load_state_dict({n: p for n, p in with_peepholes.state_dict().items() if n != "peepholes"})
    x = torch.randn(2, 6, 4, dtype=torch.float64)
    assert not torch.equal(with_peepholes(x)[0], without(x)[0])
    nn.init.zeros_(with_peepholes.peepholes)
    assert torch.equal(with_peepholes(x)[0], without(x)[0])


def test_a_mogrifier_is_its_equation() -> None:
    layer = cell("mogrifier-lstm", 4, 5, rounds=3)
    x, h, c = (torch.randn(2, *shape, dtype=torch.float64) for shape in ((6, 4), (5,), (5,)))
    q1, r2, q3 = layer.mogrifiers
    y, _ = layer(x, {"h": h, "c": c})
    for t in range(6):
        x1 = 2 * torch.sigmoid(h @ q1.t()) * x[:, t]
        h2 = 2 * torch.sigmoid(x1 @ r2.t()) * h
        x3 = 2 * torch.sigmoid(h2 @ q3.t()) * x1
        h, c = torch.lstm_cell(
            x3, (h2, c), layer.weight_ih, layer.weight_hh, layer.bias_ih, torch.zeros_like(layer.bias_ih)
        )
        same(y[:, t], h)


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_an_slstm_is_the_papers_stabilised_equation_head_by_head(size) -> None:
    layer = cell("slstm", 4, 6, heads=2)
    x, h = size * torch.randn(2, 8, 4, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    y, after = layer(x, layer.initial_state(2) | {"h": h})
    c, n, m = (torch.full((2, 6), value, dtype=torch.float64) for value in (0.0, 1.0, 0.0))
    weight = torch.stack([torch.block_diag(*gate.split(3)) for gate in layer.weight_hh.chunk(4)])
    for t in range(8):
        s = (x[:, t] @ layer.weight_ih.t() + layer.bias_ih).unflatten(1, (4, 6))
        s_i, s_f, s_z, s_o = (s + torch.einsum("bh,gkh->bgk", h, weight)).unbind(1)
        log_f = nn.functional.logsigmoid(s_f)
        higher = torch.maximum(log_f + m, s_i)
        i, f, m = (s_i - higher).exp(), (log_f + m - higher).exp(), higher
        c, n = f * c + i * s_z.tanh(), f * n + i
        h = s_o.sigmoid() * c / n
        same(y[:, t], h)
    same(after["log_n"], n.log() + m, 1e-9)


@pytest.mark.parametrize("size", [1.0, 300.0])
def test_an_mlstm_is_the_papers_stabilised_equation_head_by_head(size) -> None:
    layer = cell("mlstm", 4, 6, heads=2)
    x = size * torch.randn(2, 8, 4, dtype=torch.float64)
    y, after = layer(x)
    c, n, m = (torch.zeros(2, 2, *shape, dtype=torch.float64) for shape in ((3, 3), (3,), ()))
    divided_by_one = 0
    for t in range(8):
        q, k, v, o, s = (x[:, t] @ layer.weight_ih.t() + layer.bias_ih).split([6, 6, 6, 6, 4], dim=1)
        q, k, v = (value.view(2, 2, 3) for value in (q, k / 3**0.5, v))
        log_f = nn.functional.logsigmoid(s[:, 2:])
        higher = torch.maximum(log_f + m, s[:, :2])
        i, f, m = (s[:, :2] - higher).exp(), (log_f + m - higher).exp(), higher
        c = f[..., None, None] * c + i[..., None, None] * torch.einsum("bkd,bke->bkde", v, k)
        n = f[..., None] * n + i[..., None] * k
        dot, one = torch.einsum("bkd,bkd->bk", n, q).abs(), (-m).exp()
        divided_by_one += int((dot < one).sum())
        read = torch.einsum("bkde,bke->bkd", c, q) / torch.maximum(dot, one)[..., None]
        torch.testing.assert_close(y[:, t], o.sigmoid() * read.flatten(1), rtol=1e-9, atol=1e-12)
    assert 0 < divided_by_one < 32, "both divisors were needed"
    scale = (m - after["log_s"]).exp()  # the matrix is the paper's, in another scale
    same(after["matrix"].view(2, 2, 3, 3), c * scale[..., None, None], 1e-9 * size**2)


def test_gates_far_from_zero_give_an_mlstm_no_nan() -> None:
    layer = cell("mlstm", 1, 4, heads=2).float()
    with torch.no_grad():
        layer.weight_ih[-4:] *= 1e6
    for size in (1e6, -1e6):
        y, after = layer(torch.full((1, 5, 1), size))
        y.sum().backward()
        assert all(value.isfinite().all() for value in (y, *after.values(), layer.weight_ih.grad))


def test_huge_inputs_give_an_slstm_no_nan() -> None:
    layer = cell("slstm", 1, 3).float()
    for size in (1e30, -1e30):
        y, after = layer(torch.full((1, 5, 1), size))
        y.sum().backward()
        assert all(value.isfinite().all() for value in (y, after["quotient"], layer.weight_hh.grad))


@pytest.mark.parametrize("kind", ["slstm", "mlstm"])
def test_heads_that_do_not_divide_the_units_are_refused_before_training(small_recipe, kind) -> None:
    assert small_recipe(model={"kind": kind, "heads": 4}).model["heads"] == 4
    with pytest.raises(UserError, match=r"model.heads: .* dealt out to 5 heads"):
        small_recipe(model={"kind": kind, "heads": 5})
    with pytest.raises(UserError, match="heads"):
        cell(kind, 4, 6, heads=4)


# two directions


def test_two_directions_are_those_of_torch_nn_from_each_rows_own_end() -> None:
    torch.manual_seed(2)
    theirs = nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True, dtype=torch.float64)
    ours = Stack.of(lambda size: Bidirectional(cell("lstm", size, 5), cell("lstm", size, 5)), 4, 2)
    weights = {
        f"layers.{layer}.directions.{int(bool(suffix))}.{name}": getattr(theirs, f"{name}_l{layer}{suffix}")
        for layer in range(2)
        for suffix in ("", "_reverse")
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    ours.load_state_dict(weights)
    x, lengths = torch.randn(3, 7, 4, dtype=torch.float64), torch.tensor([7, 1, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    y_packed, (h, c) = theirs(packed)
    y, after = ours(x, None, lengths)
    same(y, nn.utils.rnn.pad_packed_sequence(y_packed, batch_first=True)[0])
    for index, name in enumerate(("0.forward", "0.backward", "1.forward", "1.backward")):
        same(after[f"{name}.h"], h[index])
        same(after[f"{name}.c"], c[index])


def test_reversal_turns_each_row_round_at_its_own_end_and_undoes_itself() -> None:
    x, lengths = torch.arange(8).view(2, 4, 1), torch.tensor([3, 0])
    assert reverse(x, lengths)[:, :, 0].tolist() == [[2, 1, 0, 3], [4, 5, 6, 7]]
    assert torch.equal(reverse(reverse(x, lengths), lengths), x)
    assert torch.equal(reverse(x), reverse(x, torch.tensor([4, 4])))


def test_a_bidirectional_model_is_known_from_its_options_and_refuses_to_step() -> None:
    for options in ({"kind": "gru"}, {"kind": "gru", "bidirectional": True}):
        model = SequenceModel(7, (3,), hidden_size=6, num_layers=2, **options)
        assert model.causal == SequenceModel.is_causal(options) == (not options.get("bidirectional", False))
    inputs = torch.zeros(2, 5, 2, dtype=torch.long)
    logits, state = model(inputs, None, torch.tensor([5, 3]))
    assert logits.shape == (2, 5, 7)
    with pytest.raises(UserError, match="can't go step by step"):
        model.step(inputs[:, 0], state)
    with pytest.raises(UserError, match="tie_weights"):
        SequenceModel(7, hidden_size=6, kind="gru", bidirectional=True, tie_weights=True)


# masks


def test_a_locked_mask_is_the_same_at_every_step_and_another_for_every_row_and_window() -> None:
    torch.manual_seed(0)
    dropout, x = LockedDropout(0.4), torch.ones(6, 9, 50)
    y = dropout(x)
    assert torch.equal(y, y[:, :1].expand_as(y))
    assert not torch.equal(y[0], y[1])
    assert not torch.equal(y, dropout(x))
    same(y.unique(), torch.tensor([0.0, 1 / 0.6]), 1e-6)
    assert 0.3 < (y[:, 0] == 0).double().mean() < 0.5
    plain = make_dropout("plain", 0.4)(x)
    assert not torch.equal(plain, plain[:, :1].expand_as(plain))
    assert torch.equal(dropout.eval()(x), x)


CONNECTED = [
    (kind, backend)
    for kind in names("cell")
    for backend in resolve("cell", kind).backends
    if backend != "native" and "recurrent_dropout" in resolve("cell", kind).__init__.__kwdefaults__
]


@pytest.mark.parametrize(("kind", "backend"), CONNECTED)
def test_recurrent_dropout_is_one_mask_on_the_recurrent_weights_for_the_whole_window(kind, backend) -> None:
    assert len(CONNECTED) >= 7
    layer = cell(kind, 4, 5, backend=backend, recurrent_dropout=0.5)
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    torch.manual_seed(7)
    y, _ = layer(x)
    (y * torch.randn_like(y)).sum().backward()
    torch.manual_seed(7)
    dropped = nn.functional.dropout(layer.weight_hh.detach(), 0.5)
    reference = cell(kind, 4, 5, backend=backend)
    reference.load_state_dict(layer.state_dict() | {"weight_hh": dropped})
    same(y, reference(x)[0])
    assert (layer.weight_hh.grad[dropped == 0] == 0).all()
    assert (layer.weight_hh.grad[dropped != 0] != 0).all()
    reference.load_state_dict(layer.state_dict())
    assert torch.equal(layer.eval()(x)[0], reference(x)[0])
    assert not torch.equal(layer.train()(x)[0], layer(x)[0]), "the next window has another mask"


# depth


def test_residual_and_norm_are_in_the_pre_norm_order() -> None:
    stack = Stack.of(lambda size: cell("gru", size, 5), 4, 3, residual=True, layer_norm=True)
    for norm in stack.norms.double():
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    x, lengths = torch.randn(3, 6, 4, dtype=torch.float64), torch.tensor([6, 2, 0])
    first, second, third = stack.layers
    y1 = first(x)[0]
    y2 = y1 + second(stack.norms[0](y1))[0]
    y3 = y2 + third(stack.norms[1](y2))[0]
    same(stack(x)[0], stack.norms[2](y3))
    ragged, _ = stack(x, None, lengths)
    for row, length in enumerate(lengths.tolist()):
        same(ragged[row, :length], stack.norms[2](y3)[row, :length])
        assert (ragged[row, length:] == 0).all(), "a norm's bias must not write into the padding"


def test_a_learned_first_state_starts_at_zero_moves_and_gives_way_to_a_state_that_is_given() -> None:
    stack = Stack.of(lambda size: cell("lstm", size, 5), 4, 2, learn_initial_state=True)
    plain = Stack.of(lambda size: cell("lstm", size, 5), 4, 2)
    x = torch.randn(3, 6, 4, dtype=torch.float64)
    same(stack(x)[0], plain(x)[0])
    given = {name: torch.randn_like(value) for name, value in plain.initial_state(B).items()}
    optimizer = torch.optim.SGD(stack.first_states.parameters(), lr=1.0)
    y, _ = stack(x)
    y.sum().backward()
    optimizer.step()
    assert all((first != 0).all() for first in stack.first_states)
    assert (stack(x)[0] - plain(x)[0]).abs().max() > 1e-3
    same(stack(x, given)[0], plain(x, given)[0])
    same(stack(x)[0], plain(x, stack.initial_state(3))[0])


# all together

ALL = {
    "kind": "lstm", "hidden_size": 16, "num_layers": 3, "residual": True, "layer_norm": True, "dropout": 0.1,
    "dropout_kind": "locked", "recurrent_dropout": 0.1, "learn_initial_state": True, "tie_weights": True,
}  # fmt: skip


class Stop(Exception):
    """An interruption."""


@pytest.mark.slow
def test_training_with_every_variant_resumes_bit_for_bit(small_recipe, small_store, tmp_path, silent) -> None:
    recipe = small_recipe(model=ALL, training={"checkpoint_seconds": 0.0})
    store, listener = small_store(recipe), type(silent)()
    Session(recipe, store, "cpu", 1).train(tmp_path / "whole", silent)

    def progress(at, steps, values):
        if at == 11:
            raise Stop

    listener.progress = progress
    with pytest.raises(Stop):
        Session(recipe, store, "cpu", 1).train(tmp_path / "parts", listener)
    Session(recipe, store, "cpu", 1).train(tmp_path / "parts", silent)
    whole, parts = (read_tensors(tmp_path / name / "checkpoint.safetensors")[0] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert not [name for name in whole if not torch.equal(whole[name], parts[name])]
    assert (whole["model:recurrent.first_states.0"] != 0).any(), "the first state learned something"


@pytest.mark.parametrize("input", ["embedding", "one_hot"])
@pytest.mark.parametrize(
    "options",
    [{"kind": kind} for kind in names("cell")]
    + [{"kind": "gru", "reset_after": False}, {"kind": "lstm", "backend": "by_hand"}],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_in_half_precision_every_cell_trains_and_carries_its_state(options, input) -> None:
    torch.manual_seed(0)
    model = SequenceModel(20, (4,), hidden_size=16, num_layers=2, input=input, **options)
    tokens = torch.randint(0, 4, (3, 9, 2))
    with torch.autocast("cpu", torch.bfloat16):
        _, state = model(tokens)
        logits, _ = model(tokens, state)
    logits.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    whole, _ = model(tokens, model(tokens)[1])
    assert (logits.float() - whole).abs().max() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("kind", names("cell"))
def test_deep_normed_residual_models_learn_a_text_by_heart(small_recipe, small_store, tmp_path, silent, kind) -> None:
    model = {"kind": kind, "hidden_size": 24, "num_layers": 3, "residual": True, "layer_norm": True, "dropout": 0.0}
    training = {"steps": 120 if kind == "mlstm" else 60, "tbptt_length": 20, "learning_rate": 2e-2}
    recipe = small_recipe("stream", model=model, training=training, evaluation={"every": 30})
    session = Session(recipe, small_store(recipe), "cpu", 1)
    session.train(tmp_path / "run", silent)
    assert session.evaluate("test")["nats_per_char"] < 0.25
