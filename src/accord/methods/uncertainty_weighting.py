"""Uncertainty weighting: learn the noise level of every task from its loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.adam import MOMENTS, adam_step
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.state import PerTask


@dataclass(eq=False, repr=False)
class UncertaintyWeighting(Weighting):
    """Weighting by homoscedastic uncertainty.

    The objective is ``Σ ½ e^{−s_i} L_i + ½ s_i`` with learned ``s_i = log σ_i²``: ``w_i = ½ e^{−s_i}``, and Adam
    follows ``∂/∂s_i = ½ − ½ e^{−s_i} L_i`` after every step. The optimum is ``s_i = log L_i``.

    Source: Kendall, Gal & Cipolla 2018 (CVPR), "Multi-Task Learning Using Uncertainty to Weigh Losses",
    [arXiv 1705.07115](https://arxiv.org/abs/1705.07115), eq. 7 and 10.

    Public implementations start at s = 0 or -0.5, which for losses far from 1 costs many steps, and let the main
    optimiser's weight decay pull s to 0. Ours starts at the optimum for the first losses and has its own Adam.

    Args:
        init: ``log``: a new task starts at the log of its first loss (at 0 with an event if that is not positive); a
            number: every task starts there.
        lr: learning rate of Adam on s; 1e-3 is Adam's own default, the paper gives none.

    Example:
        >>> import torch
        >>> UncertaintyWeighting()(losses=torch.tensor([0.25, 4.0])).tolist()  # 1/(2 L)
        [2.0, 0.125]
    """

    init: str | float = "log"
    lr: float = 1e-3

    native_scale: ClassVar[Scale] = "objective"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def __post_init__(self) -> None:
        if isinstance(self.init, str) and self.init != "log":
            raise AccordError(f"UncertaintyWeighting: init={self.init!r}, expected 'log' or a number.")
        if self.init != "log":
            checks.number(self, "init")
        checks.number(self, "lr", least=0.0)
        self._state = PerTask(s=np.nan, **MOMENTS)  # NaN: not met yet

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Weights at the present s, which then makes its own step. See the class."""
        losses = checks.present(self, losses)
        self._state.grow(context.total)
        s = self._state["s"][context.active]  # (k,)
        new = np.isnan(s)
        if new.any():
            s[new] = self._start(losses[new])
            self._state["s"][context.active] = s
        weights = 0.5 * np.exp(-s)  # (k,)
        adam_step(self._state, "s", context.active, 0.5 - weights * losses, self.lr)
        return weights

    def _start(self, losses: Array) -> Array:
        """(n,) s of tasks that are met for the first time."""
        if isinstance(self.init, float):
            return np.full(len(losses), self.init)
        good = losses > 0
        if not good.all():
            self.report("scale", f"first loss {losses.min():g} has no logarithm; its task starts at s=0")
        return np.log(np.where(good, losses, 1.0))

    def state_dict(self) -> dict[str, Any]:
        """S and the moments of Adam."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state)
