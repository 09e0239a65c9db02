"""GradNorm: learned weights that make gradients longer where a loss lags behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.state import PerTask

LEAST = 1e-3  # a step of the weights may not make one negative
TIE = 1e-12  # a norm this close to its target has reached it


@dataclass(eq=False, repr=False)
class GradNorm(Weighting):
    """Gradient normalisation.

    With ``n_i = ‖g_i‖`` and ``r_i = (L_i/L_i(0)) / mean(L/L(0))``, the target norms ``T_i = mean(w n) r_i^α`` are held
    constant and the weights descend on ``Σ |w_i n_i − T_i|``, whose gradient is ``sign(w_i n_i − T_i) n_i``:
    ``w ← max(w − lr·gradient, 1e-3)``, rescaled to ``Σw = K``. A step uses the weights from before its own update, so
    the first is the plain sum.

    Source: Chen et al. 2018 (ICML), "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask
    Networks", [arXiv 1711.02257](https://arxiv.org/abs/1711.02257), eq. 1, 2 and algorithm 1.

    The paper measures on the last shared layer only: name it with ``Balancer(shared="trunk.last")``. Our step is plain
    gradient descent, and the bound 1e-3 is ours. A task whose first loss is zero has no rate until a loss is
    positive, and counts as 1 till then.

    Args:
        alpha: α >= 0; the larger, the more a task is favoured that lags behind.
        lr: learning rate of the weights, in units of one over a gradient norm.

    Example:
        >>> import torch
        >>> method, gramian = GradNorm(lr=0.1), torch.diag(torch.tensor([1.0, 4.0], dtype=torch.float64))
        >>> losses = torch.ones(2, dtype=torch.float64)
        >>> method(gramian, losses).tolist()
        [1.0, 1.0]
        >>> method(gramian, losses).numpy().round(6).tolist()  # (1 + 0.1, 1 − 0.2), rescaled
        [1.157895, 0.842105]
    """

    alpha: float = 1.5
    lr: float = 0.025

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    default_heads: ClassVar[Literal["plain", "weighted"]] = "weighted"
    laws: ClassVar[frozenset[str]] = frozenset({"PE"})

    def __post_init__(self) -> None:
        checks.number(self, "alpha", least=0.0)
        checks.number(self, "lr", least=0.0)
        self._state = PerTask(weights=1.0, first=0.0)  # 0: no positive loss yet

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The present weights, which then make their own step. See the class."""
        assert gramian is not None
        losses = checks.present(self, losses)
        if losses.min() < 0:
            raise AccordError(
                f"{self!r} compares every loss with its first, but a loss is {losses.min():g}; expected losses >= 0."
            )
        self._state.grow(context.total)
        weights = self._state["weights"][context.active]  # (k,)
        weights = weights * (len(weights) / weights.sum())
        norms = np.sqrt(np.diagonal(gramian))  # (k,)
        gaps = self._gaps(weights * norms, losses, context)
        moved = np.maximum(weights - self.lr * np.sign(gaps) * norms, LEAST)  # (k,)
        self._state["weights"][context.active] = moved * (len(moved) / moved.sum())
        return weights

    def _gaps(self, lengths: Array, losses: Array, context: Context) -> Array:
        """(k,) how much longer each weighted gradient is than its target."""
        first = self._state["first"][context.active]  # (k,)
        first = np.where(first > 0, first, losses)
        self._state["first"][context.active] = first
        rates = np.where(first > 0, losses / np.where(first > 0, first, 1.0), 1.0)  # (k,), L/L(0)
        mean = rates.mean()
        targets = lengths.mean() * (rates / mean if mean > 0 else np.ones_like(rates)) ** self.alpha  # (k,)
        gaps = lengths - targets
        return np.where(np.abs(gaps) > TIE * targets, gaps, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The weights and the first losses."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state)
