"""Charts over several problems, and the new charts of one: against values that are computed again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accord.bench.significance import spearman
from accord.bench.store import load_runs
from accord.report import figures, page
from accord.report.across import SUITE_PLOTS
from accord.report.across.foresight import conflict_gain, said
from accord.report.across.profile import performance_profile
from accord.report.across.standing import mean_rank
from accord.report.across.suite import Suite, names
from accord.report.across.words import standings, suite_verdict
from accord.report.chart import Chart
from accord.report.merit import joint_improvement
from accord.report.plots.learning import learning
from accord.report.plots.tradeoff import cost
from accord.report.study import studies

import sample

METHODS = ("Sum()", "UPGrad()", "PCGrad()", "MGDA()")


def stored(root, problems=(4, 5, 6), **settings):
    for i, epochs in enumerate(problems):
        given = {"methods": METHODS, "probes": 6, "tilt": 1.0 + i, "gain": {"UPGrad()": 0.04 + 0.01 * i}} | settings
        sample.write(root, sample.Sample(f"digits(epochs={epochs})", settings={"epochs": epochs}, **given))
    return Suite(tuple(studies(load_runs(root))))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("suite"))


@pytest.mark.parametrize("plot", SUITE_PLOTS, ids=lambda plot: plot.__name__)
def test_a_plot_is_a_pure_function_with_words(plot, suite):
    chart = plot(suite)
    assert isinstance(chart, Chart)
    assert (chart.name, chart.section) == (plot.__name__, "across")
    assert chart.reading.rstrip().endswith(".")
    tables = [[panel.table() for view in plot(suite).views for panel in view.panels] for _ in range(2)]
    assert tables[0] == tables[1]
    assert tables[0][0].rows


def test_mean_ranks_and_the_critical_difference(suite):
    rows = mean_rank(suite).views[0].panels[0].rows
    table = np.array([[np.mean(list(suite.worth[p][m].values())) for m in METHODS] for p in suite.problems])  # (P, M)
    ranks = (table[:, :, None] <= table[:, None, :]).sum(axis=2)
    expected = dict(zip(METHODS, ranks.mean(axis=0), strict=True))
    assert {row.name: row.value for row in rows} == pytest.approx(expected)
    assert rows[0].name == "UPGrad()"
    low, high = rows[0].interval
    assert high - low == pytest.approx(2.569 * math.sqrt(4 * 5 / 18), abs=1e-3)


def test_marks_that_do_not_overlap_are_those_beyond_the_critical_difference(suite):
    found = suite.ranking
    for i, one in enumerate(mean_rank(suite).views[0].panels[0].rows):
        for j, other in enumerate(mean_rank(suite).views[0].panels[0].rows):
            apart = abs(found.mean[i] - found.mean[j]) > found.critical
            assert apart == (one.interval[1] < other.interval[0] or other.interval[1] < one.interval[0])


def test_profiles_start_at_the_share_of_wins(suite):
    curves = {curve.name: curve for curve in performance_profile(suite).views[0].panels[0].curves}
    wins = dict.fromkeys(METHODS, 0)
    for study in suite.studies:
        for task in study.tasks:
            means = {
                arm.label: np.mean([t.run.result["test"][task]["value"] for t in arm.trials]) for arm in study.arms
            }
            wins[max(means, key=means.get)] += 1
    assert {name: curve.y[0] * 9 for name, curve in curves.items()} == pytest.approx(wins)
    assert all((np.diff(curve.y) >= 0).all() for curve in curves.values())


def test_conflict_against_gain(suite):
    conflict, harm = conflict_gain(suite).views[0].panels
    assert len(conflict.points) == len(harm.points) == 3 * 3
    study = suite.studies[1]
    point = next(p for p in conflict.points if p.name == "UPGrad()" and p.note == suite.problems[1])
    shares = [np.mean([[g[i, j] < 0 for i, j in ((0, 1), (0, 2), (1, 2))] for g in record.gramian])
              for record in study.reference.records]  # fmt: skip
    assert point.x == pytest.approx(np.mean(shares))
    arm = next(arm for arm in study.arms if arm.label == "UPGrad()")
    assert point.y == pytest.approx(np.mean(list(joint_improvement(arm, study).values())))
    assert "So few problems cannot show a correlation" in conflict_gain(suite).notes[0]


def test_a_correlation_is_not_overstated():
    assert "needs three" in said("conflict", spearman([1, 2], [1, 2]))
    assert said("harm", spearman(range(6), range(6))).endswith("That is beyond chance.")
    assert said("harm", spearman(range(6), [0, 5, 1, 4, 2, 3])).endswith("That is not beyond chance.")


def test_words_and_table(suite):
    found = suite_verdict(suite)
    assert "UPGrad()" in found.lead or "cannot be told apart" in found.lead
    assert any("better than Sum(), beyond seed noise: UPGrad()" in text for text in found.sentences)
    assert any(text.startswith("Of 9 comparisons with Sum()") for text in found.sentences)
    table = standings(suite)
    assert table.rows[0][0] == "UPGrad()"
    assert table.rows[0][-1] == "1.00"
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_single_seeds_are_not_ranked(tmp_path):
    suite = stored(tmp_path, (4, 5), seeds=1)
    assert mean_rank(suite).missing.startswith("No ranking: found 0 problems")
    assert "cannot be ranked" in suite_verdict(suite).lead
    assert performance_profile(suite).missing
    assert "nothing can be said" in suite_verdict(suite).sentences[0]


def test_a_method_of_one_problem_does_not_spoil_the_ranking(tmp_path):
    stored(tmp_path / "a")
    sample.write(tmp_path / "b", sample.Sample("digits(epochs=4)", ["CAGrad(c=0.5)"], probes=3, singles=False))
    suite = Suite(tuple(studies(load_runs([tmp_path / "a", tmp_path / "b"]))))
    assert suite.outsiders == ("CAGrad(c=0.5)",)
    assert len(suite.ranking.methods) == 4
    assert any("Not ranked" in note and "CAGrad(c=0.5)" in note for note in mean_rank(suite).notes)
    looks = [{arm.label: arm.style for arm in study.arms} for study in suite.studies]
    assert all(looks[0][label] == style for label, style in looks[1].items()), "a method looks the same everywhere"


def test_names_keep_what_tells_problems_apart():
    problems = ["a(x='(,', architecture=M(k=2, l=3))", "a(x='(,', architecture=H())", "b(x=1)"]
    assert names(problems) == ["a(architecture=M(k=2, l=3))", "a(architecture=H())", "b"]


def test_the_page_opens_with_all_problems(suite):
    text = page.render(suite.studies)
    assert text.index('id="all"') < text.index('id="p0"')
    for plot in SUITE_PLOTS:
        assert f'id="all-{plot.__name__}"' in text
    assert 'id="all"' not in page.render(suite.studies[:1])


def test_figures_over_all_problems(tmp_path, monkeypatch):
    """Beside those of each problem, of which one will do here: test_figures.py draws them all."""
    monkeypatch.setattr(figures, "PLOTS", (learning,))
    suite = stored(tmp_path / "runs", (4, 5), methods=METHODS[:2], seeds=2, singles=False)
    runs = [trial.run for study in suite.studies for arm in study.arms for trial in arm.trials]
    found = {path.name for path in figures.write(runs, tmp_path / "figures")}
    assert {"all-mean_rank.pdf", "all-performance_profile.png", "all-conflict_gain.pdf"} <= found
    of_each = {f"digits-epochs-{n}-learning-training-loss.pdf" for n in (4, 5)}
    assert of_each == {name for name in found if name.endswith("learning-training-loss.pdf")}


def test_the_pareto_front_by_trying_all_pairs(make):
    study = make(methods=METHODS, probes=3)
    for i, arm in enumerate(study.arms):
        for trial in arm.trials:
            trial.record.step_seconds[:] = 0.001 * (1 + i)
            trial.run.result["peak_bytes"] = 2**20 * (5 - i)
    time, memory = cost(study).views[0].panels
    for panel in (time, memory):
        best = {(p.x, p.y) for p in panel.points
                if not any(q.x <= p.x and q.y >= p.y and q is not p for q in panel.points)}  # fmt: skip
        corners = set() if panel.front is None else {tuple(corner) for corner in panel.front}
        assert best <= corners or len(best) == 1
    assert {p.x for p in memory.points} == {5.0, 4.0, 3.0, 2.0}
    assert time.points[0].note == "learning rate 0.001"


def test_learning_curves(make):
    study = make(methods=["Sum()", "UPGrad()"], probes=3)
    for value, trial in enumerate(study.arms[1].trials):
        for epoch in trial.run.history:
            epoch["validation"]["right"]["accuracy"] = 0.1 * value + 0.01 * epoch["epoch"]
    del study.arms[1].trials[2].run.history[3]  # stopped
    chart = learning(study)
    assert [view.label for view in chart.views] == ["validation metric", "training loss"]
    curve = chart.views[0].panels[1].curves[1]
    np.testing.assert_allclose(curve.x, [1, 2, 3, 4])
    np.testing.assert_allclose(curve.y, [0.10, 0.11, 0.12, 0.08])
    np.testing.assert_allclose(curve.high, [0.20, 0.21, 0.22, 0.13])
    np.testing.assert_allclose(chart.views[1].panels[0].curves[0].y, 2.0 * 0.6 ** np.arange(4))
