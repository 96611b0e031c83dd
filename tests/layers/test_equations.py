"""What each cell and the linear recurrence is: compared with its equation written out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_kernels import H, loss_of, make, naive
from test_variants import cell, same
from torch import nn

from components.errors import UserError
from components.layers.linear_cell import LinearCell, positive
from components.layers.scan import CHUNKS_BELOW, linear_scan

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
    with pytest.raises(UserError, match="doesn't support reset_after: false"):
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
    with pytest.raises(UserError, match=r"model.heads: .* divisible by 5 heads"):
        small_recipe(model={"kind": kind, "heads": 5})
    with pytest.raises(UserError, match="heads"):
        cell(kind, 4, 6, heads=4)
