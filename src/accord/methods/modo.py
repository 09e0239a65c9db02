"""MoDo: one small step of the weights towards the shortest vector, without bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.linalg.simplex import onto_simplex
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.sdmgrad import started
from accord.methods.state import PerTask


@dataclass(eq=False, repr=False)
class MoDo(Weighting):
    """Multi-objective gradient with double sampling.

    ``w ← Π_Δ(w − γ(Aw + ρw))`` with ``A = J₁J₂ᵀ`` of two independent batches: a stochastic gradient of
    ``½‖Jᵀw‖² + ½ρ‖w‖²`` without the bias that one batch's Gramian would have. The new w weights the gradients of a
    third batch, or the mean of the two.

    Source: Chen et al. 2024 (JMLR 25), "Three-Way Trade-Off in Multi-Objective Learning",
    [arXiv 2305.20057](https://arxiv.org/abs/2305.20057), algorithm 2, eq. 2.9.

    Defaults are LibMTL's; torchjd has γ = 0.1. Public code divides the gradients of heads by the number of batches.

    Args:
        gamma: γ; it is a step of w in units of 1/‖g‖², so it depends on the unit of the losses.
        rho: ρ ≥ 0, pulls w to equal weights.

    Example:
        >>> import torch
        >>> J = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> method = MoDo(gamma=0.1, rho=0.0)
        >>> for _ in range(50):
        ...     weights = method(J @ J.T, cross=J @ J.T)
        >>> weights.numpy().round(6).tolist()  # MGDA
        [0.2, 0.8]
    """

    gamma: float = 1e-3
    rho: float = 0.1

    needs_second_batch: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    # No laws: permutation does not matter, but where ``γ|A|`` is far above 1, rounding decides between equal tasks.

    def __post_init__(self) -> None:
        checks.number(self, "gamma", above=0.0)
        checks.number(self, "rho", least=0.0)
        self._state = PerTask(share=np.nan)  # NaN: not met yet

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights after this step's update. See the class."""
        assert context.cross is not None
        share = started(self._state, context)  # (k,)
        share = onto_simplex(share - self.gamma * (context.cross @ share + self.rho * share))
        self._state["share"][context.active] = share
        return share

    def state_dict(self) -> dict[str, Any]:
        """W."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state)
