"""AlignedMTL: make the system of gradients orthogonal and equally long, then add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.pinv import eigen
from accord.linalg.scaling import EPSILON
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import zeros

CANCELLED = 1e-9  # entries of Vᵀ1 are wrong by about 1e-16: below this, the direction would follow rounding


@dataclass(eq=False, repr=False)
class AlignedMTL(Weighting):
    """Independent component alignment: all singular values of J become equal.

    ``w = √λ_s V Λ^{−½} Vᵀ 1`` with ``G = VΛVᵀ`` on its numerical rank.

    Source: Senushkin et al. 2023 (CVPR), "Independent Component Alignment for Multi-Task Learning",
    [arXiv 2305.19000](https://arxiv.org/abs/2305.19000), algorithm 1.

    The rank is decided at 1e-13 of the largest eigenvalue: the official K times machine precision lets the rounding
    of a rank-deficient Gramian through, and λ_s is then rounding, too. Unlike the methods that work on cosines, this
    one needs the smallest eigenvalue of G itself; at norm ratios above 1e5 a Gramian no longer holds it.

    Args:
        scale_mode: λ_s is the smallest of the kept eigenvalues (``min``, the paper's and the official default), their
            lower median (``median``) or their mean (``rmse``).

    Example:
        >>> import torch
        >>> AlignedMTL()(torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))).numpy().round(6).tolist()
        [1.0, 0.5]
    """

    scale_mode: str = "min"

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PE-mild", "H1"})

    def __post_init__(self) -> None:
        checks.choice(self, "scale_mode", ("min", "median", "rmse"))

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Weights of the aligned sum. See the class."""
        assert gramian is not None
        largest = float(np.diagonal(gramian).max())  # eigenvalues in units of it: no overflow, and w does not change
        tolerance = 1e-13 if context.epsilon <= EPSILON else context.epsilon
        values, vectors = eigen(gramian / largest, tolerance)  # (r,) ascending, (k, r)
        if self.scale_mode == "min":
            scale = values[0]
        elif self.scale_mode == "median":
            scale = values[(len(values) - 1) // 2]
        else:
            scale = values.mean()
        along = vectors.sum(0)  # (r,), Vᵀ1
        along = np.where(np.abs(along) > CANCELLED, along, 0.0)
        if not along.any():
            return zeros(self, len(gramian))
        return vectors @ (along * np.sqrt(scale / values))
