"""How good is a predicted future of many events? Optimal transport distance (OTD) and temporal average precision.

Both compare, sequence by sequence, the true events of a horizon with predicted ones. Give both as ``Events`` whose
windows are the horizon, so that no event outside it can count; a future without events is then legal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats

DELETION_COSTS = (0.05, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # of published tables, in units of time of their data


def transport_distance(true: Events, predicted: Events, costs: Sequence[float] = DELETION_COSTS) -> Tensor:
    r"""Least cost of turning the predicted into the true events, by moving them in time, deleting and inserting.

    .. math:: D_C = \min_a \sum_{(i,j) \in a} |t_i - t'_j| + C \,(n + n' - 2|a|)

    over all one-to-one matchings a of events with equal marks. It is solved as one assignment problem of all marks:
    two events of unlike marks, or further apart than 2C, may be paired at the price 2C of not being paired, after which
    exactly |n - n'| events are left. That is exact; within a mark an optimal matching can be chosen monotone, so
    dynamic programming, mark by mark, gives the same number.

    Args:
        true: N futures.
        predicted: N predicted ones, with the same marks and unit of time.
        costs: C, of one deletion or insertion, in units of time. The distance depends on them, and they on the unit:
            print them beside it.

    Returns:
        (N, len(costs)) float64; published figures are its mean over both.

    Raises:
        TPPError: if the two do not fit, a cost is not positive, or scipy is missing.

    Source:
        Mei et al. 2019, https://arxiv.org/abs/1905.05570; for long horizons Xue et al. 2022 (HYPRO),
        https://arxiv.org/abs/2210.01753.

    Example:
        >>> true, predicted = Events.of([[1.0, 2.0]], [[0, 1]]), Events.of([[1.25, 5.0]], [[0, 1]])
        >>> transport_distance(true, predicted, [1.0])  # moves one by 0.25, deletes one, inserts one
        tensor([[2.2500]], dtype=torch.float64)
    """
    solve = _assignment()
    _fit(true, predicted)
    if not costs or min(costs) <= 0:
        raise TPPError(f"costs={list(costs)}; expected at least one, all positive.")
    found = np.empty((len(true), len(costs)))
    for i, (a, b) in enumerate(zip(_parts(true), _parts(predicted), strict=True)):
        apart = np.abs(true.time[a][:, None] - predicted.time[b])  # (n, n')
        apart[true.mark[a][:, None] != predicted.mark[b]] = np.inf
        left = abs(apart.shape[0] - apart.shape[1])
        for j, cost in enumerate(costs):
            price = np.minimum(apart, 2 * cost)  # (n, n')
            found[i, j] = price[solve(price)].sum() + cost * left
    return torch.from_numpy(found)


@dataclass(frozen=True)
class TemporalPrecision:
    """Average precision of a predicted future, for each tolerance and mark.

    Args:
        each: (deltas, M) average precision; NaN for marks that never come.
        support: (M,) true events.
    """

    each: Tensor
    support: Tensor

    @property
    def t_map(self) -> float:
        """T-mAP: mean over the marks that come, then over tolerances."""
        return self.each.nanmean(1).mean().item()

    @property
    def t_map_published(self) -> float:
        """The same over all M marks, where one that never comes counts 0, as in the authors' code."""
        return self.each.nan_to_num(0.0).mean().item()

    @property
    def t_map_weighted(self) -> float:
        """The same with marks weighted by how often they come."""
        return (self.each.nan_to_num(0.0) @ (self.support / self.support.sum())).mean().item()


