"""What RMTPP, LNM, JointLNM, STHP, Poisson and the mark heads each must satisfy, and their sizes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from direct import D, M, N, gaps, histories, legendre, moderate, rescale
from torch import Tensor, nn

from accord.tpp.decoders.joint_lnm import JointLNM
from accord.tpp.decoders.lnm import LNM
from accord.tpp.decoders.poisson import Poisson
from accord.tpp.decoders.rmtpp import RMTPP
from accord.tpp.decoders.sthp import STHP, STHPMarkHead
from accord.tpp.errors import TPPError
from accord.tpp.heads import MarkHead

# RMTPP


def rmtpp(growth: float, rate: float = 0.3) -> RMTPP:
    part = moderate(RMTPP(D))
    with torch.no_grad():
        part.growth.fill_(growth)
        part.rate.fill_(rate)
    return part


def test_rmtpp_without_growth_is_a_poisson_process() -> None:
    part, h, tau = rmtpp(0.0), histories(), gaps()
    rate = (part.rate + part.level(h).squeeze(1).exp()).detach()
    log_density, compensator = part.density(h, tau)
    torch.testing.assert_close(compensator, rate * tau)
    torch.testing.assert_close(log_density, rate.log() - rate * tau)
    # d Lambda/dw at w = 0 is e^x tau^2/2, because phi'(0) = 1/2.
    (slope,) = torch.autograd.grad(compensator.sum(), part.growth)
    torch.testing.assert_close(slope, ((rate - part.rate) * tau**2 / 2).sum())


@pytest.mark.parametrize("growth", [-2.0, -1e-9, 0.0, 1e-9, 2.0])
def test_rmtpp_compensator_against_quadrature(growth: float) -> None:
    part, h = rmtpp(growth), histories()[:5]
    x, w = legendre(64)
    tau = torch.tensor([1e-3, 0.1, 1.0, 3.0, 5.0]).double()
    points = tau[:, None] * x  # (5, 64)
    intensity = part.rate + torch.exp(part.level(h) + part.growth * points)
    torch.testing.assert_close(part.compensator(h, tau), tau * (intensity @ w), rtol=1e-12, atol=0)


def test_rmtpp_survives_an_exponential_that_overflows_alone() -> None:
    part = rmtpp(1.0).float()
    with torch.no_grad():
        part.level.weight.zero_()
        part.level.bias.fill_(-200.0)
    tau = torch.tensor([250.0], requires_grad=True)
    value = part.compensator(torch.zeros(1, D), tau)
    assert value.item() == pytest.approx(0.3 * 250 + math.exp(50), rel=1e-4)  # e^-200 and e^250 are no float32
    gradients = torch.autograd.grad(value, [tau, *part.parameters()])
    assert all(g.isfinite().all() for g in gradients)


def test_rmtpp_keeps_its_rate_positive() -> None:
    part = rmtpp(-5.0, rate=-1.0)
    part.project_()
    assert part.rate.item() == 1e-10
    log_density, _ = part.density(histories(), torch.full((N,), 1e3).double())
    (slope,) = torch.autograd.grad(log_density.sum(), part.rate)
    assert slope.isfinite()


# LNM


def reference(part: LNM, h: Tensor) -> torch.distributions.Distribution:
    logits, mean, log_std = part.mixture(h)
    components = torch.distributions.LogNormal(mean, log_std.exp())
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), components)


def test_lnm_agrees_with_torch_distributions() -> None:
    part, h, tau = moderate(LNM(D, 7)), histories(), gaps(-2.0, 1.0)
    known = reference(part, h)
    log_density, compensator = part.density(h, tau)
    torch.testing.assert_close(log_density, known.log_prob(tau))
    torch.testing.assert_close(part.log_density(h, tau), known.log_prob(tau))
    torch.testing.assert_close(-torch.expm1(-compensator), known.cdf(tau))
    torch.testing.assert_close(part.mean(h), known.mean)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_lnm_survival_of_both_tails_keeps_its_digits(dtype: torch.dtype, tolerance: float) -> None:
    scipy = pytest.importorskip("scipy.special")
    part = LNM(D, 1).to(dtype)
    with torch.no_grad():
        part.maps.weight.zero_()
        part.maps.bias.zero_()  # one standard log-normal
    z = torch.linspace(-12, 80, 400, dtype=dtype).requires_grad_()
    found = part.compensator(torch.zeros(len(z), D, dtype=dtype), z.exp())
    (slope,) = torch.autograd.grad(found.sum(), z)
    at = z.detach().exp().log().double().numpy()
    left = -scipy.log_ndtr(-at)  # -log(1 - F)
    expected = np.where(at < 0, -np.log1p(-scipy.ndtr(np.minimum(at, 0))), left)
    hazard = np.exp(-at * at / 2 + left) / math.sqrt(2 * math.pi)
    torch.testing.assert_close(found.double(), torch.from_numpy(expected), rtol=tolerance, atol=0)
    torch.testing.assert_close(slope.double(), torch.from_numpy(hazard), rtol=max(tolerance, 1e-12), atol=0)


def test_lnm_far_in_the_tail_has_a_finite_gradient() -> None:
    part = moderate(LNM(D, 7))
    h, tau = histories().requires_grad_(), torch.full((N,), 1e40, dtype=torch.float64)
    log_density, compensator = part.density(h, tau)
    far = compensator > -math.log(1e-12)
    assert far.any()
    assert (log_density[far] < -23).all()
    for value in (log_density, compensator):
        found = torch.autograd.grad(value[far].sum(), [h, *part.parameters()], retain_graph=True)
        assert all(g.isfinite().all() for g in found)
        assert found[0][far].abs().sum() > 0


# JointLNM


def test_joint_lnm_of_one_mark_is_lnm() -> None:
    joint, single = moderate(JointLNM(D, 1, 7, 4)), moderate(LNM(D, 7))
    joint.maps.load_state_dict(single.maps.state_dict())
    h, tau = histories(), gaps()
    log_density, compensator, log_marks = joint.joint(h, tau)
    torch.testing.assert_close((log_density, compensator), single.density(h, tau))
    assert (log_marks == 0).all()


def test_joint_lnm_is_a_mixture_over_marks() -> None:
    part, h, tau = moderate(JointLNM(D, M, 3, 4)), histories(), gaps(-2.0, 1.0)
    logits, mean, log_std = (x.view(N, M, 3) for x in part.maps(h).chunk(3, 1))
    components = torch.distributions.LogNormal(mean, log_std.exp())
    given = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=logits), components)
    prior = part.prior.log_marks(h, tau)
    expected = prior + given.log_prob(tau[:, None])  # (N, M) log f(tau, k)
    log_density, compensator, log_marks = part.joint(h, tau)
    torch.testing.assert_close(log_density[:, None] + log_marks, expected)
    torch.testing.assert_close(-torch.expm1(-compensator), (prior.exp() * given.cdf(tau[:, None])).sum(1))


# STHP


def sthp_argument(part: STHP, row: Tensor, tau: Tensor) -> Tensor:
    """The argument of the softplus for one history and many times, as the formula reads."""
    (w1, w2), (b1, b2) = part.ramps.history.weight.chunk(2), part.ramps.history.bias.chunk(2)
    units = torch.tanh(torch.tanh(w1 @ row + b1) * tau[:, None] + w2 @ row + b2)
    return units @ part.out.weight[0] + part.out.bias


def test_sthp_is_its_formula_with_64_nodes() -> None:
    part, h, tau = moderate(STHP(D, 8)), histories(), gaps(-4.0, 0.5)
    log_density, compensator = part.density(h, tau)
    x, w = legendre(64)
    b = part.sharpness + 1e-3
    for i in range(N):
        at = torch.cat((tau[i] * x, tau[i : i + 1]))
        intensity = torch.logaddexp(torch.zeros(()).double(), b * sthp_argument(part, h[i], at)) / b  # (65,)
        torch.testing.assert_close(compensator[i], tau[i] * (w @ intensity[:-1]), rtol=1e-5, atol=0)
        torch.testing.assert_close(log_density[i] + compensator[i], intensity[-1].log(), rtol=1e-10, atol=1e-10)


def test_sthp_without_units_has_a_constant_intensity() -> None:
    part, h, tau = moderate(STHP(D, 8)), histories(), gaps()
    with torch.no_grad():
        part.out.weight.zero_()
    b = part.sharpness.item() + 1e-3
    rate = math.log1p(math.exp(b * part.out.bias.item())) / b
    log_density, compensator = part.density(h, tau)
    torch.testing.assert_close(compensator, rate * tau)
    torch.testing.assert_close(log_density, math.log(rate) - rate * tau)


def test_sthp_marks_are_their_formula() -> None:
    part, h, tau = moderate(STHPMarkHead(D, M)), histories(), gaps()
    (m1, m2), (c1, c2) = part.ramps.history.weight.chunk(2), part.ramps.history.bias.chunk(2)
    units = torch.tanh(torch.tanh(h @ m1.T + c1) * tau[:, None] + h @ m2.T + c2)
    torch.testing.assert_close(part.log_marks(h, tau), torch.log_softmax(part.out(units), 1))


def test_sthp_keeps_its_sharpness_from_being_negative() -> None:
    part = STHP(D, 8)
    with torch.no_grad():
        part.sharpness.fill_(-1.0)
    part.project_()
    assert part.sharpness.item() == 0.0


# Poisson


def test_poisson_is_its_formula_whatever_the_history() -> None:
    part, h, tau = moderate(Poisson(M)), histories().requires_grad_(), gaps()
    rates = part.log_rates.exp()
    log_density, compensator, log_marks = part.joint(h, tau)
    torch.testing.assert_close(compensator, rates.sum() * tau)
    torch.testing.assert_close(log_density, rates.sum().log() - rates.sum() * tau)
    torch.testing.assert_close(log_marks, (rates / rates.sum()).log().expand(N, M))
    assert torch.autograd.grad(log_density.sum() + log_marks.sum(), h, allow_unused=True) == (None,)


# Mark heads


@pytest.mark.parametrize("grouping", ["joint", "additive"])
def test_the_mark_head_is_its_formula(grouping: str) -> None:
    part = moderate(MarkHead(D, M, 9, timed=True, grouping=grouping, floor=0.1))
    h, tau = histories(), gaps()
    entry = torch.cat((h, torch.log(torch.clamp(tau, min=0.1))[:, None]), 1)  # (N, D + 1)
    hidden = entry @ torch.cat((part.history.weight, part.gap.weight), 1).T + part.history.bias
    if grouping == "additive":
        hidden = hidden + part.gap.bias
    torch.testing.assert_close(part.log_marks(h, tau), torch.log_softmax(part.out(torch.relu(hidden)), 1))
    scaled = part.log_marks(h, tau)
    rescale(part, 7.0)
    part.floor *= 7.0
    torch.testing.assert_close(part.log_marks(h, 7.0 * tau), scaled)


def test_a_time_free_head_ignores_the_gap() -> None:
    part, h = moderate(MarkHead(D, M, 9, timed=False)), histories()
    assert torch.equal(part.log_marks(h, gaps()), part.log_marks(h, gaps() + 1))


def test_a_joint_map_starts_as_one_linear_layer_would() -> None:
    part = MarkHead(3, 2, 4000, timed=True)
    for parameter in (part.history.weight, part.history.bias, part.gap.weight):
        assert 0.49 < parameter.abs().max() <= 0.5  # U(-1/sqrt(D + 1), 1/sqrt(D + 1))


@pytest.mark.parametrize("wrong", [{"activation": "rellu"}, {"grouping": "add"}])
def test_unknown_options_of_a_head_raise(wrong: dict[str, str]) -> None:
    with pytest.raises(TPPError, match="Did you mean '(relu|additive)'"):
        MarkHead(D, M, 9, timed=True, **wrong)


# Sizes: the published totals of parameters less the encoder's.


def encoder_size(marks: int, rnn: int, mid: int, dim: int, emb: int = 8) -> int:
    gru = 3 * rnn * (emb + rnn) + 6 * rnn
    return emb * marks + gru + rnn * mid + mid + mid * dim + dim


def lnm_parts(timed: bool) -> Callable[[int, int], list[nn.Module]]:
    return lambda d, m: [LNM(d, 32), MarkHead(d, m, 16, timed=timed)]


def rmtpp_parts(timed: bool) -> Callable[[int, int], list[nn.Module]]:
    return lambda d, m: [RMTPP(d), MarkHead(d, m, m, timed=timed)]


def sthp_parts(d: int, m: int) -> list[nn.Module]:
    return [STHP(d, m), STHPMarkHead(d, m)]


PUBLISHED = {  # widths rnn, mid, D; encoders; totals for 50, 22 and 8 marks; parts of the decoder
    "lnm": ((42, 32, 32), 1, (13930, 13230, 12880), lnm_parts(timed=False)),
    "lnm+": ((42, 32, 32), 1, (13946, 13246, 12896), lnm_parts(timed=True)),
    "lnm++": ((28, 16, 32), 2, (13762, 12838, 12376), lnm_parts(timed=True)),
    "lnm++ (27)": ((27, 16, 32), 2, (13340, 12416, 11954), lnm_parts(timed=True)),
    "rmtpp": ((42, 32, 32), 1, (13619, 10427, 9419), rmtpp_parts(timed=False)),
    "rmtpp+": ((42, 32, 32), 1, (13669, 10449, 9427), rmtpp_parts(timed=True)),
    "rmtpp++": ((27, 16, 32), 2, (13063, 9619, 8485), rmtpp_parts(timed=True)),
    "rmtpp++ (40;16;16)": ((40, 16, 16), 2, (18125, 15129, 14219), rmtpp_parts(timed=True)),
    "sthp+": ((42, 32, 32), 1, (18586, 12594, 10186), sthp_parts),
    "sthp++": ((28, 16, 32), 2, (18402, 12186, 9666), sthp_parts),
    "joint_lnm": ((42, 32, 32), 1, (169162, 79758, 35056), lambda d, m: [JointLNM(d, m, 32, 16)]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    (rnn, mid, dim), encoders, totals, parts = PUBLISHED[name]
    for marks, total in zip((50, 22, 8), totals, strict=True):
        found = sum(p.numel() for part in parts(dim, marks) for p in part.parameters())
        assert found + encoders * encoder_size(marks, rnn, mid, dim) == total
