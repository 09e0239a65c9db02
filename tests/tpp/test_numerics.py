"""Shared numerics against mpmath with 50 digits, at ordinary and at extreme arguments."""

from __future__ import annotations

import math

import mpmath as mp
import pytest
import torch
from torch import Tensor

from accord.tpp.numerics.phi import GATE as PHI_GATE
from accord.tpp.numerics.phi import phi
from accord.tpp.numerics.quadrature import nodes, unit_mean
from accord.tpp.numerics.softplus import (
    GATE,
    log_scaled_softplus,
    log_softplus,
    scaled_softplus,
    softplus,
    softplus_integral,
    softplus_mean,
)

mp.mp.dps = 50
DTYPES = [torch.float64, torch.float32]


def exact(f, *points: Tensor) -> Tensor:
    rows = zip(*(p.tolist() for p in points), strict=True)
    return torch.tensor([float(f(*map(mp.mpf, row))) for row in rows], dtype=torch.float64)


def assert_near(found: Tensor, expected: Tensor, relative: float, absolute: float = 1e-37) -> None:
    torch.testing.assert_close(found.double(), expected, rtol=relative, atol=absolute)


def exact_softplus(x):
    return mp.log1p(mp.exp(x))


def exact_integral(x):
    return x**2 / 2 + mp.pi**2 / 6 + mp.polylog(2, -mp.exp(-x)) if x > 0 else -mp.polylog(2, -mp.exp(x))


def logistic(x):
    return 1 / (1 + mp.exp(-x))


def exact_mean(x0, z):
    return exact_softplus(x0) if z == 0 else (exact_integral(x0 + z) - exact_integral(x0)) / z


def exact_mean_by_x0(x0, z):
    return logistic(x0) if z == 0 else (exact_softplus(x0 + z) - exact_softplus(x0)) / z


def exact_mean_by_z(x0, z):
    return logistic(x0) / 2 if z == 0 else (exact_softplus(x0 + z) - exact_mean(x0, z)) / z


def exact_phi(z):
    return mp.expm1(z) / z if z else mp.mpf(1)


def exact_phi_slope(z):
    return (mp.exp(z) - exact_phi(z)) / z if z else mp.mpf(1) / 2


