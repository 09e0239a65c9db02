"""Predict: the next event of every history in a data set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from accord.tpp.batch import Batch, batches
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats, Integers
from accord.tpp.model import PointProcess
from accord.tpp.next_event import NextEvent
from accord.tpp.training import BUDGET

TIMES = ("median", "mean", "mode")


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted next events. With ``after=False``, one for each scored event; else one for each sequence.

    Args:
        index: (n,) where the predicted event lies in ``Events.time``, or the number of the sequence.
        gap: (n,) predicted time from the event before; inf where the model says that none may come.
        quantiles: (n, Q) gaps at the wanted shares.
        mark: (n,) the most likely mark at the predicted gap; -1 where that is infinite.
        marginal_mark: (n,) the most likely mark, whenever the event comes; -1 where that is never.
        marginal: (n, M) probabilities of the marks, whenever the event comes.
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
        TPPError: for an unknown ``time``, or another vocabulary.

    Example:
        >>> from accord.tpp.build import build
        >>> events = Events.of([[1.0, 2.0, 4.0]], [[0, 1, 0]], start=0.0)
        >>> found = predict(build("lnm", marks=2), events)
        >>> found.index.tolist(), found.quantiles.shape
        ([0, 1, 2], (3, 5))
    """
    if time not in TIMES:
        raise TPPError(f"time={time!r} is not known; expected one of {', '.join(TIMES)}.")
    model.accept(events)
    parts = []
    for index, following in following_events(model, events, batch, after):
        gap = getattr(following, time)()
        marginal = following.marginal_marks(points)
        known = torch.isfinite(gap)
        mark = following.log_marks(torch.where(known, gap, 1.0)).argmax(1)
        never = torch.isnan(marginal[:, 0])
        shares = [following.quantile(q) for q in quantiles]
        parts.append(
            (
                index,
                gap.double().cpu().numpy(),
                torch.stack(shares, 1).double().cpu().numpy() if shares else np.empty((len(index), 0)),
                torch.where(known, mark, -1).cpu().numpy(),
                torch.where(never, -1, torch.nan_to_num(marginal, -1).argmax(1)).cpu().numpy(),
                marginal.double().cpu().numpy(),
            )
        )
    if not parts:
        raise TPPError("there is nothing to predict: no sequence has a scored event.")
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return Prediction(*(column[order] for column in columns))


def following_events(
    model: PointProcess, events: Events, size: int, after: bool = False
) -> Iterator[tuple[Integers, NextEvent]]:
    """For each batch what is predicted (see ``Prediction.index``), and its distribution."""
    model.eval()
    span, scale = extent(events)
    for batch in batches(events, size, dtype=model.dtype, tokens=BUDGET):
        moved: Batch = batch.to(model.device)
        h_time, h_mark = model.encode(moved)  # (T, D)
        rows = moved.last if after else moved.prev
        elapsed = moved.tail if after and moved.windowed else None
        index = batch.order if after else batch.source
        yield index.numpy(), NextEvent(model, h_time[rows], h_mark[rows], span, scale, elapsed)


def extent(events: Events) -> tuple[float, float]:
    """Time span of the data, and a usual gap."""
    span = float(np.ptp(events.time)) if events.time.size else 0.0
    positive = events.gaps[events.gaps > 0]
    scale = float(positive.mean()) if positive.size else 1.0
    return max(span, scale), scale
