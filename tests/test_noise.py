"""accord.noise: slow oracles, coverage of known truth, gates, and what is left out or refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from accord import AccordError, Monitor, conflict, noise
from accord.noise.intervals import mean, ratio, t_quantile, totals

from models import HardSharing


def draws(cosine, snr, count, dim=40, repeat=(), seed=0, tasks=2):
    """Gramians (T, *repeat, 2K, 2K) of Gaussian gradients: unit expectations at a known cosine, noise partly shared."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((tasks, dim))
    truth[:, 0] = 1.0
    truth[1, :2] = cosine, math.sqrt(1 - cosine**2)
    own = rng.normal(size=(count, *repeat, 2, tasks, dim))
    common = rng.normal(size=(count, *repeat, 2, 1, dim))
    rows = truth + (0.8 * own + 0.6 * common) / math.sqrt(dim * snr)  # (T, ..., 2, K, D)
    rows = rows.reshape(count, *repeat, 2 * tasks, dim)
    return rows @ rows.swapaxes(-1, -2)


def slow_cosine(gramians):
    """Loop over draws and pairs, in plain numbers."""
    tasks = gramians.shape[-1] // 2
    out = np.full((tasks, tasks), np.nan)
    for i in range(tasks):
        for j in range(tasks):
            above = [(g[i, tasks + j] + g[j, tasks + i]) / 2 for g in gramians]
            left, right = ([g[k, tasks + k] for g in gramians] for k in (i, j))
            out[i, j] = np.mean(above) / math.sqrt(np.mean(left) * np.mean(right))
    return out


# Values


def test_corrected_cosine_against_loops():
    gramians = draws(-0.5, 2.0, 30, tasks=3)
    found = noise.corrected_cosine(gramians)
    np.testing.assert_allclose(found.value, np.clip(slow_cosine(gramians), -1, 1), rtol=1e-12)
    raw = np.mean([conflict.cosine(g[half, half])[0, 1] for g in gramians for half in (slice(0, 3), slice(3, 6))])
    assert found.raw[0, 1] == pytest.approx(raw, rel=1e-12)
    np.testing.assert_array_equal(np.diag(found.value), 1.0)
    np.testing.assert_array_equal(found.value, found.value.T)


def test_without_noise_it_is_the_cosine_and_the_interval_a_point():
    rows = np.random.default_rng(0).normal(size=(3, 7))
    both = np.concatenate([rows, rows])
    found = noise.corrected_cosine(np.stack([both @ both.T] * 5))
    for part in (found.value, found.low, found.high, found.raw):
        np.testing.assert_allclose(part, conflict.cosine(rows @ rows.T), atol=1e-7)


def test_incidence_against_loops():
    gramians = draws(0.3, 0.05, 50)
    null, excess = noise.null_incidence(gramians), noise.excess_incidence(gramians)
    own = [np.mean([g[i, 2 + i] < 0 for g in gramians]) for i in range(2)]
    seen = np.mean([g[i, 2 + 1 - i] < 0 for g in gramians for i in range(2)])
    np.testing.assert_allclose(null.value, own)
    assert excess.observed[0, 1] == pytest.approx(seen)
    assert excess.value[0, 1] == pytest.approx(seen - np.mean(own))
    assert excess.null[0, 1] == pytest.approx(np.mean(own))
    assert np.isnan(excess.value[0, 0])


def test_signal_to_noise_is_what_was_put_in():
    found = noise.signal(draws(0.0, 0.5, 4000))
    np.testing.assert_allclose(found.ratio, 0.5, rtol=0.1)
    np.testing.assert_allclose(found.value, 1.0, rtol=0.1)
    assert (found.low < 1).all()
    assert (found.high > 1).all()


def test_attenuation_is_as_the_docstring_says():
    found = noise.corrected_cosine(draws(-0.9, 1.0, 3000, dim=400))
    quiet = noise.corrected_cosine(draws(-0.9, 1.0, 3000, dim=400, seed=1))
    assert found.value[0, 1] == pytest.approx(-0.9, abs=0.03)
    assert quiet.value[0, 1] == pytest.approx(-0.9, abs=0.03)
    # shared noise (0.36 of the whole) adds to the product; independent noise would read -0.45
    assert found.raw[0, 1] == pytest.approx((-0.9 + 0.36) / 2, abs=0.03)


# Intervals


@pytest.mark.parametrize(("cosine", "snr"), [(-0.9, 1.0), (0.0, 1.0), (0.5, 0.3), (-0.3, 10.0), (0.0, 0.2)])
@pytest.mark.parametrize("count", [10, 40])
def test_law_intervals_cover_the_truth(cosine, snr, count):
    """The 95 % interval holds the truth in about 95 % of windows, where most windows pass the gate."""
    found = noise.corrected_cosine(draws(cosine, snr, count, repeat=(600,)))
    fine = found.identifiable[:, 0, 1]
    if fine.mean() < 0.5:
        pytest.skip("too few windows pass")
    inside = (found.low[:, 0, 1] <= cosine) & (cosine <= found.high[:, 0, 1])
    assert 0.91 <= inside[fine].mean() <= 0.99


