"""What is to be trained, and how, as typed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accord.cli.reading import Reading
from accord.cli.tpp.source import Taken
from accord.problems import seeds
from accord.tpp.build import build
from accord.tpp.errors import TPPError
from accord.tpp.model import PointProcess


@dataclass(frozen=True)
class Order:
    """What is to be fitted, and how; see ``accord.tpp.build`` and ``accord.tpp.fit``."""

    data: str
    model: str
    history: str = "gru"
    encoding: str = "temporal_with_labels"
    epochs: int = 500
    batch: int = 32
    patience: int = 50
    lr: float = 1e-3
    seed: int = 0
    stopping: str | None = None
    paper_compat: bool = False
    method: str | None = None
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def reading(self) -> Reading:
        """How a file is read."""
        return Reading(self.format, self.options)

    def fresh(self, taken: Taken) -> PointProcess:
        """The model with the initial parameters of this seed, as ``accord run`` would make it."""
        train = taken.splits.train
        with seeds.seeded(self.seed, "tpp", "model"):
            return build(
                self.model,
                len(train.marks),
                history=self.history,
                encoding=self.encoding,
                tick=train.tick,
                scale=float(train.gaps[train.scored].mean()),
            )

    def check(self) -> None:
        """Refuse before anything is read what can be refused.

        Raises:
            TPPError: for an unknown model or option, or a value out of range.
        """
        build(self.model, 1, history=self.history, encoding=self.encoding)
        if not 0 < self.lr < float("inf"):
            raise TPPError(f"--lr is {self.lr}; expected a positive number.")
