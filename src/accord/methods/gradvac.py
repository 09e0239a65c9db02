"""GradVac: turn every gradient towards the others until the cosines reach their running means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from accord.linalg.coefficients import vaccinate
from accord.linalg.scaling import scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.pcgrad import visits
from accord.methods.state import PerPair


@dataclass(eq=False, repr=False)
class GradVac(Weighting):
    """Gradient vaccine.

    Task i visits the others in a fresh random order. With ``φ = cos(g_i', g_j)``, ``g_j`` as it was at the start, and
    the target t of this ordered pair: if ``φ < t``, then ``g_i' += ‖g_i'‖ (t√(1−φ²) − φ√(1−t²))/(‖g_j‖√(1−t²)) g_j``,
    after which the cosine is t; then, in any case, ``t ← (1 − β)t + βφ``. ``d = Σ g_i'``. Targets start at zero: the
    first step is PCGrad's.

    Source: Wang et al. 2021 (ICLR), "Gradient Vaccine: Investigating and Improving Multi-task Optimization in Massively
    Multilingual Models", [arXiv 2010.05874](https://arxiv.org/abs/2010.05874), algorithm 1. The
    paper does this for every layer apart, and so does a Balancer, with one copy of the method for each; called by
    itself, the method sees one Gramian, and keeps the targets of that one.

    Public implementations differ: β = 0.5 instead of 0.01, targets that move only when a gradient is turned or before
    the comparison, and a state that a fresh object cannot load.

    Args:
        beta: β in [0, 1], the share of the newest cosine in its target; 0 is PCGrad.

    Example:
        >>> import torch
        >>> J = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
        >>> method = GradVac(beta=0.5)
        >>> method(J @ J.T).numpy().round(6).tolist()  # as PCGrad
        [2.0, 1.5]
        >>> method.state_dict()["targets"].numpy().round(6).tolist()
        [[0.0, -0.353553], [-0.353553, 0.0]]
    """

    beta: float = 0.01

    needs_gramian: ClassVar[bool] = True
    group: ClassVar[Literal["total", "module", "tensor"]] = "module"
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"H1", "LS"})  # for a given order and state; RS in the first step only

    def __post_init__(self) -> None:
        checks.number(self, "beta", least=0.0, most=1.0)
        self._state = PerPair(targets=0.0)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The summed coefficients of the turned gradients. See the class."""
        assert gramian is not None
        self._state.grow(context.total)
        norms, cosines = scaled(gramian)
        pairs = np.ix_(context.active, context.active)
        coefficients, self._state["targets"][pairs] = vaccinate(
            cosines,
            visits(len(norms), context.generator),
            self._state["targets"][pairs],
            self.beta,
            context.epsilon,
        )
        return (norms @ coefficients) / norms

    def correct(self, gramian: Array, context: Context) -> Array:
        """The turned gradients; the targets stay as they are. See ``Weighting.corrected``."""
        norms, cosines = scaled(gramian)
        targets = np.zeros((context.total, context.total))
        known = self._state["targets"]
        targets[: len(known), : len(known)] = known
        own = targets[np.ix_(context.active, context.active)]
        orders = visits(len(norms), context.generator)
        found, _ = vaccinate(cosines, orders, own, self.beta, context.epsilon)
        return norms[:, None] * found / norms

    def state_dict(self) -> dict[str, Any]:
        """The targets."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state)
