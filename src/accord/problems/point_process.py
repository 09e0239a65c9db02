"""Time and mark of the next event as two tasks, for any data set of marked event sequences."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from accord.errors import AccordError
from accord.problems import seeds
from accord.problems.problem import Data, Metrics, Problem
from accord.tpp.batch import Batch, batches, eligible
from accord.tpp.build import HISTORIES, NAMES, build
from accord.tpp.errors import TPPError, nearest
from accord.tpp.events import Events, Splits
from accord.tpp.metrics.calibration import mark_reliability, time_reliability
from accord.tpp.metrics.marks import accuracy_at, ranks, reciprocal_rank
from accord.tpp.model import TASKS, PointProcess
from accord.tpp.training import BUDGET

EVALUATED = 256  # sequences at once


@dataclass(frozen=True, eq=False)
class EventPart:
    """One part of a data set, in batches of sequences of similar length.

    Args:
        events: of this part.
        batch: sequences per step of training.
    """

    events: Events
    batch: int

    def __len__(self) -> int:
        return -(-eligible(self.events).size // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        return batches(self.events, EVALUATED, tokens=BUDGET)

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch."""
        number = int(torch.randint(2**62, (1,), generator=generator))
        return batches(self.events, self.batch, np.random.default_rng(number))


@dataclass(frozen=True, repr=False)
class PointProcessProblem(Problem):
    """Predict when the next event comes, and which mark it has.

    Losses are negative log likelihoods in nats per scored event. The metric of the time is the calibration error
    (PCE): unlike a likelihood of times, whose zero depends on the unit, it can be compared in per cent.

    Source: Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590.

    Args:
        kind: the model, such as ``thp``, ``thp+``, ``lnm++``; see ``accord.tpp.build``.
        history: its encoder, ``gru``, ``attention`` or ``constant``.
        encoding: of events.
        limit: at most so many sequences in each part.
        epochs: passes over the training sequences.
        batch: sequences per step.
        lr: learning rate.
    """

    kind: str = "thp"
    history: str = "gru"
    encoding: str = "temporal_with_labels"
    limit: int = 1_000_000
    epochs: int = 30
    batch: int = 32
    lr: float = 1e-3

    def __post_init__(self) -> None:
        self.check()
        for value, known, name in ((self.kind, NAMES, "kind"), (self.history, HISTORIES, "history")):
            if value not in known:
                raise AccordError(f"{self.name}: {name}={value!r} is not known.{nearest(value, known)}")

    @abstractmethod
    def splits(self, seed: int) -> Splits:
        """Train, validation and test events.

        Raises:
            AccordError: if files are missing.
        """

    @classmethod
    def tiny(cls) -> PointProcessProblem:
        """Two epochs of four steps."""
        return cls(limit=12, epochs=2, batch=3)

    def data(self, seed: int) -> Data:
        """The parts of this seed, with fingerprints of the sequences as their origin."""
        try:
            splits = self.splits(seed)
        except TPPError as error:
            raise AccordError(str(error)) from None
        parts = {
            name: part.subset(eligible(part)[: self.limit])
            for name, part in (("train", splits.train), ("validation", splits.validation), ("test", splits.test))
        }
        origin = {
            name: frozenset(int(print_[:15], 16) for print_ in part.fingerprints()) for name, part in parts.items()
        }
        return Data(**{name: EventPart(part, self.batch) for name, part in parts.items()}, origin=origin)

    def model(self, seed: int) -> nn.Module:
        """The model of this kind, for the vocabulary and the resolution of the data."""
        train = self.splits(seed).train
        with seeds.seeded(seed, "tpp", "model"):
            return build(
                self.kind,
                len(train.marks),
                history=self.history,
                encoding=self.encoding,
                tick=train.tick,
                scale=float(train.gaps[train.scored].mean()),
            )

    def losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Negative log likelihoods per scored event."""
        return model(batch).losses()

    def after_step(self, model: nn.Module) -> None:
        """Constraints of some decoders."""
        assert isinstance(model, PointProcess)
        model.project_()

    def metrics(self, model: nn.Module, batches: Iterable[Batch]) -> Metrics:
        """Likelihood and calibration of the time; likelihood, accuracy, rank and calibration of the mark."""
        assert isinstance(model, PointProcess)
        parts, windows = [], torch.zeros((), dtype=torch.float64)
        with torch.no_grad():
            for batch in batches:
                h_time, h_mark = model.encode(batch)
                found = model.score(batch, h_time, h_mark)
                windows += model.window(batch, h_time).double().sum()
                parts.append((found.log_density, found.compensator, found.log_marks, batch.scored_marks))
        density, compensator, log_marks, marks = (torch.cat(column) for column in zip(*parts, strict=True))
        own = log_marks.double().gather(1, marks[:, None])
        rank = ranks(log_marks, marks).corrected
        return {
            TASKS[0]: {
                "loss": float(windows - density.double().sum()) / len(marks),
                "pce": time_reliability(compensator).pce,
            },
            TASKS[1]: {
                "loss": -float(own.sum()) / len(marks),
                "accuracy": accuracy_at(rank, 1),
                "mrr": reciprocal_rank(rank),
                "ece": mark_reliability(log_marks, marks).ece,
            },
        }
