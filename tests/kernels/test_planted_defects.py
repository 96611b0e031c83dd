"""The proofs can fail: each kind of defect is planted into the kernels by hand, and the suites' own checks find it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

import pytest
import test_kernels as proofs
import test_recurrent_contract as contract
import torch

from components.kernels import gru, lstm, rnn

KERNELS = {"rnn": rnn, "gru": gru, "lstm": lstm}
CASES = {"rnn": "rnn-tanh", "gru": "gru-reset-after", "lstm": "lstm"}


# the checks, as the suites run them


def by_hand(kind: str):
    torch.manual_seed(3)
    return contract.resolve("cell", kind)(contract.I, hidden_size=contract.H, backend="by_hand").double()


def x() -> torch.Tensor:
    torch.manual_seed(4)
    return torch.randn(contract.B, contract.T, contract.I, dtype=torch.float64)


CHECKS: dict[str, Callable[[str], None]] = {
    "autograd over a naive loop": lambda kind: (
        proofs.test_values_and_every_gradient_are_those_of_autograd_over_a_naive_loop(CASES[kind], 7, True, True)
    ),
    "central differences": lambda kind: proofs.test_every_gradient_is_the_central_difference(CASES[kind], True),
    "torch.nn": lambda kind: proofs.test_values_and_every_gradient_are_those_of_torch_nn(CASES[kind], 7),
    "padding": lambda kind: proofs.test_what_lies_after_a_rows_end_never_leaks_not_even_nan(CASES[kind]),
    "contract: gradients": lambda kind: contract.test_every_parameter_gets_a_gradient(by_hand(kind), x()),
    "contract: state": lambda kind: contract.test_a_given_state_is_used_and_none_is_the_initial_one(by_hand(kind), x()),
    "contract: cut": lambda kind: contract.test_a_cut_with_the_state_carried_changes_nothing(by_hand(kind), x(), 3),
    "contract: padding": lambda kind: contract.test_padding_changes_nothing_not_even_the_final_state(
        by_hand(kind), x()
    ),
    "contract: backends": lambda kind: contract.test_weights_go_from_one_backend_to_another(kind, x()),
}


# the defects: each takes the module's own functions and gives worse ones


def wrapped(before: Callable[..., tuple] | None = None, after: Callable | None = None) -> Callable:
    """A kernel with its arguments changed before `forward`, or its gradients after `backward`."""

    def plant(kernel: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        forward, backward = kernel.forward, kernel.backward
        if before:
            monkeypatch.setattr(kernel, "forward", lambda *a, **k: forward(*before(kernel, *a), **k))
        if after:
            monkeypatch.setattr(kernel, "backward", lambda *a, **k: after(kernel, backward(*a, **k)))

    return plant


def edited(changes: dict[str, tuple[str, str]]) -> Callable:
    """One line of one function rewritten, by kernel: what a slip of the pen would leave."""

    def plant(kernel: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        old, new = changes[kernel.__name__.rpartition(".")[2]]
        for name in ("forward", "backward"):
            source = inspect.getsource(getattr(kernel, name))
            if old in source:
                space = dict(vars(kernel))
                exec(source.replace(old, new), space)
                monkeypatch.setattr(kernel, name, space[name])
                return
        pytest.fail(f"{kernel.__name__} has no line with {old!r} any more: plant it elsewhere")

    return plant


def zero_weights(kernel, grads):
    return grads._replace(weight_hh=torch.zeros_like(grads.weight_hh))


def forget_state(kernel, gates_x, state, *rest):
    return gates_x, {name: torch.zeros_like(value) for name, value in state.items()}, *rest


def forget_lengths(kernel, *arguments):
    return *arguments[:4], None


def other_order(weight_hh: torch.Tensor) -> torch.Tensor:
    """The rows with i and f, or r and z, in each other's place."""
    rows_H = torch.arange(len(weight_hh)).split(weight_hh.shape[1])
    return torch.cat([rows_H[1], rows_H[0], *rows_H[2:]])


def swap_gates(kernel, gates_x, state, weight_hh, bias_hh, *rest):
    order = other_order(weight_hh)
    return gates_x[..., order], state, weight_hh[order], bias_hh[order], *rest


def swap_gates_back(kernel, grads):
    order = other_order(grads.weight_hh)
    return grads._replace(
        gates_x=grads.gates_x[..., order], weight_hh=grads.weight_hh[order], bias_hh=grads.bias_hh[order]
    )


GATE_LEFT_OUT = {
    "gru": ("n.addcmul_(r, m_BH).tanh_()", "n.add_(m_BH).tanh_()"),
    "lstm": ("torch.mul(o, tanh_c_TBH[t], out=h_TBH[t + 1])", "h_TBH[t + 1] = tanh_c_TBH[t]"),
}
GATE_WITHOUT_GRADIENT = {
    "gru": ("torch.mul(dn, slope_r[t], out=dr)", "dr.zero_()"),
    "lstm": ("torch.mul(dh_BH, slope_o[t], out=ds_o)", "ds_o.zero_()"),
}
NOTHING_THROUGH_TIME = {
    "rnn": ("through_BH = ds_TBH[t] @ weight_hh_GH", "through_BH = torch.zeros_like(dh_BH)"),
    "gru": ("dh_BH.addmm_(dhidden_TBG[t], weight_hh_GH)", "pass"),
    "lstm": ("through_BH = ds_TBG[t] @ weight_hh_GH", "through_BH = torch.zeros_like(dh_BH)"),
}

# the three that know what the right answer is
REFERENCES = ("autograd over a naive loop", "central differences", "torch.nn")
# name: (kinds it can be planted in, how, the checks that must find it)
DEFECTS = {
    "zero weight gradient": ("rnn gru lstm", wrapped(after=zero_weights), (*REFERENCES, "contract: gradients")),
    "ignored initial state": (
        "rnn gru lstm",
        wrapped(before=forget_state),
        (*REFERENCES, "contract: state", "contract: cut", "contract: padding"),
    ),
    "ignored lengths": (
        "rnn gru lstm",
        wrapped(before=forget_lengths),
        ("autograd over a naive loop", "padding", "contract: padding"),
    ),
    "swapped gate order": (
        "gru lstm",
        wrapped(before=swap_gates, after=swap_gates_back),
        ("autograd over a naive loop", "torch.nn", "contract: backends"),
    ),
    "dropped gate": ("gru lstm", edited(GATE_LEFT_OUT), (*REFERENCES, "contract: backends")),
    "dropped gate in the backward pass": ("gru lstm", edited(GATE_WITHOUT_GRADIENT), REFERENCES),
    "no gradient through time": ("rnn gru lstm", edited(NOTHING_THROUGH_TIME), REFERENCES),
}
PLANTED = [
    (defect, kind, check)
    for defect, (kinds, _, checks) in DEFECTS.items()
    for kind in kinds.split()
    for check in checks
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", KERNELS)
def test_without_a_defect_every_check_passes(kind, check) -> None:
    CHECKS[check](kind)


@pytest.mark.parametrize(("defect", "kind", "check"), PLANTED)
def test_a_planted_defect_is_found(defect, kind, check, monkeypatch) -> None:
    assert len(PLANTED) >= 60
    DEFECTS[defect][1](KERNELS[kind], monkeypatch)
    with pytest.raises(AssertionError):
        CHECKS[check](kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_differences_alone_would_not_see_a_swapped_gate_order(kind, monkeypatch) -> None:
    """A wrong function has right derivatives: why there is a second and a third reference."""
    DEFECTS["swapped gate order"][1](KERNELS[kind], monkeypatch)
    CHECKS["central differences"](kind)
