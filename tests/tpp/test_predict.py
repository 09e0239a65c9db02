"""Distributions of the next event against brute-force integration, and `predict`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from accord.tpp.batch import collate
from accord.tpp.build import build
from accord.tpp.decoders.lnm import compensator as lnm_compensator
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.mixture_inverse import mixture_inverse
from accord.tpp.model import PointProcess
from accord.tpp.next_event import NextEvent
from accord.tpp.predict import extent, predict

M = 3
NAMED = [str(k) for k in range(M)]
LIMIT = 1e8
FAMILIES = ("thp", "sahp", "sthp+", "fnn", "fnn+", "lnm", "rmtpp", "joint-lnm", "poisson", "hawkes")
every = pytest.mark.parametrize("name", FAMILIES)


def sequences() -> Events:
    """Five sequences; the second has one event and an unknown start, the last is empty."""
    random = np.random.default_rng(1)
    lengths = (4, 1, 9, 6, 0)
    times = [np.cumsum(random.exponential(0.7, length)) for length in lengths]
    marks = [random.integers(0, M, length) for length in lengths]
    start = [0.0, np.nan, 0.0, 0.0, 0.0]
    return Events.of(times, marks, start=start, end=[5.0, np.nan, 15.0, 9.0, 2.0], names=NAMED)


def model_of(name: str, dtype: torch.dtype = torch.float64) -> PointProcess:
    model = build(name, M).to(torch.float64)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    model.project_()
    return model.to(dtype)


def ahead(model: PointProcess, elapsed: float | None = None) -> NextEvent:
    with torch.no_grad():
        h_time, h_mark = (h[:6] for h in model.encode(collate(sequences(), dtype=model.dtype)))
    wait = None if elapsed is None else h_time.new_full((len(h_time),), elapsed)
    return NextEvent(model, h_time, h_mark, LIMIT, 0.7, wait)


def brute(following: NextEvent, low: float = 1e-6, high: float = LIMIT) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log times (G,), and densities, compensators (n, G) and mark probabilities (n, G, M) there."""
    y = torch.linspace(math.log(low), math.log(high), 4001, dtype=torch.float64)
    density, compensator, chance = [], [], []
    for i in range(len(following)):
        one = (following.h_time[i].expand(len(y), -1), following.h_mark[i].expand(len(y), -1))
        found = following.model.decode(*one, y.exp())
        density.append(found.log_density.exp())
        compensator.append(found.compensator)
        chance.append(found.log_marks.exp())
    return y, torch.stack(density), torch.stack(compensator), torch.stack(chance)


@every
@pytest.mark.parametrize("elapsed", [None, 0.4])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@torch.no_grad()
def test_quantiles_invert_the_distribution(name, elapsed, dtype, close):
    following = ahead(model_of(name, dtype), elapsed)
    part, before = following.model.time_part, 0.0
    if elapsed is not None:
        before = part.compensator(following.h_time, following.elapsed)
    last = torch.zeros(len(following), dtype=dtype)
    for share in (0.0, 0.01, 0.5, 0.9, 0.999):
        gap = following.quantile(share)
        assert bool((gap >= last).all())
        assert elapsed is None or bool((gap >= following.elapsed).all())
        last, known, target = gap, gap.isfinite(), -math.log1p(-share)
        grown = part.compensator(following.h_time, torch.where(known, gap, LIMIT)) - before
        expected = torch.where(gap <= following.model.floor, grown, target)  # the floor is above low quantiles
        torch.testing.assert_close(grown[known], expected[known], rtol=close, atol=close)
        assert bool((grown[~known] < target).all())


@every
@torch.no_grad()
def test_mean_is_the_integral_of_the_survival(name):
    following = ahead(model_of(name))
    y, _, compensator, _ = brute(following, high=1e30 if "lnm" in name else LIMIT)
    mean = following.mean()
    expected = 1e-6 + torch.trapezoid((y - compensator).exp(), y)
    lost = torch.exp(-compensator[:, -1])  # mass that never comes
    known = torch.isfinite(mean)
    assert bool((lost[~known] > 1e-6).all())
    assert bool((lost[known] < 1e-6).all())
    torch.testing.assert_close(mean[known], expected[known], rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["poisson", "hawkes", "sahp", "thp", "fnn", "lnm", "rmtpp", "sthp+"])
