"""Simulate: new sequences from a model, or the futures of given ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.model import PointProcess
from accord.tpp.predict import extent
from accord.tpp.sequences import Sequences, grow, read_in


@torch.no_grad()
def simulate(
    model: PointProcess,
    count: int,
    end: float,
    *,
    seed: int = 0,
    method: str = "inverse",
    most: int = 100_000,
    span: float | None = None,
    scale: float | None = None,
    marks: tuple[str, ...] | None = None,
    unit: str = "1",
) -> Events:
    """New sequences on the window [0, end].

    Args:
        model: fitted.
        count: how many.
        end: of the window, in units of time.
        seed: of the random numbers.
        method: ``inverse`` solves for an exponential value of the compensator, for every family; ``thinning`` needs a
            bound of the intensity, which FNN and LNM lack. Both are exact.
        most: events of one sequence; more are refused, because such a model explodes.
        span: gaps above 1e6 spans count as infinite; None: ``end``.
        scale: a usual gap, where searches begin; None: a hundredth of ``end``.
        marks: names of the marks; None: numbers.
        unit: of time.

    Raises:
        TPPError: for an unknown method, a family without a bound, or a sequence with more than ``most`` events.

    Example:
        >>> from accord.tpp.build import build
        >>> simulate(build("poisson", marks=2), count=3, end=1.0).end.tolist()
        [1.0, 1.0, 1.0]
    """
    if count < 1 or not 0 < end < np.inf:
        raise TPPError(f"count={count}, end={end}; expected at least one sequence and a positive end.")
    model.eval()
    grown = grow(
        Sequences(model, count),
        torch.zeros(count, dtype=torch.float64),
        np.full(count, end),
        seed=(seed,),
        method=method,
        most=most,
        span=end if span is None else span,
        scale=end / 100 if scale is None else scale,
    )
    names = tuple(str(k) for k in range(model.marks)) if marks is None else marks
    return Events.of(*grown, start=0.0, end=end, names=names, unit=unit, name="simulated")


@torch.no_grad()
def futures(
    model: PointProcess,
    events: Events,
    horizon: float,
    *,
    draws: int = 1,
    seed: int = 0,
    method: str = "inverse",
    most: int = 100_000,
) -> list[Events]:
    """How each sequence may go on for some time behind its end.

    Args:
        model: fitted.
        events: the pasts; a future begins at the end of the window, or behind the last event where that is unknown.
        horizon: length of the futures.
        draws: futures of each sequence.
        seed: of the random numbers.
        method: see ``simulate``.
        most: events of one future.

    Returns:
        ``draws`` times Events with one future for each past, in the same order.

    Example:
        >>> from accord.tpp.build import build
        >>> past = Events.of([[1.0, 2.0], [0.5]], [[0, 1], [1]], start=0.0)
        >>> future, = futures(build("lnm", marks=2), past, horizon=5.0)
        >>> len(future), bool((future.time >= 0.5).all()), future.end.tolist()
        (2, True, [7.0, 5.5])
    """
    model.accept(events)
    model.eval()
    last = np.where(np.isnan(events.end), np.nan, events.end - events.tails)  # (N,)
    some = events.lengths > 0
    last[some] = events.time[events.offsets[1:][some] - 1]
    begin = np.where(np.isnan(events.end), last, events.end)  # (N,)
    span, scale = extent(events)
    found = [[(np.empty(0), np.empty(0))] * len(events) for _ in range(draws)]
    for length in np.unique(events.lengths):
        chosen = np.flatnonzero(events.lengths == length)
        past = read_in(model, events, chosen)
        past.select(torch.arange(len(chosen), device=past.age.device).repeat(draws))
        which = np.tile(chosen, draws)
        elapsed = torch.from_numpy((begin - last)[which])
        times, marks = grow(
            past, elapsed, (begin + horizon - events.origin)[which], seed=(seed, int(length)),
            method=method, most=most, span=max(span, horizon), scale=scale,
        )  # fmt: skip
        for j, (t, m) in enumerate(zip(times, marks, strict=True)):
            found[j // len(chosen)][which[j]] = (t + events.origin[which[j]], m)
    return [
        replace(
            Events.of([t for t, _ in draw], [m for _, m in draw], start=begin, end=begin + horizon, names=events.marks),
            unit=events.unit, name=f"future of {events.name}", licence=events.licence,
        )
        for draw in found
    ]  # fmt: skip
