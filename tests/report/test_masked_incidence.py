"""Conflict in trained and in all shared scalars: each line computed again, look by look."""

from __future__ import annotations

import numpy as np
import pytest

from accord.bench.run import run
from accord.report.plots.masked_incidence import CHANCE, masked_incidence
from accord.report.study import studies
from stored import tiny

SPARSE = "PSN(density=0.5)"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    settings = [{}, {"sparse": SPARSE}]
    return [run(tiny(method="Sum()", monitor_every=1, seed=seed, **one), root) for one in settings for seed in (0, 1)]


def negative(gramian) -> float:
    pairs = [(i, j) for i in range(len(gramian)) for j in range(i)]
    return sum(gramian[i, j] < 0 for i, j in pairs) / len(pairs)


def test_lines_over_steps(runs):
    (study,) = studies(runs)
    chart = masked_incidence(study)
    panel = chart.views[0].panels[0]
    names = ["Sum()", f"Sum() + {SPARSE}, trained", f"Sum() + {SPARSE}, all shared"]
    assert [curve.name for curve in panel.curves] == names
    assert [curve.style.dash for curve in panel.curves] == ["solid", "solid", "dash"]
    assert panel.level == CHANCE
    looks = [one.looks() for one in runs if one.config.sparse]
    for curve, block in zip(panel.curves[1:], (0, None), strict=True):
        parts = [seen.gramians[:, 0] if block == 0 else seen.gramian for seen in looks]
        edges = np.linspace(0, looks[0].index.max() + 1, len(curve.x) + 1)
        for n in range(len(curve.x)):
            seeds = []
            for seen, gramians in zip(looks, parts, strict=True):
                inside = (edges[n] <= seen.index) & (seen.index < edges[n + 1])
                seeds.append(np.mean([negative(gramian) for gramian in gramians[inside]]))
            assert curve.y[n] == pytest.approx(np.mean(seeds))
            assert (curve.low[n], curve.high[n]) == pytest.approx((min(seeds), max(seeds)))


def test_at_equal_loss_only_losses_that_all_runs_had(runs):
    (study,) = studies(runs)
    panels = masked_incidence(study).views[0].panels
    assert len(panels) == 2
    ends = []
    for one in runs:
        total = (one.looks() or one.record()).losses.sum(axis=1)
        smooth = [np.mean(total[i - n : i + n + 1]) for i in range(len(total)) for n in [min(2, i, len(total) - 1 - i)]]
        ends.append((min(smooth), max(smooth)))
    low, high = max(end[0] for end in ends), min(end[1] for end in ends)
    for curve in panels[1].curves:
        assert (curve.x >= low).all()
        assert (curve.x <= high).all()


def test_runs_that_nobody_looked_at_have_no_view(runs):
    (study,) = studies([one for one in runs if not one.config.sparse])
    assert masked_incidence(study).views == ()
