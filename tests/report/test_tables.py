"""The tables say what the runs hold, and why something is missing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from accord.report.tables import results, runs, settings
from accord.report.text import SPACE


def cells(table, row, start):
    """The cell of a row under the header that begins so."""
    headers = [column.header for column in table.columns]
    place = next(i for i, header in enumerate(headers) if header.replace(SPACE, " ").startswith(start))
    return next(r for r in table.rows if r[0] == row)[place].replace(SPACE, " ")


def test_results_hold_mean_and_interval(study):
    table = results(study)
    values = np.array([trial.run.result["test"]["right"]["value"] for trial in study.arms[1].trials])
    half = student.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
    assert cells(table, "CAGrad(c=0.5)", "right accuracy ↑") == f"{values.mean():.3f} ± {half:.3f}"
    assert cells(table, "CAGrad(c=0.5)", "seeds") == "3"
    assert cells(table, "Sum()", "against Sum()") == "–"
    assert cells(table, "each task alone", "Δm") == "0 (reference)"
    assert "last epoch" in table.caption
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_conflict_and_harm_of_a_method(study):
    arm = study.reference
    incidence = np.mean(
        [
            [np.mean([g[i, j] < 0 for i, j in ((0, 1), (0, 2), (1, 2))]) for g in record.gramian]
            for record in arm.records
        ]
    )
    harm = np.mean([record.change.sum(axis=1) > 0 for record in arm.records])
    assert cells(results(study), "Sum()", "conflict") == f"{incidence:.0%}".replace("%", " %")
    assert cells(results(study), "Sum()", "harm") == f"{harm:.0%}".replace("%", " %")


def test_without_baselines_the_table_says_why(make):
    study = make(methods=["Sum()", "UPGrad()"], singles=False, probes=3)
    assert cells(results(study), "UPGrad()", "Δm") == "no single-task runs"


def test_a_missing_baseline_is_named(make):
    study = make(methods=["Sum()"], probes=3)
    del study.singles["right"]
    assert cells(results(study), "Sum()", "Δm") == "no run of right alone"


def test_one_seed_has_no_interval(make):
    study = make(methods=["Sum()"], seeds=1, probes=3, singles=False)
    assert "±" not in " ".join(results(study).rows[0])


def test_unfinished_runs_are_marked(make):
    study = make(methods=["Sum()", "UPGrad()"], unfinished=["UPGrad()"], seeds=2, probes=3, singles=False)
    table = results(study)
    assert cells(table, "UPGrad()", "seeds") == "0 (+2 unfinished)"
    assert cells(table, "UPGrad()", "left") == "–"
    assert "Unfinished runs" in table.caption
    assert [row[2] for row in runs(study).rows] == ["finished", "finished", "unfinished", "unfinished"]


def test_events_are_counted(study):
    table = runs(study)
    assert len(table.rows) == 5 * 3 + 3 * 3
    assert table.rows[0][-1] == "1 × nonfinite (sum)"
    assert table.rows[0][-2] == f"3.1{SPACE}%"


@pytest.mark.parametrize(("key", "value"), [("seeds", "0, 1 and 2"), ("lr", "0.001"), ("torch version", "2.13.0")])
def test_settings(study, key, value):
    assert dict(settings(study).rows)[key] == value
