"""DWA: more weight to the tasks whose loss falls more slowly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from accord.methods import checks, windows
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.windows import Windows


@dataclass(eq=False, repr=False)
class DWA(Weighting):
    """Dynamic weight average.

    ``w = K softmax(r/T)``, ``r_i = L̄_i(t−1)/L̄_i(t−2)``, with ``L̄_i(t)`` the mean loss in window t; ones in the first
    two windows. A task without losses in one of the two windows counts as r = 1.

    Source: Liu, Johns & Davison 2019 (CVPR), "End-to-End Multi-Task Learning with Attention",
    [arXiv 1803.10704](https://arxiv.org/abs/1803.10704), eq. 7; T = 2 from its experiments.

    The paper's window is an epoch: ``window="epoch"``, with a call of ``method.epoch()`` at the end of each. The
    default, which needs no such call, is that of nash-mtl.

    Args:
        temperature: T > 0; the larger, the more equal the weights.
        window: length of a window in steps, or ``"epoch"``.

    Example:
        >>> import torch
        >>> method = DWA(window=1)
        >>> for losses in ([4.0, 4.0], [2.0, 4.0], [1.0, 4.0]):  # the first task improves, the second does not
        ...     weights = method(losses=torch.tensor(losses))
        >>> bool(weights[0] < 1 < weights[1]), round(weights.sum().item(), 5)
        (True, 2.0)
    """

    temperature: float = 2.0
    window: int | str = 25

    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def __post_init__(self) -> None:
        checks.number(self, "temperature", above=0.0)
        windows.check(self)
        self._windows = Windows(self.window)

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """Weights from the last two full windows; then this step's losses enter the present one. See the class."""
        losses = checks.present(self, losses)
        self._windows.begin(context.total)
        last, before = self._windows.last[context.active], self._windows.before[context.active]  # (k,)
        usable = np.isfinite(last) & np.isfinite(before) & (before != 0)
        rate = np.where(usable, last / np.where(usable, before, 1.0), 1.0)  # (k,)
        self._windows.add(context.active, losses)
        powers = np.exp((rate - rate.max()) / self.temperature)  # (k,)
        return len(rate) * powers / powers.sum()

    def epoch(self) -> None:
        """An epoch has ended, and with it a window of ``"epoch"``."""
        self._windows.epoch()

    def state_dict(self) -> dict[str, Any]:
        """The sums of the present window, the means of the last two, and the counts of steps and windows."""
        return self._windows.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._windows.load_state_dict(state)