def test_law_wrong_intervals_are_rare_even_where_few_pass():
    for snr in (0.02, 0.05, 0.1):
        found = noise.corrected_cosine(draws(-0.9, snr, 20, repeat=(800,)))
        wrong = (found.low[:, 0, 1] > -0.9) | (found.high[:, 0, 1] < -0.9)
        assert wrong.mean() < 0.08


def test_law_a_task_without_signal_is_not_identifiable():
    """One-sided 2.5 %: of windows that are noise alone hardly any passes, and pairs need both tasks."""
    rows = np.random.default_rng(0).normal(size=(30, 1000, 4, 20))
    found = noise.corrected_cosine(rows @ rows.swapaxes(-1, -2))
    assert found.identifiable[:, 0, 0].mean() < 0.05
    assert found.identifiable[:, 0, 1].mean() < 0.01
    assert np.isnan(found.value[~found.identifiable]).all()
    assert not np.isnan(found.value[found.identifiable]).any()


def test_law_the_band_holds_orthogonal_draws():
    gramians = draws(0.0, 0.1, 2000, dim=30)
    rows = np.random.default_rng(1).normal(size=(2000, 4, 30))
    for case in (gramians, rows @ rows.swapaxes(-1, -2)):
        width = noise.band(case)[0, 1]
        cosines = conflict.cosine(case[:, :2, :2])[:, 0, 1]
        assert np.mean(np.abs(cosines - cosines.mean()) < width) == pytest.approx(0.95, abs=0.02)


def test_dependent_draws_need_blocks():
    """Every draw five times over says nothing new; blocks of five know it, single draws do not."""
    gramians = draws(0.2, 0.5, 24)
    often = np.repeat(gramians, 5, axis=0)
    once, naive, blocked = (noise.corrected_cosine(*a) for a in ((gramians,), (often,), (often, 0.95, 5)))
    np.testing.assert_allclose(blocked.low, once.low, rtol=1e-9)
    assert naive.high[0, 1] - naive.low[0, 1] < 0.6 * (once.high[0, 1] - once.low[0, 1])
    np.testing.assert_allclose(noise.null_incidence(often, block=5), noise.null_incidence(gramians))
    np.testing.assert_allclose(noise.signal(often, block=5).low, noise.signal(gramians).low)


def test_student_quantiles_and_intervals_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    for level in (0.5, 0.9, 0.95, 0.999):
        for v in (1, 2, 3, 10, 100, 3000):
            assert t_quantile(level, v) == pytest.approx(stats.t.ppf((1 + level) / 2, v), rel=1e-7)
    values = np.random.default_rng(0).normal(size=12)
    found = mean(values, np.ones(12, bool), 0.9, 1)
    expected = stats.t.interval(0.9, 11, values.mean(), stats.sem(values))
    np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-9)


def test_fieller_solves_its_equation():
    """At both limits ``x - c y`` lies exactly t standard errors from zero, by a plain t-test."""
    rng = np.random.default_rng(0)
    y = rng.normal(3, 1, 15)
    x = 0.5 * y + rng.normal(0, 1, 15)
    every = np.ones(15, bool)
    found = ratio(totals(x, every, 1), totals(y, every, 1), 0.95)
    for c in (found.low, found.high):
        off = x - c * y
        assert abs(off.mean()) / (off.std(ddof=1) / math.sqrt(15)) == pytest.approx(t_quantile(0.95, 14), rel=1e-9)
    assert found.low < found.value < found.high
    lost = ratio(totals(x, every, 1), totals(y - y.mean(), every, 1), 0.95)
    assert np.isnan([lost.low, lost.high]).all()


def test_draws_that_all_agree_are_not_certain():
    rows = np.array([[1.0], [-1.0], [1.0], [-1.0]]) * np.ones((20, 1, 1))
    found, null = noise.excess_incidence(rows @ rows.swapaxes(1, 2)), noise.null_incidence(rows @ rows.swapaxes(1, 2))
    assert found.value[0, 1] == 1
    assert found.low[0, 1] == pytest.approx(0.025 ** (1 / 20))
    assert found.high[0, 1] == 1
    np.testing.assert_allclose(null, [[0, 0], [0, 0], [1 - 0.025 ** (1 / 20)] * 2])


