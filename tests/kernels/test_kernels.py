"""The kernels by hand, proven: finite differences, autograd over a naive loop, torch.nn, and what must hold."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from components.errors import UserError
from components.kernels import gru, lstm, rnn
from components.kernels.backends import KERNELS
from components.kernels.function import recurrent
from components.kernels.sequence import project

CASES = {
    "rnn-tanh": ("rnn", {"nonlinearity": "tanh"}),
    "rnn-relu": ("rnn", {"nonlinearity": "relu"}),
    "gru-reset-after": ("gru", {"reset_after": True}),
    "gru-reset-before": ("gru", {"reset_after": False}),
    "lstm": ("lstm", {}),
    "lstm-peepholes": ("lstm", {"peepholes": True}),
}
LENGTHS = {1: [1, 0, 1], 2: [2, 0, 1], 7: [3, 0, 7]}
B, H = 3, 5
INPUT_SIZE = 4

every_case = pytest.mark.parametrize("case", CASES)
every_length = pytest.mark.parametrize("T", [1, 2, 7])
ragged_or_not = pytest.mark.parametrize("ragged", [False, True], ids=["whole", "ragged"])


def make(case: str, T: int, *, seed: int = 0, bias: bool = True) -> tuple[dict[str, Tensor], dict[str, bool | str]]:
    """Every input of a layer in float64, with gradients on, by name: x, weight_ih, …, h, c; and the kind's options."""
    kind, options = CASES[case]
    generator = torch.Generator().manual_seed(seed)
    G = KERNELS[kind].GATES * H
    shapes = {"x": (B, T, INPUT_SIZE), "weight_ih": (G, INPUT_SIZE), "weight_hh": (G, H)}
    if bias:
        shapes |= {"bias_ih": (G,), "bias_hh": (G,)}
    if options.get("peepholes"):
        shapes |= {"peepholes": (3, H)}
    shapes |= dict.fromkeys(KERNELS[kind].STATE, (B, H))
    draw = {name: torch.randn(shape, generator=generator, dtype=torch.float64) * 0.6 for name, shape in shapes.items()}
    return {name: t.requires_grad_() for name, t in draw.items()}, {
        name: value for name, value in options.items() if name != "peepholes"
    }


def run(case: str, inputs: dict[str, Tensor], options: dict, lengths: Tensor | None = None, **more: Tensor) -> tuple:
    """(y, final state) of the kernels by hand."""
    kind = CASES[case][0]
    return recurrent(kind, inputs["x"], inputs, inputs, lengths, **options, **more)


def naive(case: str, inputs: dict[str, Tensor], options: dict, lengths: Tensor | None = None) -> tuple:
    """The cells' equations row by row and step by step, for autograd to differentiate."""
    kind, w = CASES[case][0], inputs
    zero = torch.zeros((), dtype=torch.float64)
    b_ih, b_hh = w.get("bias_ih", zero), w.get("bias_hh", zero)
    T = inputs["x"].shape[1]
    rows, finals = [], []
    for b in range(B):
        h, c = w["h"][b], w["c"][b] if "c" in w else None
        row = []
        for t in range(T):
            if lengths is not None and t >= lengths[b]:
                row.append(torch.zeros(H, dtype=torch.float64))
                continue
            a, m = w["weight_ih"] @ inputs["x"][b, t] + b_ih, w["weight_hh"] @ h + b_hh
            if kind == "rnn":
                h = torch.tanh(a + m) if options["nonlinearity"] == "tanh" else torch.relu(a + m)
            elif kind == "gru":
                a_r, a_z, a_n = a.chunk(3)
                m_r, m_z, m_n = m.chunk(3)
                r, z = torch.sigmoid(a_r + m_r), torch.sigmoid(a_z + m_z)
                if not options["reset_after"]:
                    bias_n = b_hh[2 * H :] if b_hh.dim() else zero
                    candidate = torch.tanh(a_n + w["weight_hh"][2 * H :] @ (r * h) + bias_n)
                else:
                    candidate = torch.tanh(a_n + r * m_n)
                h = (1 - z) * candidate + z * h
            else:
                p_i, p_f, p_o = w.get("peepholes", (zero, zero, zero))
                s_i, s_f, s_g, s_o = (a + m).chunk(4)
                i, f = torch.sigmoid(s_i + p_i * c), torch.sigmoid(s_f + p_f * c)
                c = f * c + i * torch.tanh(s_g)
                h = torch.sigmoid(s_o + p_o * c) * torch.tanh(c)
            row.append(h)
        rows.append(torch.stack(row))
        finals.append((h, c))
    final = {"h": torch.stack([h for h, _ in finals])}
    if kind == "lstm":
        final["c"] = torch.stack([c for _, c in finals])
    return torch.stack(rows), final


