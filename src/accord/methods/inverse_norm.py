"""InverseNorm: equally long gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.state import PerTask


@dataclass(eq=False, repr=False)
class InverseNorm(Weighting):
    """Weights inverse to the gradient norms, smoothed over steps.

    ``ŵ_i = K (1/n_i)/Σ(1/n_j)``; ``w ← ema·w + (1 − ema)·ŵ``, starting at the first ŵ; ``Σw = K`` over active tasks.
    Without smoothing, two tasks get the direction of the bisector of their gradients.

    ``form="jaxpi"``: ``ŵ_i = mean(n)/n_i``, smoothed from w = 1 on, without rescaling; its code uses ``refresh=1000``.

    Source: the weighting of the physics-informed networks family, Wang et al. 2023,
    [arXiv 2308.08468](https://arxiv.org/abs/2308.08468), and its code jaxpi; ema = 0.9 is its default.

    The paper has ``Σn_j/n_i``, K times as long as the mean in its code, with which equal norms give the plain sum. The
    code also adds 1e-5 mean(n) to every norm, ours does not.

    Args:
        ema: how much of the last weights stays, in [0, 1); 0: no memory.
        form: ``normalised`` (to Σw = K) or ``jaxpi``.
        refresh: look at the norms only every so many steps, counted from the first.

    Example:
        >>> import torch
        >>> InverseNorm()(torch.diag(torch.tensor([1.0, 9.0], dtype=torch.float64))).tolist()
        [1.5, 0.5]
    """

    ema: float = 0.9
    form: str = "normalised"
    refresh: int = 1

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "SI", "H1"})

    def __post_init__(self) -> None:
        checks.number(self, "ema", least=0.0, below=1.0)
        checks.choice(self, "form", ("normalised", "jaxpi"))
        checks.whole(self, "refresh", least=1)
        self._state = PerTask(weights=np.nan)  # NaN: not met yet
        self._steps = 0

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Smoothed inverse norms. See the class."""
        assert gramian is not None
        jaxpi = self.form == "jaxpi"
        norms = np.sqrt(np.diagonal(gramian))  # (k,)
        inverse = norms.min() / norms  # (k,), in [1e-12, 1]
        fresh = norms.mean() / norms if jaxpi else len(norms) * inverse / inverse.sum()  # (k,)
        self._state.grow(context.total)
        weights = self._state["weights"][context.active]  # (k,)
        weights = np.where(np.isnan(weights), 1.0 if jaxpi else fresh, weights)
        if self._steps % self.refresh == 0:
            weights = fresh + self.ema * (weights - fresh)
        self._state["weights"][context.active] = weights
        self._steps += 1
        return weights if jaxpi else weights * (len(norms) / weights.sum())

    def state_dict(self) -> dict[str, Any]:
        """The smoothed weights and the number of steps."""
        return {"steps": self._steps, "tasks": self._state.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._steps = state["steps"]
        self._state.load_state_dict(state["tasks"])
