"""Variants of whole models: directions, masks, depth, all together. What all must keep is the contract's business."""

from __future__ import annotations

import pytest
import torch
from test_kernels import B
from torch import nn

from components.errors import UserError
from components.layers.bidirectional import Bidirectional, reverse
from components.layers.dropout import LockedDropout, make_dropout
from components.layers.stack import Stack
from components.models.sequence_model import SequenceModel
from components.models.weights import read_tensors
from components.options import options_of
from components.registry import names, resolve
from components.training.session import Session


def same(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def cell(kind: str, size: int, hidden: int, **options):
    torch.manual_seed(1)
    return resolve("cell", kind)(size, hidden_size=hidden, **options).double()


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
    with pytest.raises(UserError, match="can't be run step by step"):
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
    if backend not in ("native", "triton") and "recurrent_dropout" in options_of(resolve("cell", kind))
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
