"""IMTL-L: learned scales that bring every loss to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.adam import MOMENTS, adam_step
from accord.methods.method import Array, Context, Method, Scale, Weighting
from accord.methods.state import PerTask


class Scales:
    """The learned ``e^{s_i}`` of ``Σ e^{s_i} L_i − s_i``, which IMTLL and IMTL share.

    Args:
        method: whose they are; the events are its own.
        init: ``log`` or a number, its argument.
        lr: its argument.
    """

    def __init__(self, method: Method, init: str | float, lr: float) -> None:
        if isinstance(init, str) and init != "log":
            raise AccordError(f"{type(method).__name__}: init={init!r}, expected 'log' or a number.")
        if init != "log":
            checks.number(method, "init")
        checks.number(method, "lr", least=0.0)
        self._method, self._init, self._lr = method, init, lr
        self._state = PerTask(s=np.nan, **MOMENTS)  # NaN: not met yet

    def step(self, losses: Array, context: Context) -> Array:
        """The scales at the present s, which then makes its own step.

        Args:
            losses: (k,) of the active tasks.
            context: which tasks these are.

        Returns:
            (k,)
        """
        self._state.grow(context.total)
        s = self._state["s"][context.active]  # (k,)
        new = np.isnan(s)
        if new.any():
            s[new] = self._start(losses[new])
            self._state["s"][context.active] = s
        scales = np.exp(s)  # (k,)
        adam_step(self._state, "s", context.active, scales * losses - 1, self._lr)
        return scales

    def _start(self, losses: Array) -> Array:
        """(n,) s of tasks that are met for the first time."""
        if not isinstance(self._init, str):
            return np.full(len(losses), float(self._init))
        good = losses > 0
        if not good.all():
            message = f"first loss {losses.min():g} has no logarithm; its task starts at s=0"
            self._method.report("scale", message)
        return -np.log(np.where(good, losses, 1.0))

    def state_dict(self) -> dict[str, Any]:
        """S and the moments of Adam."""
        return self._state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Args:
            state: of the scales of any method.
        """
        self._state.load_state_dict(state)


@dataclass(eq=False, repr=False)
class IMTLL(Weighting):
    """Impartial multi-task learning, loss part: all scaled losses tend to 1.

    The objective is ``Σ e^{s_i} L_i − s_i`` with learned ``s_i``: ``w_i = e^{s_i}``, and Adam follows
    ``∂/∂s_i = e^{s_i} L_i − 1`` after every step. The optimum is ``s_i = −log L_i``. This is twice the objective of
    uncertainty weighting at −s, reached without assuming a distribution.

    Source: Liu et al. 2021 (ICLR), "Towards Impartial Multi-task Learning",
    [openreview IMPnRXEWpvr](https://openreview.net/forum?id=IMPnRXEWpvr), eq. 6.

    The paper starts at s = 0 and moves s with the model's optimiser, which for losses far from 1 costs many steps, and
    in ports its weight decay pulls s to 0. Ours starts at the optimum for the first losses and has its own Adam.

    Args:
        init: ``log``: a new task starts at minus the log of its first loss (at 0 with an event if that is not
            positive); a number: every task starts there, 0.0 in the paper.
        lr: learning rate of Adam on s; 1e-3 is Adam's own default, the paper takes that of the model.

    Example:
        >>> import torch
        >>> IMTLL()(losses=torch.tensor([0.25, 4.0])).tolist()  # 1/L
        [4.0, 0.25]
    """

    init: str | float = "log"
    lr: float = 1e-3

    native_scale: ClassVar[Scale] = "objective"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def __post_init__(self) -> None:
        self._scales = Scales(self, self.init, self.lr)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Weights at the present s, which then makes its own step. See the class."""
        return self._scales.step(checks.present(self, losses), context)

    def state_dict(self) -> dict[str, Any]:
        """S and the moments of Adam."""
        return self._scales.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._scales.load_state_dict(state)
