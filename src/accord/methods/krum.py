"""Krum: the gradient that has the nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class Krum(Weighting):
    """Byzantine-tolerant choice of one gradient: outliers are not chosen while enough of the others are close.

    ``s(i) = Σ ‖g_i − g_j‖²`` over the ``K − f − 2`` gradients nearest to ``g_i``; d is the mean of the m gradients with
    the lowest scores. Two tasks: the first one.

    Source: Blanchard et al. 2017 (NeurIPS), "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent",
    [arXiv 1703.02757](https://arxiv.org/abs/1703.02757), section 4, and multi-Krum.

    Scores that rounding cannot tell apart are ties, which go to the task named first; so do all ties of m = 1 and
    three tasks, where the two nearest have one score. Public implementations add distances instead of their squares.

    Args:
        average: m, how many of the best are averaged; all active tasks if there are fewer.
        byzantine: f, how many tasks may be arbitrarily wrong. The paper's guarantee needs ``K > 2f + 2``; with fewer
            tasks an event says so, and at least one neighbour counts.

    Example:
        >>> import torch
        >>> J = torch.tensor([[1.0, 0.0], [1.2, 0.1], [1.1, -0.1], [-9.0, 9.0]], dtype=torch.float64)
        >>> Krum()(J @ J.T).tolist(), Krum(average=2)(J @ J.T).tolist()
        ([1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0])
    """

    average: int = 1
    byzantine: int = 0

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"H1"})  # not PE: ties go by the order of the tasks

    def __post_init__(self) -> None:
        checks.whole(self, "average", least=1)
        checks.whole(self, "byzantine", least=0)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The mean of the chosen gradients. See the class."""
        assert gramian is not None
        count, limit = len(gramian), 2 * self.byzantine + 2
        if count <= limit:
            self.report("solver", f"K={count}: the guarantee against outliers needs more than {limit} tasks")
        gramian = gramian / float(np.diagonal(gramian).max())  # sums of squares near the largest float overflow
        squares = np.diagonal(gramian)  # (k,)
        sums = squares[:, None] + squares  # (k, k)
        distances = np.maximum(sums - 2 * gramian, 0.0)  # (k, k)
        np.fill_diagonal(distances, np.inf)
        nearest = distances.argsort(axis=1)[:, : min(max(1, count - self.byzantine - 2), count - 1)]  # (k, r)
        rows = np.arange(count)[:, None]
        scores = distances[rows, nearest].sum(1)  # (k,)
        noise = context.epsilon * sums[rows, nearest].sum(1)  # (k,), rounding of the scores
        weights = np.zeros(count)
        for _ in range(min(self.average, count)):
            chosen = int((scores - noise <= (scores + noise).min()).argmax())
            weights[chosen], scores[chosen] = 1.0, np.inf
        return weights / weights.sum()