def loss_of(y: Tensor, final: dict[str, Tensor]) -> Tensor:
    """A scalar that weighs every output and every final state differently, so that no gradient can hide."""
    total = torch.zeros((), dtype=y.dtype)
    for n, value in enumerate([y, *final.values()], start=1):
        total = total + (value * torch.cos(n + torch.arange(value.numel(), dtype=y.dtype)).view(value.shape)).sum()
    return total


def gradients(loss: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {name: value for name, value in inputs.items() if value.requires_grad}
    return dict(zip(named, torch.autograd.grad(loss, list(named.values()), materialize_grads=True), strict=True))


def assert_same(got: dict[str, Tensor], wanted: dict[str, Tensor], *, atol: float = 1e-12) -> None:
    """Equal by name; and every one non-zero somewhere, since two zeros agree about nothing."""
    assert got.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(got[name], wanted[name], rtol=1e-9, atol=atol, msg=lambda m, n=name: f"{n}: {m}")
        assert wanted[name].abs().max() > 0, f"{name} is all zeros: nothing was compared"


def ragged_lengths(T: int, ragged: bool) -> Tensor | None:
    return torch.tensor(LENGTHS[T]) if ragged else None


@every_case
@every_length
@ragged_or_not
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_values_and_every_gradient_are_those_of_autograd_over_a_naive_loop(case, T, ragged, bias):
    inputs, options = make(case, T, bias=bias)
    lengths = ragged_lengths(T, ragged)
    y, final = run(case, inputs, options, lengths)
    y_naive, final_naive = naive(case, inputs, options, lengths)
    torch.testing.assert_close(y, y_naive, rtol=0, atol=1e-13)
    assert_same(final, final_naive)
    assert_same(gradients(loss_of(y, final), inputs), gradients(loss_of(y_naive, final_naive), inputs))


@pytest.mark.slow
@every_case
@ragged_or_not
def test_every_gradient_is_the_central_difference(case, ragged):
    inputs, options = make(case, 7, seed=1)
    lengths = ragged_lengths(7, ragged)
    by_hand = gradients(loss_of(*run(case, inputs, options, lengths)), inputs)
    assert by_hand.keys() == inputs.keys()
    generator, step = torch.Generator().manual_seed(2), 1e-6
    for name, value in inputs.items():
        for flat in torch.randperm(value.numel(), generator=generator)[:12].tolist():
            sides = []
            for sign in (+1, -1):
                moved = value.detach().clone()
                moved.view(-1)[flat] += sign * step
                sides.append(loss_of(*run(case, {**inputs, name: moved}, options, lengths)).item())
            numeric = (sides[0] - sides[1]) / (2 * step)
            assert by_hand[name].flatten()[flat].item() == pytest.approx(numeric, rel=1e-6, abs=1e-7), (name, flat)


@pytest.mark.slow
@every_case
@pytest.mark.parametrize("T", [1, 2])
@ragged_or_not
def test_autograd_gradcheck_passes_on_outputs_and_final_states(case, T, ragged):
    inputs, options = make(case, T, seed=3)
    names = list(inputs)

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        y, final = run(case, dict(zip(names, values, strict=True)), options, ragged_lengths(T, ragged))
        return y, *final.values()

    assert torch.autograd.gradcheck(outputs, tuple(inputs.values()))


@pytest.mark.parametrize("case", ["rnn-tanh", "rnn-relu", "gru-reset-after", "lstm"])
@every_length
def test_values_and_every_gradient_are_those_of_torch_nn(case, T):
    inputs, options = make(case, T, seed=4)
    kind = CASES[case][0]
    build = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[kind]
    theirs = build(INPUT_SIZE, H, batch_first=True, dtype=torch.float64, **(options if kind == "rnn" else {}))
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(theirs, f"{name}_l0").copy_(inputs[name])
    leaves = {name: inputs[name] for name in ("x", *KERNELS[kind].STATE)}
    state = tuple(inputs[name][None] for name in KERNELS[kind].STATE)
    y_theirs, final = theirs(inputs["x"], state if kind == "lstm" else state[0])
    final_theirs = dict(zip(KERNELS[kind].STATE, final if kind == "lstm" else (final,), strict=True))
    final_theirs = {name: value[0] for name, value in final_theirs.items()}
    weights_theirs = {name.removesuffix("_l0"): value for name, value in theirs.named_parameters()}

    y, final = run(case, inputs, options)
    torch.testing.assert_close(y, y_theirs, rtol=0, atol=1e-12)
    assert_same(final, final_theirs)
    assert_same(
        gradients(loss_of(y, final), inputs), gradients(loss_of(y_theirs, final_theirs), leaves | weights_theirs)
    )


@every_case
def test_what_lies_after_a_rows_end_never_leaks_not_even_nan(case):
    lengths = torch.tensor(LENGTHS[7])
    clean, options = make(case, 7, seed=5)
    after_end = torch.arange(7)[None, :] >= lengths[:, None]
    poisoned = dict(clean, x=clean["x"].detach().masked_fill(after_end[:, :, None], torch.nan).requires_grad_())

    y, final = run(case, poisoned, options, lengths)
    y_clean, final_clean = run(case, clean, options, lengths)
    assert torch.equal(y, y_clean)
    assert (y[after_end] == 0).all()
    got, wanted = gradients(loss_of(y, final), poisoned), gradients(loss_of(y_clean, final_clean), clean)
    for name in wanted:
        assert torch.equal(got[name], wanted[name]), name
    assert (got["x"][after_end] == 0).all()


@every_case
def test_nan_in_the_gradient_of_outputs_after_the_end_never_leaks(case):
    inputs, options = make(case, 7, seed=6)
    lengths = torch.tensor(LENGTHS[7])
    after_end = torch.arange(7)[None, :] >= lengths[:, None]
    y, _ = run(case, inputs, options, lengths)
    grad_y = torch.ones_like(y).masked_fill(after_end[:, :, None], torch.nan)
    for name, grad in zip(inputs, torch.autograd.grad(y, list(inputs.values()), grad_y), strict=True):
        assert grad.isfinite().all(), name


@every_case
def test_an_ended_rows_state_is_carried_bit_for_bit_and_so_is_its_gradient(case):
    inputs, options = make(case, 7, seed=7)
    _, final = run(case, inputs, options, torch.tensor([0, 0, 7]))
    for name in final:
        assert torch.equal(final[name][:2], inputs[name][:2])
        (grad,) = torch.autograd.grad(final[name].sum(), inputs[name], retain_graph=True)
        assert torch.equal(grad[:2], torch.ones_like(grad[:2]))


@pytest.mark.slow
@every_case
@settings(max_examples=15, deadline=None)
@given(cut=st.integers(0, 7), lengths=st.lists(st.integers(0, 7), min_size=B, max_size=B), seed=st.integers(0, 99))
def test_a_cut_anywhere_with_the_state_carried_changes_nothing(case, cut, lengths, seed):
    inputs, options = make(case, 7, seed=seed)
    lengths_B = torch.tensor(lengths)
    whole, final_whole = run(case, inputs, options, lengths_B)
    first, state = run(case, dict(inputs, x=inputs["x"][:, :cut]), options, lengths_B.clamp(max=cut))
    second_inputs = dict(inputs, x=inputs["x"][:, cut:], **state)
    second, final = run(case, second_inputs, options, (lengths_B - cut).clamp(min=0))
    joined = torch.cat([first, second], dim=1)
    torch.testing.assert_close(joined, whole, rtol=0, atol=1e-13)
    for name in final:
        torch.testing.assert_close(final[name], final_whole[name], rtol=0, atol=1e-13)
    got = gradients(loss_of(joined, final), inputs)
    for name, wanted in gradients(loss_of(whole, final_whole), inputs).items():
        torch.testing.assert_close(got[name], wanted, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@every_case
@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_ids_are_the_one_hot_vectors_they_stand_for(case, streams, bias):
    inputs, options = make(case, 7, seed=8, bias=bias)
    ids = torch.randint(0, INPUT_SIZE // streams, (B, 7, streams), generator=torch.Generator().manual_seed(9))
    ids += torch.arange(streams) * (INPUT_SIZE // streams)  # each stream has its own columns of weight_ih
    one_hot = nn.functional.one_hot(ids, INPUT_SIZE).sum(2).to(torch.float64)
    del inputs["x"]
    for lengths in (None, torch.tensor(LENGTHS[7])):
        dense = run(case, inputs | {"x": one_hot}, options, lengths)
        gathered = run(case, inputs | {"x": ids[:, :, 0] if streams == 1 else ids}, options, lengths)
        torch.testing.assert_close(gathered[0], dense[0], rtol=0, atol=1e-13)
        assert_same(gradients(loss_of(*gathered), inputs), gradients(loss_of(*dense), inputs))


@pytest.mark.parametrize("streams", [1, 2])
def test_ids_after_a_rows_end_are_never_looked_up(streams):
    inputs, options = make("gru-reset-after", 7, seed=8)
    lengths = torch.tensor(LENGTHS[7])
    ids = torch.randint(0, INPUT_SIZE, (B, 7, streams), generator=torch.Generator().manual_seed(9))
    after_end = torch.arange(7)[None, :] >= lengths[:, None]
    foreign = ids.masked_fill(after_end[:, :, None], 10**9)
    ids, foreign = (ids[:, :, 0], foreign[:, :, 0]) if streams == 1 else (ids, foreign)
    y, final = run("gru-reset-after", inputs | {"x": foreign}, options, lengths)
    y_clean, final_clean = run("gru-reset-after", inputs | {"x": ids}, options, lengths)
    assert torch.equal(y, y_clean)
    assert torch.equal(final["h"], final_clean["h"])


@every_case
@ragged_or_not
def test_recorded_norms_are_those_of_the_gradient_of_each_state(case, ragged):
    inputs, options = make(case, 7, seed=10)
    lengths = ragged_lengths(7, ragged)
    record = torch.full((7, B), torch.nan, dtype=torch.float64)
    y, final = run(case, inputs, options, lengths, record=record)
    loss_of(y, final).backward()
    for t in range(7):  # cut after step t+1: the second half's initial state is h⟨t+1⟩, and its output y is the same h
        left = None if lengths is None else (lengths - t - 1).clamp(min=0)
        ended = torch.zeros(B, dtype=torch.bool) if lengths is None else lengths <= t
        so_far = None if lengths is None else lengths.clamp(max=t + 1)
        _, state = run(case, dict(inputs, x=inputs["x"][:, : t + 1]), options, so_far)
        h = state["h"].detach().requires_grad_()
        rest = inputs | {name: value.detach() for name, value in state.items()} | {"h": h, "x": inputs["x"][:, t + 1 :]}
        y_rest, final_rest = run(case, rest, options, left)
        # h⟨t+1⟩ takes the place of the output at its own step; the outputs before it don't depend on it
        whole = torch.cat([y[:, :t].detach(), torch.where(ended[:, None], 0.0, h)[:, None], y_rest], dim=1)
        (grad,) = torch.autograd.grad(loss_of(whole, final_rest), h)
        torch.testing.assert_close(record[t], grad.norm(dim=1).masked_fill(ended, 0), rtol=1e-9, atol=1e-12)


@every_case
def test_the_backward_pass_works_where_gradients_are_off(case):
    """Nothing by hand may lean on autograd: the pure functions run on parameters that require gradients."""
    kind, _ = CASES[case]
    inputs, options = make(case, 2, seed=11)
    kernel = {"rnn": rnn, "gru": gru, "lstm": lstm}[kind]
    if "peepholes" in inputs:
        options["peepholes"] = inputs["peepholes"]
    state = {name: inputs[name] for name in kernel.STATE}
    gates_x = project(inputs["x"], inputs["weight_ih"], inputs["bias_ih"])
    y, final, saved = kernel.forward(gates_x, state, inputs["weight_hh"], inputs["bias_hh"], None, **options)
    grads = kernel.backward(saved, torch.ones_like(y), {name: torch.zeros_like(final[name]) for name in final})
    assert not any(t.requires_grad for t in (y, *final.values(), *grads.state.values(), grads.weight_hh, grads.gates_x))
    wanted = torch.autograd.grad(naive(case, inputs, options)[0].sum(), inputs["weight_hh"])[0]
    torch.testing.assert_close(grads.weight_hh, wanted)


def test_changing_an_output_in_place_is_an_error_not_a_wrong_gradient():
    inputs, options = make("lstm", 2)
    y, _ = run("lstm", inputs, options)
    y.detach().zero_()
    with pytest.raises(RuntimeError, match="modified inplace"):
        y.sum().backward()


def test_an_unknown_name_is_refused_with_the_nearest_one():
    inputs, _ = make("rnn-tanh", 2)
    with pytest.raises(UserError, match="Did you mean 'lstm'"):
        recurrent("lsmt", inputs["x"], inputs, inputs)
    with pytest.raises(UserError, match="Did you mean 'relu'"):
        run("rnn-tanh", inputs, {"nonlinearity": "rellu"})


@every_case
def test_an_empty_sequence_gives_back_its_initial_state(case):
    inputs, options = make(case, 0)
    y, final = run(case, inputs, options)
    assert y.shape == (B, 0, H)
    for name in final:
        assert torch.equal(final[name], inputs[name])
    assert torch.equal(gradients(final["h"].sum(), inputs)["h"], torch.ones(B, H, dtype=torch.float64))
