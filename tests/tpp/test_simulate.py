"""Samples against the distributions that they are drawn from, and `simulate` and `futures`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from accord.tpp.batch import collate
from accord.tpp.build import build
from accord.tpp.draws import child, streams, uniform
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.hawkes.likelihood import log_likelihood
from accord.tpp.hawkes.process import HawkesProcess
from accord.tpp.metrics.calibration import kolmogorov_smirnov
from accord.tpp.model import PointProcess
from accord.tpp.next_event import NextEvent
from accord.tpp.score import score
from accord.tpp.sequences import read_in
from accord.tpp.simulate import futures, simulate
from accord.tpp.thinning import thin

M = 3
NAMED = [str(k) for k in range(M)]
BOUNDED = ("thp", "sahp", "sthp+", "rmtpp", "poisson", "hawkes")
FAMILIES = (*BOUNDED, "fnn", "fnn+", "lnm", "joint-lnm")
UNLIKELY = 1e-4  # p-value at which two distributions count as different; seeds are fixed


@pytest.fixture(autouse=True)
def _float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def model_of(name: str, **options: str) -> PointProcess:
    model = build(name, M, **options)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    model.project_()
    return model.eval()


def history(model: PointProcess, count: int) -> tuple[Tensor, Tensor]:
    """One history, many times."""
    past = collate(Events.of([[0.5, 0.9, 1.0]], [[0, 2, 1]], start=0.0, names=NAMED))
    h_time, h_mark = model.encode(past)
    return h_time[-1:].expand(count, -1), h_mark[-1:].expand(count, -1)


def pasts() -> Events:
    random = np.random.default_rng(3)
    lengths = (4, 1, 7, 4, 0, 7)
    times = [np.cumsum(random.exponential(0.7, length)) for length in lengths]
    marks = [random.integers(0, M, length) for length in lengths]
    end = [6.0, np.nan, np.nan, 9.0, 1.5, 12.0]
    start = [0.0, np.nan, 0.0, -1.0, 0.0, 0.0]
    return Events.of(times, marks, start=start, end=end, names=NAMED)


def same(one: Events, other: Events) -> None:
    assert one.offsets.tolist() == other.offsets.tolist()
    assert one.mark.tolist() == other.mark.tolist()
    np.testing.assert_allclose(one.time, other.time, rtol=1e-6)


def p_value(a: Tensor, b: Tensor) -> float:
    """Two samples of Kolmogorov and Smirnov; infinite values are legal."""
    both = torch.cat([a, b]).sort().values
    shares = [torch.searchsorted(x.sort().values, both, right=True) / len(x) for x in (a, b)]
    x = (shares[0] - shares[1]).abs().max().item() * math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    return min(1.0, 2 * sum((-1) ** (j - 1) * math.exp(-2 * (j * x) ** 2) for j in range(1, 30))) if x > 0.3 else 1.0


def test_draws_are_those_of_splitmix64():
    word = (1 << 64) - 1

    def mixed(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & word
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & word
        return z ^ (z >> 31)

    for seed in (0, 7, -1, 1 << 70):
        keys = streams(seed, torch.tensor([0, 3, 1 << 40]))
        expected = [mixed((mixed(seed & word) + mixed(number)) & word) for number in (0, 3, 1 << 40)]
        assert [key % (1 << 64) for key in keys.tolist()] == expected
        numbers = [(mixed((key + 5 * 0x9E3779B97F4A7C15) & word) >> 11) for key in expected]
        assert uniform(keys, 4).tolist() == [(number + 0.5) * 2.0**-53 for number in numbers]


def test_draws_are_uniform_and_independent():
    keys = streams(0, torch.arange(20_000))
    columns = [uniform(keys, 0), uniform(keys, 1), uniform(child(keys, 2), 0), uniform(streams(1, keys), 0)]
    for column in columns:
        assert bool(((column > 0) & (column < 1)).all())
        assert kolmogorov_smirnov(-column.log()).p_value > UNLIKELY
        assert abs(torch.corrcoef(torch.stack([column[1:], column[:-1]]))[0, 1].item()) < 0.03
    off = torch.corrcoef(torch.stack(columns)) - torch.eye(4)
    assert off.abs().max().item() < 0.03


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("elapsed", [None, 0.3])
@torch.no_grad()
def test_inverse_samples_follow_the_distribution(name, elapsed):
    model, count = model_of(name), 4000
    h_time, h_mark = history(model, count)
    wait = None if elapsed is None else torch.full((count,), elapsed)
    hazard = -torch.log(uniform(streams(1, torch.arange(count)), 0))
    gap = NextEvent(model, h_time, h_mark, 1e7, 1.0, wait).reach(hazard)
    gone = 0.0 if wait is None else model.time_part.compensator(h_time, wait)
    # Where Lambda stays below a limit, as much of Exp(1) as lies above it is at infinity.
    grown = model.time_part.compensator(h_time, gap.clamp(max=1e7)) - gone
    assert kolmogorov_smirnov(torch.where(gap.isinf(), hazard, grown)).p_value > UNLIKELY
    assert elapsed is None or bool((gap >= elapsed).all())


@pytest.mark.parametrize("name", BOUNDED)
@pytest.mark.parametrize("elapsed", [0.0, 0.3])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@torch.no_grad()
def test_thinning_and_inverse_agree(name, elapsed, scale):
    model, count, limit = model_of(name), 3000, 3.0
    h_time, h_mark = history(model, count)
    begin = torch.full((count,), elapsed)
    numbers = torch.arange(count)
    thinned = thin(model, h_time, begin, torch.full((count,), limit), scale, streams(2, numbers))
    inverted = NextEvent(model, h_time, h_mark, limit, 1.0, begin).reach(-torch.log(uniform(streams(1, numbers), 0)))
    assert bool((thinned >= elapsed).all())
    assert p_value(thinned, torch.where(inverted < limit, inverted, torch.inf)) > UNLIKELY


@torch.no_grad()
def test_thinning_of_a_steep_intensity():
    model = model_of("rmtpp")
    model.time_part.growth.fill_(300.0)  # e^(300 scale) overflows
    h_time, _ = history(model, 2000)
    nothing, far = torch.zeros(2000), torch.full((2000,), 100.0)
    gap = thin(model, h_time, nothing, far, 10.0, streams(0, torch.arange(2000)))
    assert kolmogorov_smirnov(model.time_part.compensator(h_time, gap)).p_value > UNLIKELY


@pytest.mark.parametrize("method", ["inverse", "thinning"])
@pytest.mark.parametrize("elapsed", [0.0, 0.7])
@torch.no_grad()
def test_closed_forms_after_a_wait(method, elapsed):
    model, count = build("rmtpp", M), 4000
    model.time_part.growth.fill_(1e-14)
    h_time, h_mark = history(model, count)
    rate = model.time_part.rate + model.time_part.level(h_time).squeeze(1).exp()
    begin, numbers = torch.full((count,), elapsed), torch.arange(count)
    if method == "thinning":
        gap = thin(model, h_time, begin, torch.full((count,), 1e6), 1.0, streams(0, numbers))
    else:
        gap = NextEvent(model, h_time, h_mark, 1e6, 1.0, begin).reach(-torch.log(uniform(streams(0, numbers), 0)))
    assert kolmogorov_smirnov((gap - elapsed) * rate).p_value > UNLIKELY


MODELS = [
    ("rmtpp", "gru"), ("thp", "gru"), ("lnm+", "attention"), ("sahp++", "attention"), ("fnn", "gru"), ("hawkes", "gru"),
    ("sthp++", "attention"), ("joint-lnm", "gru"), ("poisson", "gru"), ("thp-dd", "constant"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "encoder"), MODELS)
@pytest.mark.parametrize("method", ["inverse", "thinning"])
def test_simulated_sequences_obey_time_rescaling(name, encoder, method):
    model = model_of(name, history=encoder)
    if method == "thinning" and name.rstrip("+-d") in ("lnm", "fnn", "joint-lnm"):
        with pytest.raises(TPPError, match="inverse"):
            simulate(model, 2, 1.0, method=method)
        return
    end = 4e-3 if name == "fnn" else 4.0  # an untrained FNN has most of its gaps near the floor
    events = simulate(model, 120, end, seed=5, method=method)
    found = score(model, events)
    # Pieced together, sequence by sequence, the compensators up to events and ends are a Poisson process of rate 1.
    pieces = []
    for i in found.sequences:
        inside = found.compensator[torch.from_numpy(events.sequence[found.index] == i)]
        pieces += [inside, found.window[torch.from_numpy(found.sequences == i)]]
    empty = (events.lengths == 0).sum()
    start = model.encode(collate(events))[0][:1]
    whole = model.time_part.compensator(start, torch.tensor([end])).detach()
    total = torch.cat([*pieces, whole.repeat(int(empty))]).sum().item()
    n = events.time.size
    assert abs(n - total) < 4.5 * math.sqrt(total)  # the count is a martingale away from the compensator
    waits, run = [], 0.0
    is_event = torch.cat([torch.cat([torch.ones(len(p)), torch.zeros(1)]) for p in pieces[::2]])
    for w, event in zip(torch.cat(pieces).tolist(), is_event.tolist(), strict=True):
        run += w
        if event:
            waits.append(run)
            run = 0.0
    if empty == 0:  # without the empty sequences the rest would be biased
        assert kolmogorov_smirnov(torch.tensor(waits)).p_value > UNLIKELY
    # Marks: the scores of a calibrated distribution have mean zero.
    p = found.log_marks.exp()
    hits = torch.nn.functional.one_hot(found.mark, M) - p
    spread = (p * (1 - p)).sum(0).sqrt()
    assert bool((hits.sum(0).abs() < 4.5 * spread).all())


def test_hawkes_model_has_the_counts_of_the_process():
    process = HawkesProcess([0.4, 0.8], [[0.3, 0.1], [0.2, 0.4]], [[2.0, 1.0], [1.0, 3.0]])
    model = build("hawkes", 2)
    part = model.time_part
    with torch.no_grad():
        for target, value in (
            (part.log_mu, process.base),
            (part.log_alpha, process.adjacency),
            (part.log_beta, process.decay),
        ):
            target.copy_(torch.from_numpy(value).log())
    events = simulate(model, 400, 6.0, seed=1)
    exact = log_likelihood(process, events)
    assert kolmogorov_smirnov(torch.from_numpy(exact.compensator)).distance < 0.05  # cut at the end: not quite Exp(1)
    counts = np.bincount(events.mark, minlength=2)
    expected = exact.mark_totals.sum(0)
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected)).all()


@pytest.mark.parametrize(
    ("name", "encoder"), [("lnm+", "gru"), ("thp", "attention"), ("hawkes", "gru"), ("thp++", "gru")]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@torch.no_grad()
def test_reading_in_event_by_event_is_the_batch(name, encoder, dtype):
    model, events = model_of(name, history=encoder).to(dtype), pasts()
    batch = collate(events, dtype=dtype)
    expected = [h[batch.last][batch.order.argsort()] for h in model.encode(batch)]
    seen = []
    for numbers, past in read_in(model, events):
        seen += numbers.tolist()
        assert len(set(events.lengths[numbers])) == 1
        for h, whole in zip(past.histories, expected, strict=True):
            torch.testing.assert_close(h, whole[torch.from_numpy(numbers)])
        ages = [events.gaps[events.offsets[i] : events.offsets[i + 1]].sum() for i in numbers]
        torch.testing.assert_close(past.age, torch.tensor(ages))
    assert sorted(seen) == list(range(len(events)))


@pytest.mark.parametrize(("name", "encoder"), [("lnm+", "gru"), ("thp", "attention"), ("hawkes", "gru")])
@pytest.mark.parametrize("method", ["inverse", "thinning"])
def test_futures_depend_on_seed_past_and_number_alone(name, encoder, method):
    if method == "thinning" and name == "lnm+":
        pytest.skip("no bound")
    model, events = model_of(name, history=encoder), pasts()
    both = futures(model, events, 2.0, draws=2, seed=4, method=method)
    same(both[0], futures(model, events, 2.0, seed=4, method=method)[0])
    assert both[0].time.tolist() != both[1].time.tolist()
    assert both[0].time.tolist() != futures(model, events, 2.0, seed=5, method=method)[0].time.tolist()
    for keep in ([0], [0, 1, 2]):  # the same numbers, other neighbours
        same(both[0].subset(keep), futures(model, events.subset(keep), 2.0, seed=4, method=method)[0])
    other = Events.of(
        [events.time[:4], [0.1, 0.2, 0.3]], [events.mark[:4], [0, 1, 2]], start=0.0, end=[6.0, np.nan], names=NAMED
    )
    same(both[0].subset([0]), futures(model, other, 2.0, seed=4, method=method)[0].subset([0]))


def test_futures_lie_behind_their_pasts():
    events = pasts()
    begin = [6.0, events.time[4], events.time[11], 9.0, 1.5, 12.0]
    for dtype in (torch.float64, torch.float32):
        found = futures(model_of("thp").to(dtype), events.rescaled(1.0), 2.0)[0]
        np.testing.assert_array_equal(found.start, begin)
        np.testing.assert_array_equal(found.end, np.add(begin, 2.0))
        assert found.marks == events.marks
        assert found.time.size > 0


def test_a_future_after_a_wait_is_that_of_the_process():
    # A Poisson process forgets the past: counts of the future are those of any window.
    model = build("poisson", M)
    many = Events.of([[1.0]] * 500, [[0]] * 500, start=0.0, end=3.0, names=NAMED)
    counts = futures(model, many, 2.0)[0].lengths
    assert abs(counts.mean() - 6) < 4.5 * math.sqrt(6 / 500)
    assert abs(counts.var() - 6) < 4.5 * 6 * math.sqrt(2.2 / 500)


def test_sequences_do_not_depend_on_the_others():
    model = model_of("lnm")
    many, few = simulate(model, 20, 3.0, seed=9), simulate(model, 5, 3.0, seed=9)
    same(many.subset(range(5)), few)
    assert many.end.tolist() == [3.0] * 20
    assert many.start.tolist() == [0.0] * 20
    assert not np.array_equal(many.time, simulate(model, 20, 3.0, seed=10).time)


def test_float32_at_unix_seconds():
    model = model_of("sahp").float()
    past = Events.of([[1.6e9, 1.6e9 + 0.25]], [[0, 1]], end=1.6e9 + 0.75, names=NAMED)
    (found,) = futures(model, past, 1.5)
    assert (found.time >= found.start).all()
    assert (found.time <= found.end).all()
    assert (np.diff(found.time) > 1e-7).all()


def test_mistakes_are_refused():
    model = model_of("poisson")
    for arguments, text in (
        ({"count": 0}, "count=0"), ({"end": 0.0}, "end=0"), ({"end": math.nan}, "end=nan"),
        ({"end": math.inf}, "end=inf"),
        ({"method": "magic"}, "inverse, thinning"), ({"marks": ("a",)}, "names"), ({"most": 1}, "explodes"),
    ):  # fmt: skip
        with pytest.raises(TPPError, match=text):
            simulate(model, **{"count": 3, "end": 2.0, **arguments})
    for arguments, text in (({"horizon": 0.0}, "horizon"), ({"draws": 0}, "draws"), ({"horizon": math.nan}, "horizon")):
        with pytest.raises(TPPError, match=text):
            futures(model, **{"events": pasts(), "horizon": 2.0, **arguments})
    with pytest.raises(TPPError, match="marks"):
        futures(model, Events.of([[1.0]]), 1.0)
    with pytest.raises(TPPError, match="pasts"):
        futures(model, pasts().subset([]), 1.0)
    for method in ("inverse", "thinning"):
        with torch.no_grad():
            model.time_part.log_rates[0] = math.nan
        with pytest.raises(TPPError, match="finite"):
            simulate(model, 2, 1.0, method=method)


def test_as_many_events_as_allowed():
    model = model_of("poisson")
    events = simulate(model, 5, 2.0, seed=1)
    most = int(events.lengths.max())
    same(events, simulate(model, 5, 2.0, seed=1, most=most))
    with pytest.raises(TPPError, match=f"more than {most - 1} events"):
        simulate(model, 5, 2.0, seed=1, most=most - 1)
