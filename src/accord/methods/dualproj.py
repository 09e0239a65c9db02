"""DualProj: the mean gradient, projected on the cone that harms nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.cone import onto_dual_cone
from accord.linalg.scaling import is_stationary, scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import checked, zeros


@dataclass(eq=False, repr=False)
class DualProj(Weighting):
    """Dual-cone projection: the nearest direction to the mean gradient that harms no task.

    ``d = Π(Jᵀp)``, Π the projection on ``{d: Jd ≥ 0}``, p the preferences: ``d = Jᵀ(p + s)``,
    ``s = argmin_{s≥0} ‖Jᵀ(p + s)‖²``; two tasks: ``w_i = max(p_i, −p_j G_ij/G_ii)``.

    Source: Lopez-Paz & Ranzato 2017 (NeurIPS), "Gradient Episodic Memory for Continual Learning",
    [arXiv 1706.08840](https://arxiv.org/abs/1706.08840), eq. 11, which projects the gradient of the present task; the
    mean of all tasks takes its place.

    Public implementations add 1e-4 to the trace-normalised Gramian, so that at norm ratios above about 30 the small
    task is harmed after all; ours adds 1e-10 to the cosine matrix.

    Args:
        pref: one positive preference per task, normalised to sum to one over the active tasks; None: equal.

    Example:
        >>> import torch
        >>> J = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)
        >>> weights = DualProj()(J @ J.T)
        >>> weights.numpy().round(4).tolist()  # the mean would harm the first task, whose weight grows
        [0.6111, 0.5]
        >>> bool((J @ (weights @ J) >= -1e-12).all())
        True
    """

    pref: Sequence[float] | None = None

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"NC", "PE", "H1", "PS+", "RS"})

    def __post_init__(self) -> None:
        checks.preferences(self)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights of the projection. See the class."""
        assert gramian is not None
        pref = checks.shares(self, context.active, context.total)  # (k,)
        if gramian.min() >= 0:  # no conflict: the mean is its own projection
            return pref
        norms, cosines = scaled(gramian)
        mass = norms / norms.max() * pref  # (k,), D·pref up to a factor
        if len(gramian) == 2:
            weights = np.maximum(mass, -cosines[0, 1] * mass[::-1])  # (2,), at most one of them grows
        else:
            weights = checked(self, onto_dual_cone(cosines, mass, context.epsilon))  # (k,)
        if is_stationary(cosines, weights, context.epsilon):
            return zeros(self, len(weights))
        return weights * norms.max() / norms
