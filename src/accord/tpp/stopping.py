"""Early stopping: which epoch is the best so far, and when to give up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Stopping:
    """Follows one validation loss. An epoch is better if the loss falls by more than ``drop * max(|best|, 1)``.

    Args:
        patience: epochs without a better one after which training stops.
        drop: relative.
        best: lowest loss so far, by this rule.
        epoch: where it was, counted from 1; 0: nowhere yet.
        latest: the epoch seen last.

    Example:
        >>> rule = Stopping(patience=2)
        >>> [rule.better(loss) for loss in (3.0, 2.0, 1.9999, 1.9998)], rule.epoch, rule.over
        ([True, True, False, False], 2, True)
    """

    patience: int
    drop: float = 5e-4
    best: float = float("inf")
    epoch: int = 0
    latest: int = 0

    def better(self, loss: float) -> bool:
        """Take in the loss of one more epoch; whether it is the best so far."""
        self.latest += 1
        # the first loss has no best to be compared with: inf - inf
        found = self.epoch == 0 or self.best - loss > self.drop * max(abs(self.best), 1.0)
        if found:
            self.best, self.epoch = loss, self.latest
        return found

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        return self.latest - self.epoch >= self.patience

    def state(self) -> dict[str, Any]:
        """What an unbroken run would go on with."""
        return {"best": self.best, "epoch": self.epoch, "latest": self.latest}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best, self.epoch, self.latest = float(state["best"]), int(state["epoch"]), int(state["latest"])
