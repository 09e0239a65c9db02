"""Charts of point processes against the numbers that they are made of; every one is drawn by both renderers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from accord.conflict import cosine, pair_conflict
from accord.errors import AccordError
from accord.report import point_process as charts
from accord.report import render_plotly
from accord.report.chart import Bars, Curves
from accord.report.point_process.calibration import wilson
from accord.tpp.build import build
from accord.tpp.events import Events
from accord.tpp.intensity import intensity
from accord.tpp.metrics.calibration import mark_reliability, quantiles, time_reliability

NAMES = ["walk", "run", "rest"]


@pytest.fixture
def gramians():
    """(30, 5, 2, 2) of random gradients."""
    rows = np.random.default_rng(0).normal(size=(30, 5, 2, 4))
    return rows @ rows.swapaxes(-1, -2)


@pytest.fixture
def events():
    rng = np.random.default_rng(1)
    marks = rng.choice(3, size=100, p=[0.6, 0.3, 0.1])
    return Events.of([np.cumsum(rng.exponential(size=100))], [marks], start=0.0, end=200.0, names=NAMES)


def all_charts(events, gramians):
    model = build("thp", 3)
    compensator = torch.rand(50).exponential_()
    log_p = torch.randn(50, 3).log_softmax(1)
    return [
        charts.intensity_chart(intensity(model, events), NAMES, "hour"),
        charts.mark_reliability_chart(mark_reliability(log_p, torch.arange(50) % 3)),
        charts.time_reliability_chart(time_reliability(compensator)),
        charts.rescaling_chart(quantiles(compensator)),
        charts.histogram_chart({"encoder": pair_conflict(gramians[:, :3]), "decoder": pair_conflict(gramians[:, 3:])}),
        charts.evolution_chart({"encoder": gramians[:, :3]}, np.arange(30) * 2, 5, 2),
    ]


def panels(chart):
    (view,) = chart.views
    return view.panels


def test_all_are_drawn_as_png_and_pdf_and_in_the_browser(events, gramians, tmp_path):
    made = all_charts(events, gramians)
    written = charts.write(made, tmp_path / "deep" / "figures")
    assert {path.name for path in written} == {f"{chart.name}.{kind}" for chart in made for kind in ("png", "pdf")}
    assert {path.name for path in (tmp_path / "deep" / "figures").iterdir()} == {path.name for path in written}
    for path in written:
        assert path.stat().st_size > 4000
        assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF")
    for chart in made:
        assert chart.reading.endswith(".")
        assert len(chart.title) <= 44, "longer titles are cut where there is one panel"
        for panel in panels(chart):
            assert render_plotly.figure(panel).data
            assert panel.table().rows


def test_charts_without_anything_to_show_are_passed_over(tmp_path):
    one = Events.of([[3.0]], [[0]], names=["walk"])
    chart = charts.intensity_chart(intensity(build("lnm", 1), one), ["walk"], "hour")
    assert "moment of its event" in chart.missing
    assert charts.write([chart], tmp_path) == []


def test_a_folder_that_cannot_be_written(events, gramians, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AccordError, match="cannot be written"):
        charts.write(all_charts(events, gramians)[:1], tmp_path / "file" / "figures")


def test_intensity_shows_ground_marks_and_ticks(events):
    found = intensity(build("sahp", 3), events, points=4)
    ground, marks = panels(charts.intensity_chart(found, NAMES, "hour", most=2, stretch=200))
    line, ticks = ground.curves
    np.testing.assert_allclose(line.y, found.marks.sum(1))
    np.testing.assert_allclose(ticks.x[::3], found.events)
    assert np.isnan(ticks.y[2::3]).all(), "strokes are apart"
    assert ticks.y[:2].min() > line.y.max(), "strokes lie above the line"
    by_frequency = [NAMES[k] for k in np.argsort(-np.bincount(events.mark))][:2]
    assert [curve.name for curve in marks.curves] == [name for name in by_frequency for _ in range(2)]
    assert len(marks.curves[1].x) == 3 * int((events.mark == NAMES.index(by_frequency[0])).sum())
    assert ground.x.label == "time [hour]"


def test_only_the_end_of_a_long_sequence_is_shown(events):
    found = intensity(build("thp", 3), events, points=4)
    chart = charts.intensity_chart(found, NAMES, "hour", stretch=10)
    ground = panels(chart)[0]
    assert ground.curves[0].x[0] == 0
    assert len(ground.curves[1].x) == 30
    np.testing.assert_allclose(np.diff(ground.curves[1].x[::3]), np.diff(events.time[-10:]))
    assert "The last 10 of 100 events" in chart.notes[0]


def test_intensities_over_many_decades_get_a_logarithmic_axis(events):
    found = intensity(build("thp", 3), events, points=4)
    wild = dataclasses.replace(found, marks=found.marks * np.geomspace(1e-9, 1, len(found.time))[:, None])
    ground = panels(charts.intensity_chart(wild, NAMES, "hour"))[0]
    assert ground.y.log
    shown = np.concatenate([curve.y for curve in ground.curves])
    assert np.nanmin(shown) >= 1e-5 * np.nanmax(ground.curves[0].y) * (1 - 1e-9)


def test_mark_reliability_leaves_empty_bins_out_and_counts_events():
    log_p = torch.tensor([[0.75, 0.25]] * 4 + [[0.55, 0.45]] * 2).log()
    lines, bars = panels(charts.mark_reliability_chart(mark_reliability(log_p, torch.tensor([0, 0, 0, 1, 1, 1]))))
    model = lines.curves[1]
    np.testing.assert_allclose(model.x, [0.55, 0.75], rtol=1e-6)
    np.testing.assert_allclose(model.y, [0.0, 0.75])
    assert (model.low <= model.y + 1e-12).all()
    assert (model.high >= model.y).all()
    assert isinstance(bars, Bars)
    np.testing.assert_array_equal(bars.bars[0].values, [0, 0, 0, 0, 0, 2, 0, 4, 0, 0])


def test_wilson_holds_the_truth_in_95_percent():
    rng, count = np.random.default_rng(2), 60
    hits = rng.binomial(count, 0.2, size=4000) / count
    low, high = wilson(hits, np.full(4000, count))
    assert 0.93 < np.mean((low <= 0.2) & (high >= 0.2)) < 0.97


def test_times_and_quantiles_are_shown_as_they_are():
    found = time_reliability(torch.rand(80).exponential_())
    (panel,) = panels(charts.time_reliability_chart(found))
    np.testing.assert_allclose(panel.curves[1].y, found.share)
    band = panel.curves[0]
    assert (band.low <= band.y).all()
    assert (band.high >= band.y).all()
    sorted_ = quantiles(torch.rand(80).exponential_())
    (panel,) = panels(charts.rescaling_chart(sorted_))
    np.testing.assert_allclose(panel.curves[1].y, sorted_.observed)
    np.testing.assert_allclose(panel.curves[0].high, sorted_.high)


def test_histogram_bars_are_shares_of_the_cosines(gramians):
    (panel,) = panels(charts.histogram_chart({"encoder": pair_conflict(gramians)}))
    cos = cosine(gramians)[..., 0, 1].ravel()
    expected = [np.mean((cos >= -1 + 2 * i / 15) & (cos < -1 + 2 * (i + 1) / 15)) for i in range(15)]
    np.testing.assert_allclose(panel.bars[0].values, expected)
    assert panel.categories[7] == "0"
    assert f"CG {100 * np.mean(cos < 0):.0f}" in panel.bars[0].name


def test_histogram_of_nothing_defined():
    (panel,) = panels(chart := charts.histogram_chart({"encoder": pair_conflict(np.zeros((2, 3, 2, 2)))}))
    assert not panel.bars[0].values.any()
    assert "6 undefined" in chart.notes[0]


def test_evolution_is_a_moving_average_at_training_steps(gramians):
    (panel,) = panels(charts.evolution_chart({"encoder": gramians}, np.arange(30) * 4, 10, 5))
    assert isinstance(panel, Curves)
    (line,) = panel.curves
    cos = cosine(gramians)[..., 0, 1]
    np.testing.assert_allclose(line.y, [cos[end - 10 : end].mean() for end in range(10, 31, 5)])
    np.testing.assert_array_equal(line.x, [4 * (end - 1) for end in range(10, 31, 5)])
    assert panel.level == 0