def segments(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random ones as in the specification, and both sides of the gate at many places of the line."""
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(80, generator=generator, dtype=torch.float64) * 6
    z = (torch.rand(80, generator=generator, dtype=torch.float64) * 2 - 1) * 60
    z[40:] /= 60
    gate = GATE[dtype]
    around = [s * gate * (1 + d) for s in (-1, 1) for d in (-1, -1e-3, 0, 1e-3)]
    corners = torch.cartesian_prod(torch.tensor([-8.0, -1.0, 0.0, 0.4, 5.0]), torch.tensor(around)).double()
    return torch.cat((x0, corners[:, 0])).to(dtype), torch.cat((z, corners[:, 1])).to(dtype)


def test_nodes_integrate_polynomials_and_are_not_inference_tensors():
    with torch.inference_mode():
        x, w = nodes(7, torch.zeros(1, dtype=torch.float64))
    for degree in range(14):
        assert math.isclose(float(w @ x**degree), 1 / (degree + 1), rel_tol=1e-14)
    assert not x.is_inference()
    assert nodes(7, torch.zeros(1))[0].dtype == torch.float32


def test_unit_mean_keeps_every_axis():
    rate = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
    mean = unit_mean(lambda x: torch.exp(rate * x), 8, rate)
    assert_near(mean.flatten(), exact(exact_phi, rate.flatten()), 1e-14)
    assert mean.shape == (2, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_phi_and_its_gradient(dtype):
    gate = PHI_GATE
    special = [0.0, 1e-30, -1e-30, 1e-8, -1e-4, *(s * gate * d for s in (1, -1) for d in (0.999, 1, 1.001)), 80, -1e4]
    z = torch.cat((torch.linspace(-60, 60, 101), torch.tensor(special))).to(dtype).requires_grad_()
    value = phi(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    tolerance = 4e-15 if dtype == torch.float64 else 1e-6
    assert_near(value.detach(), exact(exact_phi, z.detach()), tolerance)
    assert_near(slope, exact(exact_phi_slope, z.detach()), tolerance)


def test_phi_overflows_without_nan():
    z = torch.tensor([1e4, -1e4], requires_grad=True)
    value = phi(z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert value.tolist()[0] == math.inf
    assert slope.tolist()[0] == math.inf
    assert slope.isfinite().tolist() == [False, True]


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus_and_its_logarithm(dtype):
    special = [0.0, 1e-30, -37.0, -36.99, -37.01, -15.0, 20.1, 39.9, 40.1, -1e4, 1e4]
    x = torch.cat((torch.linspace(-60, 60, 101), torch.tensor(special))).to(dtype).requires_grad_()
    eps = torch.finfo(dtype).eps
    normal = x.detach() > -80  # below, float32 has no number for the value
    value, log_value = softplus(x), log_softplus(x)
    assert_near(value[normal].detach(), exact(exact_softplus, x[normal].detach()), 4 * eps)
    assert_near(log_value.detach(), exact(lambda x: mp.log(exact_softplus(x)), x.detach()), 4 * eps, 4 * eps)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert_near(slope[normal], exact(logistic, x[normal].detach()), 8 * eps)
    (slope,) = torch.autograd.grad(log_value.sum(), x)
    assert_near(slope, exact(lambda x: logistic(x) / exact_softplus(x), x.detach()), 8 * eps)


def test_softplus_is_exact_beyond_the_usual_threshold():
    x = torch.tensor([20.5, 25.0], dtype=torch.float64)
    assert_near(softplus(x) - x, exact(lambda x: exact_softplus(x) - x, x), 1e-4)


def test_scaled_softplus():
    x = torch.linspace(-20, 20, 21, dtype=torch.float64)
    for b in (0.0, 1.0, 7.0):
        slope = b + 1e-3
        expected = exact(lambda x: exact_softplus(mp.mpf(slope) * x) / mp.mpf(slope), x)
        assert_near(scaled_softplus(x, torch.tensor(b)), expected, 1e-6)
        b = torch.tensor(b, dtype=torch.float64)
        assert_near(scaled_softplus(x, b), expected, 1e-14)
        assert_near(log_scaled_softplus(x, b), expected.log(), 1e-14, 1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus_integral(dtype):
    special = [0.0, 1e-30, -1e-8, 1e-8, 1e4]
    x = torch.cat((torch.linspace(-40, 60, 101), torch.tensor(special))).to(dtype).requires_grad_()
    value = softplus_integral(x)
    # exp(x) of the platform errs by a few units for x = -40, and the value with it.
    assert_near(value.detach(), exact(exact_integral, x.detach()), 5e-15 if dtype == torch.float64 else 3e-7)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert torch.equal(slope, softplus(x))
    assert softplus_integral(torch.tensor([-1e4], dtype=dtype)).tolist() == [0.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus_mean_and_its_gradients(dtype):
    x0, z = segments(dtype)
    x0.requires_grad_()
    z.requires_grad_()
    value = softplus_mean(x0, z)
    by_x0, by_z = torch.autograd.grad(value.sum(), (x0, z))
    points = x0.detach(), z.detach()
    fine = dtype == torch.float64
    assert_near(value.detach(), exact(exact_mean, *points), 1e-13 if fine else 2e-6)
    assert_near(by_x0, exact(exact_mean_by_x0, *points), 1e-13 if fine else 2e-6)
    assert_near(by_z, exact(exact_mean_by_z, *points), 2e-12 if fine else 1e-5)
    with torch.no_grad():
        assert torch.equal(softplus_mean(x0, z), value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softplus_mean_at_extreme_arguments(dtype):
    places, lengths = (
        torch.tensor([-1e4, -50.0, 0.0, 1e-30, 50.0, 1e4]),
        torch.tensor([0, 1e-9, -1e-4, 2, -2, 1e4, -2e4]),
    )
    x0, z = torch.cartesian_prod(places, lengths).to(dtype).unbind(1)
    x0, z = x0.contiguous().requires_grad_(), z.contiguous().requires_grad_()
    value = softplus_mean(x0, z)
    by_x0, by_z = torch.autograd.grad(value.sum(), (x0, z))
    points = x0.detach(), z.detach()
    # x0 + z is rounded, which moves e^(x0 + z) by this much.
    relative, absolute = 60 * torch.finfo(dtype).eps, torch.finfo(dtype).tiny
    assert_near(value.detach(), exact(exact_mean, *points), relative, absolute)
    assert_near(by_x0, exact(exact_mean_by_x0, *points), relative, 1e-12 if dtype == torch.float64 else 1e-7)
    assert_near(by_z, exact(exact_mean_by_z, *points), relative, 1e-12 if dtype == torch.float64 else 1e-7)


def test_softplus_mean_against_plain_quadrature_where_that_is_exact():
    generator = torch.Generator().manual_seed(1)
    x0 = torch.randn(50, 3, generator=generator, dtype=torch.float64) * 3
    z = torch.randn(3, generator=generator, dtype=torch.float64)
    slow = unit_mean(lambda x: softplus(x0 + z * x), 40, x0)
    torch.testing.assert_close(softplus_mean(x0, z), slow, rtol=1e-13, atol=0)


def dense(x0: Tensor, z: Tensor) -> tuple[Tensor, ...]:
    """What devices other than the CPU compute: both branches for all entries."""
    from accord.tpp.numerics import softplus as unit

    return unit._chosen(x0, z, True, look=False)


def test_softplus_mean_is_the_same_with_and_without_looking_for_wide_segments():
    for dtype in DTYPES:
        x0, z = segments(dtype)
        x0.requires_grad_()
        z.requires_grad_()
        value = softplus_mean(x0, z)
        slopes = torch.autograd.grad(value.sum(), (x0, z))
        for a, b in zip((value, *slopes), dense(x0, z), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0)


FUNCTIONS = {"phi": (phi, 1), "integral": (softplus_integral, 1), "log": (log_softplus, 1), "mean": (softplus_mean, 2)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_second_derivatives(name):
    f, count = FUNCTIONS[name]
    # Away from the gates: finite differences across one would measure the rounding of both sides.
    x0 = torch.tensor([-3.0, -0.5, 0.3, 2.0, 1.5], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([0.01, -0.01, 0.7, -3.0, 4.0], dtype=torch.float64, requires_grad=True)
    points = (z,) if count == 1 else (x0, z)
    assert torch.autograd.gradcheck(f, points, atol=1e-7)
    assert torch.autograd.gradgradcheck(f, points, atol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_batched_cotangents_and_vmap(name):
    f, count = FUNCTIONS[name]
    points = [torch.linspace(-2, 3, 9, dtype=torch.float64, requires_grad=True).roll(k) for k in range(count)]
    value = f(*points)
    cotangents = torch.eye(9, dtype=torch.float64)[:4]
    together = torch.autograd.grad(value, points, cotangents, is_grads_batched=True, retain_graph=True)
    apart = [torch.autograd.grad(value, points, c, retain_graph=True) for c in cotangents]
    for a, b in zip(together, zip(*apart, strict=True), strict=True):
        torch.testing.assert_close(a, torch.stack(b), rtol=0, atol=0)
    torch.testing.assert_close(torch.vmap(f)(*points), value, rtol=1e-15, atol=0)
