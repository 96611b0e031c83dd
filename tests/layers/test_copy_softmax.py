"""A head that writes or copies: its mixture is a distribution, and loss, measure and gradients are those of it."""

from __future__ import annotations

import torch
from torch import Tensor

from components.encodings.copying import MATCHES
from components.encodings.vocabulary import PAD
from components.layers.copying import CopySoftmax

H, V, L = 6, 30, 3


def head_and_steps() -> tuple[CopySoftmax, Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    head = CopySoftmax(H, V, L, MATCHES).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter))
    y_BTH = 2 * torch.randn(4, 10, H)
    targets_BT, candidates_BTL = torch.randint(1, V, (4, 10)), torch.randint(0, 4, (4, 10, L))
    targets_BT[:, ::2] = candidates_BTL[:, ::2, 1]  # some are copies, some PAD
    return head, y_BTH, targets_BT, candidates_BTL, torch.randint(0, MATCHES, (4, 10, L))


def obvious_mixture(head: CopySoftmax, y: Tensor, candidates: Tensor, matches: Tensor) -> Tensor:
    """P(token), [V], at one step."""
    scores = head.gates(y)
    for place in range(L):
        scores = scores + head.agreement.weight[place * MATCHES + matches[place]]
    keep = [0, *(1 + place for place in range(L) if candidates[place] != PAD)]
    gates = dict(zip(keep, scores[keep].softmax(0), strict=True))
    p = gates[0] * head.words(y).softmax(0)
    for place in keep[1:]:
        p = p + gates[place] * torch.nn.functional.one_hot(candidates[place - 1], V)
    return p


def test_the_mixture_is_a_distribution_and_loss_and_measure_are_its_likelihood() -> None:
    head, y, targets, candidates, matches = head_and_steps()
    flat = [x.flatten(0, 1) for x in (y, targets, candidates, matches)]
    p_NV = torch.stack([obvious_mixture(head, y, c, m) for y, _, c, m in zip(*flat, strict=True)])
    torch.testing.assert_close(p_NV.sum(1), torch.ones(40))
    torch.testing.assert_close(head(y, candidates, matches).exp().flatten(0, 1), p_NV)
    nats_N, best_N = head.judge(*flat)
    torch.testing.assert_close(nats_N, -p_NV.gather(1, flat[1][:, None]).squeeze(1).log())
    assert torch.equal(best_N, p_NV.argmax(1))
    counts = targets != PAD
    assert 0 < int((~counts).sum()) < targets.numel()
    loss = head.loss(y, targets, PAD, candidates, matches)
    torch.testing.assert_close(loss, nats_N[counts.flatten()].sum())


def test_the_gradients_are_those_of_the_mixture_written_out() -> None:
    head, y, targets, candidates, matches = head_and_steps()
    y.requires_grad_()
    wanted = [y, *head.parameters()]
    got = torch.autograd.grad(head.loss(y, targets, PAD, candidates, matches), wanted)
    steps = [(b, t) for b in range(4) for t in range(10) if targets[b, t] != PAD]
    mixtures = (obvious_mixture(head, y[at], candidates[at], matches[at])[targets[at]] for at in steps)
    expected = torch.autograd.grad(-torch.stack([p.log() for p in mixtures]).sum(), wanted)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)


def test_a_lower_gate_temperature_decides_more_clearly_and_leaves_the_words_alone() -> None:
    head, y, _, candidates, matches = head_and_steps()
    gates = [head._log_gates(y, candidates, matches, at).exp() for at in (1.0, 0.5)]
    assert gates[1].max(-1).values.mean() > gates[0].max(-1).values.mean() + 0.05
    none = torch.full_like(candidates, PAD)
    torch.testing.assert_close(head(y, none, matches, gate_temperature=0.5), head.words(y).log_softmax(-1))
