"""UPGrad: project every gradient on the cone that harms nobody, then average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from accord.linalg.cone import rows_onto_dual_cone
from accord.linalg.scaling import is_stationary, scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import checked, zeros


@dataclass(eq=False, repr=False)
class UPGrad(Weighting):
    """Unconflicting projection of gradients: the mean of every ``g_i`` projected on ``{d: Jd ≥ 0}``.

    ``d = Σ p_i Π(g_i)``, ``Π(g_i) = Jᵀ(e_i + s⁽ⁱ⁾)``, ``s⁽ⁱ⁾ = argmin_{s≥0} ‖Jᵀ(e_i + s)‖²``. Written for
    ``w̃ = Dw`` and solved on the cosine matrix, which makes the linearity under scaling of a row exact.

    Source: Quinton & Rey 2024, "Jacobian Descent for Multi-Objective Optimization",
    [arXiv 2406.16232](https://arxiv.org/abs/2406.16232).

    Public implementations add 1e-4 to the trace-normalised Gramian, so that at norm ratios above about 30 the small
    task is harmed after all; ours adds 1e-10 to the cosine matrix.

    Args:
        pref: one positive preference per task, normalised to sum to one over the active tasks; None: equal (paper).

    Example:
        >>> import torch
        >>> J = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)
        >>> weights = UPGrad()(J @ J.T)
        >>> weights.numpy().round(4).tolist()
        [1.1111, 0.7895]
        >>> bool((J @ (weights @ J) >= 0).all())  # no task is harmed
        True
    """

    pref: Sequence[float] | None = None

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"NC", "PE", "LS", "H1", "PS+", "RS"})

    def __post_init__(self) -> None:
        checks.preferences(self)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights of the mean projection. See the class."""
        assert gramian is not None
        pref = checks.shares(self, context.active, context.total)  # (k,)
        if gramian.min() >= 0:  # no conflict: every gradient is its own projection
            return pref
        norms, cosines = scaled(gramian)
        mass = norms / norms.max() * pref  # (k,), D·pref up to a factor
        if len(gramian) == 2:
            weights = mass - cosines[0, 1] * mass[::-1]  # (2,), Π(u_i) = u_i − C_12 u_j
        else:
            weights = mass @ checked(self, rows_onto_dual_cone(cosines, context.epsilon))  # (k,)
        if is_stationary(cosines, weights, context.epsilon):
            return zeros(self, len(weights))
        return weights * norms.max() / norms

    def correct(self, gramian: Array, context: Context) -> Array:
        """The projections of all gradients, before they are averaged. See ``Weighting.corrected``."""
        norms, cosines = scaled(gramian)
        found = checked(self, rows_onto_dual_cone(cosines, context.epsilon))  # (k, k)
        return norms[:, None] * found / norms
