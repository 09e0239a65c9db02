"""How well are marks predicted? Ranks, accuracy, reciprocal rank, and precision, recall and F1 from counts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.tpp.errors import TPPError


def check(log_p: Tensor, marks: Tensor) -> None:
    """Refuse shapes that do not fit, marks outside 0..M-1 and NaN, which every comparison would take for a hit.

    Args:
        log_p: (n, M).
        marks: (n,).

    Raises:
        TPPError: saying which.
    """
    if log_p.ndim != 2 or marks.shape != log_p.shape[:1]:
        raise TPPError(f"log_p has shape {tuple(log_p.shape)}, marks {tuple(marks.shape)}; expected (n, M) and (n,).")
    if not len(marks):
        raise TPPError("there is no event to measure; give at least one.")
    if bool(((marks < 0) | (marks >= log_p.shape[1])).any()):
        raise TPPError(f"marks lie in {int(marks.min())}..{int(marks.max())}; expected 0..{log_p.shape[1] - 1}.")
    if bool(log_p.isnan().any()):
        raise TPPError(f"log_p is NaN for {int(log_p.isnan().any(1).sum())} of {len(log_p)} events.")


@dataclass(frozen=True)
class Ranks:
    """How many marks come before the true one, 0 if it is predicted.

    Args:
        published: (n,) marks with larger p. Of several equally likely marks each counts as the first, so a constant
            prediction is always right.
        corrected: (n,) the same, and marks with equal p and a smaller number.
    """

    published: Tensor
    corrected: Tensor


def ranks(log_p: Tensor, marks: Tensor) -> Ranks:
    r"""The place of the true mark among all, :math:`r_i = |\{k: p_{ik} > p_{i k_i}\}|`.

    Two comparisons per entry, no sorting; in the precision of ``log_p``, in which ties are exact.

    Args:
        log_p: (n, M) log probabilities, or any score; ``-inf`` is legal.
        marks: (n,) true marks.

    Returns:
        ``Ranks`` with ties broken in two ways.

    Raises:
        TPPError: if shapes do not fit, a mark is unknown or a probability is NaN.

    Source:
        Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590 (published); ties by mark number here.

    Example:
        >>> found = ranks(torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([1, 1]))
        >>> found.published.tolist(), found.corrected.tolist()
        ([0, 1], [1, 1])
    """
    check(log_p, marks)
    own = log_p.gather(1, marks.unsqueeze(1))  # (n, 1)
    larger = (log_p > own).sum(1)  # (n,)
    before = torch.arange(log_p.shape[1], device=marks.device) < marks.unsqueeze(1)  # (n, M)
    return Ranks(larger, larger + ((log_p == own) & before).sum(1))


def accuracy_at(rank: Tensor, n: int) -> float:
    """Share of events whose mark is among the ``n`` most likely, ``mean 1{r < n}``.

    Args:
        rank: (n,) of the true marks, from ``ranks``.
        n: 1, 3, 5, 10 in tables; with ``n >= M`` the result is 1.

    Example:
        >>> accuracy_at(torch.tensor([0, 1, 4, 2]), 3)
        0.75
    """
    return (rank < n).double().mean().item()


def reciprocal_rank(rank: Tensor) -> float:
    """Mean reciprocal rank (MRR), ``mean 1 / (1 + r)``.

    Args:
        rank: (n,) of the true marks, from ``ranks``.

    Example:
        >>> reciprocal_rank(torch.tensor([0, 1]))
        0.75
    """
    return (1 / (1 + rank.double())).mean().item()


@dataclass(frozen=True)
class F1:
    """Precision, recall and F1 of one mark against the rest, averaged over marks in three ways; 0/0 counts as 0.

    Args:
        precision_weighted: averaged with the number of true events of each mark as weight.
        recall_weighted: the same; it equals the accuracy.
        f1_weighted: the same; what published tables report.
        precision_macro: averaged over marks that occur, in truth or in prediction.
        recall_macro: the same.
        f1_macro: mean of the F1 of these marks.
        f1_macro_published: ``2PR / (P + R)`` of the two macro averages P, R. Never smaller than ``f1_macro``.
        f1_micro: from counts summed over marks; for single marks precision, recall, F1 and accuracy are one number.
    """

    precision_weighted: float
    recall_weighted: float
    f1_weighted: float
    precision_macro: float
    recall_macro: float
    f1_macro: float
    f1_macro_published: float
    f1_micro: float


def f1(log_p: Tensor, marks: Tensor) -> F1:
    """Precision, recall and F1 of the most likely mark; of equally likely ones the smallest number is predicted.

    Args:
        log_p: (n, M) log probabilities.
        marks: (n,) true marks.

    Returns:
        ``F1``.

    Raises:
        TPPError: if shapes do not fit, a mark is unknown or a probability is NaN.

    Source:
        Opitz & Burst 2019, https://arxiv.org/abs/1911.03347, on the two macro averages.

    Example:
        >>> found = f1(torch.eye(3)[[0, 0, 1, 1]].log(), torch.tensor([0, 0, 0, 1]))
        >>> round(found.f1_macro, 4), round(found.f1_macro_published, 4), found.f1_micro
        (0.7333, 0.7895, 0.75)
    """
    check(log_p, marks)
    count = log_p.shape[1]
    predicted = log_p.argmax(1)  # (n,)
    hits = marks[predicted == marks].bincount(minlength=count).double()  # (M,)
    claimed = predicted.bincount(minlength=count).double()  # (M,)
    support = marks.bincount(minlength=count).double()  # (M,)
    precision, recall = hits / claimed.clamp(min=1), hits / support.clamp(min=1)  # (M,)
    each = 2 * hits / (claimed + support).clamp(min=1)  # (M,)
    occurs = claimed + support > 0  # (M,)
    weights = support / support.sum()  # (M,)
    macro_p, macro_r = precision[occurs].mean(), recall[occurs].mean()
    both = macro_p + macro_r
    return F1(
        precision_weighted=(weights * precision).sum().item(),
        recall_weighted=(weights * recall).sum().item(),
        f1_weighted=(weights * each).sum().item(),
        precision_macro=macro_p.item(),
        recall_macro=macro_r.item(),
        f1_macro=each[occurs].mean().item(),
        f1_macro_published=(2 * macro_p * macro_r / both.clamp(min=torch.finfo(both.dtype).tiny)).item(),
        f1_micro=(hits.sum() / len(marks)).item(),
    )
