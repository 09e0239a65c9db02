"""Intensity curves against the decoder at single gaps, and against an exact Hawkes process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from accord.tpp.batch import collate
from accord.tpp.build import build
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.hawkes.likelihood import intensities, log_likelihood
from accord.tpp.hawkes.process import HawkesProcess
from accord.tpp.intensity import intensity
from accord.tpp.model import PointProcess
from accord.tpp.score import score

FAMILIES = ("thp", "sahp++", "sthp+", "fnn", "lnm+", "rmtpp", "joint-lnm", "hawkes")


def model_of(name: str) -> PointProcess:
    model = build(name, 2).double()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn_like(value))
    model.project_()
    return model.eval()


def sequences() -> Events:
    """The second has a tie, an unknown start and an unknown end."""
    return Events.of(
        [[0.1, 0.4, 1.5], [2.0, 2.0, 2.7]],
        [[0, 1, 1], [1, 0, 1]],
        start=[0.0, np.nan],
        end=[2.0, np.nan],
        names=["a", "b"],
    )


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_limits_on_both_sides_of_every_event(name):
    model, events = model_of(name), sequences()
    curves = intensity(model, events, 0, points=5)
    assert curves.time.tolist() == sorted(curves.time)
    np.testing.assert_allclose(curves.time.reshape(4, 5)[:, [0, -1]], [[0, 0.1], [0.1, 0.4], [0.4, 1.5], [1.5, 2.0]])
    batch = collate(events.subset([0]), dtype=torch.float64)
    h_time, h_mark = model.encode(batch)
    for row, (low, high) in enumerate([(0, 0.1), (0.1, 0.4), (0.4, 1.5), (1.5, 2.0)]):
        for point, tau in ((0, 0.0), (-1, high - low)):
            found = model.decode(h_time[[row]], h_mark[[row]], torch.tensor([tau], dtype=torch.float64))
            marks = curves.marks.reshape(4, 5, 2)[row, point]
            np.testing.assert_allclose(marks, found.log_intensities[0].exp(), rtol=1e-8)
            np.testing.assert_allclose(curves.ground.reshape(4, 5)[row, point], marks.sum())


@pytest.mark.parametrize("name", FAMILIES)
def test_compensator_grows_by_that_of_the_scores(name):
    model, events = model_of(name), sequences()
    found = score(model, events)
    for number in (0, 1):
        curves = intensity(model, events, number, points=4)
        assert curves.compensator[0] == 0
        assert (np.diff(curves.compensator) >= 0).all()
        inside = found.compensator[torch.from_numpy(events.sequence[found.index] == number)]
        tie = inside[events.gaps[found.index[events.sequence[found.index] == number]] == 0].sum()
        total = inside.sum() + found.window[number] - tie  # a tie is scored at the floor, and has no extent here
        np.testing.assert_allclose(curves.compensator[-1], total.item(), rtol=1e-9)


def test_ties_and_unknown_windows_have_no_extent():
    curves = intensity(model_of("thp"), sequences(), 1, points=3)
    np.testing.assert_allclose(curves.time, [2.0, 2.175, 2.7])
    assert curves.events.tolist() == [2.0, 2.0, 2.7]
    assert curves.event_marks.tolist() == [1, 0, 1]
    alone = intensity(model_of("thp"), Events.of([[2.0]], names=["a", "b"]))
    assert alone.time.shape == (0,)
    assert alone.marks.shape == (0, 2)


def test_window_without_events():
    curves = intensity(model_of("sahp++"), Events.of([[]], start=0.0, end=2.0, names=["a", "b"]), points=3)
    assert curves.time.tolist() == [0.0, 0.5, 2.0]
    assert curves.compensator[-1] > 0


def test_hawkes_is_exact():
    process = HawkesProcess([0.4, 0.8], [[0.3, 0.1], [0.2, 0.4]], [[2.0, 1.0], [1.0, 3.0]])
    model = build("hawkes", 2).double()
    part = model.time_part
    with torch.no_grad():
        part.log_mu.copy_(torch.from_numpy(process.base).log())
        part.log_alpha.copy_(torch.from_numpy(process.adjacency).log())
        part.log_beta.copy_(torch.from_numpy(process.decay).log())
    events = sequences().subset([0])
    curves = intensity(model, events, points=6)
    left = np.arange(24) % 6 != 0  # at the other ends the exact intensity does not know of the event yet
    np.testing.assert_allclose(curves.marks[left], intensities(process, events, curves.time)[0][left], rtol=1e-6)
    exact = log_likelihood(process, events)
    np.testing.assert_allclose(curves.compensator[-1], exact.mark_totals.sum(), rtol=1e-6)


def test_mistakes_are_refused():
    model, events = model_of("thp"), sequences()
    for arguments, text in (({"sequence": 2}, "sequence 2"), ({"sequence": -1}, "0..1"), ({"points": 1}, "points=1")):
        with pytest.raises(TPPError, match=text):
            intensity(model, events, **arguments)
    with pytest.raises(TPPError, match="marks"):
        intensity(model, Events.of([[1.0]]))
