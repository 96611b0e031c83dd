"""What must hold of every recurrent layer: the registry supplies the cells, this file the properties."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from components.errors import UserError
from components.layers.base import Recurrent, State
from components.layers.bidirectional import Bidirectional
from components.layers.stack import Stack
from components.models import graph_layers
from components.models.graph import Graph, GraphCell
from components.models.graph_symbols import Input
from components.registry import names, resolve

pytest_plugins = ["native_fixtures"]

I, H, B, T = 5, 6, 4, 7


def backends(kind: str) -> tuple[str, ...]:
    return resolve("cell", kind).backends


def _members() -> dict[str, Callable[[], Recurrent]]:
    members = {}
    for kind in names("cell"):
        cell = resolve("cell", kind)

        def make(size: int, cell=cell, **options) -> Recurrent:
            return cell(size, hidden_size=H, **options)

        members[kind] = lambda make=make: make(I)
        for backend in ("torch", "by_hand"):  # native knows float32 only: it has a test of its own
            if backend in cell.backends:
                members[f"{kind}-{backend}"] = lambda make=make, backend=backend: make(I, backend=backend)
        members[f"{kind}-deep"] = lambda make=make: Stack.of(make, I, 3)
        members[f"{kind}-residual-norm-learned"] = lambda make=make: Stack.of(
            make, I, 2, residual=True, layer_norm=True, learn_initial_state=True
        )
        members[f"{kind}-bidirectional"] = lambda make=make: Bidirectional(make(I), make(I))
    lstm, gru = resolve("cell", "lstm"), resolve("cell", "gru")
    members["rnn-relu"] = lambda: resolve("cell", "rnn")(I, hidden_size=H, nonlinearity="relu")
    members["gru-reset-before"] = lambda: gru(I, hidden_size=H, reset_after=False)
    members["bidirectional-deep"] = lambda: Stack.of(
        lambda size: Bidirectional(lstm(size, hidden_size=H), gru(size, hidden_size=H)), I, 2, residual=True
    )
    members["graph-shared-twice"] = _shared_twice
    members["graph-skip"] = _skip
    assert len(members) >= 30
    return members


def _shared_twice() -> Recurrent:
    x, layer = Input("x", I), graph_layers.Recurrent("gru", hidden_size=I)
    first = layer(x)
    return GraphCell(Graph([x], {"y": graph_layers.Add()(first, layer(first), x)}))


def _skip() -> Recurrent:
    x = Input("x", I)
    h = graph_layers.Recurrent("lstm", hidden_size=H)(x)
    y = graph_layers.Linear(H)(graph_layers.LayerNorm()(h + graph_layers.Linear(H)(x)))
    return GraphCell(Graph([x], {"y": y}))


MEMBERS = _members()


@pytest.fixture(params=MEMBERS, ids=str)
def layer(request) -> Recurrent:
    torch.manual_seed(3)
    return MEMBERS[request.param]().double().eval()


@pytest.fixture
def x() -> torch.Tensor:
    torch.manual_seed(4)
    return torch.randn(B, T, I, dtype=torch.float64)


def random_state(layer: Recurrent, batch: int = B) -> State:
    return {name: torch.rand_like(value) - 0.5 for name, value in layer.initial_state(batch).items()}


def same(a, b, tolerance: float = 1e-12) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            same(a[name], b[name], tolerance)
    else:
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_a_whole_sequence_is_its_steps(layer, x) -> None:
    state = random_state(layer)
    if not layer.causal:
        with pytest.raises(UserError, match="needs the whole sequence"):
            layer.step(x[:, 0], state)
        return
    whole, last = layer(x, state)
    outputs = []
    for t in range(T):
        y, state = layer.step(x[:, t], state)
        outputs.append(y)
    same(whole, torch.stack(outputs, dim=1))
    same(last, state)


@pytest.mark.parametrize("cut", [1, 3, T - 1])
def test_a_cut_with_the_state_carried_changes_nothing(layer, x, cut) -> None:
    whole, last = layer(x)
    first, state = layer(x[:, :cut])
    second, after = layer(x[:, cut:], state)
    if not layer.causal:
        assert (whole - torch.cat([first, second], dim=1)).abs().max() > 1e-3
        return
    same(whole, torch.cat([first, second], dim=1))
    same(last, after)


def test_a_given_state_is_used_and_none_is_the_initial_one(layer, x) -> None:
    same(layer(x)[0], layer(x, layer.initial_state(B))[0])
    assert (layer(x)[0] - layer(x, random_state(layer))[0]).abs().max() > 1e-3


def test_padding_changes_nothing_not_even_the_final_state(layer, x) -> None:
    lengths = torch.tensor([T, 0, 3, 1])
    state = random_state(layer)
    poisoned = x.clone()
    for row, length in enumerate(lengths):
        poisoned[row, length:] = 1e6
    y, after = layer(poisoned, state, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = {name: value[row : row + 1] for name, value in state.items()}
        if length:
            expected, alone = layer(x[row : row + 1, :length], alone)
            same(y[row : row + 1, :length], expected)
        assert (y[row, length:] == 0).all()
        same({name: value[row : row + 1] for name, value in after.items()}, alone)


def test_the_past_ignores_the_future(layer, x) -> None:
    other = x.clone()
    other[:, 4:] = torch.randn_like(other[:, 4:])
    past, changed = layer(x)[0][:, :4], layer(other)[0][:, :4]
    if layer.causal:
        same(past, changed)
    else:
        assert (past - changed).abs().amax(dim=(0, 2)).min() > 1e-6, "declared to see the future: at every step"


def test_rows_are_independent(layer, x) -> None:
    order = torch.tensor([2, 0, 3, 1])
    same(layer(x)[0][order], layer(x[order])[0])


def test_every_parameter_gets_a_gradient(layer, x) -> None:
    # without a state too, for a learned one; each output with a weight of its own: under a norm, squares add up to
    # the same whatever the weights are
    with torch.no_grad():  # learned states are 0 at first, and the scale of a matrix of zeros has no gradient
        for value in getattr(layer, "first_states", None) or ():
            value.uniform_(-0.5, 0.5)
    y = layer(x)[0] + layer(x, random_state(layer))[0]
    (y * torch.randn_like(y)).sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.slow
def test_gradients_are_finite_differences(layer, x) -> None:
    names_ = [name for name, _ in layer.named_parameters()]
    state = random_state(layer)

    def run(x, *values):
        cells = dict(zip(state, values[: len(state)], strict=True))
        weights = dict(zip(names_, values[len(state) :], strict=True))
        y, after = torch.func.functional_call(layer, weights, (x, cells))
        from_the_first, _ = torch.func.functional_call(layer, weights, (x,))
        return (y, *after.values(), from_the_first)

    inputs = [x[:2, :3], *(value[:2] for value in state.values()), *(p.detach() for p in layer.parameters())]
    inputs = [value.clone().requires_grad_() for value in inputs]
    # along random directions; test_kernels.py and test_recurrent.py take the by-hand kernels entry by entry
    assert torch.autograd.gradcheck(run, inputs, eps=1e-6, atol=1e-6, fast_mode=True)


def test_a_one_hot_product_is_a_row_look_up(layer) -> None:
    ids = torch.randint(0, I, (B, T, 1))
    one_hot = torch.nn.functional.one_hot(ids.squeeze(-1), I).double()
    by_row, after = layer(ids)
    by_product, expected = layer(one_hot)
    same(by_row, by_product)
    same(after, expected)
    gradients = []
    for y in (by_row, by_product):
        layer.zero_grad()
        y.pow(2).sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in layer.named_parameters()})
    same(*gradients)


@pytest.mark.parametrize("kind", [kind for kind in names("cell") if {"torch", "by_hand"} <= set(backends(kind))])
def test_weights_go_from_one_backend_to_another(kind, x) -> None:
    layers = [resolve("cell", kind)(I, hidden_size=H, backend=backend).double() for backend in ("torch", "by_hand")]
    layers[1].load_state_dict(layers[0].state_dict())
    same(layers[0](x)[0], layers[1](x)[0])


@pytest.mark.parametrize("kind", [kind for kind in names("cell") if "native" in backends(kind)])
@pytest.mark.parametrize("ids", [False, True], ids=["floats", "one-hot"])
def test_the_native_backend_is_the_one_by_hand(compiler, x, kind, ids) -> None:
    inputs = torch.randint(0, I, (B, T, 1)) if ids else x.float()
    lengths = torch.tensor([T, 0, 3, 1])
    results = {}
    for backend in ("by_hand", "native", "auto"):
        torch.manual_seed(0)
        layer = resolve("cell", kind)(I, hidden_size=H, backend=backend)
        y, after = layer(inputs, random_state(layer), lengths)
        (y.pow(2).sum() + sum(value.pow(2).sum() for value in after.values())).backward()
        results[backend] = [y, *after.values(), *(parameter.grad for parameter in layer.parameters())]
    for by_hand, compiled, chosen in zip(*results.values(), strict=True):
        torch.testing.assert_close(by_hand, compiled, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(compiled, chosen, rtol=1e-4, atol=1e-5)


def test_weights_are_named_and_ordered_as_in_torch_nn(x) -> None:
    for kind, reference in (("rnn", torch.nn.RNN), ("gru", torch.nn.GRU), ("lstm", torch.nn.LSTM)):
        layer = resolve("cell", kind)(I, hidden_size=H).double()
        theirs = reference(I, H, batch_first=True).double()
        theirs.load_state_dict({f"{name}_l0": value for name, value in layer.state_dict().items()})
        same(layer(x)[0], theirs(x)[0])
