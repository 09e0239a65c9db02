"""Learning curves: three answers, against slow second readings, noise and hand-made curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accord import AccordError, conflict, curves

POINTS = 30
finite = st.floats(-10, 10, allow_subnormal=False)
runs = hnp.arrays(np.float64, st.integers(16, 40), elements=finite)


def slope(values):
    """Rise of the least-squares line from the first to the last point, by the normal equations in pure Python."""
    n = len(values)
    mean_t, mean_y = (n - 1) / 2, sum(values) / n
    top = sum((t - mean_t) * (y - mean_y) for t, y in enumerate(values))
    return top / sum((t - mean_t) ** 2 for t in range(n)) * (n - 1)


# --- chance


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_equally_frequent_classes_have_the_logarithm_of_their_number(classes):
    assert curves.chance_level(list(range(classes)) * 7) == pytest.approx(math.log(classes))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_chance_is_the_least_loss_of_a_constant_answer(labels):
    """Gibbs: no constant prediction has a lower mean cross-entropy than the frequencies themselves."""
    level = curves.chance_level(labels)
    generator = np.random.default_rng(0)
    for answer in generator.dirichlet(np.ones(5), size=20):
        assert -np.log(answer[labels]).mean() >= level - 1e-12


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(1, 3)), elements=finite), finite)
def test_chance_of_regression_is_the_least_loss_of_a_constant(targets, constant):
    level = curves.chance_level(targets, "squared error")
    assert level == pytest.approx(np.mean((targets - targets.mean(axis=0)) ** 2), abs=1e-9)
    assert np.mean((targets - constant) ** 2) >= level - 1e-9


def test_tensors_of_a_graph_are_read_as_numbers():
    loss = torch.ones(POINTS, requires_grad=True)
    assert curves.gap(loss, (2 * loss).bfloat16()) == 1
    assert curves.chance_level(torch.tensor([0, 1])) == curves.chance_level([0, 1])


# --- overfitting


def test_overfitting_needs_a_gap_that_is_wide_and_rises():
    rising, still = np.linspace(0, 2, POINTS), np.full(POINTS, 0.8)
    zero = np.zeros(POINTS)
    assert curves.overfitting(zero, rising).word == "yes"
    assert curves.overfitting(zero, still).word == "no"
    assert curves.overfitting(zero, still, rising=False).word == "yes"
    assert curves.overfitting(zero, rising / 10).word == "no"  # rises, but narrow
    assert curves.overfitting(zero, rising[::-1] + 0.5).word == "no"  # wide, but it falls


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_decide(seed):
    """Single points of these curves rise and fall by far more than the trend per point."""
    noise = 0.08 * np.random.default_rng(seed).standard_normal((2, POINTS))
    train = np.linspace(1.0, 0.1, POINTS) + noise[0]
    assert curves.overfitting(train, np.linspace(1.0, 1.4, POINTS) + noise[1]).word == "yes"
    assert curves.overfitting(train, train + 0.1 * noise[1]).word == "no"


def test_how_often_pure_noise_around_a_wide_gap_is_called_rising():
    """One-sided error of the trend at 2.5 standard errors and 8 points: about 2.3 % (Student's t, 6 degrees)."""
    gaps = 0.8 + 0.1 * np.random.default_rng(0).standard_normal((2000, 16))
    called = np.mean([bool(curves.overfitting(np.zeros(16), gap)) for gap in gaps])
    assert 0.01 < called < 0.04


def test_a_gap_at_the_margin_in_noise_cannot_be_told():
    noise = 0.2 * np.random.default_rng(0).standard_normal(POINTS)
    answer = curves.overfitting(np.zeros(POINTS), 0.3 + noise - noise[15:].mean(), rising=False)
    assert answer.word == "cannot tell"


@given(runs, st.floats(-5, 5))
def test_only_the_gap_counts(validation, lift):
    """A loss that both parts share changes nothing."""
    level = np.zeros_like(validation)
    one, other = curves.overfitting(level, validation), curves.overfitting(level + 4.0, validation + 4.0)
    if one.word == other.word:
        return
    # the words may part only where rounding decides
    line = curves.Line.through(validation[len(validation) // 2 :])
    close = abs(abs(line.mean - 0.3) - 2.5 * line.mean_error) < 1e-6 or abs(line.rise - 2.5 * line.rise_error) < 1e-6
    assert close or abs(line.rise) < 1e-6


@given(runs)
def test_the_line_against_the_normal_equations(values):
    line = curves.Line.through(values)
    assert line.rise == pytest.approx(slope(values.tolist()), abs=1e-8)
    assert line.mean == pytest.approx(sum(values) / len(values), abs=1e-9)
    design = np.stack([np.ones(len(values)), np.arange(len(values)) - (len(values) - 1) / 2], axis=1)
    fitted = np.linalg.lstsq(design, values, rcond=None)[0]
    variance = ((values - design @ fitted) ** 2).sum() / (len(values) - 2)
    errors = np.sqrt(np.diag(variance * np.linalg.inv(design.T @ design)))
    assert line.mean_error == pytest.approx(errors[0], abs=1e-8)
    assert line.rise_error == pytest.approx(errors[1] * (len(values) - 1), abs=1e-8)


# --- underfitting and stuck


def test_underfitting_is_the_end_and_stuck_is_the_whole():
    chance = math.log(10)
    never, late = np.full(POINTS, chance), np.r_[np.full(20, chance), np.full(10, 0.2)]
    undone = np.r_[np.full(8, chance), np.full(7, 0.2), np.full(15, 1.1 * chance)]
    assert (curves.underfitting(never, chance).word, curves.stuck(never, chance).word) == ("yes", "yes")
    assert (curves.underfitting(late, chance, last=0.3).word, curves.stuck(late, chance).word) == ("no", "no")
    assert (curves.underfitting(undone, chance).word, curves.stuck(undone, chance).word) == ("yes", "no")


@pytest.mark.parametrize(("factor", "word"), [(1.02, "yes"), (0.91, "yes"), (0.89, "no"), (0.3, "no")])
def test_the_limit_is_ten_percent_below_chance(factor, word):
    assert curves.underfitting(np.full(POINTS, factor * 2.0), 2.0).word == word


@given(runs.map(np.abs), st.floats(0.1, 10), st.sampled_from([0.125, 4.0, 1024.0]))
def test_underfitting_does_not_depend_on_the_unit(train, chance, unit):
    """Powers of two scale without rounding, so that the answer is the same exactly."""
    assert curves.underfitting(train * unit, chance * unit).word == curves.underfitting(train, chance).word


# --- undefined


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_no_number_cannot_be_told(bad):
    curve, clean = np.ones(POINTS), np.ones(POINTS)
    curve[-3] = bad
    answers = (curves.overfitting(clean, curve), curves.underfitting(curve, 1.0), curves.stuck(curve, 1.0))
    assert {answer.word for answer in answers} == {"cannot tell"}
    assert "no finite number" in answers[0].found
    curve = np.ones(POINTS)
    curve[0] = bad  # what is long past does not matter for the end
    assert curves.overfitting(clean, curve).word == "no"
    assert curves.underfitting(curve, 1.0).word == "yes"
    assert curves.stuck(curve, 1.0).word == "cannot tell"


@pytest.mark.parametrize("points", [0, 1, 14])
def test_short_curves_cannot_be_told(points):
    curve = np.ones(points)
    assert curves.overfitting(curve, curve + 1).word == "cannot tell"
    assert curves.underfitting(curve, 1.0).word == "cannot tell"
    assert curves.stuck(curve, 1.0).word == "cannot tell"
    assert math.isnan(curves.gap([], []))
    assert math.isnan(curves.relative([], [1.0]))


def test_relative_to_the_task_alone():
    assert curves.relative([9.0, 2.0], [9.0, 4.0, 4.0, 4.0]) == 0.5
    assert math.isnan(curves.relative([1.0], [0.0]))
    assert math.isnan(curves.relative([math.nan], [1.0]))


def test_diagnose_puts_the_answers_together():
    fall, rise, flat = 2.0 * 0.8 ** np.arange(POINTS), np.linspace(1, 3, POINTS), np.full(POINTS, 2.3)
    single = {"b": (flat / 4, flat / 2)}
    found = curves.diagnose({"a": fall, "b": flat}, {"a": rise, "b": flat}, {"a": 2.3, "b": 2.3}, single)
    assert found["a"].flags == ("overfitting",)
    assert found["b"].flags == ("underfitting", "stuck")
    assert found["a"].gap == pytest.approx((rise - fall)[15:].mean())
    assert math.isnan(found["a"].train_ratio)
    assert (found["b"].train_ratio, found["b"].validation_ratio) == (4.0, 2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: curves.gap([1.0], [1.0, 2.0]), "1 training and 2 validation losses"),
        (lambda: curves.gap([[1.0]], [[1.0]]), r"shape \(1, 1\), expected \(T,\)"),
        (lambda: curves.gap([1.0], [1.0], last=0.0), "last=0.0"),
        (lambda: curves.overfitting([1.0], [1.0], least=2), "at least 3 points"),
        (lambda: curves.underfitting([1.0], 0.0), "expected a positive level"),
        (lambda: curves.underfitting([1.0], 1.0, within=1.0), "within=1.0"),
        (lambda: curves.stuck([1.0], 1.0, parts=0), "parts=0"),
        (lambda: curves.chance_level([]), "0 targets"),
        (lambda: curves.chance_level(["a", "b"]), "labels as integers"),
        (lambda: curves.chance_level([[0, 1]]), "one column at a time"),
        (lambda: curves.chance_level([1.0], "hinge"), "expected 'cross-entropy' or 'squared error'"),  # type: ignore[arg-type]
        (lambda: curves.diagnose({"a": [1.0]}, {"b": [1.0]}, {"a": 1.0}), "validation has tasks"),
    ],
)
def test_errors_say_what_was_found(call, message):
    with pytest.raises(AccordError, match=message):
        call()


# --- update share


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(-9, 9).map(float)),
    st.integers(0, 99),
)
def test_update_shares_against_the_vectors(rows, seed):
    weights = np.random.default_rng(seed).uniform(0.1, 3, len(rows))
    d = sum(w * row for w, row in zip(weights, rows, strict=True))
    found = conflict.update_share(rows @ rows.T, weights)
    for share, w, row in zip(found, weights, rows, strict=True):
        if not row.any() or d @ d < 1e-6:
            assert math.isnan(share) or d @ d > 0
        else:
            assert share == pytest.approx(w * (row @ d) / (d @ d), rel=1e-6, abs=1e-6)
    if (found == found).any():
        assert np.nansum(found) == pytest.approx(1.0)


def test_update_shares_of_undefined_tasks_and_sizes():
    gramian = np.diag([1e-300, 1e-300, 0.0])
    np.testing.assert_array_equal(conflict.update_share(gramian), [0.5, 0.5, math.nan])
    np.testing.assert_array_equal(conflict.update_share(gramian, [1.0, math.nan, 1.0]), [1.0, math.nan, math.nan])
    opposed = np.array([[1.0, -1.0], [-1.0, 1.0]])
    assert np.isnan(conflict.update_share(opposed)).all()  # d = 0
    many = conflict.update_share(np.stack([opposed, np.eye(2)]))
    np.testing.assert_array_equal(many[1], [0.5, 0.5])
