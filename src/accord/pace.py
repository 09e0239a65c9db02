"""Pace: which steps a Monitor looks at, and what that costs."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from accord.errors import AccordError

SLOWEST = 200  # steps between two looks at most: below that a record is too thin to judge


class Pace:
    """Every n-th step, or as often as a share of the training time allows.

    A step's time runs from its beginning to the next step's, whatever happens in between, so that the optimiser's hook
    is counted. The cost of a look is the median over the last five of (time of a step with a look − median time of a
    step without); the first look, which warms up, is left out.

    Args:
        every: fixed interval in steps, or None.
        budget: share of the training time that looks may take, or None; one of the two.

    Raises:
        AccordError: for both, neither, or a value out of range.
    """

    def __init__(self, every: int | None, budget: float | None) -> None:
        if (every is None) == (budget is None):
            raise AccordError("give every= (a fixed interval in steps) or budget= (a share of the time), not both.")
        if every is not None and (not isinstance(every, int) or every < 1):
            raise AccordError(f"every={every!r}, expected a whole number of steps, at least 1.")
        if budget is not None and not 0 < budget <= 1:
            raise AccordError(f"budget={budget!r}, expected a share of the training time between 0 and 1.")
        self.every, self.budget = every, budget
        self.interval = every or 10
        self.steps = self.looks = self.next = 0
        self._began: float | None = None
        self._looked = False
        self._plain: deque[float] = deque(maxlen=50)
        self._with_look: deque[float] = deque(maxlen=5)

    def begin(self) -> bool:
        """Note the beginning of a step; True if it is one to look at."""
        now = time.perf_counter()
        if self._began is not None:
            if not self._looked:
                self._plain.append(now - self._began)
            elif self.looks > 1:
                self._with_look.append(now - self._began)
        due = self.steps >= self.next
        if due:
            if self.budget is not None and not math.isnan(self.look_seconds) and self.step_seconds > 0:
                wanted = math.ceil(self.look_seconds / (self.budget * self.step_seconds))
                self.interval = min(max(10, wanted), SLOWEST)
            self.next = self.steps + self.interval
            self.looks += 1
        self.steps += 1
        self._began, self._looked = now, due
        return due

    @property
    def step_seconds(self) -> float:
        """Median time of a step without a look; NaN until there was one."""
        return statistics.median(self._plain) if self._plain else math.nan

    @property
    def look_seconds(self) -> float:
        """What a look adds to its step; NaN until it can be told."""
        if not self._with_look or not self._plain:
            return math.nan
        return max(0.0, statistics.median(self._with_look) - self.step_seconds)

    @property
    def overhead(self) -> float:
        """Share of the time that looking adds at the present interval; NaN until it can be told."""
        return self.look_seconds / (self.step_seconds * self.interval)

    def state_dict(self) -> dict[str, Any]:
        """Where the pace stands; times are not kept, another machine may resume."""
        return {"steps": self.steps, "looks": self.looks, "next": self.next, "interval": self.interval}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.steps, self.looks, self.next = int(state["steps"]), int(state["looks"]), int(state["next"])
        self.interval, self._began = int(state["interval"]), None
