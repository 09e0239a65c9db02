"""Laws of RMTPP, LNM, JointLNM, STHP, Poisson and of every mark head."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from direct import FLOOR, D, M, N, gaps, histories, legendre, moderate, rescale
from torch import Tensor

from accord.tpp.decoders.joint_lnm import JointLNM
from accord.tpp.decoders.lnm import LNM
from accord.tpp.decoders.part import JointPart, MarkPart, TimePart
from accord.tpp.decoders.poisson import Poisson
from accord.tpp.decoders.rmtpp import RMTPP
from accord.tpp.decoders.sthp import STHP, STHPMarkHead
from accord.tpp.heads import MarkHead

TIMES: dict[str, Callable[[], TimePart]] = {
    "rmtpp": lambda: RMTPP(D),
    "lnm": lambda: LNM(D, 7),
    "joint_lnm": lambda: JointLNM(D, M, 3, 4),
    "sthp": lambda: STHP(D, 8),
    "poisson": lambda: Poisson(M),
}
MARKS: dict[str, Callable[[], MarkPart]] = {
    "head": lambda: MarkHead(D, M, 9, timed=True),
    "time_free_head": lambda: MarkHead(D, M, 9, timed=False),
    "additive_head": lambda: MarkHead(D, M, 9, timed=True, activation="tanh", grouping="additive"),
    "sigmoid_head": lambda: MarkHead(D, M, 9, timed=True, activation="sigmoid"),
    "sthp_marks": lambda: STHPMarkHead(D, M),
    "joint_lnm": lambda: JointLNM(D, M, 3, 4),
    "poisson": lambda: Poisson(M),
}
QUADRATURE = {"sthp": 1e-5}  # relative error left to a compensator that is not closed

times = pytest.mark.parametrize("name", TIMES)
marks = pytest.mark.parametrize("name", MARKS)


def integral(f: Callable[[Tensor], Tensor], upper: float, panels: int = 1000, count: int = 20) -> Tensor:
    """``int_0^upper f``, in panels of log time: wide log-normals have mass many orders of magnitude below 1.

    Of components with log tau in N(m, s^2), |m| < 2.8 and 0.06 < s < 16.5, less than 1e-20 lies below e^-160, and a
    panel is at most 3 s wide, which 20 nodes integrate to rounding.
    """
    x, w = legendre(count)
    edges = torch.linspace(-160, math.log(upper), panels + 1, dtype=torch.float64)
    width = edges.diff()
    points = (edges[:-1, None] + width[:, None] * x).flatten().exp()  # (panels * count,)
    return (f(points) * points * (width[:, None] * w).flatten()).sum()


@times
@pytest.mark.parametrize("upper", [0.1, 2.0, 30.0])
def test_the_density_and_the_survival_add_up_to_one(name: str, upper: float) -> None:
    part, h = moderate(TIMES[name]()), histories()
    for row in h[:4]:
        inside = integral(lambda tau, row=row: part.density(row.expand(len(tau), -1), tau)[0].exp(), upper)
        beyond = torch.exp(-part.compensator(row[None], torch.tensor([upper]).double()))
        # The sum is F + S; a compensator with an error of r relative moves it by at most r Lambda e^-Lambda < r/2.
        assert (inside + beyond).item() == pytest.approx(1.0, abs=max(1e-8, QUADRATURE.get(name, 0.0)))


@times
def test_the_slope_of_the_compensator_is_the_intensity(name: str) -> None:
    part, h, tau = moderate(TIMES[name]()), histories(), gaps().requires_grad_()
    log_density, compensator = part.density(h, tau)
    (slope,) = torch.autograd.grad(compensator.sum(), tau)
    tolerance = 20 * QUADRATURE.get(name, 5e-10)  # differentiation costs a quadrature digits
    torch.testing.assert_close(slope, (log_density + compensator).exp(), rtol=tolerance, atol=1e-300)


@times
def test_the_compensator_starts_at_zero_exactly_and_never_decreases(name: str) -> None:
    for dtype in (torch.float32, torch.float64):
        part, h = moderate(TIMES[name](), dtype), histories(dtype)
        tau = torch.zeros(N, dtype=dtype, requires_grad=True)
        start = part.compensator(h, tau)
        assert (start == 0).all()
        found = torch.autograd.grad(start.sum(), [tau, *part.parameters()], allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in found)
        longest = 0.5 if name in QUADRATURE else 2.0  # ramps shorter than the distance of two nodes are seen by no rule
        grid = torch.cat((torch.zeros(1), torch.logspace(-6, longest, 300))).to(dtype)
        along = torch.stack([part.compensator(row.expand(len(grid), -1), grid) for row in h])  # (N, 301)
        assert (along >= 0).all()
        slack = QUADRATURE.get(name, 8 * torch.finfo(dtype).eps)
        assert (along.diff() >= -slack * along[:, 1:]).all()


@times
def test_each_term_alone_is_as_in_the_density(name: str) -> None:
    part, h, tau = moderate(TIMES[name]()), histories(), gaps()
    log_density, compensator = part.density(h, tau)
    torch.testing.assert_close(part.log_density(h, tau), log_density, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(part.compensator(h, tau), compensator, rtol=1e-13, atol=0)


@marks
def test_marks_sum_to_one(name: str) -> None:
    part = moderate(MARKS[name]())
    log_marks = part.log_marks(histories(), gaps())
    assert log_marks.shape == (N, M)
    torch.testing.assert_close(log_marks.exp().sum(1), torch.ones(N, dtype=torch.float64))


@pytest.mark.parametrize("name", ["joint_lnm", "poisson"])
def test_joint_parts_say_the_same_in_every_form(name: str) -> None:
    part, h, tau = moderate(TIMES[name]()), histories(), gaps()
    assert isinstance(part, JointPart)
    log_density, compensator, log_marks = part.joint(h, tau)
    torch.testing.assert_close(part.density(h, tau), (log_density, compensator))
    torch.testing.assert_close(part.log_joint(h, tau), (log_density, log_marks))
    torch.testing.assert_close(part.log_marks(h, tau), log_marks)


@times
@pytest.mark.parametrize("gap", [FLOOR, 1e-12, 1e3])
def test_values_and_gradients_are_finite_at_extreme_gaps(name: str, gap: float) -> None:
    part, h = TIMES[name](), histories(torch.float32).requires_grad_()
    log_density, compensator = part.density(h, torch.full((N,), gap))
    assert log_density.isfinite().all()
    assert compensator.isfinite().all()
    for value in (log_density, compensator):
        found = torch.autograd.grad(value.sum(), [h, *part.parameters()], retain_graph=True, allow_unused=True)
        assert all(g is None or g.isfinite().all() for g in found)


@marks
@pytest.mark.parametrize("gap", [FLOOR, 1e-12, 1e3])
def test_marks_are_finite_at_extreme_gaps(name: str, gap: float) -> None:
    part, h = MARKS[name](), histories(torch.float32).requires_grad_()
    log_marks = part.log_marks(h, torch.full((N,), gap))
    assert log_marks.isfinite().all()
    found = torch.autograd.grad(log_marks[:, 0].sum(), [h, *part.parameters()], allow_unused=True)
    assert all(g is None or g.isfinite().all() for g in found)


@times
def test_float32_agrees_with_float64(name: str) -> None:
    part, h, tau = moderate(TIMES[name](), torch.float32), histories(torch.float32), gaps(-6.0, 2.0).float()
    log_density, compensator = part.density(h, tau)
    part.double()
    exact_density, exact_compensator = part.density(h.double(), tau.double())
    torch.testing.assert_close(log_density.double(), exact_density, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(compensator.double(), exact_compensator, rtol=1e-4, atol=1e-30)


@marks
def test_marks_in_float32_agree_with_float64(name: str) -> None:
    part, h, tau = moderate(MARKS[name](), torch.float32), histories(torch.float32), gaps(-6.0, 2.0).float()
    found = part.log_marks(h, tau)
    torch.testing.assert_close(found.double(), part.double().log_marks(h.double(), tau.double()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["rmtpp", "sthp", "poisson"])
def test_the_bound_is_never_exceeded_and_is_reached_where_it_is_exact(name: str) -> None:
    part, h = moderate(TIMES[name]()), histories()
    low = gaps()
    high = 3 * low + 0.5
    bound = part.bound(h, low, high)
    assert bound.shape == (N,)
    inside = torch.linspace(0, 1, 101, dtype=torch.float64)
    log_density, compensator = (
        torch.stack(x) for x in zip(*(part.density(h, low + s * (high - low)) for s in inside), strict=True)
    )  # (101, N) twice
    intensity = torch.exp(log_density + compensator)
    # The compensator is added to what it was subtracted from: that rounds log lambda by some eps Lambda.
    rounding = 8 * torch.finfo(torch.float64).eps * (1 + compensator)
    assert (intensity <= bound * (1 + rounding)).all()
    if name != "sthp":  # its bound takes every unit at its own best end
        torch.testing.assert_close(intensity.amax(0), bound)


def test_families_without_a_bound_say_so() -> None:
    with pytest.raises(NotImplementedError, match="LNM has no bound"):
        LNM(D, 2).bound(histories(), gaps(), gaps())


@pytest.mark.parametrize("name", sorted({*TIMES, *MARKS}))
def test_batched_cotangents_give_the_same_gradients(name: str) -> None:
    part = moderate((TIMES.get(name) or MARKS[name])())
    h, tau = histories().requires_grad_(), gaps().requires_grad_()
    outputs = [part.log_marks(h, tau)] if isinstance(part, MarkPart) else []
    if isinstance(part, TimePart):
        outputs += part.density(h, tau)
    inputs = [h, tau, *part.parameters()]
    for output in outputs:
        cotangents = torch.randn(3, *output.shape, dtype=output.dtype)
        options = {"retain_graph": True, "allow_unused": True}
        together = torch.autograd.grad(output, inputs, cotangents, is_grads_batched=True, **options)
        for i, cotangent in enumerate(cotangents):
            alone = torch.autograd.grad(output, inputs, cotangent, **options)
            for found, expected in zip(together, alone, strict=True):
                assert (found is None) == (expected is None)
                if found is not None:
                    torch.testing.assert_close(found[i], expected)


@pytest.mark.parametrize("name", sorted({*TIMES, *MARKS}))
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    part = moderate((TIMES.get(name) or MARKS[name])())
    h, tau = histories()[:3].requires_grad_(), gaps()[[0, 20, 39]].requires_grad_()
    if isinstance(part, TimePart):
        assert torch.autograd.gradcheck(part.density, (h, tau))
    if isinstance(part, MarkPart):
        assert torch.autograd.gradcheck(part.log_marks, (h, tau))


@times
def test_a_change_of_the_unit_of_time_shifts_the_log_density(name: str) -> None:
    part, h, tau, c = moderate(TIMES[name]()), histories(), gaps(), 7.0
    if isinstance(part, STHP):
        with torch.no_grad():
            part.ramps.history.weight[: part.out.in_features] = 0.0
    log_density, compensator = part.density(h, tau)
    rescale(part, c)
    scaled_density, scaled_compensator = part.density(h, c * tau)
    torch.testing.assert_close(scaled_density, log_density - math.log(c))
    torch.testing.assert_close(scaled_compensator, compensator)


@pytest.mark.parametrize("name", sorted({*TIMES, *MARKS}))
def test_no_events_are_no_special_case(name: str) -> None:
    part = (TIMES.get(name) or MARKS[name])()
    h, tau = torch.empty(0, D), torch.empty(0)
    if isinstance(part, TimePart):
        assert [x.shape for x in part.density(h, tau)] == [(0,), (0,)]
    if isinstance(part, MarkPart):
        assert part.log_marks(h, tau).shape == (0, M)


def test_blocks_of_events_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    part, h, tau = moderate(JointLNM(D, M, 3, 4)), histories(), gaps()
    whole = part.joint(h, tau)
    monkeypatch.setattr("accord.tpp.decoders.joint_lnm.BLOCK", 7 * part.maps.out_features)  # 40 events in blocks of 7
    torch.testing.assert_close(part.joint(h, tau), whole)
