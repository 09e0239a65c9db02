"""Scoring rules of marks: definitions, propriety, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from accord.tpp.metrics.scores import brier, log_score, spherical


def random_log_p(events: int, marks: int) -> torch.Tensor:
    return torch.randn(events, marks, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(1)


def test_definitions():
    log_p, marks = random_log_p(20, 4), torch.arange(20) % 4
    p, hot = log_p.exp(), torch.eye(4, dtype=torch.float64)[marks]
    assert torch.allclose(brier(log_p, marks), (p - hot).square().sum(1), rtol=1e-14)
    assert torch.allclose(spherical(log_p, marks), (p * hot).sum(1) / p.norm(dim=1), rtol=1e-14)
    assert torch.allclose(log_score(log_p, marks), -(p * hot).sum(1).log(), rtol=1e-14)


@pytest.mark.parametrize("loss", [log_score, brier, lambda p, k: -spherical(p, k)], ids=["log", "brier", "spherical"])
def test_truth_has_the_best_expectation(loss):
    """A rule is proper if its expectation is stationary at the truth, and no other prediction has a better one."""
    truth = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)

    def expected(log_p):
        return sum(truth[k] * loss(log_p.unsqueeze(0), torch.tensor([k])).squeeze() for k in range(3))

    logits = truth.log().requires_grad_()
    best = expected(logits.log_softmax(0))
    (gradient,) = torch.autograd.grad(best, logits)
    assert gradient.abs().max() < 1e-15
    assert all(best < expected(other) for other in random_log_p(200, 3))


@pytest.mark.parametrize("score", [log_score, brier, spherical])
def test_gradients(score):
    marks = torch.tensor([0, 2, 1])
    logits = random_log_p(3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: score(x.log_softmax(1), marks), (logits,))


def test_extreme_predictions():
    sure = torch.tensor([[0.0, -1e4], [-1e4, 0.0]])
    marks = torch.tensor([0, 0])
    assert brier(sure, marks).tolist() == [0, 2]
    assert spherical(sure, marks).tolist() == [1, 0]
    assert log_score(sure, marks).tolist() == [0, 1e4]
    nearly = torch.tensor([[-1e-12, math.log(1e-12)]], dtype=torch.float64)
    assert brier(nearly, marks[:1]).item() == pytest.approx(2e-24, rel=1e-3)
