"""GradOPS: a gradient in conflict keeps only what is orthogonal to all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.scaling import is_stationary, regularised, scaled
from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class GradOPS(Weighting):
    """Gradient deconfliction via orthogonal projections onto subspaces.

    ``d = Σ g_i'``; ``g_i' = g_i`` if ``g_i·g_j ≥ 0`` for all j, else g_i without its projection on the span of all
    others. With ``H = C⁻¹``, C the cosines, ``g_i' = n_i Σ_j (H_ij/H_ii) g_j/n_j``: one inverse for all tasks. Then
    ``g_i'·g_j ≥ 0`` for all pairs, so no task is harmed.

    Source: Zhu et al. 2025 (WSDM), "Gradient Deconfliction via Orthogonal Projections onto Subspaces For Multi-task
    Learning", [arXiv 2503.03438](https://arxiv.org/abs/2503.03438), without its re-weighting of the g_i' by a trade-off
    exponent. No hyper-parameters.

    A gradient in conflict that is a combination of the others vanishes. So d can be zero where a common descent
    direction exists, as soon as the gradients are linearly dependent (an event says so). The rule jumps at
    ``g_i·g_j = 0``; cosines within the accuracy of the Gramian count as no conflict.

    Example:
        >>> import torch
        >>> J = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        >>> weights = GradOPS()(J @ J.T)
        >>> (weights @ J).numpy().round(6).tolist()  # (0.5, 0.5, 0), (0, 1, 0) and (0, 0, 1)
        [0.5, 1.5, 1.0]
    """

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"NC", "PE", "LS", "H1", "RS"})

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The summed coefficients of the projected gradients. See the class."""
        assert gramian is not None
        norms, cosines = scaled(gramian)
        coefficients = self._projected(cosines, context)  # (k, k)
        if (coefficients == np.eye(len(norms))).all():  # nobody is in conflict
            return np.ones(len(norms))
        weights = norms / norms.max() @ coefficients  # (k,)
        if is_stationary(cosines, weights, context.epsilon):
            self.report("stationary", "every gradient lies in the span of the others; the direction is zero")
            return np.zeros(len(norms))
        return weights * norms.max() / norms

    def correct(self, gramian: Array, context: Context) -> Array:
        """The projected gradients. See ``Weighting.corrected``."""
        norms, cosines = scaled(gramian)
        return norms[:, None] * self._projected(cosines, context) / norms

    def _projected(self, cosines: Array, context: Context) -> Array:
        """Coefficients (k, k) of all unit gradients after projection."""
        coefficients = np.eye(len(cosines))
        conflicting = np.flatnonzero((cosines < -context.epsilon).any(1))
        if len(conflicting):
            # Columns: each solves its own system to rounding, the rows of a computed inverse need not.
            inverse = np.linalg.solve(regularised(cosines, context.epsilon), coefficients[:, conflicting])  # (k, c)
            for i, column in zip(conflicting, inverse.T, strict=True):
                part = column / column[i]  # (k,)
                coefficients[i] = 0.0 if is_stationary(cosines, part, context.epsilon) else part
        return coefficients
