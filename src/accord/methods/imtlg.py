"""IMTL-G: the direction with the same cosine to every gradient, weights summing to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.pinv import pinv_solve
from accord.linalg.scaling import is_stationary, scaled
from accord.methods.method import Array, Context, Method, Scale, Weighting
from accord.methods.outcomes import zeros

RESOLUTION = 1e-6  # a sum that cancels to less than this share of its terms has no sign


@dataclass(eq=False, repr=False)
class IMTLG(Weighting):
    """Impartial multi-task learning, gradient part: equal projections on all unit gradients.

    ``v = D⁻¹C⁺1``, ``w = v/|Σv|`` with ``D`` the norms and ``C`` the cosines; two tasks: ``w ∝ 1/n_i``. If Σv cancels,
    the length is ConFIG's: ``w = v |1ᵀGv|/(vᵀGv)``.

    Source: Liu et al. 2021 (ICLR), "Towards Impartial Multi-task Learning",
    [openreview IMPnRXEWpvr](https://openreview.net/forum?id=IMPnRXEWpvr), part "gradient balance". No hyper-parameters.

    The paper and all public implementations divide by Σv, which can be negative: the step is then an ascent for every
    task (``C = [[1, .3, .8], [.3, 1, .8], [.8, .8, 1]]``, norms 1, 1, 0.05). We divide by ``|Σv|``.

    Example:
        >>> import torch
        >>> IMTLG()(torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))).numpy().round(6).tolist()
        [0.666667, 0.333333]
    """

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "SI", "H1", "NC-full-rank"})

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Equal-projection weights. See the class."""
        assert gramian is not None
        return equal_projections(self, gramian, context.epsilon)


def equal_projections(method: Method, gramian: Array, epsilon: float) -> Array:
    """The weights of IMTL-G, for IMTLG and IMTL.

    Args:
        method: who asks; it reports a stationary point.
        gramian: (k, k) with a positive diagonal.
        epsilon: relative accuracy of its entries.

    Returns:
        (k,)
    """
    norms, cosines = scaled(gramian)
    ones = np.ones(len(norms))
    if len(norms) == 2:
        inner = ones  # C⁺1 = 1/(1 + cos) for both, up to a factor
    else:
        inner = pinv_solve(cosines, ones, epsilon)  # (k,)
        # Where 1 lies (nearly) across the range of C, C⁺1 is rounding: its image must be a part of 1.
        if np.abs(cosines @ inner).max() <= RESOLUTION:
            return zeros(method, len(norms))
    if is_stationary(cosines, inner, epsilon):
        return zeros(method, len(norms))
    weights = inner * (norms.min() / norms)  # (k,), v up to a factor
    total = abs(float(weights.sum()))
    if total >= RESOLUTION * float(np.abs(weights).sum()):
        return weights / total
    length = abs(float(norms @ cosines @ inner)) / float(inner @ cosines @ inner)
    return length * inner / norms