@torch.no_grad()
def test_moments_after_a_wait_are_conditional(name):
    elapsed = 0.4
    following = ahead(model_of(name), elapsed)
    y, density, compensator, _ = brute(following, low=elapsed, high=1e30 if name == "lnm" else LIMIT)
    gone = following.model.time_part.compensator(following.h_time, following.elapsed)[:, None]
    expected = elapsed + torch.trapezoid((y - compensator + gone).exp(), y)
    mean, mode = following.mean(), following.mode()
    known = torch.isfinite(mean)
    torch.testing.assert_close(mean[known], expected[known], rtol=1e-3, atol=0)
    assert bool((mode >= elapsed).all())
    at_mode = following.model.time_part.log_density(following.h_time, mode).exp()
    assert bool((at_mode >= density.max(1).values * (1 - 1e-6)).all())


@every
@torch.no_grad()
def test_no_gap_is_denser_than_the_mode(name):
    following = ahead(model_of(name))
    _, density, _, _ = brute(following)
    at_mode = following.model.time_part.log_density(following.h_time, following.mode()).exp()
    assert bool((at_mode >= density.max(1).values * (1 - 1e-6)).all())


@torch.no_grad()
def test_mode_of_narrow_components():
    model = build("lnm", M).double()
    maps = model.time_part.maps
    maps.weight.zero_()
    count = maps.out_features // 3
    maps.bias[count : 2 * count] = torch.linspace(-3, 3, count)
    maps.bias[2 * count :] = -6.0
    following = ahead(model)
    _, density, _, _ = brute(following, low=1e-2)
    at_mode = model.time_part.log_density(following.h_time, following.mode()).exp()
    assert bool((at_mode >= density.max(1).values * (1 - 1e-6)).all())


@every
@torch.no_grad()
def test_marginal_marks_are_the_integral_over_times(name):
    following = ahead(model_of(name))
    y, density, compensator, chance = brute(following)
    weight = density * y.exp()  # per log time
    expected = torch.trapezoid(weight[:, :, None] * chance, y, dim=1) / torch.trapezoid(weight, y)[:, None]
    found = following.marginal_marks(64)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found), dtype=torch.float64))
    resolved = compensator[:, -1] > 20
    torch.testing.assert_close(found[resolved], expected[resolved], rtol=0, atol=1e-3)
    torch.testing.assert_close(following.marginal_marks(), found, rtol=0, atol=2e-2)


@torch.no_grad()
def test_closed_forms_after_a_wait():
    poisson = ahead(model_of("poisson"), 0.7)
    rate = poisson.model.time_part.log_rates.exp().sum()
    torch.testing.assert_close(poisson.median(), (0.7 + math.log(2) / rate).expand(len(poisson)))
    torch.testing.assert_close(poisson.mean(), (0.7 + 1 / rate).expand(len(poisson)), rtol=1e-4, atol=0)
    rmtpp = model_of("rmtpp")
    rmtpp.time_part.growth.fill_(1e-14)
    following = ahead(rmtpp, 0.7)
    rate = rmtpp.time_part.rate + rmtpp.time_part.level(following.h_time).squeeze(1).exp()
    torch.testing.assert_close(following.quantile(0.9), 0.7 + math.log(10) / rate)
    lnm = ahead(model_of("lnm"), 0.7)
    logits, mean, log_std = lnm.model.time_part.mixture(lnm.h_time)

    def below(tau: Tensor) -> Tensor:
        z = (tau.log().unsqueeze(1) - mean) / log_std.exp()
        return (torch.softmax(logits, 1) * torch.special.ndtr(z)).sum(1)

    before = below(lnm.elapsed)
    torch.testing.assert_close((below(lnm.quantile(0.3)) - before) / (1 - before), torch.full_like(before, 0.3))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("spread", [0.1, 5.0])
