"""THP, SAHP and FNN against the plain formulas, quadrature on many panels and autograd.

Every fast path is compared in float64 with `rates`, the definitions written down once more without any care for
speed or range. N, L, n, M, D, C, U as in the package.
"""

import copy
import math

import pytest
import torch
from intensity_oracles import (
    FLOOR,
    PARTS,
    QUADRATURE,
    D,
    U,
    integral,
    panels,
    rates,
    sahp_rates,
    scattered,
    thp_rates,
)
from torch import Tensor

from accord.tpp.decoders import sahp
from accord.tpp.decoders.fnn import FNN
from accord.tpp.decoders.intensities import Intensities
from accord.tpp.decoders.sahp import SAHP, relaxing_mean
from accord.tpp.decoders.thp import THP


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=PARTS)
def part(request) -> Intensities:
    return scattered(PARTS[request.param](), 0.5)


@pytest.fixture
def h() -> Tensor:
    return torch.randn(40, D)


@pytest.fixture
def tau() -> Tensor:
    return torch.logspace(-5, 1, 40)


def name_of(p: Intensities) -> str:
    return type(p).__name__.lower()


def test_intensities_follow_their_definition(part, h, tau):
    torch.testing.assert_close(part.log_intensities(h, tau).exp(), rates(part, h, tau), rtol=1e-9, atol=1e-12)


def test_compensators_are_integrals(part, h, tau):
    low = FLOOR if isinstance(part, FNN) else 0.0  # below the floor an FNN has its constant rate alone
    expected = integral(part, h[::4], tau[::4], low, 24)
    if isinstance(part, FNN):
        expected = expected + part.mu * low
    found = part.compensators(h[::4], tau[::4])
    torch.testing.assert_close(found, expected, rtol=QUADRATURE[name_of(part)], atol=1e-12)


def test_slope_of_the_compensator_is_the_intensity(part, h, tau):
    tau = tau.requires_grad_()
    found = part.compensators(h, tau)
    slopes = torch.stack([torch.autograd.grad(f.sum(), tau, retain_graph=True)[0] for f in found.T], 1)
    tolerance = QUADRATURE[name_of(part)]
    torch.testing.assert_close(slopes, part.log_intensities(h, tau).exp(), rtol=tolerance, atol=1e-9)


def test_compensator_starts_at_zero_and_never_falls(part, h):
    assert (part.compensator(h, torch.zeros(40)) == 0).all()
    assert (part.float().compensator(h.float(), torch.zeros(40, dtype=torch.float32)) == 0).all()
    times = torch.cat((torch.zeros(1), torch.logspace(-8, 3, 200)))
    for row in h[:5].double():
        grown = part.double().compensator(row.expand(201, D), times)
        assert (grown.diff() >= -1e-13 * grown[1:]).all()


@pytest.mark.parametrize("end", [0.1, 1.0, 30.0])
def test_density_and_survival_fill_the_unit_interval(part, h, end):
    edges = torch.logspace(math.log10(FLOOR), math.log10(end), 40)  # the density of an FNN begins at its floor
    times, weights = panels(edges, 32)
    for row in h[:3]:
        log_f, _ = part.density(row.expand(len(times), D), times)
        first, left = torch.exp(-part.compensator(row.expand(2, D), edges[[0, -1]]))
        torch.testing.assert_close(weights @ log_f.exp(), first - left, atol=1e-5, rtol=0)
        assert 1 - first < 1e-3


def test_parts_of_the_joint_form_agree(part, h, tau):
    log_f, compensator, log_p = part.joint(h, tau)
    units, grown = part.both(h, tau)
    torch.testing.assert_close(units, part.log_intensities(h, tau))
    torch.testing.assert_close(grown, part.compensators(h, tau))
    torch.testing.assert_close(grown.sum(1), compensator)
    torch.testing.assert_close(part.compensator(h, tau), compensator)
    torch.testing.assert_close(part.density(h, tau), (log_f, compensator))
    torch.testing.assert_close(part.log_marks(h, tau), log_p)
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(40))
    torch.testing.assert_close(log_f + compensator, units.logsumexp(1))
    torch.testing.assert_close((log_f + compensator)[:, None] + log_p, units)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PARTS)
