"""MGDA: the shortest vector in the convex hull of the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.errors import AccordError
from accord.linalg.min_norm import min_norm
from accord.linalg.scaling import is_stationary, scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import checked, zeros


@dataclass(eq=False, repr=False)
class MGDA(Weighting):
    """Multiple-gradient descent algorithm.

    ``w = argmin_{w∈Δ} ‖Jᵀw‖²``; two tasks: ``w_1 = clip((c − b)/(a + c − 2b), 0, 1)``. Then ``g_i·d ≥ ‖d‖²`` for all
    tasks, and d = 0 if and only if the point is Pareto stationary.

    Source: Désidéri 2012 (Comptes Rendus Mathématique 350); Sener & Koltun 2018 (NeurIPS),
    [arXiv 1810.04650](https://arxiv.org/abs/1810.04650), eq. 3.

    Public implementations use at most 100 to 250 Frank-Wolfe steps and clamp pairs to [0.001, 0.999]; ours is exact.
    One of them also applies the normalised gradients; like the official one, ours uses them to find w only.

    Args:
        normalise: None (default of the official code), ``l2`` (rows divided by their norm), ``loss`` (by the loss), or
            ``loss+`` (by both). The guarantees above hold for the normalised rows only.

    Example:
        >>> import torch
        >>> J = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> MGDA()(J @ J.T).numpy().round(6).tolist()
        [0.2, 0.8]
    """

    normalise: str | None = None

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"NC", "PE", "H1", "PS"})

    def __post_init__(self) -> None:
        checks.choice(self, "normalise", (None, "l2", "loss", "loss+"))

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights of the shortest vector. See the class."""
        assert gramian is not None
        norms, cosines = scaled(gramian)
        lengths = norms if self.normalise is None else norms / self._divisors(norms, losses)  # (k,), of the hull's rows
        if len(lengths) == 2:
            weights = _pair(lengths, cosines[0, 1])
        else:
            weights = checked(self, min_norm(lengths, cosines, context.epsilon))
        if is_stationary(cosines, lengths * weights, context.epsilon):
            return zeros(self, len(weights))
        return weights

    def _divisors(self, norms: Array, losses: Array | None) -> Array:
        """(k,) what the rows are divided by."""
        if self.normalise == "l2":
            return norms
        losses = checks.present(self, losses)
        if losses.min() <= 0:
            raise AccordError(f"{self!r} divides by the losses, but one of them is {losses.min():g}; expected > 0.")
        return losses if self.normalise == "loss" else losses * norms


def _pair(lengths: Array, cosine: float) -> Array:
    """Closed form for two rows."""
    product = cosine * lengths[0] * lengths[1]
    excess = lengths**2 - product  # (2,), g_i·(g_i − g_j)
    if excess.sum() <= 0:  # equal rows: every w gives the same vector
        return np.array([0.5, 0.5])
    return np.clip(excess[::-1] / excess.sum(), 0.0, 1.0)
