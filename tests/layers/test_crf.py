"""The linear-chain CRF: sums and best labels equal those over all label sequences, written out."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from components.layers.crf import LinearChainCRF, best_labels, log_partition, nats


def chain(seed: int, labels: int, rows: int, steps: int, *, constrained: bool = False) -> tuple[LinearChainCRF, Tensor]:
    """A CRF with random scores, and random emissions [B, T, Y]. `constrained`: label 2 only after 1 or 2."""
    torch.manual_seed(seed)
    crf = LinearChainCRF(labels)
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    if constrained:
        allowed, first = torch.ones(labels, labels, dtype=torch.bool), torch.ones(labels, dtype=torch.bool)
        allowed[:, 2], first[2] = False, False
        allowed[1, 2] = allowed[2, 2] = True
        crf.constrain(allowed, first)
    return crf, torch.randn(rows, steps, labels)


def score(crf: LinearChainCRF, emissions_TY: Tensor, labels: tuple[int, ...]) -> float:
    """The score of one labelling, as the definition says it."""
    total = crf.first_Y[labels[0]] + crf.last_Y[labels[-1]]
    total = total + sum(emissions_TY[t, label] for t, label in enumerate(labels))
    return float((total + sum(crf.transition_YY[a, b] for a, b in itertools.pairwise(labels))).detach())


def every(crf: LinearChainCRF, emissions_TY: Tensor, *, constrained: bool) -> dict[tuple[int, ...], float]:
    """All labellings with their scores; only those that the constraint of `chain` allows."""
    steps, labels = emissions_TY.shape
    found = {}
    for path in itertools.product(range(labels), repeat=steps):
        if not constrained or all(b != 2 or a in (1, 2) for a, b in itertools.pairwise((0, *path))):
            found[path] = score(crf, emissions_TY, path)
    return found


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31), lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4), constrained=st.booleans()
)
def test_sums_and_best_labels_equal_those_over_all_labellings(seed, lengths, constrained) -> None:
    crf, emissions = chain(seed, 3, len(lengths), max(lengths), constrained=constrained)
    lengths_B = torch.tensor(lengths)
    scores = crf(emissions, lengths_B)
    sums, best = log_partition(scores, lengths_B), best_labels(scores, lengths_B)
    gold = torch.zeros_like(best)
    for row, length in enumerate(lengths):
        paths = every(crf, emissions[row, :length], constrained=constrained)
        whole = torch.tensor(list(paths.values())).logsumexp(0)
        assert sums[row].item() == pytest.approx(float(whole), abs=1e-4)
        assert paths[tuple(best[row, :length].tolist())] == pytest.approx(max(paths.values()), abs=1e-4)
        assert not best[row, length:].any()
        path = list(paths)[seed % len(paths)]
        gold[row, :length] = torch.tensor(path)
        lost = nats(scores, gold, lengths_B)[row]
        assert lost.item() == pytest.approx(float(whole) - paths[path], abs=1e-4)


def test_a_label_that_is_not_known_is_summed_over() -> None:
    crf, emissions = chain(1, 3, 1, 4)
    lengths_B = torch.tensor([4])
    scores = crf(emissions, lengths_B)
    paths = every(crf, emissions[0], constrained=False)
    fits = torch.tensor([value for path, value in paths.items() if path[0] == 2 and path[2] == 1]).logsumexp(0)
    lost = nats(scores, torch.tensor([[2, -1, 1, -1]]), lengths_B)
    assert lost.item() == pytest.approx(float(torch.tensor(list(paths.values())).logsumexp(0) - fits), abs=1e-4)
    assert nats(scores, torch.full((1, 4), -1), lengths_B).item() == pytest.approx(0, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("constrained", [False, True])
def test_the_gradient_is_each_labels_probability(constrained) -> None:
    crf, emissions = chain(2, 4, 5, 6, constrained=constrained)
    emissions.requires_grad_()
    lengths_B = torch.tensor([6, 1, 3, 5, 2])
    log_partition(crf(emissions, lengths_B), lengths_B).sum().backward()
    alive_BT = torch.arange(6) < lengths_B[:, None]
    torch.testing.assert_close(emissions.grad.sum(2), alive_BT.float())
    assert (emissions.grad[:, 0, 2] == 0).all() == constrained, "what is forbidden has no probability at all"


def test_what_is_forbidden_is_never_the_best_however_it_is_scored() -> None:
    crf, emissions = chain(3, 3, 20, 9, constrained=True)
    emissions[:, :, 2] += 50.0
    lengths_B = torch.randint(1, 10, (20,))
    best = best_labels(crf(emissions, lengths_B), lengths_B)
    for row, length in zip(best.tolist(), lengths_B.tolist(), strict=True):
        assert all(b != 2 or a in (1, 2) for a, b in itertools.pairwise([0, *row[:length]]))
    assert (best == 2).any()


def test_padding_changes_nothing_and_its_gradient_is_0() -> None:
    crf, emissions = chain(4, 3, 3, 7)
    lengths_B, labels = torch.tensor([7, 2, 4]), torch.randint(0, 3, (3, 7))
    emissions.requires_grad_()
    lost = nats(crf(emissions, lengths_B), labels, lengths_B)
    lost.sum().backward()
    assert torch.isfinite(emissions.grad).all()
    for row, length in enumerate(lengths_B.tolist()):
        alone = crf(emissions[row : row + 1, :length], lengths_B[row : row + 1])
        torch.testing.assert_close(nats(alone, labels[row : row + 1, :length], lengths_B[row : row + 1])[0], lost[row])
        assert not emissions.grad[row, length:].any()
    assert all(parameter.grad.abs().max() > 0 for parameter in crf.parameters())


def test_bfloat16_emissions_are_summed_in_float32() -> None:
    crf, emissions = chain(5, 3, 2, 30)
    assert crf(emissions.bfloat16(), torch.tensor([30, 30])).dtype == torch.float32


@pytest.mark.slow
def test_it_learns_what_follows_what() -> None:
    # labels go round 0 1 2 0 1 2; the emissions say nothing, only the first label is told
    crf = LinearChainCRF(3)
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.2)
    starts = torch.arange(3)
    labels = (starts[:, None] + torch.arange(8)) % 3
    emissions = torch.zeros(3, 8, 3)
    emissions[starts, 0, starts] = 5.0
    lengths_B = torch.full((3,), 8)
    for _ in range(60):
        optimizer.zero_grad()
        nats(crf(emissions, lengths_B), labels, lengths_B).sum().backward()
        optimizer.step()
    assert (best_labels(crf(emissions, lengths_B), lengths_B) == labels).all()