def test_extreme_gaps_are_finite_with_finite_gradients(name, dtype):
    part = PARTS[name]().to(dtype)
    part.project_()
    h = torch.randn(3, D, dtype=dtype).requires_grad_()
    tau = torch.tensor([FLOOR, FLOOR, 1e3], dtype=dtype)
    open_end = torch.tensor([0.0, 1e-12, 1e3], dtype=dtype)
    log_f, _, log_p = part.joint(h, tau)
    terms = [*log_f, *part.compensator(h, open_end), *log_p.T[0]]
    for term in terms:
        grads = torch.autograd.grad(term, [h, *part.parameters()], retain_graph=True, allow_unused=True)
        assert term.isfinite()
        assert all(g.isfinite().all() for g in grads if g is not None)


@pytest.mark.parametrize("name", PARTS)
def test_single_precision_is_close_to_double(name):
    part = PARTS[name]().float()
    part.project_()
    h, tau = torch.randn(500, D, dtype=torch.float32), torch.logspace(-5.9, 2, 500, dtype=torch.float32)
    single, double = part.joint(h, tau), copy.deepcopy(part).double().joint(h.double(), tau.double())
    for a, b in zip(single, double, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [THP, SAHP])
def test_single_precision_compensators_of_stiff_intensities(kind):
    errors = []
    for _ in range(20):
        part = scattered(kind(D, U), 1.5).float()
        h, tau = 2 * torch.randn(20, D, dtype=torch.float32), 10 ** (6 * torch.rand(20, dtype=torch.float32) - 4)
        expected = integral(copy.deepcopy(part).double(), h.double(), tau.double()).sum(1)
        errors.append((part.compensator(h, tau).double() - expected).abs() / expected.clamp(min=0.05))
    assert torch.cat(errors).quantile(0.99) < 1e-5


def test_gradients_are_the_same_for_many_cotangents_at_once(part, h, tau):
    inputs = [h.requires_grad_(), *part.parameters()]
    log_f, compensator, log_p = part.joint(h, tau)
    output = torch.stack((log_f.sum(), compensator.sum(), log_p[:, 0].sum()))  # (3,)
    together = torch.autograd.grad(output, inputs, torch.eye(3), is_grads_batched=True, retain_graph=True)
    for i in range(3):
        alone = torch.autograd.grad(output[i], inputs, retain_graph=True)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[i], b)


