"""Smoothed: the weights of another method, averaged over steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.method import Array, Context, Method, Scale, Weighting
from accord.methods.state import PerTask
from accord.step import Event

CAPABILITIES = tuple(name for name in Method.__annotations__ if name != "laws")


@dataclass(eq=False, repr=False)
class Smoothed(Weighting):
    """CR-MOGM: exponential smoothing of the weights of any method.

    ``w̄_k = α w̄_{k−1} + (1 − α) w_k``, ``w̄_1 = w_1``, task by task and after the scale has been set. Weights that follow
    the noise of the gradients they multiply bias the step; slow weights do so less.

    Source: Zhou et al. 2022 (NeurIPS), "On the Convergence of Stochastic Multi-Objective Gradient Manipulation and
    Beyond", CR-MOGM, with a constant α.

    Everything but the smoothing is the other method's: what it needs, its scale, its events and its state. Of its laws
    only the independence of the order of tasks remains (all of them for α = 0). Where the other method finds nothing to
    do, the smoothed weights only shrink.

    Args:
        method: a method with weights, or its spelling; kept as its spelling.
        alpha: α in [0, 1), how much of the last weights stays; 0: no smoothing.

    Raises:
        AccordError: for an unknown spelling, or a method that combines whole gradients and so has no weights.

    Example:
        >>> import torch
        >>> method = Smoothed(method="UPGrad()", alpha=0.5)
        >>> J = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
        >>> method(J @ J.T).tolist(), method(J.abs() @ J.T.abs()).tolist()  # (0.5, 0.5) without conflict
        ([1.0, 0.75], [0.75, 0.625])
    """

    method: Weighting | str = "UPGrad()"
    alpha: float = 0.9

    needs_gramian: ClassVar[bool] = True  # here and below: of the default; every object has those of its method
    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE"})

    def __post_init__(self) -> None:
        from accord.methods import parse  # the registry imports this file

        checks.number(self, "alpha", least=0.0, below=1.0)
        inner = parse(self.method) if isinstance(self.method, str) else self.method
        if not isinstance(inner, Weighting):
            hint = "combines whole gradients" if isinstance(inner, Method) else "is no method"
            raise AccordError(
                f"Smoothed: method={self.method!r} {hint} and has no weights to smooth; expected one that has, or its "
                "spelling, as in Smoothed(method='UPGrad()')."
            )
        self.method = repr(inner)
        self._inner = inner
        self._state = PerTask(weight=np.nan)  # NaN: not met yet
        vars(self).update({name: getattr(inner, name) for name in CAPABILITIES})
        vars(self)["laws"] = inner.laws & {"PE"} if self.alpha else inner.laws

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The weights of the method; the smoothing comes after the scale, in ``finish``. See the class."""
        return self._inner.solve(gramian, losses, context)

    def finish(self, weights: Array, context: Context) -> Array:
        """The smoothed weights. See the class."""
        weights = self._inner.finish(weights, context)
        self._state.grow(context.total)
        kept = self._state["weight"][context.active]  # (k,)
        weights = np.where(np.isnan(kept), weights, self.alpha * kept + (1 - self.alpha) * weights)
        self._state["weight"][context.active] = weights
        return weights

    def after_step(self, losses: Array, context: Context) -> None:
        """Passed on to the method."""
        self._inner.after_step(losses, context)

    def epoch(self) -> None:
        """Passed on to the method."""
        self._inner.epoch()

    def take_events(self) -> tuple[Event, ...]:
        """The events of the method since the last call, and its own."""
        return (*self._inner.take_events(), *super().take_events())

    def state_dict(self) -> dict[str, Any]:
        """The smoothed weights, and the state of the method."""
        return {"tasks": self._state.state_dict(), "method": self._inner.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state["tasks"])
        self._inner.load_state_dict(state["method"])
