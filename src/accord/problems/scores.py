"""Scores of binary predictions, as pure functions of whole parts or of counts that add up over batches."""

from __future__ import annotations

import torch
from torch import Tensor

from accord.errors import AccordError


def confusion(predicted: Tensor, actual: Tensor) -> Tensor:
    """How many examples are true positives, false positives, false negatives, true negatives.

    Counts of the batches of a part add up to those of the part, so that no score depends on how it was cut.

    Args:
        predicted: (N, ...) bool.
        actual: (N, ...) bool.

    Returns:
        (4, ...) int64.

    Example:
        >>> confusion(torch.tensor([True, True, False]), torch.tensor([True, False, False]))
        tensor([1, 1, 0, 1])
    """
    return torch.stack(
        [(hit & truth).sum(0) for hit, truth in ((predicted, actual), (predicted, ~actual), (~predicted, actual))]
        + [(~predicted & ~actual).sum(0)]
    )  # (4, ...)


def accuracy(counts: Tensor) -> Tensor:
    """The share of right predictions, ``(TP + TN) / N``.

    Args:
        counts: (4, ...), sums of ``confusion``.

    Returns:
        (...) float64.

    Example:
        >>> accuracy(torch.tensor([1, 1, 0, 2])).item()
        0.75
    """
    return (counts[0] + counts[3]).double() / counts.sum(0)


def f1(counts: Tensor) -> Tensor:
    """The harmonic mean of precision and recall, ``2 TP / (2 TP + FP + FN)``; 0 where nothing is or is called positive.

    Args:
        counts: (4, ...), sums of ``confusion``.

    Returns:
        (...) float64.

    Example:
        >>> round(f1(torch.tensor([1, 1, 0, 2])).item(), 4)
        0.6667
    """
    twice = 2 * counts[0].double()
    return twice / (twice + counts[1] + counts[2]).clamp(min=1)


def roc_auc(score: Tensor, actual: Tensor) -> float:
    """The area under the ROC curve: the chance that a positive scores higher than a negative, a tie being one half.

    ``AUC = (sum of the ranks of the positives - P (P + 1) / 2) / (P (N - P))`` with mean ranks among ties, exact in
    64 bits; P positives among N examples.

    Args:
        score: (N,), of all examples of a part.
        actual: (N,) bool.

    Returns:
        The area, 0 to 1; nan if a score is (the model has diverged).

    Raises:
        AccordError: if all examples are positive, or none is.

    Source: Mann & Whitney 1947, https://doi.org/10.1214/aoms/1177730491.

    Example:
        >>> roc_auc(torch.tensor([0.1, 0.4, 0.4, 0.8]), torch.tensor([False, True, False, True]))
        0.875
    """
    positives, negatives = _both(actual)
    if score.isnan().any():
        return float("nan")
    group, sizes = _ties(score)
    rank = sizes.cumsum(0) - (sizes - 1) / 2  # mean rank, from 1, of each group
    total = rank.double()[group][actual].sum()
    return float((total - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(score: Tensor, actual: Tensor) -> float:
    """The area under the steps of precision over recall: ``sum_n (R_n - R_(n-1)) P_n`` over thresholds from the top.

    Examples with equal scores pass a threshold together. Without skill it is the share of positives.

    Args:
        score: (N,), of all examples of a part.
        actual: (N,) bool.

    Returns:
        The area, above 0 and at most 1; nan if a score is (the model has diverged).

    Raises:
        AccordError: if all examples are positive, or none is.

    Example:
        >>> round(average_precision(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1]) > 0), 4)
        0.8333
    """
    positives, _ = _both(actual)
    if score.isnan().any():
        return float("nan")
    group, sizes = _ties(-score)
    found = torch.zeros(len(sizes), dtype=torch.float64).index_add_(0, group, actual.double())  # positives in each
    precision = found.cumsum(0) / sizes.cumsum(0)
    return float((found * precision).sum() / positives)


def _both(actual: Tensor) -> tuple[int, int]:
    positives = int(actual.sum())
    negatives = len(actual) - positives
    if positives == 0 or negatives == 0:
        raise AccordError(
            f"{positives} positive and {negatives} negative examples, expected some of both: without them there is no "
            "ranking to score. Evaluate on more examples."
        )
    return positives, negatives


def _ties(score: Tensor) -> tuple[Tensor, Tensor]:
    """Which group of equal scores each example is in (N,), from the lowest, and how large the groups are."""
    _, group, sizes = score.unique(return_inverse=True, return_counts=True)
    return group, sizes