def test_gradients_match_finite_differences(part):
    h = torch.randn(3, D, requires_grad=True)
    tau = torch.tensor([1e-3, 0.4, 5.0], requires_grad=True)
    names = [name for name, _ in part.named_parameters()]

    def terms(h: Tensor, tau: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return torch.func.functional_call(part, dict(zip(names, values, strict=True)), (h, tau))

    part.forward = part.joint
    assert torch.autograd.gradcheck(terms, (h, tau, *part.parameters()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [THP, SAHP])
def test_bound_holds_on_a_dense_grid_and_is_reached_by_one_unit(kind):
    part, h = scattered(kind(D, U)), torch.randn(30, D)
    low, width = torch.rand(30), 5 * torch.rand(30)
    grid = torch.stack([part.log_intensities(h, low + s * width).exp().sum(1) for s in torch.linspace(0, 1, 101)])
    bound = part.bound(h, low, low + width)
    assert (grid <= bound * (1 + 1e-12)).all()
    single = scattered(kind(D, 1))
    grid = torch.stack([single.log_intensities(h, low + s * width).exp().sum(1) for s in torch.linspace(0, 1, 101)])
    torch.testing.assert_close(single.bound(h, low, low + width), grid.amax(0))


def test_fnn_has_no_bound(h, tau):
    with pytest.raises(NotImplementedError, match="FNN has no bound"):
        FNN(D, U, 7).bound(h, tau, 2 * tau)


def test_thp_without_slope_is_a_constant_rate(h, tau):
    part = scattered(THP(D, U))
    with torch.no_grad():
        part.time.weight.zero_()
    expected = thp_rates(part, h, tau) * tau[:, None]
    torch.testing.assert_close(part.compensators(h, tau), expected, rtol=1e-14, atol=0)
    (slope,) = torch.autograd.grad(part.compensator(h, tau).sum(), part.time.weight)
    with torch.no_grad():
        part.time.weight.fill_(1e-4)
        above = part.compensators(h, tau).sum(0)
        part.time.weight.fill_(-1e-4)
        below = part.compensators(h, tau).sum(0)
    torch.testing.assert_close(slope[:, 0], (above - below) / 2e-4, rtol=1e-6, atol=0)


@pytest.mark.parametrize("length", [0.0, 1e-6, 1e-2, 0.1, 0.13, 0.9, 1.1, 30.0])
def test_thp_gradients_on_both_sides_of_every_gate(length):
    part = THP(1, 3)
    with torch.no_grad():
        part.time.weight.copy_(torch.tensor([[length], [-length], [0.7 * length]]) / (1 + 1e-3))
        part.history.weight.copy_(torch.tensor([[-6.0], [0.5], [5.0]]))
    part.forward = part.compensator
    names = [name for name, _ in part.named_parameters()]

    def found(*values: Tensor) -> Tensor:
        return torch.func.functional_call(
            part, dict(zip(names, values, strict=True)), (torch.ones(1, 1), torch.ones(1))
        )

    assert torch.autograd.gradcheck(found, tuple(part.parameters()), rtol=1e-5, atol=1e-8)


def test_sahp_without_change_is_a_constant_rate(h, tau):
    part = scattered(SAHP(D, U))
    with torch.no_grad():
        part.levels.weight[U:] = part.levels.weight[:U]
    torch.testing.assert_close(part.compensators(h, tau), sahp_rates(part, h, tau) * tau[:, None], rtol=1e-13, atol=0)


@pytest.mark.parametrize("decay", [0.0, 1e-12, 1e-4, 1.0, 30.0, 1e4])
def test_sahp_for_any_decay_over_the_gap(decay):
    """8 nodes against 64; no decay at all is the starting rate, complete decay the final one but for its beginning."""
    part = scattered(SAHP(D, U), 0.5)
    with torch.no_grad():
        part.rate.weight.zero_()  # gamma = log(2)/b'
    h, gamma = torch.randn(50, D), math.log(2) / (part.b_rate.detach() + 1e-3)
    with torch.no_grad():
        part.b_rate.fill_(1.0)
    gamma = math.log(2) / 1.001
    tau = torch.full((50,), decay / gamma)
    fine = SAHP(D, U, nodes=64)
    fine.load_state_dict(part.state_dict())
    torch.testing.assert_close(part.compensators(h, tau), fine.compensators(h, tau), rtol=1e-6, atol=1e-300)
    if decay == 1e4:
        expected = sahp_rates(part, h, tau) * tau[:, None]
        assert ((part.compensators(h, tau) - expected).abs() < 20 * 5 / gamma).all()
    if 0 < decay <= 1e-12:
        expected = sahp_rates(part, h, 0 * tau) * tau[:, None]
        torch.testing.assert_close(part.compensators(h, tau), expected, rtol=1e-9, atol=0)


def test_sahp_mean_matches_finite_differences_twice():
    end, change = 3 * torch.randn(5, 2), 3 * torch.randn(5, 2)
    path = torch.tensor([[0.1, 1e-3], [0.2, 0.3], [0.5, 1.0], [4.0, 10.0], [40.0, 1e3]])
    inputs = tuple(x.requires_grad_() for x in (end, change, path))
    assert torch.autograd.gradcheck(lambda *x: relaxing_mean(*x, 8), inputs)
    assert torch.autograd.gradgradcheck(lambda *x: relaxing_mean(*x, 8), inputs)


def test_sahp_slope_by_the_path_is_smooth_across_its_gate():
    path = torch.tensor([0.0, 1e-12, 1e-5, 0.2499999, 0.2500001, 1.0, 50.0])[:, None].requires_grad_()
    end, change = torch.full((7, 1), -1.0), torch.full((7, 1), 3.0)
    (slope,) = torch.autograd.grad(relaxing_mean(end, change, path, 64).sum(), path)
    x, w = panels(torch.linspace(0, 1, 51), 16)
    left = torch.exp(-path * x)
    expected = -(torch.sigmoid(end + change * left) * change * left * x) @ w
    torch.testing.assert_close(slope[:, 0], expected, rtol=1e-9, atol=0)


def test_sahp_does_not_depend_on_the_size_of_its_chunks(h, tau, monkeypatch):
    part = scattered(SAHP(D, U))
    whole = part.compensators(h, tau)
    monkeypatch.setitem(sahp.BUDGET, "cpu", 8 * U * 7)  # 40 events in chunks of 7
    torch.testing.assert_close(part.compensators(h, tau), whole, rtol=1e-14, atol=0)


def test_fnn_tangent_is_the_derivative(h, tau):
    part = scattered(FNN(D, U, 7))
    tau = tau.requires_grad_()
    grown = part.compensators(h, tau)
    slopes = torch.stack([torch.autograd.grad(g.sum(), tau, retain_graph=True)[0] for g in grown.T], 1)
    torch.testing.assert_close(part.log_intensities(h, tau).exp(), slopes, rtol=1e-13, atol=1e-13)


def test_fnn_grows_by_its_rate_alone_below_the_floor(h):
    part = scattered(FNN(D, U, 7))
    tau = torch.full((40,), FLOOR / 3)
    torch.testing.assert_close(part.compensators(h, tau), part.mu * tau[:, None], rtol=1e-15, atol=0)


def test_fnn_ground_form_is_the_sum_of_its_units(h, tau):
    part = scattered(FNN(D, U, 7))
    ground = FNN(D, U, 7, ground=True)
    ground.load_state_dict(part.state_dict() | {"mu": part.mu.sum(0, keepdim=True)})
    torch.testing.assert_close(ground.density(h, tau), part.density(h, tau))
    torch.testing.assert_close(ground.compensator(h, tau), part.compensator(h, tau))


@torch.no_grad()
def test_other_units_of_time_shift_log_densities(h, tau):
    """Log f(c tau) = log f(tau) - log c with parameters for the new unit; SAHP's levels know no such parameters."""
    c = 40.0
    thp, fnn = scattered(THP(D, U)), scattered(FNN(D, U, 7))
    new_thp, new_fnn = copy.deepcopy(thp), copy.deepcopy(fnn)
    for value, power in ((new_thp.history.weight, 1), (new_thp.history.bias, 1), (new_thp.time.bias, 1)):
        value /= c**power
    new_thp.time.weight /= c**2
    new_thp.b.copy_(c * (thp.b + 1e-3) - 1e-3)
    new_fnn.hidden.bias -= fnn.hidden.weight[:, 0] * math.log(c)
    new_fnn.mu /= c
    new_fnn.floor *= c
    for old, new in ((thp, new_thp), (fnn, new_fnn)):
        log_f, compensator, log_p = old.joint(h, tau)
        expected = (log_f - math.log(c), compensator, log_p)
        torch.testing.assert_close(new.joint(h, c * tau), expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_slower_relaxation_of_sahp_stretches_its_intensity(h, tau):
    part, c = scattered(SAHP(D, U)), 40.0
    slow = copy.deepcopy(part)
    slow.rate.weight /= c
    slow.b_rate.copy_(c * (part.b_rate + 1e-3) - 1e-3)
    torch.testing.assert_close(slow.compensators(h, c * tau), c * part.compensators(h, tau))


def test_projection_restores_every_constraint():
    for name, make in PARTS.items():
        part = make()
        with torch.no_grad():
            for value in part.parameters():
                value.fill_(-1.0)
        part.project_()
        constrained = {
            "thp": {"b": 0.0},
            "sahp": {"b": 0.0, "b_rate": 0.0},
        }.get(name, {"hidden.weight": 0, "out.weight": 0, "alpha": 0, "b_hidden": 0, "b_out": 0, "mu": 1e-10})
        for key, value in part.named_parameters():
            assert (value == constrained.get(key, -1.0)).all(), (name, key)


def test_weights_of_fnn_start_positive():
    part = FNN(D, U, 7)
    assert (part.hidden.weight > 0).all()
    assert (part.out.weight > 0).all()
    assert ((part.mu >= 0) & (part.mu <= 1)).all()
