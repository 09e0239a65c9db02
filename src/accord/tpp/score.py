"""Score: what a model says about every scored event of a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accord.tpp.batch import batches, eligible
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
    model.accept(events)
    if eligible(events, first=first).size == 0:
        raise TPPError("no event can be scored; a sequence needs two events, or one and a known start.")
    model.eval()
    parts: list[tuple[Tensor, ...]] = []
    windows: list[tuple[Tensor, Tensor]] = []
    for part in batches(events, batch, dtype=model.dtype, first=first, tokens=BUDGET):
        moved = part.to(model.device)
        h_time, h_mark = model.encode(moved)
        found = model.score(moved, h_time, h_mark)
        columns = (part.source, found.log_density, found.compensator, found.log_marks, part.scored_marks)
        parts.append(tuple(column.cpu() for column in columns))
        windows.append((part.order, model.window(moved, h_time).cpu()))
    index, density, compensator, marks, own = (torch.cat(column) for column in zip(*parts, strict=True))
    if bool((density.isnan() | compensator.isnan() | marks.isnan().any(1)).any()):
        raise TPPError("the model gives NaN for some events; it was not trained to an end, or its file is damaged.")
    order, place = index.argsort(), torch.cat([o for o, _ in windows])
    by_sequence = place.argsort()
    return Scores(
        index[order].numpy().astype(np.int64),
        density[order].double(),
        compensator[order].double(),
        marks[order].double(),
        own[order],
        place[by_sequence].numpy().astype(np.int64),
        torch.cat([w for _, w in windows])[by_sequence].double(),
    )
