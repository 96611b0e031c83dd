"""The C++ kernels against the kernels by hand in float64: values and every gradient; determinism; hostile inputs."""

from __future__ import annotations

import pytest
import torch
from instruction_sets import instruction_sets
from torch import Tensor

from components.errors import UserError
from components.generation.native.decode import decoder
from components.kernels import backends
from components.kernels.function import recurrent
from components.kernels.native import build, kernels

pytest_plugins = ["native_fixtures"]
pytestmark = pytest.mark.usefixtures("compiler")

CASES = {
    "rnn-tanh": ("rnn", {"nonlinearity": "tanh"}),
    "rnn-relu": ("rnn", {"nonlinearity": "relu"}),
    "gru": ("gru", {}),
    "lstm": ("lstm", {}),
}
# (B, T, I, H): register-sized and odd, one unit, more rows than a tile, units beyond one panel
SHAPES = [(2, 5, 3, 1), (5, 7, 9, 13), (7, 4, 6, 16), (13, 9, 33, 70), (3, 300, 4, 20)]
every_case = pytest.mark.parametrize("case", CASES)


def make(case: str, shape: tuple[int, int, int, int], *, seed: int = 0) -> dict[str, Tensor]:
    """Every input of a layer in float32, with gradients on, by name."""
    kind, (B, T, input_size, H) = CASES[case][0], shape
    G = backends.KERNELS[kind].GATES * H
    generator = torch.Generator().manual_seed(seed)
    sizes = {"x": (B, T, input_size), "weight_ih": (G, input_size), "weight_hh": (G, H)}
    sizes |= dict.fromkeys(("bias_ih", "bias_hh"), (G,)) | dict.fromkeys(backends.KERNELS[kind].STATE, (B, H))
    return {
        name: (torch.randn(size, generator=generator) / (H**0.5 if name.startswith("weight") else 1)).requires_grad_()
        for name, size in sizes.items()
    }


def run(
    case: str, inputs: dict[str, Tensor], lengths: Tensor | None, backend: str, record: Tensor | None = None
) -> dict:
    """Outputs, final state and every gradient, by name."""
    kind, options = CASES[case]
    y, final = recurrent(kind, inputs["x"], inputs, inputs, lengths, backend=backend, record=record, **options)
    results = {"y": y} | {f"final {name}": value for name, value in final.items()}
    weights = [
        torch.cos(n + torch.arange(value.numel(), dtype=torch.float64)).view(value.shape).to(value.dtype)
        for n, value in enumerate(results.values())
    ]
    loss = sum((value * weight).sum() for value, weight in zip(results.values(), weights, strict=True))
    named = {name: value for name, value in inputs.items() if value.requires_grad}
    grads = torch.autograd.grad(loss, list(named.values()))
    return results | {f"grad {name}": grad for name, grad in zip(named, grads, strict=True)}


def to_double(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value.detach().double().requires_grad_() if value.is_floating_point() else value
        for name, value in inputs.items()
    }


