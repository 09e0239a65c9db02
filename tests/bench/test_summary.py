"""The summary of runs whose numbers are made up, so that every figure and every word is known."""

from __future__ import annotations

import math

import pytest

from accord.bench import summary
from accord.bench.config import configure
from accord.bench.run import run
from accord.bench.stats import Interval
from accord.bench.store import Run
from accord.conflict import cosine, lines
from stored import tiny


def fake(tmp_path, scores: dict[str, float], seed: int = 0, **settings) -> Run:
    config = configure(problem="digits", seed=seed, **settings)
    test = {k: {"metric": "accuracy", "value": v, "higher_is_better": True, "loss": 1.0} for k, v in scores.items()}
    return Run(tmp_path / config.place, config, {"test": test, "seconds": 1.0, "steps": 100}, [])


@pytest.fixture
def rows(tmp_path):
    """Two seeds; UPGrad gains 10 % on each task over Sum, MGDA loses; singles are twice as good as Sum."""
    runs = []
    for seed, base in ((0, 0.4), (1, 0.2)):
        plain = {"left": base, "right": base, "sum": base / 2}
        runs.append(fake(tmp_path, plain, seed, method="Sum()"))
        runs.append(fake(tmp_path, {k: 1.1 * v for k, v in plain.items()}, seed, method="UPGrad()"))
        runs.append(fake(tmp_path, {k: 0.9 * v for k, v in plain.items()}, seed, method="MGDA()"))
        runs += [fake(tmp_path, {k: 2 * v}, seed, tasks=(k,)) for k, v in plain.items()]
    return {row.label: row for row in summary.summarise(runs)}


def test_figures(rows):
    assert list(rows) == ["Sum()", "UPGrad()", "MGDA()", "single-left", "single-right", "single-sum"]
    assert rows["Sum()"].delta_m.mean == pytest.approx(-0.5)
    assert rows["Sum()"].delta_m.half == pytest.approx(0, abs=1e-12), "paired: what seeds have in common cancels"
    assert rows["UPGrad()"].delta_m.mean == pytest.approx(-0.45)
    assert rows["UPGrad()"].against.mean == pytest.approx(0.1)
    assert rows["UPGrad()"].against_by_task["sum"].mean == pytest.approx(0.1)
    assert rows["Sum()"].test["left"].mean == pytest.approx(0.3)
    assert rows["Sum()"].against is None
    assert rows["single-left"].delta_m is None
    assert rows["Sum()"].milliseconds.mean == pytest.approx(10)
    assert rows["Sum()"].conflict is None


def test_unfinished_runs_do_not_count(tmp_path):
    assert summary.summarise([Run(tmp_path, configure(problem="digits"), None, [])]) == []


def test_conflict_and_harm_are_shares_over_pairs_tasks_and_steps(tmp_path):
    """Against loops over the record."""
    done = run(tiny(method="PCGrad()", monitor_every=1), tmp_path)
    record = done.record()
    (row,) = summary.summarise([done])
    angles = [cosine(record.gramian)[t, i, j] for t in range(len(record)) for i in range(3) for j in range(i)]
    assert row.conflict.mean == pytest.approx(sum(a < 0 for a in angles) / len(angles))
    for name, line in lines(record).items():
        hurt = [line.relative[t, i] > 1e-6 for t in range(len(record)) for i in range(3)]
        assert row.harm[name].mean == pytest.approx(sum(hurt) / len(hurt))
    assert row.milliseconds.mean > 0


def with_conflict(row: summary.Row, share: float, harm: float) -> summary.Row:
    def known(mean: float) -> Interval:
        return Interval(mean, mean, mean, 2)

    return summary.dataclasses.replace(
        row, conflict=known(share), harm={"sum": known(harm), "aggregate": known(0.0), "step": known(0.125)}
    )


@pytest.mark.parametrize(
    ("share", "harm", "opening"),
    [
        (0.7, 0.2, "There was harmful conflict: under the plain sum 70 % of the task pairs"),
        (0.7, 0.01, "There was frequent conflict, though the plain sum seldom harmed a task"),
        (0.4, 0.01, "There was conflict, no more often than between unrelated gradients"),
        (0.01, 0.0, "There was hardly any conflict: under the plain sum 1.0 %"),
    ],
)
def test_the_first_sentence(rows, share, harm, opening):
    rows["Sum()"] = with_conflict(rows["Sum()"], share, harm)
    first, _ = summary.sentences(list(rows.values()))
    assert first.startswith(opening)
    assert first.endswith("the optimiser's real step in 12 %.")


def test_the_second_sentence(rows):
    rows["Sum()"] = with_conflict(rows["Sum()"], 0.7, 0.2)
    uncertain = summary.dataclasses.replace(rows["UPGrad()"], label="IMTLG()", against=Interval(0.0, -0.1, 0.1, 2))
    _, second = summary.sentences([*rows.values(), uncertain])
    assert "helped with UPGrad() +10.0 %" in second
    assert "(left +10.0, right +10.0, sum +10.0)" in second
    assert "hurt with MGDA() -10.0 %" in second
    assert "made no difference beyond seed noise with IMTLG() +0.0 % [-10.0, +10.0]" in second
    assert second.endswith("a step took 1.0 times as long.")


def test_one_seed_proves_nothing(rows):
    rows["Sum()"] = with_conflict(rows["Sum()"], 0.7, 0.2)
    rows = {
        label: summary.dataclasses.replace(row, against=row.against and Interval(0.1, math.nan, math.nan, 1))
        for label, row in rows.items()
    }
    assert "by an amount that one seed cannot tell from noise" in summary.sentences(list(rows.values()))[1]


def test_no_sentence_without_something_to_compare(rows):
    assert summary.sentences(list(rows.values())) == [], "nothing was measured"
    plain = with_conflict(rows["Sum()"], 0.7, 0.2)
    assert summary.sentences([plain]) == []
    assert summary.sentences([rows["UPGrad()"]]) == []
