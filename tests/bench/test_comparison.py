"""Two methods compared on runs whose numbers are made up, so that every figure and every word is known."""

from __future__ import annotations

import math

import pytest
from scipy import stats as scipy_stats

from accord.bench import wording
from accord.bench.comparison import compare, undefined
from accord.bench.config import configure
from accord.bench.labels import labels
from accord.bench.store import Run
from accord.errors import AccordError

NAMES = ("Sum()", "UPGrad()")
BASE = (0.5, 0.4, 0.6)


def fake(tmp_path, method: str, seed: int, values: dict, problem: str = "digits", seconds: float = 1.0, **settings):
    config = configure(problem=problem, method=method, seed=seed, **settings)
    test = {
        task: {"metric": "accuracy", "value": value, "higher_is_better": True, "loss": 1.0, "measures": {}}
        for task, value in values.items()
    }
    result = {"test": test, "seconds": seconds, "steps": 100}
    return Run(tmp_path / config.place, config, result, [])


def runs(tmp_path, gains, problem="digits", base=BASE, **settings):
    """Two tasks; the second is twice as good and gains nothing. Step times double with the method."""
    plain = [fake(tmp_path, "Sum()", s, {"left": b, "right": 1.0}, problem) for s, b in enumerate(base)]
    other = [
        fake(tmp_path, "UPGrad()", s, {"left": b * (1 + 2 * g), "right": 1.0}, problem, 2.0, **settings)
        for s, (b, g) in enumerate(zip(base, gains, strict=True))
    ]
    return plain, other