def assert_close(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Within 1e-5 of the exact values, relative to the largest of their name; none is all zeros."""
    assert got.keys() == wanted.keys()
    for name, exact in wanted.items():
        scale = exact.abs().max().item()
        assert scale > 0, f"{name} is all zeros: nothing was compared"
        error = (got[name].double() - exact).abs().max().item() / max(scale, 1e-3)
        assert error < 1e-5, f"{name}: {error:.1e}"


def assert_same_bits(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name, value in wanted.items():
        assert torch.equal(got[name], value), name


@pytest.mark.slow
@every_case
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_every_gradient_are_those_of_the_kernels_by_hand(case, shape, instruction_set):
    inputs = make(case, shape, seed=5)  # a seed whose single relu unit is alive
    B, T, input_size, _ = shape
    generator = torch.Generator().manual_seed(1)
    ragged = torch.randint(0, T + 1, (B,), generator=generator)
    ragged[0] = T
    ids = {
        "float": inputs["x"],
        "ids": torch.randint(0, input_size, (B, T), generator=generator),
        "two streams": torch.randint(0, input_size, (B, T, 2), generator=generator),
    }
    for x in ids.values():
        for lengths in (None, ragged):
            given = inputs | {"x": x}
            assert_close(run(case, given, lengths, "native"), run(case, to_double(given), lengths, "by_hand"))


@pytest.mark.slow
@every_case
def test_over_long_sequences_gradients_err_no_more_than_those_of_torch_operations(case, instruction_set):
    """Buries a tanh that saturated at 1 − 2e-7: an error of one sign, which 300 steps added up to 15 times torch's."""
    inputs = make(case, (3, 300, 4, 20))
    exact = run(case, to_double(inputs), None, "by_hand")
    ours, torchs = run(case, inputs, None, "native"), run(case, inputs, None, "by_hand")
    for name, value in exact.items():
        error, allowed = ((side[name].double() - value).abs().max() / value.abs().max() for side in (ours, torchs))
        assert error < 3 * allowed + 3e-7, f"{name}: {error:.1e} against {allowed:.1e}"


@pytest.mark.slow
@every_case
def test_every_run_gives_the_same_bits_whatever_the_number_of_threads(case, set_threads):
    for streams in (0, 1):
        inputs = make(case, (11, 40, 50, 130))
        if streams:
            inputs["x"] = torch.randint(0, 50, (11, 40))
        set_threads(1)
        wanted = run(case, inputs, None, "native")
        for threads in (1, 2, 2, 2, 3, 7):
            set_threads(threads)
            moved = torch.empty(threads * 1000 + 1)  # what the allocator hands out next lies elsewhere
            assert_same_bits(run(case, inputs, None, "native"), wanted)
            del moved


@every_case
def test_a_rows_result_does_not_depend_on_its_neighbours(case):
    inputs = make(case, (9, 6, 5, 33))
    whole = run(case, inputs, None, "native")["y"]
    for b in (0, 4, 8):
        alone = {name: value[b : b + 1] if name in ("x", "h", "c") else value for name, value in inputs.items()}
        kind, options = CASES[case]
        y, _ = recurrent(kind, alone["x"], alone, alone, None, backend="native", **options)
        assert torch.equal(y[0], whole[b])


@every_case
def test_what_lies_after_a_rows_end_never_leaks_not_even_nan(case):
    clean = make(case, (3, 7, 4, 21))
    lengths = torch.tensor([3, 0, 7])
    after_end = torch.arange(7)[None, :] >= lengths[:, None]
    poisoned = clean | {"x": clean["x"].detach().masked_fill(after_end[:, :, None], torch.nan).requires_grad_()}
    assert_same_bits(run(case, poisoned, lengths, "native"), run(case, clean, lengths, "native"))
    y, _ = recurrent(CASES[case][0], clean["x"], clean, clean, lengths, backend="native", **CASES[case][1])
    grad_y = torch.ones_like(y).masked_fill(after_end[:, :, None], torch.nan)
    for grad in torch.autograd.grad(y, list(clean.values()), grad_y):
        assert grad.isfinite().all()


@every_case
def test_nan_inside_a_row_is_not_hidden_and_stays_in_its_row(case):
    inputs = make(case, (3, 7, 4, 21))
    x = inputs["x"].detach().clone()
    x[1, 2, 0] = torch.nan
    y, _ = recurrent(CASES[case][0], x, inputs, inputs, None, backend="native", **CASES[case][1])
    if case != "rnn-relu":  # torch.relu(NaN) is NaN and so is ours; where it lands depends on the sign of the others
        assert y[1, 2:].isnan().all()
    assert y[1, 2:].isnan().any()
    assert y[1, :2].isfinite().all()
    assert y[[0, 2]].isfinite().all()


@every_case
@pytest.mark.parametrize("lengths", [None, [3, 0, 7]], ids=["whole", "ragged"])
def test_recorded_norms_are_those_of_the_kernels_by_hand(case, lengths):
    inputs = make(case, (3, 7, 4, 21))
    lengths = None if lengths is None else torch.tensor(lengths)
    got, wanted = torch.full((7, 3), torch.nan), torch.full((7, 3), torch.nan, dtype=torch.float64)
    run(case, inputs, lengths, "native", record=got)
    run(case, to_double(inputs), lengths, "by_hand", record=wanted)
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-6)


@every_case
def test_a_cut_with_the_state_carried_changes_no_bit(case):
    inputs = make(case, (3, 9, 4, 21))
    kind, options = CASES[case]
    whole, final_whole = recurrent(kind, inputs["x"], inputs, inputs, None, backend="native", **options)
    for cut in (0, 1, 5, 9):
        first, state = recurrent(kind, inputs["x"][:, :cut], inputs, inputs, None, backend="native", **options)
        second, final = recurrent(kind, inputs["x"][:, cut:], state, inputs, None, backend="native", **options)
        assert torch.equal(torch.cat([first, second], dim=1), whole)
        assert_same_bits(final, final_whole)


def test_tanh_and_sigmoid_are_within_a_millionth_everywhere(instruction_set):
    """Through cells whose weights are 0: an RNN's step is tanh; an LSTM's cell f ⊙ 1 + i ⊙ tanh(0) is σ."""
    edges = [0.0, -0.0, 1e-8, -1e-8, 1e-40, 1e30, -1e30, torch.inf, -torch.inf]
    points = torch.cat([torch.linspace(-30, 30, 20000 - len(edges)), torch.tensor(edges)]).view(500, 1, 40)
    y, _, _ = kernels.forward(("rnn", "tanh"), points, {"h": torch.zeros(500, 40)}, torch.zeros(40, 40), None)
    assert (y.double() - torch.tanh(points.double())).abs().max() < 1e-6
    gates = torch.zeros(500, 1, 160)  # i f g o of 40 units
    gates[:, :, 40:80] = points
    state = {"h": torch.zeros(500, 40), "c": torch.ones(500, 40)}
    _, final, _ = kernels.forward(("lstm", "tanh"), gates, state, torch.zeros(160, 40), None)
    assert (final["c"].double() - torch.sigmoid(points[:, 0].double())).abs().max() < 1e-6


