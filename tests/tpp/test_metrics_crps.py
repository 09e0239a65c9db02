"""CRPS: closed forms against scipy's integration, the general quadrature against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.metrics import crps
from accord.tpp.metrics.crps import crps_log_time, crps_quadrature, crps_time


def mixture(events: int = 6, components: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    log_w, m, s = torch.randn(3, events, components, generator=generator, dtype=torch.float64)
    return log_w.log_softmax(1), 2 * m, (s / 2).exp(), torch.randn(events, generator=generator).double().exp()


def survival(log_w: Tensor, m: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """(n,) P(log X > y) of a mixture of normals."""
    return (log_w.exp() * torch.special.ndtr(-(y.unsqueeze(1) - m) / s)).sum(1)


def compensator(log_w: Tensor, m: Tensor, s: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda u: -torch.logsumexp(log_w + torch.special.log_ndtr(-(u.log().unsqueeze(1) - m) / s), 1)


def integral(tail: Callable[[float], float], at: float, low: float, high: float) -> float:
    below = integrate.quad(lambda x: (1 - tail(x)) ** 2, low, at, epsabs=0, epsrel=1e-11, limit=500)[0]
    return below + integrate.quad(lambda x: tail(x) ** 2, at, high, epsabs=0, epsrel=1e-11, limit=500)[0]


def test_log_time_against_integration():
    log_w, m, s, tau = mixture()
    found = crps_log_time(log_w, m, s, tau)
    for i in range(len(tau)):
        one = [part[i : i + 1] for part in (log_w, m, s)]
        tail = lambda y, one=one: survival(*one, torch.tensor([y], dtype=torch.float64)).item()  # noqa: E731
        assert found[i].item() == pytest.approx(integral(tail, math.log(tau[i]), -40, 40), rel=1e-9)


def test_time_against_integration():
    log_w, m, s, tau = mixture()
    found = crps_time(log_w, m, s, tau)
    for i in range(len(tau)):
        one = [part[i : i + 1] for part in (log_w, m, s)]

        event = math.log(tau[i])

        def density(y, one=one, event=event):  # in log time: u is spread over many orders of magnitude
            tail = survival(*one, torch.tensor([y], dtype=torch.float64)).item()
            return (tail if y > event else 1 - tail) ** 2 * math.exp(y)

        parts = [(-40, event), (event, 40)]
        value = sum(integrate.quad(density, a, b, epsabs=0, epsrel=1e-11, limit=500)[0] for a, b in parts)
        assert found[i].item() == pytest.approx(value, rel=1e-9)


def test_time_agrees_with_the_usual_formula():
    log_w, m, s, tau = mixture()
    w, mean = log_w.exp(), (m + s.square() / 2).exp()
    phi = torch.special.ndtr
    z = (tau.log().unsqueeze(1) - m) / s
    to_event = (w * (tau.unsqueeze(1) * (2 * phi(z) - 1) + mean * (1 - 2 * phi(z - s)))).sum(1)
    m1, m2, s1, s2 = m.unsqueeze(2), m.unsqueeze(1), s.unsqueeze(2), s.unsqueeze(1)
    both = torch.hypot(s1, s2)
    first = mean.unsqueeze(2) * phi((m1 - m2 + s1**2) / both)
    second = mean.unsqueeze(1) * phi((m2 - m1 + s2**2) / both)
    between = 2 * (first + second) - mean.unsqueeze(2) - mean.unsqueeze(1)
    expected = to_event - torch.einsum("nc,ncd,nd->n", w, between, w) / 2
    assert torch.allclose(crps_time(log_w, m, s, tau), expected, rtol=1e-12)


def test_time_where_the_usual_formula_overflows():
    """A component that hardly ever comes, but has an infinite mean in float64, changes the score hardly."""
    one = torch.ones(1, 1, dtype=torch.float64)
    base = crps_time(0 * one, 0 * one, one, torch.ones(1))
    log_w = torch.tensor([[0.0, -1200.0]], dtype=torch.float64)
    m, s = torch.tensor([[0.0, 0.0]], dtype=torch.float64), torch.tensor([[1.0, 38.0]], dtype=torch.float64)
    assert torch.isinf((m + s.square() / 2).exp()).any()
    assert torch.allclose(crps_time(log_w, m, s, torch.ones(1)), base, rtol=1e-12)


@pytest.mark.parametrize("score", [crps_time, crps_log_time])
def test_gradients_and_chunks(score, monkeypatch):
    log_w, m, s, tau = mixture()
    whole = score(log_w, m, s, tau)
    parts = [part.clone().requires_grad_() for part in (log_w, m, s)]
    assert torch.autograd.gradcheck(lambda a, b, c: score(a.log_softmax(1), b, c, tau), parts)
    monkeypatch.setattr(crps, "PAIRS", 18)  # two events at once
    assert torch.equal(score(log_w, m, s, tau), whole)


@pytest.mark.parametrize("score", [crps_time, crps_log_time])
def test_certain_prediction_costs_its_error(score):
    one = torch.ones(3, 1, dtype=torch.float64)
    tau = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    found = score(0 * one, 0 * one, 1e-12 * one, tau)
    error = tau - 1 if score is crps_time else tau.log()
    assert torch.allclose(found, error.abs(), atol=1e-11)


def test_zero_gap():
    log_w, m, s, _ = mixture()
    nothing = torch.zeros(len(m), dtype=torch.float64)
    found = crps_time(log_w, m, s, nothing)
    assert torch.allclose(found, crps_time(log_w, m, s, nothing + 1e-12), atol=1e-11)
    assert torch.allclose(crps_quadrature(compensator(log_w, m, s), nothing).value, found, rtol=1e-8)


@pytest.mark.parametrize("rate", [1e-6, 1.0, 3e5])
def test_quadrature_of_the_exponential(rate):
    tau = torch.tensor([0.0, 1e-6, 0.01, 0.7, 1.0, 5.0, 40.0, 1e4], dtype=torch.float64) / rate
    found = crps_quadrature(lambda u: rate * u, tau)
    expected = tau + 2 * (-rate * tau).exp() / rate - 1.5 / rate
    assert torch.allclose(found.value, expected, rtol=1e-10)
    assert (found.change <= 1e-8 * found.value).all()


@pytest.mark.parametrize(("scale", "tolerance"), [(0.05, 1e-5), (0.3, 1e-10), (1.0, 1e-12), (3.0, 1e-10)])
def test_quadrature_of_log_normal_mixtures(scale, tolerance):
    """Narrow, distant modes are the hard case, and the reported change tells."""
    log_w, m, s, tau = mixture(events=40)
    s = scale * s
    found = crps_quadrature(compensator(log_w, m, s), tau)
    expected = crps_time(log_w, m, s, tau)
    assert torch.allclose(found.value, expected, rtol=tolerance)
    assert (found.value - expected).abs().max() <= found.change.max() + 1e-12 * expected.max()


def test_quadrature_of_weibull_hazards():
    """Steep and flat hazards, u^a, each event its own; oracle: the same integral in u by scipy."""
    a = torch.tensor([0.4, 1.0, 8.0], dtype=torch.float64)
    tau = torch.tensor([2.0, 0.1, 1.1], dtype=torch.float64)
    found = crps_quadrature(lambda u: u**a, tau).value
    for i in range(3):
        tail = lambda u, i=i: math.exp(-(u ** a[i].item()))  # noqa: E731
        high = 40 ** (1 / a[i].item())
        assert found[i].item() == pytest.approx(integral(tail, tau[i].item(), 0, high), rel=1e-7)


def test_quadrature_of_mass_at_infinity():
    found = crps_quadrature(lambda u: torch.stack([1 - torch.exp(-u[0]), u[1]]), torch.ones(2))
    assert found.value[0] == torch.inf
    assert found.value[1].item() == pytest.approx(1 + 2 / math.e - 1.5, rel=1e-10)


def test_quadrature_refuses_nan():
    with pytest.raises(TPPError, match="NaN for 2 of 2"):
        crps_quadrature(lambda u: u * np.nan, torch.ones(2))