def temporal_precision(true: Events, predicted: Events, scores: Tensor, deltas: Sequence[float]) -> TemporalPrecision:
    r"""Temporal mean average precision (T-mAP): which of the predicted events come, and are the surer ones right?

    For a mark k and a tolerance delta every predicted event, whatever its own mark, is a claim that k comes near its
    time, as sure as its score for k. Claims are matched one to one with true events of mark k of the same sequence at
    most delta away; a matched claim is right. Over claims of all sequences with score >= h,

    .. math:: AP = \sum_h (R_h - R_{h'}) P_h, \qquad P_h = \frac{\mathrm{right}}{\mathrm{claims}}, \quad
              R_h = \frac{\mathrm{right}}{\text{true events of mark } k}

    where h' is the next larger score. Of all matchings the heaviest is taken, in which claims weigh more the surer they
    are. Sets of claims that can be matched together form a matroid, so whatever the weights this matching has, for
    every h at once, as many right claims as any could have; ranks serve as weights, exact for all scores. Claims with
    equal scores enter the curve together.

    Args:
        true: N futures.
        predicted: N predicted ones with E' events; their marks are not used.
        scores: (E', M) of the predicted events: log probabilities, or any score.
        deltas: tolerances, in units of time.

    Returns:
        ``TemporalPrecision``.

    Raises:
        TPPError: if the two do not fit, a score is NaN, there is no true event, or scipy is missing.

    Source:
        Karpukhin et al. 2024 (HoTPP), https://arxiv.org/abs/2406.14341. Their code gives 0 to a mark all of
        whose claims are right; here it gets its recall.

    Example:
        >>> true, predicted = Events.of([[1.0, 4.0]], [[0, 1]]), Events.of([[1.5, 2.0]], [[0, 1]])
        >>> temporal_precision(true, predicted, torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log(), [1.0]).each
        tensor([[1., 0.]], dtype=torch.float64)
    """
    solve = _assignment()
    _fit(true, predicted)
    count = len(true.marks)
    if scores.shape != (predicted.time.size, count):
        raise TPPError(f"scores have shape {tuple(scores.shape)}; expected {(predicted.time.size, count)}.")
    if not deltas or not true.time.size or bool(scores.isnan().any()):
        raise TPPError("T-mAP needs a tolerance, a true event, and scores that are not NaN.")
    sure = scores.detach().double().cpu().numpy()  # (E', M)
    right = np.zeros((len(deltas), *sure.shape), bool)  # (deltas, E', M)
    for a, b in zip(_parts(true), _parts(predicted), strict=True):
        weights = sure[b].argsort(0, kind="stable").argsort(0) + 1  # (n', M) 1..n', larger where surer
        for mark in np.unique(true.mark[a]):
            near = np.abs(predicted.time[b][:, None] - true.time[a][true.mark[a] == mark])  # (n', true events of mark)
            for j, delta in enumerate(deltas):
                gain = np.where(near <= delta, weights[:, mark, None], 0)
                claim, event = solve(gain, maximize=True)
                right[j, b.start + claim, mark] = gain[claim, event] > 0
    support = np.bincount(true.mark, minlength=count)  # (M,)
    each = np.full((len(deltas), count), np.nan)
    for mark in np.flatnonzero(support):
        each[:, mark] = _average_precision(right[:, :, mark], sure[:, mark], support[mark])
    return TemporalPrecision(torch.from_numpy(each), torch.from_numpy(support).double())


def _average_precision(right: NDArray[np.bool_], scores: Floats, positives: int) -> Floats:
    """(deltas,) area under the steps of precision over recall, where equal scores share one step."""
    if not scores.size:
        return np.zeros(len(right))
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # where a block of equal scores ends
    hits = right[:, order].cumsum(1)[:, last]  # (deltas, thresholds)
    return (np.diff(hits, prepend=0, axis=1) / positives * hits / (last + 1)).sum(1)


def _parts(events: Events) -> list[slice]:
    return [slice(a, b) for a, b in zip(events.offsets[:-1].tolist(), events.offsets[1:].tolist(), strict=True)]


def _fit(true: Events, predicted: Events) -> None:
    if len(true) != len(predicted) or true.marks != predicted.marks:
        raise TPPError(
            f"{len(true)} true futures with {len(true.marks)} marks and {len(predicted)} predicted ones with "
            f"{len(predicted.marks)}; expected one for each, with the same marks."
        )


def _assignment() -> Any:
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise TPPError("matching of events needs scipy: pip install 'accord[bench]'") from error
    return linear_sum_assignment
