"""A-GEM: what conflicts with the main task is cut away from every other gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.priority import place_of_main


@dataclass(eq=False, repr=False)
class AGEM(Weighting):
    """Asymmetric projection: every other gradient loses its part against the main one, which stays as it is.

    ``d = g_m + Σ_{j≠m} (g_j − min(g_j·g_m, 0)/‖g_m‖² g_m)``, hence ``w_j = 1`` and
    ``w_m = 1 − Σ_j min(G_jm, 0)/G_mm``. So ``g_m·d ≥ ‖g_m‖²``: the others never slow the main task down.

    Source: Chaudhry et al. 2019 (ICLR), "Efficient Lifelong Learning with A-GEM",
    [arXiv 1812.00420](https://arxiv.org/abs/1812.00420), eq. 11, where g_m is the gradient on the memory of earlier
    tasks.

    The paper has one other gradient and takes its projection alone as the step; here g_m is learned as well, so it is
    added. Each of several others is projected by itself: projected as one sum, an agreeing task could hide a
    conflicting one.

    ``when="always"`` takes away the whole part along the main gradient, also where it would help:
    ``d = g_m + Σ_{j≠m} (g_j − (g_j·g_m)/‖g_m‖² g_m)``, ``w_m = 1 − Σ_j G_jm/G_mm``. So ``g_m·d = ‖g_m‖²`` exactly: the
    others move only across the main gradient. The survey's formula is of this kind, and loses help that costs nothing.

    Args:
        main: the protected task, counted from 0 in the order in which the losses were first named. In a step without
            its gradient the others are added up, with an event.
        when: ``conflict`` (the paper: only what works against the main task goes) or ``always`` (help goes, too).

    Raises:
        AccordError: if ``main`` is no integer >= 0, or ``when`` not known; when called, if there is no such task.

    Example:
        >>> import torch
        >>> J = torch.tensor([[1.0, 0.0], [-2.0, 1.0]], dtype=torch.float64)
        >>> weights = AGEM(main=0)(J @ J.T)
        >>> weights.tolist(), (weights @ J).tolist()
        ([3.0, 1.0], [1.0, 1.0])
        >>> bool(J[0] @ (weights @ J) >= J[0] @ J[0])  # as fast as alone
        True
        >>> helping = J.abs()
        >>> AGEM()(helping @ helping.T).tolist(), AGEM(when="always")(helping @ helping.T).tolist()
        ([1.0, 1.0], [-1.0, 1.0])
    """

    main: int = 0
    when: str = "conflict"

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PR", "LS", "H1", "RS"})  # permutation: only together with `main`

    def __post_init__(self) -> None:
        checks.whole(self, "main", least=0)
        checks.choice(self, "when", ("conflict", "always"))

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Ones, and for the main task what the projections give back to it. See the class."""
        assert gramian is not None
        weights = np.ones(len(gramian))
        place = place_of_main(self, self.main, context)
        if place is not None:
            weights[place] -= self._removed(gramian, place).sum()
        return weights

    def correct(self, gramian: Array, context: Context) -> Array:
        """The main gradient as it is, all others projected. See ``Weighting.corrected``."""
        coefficients = np.eye(len(gramian))
        place = place_of_main(self, self.main, context)
        if place is not None:
            coefficients[:, place] -= self._removed(gramian, place)
        return coefficients

    def _removed(self, gramian: Array, place: int) -> Array:
        """(k,) how much of the main gradient is cut out of each other one; nothing of itself."""
        cut = gramian[place] if self.when == "always" else np.minimum(gramian[place], 0)
        removed: Array = cut / gramian[place, place]
        removed[place] = 0.0
        return removed
