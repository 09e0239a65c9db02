"""Long horizon: whole futures sampled from a model against those that came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.metrics.horizon import DELETION_COSTS, TemporalPrecision, temporal_precision, transport_distance
from accord.tpp.model import PointProcess
from accord.tpp.score import score
from accord.tpp.simulate import futures


@dataclass(frozen=True, eq=False)
class LongHorizon:
    """How good sampled futures are.

    Args:
        transport: (N, costs) optimal transport distances, mean over draws.
        costs: of one deletion or insertion, in units of time.
        precision: T-mAP of the first draw.
        count_error: mean absolute difference of the numbers of events, over sequences and draws.
        left_out: sequences too short to have a past and a horizon.
    """

    transport: Tensor
    costs: tuple[float, ...]
    precision: TemporalPrecision
    count_error: float
    left_out: int


def cut(events: Events, at: np.ndarray, horizon: float) -> tuple[Events, Events]:
    """Pasts that end at given times, and what came in the horizon behind them.

    Args:
        events: N sequences.
        at: (N,) where each past ends; events at that very time belong to it.
        horizon: length of the futures.

    Returns:
        Pasts, and futures whose windows are the horizon.

    Example:
        >>> past, future = cut(Events.of([[1.0, 2.0, 3.5, 9.0]]), np.array([2.5]), horizon=2.0)
        >>> past.time.tolist(), future.time.tolist(), future.end.tolist()
        ([1.0, 2.0], [3.5], [4.5])
    """
    here = at[events.sequence]  # (E,)
    before = events.time <= here
    within = ~before & (events.time <= here + horizon)

    def part(rows: np.ndarray, start: np.ndarray, end: np.ndarray) -> Events:
        counts = np.bincount(events.sequence[rows], minlength=len(events))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return replace(events, time=events.time[rows], mark=events.mark[rows], offsets=offsets, start=start, end=end)

    return part(before, events.start, at), part(within, at, at + horizon)


@torch.no_grad()
def long_horizon(
    model: PointProcess,
    events: Events,
    horizon: float,
    deltas: Sequence[float],
    *,
    costs: Sequence[float] = DELETION_COSTS,
    draws: int = 1,
    seed: int = 0,
) -> LongHorizon:
    """Sample the last stretch of every sequence from what came before, and compare it with what came.

    A sequence is cut one horizon before its end (of its window, or its last event). Marks of sampled events are scored
    by p(k | tau) given everything before them, the sampled events included.

    Args:
        model: fitted.
        events: with the model's vocabulary; sequences without an event before the cut are left out and counted.
        horizon: length of the futures, in units of time.
        deltas: tolerances of T-mAP, in units of time.
        costs: of OTD, in units of time.
        draws: futures of each sequence for OTD and counts.
        seed: of the random numbers.

    Raises:
        TPPError: if no sequence is long enough, or for another vocabulary.

    Example:
        >>> from accord.tpp.build import build
        >>> events = Events.of([[1.0, 2.0, 3.0, 4.0]] * 3, [[0, 1, 0, 1]] * 3, start=0.0)
        >>> found = long_horizon(build("lnm", marks=2), events, horizon=2.0, deltas=[0.5])
        >>> found.transport.shape, found.left_out
        (torch.Size([3, 7]), 0)
    """
    some = np.flatnonzero(events.lengths > 0)
    last = events.time[events.offsets[1:][some] - 1]
    end = np.where(np.isnan(events.end[some]), last, events.end[some])
    at = end - horizon
    long = events.time[events.offsets[:-1][some]] <= at
    if not long.any():
        raise TPPError(f"no sequence has an event more than {horizon} before its end; choose a shorter horizon.")
    past, true = cut(events.subset(some[long]), at[long], horizon)
    sampled = futures(model, past, horizon, draws=draws, seed=seed)
    transport = torch.stack([transport_distance(true, one, costs) for one in sampled]).mean(0)
    errors = [np.abs(one.lengths - true.lengths).mean() for one in sampled]
    return LongHorizon(
        transport,
        tuple(costs),
        temporal_precision(true, sampled[0], _log_marks(model, past, sampled[0]), deltas),
        float(np.mean(errors)),
        len(events) - int(long.sum()),
    )


def _log_marks(model: PointProcess, past: Events, future: Events) -> Tensor:
    """(E', M) log p(k | tau) of the future's events, each given all before it."""
    pieces = [(*one, *other) for one, other in zip(_rows(past), _rows(future), strict=True)]
    whole = Events.of(
        [np.concatenate([past.time[a:b], future.time[c:d]]) for a, b, c, d in pieces],
        [np.concatenate([past.mark[a:b], future.mark[c:d]]) for a, b, c, d in pieces],
        start=past.start,
        names=past.marks,
    )
    found = score(model, whole)
    new = np.concatenate([np.arange(b - a + d - c) >= b - a for a, b, c, d in pieces])  # (E,) which are sampled
    return found.log_marks[torch.from_numpy(new[found.index])]


def _rows(events: Events) -> list[tuple[int, int]]:
    return list(zip(events.offsets[:-1].tolist(), events.offsets[1:].tolist(), strict=True))
