"""Distances and precision of futures against all matchings, on small cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.metrics.horizon import DELETION_COSTS, temporal_precision, transport_distance

NAMES = ("a", "b", "c")


def futures(seed: int, sizes: tuple[int, ...]) -> Events:
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(0, 4, size)) for size in sizes]
    return Events.of(times, [rng.integers(0, 2, size) for size in sizes], start=0.0, end=4.0, names=NAMES)


def one(events: Events, i: int) -> list[tuple[float, int]]:
    a, b = events.offsets[i : i + 2]
    return list(zip(events.time[a:b].tolist(), events.mark[a:b].tolist(), strict=True))


def matchings(n: int, m: int) -> list[list[tuple[int, int]]]:
    """Every set of pairs in which no one occurs twice."""
    return [
        list(zip(rows, columns, strict=True))
        for size in range(min(n, m) + 1)
        for rows in itertools.combinations(range(n), size)
        for columns in itertools.permutations(range(m), size)
    ]


def slow_distance(true: list[tuple[float, int]], predicted: list[tuple[float, int]], cost: float) -> float:
    found = []
    for pairs in matchings(len(true), len(predicted)):
        if all(true[i][1] == predicted[j][1] for i, j in pairs):
            moved = sum(abs(true[i][0] - predicted[j][0]) for i, j in pairs)
            found.append(moved + cost * (len(true) + len(predicted) - 2 * len(pairs)))
    return min(found)


def edit_distance(true: list[tuple[float, int]], predicted: list[tuple[float, int]], cost: float) -> float:
    """Dynamic programming over monotone alignments, mark by mark: the published algorithm."""
    total = 0.0
    for mark in range(len(NAMES)):
        s, t = ([time for time, k in side if k == mark] for side in (true, predicted))
        d = np.add.outer(cost * np.arange(len(s) + 1), cost * np.arange(len(t) + 1))
        for i, j in itertools.product(range(len(s)), range(len(t))):
            d[i + 1, j + 1] = min(d[i, j] + abs(s[i] - t[j]), d[i, j + 1] + cost, d[i + 1, j] + cost)
        total += d[-1, -1]
    return total


def test_distance_against_all_matchings():
    true, predicted = futures(0, (4, 0, 3, 5, 1, 4)), futures(1, (4, 3, 0, 4, 1, 5))
    found = transport_distance(true, predicted)
    expected = [[slow_distance(one(true, i), one(predicted, i), c) for c in DELETION_COSTS] for i in range(6)]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_distance_against_dynamic_programming():
    true, predicted = futures(2, (40, 25, 60)), futures(3, (35, 50, 60))
    found = transport_distance(true, predicted, [0.01, 0.1, 1.0])
    expected = [[edit_distance(one(true, i), one(predicted, i), c) for c in (0.01, 0.1, 1.0)] for i in range(3)]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_distance_is_a_metric():
    a, b, c = (futures(seed, (6, 9)) for seed in range(3))
    assert transport_distance(a, a).abs().max() == 0
    assert torch.allclose(transport_distance(a, b), transport_distance(b, a), atol=1e-12)
    detour = transport_distance(a, c) + transport_distance(c, b)
    assert (transport_distance(a, b) <= detour + 1e-12).all()


def slow_precision(true: Events, predicted: Events, scores: np.ndarray, delta: float, mark: int) -> float:
    """From the definition: at each threshold the most claims that can be right at once, over all matchings."""
    positives, steps, before = int((true.mark == mark).sum()), 0.0, 0.0
    for h in sorted(set(scores[:, mark]), reverse=True):
        right = claims = 0
        for i in range(len(true)):
            start = predicted.offsets[i]
            events = [t for t, k in one(true, i) if k == mark]
            sure = [t for j, (t, _) in enumerate(one(predicted, i)) if scores[start + j, mark] >= h]
            fits = [
                len(pairs)
                for pairs in matchings(len(sure), len(events))
                if all(abs(sure[p] - events[q]) <= delta for p, q in pairs)
            ]
            right, claims = right + max(fits), claims + len(sure)
        steps += (right / positives - before) * right / max(claims, 1)
        before = right / positives
    return steps


@pytest.mark.parametrize("seed", range(4))
def test_precision_against_all_matchings(seed):
    true, predicted = futures(seed, (4, 3, 0, 5)), futures(seed + 10, (5, 0, 3, 4))
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 6, (12, 3)).astype(float)  # with ties
    deltas = [0.3, 1.0]
    found = temporal_precision(true, predicted, torch.from_numpy(scores), deltas)
    for j, delta in enumerate(deltas):
        for mark in (0, 1):
            expected = slow_precision(true, predicted, scores, delta, mark)
            assert found.each[j, mark].item() == pytest.approx(expected, abs=1e-12)
    assert found.each[:, 2].isnan().all()
    assert found.support.tolist() == [*np.bincount(true.mark), 0]
    each, support = found.each[:, :2], found.support[:2]
    assert found.t_map == pytest.approx(each.mean().item())
    assert found.t_map_published == pytest.approx(each.sum().item() / 6)
    assert found.t_map_weighted == pytest.approx((each @ support / support.sum()).mean().item())


def test_precision_of_one_claim_per_sequence_is_average_precision():
    """Without competition for events this is the average precision of scikit-learn times the largest recall."""
    rng = np.random.default_rng(0)
    count = 200
    comes = rng.random(count) < 0.4
    true = Events.of([[1.0]] * count, [[int(c)] for c in comes], start=0.0, end=2.0)
    predicted = Events.of([[1.0 if near else 1.9] for near in rng.random(count) < 0.7], start=0.0, end=2.0, names="01")
    scores = torch.from_numpy(rng.random((count, 2))) + torch.from_numpy(comes)[:, None] * 0.3
    hits = comes & (predicted.time == 1.0)
    expected = average_precision_score(hits, scores[:, 1]) * hits.sum() / comes.sum()
    assert temporal_precision(true, predicted, scores, [0.5]).each[0, 1].item() == pytest.approx(expected, abs=1e-12)


def test_perfect_and_empty_futures():
    true = futures(0, (4, 6))
    sure = torch.eye(3)[torch.from_numpy(true.mark)].log()
    assert temporal_precision(true, true, sure, [0.01]).t_map == 1
    nothing = futures(0, (0, 0))
    assert temporal_precision(true, nothing, torch.empty(0, 3), [0.01]).t_map == 0


def test_a_mark_all_of_whose_claims_are_right_gets_its_recall():
    true = Events.of([[1.0, 3.0]], [[0, 0]], start=0.0, end=4.0)
    predicted = Events.of([[1.0]], [[0]], start=0.0, end=4.0)
    assert temporal_precision(true, predicted, torch.zeros(1, 1), [0.1]).t_map == 0.5


def test_scores_matter_by_order_alone():
    true, predicted = futures(0, (5, 6)), futures(1, (6, 6))
    scores = torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).double().log_softmax(1)
    spread = torch.where(scores < -1, -torch.inf, scores)
    found = temporal_precision(true, predicted, scores, [0.5]).each
    assert torch.equal(temporal_precision(true, predicted, scores.exp(), [0.5]).each.nan_to_num(), found.nan_to_num())
    assert temporal_precision(true, predicted, spread, [0.5]).each[:, :2].isfinite().all()


def test_refusals():
    true, other = futures(0, (3, 2)), futures(1, (2,))
    with pytest.raises(TPPError, match="2 true futures with 3 marks and 1 predicted"):
        transport_distance(true, other)
    with pytest.raises(TPPError, match="all positive"):
        transport_distance(true, true, [0.0])
    with pytest.raises(TPPError, match=r"expected \(5, 3\)"):
        temporal_precision(true, true, torch.zeros(4, 3), [1.0])
    with pytest.raises(TPPError, match="not NaN"):
        temporal_precision(true, true, torch.full((5, 3), torch.nan), [1.0])
