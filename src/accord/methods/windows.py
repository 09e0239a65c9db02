"""Windows: mean losses over so many steps, or over an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accord.methods import checks
from accord.methods.state import PerTask

if TYPE_CHECKING:
    from accord.methods.method import Method

Array = NDArray[np.float64]


def check(method: Method) -> None:
    """Refuse a field ``window`` that is neither a number of steps nor ``"epoch"``.

    Args:
        method: whose field it is.
    """
    if isinstance(getattr(method, "window"), str):  # noqa: B009 - not every method has one
        checks.choice(method, "window", ("epoch",))
    else:
        checks.whole(method, "window", least=1)


class Windows:
    """Mean losses of the last two windows, per task; NaN for a task that had none in that window.

    Args:
        length: of a window in steps, or ``"epoch"``: until ``epoch`` is called.

    Example:
        >>> windows = Windows(2)
        >>> for loss in (4.0, 2.0, 9.0):
        ...     windows.begin(1)
        ...     windows.add(np.array([0]), np.array([loss]))
        >>> windows.done, windows.last.tolist(), windows.before.tolist()
        (1, [3.0], [nan])
    """

    def __init__(self, length: int | str) -> None:
        self._length = length
        self._steps = 0  # in the present window
        self._tasks = PerTask(sum=0.0, count=0.0, last=np.nan, before=np.nan)
        self.done = 0

    @property
    def last(self) -> Array:
        """(K,) means of the last full window."""
        return self._tasks["last"]

    @property
    def before(self) -> Array:
        """(K,) means of the window before that."""
        return self._tasks["before"]

    def begin(self, total: int) -> None:
        """A step begins: close the window if it is full, and make room for the tasks.

        Args:
            total: K.
        """
        if self._steps == self._length:
            self._close()
        self._tasks.grow(total)

    def add(self, active: NDArray[np.intp], losses: Array) -> None:
        """Losses of this step.

        Args:
            active: (k,) whose.
            losses: (k,).
        """
        self._tasks["sum"][active] += losses
        self._tasks["count"][active] += 1
        self._steps += 1

    def epoch(self) -> None:
        """An epoch has ended; without steps in it, and for windows of so many steps, that means nothing."""
        if self._length == "epoch" and self._steps:
            self._close()

    def _close(self) -> None:
        tasks, count = self._tasks, self._tasks["count"]
        tasks["before"][:] = tasks["last"]
        tasks["last"][:] = np.where(count > 0, tasks["sum"] / np.maximum(count, 1), np.nan)
        tasks["sum"][:], count[:] = 0.0, 0.0
        self._steps, self.done = 0, self.done + 1

    def state_dict(self) -> dict[str, Any]:
        """The sums of the present window, the means of the last two, and the counts of steps and windows."""
        return {"steps": self._steps, "done": self.done, "tasks": self._tasks.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Args:
            state: of windows of the same length.
        """
        self._steps, self.done = state["steps"], state["done"]
        self._tasks.load_state_dict(state["tasks"])
