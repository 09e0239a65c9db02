"""Each plot against values that are computed again from the record, step by step and pair by pair."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t as student

from accord.report.chart import Bars, Chart, Curves, Heat, Intervals, Points
from accord.report.plots import PLOTS
from accord.report.plots.blocks import block_time
from accord.report.plots.cosine import pair_cosine, round_limit
from accord.report.plots.difference import difference
from accord.report.plots.geometry import geometry_time, relative_gap
from accord.report.plots.harm import harm_rate, harm_size
from accord.report.plots.incidence import conflict_time
from accord.report.plots.losses import losses_time
from accord.report.plots.norms import dominance_time, norm_ratio_time
from accord.report.plots.tradeoff import cost, task_pairs
from accord.report.plots.weights import weights_time

EDGES = {
    "one task": {"tasks": ["left"], "methods": ["Sum()"], "seeds": 1, "singles": False},
    "one run": {"methods": ["UPGrad()"], "seeds": 1, "singles": False, "probes": 1},
    "no Gramians": {"measured": False, "methods": ["Sum()", "UPGrad()"], "seeds": 2, "probes": 8},
    "no record": {"recorded": False, "methods": ["Sum()", "UPGrad()"], "seeds": 2},
    "nothing finished": {"unfinished": ["Sum()", "UPGrad()"], "methods": ["Sum()", "UPGrad()"], "singles": False},
    "twelve tasks": {"tasks": [f"task {i}" for i in range(12)], "methods": ["Sum()", "UPGrad()"], "probes": 9},
}


def cos(gramian, i, j):
    return gramian[i, j] / math.sqrt(gramian[i, i] * gramian[j, j])


def in_window(study, record, n):
    """The places of the steps of a record that fall into the n-th window."""
    return [t for t, step in enumerate(record.index) if study.edges[n] <= step < study.edges[n + 1]]


def pairs_in_conflict(gramian):
    """(share of defined pairs with a negative cosine, mean of max(-cos, 0)) by hand."""
    found = [
        cos(gramian, i, j) for i in range(len(gramian)) for j in range(i) if gramian[i, i] > 0 and gramian[j, j] > 0
    ]
    if not found:
        return math.nan, math.nan
    return sum(c < 0 for c in found) / len(found), sum(max(-c, 0) for c in found) / len(found)


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
def test_a_plot_is_a_pure_function_with_words(plot, study):
    before = study.arms[0].records[0].gramians.copy()
    chart = plot(study)
    assert isinstance(chart, Chart)
    assert chart.name == plot.__name__
    assert chart.title
    assert chart.reading.rstrip().endswith(".")
    assert bool(chart.select) == (len(chart.views) > 1)
    again = plot(study)
    tables = [[panel.table() for view in made.views for panel in view.panels] for made in (chart, again)]
    assert tables[0] == tables[1]
    assert tables[0] or not chart.views, "only what concerns other runs has no view"
    np.testing.assert_array_equal(study.arms[0].records[0].gramians, before)


@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES)
def test_every_view_has_panels_or_says_why_not(edge, make):
    study = make(**edge)
    for plot in PLOTS:
        for view in plot(study).views:
            assert bool(view.panels) != bool(view.missing), plot.__name__
            for panel in view.panels:
                assert panel.table().rows, plot.__name__


def test_one_task_says_that_two_are_needed(make):
    study = make(**EDGES["one task"])
    for plot in (pair_cosine, block_time, conflict_time, geometry_time, norm_ratio_time, harm_rate):
        assert plot(study).missing.startswith("Needs two tasks")


def test_runs_without_gramians_say_so(make):
    assert "No Gramians were recorded" in pair_cosine(make(**EDGES["no Gramians"])).missing
    assert "no record" in losses_time(make(**EDGES["no record"])).missing


def test_mean_cosine_of_each_pair(study):
    view = pair_cosine(study).views[2]
    heat = view.panels[0]
    assert isinstance(heat, Heat)
    assert view.label == study.arms[2].label
    expected = np.mean(
        [np.mean([cos(gramian, 0, 1) for gramian in record.gramian]) for record in study.arms[2].records]
    )
    assert heat.values[0, 1] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(heat.values, heat.values.T)
    assert np.isnan(np.diag(heat.values)).all()
    assert len(heat.undefined) == 0  # the diagonal is blank, not undefined


def test_a_task_without_gradient_is_undefined_and_hatched(make):
    study = make(methods=["Sum()"], seeds=1, probes=4, singles=False)
    record = study.arms[0].records[0]
    record.gramians[..., 2, :] = record.gramians[..., :, 2] = 0.0
    heat = pair_cosine(study).views[0].panels[0]
    assert sorted(map(tuple, heat.undefined.tolist())) == [(0, 2), (1, 2), (2, 0), (2, 1)]


@pytest.mark.parametrize(
    ("values", "limit"), [([0.1, -0.2], 0.25), ([0.1, -0.3], 0.5), ([np.nan, 0.9], 1.0), ([], 0.25)]
)
def test_the_colour_scale_holds_all_values(values, limit):
    assert round_limit(np.array(values)) == limit


def test_blocks_over_time(study):
    view = block_time(study).views[0]
    shares, cosines = view.panels
    block, n = study.arms[0].records[0].blocks.index("fc1"), 11
    expected = np.mean(
        [
            np.mean([pairs_in_conflict(record.gramians[t, block])[0] for t in in_window(study, record, n)])
            for record in study.arms[0].records
        ]
    )
    row = shares.rows.index("fc1")
    assert shares.values[row, n] == pytest.approx(expected, rel=1e-12)
    expected = np.mean(
        [
            np.mean(
                [
                    [cos(record.gramians[t, block], i, j) for i, j in ((0, 1), (0, 2), (1, 2))]
                    for t in in_window(study, record, n)
                ]
            )
            for record in study.arms[0].records
        ]
    )
    assert cosines.values[row, n] == pytest.approx(expected, rel=1e-12)
    # one task alone reaches the first block: no pair is defined there
    assert np.isnan(shares.values[shares.rows.index("conv1")]).all()


def test_too_many_blocks_are_added_up_to_their_parents(make):
    names = [f"layer{i}.{part}" for i in range(30) for part in ("attention", "linear")]
    study = make(methods=["Sum()"], seeds=1, probes=3, singles=False, blocks=names)
    shares, _ = block_time(study).views[0].panels
    assert shares.rows == tuple(f"layer{i}" for i in range(30))
    record = study.arms[0].records[0]
    assert shares.values[5, 0] == pytest.approx(pairs_in_conflict(record.gramians[0, 10:12].sum(axis=0))[0])


@pytest.mark.parametrize("which", [0, 1])
def test_incidence_and_severity_over_time(study, which):
    lines = conflict_time(study).views[0].panels[which]
    assert isinstance(lines, Curves)
    n = 7
    seeds = [
        np.mean([pairs_in_conflict(record.gramian[t])[which] for t in in_window(study, record, n)])
        for record in study.arms[1].records
    ]
    curve = lines.curves[1]
    assert curve.name == study.arms[1].label
    assert curve.x[n] == pytest.approx((study.edges[n] + study.edges[n + 1]) / 2)
    np.testing.assert_allclose([curve.y[n], curve.low[n], curve.high[n]], [np.mean(seeds), min(seeds), max(seeds)])


def test_one_seed_has_no_band(make):
    curve = conflict_time(make(seeds=1, probes=20, singles=False)).views[0].panels[0].curves[0]
    assert curve.low is None
    assert curve.high is None


def test_geometry_of_known_gradients():
    # orthogonal and equally long: the plain mean is the shortest combination; opposite: the gap closes
    grams = np.array([np.eye(2), [[1.0, -1.0], [-1.0, 1.0]], [[1.0, 0.0], [0.0, 9.0]], np.zeros((2, 2))])
    gaps = relative_gap(grams)
    assert gaps[0] == pytest.approx(1.0)
    assert np.isnan(gaps[1])  # the mean itself is zero
    assert gaps[2] == pytest.approx(math.sqrt(0.9) / (math.sqrt(10) / 2))
    assert np.isnan(gaps[3])


def test_cancellation_and_rank_over_time(study):
    survives, rank, gap = geometry_time(study).views[0].panels
    expected = np.mean(
        [
            np.mean(
                [
                    math.sqrt(record.gramian[t].sum()) / np.sqrt(np.diag(record.gramian[t])).sum()
                    for t in in_window(study, record, 3)
                ]
            )
            for record in study.arms[0].records
        ]
    )
    assert survives.curves[0].y[3] == pytest.approx(expected)
    assert all(1 <= value <= 3 for curve in rank.curves for value in curve.y)
    assert all(0 <= value <= 1 + 1e-9 for curve in gap.curves for value in curve.y)


def test_norm_ratio_is_a_geometric_mean_on_a_logarithmic_axis(study):
    panel = norm_ratio_time(study).views[0].panels[0]
    logs = [
        np.mean(
            [0.5 * math.log(max(np.diag(g)) / min(np.diag(g))) for g in record.gramian[in_window(study, record, 0)]]
        )
        for record in study.arms[0].records
    ]
    assert panel.y.log
    assert panel.curves[0].y[0] == pytest.approx(math.exp(np.mean(logs)))


def test_dominance_adds_up_to_one(study):
    panel = dominance_time(study).views[0].panels[0]
    np.testing.assert_allclose(sum(curve.y for curve in panel.curves), 1.0)
    record = study.arms[0].records[0]
    lengths = np.sqrt(np.einsum("tii->ti", record.gramian[in_window(study, record, 2)]))
    one_seed = (lengths / lengths.sum(axis=1, keepdims=True))[:, 1].mean()
    assert panel.curves[1].low[2] <= one_seed <= panel.curves[1].high[2]


def test_weights_over_time(study):
    view = weights_time(study).views[-1]
    records = study.arms[-1].records
    expected = np.mean([np.mean(record.weights[in_window(study, record, 9), 2]) for record in records])
    assert view.panels[0].curves[2].y[9] == pytest.approx(expected)
    assert (weights_time(study).views[0].panels[0].curves[0].y == 1.0).all()  # the plain sum


def test_methods_without_weights_say_so(make):
    study = make(methods=["Sum()"], seeds=1, probes=4, singles=False)
    study.arms[0].records[0].weights[:] = np.nan
    assert "has no weights" in weights_time(study).missing


def test_losses_over_time(study):
    panels = losses_time(study).views[0].panels
    assert [panel.title for panel in panels] == list(study.tasks)
    records = study.arms[0].records
    expected = np.mean([np.mean(record.losses[in_window(study, record, 4), 1]) for record in records])
    assert panels[1].curves[0].y[4] == pytest.approx(expected)


def test_losses_below_zero_are_not_drawn_on_a_logarithmic_axis(make):
    study = make(methods=["Sum()"], seeds=1, probes=4, singles=False)
    study.arms[0].records[0].losses[2] = -1.0
    assert not losses_time(study).views[0].panels[0].y.log


def harm_by_hand(record, i):
    """First-order change of the loss of task i on each step: under the sum, the method, the optimiser."""
    return (
        [-record.gramian[t, i].sum() for t in range(len(record))],
        [-record.descent[t, :, i].sum() for t in range(len(record))],
        [record.change[t, :, i].sum() for t in range(len(record))],
    )


def test_how_often_each_task_pays(study):
    panels = harm_rate(study).views[0].panels
    assert [panel.title for panel in panels] == list(study.tasks)
    for arm, i in ((0, 2), (1, 1), (2, 2)):
        # rounding decides nothing here: no change of these samples is as small as the tolerance, apart from exact zeros
        seeds = [
            [np.mean([rise > 1e-9 for rise in rises]) for rises in harm_by_hand(record, i)]
            for record in study.arms[arm].records
        ]
        bar = panels[i].bars[arm]
        np.testing.assert_allclose(bar.values, np.mean(seeds, axis=0))
        np.testing.assert_allclose(bar.low, np.min(seeds, axis=0))
        np.testing.assert_allclose(bar.high, np.max(seeds, axis=0))
    assert panels[2].bars[0].values[0] == panels[2].bars[0].values[1]  # the plain sum is its own aggregate
    assert panels[2].bars[0].values[0] > 0.1


def test_how_much_each_task_pays(study):
    bar = harm_size(study).views[0].panels[2].bars[0]
    seeds = [
        [sum(max(rise, 0) for rise in rises) / sum(abs(rise) for rise in rises) for rises in harm_by_hand(record, 2)]
        for record in study.arms[0].records
    ]
    np.testing.assert_allclose(bar.values, np.mean(seeds, axis=0))


def value(study, label, task, seed):
    arm = next(arm for arm in (*study.arms, *study.singles.values()) if arm.label == label)
    return arm.trials[seed].run.result["test"][task]["value"]


def test_differences_are_paired_by_seed(study):
    panels = difference(study).views[0].panels
    assert [panel.title for panel in panels] == ["All tasks", *study.tasks]
    row = panels[0].rows[2]
    assert isinstance(panels[0], Intervals)
    assert row.name == "PCGrad()"
    by_hand = np.array(
        [
            np.mean(
                [value(study, "PCGrad()", task, seed) / value(study, "Sum()", task, seed) - 1 for task in study.tasks]
            )
            for seed in range(3)
        ]
    )
    np.testing.assert_allclose(row.single, by_hand)
    half = student.ppf(0.975, 2) * by_hand.std(ddof=1) / math.sqrt(3)
    np.testing.assert_allclose(
        [row.value, *row.interval], [by_hand.mean(), by_hand.mean() - half, by_hand.mean() + half]
    )


def test_a_seed_without_partner_is_left_out(make):
    study = make(methods=["Sum()", "UPGrad()"], singles=False, probes=3)
    study.reference.trials[1].run.result["test"].clear()
    assert len(difference(study).views[0].panels[0].rows[0].single) == 2


def test_lower_is_better_turns_the_sign(make):
    study = make(methods=["Sum()", "UPGrad()"], singles=False, probes=3, gain={"UPGrad()": -0.2})
    before = difference(study).views[0].panels[1].rows[0].value
    for arm in study.arms:
        for trial in arm.trials:
            trial.run.result["test"]["left"]["higher_is_better"] = False
    assert before < 0
    assert difference(study).views[0].panels[1].rows[0].value == pytest.approx(-before)


def test_worth_against_cost(study):
    panel = cost(study).views[0].panels[0]
    assert isinstance(panel, Points)
    point = next(point for point in panel.points if point.name == "UPGrad()")
    milliseconds = [1000 * np.nanmedian(trial.run.record().step_seconds) for trial in study.arms[-1].trials]
    assert point.x == pytest.approx(np.mean(milliseconds))
    assert point.x_interval == pytest.approx((min(milliseconds), max(milliseconds)))
    delta = [
        np.mean([value(study, "UPGrad()", task, seed) / value(study, task, task, seed) - 1 for task in study.tasks])
        for seed in range(3)
    ]
    assert point.y == pytest.approx(np.mean(delta))


def test_without_baselines_the_plain_sum_is_the_line(make):
    panel = cost(make(methods=["Sum()", "UPGrad()"], singles=False, probes=3)).views[0].panels[0]
    assert panel.y.label == "improvement over Sum()"
    assert panel.points[0].y == 0.0


def test_task_against_task_with_the_single_task_corner(study):
    chart = task_pairs(study)
    assert [view.label for view in chart.views] == ["left – right", "left – sum", "right – sum"]
    panel = chart.views[1].panels[0]
    x, y, _ = panel.corner
    assert x == pytest.approx(np.mean([value(study, "left", "left", seed) for seed in range(3)]))
    assert y == pytest.approx(np.mean([value(study, "sum", "sum", seed) for seed in range(3)]))
    assert panel.points[-1].name == "each task alone"


def test_bars_share_their_axis(study):
    limits = {panel.limit for panel in harm_rate(study).views[0].panels if isinstance(panel, Bars)}
    assert len(limits) == 1