def test_every_nan_stays_nan_in_every_gate(instruction_set):
    """A NaN carries payload bits; σ takes its argument's bits apart, and must not make a number of them."""
    nans = torch.tensor([0x7FC00000, 0x7FC00001, 0x7FFFFFFF, 0x7F800001, -0x3FFFFF, -1], dtype=torch.int32)
    n = len(nans)
    for gate in range(4):
        gates = torch.zeros(1, 1, 4 * n)
        gates[0, 0, gate * n : (gate + 1) * n] = nans.view(torch.float32)
        state = {"h": torch.zeros(1, n), "c": torch.ones(1, n)}
        y, _, _ = kernels.forward(("lstm", "tanh"), gates, state, torch.zeros(4 * n, n), None)
        assert y.isnan().all(), "ifgo"[gate]


@pytest.mark.parametrize("bad", [-1, 9, 2**40])
def test_an_id_outside_the_table_is_an_error_not_a_read_of_foreign_memory(bad):
    inputs = make("lstm", (2, 4, 9, 8))
    ids = torch.zeros(2, 4, dtype=torch.int64)
    ids[1, 2] = bad
    with pytest.raises(IndexError, match=r"outside \[0, 9\)"):
        recurrent("lstm", ids, inputs, inputs, backend="native")


def test_shapes_that_do_not_fit_are_errors_not_reads_of_foreign_memory():
    inputs = make("gru", (2, 5, 4, 8))
    x = inputs["x"].detach()
    for name, wrong in {
        "weight_ih": torch.zeros(24, 5),
        "weight_hh": torch.zeros(23, 8),
        "bias_hh": torch.zeros(8),
        "h": torch.zeros(3, 8),
    }.items():
        with pytest.raises((ValueError, RuntimeError)):
            recurrent("gru", x, inputs | {name: wrong}, inputs | {name: wrong}, backend="native")
    with pytest.raises((ValueError, RuntimeError)):
        recurrent("gru", x, inputs, inputs, torch.tensor([1, 2, 3]), backend="native")
    with pytest.raises(ValueError, match="can't multiply"):
        recurrent("gru", x.double(), inputs, inputs, backend="native")
    with pytest.raises(ValueError, match="bias"):
        kernels.project(x, torch.zeros(24, 4), torch.zeros(23))


def test_native_where_it_does_not_apply_says_why():
    inputs = make("gru", (2, 5, 4, 8))
    with pytest.raises(UserError, match="reset_after: false isn't supported"):
        recurrent("gru", inputs["x"], inputs, inputs, backend="native", reset_after=False)
    double = to_double(inputs)
    with pytest.raises(UserError, match="float64"):
        recurrent("gru", double["x"], double, double, backend="native")
    lstm = make("lstm", (2, 5, 4, 8))
    with pytest.raises(UserError, match="peepholes"):
        recurrent("lstm", lstm["x"], lstm, lstm | {"peepholes": torch.zeros(3, 8)}, backend="native")


def test_auto_is_native_where_it_applies_and_by_hand_elsewhere():
    inputs = make("gru", (2, 5, 4, 8))
    choices = {
        "native": (inputs["x"], inputs, {}),
        "by_hand": (inputs["x"][:, :1], inputs, {}),
    }
    for name, (x, parameters, options) in choices.items():
        assert backends.choose("auto", "gru", x, parameters, options).name == name
    assert backends.choose("auto", "gru", inputs["x"], inputs, {"reset_after": False}).name == "by_hand"
    assert backends.choose("auto", "gru", inputs["x"], to_double(inputs), {}).name == "by_hand"


def test_every_instruction_set_of_the_kernels_is_run() -> None:
    if missing := [name for name in build.INSTRUCTION_SETS if name not in instruction_sets()]:
        pytest.skip(f"needs a processor with {' and '.join(missing)}: the kernels for it were compiled, not run")


def test_the_environment_bounds_the_instruction_set(monkeypatch) -> None:
    for name in instruction_sets():
        monkeypatch.setenv(build.LIMIT, name)
        assert build.build().instruction_set == name
        assert decoder().contents.name.decode() in (name, "avx2"), "the decoder's avx512 needs more of it"
    monkeypatch.setenv(build.LIMIT, "avx3")
    with pytest.raises(UserError, match="unknown instruction set 'avx3'"):
        build.build()
    monkeypatch.delenv(build.LIMIT)
    build.build()
