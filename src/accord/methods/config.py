"""ConFIG: the direction with the same cosine to every gradient, as long as their projections together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.pinv import pinv_solve
from accord.linalg.scaling import is_stationary, scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import zeros

RESOLUTION = 1e-6  # cosines below this share of what was asked for are rounding


@dataclass(eq=False, repr=False)
class ConFIG(Weighting):
    """Conflict-free inverse gradients.

    ``u = Jᵀv/‖Jᵀv‖`` with ``v = D⁻¹C⁺p``, D the norms, C the cosines and p the preferences, so that the cosines with u
    are proportional to p; ``d = (Σ g_i·u) u``, that is ``w = v (1ᵀGv)/(vᵀGv)``. Two tasks with equal preferences:
    ``w_i = (n_1 + n_2)/(2n_i)``.

    Source: Liu, Chu & Thuerey 2025 (ICLR), "ConFIG: Towards Conflict-free Training of Physics Informed Neural
    Networks", [arXiv 2408.11104](https://arxiv.org/abs/2408.11104), eqs. 2 and 3.

    Public implementations invert the (K, P) matrix of unit gradients; the K×K matrix C says the same. Where exactly
    opposite gradients leave no direction, theirs is made of rounding errors; ours is zero.

    Args:
        pref: one positive preference per task: the ratios of the cosines with d; None: equal (paper).
        length: ``‖d‖ = Σ m_i cos(g_i, d)`` with ``m_i = n_i`` (``projection``, the paper), or with all m_i equal to the
            smallest (``min``), the largest (``max``) or the harmonic mean (``harmonic``) of the norms.

    Example:
        >>> import torch
        >>> J = torch.tensor([[3.0, 0.0], [-1.0, 2.0]], dtype=torch.float64)
        >>> d = ConFIG()(J @ J.T) @ J
        >>> along = J @ d / J.norm(dim=1)
        >>> bool(torch.isclose(along[0], along[1])), bool(torch.isclose((J @ d).sum(), d @ d))
        (True, True)
    """

    pref: Sequence[float] | None = None
    length: str = "projection"

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    # Dependent gradients can make Σ g_i·u negative, which turns d round: linear under scaling, but not invariant.
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "LS", "H1", "SI-full-rank", "NC-full-rank"})

    def __post_init__(self) -> None:
        checks.preferences(self)
        checks.choice(self, "length", ("projection", "min", "max", "harmonic"))

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights of the direction with equal cosines. See the class."""
        assert gramian is not None
        norms, cosines = scaled(gramian)
        pref = np.ones(len(norms))  # (k,)
        if self.pref is not None:
            pref = checks.pick(self, "pref", context.active, context.total)
        inner = pinv_solve(cosines, pref, context.epsilon)  # (k,), Dv
        along = cosines @ inner  # (k,), cosines with u, up to a factor
        # Where p lies (nearly) across the range of C, C⁺p is rounding: its image must be a part of p.
        if np.abs(along).max() <= RESOLUTION * pref.max() or is_stationary(cosines, inner, context.epsilon):
            return zeros(self, len(norms))
        return inner * (self._lengths(norms) @ along / (inner @ along)) / norms

    def _lengths(self, norms: Array) -> Array:
        """(k,) how long each gradient counts in the length of d."""
        if self.length == "projection":
            return norms
        tracked = {"min": norms.min(), "max": norms.max(), "harmonic": 1 / (1 / norms).mean()}[self.length]
        return np.full(len(norms), tracked)
