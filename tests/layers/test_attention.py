"""Attention: the equations, written out a second time, and what must hold of any."""

from __future__ import annotations

import math

import pytest
import torch

from components.layers.attention import Attention

B, U, T, Q, M = 3, 4, 6, 5, 7


@pytest.fixture(params=["dot", "additive"])
def made(request) -> tuple[Attention, torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    attention = Attention(Q, M, kind=request.param).double()
    query, memory = torch.randn(B, U, Q, dtype=torch.float64), torch.randn(B, T, M, dtype=torch.float64)
    absent = torch.arange(T) >= torch.tensor([6, 1, 4])[:, None]
    return attention, query, memory, absent


def look(attention, query, memory, absent):
    return attention(query, memory, attention.keys(memory), absent)


@torch.no_grad()
def test_the_scores_are_those_of_the_papers(made) -> None:
    attention, query, memory, absent = made
    contexts, weights = look(*made)
    for b in range(B):
        steps = [t for t in range(T) if not absent[b, t]]
        for u in range(U):
            q, scores = query[b, u], []
            for t in steps:
                m = memory[b, t]
                if attention.query is None:  # qᵀ W m
                    scores.append(float(q @ (attention.key.weight @ m)))
                else:  # vᵀ tanh(W q + U m + b)
                    inside = attention.query.weight @ q + attention.key.weight @ m + attention.key.bias
                    scores.append(float(attention.score.weight[0] @ torch.tanh(inside)))
            total = sum(math.exp(score) for score in scores)
            expected = [math.exp(score) / total for score in scores]
            assert weights[b, u, steps].tolist() == pytest.approx(expected)
            context = sum(w * memory[b, t] for w, t in zip(expected, steps, strict=True))
            assert contexts[b, u].tolist() == pytest.approx(context.tolist())


@pytest.mark.slow
def test_padding_has_no_weight_and_changes_nothing(made) -> None:
    attention, query, memory, absent = made
    contexts, weights = look(*made)
    assert weights.masked_select(absent[:, None].expand_as(weights)).abs().max() == 0
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(B, U, dtype=torch.float64))
    alone, _ = look(attention, query[1:2], memory[1:2, :1], absent[1:2, :1])
    torch.testing.assert_close(alone, contexts[1:2])
    changed, _ = look(attention, query, memory.masked_fill(absent[:, :, None], 1e6), absent)
    torch.testing.assert_close(changed, contexts)


def test_a_row_without_steps_gives_no_nan(made) -> None:
    attention, query, memory, _ = made
    contexts, _ = look(attention, query, torch.zeros_like(memory), torch.ones(B, T, dtype=torch.bool))
    assert contexts.abs().max() == 0


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(made) -> None:
    attention, query, memory, absent = made

    def run(q: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        return look(attention, q, m, absent)[0]

    assert torch.autograd.gradcheck(run, (query.requires_grad_(), memory.requires_grad_()))
    run(query, memory).square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad.abs().max() > 0, name
