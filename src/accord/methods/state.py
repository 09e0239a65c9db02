"""State of a method that has one number per task, or per ordered pair of tasks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from accord.errors import AccordError

Array = NDArray[np.float64]


class _Growing:
    """Named float64 arrays with the tasks on every axis; they grow when a task appears."""

    axes: ClassVar[int]

    def __init__(self, **start: float) -> None:
        self._start = start
        self._arrays: dict[str, Array] = {name: np.zeros((0,) * self.axes) for name in start}

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def grow(self, total: int) -> None:
        """Make room for `total` tasks.

        Args:
            total: K.
        """
        for name, array in self._arrays.items():
            if len(array) < total:
                self._arrays[name] = np.pad(array, (0, total - len(array)), constant_values=self._start[name])

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays, as float64 tensors."""
        return {name: torch.tensor(array, dtype=torch.float64) for name, array in self._arrays.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Args:
            state: tensors with K entries on every axis, under the same names.

        Raises:
            AccordError: if names or lengths do not fit.
        """
        found = [value.shape for value in state.values()]
        if (
            set(state) != set(self._start)
            or len({n for shape in found for n in shape}) > 1
            or not all(len(shape) == self.axes for shape in found)
        ):
            shape = "equal length" if self.axes == 1 else "shape (K, K)"
            raise AccordError(
                f"the state to load has {sorted(state)}, expected {sorted(self._start)} of {shape}; "
                "was it saved by another method?"
            )
        self._arrays = {name: value.to("cpu", torch.float64).numpy().copy() for name, value in state.items()}


class PerTask(_Growing):
    """Named (K,) float64 arrays over all tasks named so far; they grow when a task appears.

    Args:
        start: for every name the value that a new task begins with.

    Example:
        >>> state = PerTask(s=0.0)
        >>> state.grow(2)
        >>> state["s"][[1]] = 5.0
        >>> copy = PerTask(s=0.0)
        >>> copy.load_state_dict(state.state_dict())
        >>> copy.grow(3)
        >>> copy["s"].tolist()
        [0.0, 5.0, 0.0]
    """

    axes = 1


class PerPair(_Growing):
    """Named (K, K) float64 arrays over all pairs of tasks named so far; they grow when a task appears.

    Args:
        start: for every name the value that the pairs of a new task begin with.

    Example:
        >>> state = PerPair(t=0.0)
        >>> state.grow(1)
        >>> state["t"][0, 0] = 5.0
        >>> copy = PerPair(t=0.0)
        >>> copy.load_state_dict(state.state_dict())
        >>> copy.grow(2)
        >>> copy["t"].tolist()
        [[5.0, 0.0], [0.0, 0.0]]
    """

    axes = 2
