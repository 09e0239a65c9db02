"""State of a method that has one number per task, or per ordered pair of tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accord.errors import AccordError

Array = NDArray[np.float64]


class PerTask:
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

    def __init__(self, **start: float) -> None:
        self._start = start
        self._arrays: dict[str, Array] = {name: np.zeros(0) for name in start}

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def grow(self, total: int) -> None:
        """Make room for `total` tasks.

        Args:
            total: K.
        """
        for name, array in self._arrays.items():
            if len(array) < total:
                self._arrays[name] = np.append(array, np.full(total - len(array), self._start[name]))

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays, as float64 tensors."""
        return {name: torch.tensor(array, dtype=torch.float64) for name, array in self._arrays.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Args:
            state: tensors (K,) under the same names.

        Raises:
            AccordError: if names or lengths do not fit.
        """
        if set(state) != set(self._start) or len({len(value) for value in state.values()}) > 1:
            raise AccordError(
                f"the state to load has {sorted(state)}, expected {sorted(self._start)} of equal length; "
                "was it saved by another method?"
            )
        self._arrays = {name: value.to("cpu", torch.float64).numpy().copy() for name, value in state.items()}


class PerPair:
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

    def __init__(self, **start: float) -> None:
        self._start = start
        self._arrays: dict[str, Array] = {name: np.zeros((0, 0)) for name in start}

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def grow(self, total: int) -> None:
        """Make room for `total` tasks.

        Args:
            total: K.
        """
        for name, array in self._arrays.items():
            if len(array) < total:
                more = total - len(array)
                self._arrays[name] = np.pad(array, (0, more), constant_values=self._start[name])

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays, as float64 tensors."""
        return {name: torch.tensor(array, dtype=torch.float64) for name, array in self._arrays.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave.

        Args:
            state: tensors (K, K) under the same names.

        Raises:
            AccordError: if names or shapes do not fit.
        """
        shapes = {tuple(value.shape) for value in state.values()}
        if set(state) != set(self._start) or len(shapes) > 1 or shapes != {shape[:1] * 2 for shape in shapes}:
            raise AccordError(
                f"the state to load has {sorted(state)}, expected {sorted(self._start)} of shape (K, K); "
                "was it saved by another method?"
            )
        self._arrays = {name: value.to("cpu", torch.float64).numpy().copy() for name, value in state.items()}
