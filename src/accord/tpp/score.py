"""Score: what a model says about every scored event of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accord.tpp.batch import Batch, batches, eligible
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Integers
from accord.tpp.model import PointProcess
from accord.tpp.training import BUDGET


@dataclass(frozen=True, eq=False)
class Scores:
    """Likelihood terms of n scored events and of N sequences, in float64 on the CPU.

    Args:
        index: (n,) where the events lie in ``Events.time``, ascending.
        log_density: (n,) log f(tau).
        compensator: (n,) Lambda(tau), a draw of Exp(1) if the model is the truth.
        log_marks: (n, M) log p(k | tau) at the true tau.
        mark: (n,) true marks.
        sequences: (N,) numbers of the sequences with a scored event, ascending.
        window: (N,) compensator from their last event to the end of the window.
    """

    index: Integers
    log_density: Tensor
    compensator: Tensor
    log_marks: Tensor
    mark: Tensor
    sequences: Integers
    window: Tensor

    @property
    def own(self) -> Tensor:
        """(n,) log p of the true marks."""
        return self.log_marks.gather(1, self.mark.unsqueeze(1)).squeeze(1)

    @property
    def nll_time(self) -> float:
        """Nats, of all events and windows."""
        return float(self.window.sum() - self.log_density.sum())

    @property
    def nll_mark(self) -> float:
        """Nats, of all events."""
        return -float(self.own.sum())


@dataclass(frozen=True)
class Encoded:
    """A batch and its histories, on the model's device.

    Args:
        batch: of N sequences and T tokens, with its n scored events.
        h_time: (T, D) histories for the time.
        h_mark: (T, D) histories for the mark.
    """

    batch: Batch
    h_time: Tensor
    h_mark: Tensor

    def terms(self, model: PointProcess) -> tuple[Tensor, ...]:
        """Columns of ``Scores`` in order of the batch: six, and the window."""
        found, b = model.score(self.batch, self.h_time, self.h_mark), self.batch
        events = (b.source, found.log_density, found.compensator, found.log_marks, b.scored_marks)
        return *events, b.order, model.window(b, self.h_time)


@torch.no_grad()
def score(model: PointProcess, events: Events, *, first: bool = True, batch: int = 256) -> Scores:
    """What a model says about every scored event.

    Args:
        model: fitted.
        events: with the model's vocabulary.
        first: as in ``collate``.
        batch: sequences at once.

    Raises:
        TPPError: if no event can be scored, or a number is NaN.

    Example:
        >>> from accord.tpp.build import build
        >>> found = score(build("lnm", marks=2), Events.of([[1.0, 2.0], [1.0]], [[0, 1], [1]], start=0.0, end=3.0))
        >>> found.index.tolist(), found.log_marks.shape, found.sequences.tolist()
        ([0, 1, 2], torch.Size([3, 2]), [0, 1])
    """
    return gathered(part.terms(model) for part in encoded(model, events, batch, first=first))


def encoded(model: PointProcess, events: Events, size: int, *, first: bool = True) -> Iterator[Encoded]:
    """The batches of a data set with their histories; all that scores or predicts its events goes through here.

    Raises:
        TPPError: if no event can be scored, or vocabularies differ.
    """
    model.accept(events)
    if eligible(events, first=first).size == 0:
        raise TPPError("no event can be scored; a sequence needs two events, or one and a known start.")
    model.eval()
    for part in batches(events, size, dtype=model.dtype, first=first, tokens=BUDGET):
        moved = part.to(model.device)
        yield Encoded(moved, *model.encode(moved))


def gathered(parts: Iterable[tuple[Tensor, ...]]) -> Scores:
    """Scores in order of the data set, from the terms of its batches.

    Raises:
        TPPError: if a number is NaN.
    """
    columns = [torch.cat(column).cpu() for column in zip(*parts, strict=True)]
    index, density, compensator, marks, own, sequences, window = columns
    if any(bool(value.isnan().any()) for value in (density, compensator, marks, window)):
        raise TPPError("the model gives NaN for some events; it was not trained to an end, or its file is damaged.")
    order, by_sequence = index.argsort(), sequences.argsort()
    return Scores(
        index[order].numpy().astype(np.int64),
        density[order].double(),
        compensator[order].double(),
        marks[order].double(),
        own[order],
        sequences[by_sequence].numpy().astype(np.int64),
        window[by_sequence].double(),
    )