# What takes no part


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_undefined_gradients_leave_their_draw_and_no_more(bad):
    """A task that is broken in one draw counts in the others; the other tasks do not notice."""
    gramians = draws(-0.4, 1.0, 20, tasks=3)
    broken = gramians.copy()
    broken[4, 1, :] = broken[4, :, 1] = bad  # task 1 on half a
    found, all_, without = (noise.corrected_cosine(g) for g in (broken, gramians, np.delete(gramians, 4, axis=0)))
    for part, whole, less in zip(found, all_, without, strict=True):
        np.testing.assert_allclose(part[0, 2], whole[0, 2])
        if part is not found.raw:
            np.testing.assert_allclose(part[0, 1], less[0, 1])
    assert noise.excess_incidence(broken).value[0, 1] == noise.excess_incidence(np.delete(gramians, 4, 0)).value[0, 1]
    assert noise.band(broken)[0, 2] == noise.band(gramians)[0, 2]


def test_one_draw_has_values_but_no_intervals():
    one = draws(0.5, 5.0, 1)
    assert not noise.corrected_cosine(one).identifiable.any()
    assert np.isnan(noise.null_incidence(one).low).sum() == 0  # 0 of 1 still bounds a share, widely
    found = noise.signal(one)
    assert np.isfinite(found.value).all()
    assert np.isnan(found.low).all()
    assert noise.band(one)[0, 1] > 0


def test_a_single_task_and_one_that_is_never_there():
    single = draws(0.0, 1.0, 20)[:, ::2, ::2]
    assert noise.corrected_cosine(single).value.tolist() == [[1.0]]
    assert np.isnan(noise.excess_incidence(single).value).all()
    assert np.isnan(noise.band(single)).all()
    absent = draws(0.0, 1.0, 20)
    absent[:, 1] = absent[:, :, 1] = np.nan
    assert np.isnan(noise.null_incidence(absent).value).tolist() == [False, True]
    for part in (noise.corrected_cosine(absent).value, noise.excess_incidence(absent).value, noise.band(absent)):
        assert np.isnan(part[0, 1])


@pytest.mark.parametrize("factor", [1e-150, 1e150])
def test_extreme_lengths_change_nothing(factor):
    gramians = draws(-0.4, 1.0, 20)
    for function in (noise.corrected_cosine, noise.excess_incidence, noise.null_incidence):
        for scaled, plain in zip(function(gramians * factor), function(gramians), strict=True):
            np.testing.assert_allclose(scaled, plain)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((4, 4), "at least one draw"), ((0, 4, 4), "at least one draw"), ((2, 3, 3), "2K"), ((2, 0, 0), "2K")],
)
def test_other_shapes_are_refused(shape, words):
    for function in (noise.corrected_cosine, noise.excess_incidence, noise.null_incidence, noise.signal, noise.band):
        with pytest.raises(AccordError, match=words):
            function(np.ones(shape))
    with pytest.raises(ValueError, match=r"\(\.\.\., K, K\)"):
        noise.signal(np.ones((2, 3, 4)))


def test_settings_out_of_range_are_refused():
    gramians = draws(0.0, 1.0, 3)
    for level in (0.0, 1.0, 95):
        with pytest.raises(AccordError, match="level="):
            noise.corrected_cosine(gramians, level)
    with pytest.raises(AccordError, match="block=0"):
        noise.signal(gramians, block=0)


# From a model


def test_halves_of_a_model_give_the_gramians_of_both():
    model = HardSharing().double()
    x = torch.randn(16, 5, generator=torch.Generator().manual_seed(1)).double()
    monitor = Monitor(model, every=1, shared=["trunk"])
    for first, second in (x.split(8), x.flip(0).split(8)):
        monitor.observe(noise.halves(model.losses(first), model.losses(second)))
    gramians = monitor.record().gramians  # (T, B, 2K, 2K)
    tasks = len(model.losses(x))
    assert gramians.shape[-1] == 2 * tasks
    # the second look has the halves swapped and the samples turned round: the same gradients
    swapped = np.roll(gramians, tasks, axis=(-1, -2))
    np.testing.assert_allclose(gramians[1], swapped[0], rtol=1e-9, atol=1e-12)
    total = noise.split(conflict.total(gramians))
    plain = Monitor(model, every=1)
    plain.observe(model.losses(x[:8]))
    np.testing.assert_allclose(total.first[0], conflict.total(plain.record().gramians)[0], rtol=1e-9)
    assert noise.corrected_cosine(gramians).value.shape == (gramians.shape[1], tasks, tasks)  # per layer


def test_halves_of_other_tasks_are_refused():
    with pytest.raises(AccordError, match="expected the same"):
        noise.halves({"a": 1}, {"b": 1})
    with pytest.raises(AccordError, match="rename"):
        noise.halves({"a": 1, "a again": 1}, {"a": 1, "a again": 1})
