"""Lexicographic: tasks in the order of their importance, none of which may slow down a more important one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.nnls import nnls
from accord.linalg.scaling import regularised, scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.outcomes import checked


@dataclass(eq=False, repr=False)
class Lexicographic(Weighting):
    """Projection on the dual cone of all more important tasks, for every task.

    ``d = Σ Π_i(g_i)``, Π_i the projection on ``{d: g_h·d ≥ 0 for all h ranked strictly before i}``;
    ``Π_i(g_i) = g_i + J_hᵀs⁽ⁱ⁾``, ``s⁽ⁱ⁾ = argmin_{s≥0} ‖g_i + J_hᵀs‖²``. So no task reduces ``g_h·d`` of a more
    important one; a task that is first alone has ``g_1·d ≥ ‖g_1‖²``. One task before all others: ``AGEM``.

    Source: ours; the projection is that of GEM (Lopez-Paz & Ranzato 2017,
    [arXiv 1706.08840](https://arxiv.org/abs/1706.08840), section 3), with the more important tasks in the place of
    the earlier ones.

    HierarchicalPCGrad projects against one more important task after the other instead, which protects only the last of
    them for sure, and averages.

    Args:
        ranks: one number per task; smaller is more important, equal is equally important, and tasks of equal rank are
            added up. None: the order in which the losses were first named.

    Raises:
        AccordError: if the ranks are no finite numbers; when called, if there is not one per task.

    Example:
        >>> import torch
        >>> J = torch.tensor([[1.0, 0.0], [1.0, 1.0], [-1.0, -3.0]], dtype=torch.float64)
        >>> weights = Lexicographic()(J @ J.T)
        >>> weights.numpy().round(6).tolist()  # g_3 becomes (1, -1), which is orthogonal to g_2 and good for g_1
        [1.0, 3.0, 1.0]
        >>> (J @ (weights @ J)).numpy().round(6).tolist()  # the last task pays
        [3.0, 3.0, -3.0]
    """

    ranks: Sequence[float] | None = None

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PR", "LX", "LS", "H1", "RS"})  # permutation: together with `ranks`

    def __post_init__(self) -> None:
        if self.ranks is not None:
            checks.vector(self, "ranks")

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The summed coefficients of the projections. See the class."""
        assert gramian is not None
        if gramian.min() >= 0:
            return np.ones(len(gramian))
        norms, cosines = scaled(gramian)
        mass = norms / norms.max()  # (k,)
        return (mass + mass @ self._added(cosines, context)) * norms.max() / norms

    def correct(self, gramian: Array, context: Context) -> Array:
        """The projections of all gradients. See ``Weighting.corrected``."""
        norms, cosines = scaled(gramian)
        found = self._added(cosines, context)  # (k, k)
        return norms[:, None] * (np.eye(len(norms)) + found) / norms

    def _added(self, cosines: Array, context: Context) -> Array:
        """What every unit gradient is given of more important ones, (k, k)."""
        ranks = context.active if self.ranks is None else checks.pick(self, "ranks", context.active, context.total)
        before = ranks < ranks[:, None]  # (k, k), row i: the tasks that come before i
        # One program per task, all of them on the same matrix: the -2 keeps s_j at 0 where j does not come before i,
        # as its multiplier is y_j = u_j·Jᵀs + 2 >= 1 for the projection -Jᵀs of a unit vector on any span.
        return checked(self, nnls(regularised(cosines, context.epsilon), np.where(before, -cosines, -2.0)))