def test_the_figures(tmp_path):
    gains = (0.10, 0.12, 0.11)
    a, b = runs(tmp_path, gains)
    (entry,) = compare(a, b, NAMES).problems
    assert list(entry.differences.values()) == pytest.approx(gains)
    expected = scipy_stats.ttest_1samp(gains, 0)
    assert entry.p == pytest.approx(expected.pvalue)
    assert (entry.gain.low, entry.gain.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert entry.p_flip == 0.25
    left, right = entry.measures
    assert (left.task, left.name, left.gain.mean, right.gain.mean) == ("left", "accuracy", pytest.approx(0.22), 0.0)
    assert (left.a, left.b) == (pytest.approx(0.5), pytest.approx(0.5 * 1.22, abs=0.01))
    assert entry.step_ratio.mean == pytest.approx(2.0)
    assert entry.steps == ("100", "100")


def test_a_real_difference(tmp_path):
    made = compare(*runs(tmp_path, (0.10, 0.12, 0.11)), NAMES)
    text = wording.verdict(made)
    assert text.startswith("Real: UPGrad() is better than Sum() by +11.00 % [+8.52 %, +13.48 %] on digits")
    assert "paired over 3 seeds, p = 0.003" in text
    assert "A step of it took 2.00 times as long" in text
    assert "equally many steps" in text
    worse = compare(*runs(tmp_path, (-0.10, -0.12, -0.11)), NAMES)
    assert wording.verdict(worse).startswith("Real: UPGrad() is worse than Sum() by -11.00 %")
    assert "with 3 seeds it cannot give less than 0.25" in wording.method(made)


def test_no_difference_says_how_many_seeds_it_would_take(tmp_path):
    made = compare(*runs(tmp_path, (0.10, -0.05, 0.01)), NAMES)
    text = wording.verdict(made)
    assert text.startswith("Not distinguishable: UPGrad() against Sum() is at +2.00 %")
    size = 0.02 / made.problems[0].spread
    rough = (1.960 + 0.842) ** 2 / size**2 + 1.960**2 / 2  # with the normal distribution's quantiles
    assert f"it would need about {round(rough)} seeds to see a difference of this size" in text
    assert f"3 seeds would only find one of {100 * 0.02 / size * 3.262:.1f}" in text


def test_one_seed_says_nothing(tmp_path):
    a, b = runs(tmp_path, (0.10,), base=(0.5,))
    assert wording.verdict(compare(a, b, NAMES)).startswith("One seed says nothing: UPGrad() is at +10.00 %")


def test_several_problems_are_averaged_and_corrected(tmp_path):
    a, b = runs(tmp_path, (0.10, 0.12, 0.11))
    c, d = runs(tmp_path, (0.00, 0.04, 0.03), "digits(width=32)")
    made = compare(a + c, b + d, NAMES)
    assert made.gain.mean == pytest.approx((0.11 + 0.07 / 3) / 2)
    first, second = (entry.p for entry in made.problems)
    assert list(made.corrected.values()) == pytest.approx([2 * first, second])
    text = wording.verdict(made)
    assert text.startswith("Real: UPGrad() is better than Sum() by +6.67 %")
    assert "better on 1, worse on 0, not distinguishable on 1" in text
    assert "cannot give less than 0.5" in wording.method(made)


def test_unlike_problems_are_refused(tmp_path):
    a, _ = runs(tmp_path, (0.1, 0.1, 0.1))
    _, d = runs(tmp_path, (0.1, 0.1, 0.1), "digits(width=32)")
    with pytest.raises(AccordError, match=r"share no problem: digits with width=\d+ against 32; runs of different"):
        compare(a, d, NAMES)


def test_unlike_selection_is_refused(tmp_path):
    with pytest.raises(AccordError, match=r"differ in select \('last' against 'validation'\)"):
        compare(*runs(tmp_path, (0.1, 0.1, 0.1), select="validation"), NAMES)


def test_what_else_differs_is_said(tmp_path):
    made = compare(*runs(tmp_path, (0.1, 0.1, 0.12), lr=0.5, scale="mean"), NAMES)
    text = wording.verdict(made)
    assert "learning rates differ (0.5 against 0.003)" in text
    assert "scale differs (mean against sum)" in text


def test_only_common_seeds_and_problems_count(tmp_path):
    a, b = runs(tmp_path, (0.10, 0.12, 0.11))
    _, d = runs(tmp_path, (0.1, 0.1, 0.1), "digits(width=32)")
    made = compare(a[:2], b + d, NAMES)
    assert made.problems[0].gain.seeds == 2
    assert any("only UPGrad() was run on digits(width=32" in note for note in made.notes)
    assert any("1 seed that only one of both finished left out" in note for note in made.notes)
    with pytest.raises(AccordError, match="found no seed that both"):
        compare(a[:1], b[1:], NAMES)
    with pytest.raises(AccordError, match="found no finished run of Sum"):
        compare([Run(a[0].path, a[0].config)], b, NAMES)


def test_several_measures_count_once_per_task(tmp_path):
    a, b = runs(tmp_path, (0.0, 0.0, 0.0))
    for run, error in [(run, 2.0) for run in a] + [(run, 1.0) for run in b]:
        run.result["test"]["right"]["measures"] = {
            "accuracy": {"value": 1.0, "higher_is_better": True},
            "error": {"value": error, "higher_is_better": False},
        }
    (entry,) = compare(a, b, NAMES).problems
    assert entry.gain.mean == pytest.approx((0 + (0 + 0.5) / 2) / 2)
    assert len(entry.measures) == 3


def test_labels_name_a_learning_rate_only_where_nothing_else_does(tmp_path):
    one = [fake(tmp_path, "Sum()", 0, {"left": 1.0}, lr=lr) for lr in (0.1, 0.2)]
    assert labels(one) == ["Sum() · lr=0.1", "Sum() · lr=0.2"]
    tuned = [
        fake(tmp_path, "Sum()", 0, {"left": 1.0}, lr=lr, scale=scale) for lr, scale in ((0.1, "sum"), (0.2, "mean"))
    ]
    assert labels(tuned) == ["Sum() · scale=sum", "Sum() · scale=mean"]
    apart = [fake(tmp_path, m, 0, {"left": 1.0}, lr=lr) for m, lr in (("Sum()", 0.1), ("UPGrad()", 0.2))]
    assert labels(apart) == ["Sum()", "UPGrad()"]
    over_problems = [
        fake(tmp_path, "Sum()", 0, {"left": 1.0}, p, lr=lr) for p, lr in (("digits", 0.1), ("digits(width=32)", 0.2))
    ]
    assert labels(over_problems) == ["Sum()", "Sum()"]


def test_an_equal_result_is_not_distinguishable(tmp_path):
    made = compare(*runs(tmp_path, (0.0, 0.0, 0.0)), NAMES)
    assert wording.verdict(made).startswith("Not distinguishable")
    assert math.isfinite(made.p)


def test_a_diverged_seed_is_left_out_aloud(tmp_path):
    a, b = runs(tmp_path, (0.10, 0.12, math.nan))
    made = compare(a, b, NAMES)
    assert made.problems[0].gain.seeds == 2
    assert any("no finite number there or is 0 under Sum(): seed 2" in note for note in made.notes)
    a, b = runs(tmp_path, (math.nan, math.inf, math.nan))
    assert wording.verdict(compare(a, b, NAMES)).startswith("Nothing can be said: UPGrad() against Sum()")


def test_single_seeds_are_not_ranked_across_problems(tmp_path):
    a, b = runs(tmp_path, (0.10, 0.12, 0.11))
    c, d = runs(tmp_path, (0.1, 0.1, 0.1), "digits(width=32)")
    made = compare([*a, c[0]], [*b, d[0]], NAMES)
    assert made.p_problems == 1.0, "of one problem's mean"
    assert "Wilcoxon" not in wording.method(made)


def test_what_is_no_number_is_named(tmp_path):
    fine = fake(tmp_path, "Sum()", 0, {"left": 0.5, "right": 1.0})
    gone = [fake(tmp_path, "UPGrad()", seed, {"left": math.nan, "right": 1.0}) for seed in (1, 2)]
    assert undefined([fine]) == ""
    assert "UPGrad(): left accuracy of seed 1, 2." in undefined([fine, *gone])
    many = [fake(tmp_path, "Sum()", 0, {f"task {i}": math.nan for i in range(8)})]
    assert undefined(many).endswith("; and 2 more.")
