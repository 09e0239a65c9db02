"""Two tasks: the three published measures of their conflict, exact and as published, over any set of entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.conflict.direction import cosine
from accord.conflict.entries import Array, norms, square
from accord.conflict.magnitude import magnitude_similarity

BINS = 15  # of the published histograms


@dataclass(frozen=True, eq=False)
class PairConflict:
    """Conflict of tasks 0 and 1 over E entries (steps x blocks, usually); means leave undefined entries out.

    Args:
        entries: E.
        undefined: entries in which a gradient is zero or not finite; ``drop_negligible`` first, where rounding counts.
        incidence: share of the defined entries with a negative cosine (CG).
        incidence_published: the same with undefined entries in the denominator.
        cosine: mean cosine.
        similarity: mean gradient magnitude similarity over the conflicting entries (GMS); small: imbalance.
        similarity_all: over all defined entries.
        priority: share of the conflicting entries in which task 0 has the larger gradient (TPI).
        priority_all: of all defined entries.
        histogram: (15,) defined entries with a cosine in each of 15 equal bins of [-1, 1].
    """

    entries: int
    undefined: int
    incidence: float
    incidence_published: float
    cosine: float
    similarity: float
    similarity_all: float
    priority: float
    priority_all: float
    histogram: NDArray[np.intp]


def pair_conflict(gramians: Any) -> PairConflict:
    """CG, GMS and TPI of two tasks.

    Args:
        gramians: (..., 2, 2).

    Returns:
        All measures; NaN where they are means over nothing.

    Raises:
        ValueError: for another number of tasks.

    Source:
        Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590, section 3.

    Example:
        >>> found = pair_conflict([[[1.0, -1.0], [-1.0, 4.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]])
        >>> found.incidence, found.similarity, found.priority, found.undefined
        (0.5, 0.8, 0.0, 1)
    """
    gramians = square(gramians)
    if gramians.shape[-1] != 2:
        raise ValueError(f"found {gramians.shape[-1]} tasks, expected 2")
    flat = gramians.reshape(-1, 2, 2)  # (E, 2, 2)
    cos, gms, length = cosine(flat)[:, 0, 1], magnitude_similarity(flat)[:, 0, 1], norms(flat)
    known = np.isfinite(cos)
    against = known & (cos < 0)
    first = length[:, 0] > length[:, 1]
    return PairConflict(
        len(flat),
        int((~known).sum()),
        _mean(against, known),
        _mean(against, np.ones_like(known)),
        _mean(cos, known),
        _mean(gms, against),
        _mean(gms, known),
        _mean(first, against),
        _mean(first, known),
        np.histogram(cos[known], BINS, (-1, 1))[0],
    )


def _mean(values: Any, chosen: NDArray[np.bool_]) -> float:
    return float(np.mean(values[chosen])) if chosen.any() else float("nan")


def evolution(gramians: Any, window: int = 1000, stride: int = 100) -> tuple[NDArray[np.intp], Array]:
    """How the mean cosine of two tasks moves: average over blocks, then over a sliding window of steps.

    Args:
        gramians: (T, B, 2, 2).
        window: steps averaged.
        stride: steps between two values.

    Returns:
        Last step of each window, and its mean cosine; NaN where nothing was defined. Fewer steps than a window give
        one value over all.

    Source:
        Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590: moving average 1000, stride 100.

    Example:
        >>> steps, means = evolution(np.eye(2) * np.ones((5, 1, 1, 1)), window=2, stride=2)
        >>> steps.tolist(), means.tolist()
        ([1, 3], [0.0, 0.0])
    """
    values = cosine(gramians)[..., 0, 1]  # (T, B)
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.where(known, values, 0.0).sum(1).cumsum()])  # (T + 1,)
    counts = np.concatenate([[0], known.sum(1).cumsum()])
    window = min(window, len(values))
    ends = np.arange(window, len(values) + 1, stride)
    count = counts[ends] - counts[ends - window]
    with np.errstate(invalid="ignore"):  # 0/0 is NaN, as it should be
        return ends - 1, (sums[ends] - sums[ends - window]) / count


def published_gramians(one: Any, other: Any, threshold: float = 1e-6) -> Array:
    """Gramians of two gradients as published: entries below the threshold count as zero.

    The threshold is absolute, so it means something only for losses *summed* over a batch, as there.

    Args:
        one: B gradients of task 0, one for each tensor.
        other: those of task 1.
        threshold: entries with a smaller magnitude are set to zero.

    Returns:
        (B, 2, 2); ``pair_conflict(...).incidence_published`` of them is the published CG. The published GMS and TPI
        use gradients without a threshold.

    Source:
        The authors' code of https://arxiv.org/abs/2412.08590.

    Example:
        >>> published_gramians([np.array([1.0, 1e-7])], [np.array([1.0, 1.0])])[0].tolist()
        [[1.0, 1.0], [1.0, 2.0]]
    """
    found = []
    for pair in zip(one, other, strict=True):
        rows = np.stack([np.asarray(g, np.float64).reshape(-1) for g in pair])  # (2, P)
        rows[np.abs(rows) < threshold] = 0.0
        found.append(rows @ rows.T)
    return np.stack(found)
