"""Gradients (K, P) that have a property by construction; the argument is in each docstring."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

P = 60  # enough for 40 independent rows


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def gaussian(k: int, seed: int = 0) -> Tensor:
    """Independent normal rows: of full rank with probability one as k <= P."""
    return normal(k, P, seed=seed)


def conflicting(k: int, seed: int = 0) -> Tensor:
    """Rows ``x_i − (1 − 1/(2k)) x̄``: strongly correlated negatively, yet independent, as ``I − a 11ᵀ`` with a < 1/k is
    invertible."""
    rows = normal(k, P, seed=seed)
    return rows - (1 - 1 / (2 * k)) * rows.mean(0)


def agreeing(k: int, seed: int = 0) -> Tensor:
    """Rows with non-negative entries have non-negative inner products."""
    return normal(k, P, seed=seed).abs()


def partly_agreeing(k: int, seed: int = 0) -> Tensor:
    """Normal, except that the first ten columns have one sign each."""
    rows = normal(k, P, seed=seed)
    rows[:, :10] = rows[:, :10].abs() * normal(1, 10, seed=seed + 1000).sign()
    return rows


def orthogonal(k: int, seed: int = 0) -> Tensor:
    """The first rows of an orthogonal matrix: orthonormal."""
    return torch.linalg.qr(normal(P, P, seed=seed)).Q[:k]


def unequal(ratio: float) -> Callable[[int, int], Tensor]:
    """Norms spread geometrically, so that the largest is about `ratio` times the smallest."""

    def build(k: int, seed: int = 0) -> Tensor:
        factors = torch.logspace(0, -1, k, base=ratio, dtype=torch.float64)  # (k,)
        return factors[torch.randperm(k, generator=_generator(seed))][:, None] * conflicting(k, seed)

    return build


def rank_deficient(k: int, seed: int = 0) -> Tensor:
    """A product of (k, r) and (r, P) has rank at most r = max(1, k // 2)."""
    rank = max(1, k // 2)
    return normal(k, rank, seed=seed) @ normal(rank, P, seed=seed + 1000)


def parallel(k: int, seed: int = 0) -> Tensor:
    """Positive multiples of one vector."""
    return normal(k, 1, seed=seed).abs().add(0.1) * normal(1, P, seed=seed + 1000)


def opposite(k: int, seed: int = 0) -> Tensor:
    """The second row is a negative multiple of the first; ``w = (3, 1, 0, ...)`` makes the combination zero."""
    rows = gaussian(k, seed)
    rows[1] = -3 * rows[0]
    return rows


def strongly_stationary(k: int, seed: int = 0) -> Tensor:
    """``(I − ww⁺)A`` with w > 0: the positive combination w of the rows is zero."""
    w = normal(k, seed=seed).abs() + 0.1  # (k,)
    rows = normal(k, P, seed=seed + 1000)
    return rows - w[:, None] * (w @ rows) / (w @ w)


def weakly_stationary(k: int, seed: int = 0) -> Tensor:
    """Pareto stationary, but no combination with w > 0 is zero (k >= 3).

    The first two rows are u and −2u, so ``w = (2, 1, 0, ...)`` gives zero. All others have a positive part along an e
    that is orthogonal to u; with w > 0 these parts add up to something positive, which nothing cancels.
    """
    assert k >= 3
    u, e = orthogonal(2, seed)
    rows = normal(k, 1, seed=seed + 1000) * u + normal(k, 1, seed=seed + 2000).abs().add(0.1) * e
    rows[0], rows[1] = u, -2 * u
    return rows


def with_zero_row(k: int, seed: int = 0) -> Tensor:
    """The last task has no gradient."""
    rows = conflicting(k, seed)
    rows[-1] = 0
    return rows


FULL_RANK: dict[str, Callable[[int, int], Tensor]] = {
    "gaussian": gaussian,
    "conflicting": conflicting,
    "agreeing": agreeing,
    "orthogonal": orthogonal,
    "ratio 1e3": unequal(1e3),
    "ratio 1e6": unequal(1e6),
}
STATIONARY: dict[str, Callable[[int, int], Tensor]] = {
    "opposite": opposite,
    "strongly stationary": strongly_stationary,
}
INPUTS: dict[str, Callable[[int, int], Tensor]] = {
    **FULL_RANK,
    **STATIONARY,
    "rank deficient": rank_deficient,
    "parallel": parallel,
    "zero row": with_zero_row,
}
