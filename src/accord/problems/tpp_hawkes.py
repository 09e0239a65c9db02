"""A simulated Hawkes process: its true likelihood is known, and nothing has to be downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from accord.problems import seeds
from accord.problems.point_process import PointProcessProblem
from accord.tpp.events import Splits
from accord.tpp.hawkes.presets import LARGE_END, hawkes_large, hawkes_splits
from accord.tpp.model import TASKS


@dataclass(frozen=True, repr=False)
class TPPHawkes(PointProcessProblem):
    """Time and mark of the next event of a Hawkes process with five marks that excite each other.

    Source: Hawkes-large of Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590; theirs has 6000 training
    sequences.

    Args:
        kind: the model; see ``PointProcessProblem`` for the other settings.
        limit: at most so many sequences in each part.
        train: simulated training sequences.
        validation: simulated validation sequences.
        test: simulated test sequences.
    """

    train: int = 1200
    validation: int = 400
    test: int = 400
    epochs: int = 15

    name: ClassVar[str] = "tpp-hawkes"
    tasks: ClassVar[tuple[str, ...]] = TASKS
    metric: ClassVar[dict[str, tuple[str, bool]]] = {"time": ("pce", False), "mark": ("accuracy", True)}
    dataset: ClassVar[str] = "hawkes"

    @classmethod
    def tiny(cls) -> TPPHawkes:
        """Two epochs of four steps."""
        return cls(train=12, validation=8, test=8, epochs=2, batch=3)

    def splits(self, seed: int) -> Splits:
        """Fresh sequences for each seed."""
        return _simulated(seed, (self.train, self.validation, self.test))


@cache
def _simulated(seed: int, sizes: tuple[int, int, int]) -> Splits:
    return hawkes_splits(hawkes_large(), LARGE_END, seeds.number(seed, "tpp-hawkes"), sizes)
