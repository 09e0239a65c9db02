"""DWA: more weight to the tasks whose loss falls more slowly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.state import PerTask


@dataclass(eq=False, repr=False)
class DWA(Weighting):
    """Dynamic weight average.

    ``w = K softmax(r/T)``, ``r_i = L̄_i(t−1)/L̄_i(t−2)``, with ``L̄_i(t)`` the mean loss in window t; ones in the first
    two windows. A task without losses in one of the two windows counts as r = 1.

    Source: Liu, Johns & Davison 2019 (CVPR), "End-to-End Multi-Task Learning with Attention",
    [arXiv 1803.10704](https://arxiv.org/abs/1803.10704), eq. 7; T = 2 from its experiments.

    The paper's window is an epoch: set ``window`` to the number of steps in yours. The default is that of nash-mtl.

    Args:
        temperature: T > 0; the larger, the more equal the weights.
        window: length of a window in steps.

    Example:
        >>> import torch
        >>> method = DWA(window=1)
        >>> for losses in ([4.0, 4.0], [2.0, 4.0], [1.0, 4.0]):  # the first task improves, the second does not
        ...     weights = method(losses=torch.tensor(losses))
        >>> bool(weights[0] < 1 < weights[1]), round(weights.sum().item(), 5)
        (True, 2.0)
    """

    temperature: float = 2.0
    window: int = 25

    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def __post_init__(self) -> None:
        checks.number(self, "temperature", above=0.0)
        checks.whole(self, "window", least=1)
        self._state = PerTask(sum=0.0, count=0.0, last=np.nan, before=np.nan)  # NaN: no such window
        self._steps = 0

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Weights from the last two full windows; then this step's losses enter the present one. See the class."""
        losses, state = checks.present(self, losses), self._state
        state.grow(context.total)
        if self._steps and self._steps % self.window == 0:
            known = state["count"] > 0
            state["before"][:] = state["last"]
            state["last"][:] = np.where(known, state["sum"] / np.maximum(state["count"], 1), np.nan)
            state["sum"][:], state["count"][:] = 0.0, 0.0
        last, before = state["last"][context.active], state["before"][context.active]  # (k,)
        usable = np.isfinite(last) & np.isfinite(before) & (before != 0)
        rate = np.where(usable, last / np.where(usable, before, 1.0), 1.0)  # (k,)
        state["sum"][context.active] += losses
        state["count"][context.active] += 1
        self._steps += 1
        powers = np.exp((rate - rate.max()) / self.temperature)  # (k,)
        return len(rate) * powers / powers.sum()

    def state_dict(self) -> dict[str, Any]:
        """The sums of the present window, the means of the last two, and the number of steps."""
        return {"steps": self._steps, "tasks": self._state.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._steps = state["steps"]
        self._state.load_state_dict(state["tasks"])
