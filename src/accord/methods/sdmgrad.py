"""SDMGrad: the shortest vector near a preferred direction, from independent batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.linalg.simplex import onto_simplex
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.state import PerTask


@dataclass(eq=False, repr=False)
class SDMGrad(Weighting):
    """Stochastic direction-oriented multi-objective gradient descent.

    ``min_{w∈Δ} ½‖Jᵀ(w + λw̃)‖²`` by stochastic gradients: with ``A = J₁J₂ᵀ`` of two independent batches, divided by
    ``σ²``, ``σ = mean √max(A_ii, 0)``, a few times ``m ← μm + A(w + λw̃)``, ``w ← Π_Δ(w − ηm)``. The weights are
    ``(w + λw̃)/(1 + λ)``; w goes on from step to step, m starts anew.

    Source: Xiao, Ban & Ji 2023 (NeurIPS), "Direction-oriented Multi-objective Learning",
    [arXiv 2305.18409](https://arxiv.org/abs/2305.18409), algorithm 1; scaling and defaults from the official
    experiments, whose class default is λ = 0.6.

    The official code uses one and the same batch for all three gradients, multiplies the result by K and clips it at
    norm 1; ours does as the paper says. Instead of a constant, σ² is kept above ``1e-8 max|A_ij|``, so that the unit
    of the losses does not matter. Where w is optimal up to rounding it stays, because iterations with η = 10 would blow
    the rounding up.

    Args:
        lam: λ ≥ 0; 0 is stochastic MGDA, infinity the preferred direction.
        pref: w̃, one positive preference per task, normalised to sum to one over the active tasks; None: equal.
        lr: η of the inner iteration.
        momentum: μ in [0, 1).
        iterations: of the inner iteration, per step.

    Example:
        >>> import torch
        >>> J = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
        >>> method = SDMGrad(lam=1.0, lr=0.1)
        >>> for _ in range(9):
        ...     weights = method(J @ J.T, cross=J @ J.T)
        >>> weights.numpy().round(6).tolist()  # MGDA would give 0.2 and 0.8
        [0.25, 0.75]
    """

    lam: float = 0.3
    pref: Sequence[float] | None = None
    lr: float = 10.0
    momentum: float = 0.5
    iterations: int = 20

    needs_second_batch: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE"})  # H1 but for the rounding that η = 10 blows up

    def __post_init__(self) -> None:
        checks.number(self, "lam", least=0.0)
        checks.preferences(self)
        checks.number(self, "lr", above=0.0)
        checks.number(self, "momentum", least=0.0, below=1.0)
        checks.whole(self, "iterations", least=1)
        self._state = PerTask(share=np.nan)  # NaN: not met yet

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights after this step's iterations. See the class."""
        assert context.cross is not None
        share = started(self._state, context)  # (k,), w
        pref = checks.shares(self, context.active, context.total)  # (k,), w̃
        size = float(np.abs(context.cross).max())
        if size:
            cross = context.cross / size
            sigma = float(np.sqrt(np.maximum(np.diagonal(cross), 0.0)).mean())
            share = self._iterate(cross / max(sigma**2, 1e-8), share, pref)
        self._state["share"][context.active] = share
        return (share + self.lam * pref) / (1 + self.lam)

    def _iterate(self, cross: Array, share: Array, pref: Array) -> Array:
        """(k,) w after projected gradient descent with momentum."""
        slope = cross @ (share + self.lam * pref)  # (k,)
        if np.abs(onto_simplex(share - slope) - share).max() <= 1e-12 * np.abs(slope).max():
            return share
        heap = np.zeros(len(share))  # (k,), m
        for _ in range(self.iterations):
            heap = self.momentum * heap + cross @ (share + self.lam * pref)
            share = onto_simplex(share - self.lr * heap)
        return share

    def state_dict(self) -> dict[str, Any]:
        """W."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state)


def started(state: PerTask, context: Context) -> Array:
    """The last step's point of the simplex as far as it concerns the active tasks; a new task starts at 1/k.

    Args:
        state: holds ``share``, NaN for tasks that were never met.
        context: of this step.

    Returns:
        (k,), ``w ≥ 0``, ``Σw = 1``.
    """
    state.grow(context.total)
    share = state["share"][context.active]  # (k,)
    return onto_simplex(np.where(np.isnan(share), 1 / len(share), share))
