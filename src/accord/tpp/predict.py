"""Predict: the next event of every history in a data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord.tpp.batch import collate
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats, Integers
from accord.tpp.model import PointProcess
from accord.tpp.next_event import NextEvent
from accord.tpp.score import Encoded, encoded
from accord.tpp.training import BUDGET

TIMES = ("median", "mean", "mode")
REACH = 1e6  # times the time span of the data: a gap beyond it counts as never


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted next events. With ``after=False``, one for each scored event; else one for each sequence.

    Args:
        index: (n,) where the predicted event lies in ``Events.time``, or the number of the sequence.
        gap: (n,) predicted time from the event before; inf where the model says that none may come.
        quantiles: (n, Q) gaps at the wanted shares.
        mark: (n,) the most likely mark at the predicted gap; -1 where that is infinite.
        marginal_mark: (n,) the most likely mark, whenever the event comes; -1 where that is never.
        marginal: (n, M) probabilities of the marks, whenever the event comes; NaN where that is never.
    """

    index: Integers
    gap: Floats
    quantiles: Floats
    mark: Integers
    marginal_mark: Integers
    marginal: NDArray[np.float64]

    @property
    def unresolved(self) -> int:
        """How many predicted gaps are infinite."""
        return int(np.isinf(self.gap).sum())


@torch.no_grad()
def predict(
    model: PointProcess,
    events: Events,
    *,
    time: str = "median",
    quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95),
    after: bool = False,
    points: int = 16,
    batch: int = 256,
) -> Prediction:
    """Next events from the events before them.

    Args:
        model: fitted.
        events: with the model's vocabulary.
        time: what is predicted as the gap: ``median``, ``mean`` or ``mode``.
        quantiles: of the gap.
        after: predict the one event behind the end of each sequence, given that none has come by the end of its
            window, instead of every event from those before it.
        points: quantiles of the time over which the marginal mark distribution is a mean.
        batch: sequences at once.

    Raises:
        TPPError: for an unknown ``time``, shares outside [0, 1), another vocabulary, a model that gives NaN, or if no
            event is to be predicted.

    Example:
        >>> from accord.tpp.build import build
        >>> events = Events.of([[1.0, 2.0, 4.0]], [[0, 1, 0]], start=0.0)
        >>> found = predict(build("lnm", marks=2), events)
        >>> found.index.tolist(), found.quantiles.shape
        ([0, 1, 2], (3, 5))
    """
    if time not in TIMES:
        raise TPPError(f"time={time!r} is not known; expected one of {', '.join(TIMES)}.")
    if points < 1:
        raise TPPError(f"points={points}; expected at least 1.")
    chosen = behind(model, events, batch) if after else between(model, events, batch)
    parts = [(index, *_columns(following, time, quantiles, points)) for index, following in chosen]
    columns = [torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    found = Prediction(*(column[order] for column in columns))
    if np.isnan(found.gap).any():
        raise TPPError("the model gives NaN for some gaps; it was not trained to an end, or its file is damaged.")
    return found


def _columns(following: NextEvent, time: str, quantiles: tuple[float, ...], points: int) -> tuple[Tensor, ...]:
    """Columns of a ``Prediction`` behind the first, on the device."""
    gap = getattr(following, time)()
    shares = [following.quantile(q) for q in quantiles]
    marginal = following.marginal_marks(points)
    return (
        gap.double(),
        torch.stack(shares, 1).double() if shares else gap.new_empty(len(gap), 0).double(),
        torch.where(gap.isinf(), -1, following.log_marks(gap.clamp(max=following.limit)).argmax(1)),
        likeliest(marginal),
        marginal.double(),
    )


def likeliest(chance: Tensor) -> Tensor:
    """(n,) the most likely of M marks (n, M), of equally likely ones the first; -1 in rows of NaN.

    Example:
        >>> likeliest(torch.tensor([[0.2, 0.8], [torch.nan, torch.nan]])).tolist()
        [1, -1]
    """
    return torch.where(chance.isnan().any(1), -1, chance.argmax(1))


def between(model: PointProcess, events: Events, size: int) -> Iterator[tuple[Tensor, NextEvent]]:
    """For each batch where the scored events lie in ``Events.time``, and their distributions given those before."""
    limit, scale = extent(events)
    for part in encoded(model, events, size):
        yield part.batch.source, following(model, part, limit, scale)


def following(model: PointProcess, part: Encoded, limit: float, scale: float) -> NextEvent:
    """The distributions of the scored events of a batch, each given those before it."""
    h_time = part.h_time[part.batch.prev]  # (n, D)
    h_mark = h_time if part.h_mark is part.h_time else part.h_mark[part.batch.prev]
    return NextEvent(model, h_time, h_mark, limit, scale)


def behind(model: PointProcess, events: Events, size: int) -> Iterator[tuple[Tensor, NextEvent]]:
    """For each batch the numbers of its sequences, and the distributions of the next event behind their ends."""
    model.accept(events)
    if size < 1 or len(events) == 0:
        raise TPPError(f"there are {len(events)} sequences, {size} at once; expected at least 1 of each.")
    model.eval()
    limit, scale = extent(events)
    order = np.argsort(-events.lengths, kind="stable")
    while order.size:
        share = max(1, min(size, BUDGET // (int(events.lengths[order[0]]) + 1)))
        batch = collate(events, order[:share], model.dtype).to(model.device)
        h_time, h_mark = model.encode(batch)  # (T, D) twice
        elapsed = batch.tail if batch.windowed else None
        yield batch.order, NextEvent(model, h_time[batch.last], h_mark[batch.last], limit, scale, elapsed)
        order = order[share:]


def extent(events: Events) -> tuple[float, float]:
    """The gap that counts as never, and a usual one."""
    known = np.concatenate([events.time, events.start, events.end])
    span = float(np.nanmax(known) - np.nanmin(known)) if np.isfinite(known).any() else 0.0
    positive = events.gaps[events.gaps > 0]
    scale = float(positive.mean()) if positive.size else 1.0
    return REACH * max(span, scale), scale
