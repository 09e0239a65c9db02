"""Weights that are used for several steps before they are solved for again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Refresh:
    """When to solve, and the weights to use until then.

    They are solved for anew every n steps, and at once when other tasks are at hand than they were made for.

    Args:
        every: n.

    Example:
        >>> refresh = Refresh(every=2)
        >>> refresh.keep(0, [0, 1], [0.5, 1.5])
        >>> refresh.weights(1, [0, 1]), refresh.weights(1, [0]), refresh.weights(2, [0, 1])
        ([0.5, 1.5], None, None)
    """

    every: int = 1
    _made: int = 0
    _kept: dict[int, float] = field(default_factory=dict)

    def weights(self, index: int, columns: Sequence[int]) -> list[float] | None:
        """The weights of the tasks at hand, or None if it is time to solve.

        Args:
            index: of the step.
            columns: where the tasks at hand stand among all tasks.
        """
        if set(columns) != set(self._kept) or not 0 < index - self._made < self.every:
            return None
        return [self._kept[column] for column in columns]

    def keep(self, index: int, columns: Sequence[int], weights: Sequence[float] | None) -> None:
        """Keep the weights of this step; None if one of its tasks took no part, which the next step should not repeat.

        Args:
            index: of the step.
            columns: where the tasks at hand stand among all tasks.
            weights: theirs.
        """
        self._made = index
        self._kept = {} if weights is None or self.every == 1 else dict(zip(columns, weights, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The kept weights by column, and the step that they were made in."""
        return {"made": self._made, "kept": dict(self._kept)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._made = int(state["made"])
        self._kept = {int(column): float(weight) for column, weight in state["kept"].items()}