@pytest.mark.parametrize("narrow", [-5.0, 0.0])
def test_mixture_quantiles(dtype, close, spread, narrow):
    n, components = 60, 7
    logits, mean, log_std = (torch.randn(n, components, dtype=torch.float64) for _ in range(3))
    mixture = (3 * logits, spread * mean, log_std / 2 + narrow)
    target = torch.logspace(-7, 1.5, n, dtype=torch.float64)
    low = [part.to(dtype) for part in (*mixture, target)]
    gap = mixture_inverse(*low, floor=1e-36, limit=1e36)
    found = lnm_compensator(*(part.to(dtype).double() for part in mixture), gap.double())
    # An error of a few units in the last place of log tau is multiplied by the slope.
    slope = lnm_compensator(*mixture, gap.double() * (1 + close)) - lnm_compensator(*mixture, gap.double())
    error = (found - target.to(dtype).double()).abs()
    allowed = close * target + 2 * slope.abs() * (1 + gap.log().abs().double())
    assert bool((error <= allowed).all())


def test_mixture_of_one_component_has_its_closed_form():
    share = torch.tensor([1e-6, 0.3, 0.5, 0.999999], dtype=torch.float64)
    zero = torch.zeros(4, 1, dtype=torch.float64)
    gap = mixture_inverse(zero, zero + 2, zero - 1, -torch.log1p(-share), floor=1e-6, limit=1e6)
    torch.testing.assert_close(gap, torch.exp(2 + math.exp(-1) * torch.special.ndtri(share)))
    assert mixture_inverse(zero, zero + 2, zero, zero[:, 0] + 50, floor=1e-6, limit=1e4).tolist() == [math.inf] * 4
    assert mixture_inverse(zero, zero + 2, zero, zero[:, 0], floor=1e-6, limit=1e4).tolist() == [1e-6] * 4


@torch.no_grad()
def dying(name: str = "thp") -> PointProcess:
    """Its intensity falls to nothing; the next event comes with a probability far below 1/2."""
    model = model_of(name)
    for value in (model.time_part.time.weight, model.time_part.time.bias):
        value.fill_(-5.0)
    return model


def test_infinite_medians_are_counted_and_have_no_mark():
    found = predict(dying(), sequences())
    assert found.unresolved == len(found.gap) == 19
    assert np.isinf(found.gap).all()
    assert np.isinf(found.quantiles[:, -1]).all()
    assert (found.mark == -1).all()
    assert (found.marginal_mark >= -1).all()
    assert np.isinf(predict(dying(), sequences(), time="mean").gap).all()


@pytest.mark.parametrize("name", ["lnm++", "thp", "hawkes"])
@pytest.mark.parametrize("after", [False, True])
def test_predictions_lie_in_order_whatever_the_batches(name, after):
    model, events = model_of(name), sequences()
    found = predict(model, events, after=after)
    assert found.index.tolist() == (list(range(5)) if after else np.flatnonzero(events.scored).tolist())
    small = predict(model, events, after=after, batch=1)
    for one, other in zip(vars(found).values(), vars(small).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    np.testing.assert_allclose(found.quantiles[:, 2], found.gap)
    assert (found.marginal_mark == found.marginal.argmax(1)).all()


def test_after_the_end_counts_from_the_last_event():
    model, events = model_of("poisson"), sequences()
    found = predict(model, events, after=True)
    rate = model.time_part.log_rates.exp().sum().item()
    np.testing.assert_allclose(found.gap, events.tails + math.log(2) / rate)


def test_mistakes_are_refused():
    model, events = model_of("lnm"), sequences()
    for wrong, text in (({"time": "midian"}, "time="), ({"quantiles": (1.0,)}, "quantile"), ({"points": 0}, "points")):
        with pytest.raises(TPPError, match=text):
            predict(model, events, **wrong)
    with pytest.raises(TPPError, match="marks"):
        predict(model, Events.of([[1.0, 2.0]]))
    with pytest.raises(TPPError, match="no event"):
        predict(model, Events.of([[1.0]], names=NAMED))
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(TPPError, match="NaN"):
        predict(model, events)


def test_extent_knows_events_and_windows():
    assert extent(Events.of([[1.0]], start=0.0, end=9.0)) == (9e6, 1.0)
    assert extent(Events.of([[3.0]])) == (1e6, 1.0)
