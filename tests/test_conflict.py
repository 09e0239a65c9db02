"""Conflict metrics against slow oracles on explicit vectors, and the laws that they keep."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from accord import conflict
from accord.record import Record
from accord.step import Step

from oracles import conflict as slow

SCALARS = ("incidence", "synergy", "severity", "norm_ratio", "sum_norm", "cancellation")
SCALARS += ("condition_number", "effective_rank", "pareto_gap")
PER_TASK = ("norms", "in_conflict", "dominance", "priority", "summed")
PER_PAIR = ("cosine", "magnitude_similarity", "curvature_bound")
EVERY = SCALARS + PER_TASK + PER_PAIR
# angles and shares do not change when all gradients are scaled; lengths scale along
INVARIANT = {name for name in EVERY if name not in ("norms", "sum_norm", "pareto_gap", "summed")}
DEGREE = {"norms": 1, "sum_norm": 1, "pareto_gap": 1, "summed": 2}


@st.composite
def vectors(draw, tasks=(1, 5), size=(1, 5)):
    """(K, P) small integers: inner products, and so the signs of cosines, are exact."""
    shape = (draw(st.integers(*tasks)), draw(st.integers(*size)))
    return draw(hnp.arrays(np.float64, shape, elements=st.integers(-9, 9).map(float)))


def gramian(rows):
    return rows @ rows.T


def number(value):
    return math.nan if value is None else float(value)


def assert_close(found, expected, tolerance=1e-9):
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


# --- against the oracles


@given(vectors())
def test_direction_matches_the_vectors(rows):
    g, count = gramian(rows), len(rows)
    assert_close(conflict.cosine(g), [[number(slow.angle(a, b)) for b in rows] for a in rows])
    assert_close(conflict.incidence(g), number(slow.incidence(rows)))
    assert_close(conflict.synergy(g), number(slow.synergy(rows)))
    assert_close(conflict.severity(g), number(slow.severity(rows)))
    assert_close(conflict.in_conflict(g), [number(slow.in_conflict(rows, i)) for i in range(count)])


@given(vectors())
def test_magnitude_matches_the_vectors(rows):
    g, count = gramian(rows), len(rows)
    assert_close(conflict.norms(g), [slow.length(v) for v in rows])
    expected = [[number(slow.magnitude_similarity(a, b)) for b in rows] for a in rows]
    assert_close(conflict.magnitude_similarity(g), expected)
    assert_close(conflict.norm_ratio(g), number(slow.norm_ratio(rows)))
    assert_close(conflict.dominance(g), [number(slow.dominance(rows, i)) for i in range(count)])
    assert_close(conflict.priority(g), [number(slow.priority(rows, i)) for i in range(count)])


@given(vectors())
def test_joint_metrics_match_the_vectors(rows):
    g = gramian(rows)
    assert_close(conflict.sum_norm(g), number(slow.sum_norm(rows)))
    assert_close(conflict.cancellation(g), number(slow.cancellation(rows)))
    # squaring halves the digits: a singular value is good to about 1e-8 of the largest
    scale = np.abs(rows).max(initial=1)
    expected = slow.singular_values(rows)
    found = conflict.singular_values(g)
    assert np.isnan(found).sum() == len(rows) - (0 if expected is None else len(expected))
    if expected is not None:
        np.testing.assert_allclose(found[: len(expected)], expected, atol=1e-6 * scale)
    np.testing.assert_allclose(conflict.effective_rank(g), number(slow.effective_rank(rows)), atol=1e-4)
    expected = np.array([[number(slow.curvature_bound(a, b)) for b in rows] for a in rows])
    known = ~np.isnan(expected)
    assert_close(conflict.curvature_bound(g)[known], expected[known], 1e-8)


@given(vectors())
def test_condition_number_matches_the_singular_values(rows):
    found, expected = float(conflict.condition_number(gramian(rows))), number(slow.condition_number(rows))
    if expected == math.inf:
        assert found > 1e6  # zero up to rounding
    else:
        assert_close(found, expected, 1e-5)


@given(vectors())
def test_pareto_gap_is_the_shortest_point_of_the_hull(rows):
    found, expected = float(conflict.pareto_gap(gramian(rows))), number(slow.pareto_gap(rows))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4 * np.abs(rows).max(initial=1))


def test_pareto_gap_of_very_different_lengths():
    rows = np.array([[1e3, 1.0], [-1e-3, 1e-3]])
    np.testing.assert_allclose(conflict.pareto_gap(gramian(rows)), slow.pareto_gap(rows), rtol=1e-4)


@given(st.lists(st.sampled_from([0.0, 1.0, math.nan]), max_size=12))
def test_longest_run_matches_counting(flags):
    assert conflict.longest_run(np.array(flags)) == slow.longest_run(flags)


def test_longest_run_of_each_pair():
    flags = np.array([[1, 0], [1, 1], [0, 1], [1, 1]])
    assert conflict.longest_run(flags).tolist() == [2, 3]


# --- laws


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=25)
@given(rows=vectors(), power=st.integers(-30, 30))
def test_common_scale(name, rows, power):
    metric, g = getattr(conflict, name), gramian(rows)
    degree = 0 if name in INVARIANT else DEGREE[name]
    factor = 2.0**power  # a power of two rounds nothing
    np.testing.assert_allclose(metric(factor**2 * g), factor**degree * metric(g), rtol=1e-6, atol=1e-9 * factor**degree)


@given(vectors(tasks=(2, 5)), st.data())
def test_cosine_ignores_the_scale_of_each_task(rows, data):
    powers = data.draw(hnp.arrays(np.int64, len(rows), elements=st.integers(-40, 40)))
    scaled = rows * np.exp2(powers)[:, None]
    for metric in (conflict.cosine, conflict.incidence, conflict.severity, conflict.in_conflict):
        assert_close(metric(gramian(scaled)), metric(gramian(rows)))


@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=25)
@given(rows=vectors(tasks=(2, 5)), seed=st.integers(0, 99))
def test_permutation(name, rows, seed):
    order = np.random.default_rng(seed).permutation(len(rows))
    found = getattr(conflict, name)(gramian(rows[order]))
    expected = getattr(conflict, name)(gramian(rows))
    if name in PER_TASK:
        expected = expected[order]
    elif name in PER_PAIR:
        expected = expected[np.ix_(order, order)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * max(1.0, np.abs(rows).max()))


@pytest.mark.parametrize("nothing", [0.0, np.nan, np.inf], ids=["zero", "nan", "inf"])
@pytest.mark.parametrize("name", EVERY)
@settings(max_examples=20)
@given(rows=vectors())
def test_a_task_without_gradient_changes_nothing_for_the_others(name, nothing, rows):
    metric, g = getattr(conflict, name), gramian(rows)
    padded = np.full((len(rows) + 1, len(rows) + 1), nothing)
    padded[:-1, :-1] = g
    found, expected = metric(padded), metric(g)
    if name in PER_TASK:
        assert np.isnan(found[-1]) or (name == "norms" and nothing == 0 and found[-1] == 0)
        found = found[:-1]
    elif name in PER_PAIR:
        assert np.isnan(found[-1]).all()
        assert np.isnan(found[:, -1]).all()
        found = found[:-1, :-1]
    assert_close(found, expected, 1e-6)


@pytest.mark.parametrize("name", EVERY)
def test_batches_are_their_parts(name):
    rows = np.random.default_rng(0).normal(size=(2, 3, 4, 6))
    batch = np.einsum("...ip,...jp->...ij", rows, rows)
    batch[0, 1] = np.nan
    batch[1, 2, 0] = batch[1, 2, :, 0] = 0.0
    metric = getattr(conflict, name)
    found = metric(batch)
    for at in np.ndindex(2, 3):
        assert_close(found[at], metric(batch[at]))
    assert np.isnan(found[0, 1]).all(), "nothing is known where there is no Gramian"


@pytest.mark.parametrize("name", EVERY)
def test_one_task(name):
    found = getattr(conflict, name)(np.array([[4.0]]))
    expected = {"norms": 2, "sum_norm": 2, "pareto_gap": 2, "summed": 4, "cosine": 1, "curvature_bound": 0}
    expected |= dict.fromkeys(("cancellation", "condition_number", "effective_rank", "dominance"), 1)
    expected["magnitude_similarity"] = 1
    np.testing.assert_allclose(found.item(), expected.get(name, np.nan))


@pytest.mark.parametrize("name", EVERY)
def test_tensors_are_arrays(name):
    rows = torch.tensor([[1.0, 2.0], [-2.0, 0.5]], dtype=torch.bfloat16, requires_grad=True)
    g = rows @ rows.T
    assert_close(getattr(conflict, name)(g), getattr(conflict, name)(g.detach().double().numpy()))


@given(vectors())
def test_bounds(rows):
    g, count = gramian(rows), len(rows)
    here = ~np.isnan(conflict.cosine(g).diagonal())
    assert (conflict.cosine(g).diagonal()[here] == 1).all()
    assert (np.abs(conflict.cosine(g)[np.ix_(here, here)]) <= 1).all()
    similarity = conflict.magnitude_similarity(g)[np.ix_(here, here)]
    assert ((similarity > 0) & (similarity <= 1)).all()
    if not here.any():
        return
    assert 0 <= conflict.cancellation(g) <= 1
    assert 1 - 1e-9 <= conflict.effective_rank(g) <= here.sum() + 1e-9 <= count + 1e-9
    assert conflict.condition_number(g) >= 1
    assert_close(np.nansum(conflict.dominance(g)), 1)
    assert 0 <= conflict.pareto_gap(g) <= np.nanmin(conflict.norms(g)[here]) + 1e-9
    if here.sum() > 1:
        assert conflict.incidence(g) + conflict.synergy(g) <= 1 + 1e-9
        assert conflict.severity(g) <= conflict.incidence(g)
        assert conflict.norm_ratio(g) >= 1


def test_cosine_of_tiny_and_huge_gradients():
    for factor in (1e-150, 1e150):
        g = gramian(np.array([[3.0, 4.0], [4.0, -3.0], [-3.0, -4.0]]) * factor)
        assert_close(conflict.cosine(g), [[1, 0, -1], [0, 1, 0], [-1, 0, 1]])


def test_shape_is_checked():
    with pytest.raises(ValueError, match=r"\(2, 3\), expected Gramians of shape \(..., K, K\)"):
        conflict.cosine(np.zeros((2, 3)))


# --- rates over time


def test_pair_incidence_excludes_and_counts_undefined_steps():
    g = np.array(
        [[[1.0, -1], [-1, 4]], [[1, 1], [1, 4]], [[1, -1], [-1, 4]], [[1, 0], [0, 0]], np.full((2, 2), np.nan)]
    )
    assert_close(conflict.pair_incidence(g), [[0, 2 / 3], [2 / 3, 0]])
    rate = conflict.rate(conflict.in_conflict(g))
    assert rate.value.tolist() == pytest.approx([2 / 3, 2 / 3])
    assert rate.defined.tolist() == [3, 3]
    assert rate.undefined.tolist() == [2, 2]


def test_severe_conflict_counts_below_the_threshold():
    g = np.array([[1.0, -0.1, -0.9], [-0.1, 1, 0], [-0.9, 0, 1]])
    assert conflict.incidence(g) == pytest.approx(2 / 3)
    assert conflict.incidence(g, threshold=-0.5) == pytest.approx(1 / 3)


def test_priority_of_two_tasks_is_the_published_index():
    """mtpp.md section 8: TPI = 1{|g_M| < |g_T|}, averaged over the conflicting entries only."""
    rows = np.random.default_rng(1).normal(size=(200, 2, 3)) * [[1.0], [2.0]]
    entries = [r for r in rows if r[0] @ r[1] < 0]
    published = np.mean([np.linalg.norm(m) < np.linalg.norm(t) for t, m in entries])
    found = conflict.rate(conflict.priority(np.einsum("tip,tjp->tij", rows, rows)))
    assert found.value.tolist() == pytest.approx([published, 1 - published])
    assert found.defined.tolist() == [len(entries)] * 2


def test_priority_of_a_draw_goes_to_nobody():
    assert conflict.priority([[1.0, -0.5], [-0.5, 1.0]]).tolist() == [0, 0]


def test_rate_over_several_axes_and_over_nothing():
    values = np.array([[1.0, np.nan], [0.0, np.nan]])
    rate = conflict.rate(values, axis=(0, 1))
    assert (float(rate.value), int(rate.defined), int(rate.undefined)) == (0.5, 2, 2)
    assert np.isnan(conflict.rate(values).value[1])


# --- blocks


@given(hnp.arrays(np.float64, (4, 3, 2), elements=st.integers(-9, 9).map(float)))
def test_gramians_add_over_blocks_and_groups(rows):
    """(B, K, P_b) gradients block by block give the Gramians of the concatenated gradients, exactly."""
    names = ["body.0.weight", "body.0.bias", "body.1.weight", "neck.weight"]
    blocks = np.einsum("bip,bjp->bij", rows, rows)
    whole = np.concatenate(list(rows), axis=1)
    np.testing.assert_array_equal(conflict.total(blocks), gramian(whole))
    for by in (1, 2, {n: "left" if n < "body.1" else "right" for n in names}):
        grouped, found = conflict.group(blocks, names, by)
        np.testing.assert_array_equal(conflict.total(grouped), conflict.total(blocks))
        for at, name in enumerate(found):
            inside = [i for i, n in enumerate(names) if (by[n] == name if isinstance(by, dict) else n.startswith(name))]
            np.testing.assert_array_equal(grouped[at], gramian(np.concatenate(list(rows[inside]), axis=1)))


def test_group_names_and_inner_products():
    names = ["body.0", "body.1", "neck"]
    descent = np.arange(12.0).reshape(2, 3, 2)  # (T, B, K)
    grouped, found = conflict.group(descent, names, 1, axis=-2)
    assert found == ("body", "neck")
    np.testing.assert_array_equal(grouped[:, 0], descent[:, 0] + descent[:, 1])
    np.testing.assert_array_equal(grouped[:, 1], descent[:, 2])


def test_group_says_what_is_wrong():
    blocks = np.zeros((2, 1, 1))
    with pytest.raises(ValueError, match="these blocks have no group: neck"):
        conflict.group(blocks, ["body", "neck"], {"body": "all"})
    with pytest.raises(ValueError, match="found 2 blocks on axis -3, expected one for each of the 3 names"):
        conflict.group(blocks, ["a", "b", "c"], 1)
    with pytest.raises(ValueError, match="found a depth of 0"):
        conflict.group(blocks, ["a", "b"], 0)


def test_negligible_blocks_become_undefined():
    rows = np.array([[[1.0, 0.0], [1.0, 1.0]], [[-1e-14, 0.0], [1.0, 0.0]]])  # (B, K, P)
    blocks = np.einsum("bip,bjp->bij", rows, rows)
    assert conflict.incidence(blocks).tolist() == [0, 1]
    kept = conflict.drop_negligible(blocks)
    np.testing.assert_array_equal(kept[0], blocks[0])
    np.testing.assert_array_equal(kept[1], [[0, 0], [0, 1]])
    assert np.isnan(conflict.incidence(kept)[1])


# --- harm


@given(vectors(tasks=(2, 2), size=(2, 5)))
def test_under_the_sum_of_two_the_shorter_is_harmed_beyond_the_ratio(rows):
    """applications.md section 0, point 1: task 1 is harmed exactly if cos < -n_1 / n_2."""
    g = gramian(rows)
    first, second = conflict.norms(g)
    if not (first > 0 and second > 0):
        return
    harmed = conflict.summed(g)[0] < 0
    margin = conflict.cosine(g)[0, 1] + first / second
    assert harmed == (margin < 0) or abs(margin) < 1e-12
    assert not (harmed and first >= second), "the longer gradient is never harmed"
    assert not harmed or conflict.incidence(g) == 1, "harm needs conflict"
    step = -rows.sum(0)
    assert conflict.harm(conflict.summed(g))[0] == max(slow.raised(rows[0], np.zeros(rows.shape[1]), step), 0)


def test_conflict_is_not_harm():
    g = gramian(np.array([[1.0, 0.0], [-0.5, 1.0]]))
    assert conflict.incidence(g) == 1
    assert conflict.harm(conflict.summed(g)).tolist() == [0, 0]


@given(vectors(tasks=(1, 4), size=(1, 4)), st.integers(0, 99))
def test_harm_is_the_rise_of_the_linear_loss(rows, seed):
    """For the aggregate and for the step taken, whatever they are; relative harm is the cosine of gradient and move."""
    random = np.random.default_rng(seed)
    direction, update = random.normal(size=(2, rows.shape[1]))
    g, start = gramian(rows), random.normal(size=rows.shape[1])
    lines = {
        "aggregate": (conflict.aggregated(rows @ direction), -direction),
        "step": (conflict.taken(rows @ update), update),
    }
    for progress, move in lines.values():
        rise = np.array([slow.raised(v, start, move) for v in rows])
        assert_close(-progress, rise, 1e-7)
        assert_close(conflict.harm(progress), np.maximum(rise, 0), 1e-7)
        relative = conflict.relative_harm(progress, g, slow.length(move))
        assert_close(relative, [number(slow.angle(v, move)) for v in rows], 1e-7)


def test_rounding_is_not_harm():
    """A projected gradient is orthogonal to the other one: the sign of what is left is chance."""
    random = np.random.default_rng(3)
    first, second = random.normal(size=(2, 100))
    projected = first - (first @ second) / (second @ second) * second
    rows = np.stack([first, second])
    relative = conflict.relative_harm(rows @ projected, gramian(rows), np.linalg.norm(projected))
    assert abs(relative[1]) < 1e-12
    assert conflict.harmed(relative).tolist() == [0, 0]
    assert conflict.harmed([1e-5]).tolist() == [1]


def test_inactive_tasks_take_no_part_in_the_sum():
    g = gramian(np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_array_equal(conflict.summed(g), [-1, 2, 1])
    np.testing.assert_array_equal(conflict.summed(g, active=[True, False, True]), [1, np.nan, 1])
    np.testing.assert_array_equal(conflict.aggregated([1.0, 2.0], active=[True, False]), [1, np.nan])
    np.testing.assert_array_equal(conflict.taken([1.0, 2.0], active=[True, False]), [-1, np.nan])


def test_nothing_moved_is_undefined():
    assert np.isnan(conflict.relative_harm([0.0, 0.0], np.eye(2), 0.0)).all()


def random_steps(count, seed=0):
    """Steps with gradients of three tasks in two blocks, a direction and an update, all known explicitly."""
    random = np.random.default_rng(seed)
    rows, direction, update = random.normal(size=(count, 2, 3, 4)), *random.normal(size=(2, count, 2, 4))
    steps = []
    for t in range(count):
        steps.append(
            Step(
                index=t,
                tasks=("a", "b", "c"),
                losses=torch.zeros(3),
                active=torch.ones(3, dtype=torch.bool),
                blocks=("body", "neck"),
                gramians=torch.tensor(np.einsum("bip,bjp->bij", rows[t], rows[t])),
                descent=torch.tensor(np.einsum("bip,bp->bi", rows[t], direction[t])),
                direction_norm=float(np.linalg.norm(direction[t])),
                change=torch.tensor(np.einsum("bip,bp->bi", rows[t], update[t])),
                update_norm=float(np.linalg.norm(update[t])),
            )
        )
    flat = rows.transpose(0, 2, 1, 3).reshape(count, 3, 8)  # (T, K, P)
    return steps, flat, direction.reshape(count, 8), update.reshape(count, 8)


def test_the_three_lines_of_a_record():
    steps, rows, direction, update = random_steps(20)
    steps[3].change = steps[3].update_norm = None
    lines = conflict.lines(Record.of(steps))
    assert list(lines) == ["sum", "aggregate", "step"]
    moves = {"sum": -rows.sum(1), "aggregate": -direction, "step": update}
    for name, line in lines.items():
        expected = np.array([[slow.angle(g, move) for g in rows[t]] for t, move in enumerate(moves[name])])
        if name == "step":
            expected[3] = np.nan
        assert_close(line.relative, expected)
        rate = line.rate()
        assert_close(rate.value, np.nanmean(np.where(np.isnan(expected), np.nan, expected > 1e-6), axis=0))
        assert rate.undefined.tolist() == [1 if name == "step" else 0] * 3
        assert_close(np.sign(-line.progress), np.sign(line.relative))


def test_lines_without_gramians_and_with_inactive_tasks():
    steps, *_ = random_steps(3)
    steps[0].gramians = steps[0].descent = steps[0].change = None
    steps[1].active = torch.tensor([True, False, True])
    lines = conflict.lines(Record.of(steps))
    for line in lines.values():
        assert np.isnan(line.relative[0]).all()
        assert np.isnan(line.progress[0]).all()
        assert np.isnan(line.relative[1]).tolist() == [False, True, False]
        assert line.rate().defined.tolist() == [2, 1, 2]
    without_blocks = Step(0, ("a",), torch.zeros(1), torch.ones(1, dtype=torch.bool))
    for line in conflict.lines(Record.of([without_blocks])).values():
        assert np.isnan(line.progress).all()


def test_harm_adds_over_blocks():
    steps, *_ = random_steps(5)
    record = Record.of(steps)
    per_block = conflict.summed(record.gramians)  # (T, B, K)
    assert_close(per_block.sum(1), conflict.summed(record.gramian))


@pytest.mark.parametrize(("left", "right"), list(itertools.product(("weak", "strong"), repeat=2)))
def test_severity_grows_with_the_angle(left, right):
    size = {"weak": -0.1, "strong": -0.9}
    g = lambda c: np.array([[1.0, c], [c, 1.0]])  # noqa: E731
    expected = np.sign(size[right] - size[left])
    assert np.sign(conflict.severity(g(size[left])) - conflict.severity(g(size[right]))) == expected


@pytest.mark.parametrize("k", [2, 3, 10])
def test_unrelated_gradients_conflict_half_of_the_time(k):
    """The chance level that every rate is to be held against."""
    draws = 2000
    rows = torch.randn(draws, k, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rates = conflict.incidence(rows @ rows.mT)  # (draws,)
    assert rates.mean() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(draws * k * (k - 1) / 2))
    assert set(torch.as_tensor(rates).mul(k * (k - 1) / 2).round().int().tolist()) <= set(range(k * (k - 1) // 2 + 1))
