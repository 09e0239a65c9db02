"""Evaluation against figures taken event by event."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from accord.tpp.batch import collate
from accord.tpp.build import build
from accord.tpp.decoders.poisson import Poisson
from accord.tpp.errors import TPPError
from accord.tpp.evaluate import evaluate
from accord.tpp.events import Events
from accord.tpp.metrics.crps import crps_quadrature
from accord.tpp.metrics.dequantise import dequantise
from accord.tpp.model import PointProcess
from accord.tpp.score import encoded, score

M = 3
NAMED = [str(k) for k in range(M)]


def model_of(name: str) -> PointProcess:
    model = build(name, M).double()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    model.project_()
    return model.eval()


def sequences(tick: float | None = None) -> Events:
    """Six; the second is empty, the third has one event and an unknown start, the fifth no known window."""
    random = np.random.default_rng(2)
    lengths = (4, 0, 1, 9, 5, 1)
    times = [np.cumsum(random.exponential(0.7, length)).round(2) for length in lengths]
    marks = [random.integers(0, M, length) for length in lengths]
    start, end = [0.0, 0.0, np.nan, 0.0, np.nan, 0.0], [8.0, 3.0, np.nan, 15.0, np.nan, 4.0]
    return Events.of(times, marks, start=start, end=end, names=NAMED, tick=tick)


@torch.no_grad()
def one_by_one(model: PointProcess, events: Events, first: bool = True, windows: bool = True) -> dict[str, list[float]]:
    """Sums of each sequence with a scored event, each by itself and each event by itself."""
    found: dict[str, list[float]] = {"time": [], "mark": [], "events": []}
    for i in range(len(events)):
        one = events.subset([i])
        h_time, h_mark = model.encode(collate(one, dtype=torch.float64))
        time, mark, count = 0.0, 0.0, 0
        for j in range(int(one.lengths[0])):
            if j == 0 and (not first or np.isnan(one.start[0])):
                continue
            tau = torch.tensor([max(one.gaps[j], model.floor)])
            decoded = model.decode(h_time[[j]], h_mark[[j]], tau)
            time -= decoded.log_density.item()
            mark -= decoded.log_marks[0, one.mark[j]].item()
            count += 1
        if windows:
            time += model.time_part.compensator(h_time[[-1]], torch.from_numpy(one.tails)).item()
        if count:
            for name, value in (("time", time), ("mark", mark), ("events", count)):
                found[name].append(value)
    return found


@pytest.mark.parametrize("name", ["thp", "lnm+", "rmtpp", "sahp++", "fnn-d", "joint-lnm", "hawkes"])
def test_totals_are_sums_over_sequences(name):
    model, events = model_of(name), sequences()
    found, expected = evaluate(model, events), one_by_one(model, events)
    assert (found.sequences, found.dropped) == (4, 2)
    assert len(found.scores.mark) == sum(expected["events"]) == 18
    for task in ("time", "mark"):
        assert found.values[f"nll_{task}"] == pytest.approx(sum(expected[task]) / 4, rel=1e-9)
        assert found.values[f"nll_{task}_per_event"] == pytest.approx(sum(expected[task]) / 18, rel=1e-9)
    assert found.scores.sequences.tolist() == [0, 3, 4, 5]
    small = evaluate(model, events, batch=1)
    for figure, value in found.values.items():
        assert small.values[figure] == pytest.approx(value, rel=1e-9), figure
    again = evaluate(model, events)
    assert again.values == found.values


@pytest.mark.parametrize("name", ["thp", "lnm+"])
@pytest.mark.parametrize("simulated", [False, True])
def test_paper_compat_leaves_first_events_and_windows_out(name, simulated):
    model, events = model_of(name), sequences()
    found = evaluate(model, events, paper_compat=True, simulated=simulated)
    expected = one_by_one(model, events, first=False, windows=simulated)
    assert (found.sequences, found.dropped) == (3, 3)
    assert found.scores.sequences.tolist() == [0, 3, 4]
    assert not set(found.scores.index) & set(events.offsets.tolist())
    assert found.values["nll_time"] == pytest.approx(sum(expected["time"]) / 3, rel=1e-9)
    assert found.values["nll_mark"] == pytest.approx(sum(expected["mark"]) / 3, rel=1e-9)
    assert bool(found.scores.window.any()) == simulated


@pytest.mark.parametrize("paper_compat", [False, True])
def test_dequantised_likelihood(paper_compat):
    model, events = model_of("lnm"), sequences(tick=0.01)
    found = evaluate(model, events, paper_compat=paper_compat, predictions=False)
    draws = []
    for draw in range(5):
        noisy = dequantise(events, draw)
        draws.append(sum(one_by_one(model, noisy, not paper_compat, not paper_compat)["time"]))
    count = 3 if paper_compat else 4
    assert found.values["nll_time_dequantised"] == pytest.approx(np.mean(draws) / count, rel=1e-9)
    assert "nll_time_dequantised" not in evaluate(model, sequences(), predictions=False).values


def test_figures_of_a_poisson_process_by_hand():
    model = build("poisson", M).double()
    part = model.time_part
    assert isinstance(part, Poisson)
    with torch.no_grad():
        part.log_rates.copy_(torch.tensor([0.5, 0.3, 0.2]).log())
    events = sequences()
    found = evaluate(model, events, marginal=True, crps=True)
    gaps, mark = events.gaps[events.scored], events.mark[events.scored]
    values = found.values
    assert values["mae"] == pytest.approx(np.abs(gaps - math.log(2)).mean())
    assert values["rmse"] == pytest.approx(np.sqrt(((gaps - math.log(2)) ** 2).mean()))
    assert values["unresolved"] == 0
    assert values["accuracy"] == values["accuracy_marginal"] == values["f1_micro"] == (mark == 0).mean()
    assert values["mrr"] == pytest.approx((1 / (1 + mark)).mean())
    assert values["crps"] == pytest.approx((gaps + 2 * np.exp(-gaps) - 1.5).mean(), rel=1e-6)
    p = np.array([0.5, 0.3, 0.2])
    assert values["brier"] == pytest.approx(((p - np.eye(M)[mark]) ** 2).sum(1).mean())
    assert values["ece"] == pytest.approx(abs((mark == 0).mean() - 0.5))
    u = np.sort(1 - np.exp(-np.maximum(gaps, 1e-6)))
    steps = np.arange(19) / 18
    assert values["ks"] == pytest.approx(max((steps[1:] - u).max(), (u - steps[:-1]).max()))
    assert "accuracy@3" not in values


def test_infinite_medians_are_counted():
    model = model_of("thp")
    with torch.no_grad():
        for value in (model.time_part.time.weight, model.time_part.time.bias):
            value.fill_(-5.0)
    values = evaluate(model, sequences(), marginal=True, crps=True).values
    assert values["unresolved"] == 18
    assert math.isnan(values["mae"])
    assert values["crps"] == math.inf
    assert 0 <= values["accuracy_marginal"] <= 1


@torch.no_grad()
def test_crps_of_a_mixture_is_its_quadrature():
    model, events = model_of("lnm"), sequences()
    model.time_part.maps.bias[-32:] -= 1.0
    (first,) = encoded(model, events, 256)
    h, gap = first.h_time[first.batch.prev], first.batch.gap[first.batch.event]
    expected = crps_quadrature(lambda u: model.time_part.compensator(h, u), gap).value.mean().item()
    assert evaluate(model, events, crps=True).values["crps"] == pytest.approx(expected, rel=1e-6)


def test_only_what_is_asked_for():
    model, events = model_of("lnm"), sequences()
    names = set(evaluate(model, events, predictions=False).values)
    assert not names & {"mae", "rmse", "unresolved", "accuracy_marginal", "crps"}
    assert "crps" not in evaluate(model, events).values


def test_baselines_are_scored_on_the_same_events():
    model, events = model_of("rmtpp"), sequences()
    found = evaluate(model, events, train=events)
    assert set(found.baselines) == {"unigram", "repeat-last", "markov"}
    shares = (np.bincount(events.mark, minlength=M) + 1) / (events.mark.size + M)
    mark = events.mark[events.scored]
    assert found.baselines["unigram"]["nll_mark"] == pytest.approx(-np.log(shares[mark]).sum() / 4)
    assert found.baselines["unigram"]["accuracy"] == (mark == shares.argmax()).mean()
    compat = evaluate(model, events, train=events, paper_compat=True)
    later = np.delete(events.mark, np.unique(events.offsets[:-1][events.lengths > 0]))
    assert compat.baselines["unigram"]["nll_mark"] == pytest.approx(-np.log(shares[later]).sum() / 3)


def test_float32_is_close_to_float64():
    model, events = model_of("sahp++"), sequences()
    exact = evaluate(model, events).values
    rough = evaluate(model.float(), events).values
    for name in ("nll_time", "nll_mark", "mae", "ks", "brier"):
        assert rough[name] == pytest.approx(exact[name], rel=1e-4)


def test_mistakes_are_refused():
    model, events = model_of("lnm"), sequences()
    with pytest.raises(TPPError, match="marks"):
        evaluate(model, Events.of([[1.0, 2.0]]))
    with pytest.raises(TPPError, match="no event can be scored"):
        evaluate(model, events.subset([1, 2]))
    with pytest.raises(TPPError, match="vocabularies"):
        evaluate(model, events, train=dataclasses.replace(events, marks=("a", "b", "c")))
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(TPPError, match="NaN"):
        evaluate(model, events)


def test_scores_lie_in_order_of_the_data():
    model, events = model_of("sthp+"), sequences()
    found = score(model, events)
    assert found.index.tolist() == np.flatnonzero(events.scored).tolist()
    assert found.mark.tolist() == events.mark[events.scored].tolist()
    assert {value.dtype for value in (found.log_density, found.compensator, found.window)} == {torch.float64}
    assert found.own.tolist() == [found.log_marks[i, k].item() for i, k in enumerate(found.mark.tolist())]
    alone = score(model, events.subset([3]))
    torch.testing.assert_close(
        alone.log_density, found.log_density[events.sequence[found.index] == 3], rtol=1e-9, atol=0
    )
