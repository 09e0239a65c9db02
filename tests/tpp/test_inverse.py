"""The inverse compensator against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from accord.tpp.inverse import inverse

DTYPES = [torch.float64, torch.float32]
WHERE = {"floor": 1e-6, "limit": 1e8}


def targets(dtype: torch.dtype) -> Tensor:
    return torch.tensor([1e-3, 0.1, math.log(2), 1.0, 3.0, 20.0], dtype=dtype)


def check(gap: Tensor, expected: Tensor, loose: float = 1.0) -> None:
    eps = torch.finfo(gap.dtype).eps
    torch.testing.assert_close(gap, expected.to(gap.dtype), rtol=loose * 100 * eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e6])
@pytest.mark.parametrize("shape", [0.3, 1.0, 4.0])
def test_weibull_with_any_start(dtype, scale, shape):
    target = targets(dtype)

    gap = inverse(lambda tau: tau**shape, target, scale=scale, **WHERE)
    check(gap, (target.double() ** (1 / shape)).clamp(min=1e-6))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [0.05, 1.0, 3.0])
def test_lognormal(dtype, width):
    share = torch.tensor([0.01, 0.3, 0.5, 0.9, 0.999], dtype=torch.float64)

    def compensator(tau: Tensor) -> Tensor:
        return -torch.special.log_ndtr(-tau.log() / width)

    target = -torch.log1p(-share).to(dtype)
    gap = inverse(compensator, target, scale=0.1, **WHERE)
    check(gap, torch.exp(width * torch.special.ndtri(share)), loose=10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponential_growth_is_steep(dtype):
    growth = 50.0
    target = targets(dtype)
    gap = inverse(
        lambda tau: torch.expm1(growth * tau) / growth,  # overflows far inside the bracket
        target,
        scale=1.0,
        **WHERE,
    )
    check(gap, torch.log1p(growth * target.double()) / growth)


def test_flat_then_steep():
    # Almost nothing happens up to tau = 5: there secants point far away.
    def compensator(tau: Tensor) -> Tensor:
        return 1e-9 * tau + 1e3 * (tau - 5).clamp(min=0)

    target = torch.tensor([1e-9, 4e-9, 1e-3, 1.0, 1e5], dtype=torch.float64)
    gap = inverse(
        compensator,
        target,
        scale=torch.tensor([0.1, 1e3, 1e-3, 5.0, 1.0], dtype=torch.float64),
        **WHERE,
    )
    check(gap, torch.where(target < 5e-9, target / 1e-9, (target + 5e3) / (1e3 + 1e-9)))


def test_mass_at_infinity_is_unresolved():
    target = torch.tensor([0.5, 0.99, 1.0, 1.01, math.inf], dtype=torch.float64)
    gap = inverse(lambda tau: -torch.expm1(-tau), target, scale=1.0, **WHERE)
    check(gap[:2], -torch.log1p(-target[:2]))
    assert gap[2].isfinite()  # 1 - e^-tau is 1 in this arithmetic from tau = 37 on
    assert gap[3:].tolist() == [math.inf, math.inf]


def test_floor_is_the_answer_below_it():
    target = torch.tensor([0.0, 1e-9, 1e-6, 1e-3], dtype=torch.float64)
    gap = inverse(lambda tau: tau, target, scale=1.0, **WHERE)
    assert gap[:2].tolist() == [1e-6, 1e-6]
    check(gap[2:], target[2:])


def test_nan_stays_visible():
    good = torch.tensor([1.0, math.nan, 1.0], dtype=torch.float64)
    gap = inverse(lambda tau: good * tau, torch.ones(3, dtype=torch.float64), scale=1.0, **WHERE)
    assert gap.isnan().tolist() == [False, True, False]
    gap = inverse(lambda tau: tau, good, scale=1.0, **WHERE)
    assert gap.isnan().tolist() == [False, True, False]


def test_rows_do_not_depend_on_each_other():
    rate = torch.tensor([1e-4, 0.3, 1.0, 70.0, 1e3], dtype=torch.float64)
    target = torch.full_like(rate, math.log(2))

    def solve(rate: Tensor, target: Tensor) -> Tensor:
        return inverse(lambda t: rate * t + (rate * t) ** 3, target, scale=1.0, **WHERE)

    together = solve(rate, target)
    alone = torch.cat([solve(rate[i : i + 1], target[:1]) for i in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-14, atol=0)


def test_few_evaluations():
    rate = torch.logspace(-4, 4, 200, dtype=torch.float64)
    calls = []

    def compensator(tau: Tensor) -> Tensor:
        calls.append(1)
        return rate * tau + torch.log1p(rate * tau)

    inverse(
        compensator,
        torch.full_like(rate, 0.7),
        scale=1.0,
        **WHERE,
    )
    assert len(calls) <= 20
