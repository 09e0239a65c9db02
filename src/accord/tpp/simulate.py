"""Simulate: new sequences from a model, or the futures of given ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from accord.tpp.draws import streams
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.model import PointProcess
from accord.tpp.sequences import Sequences, grow, read_in

DRAW = 1 << 40  # numbers of streams between two draws of futures: more than there are sequences


@torch.no_grad()
def simulate(
    model: PointProcess,
    count: int,
    end: float,
    *,
    seed: int = 0,
    method: str = "inverse",
    most: int = 100_000,
    marks: tuple[str, ...] | None = None,
    unit: str = "1",
) -> Events:
    """New sequences on the window [0, end].

    Args:
        model: fitted.
        count: how many.
        end: of the window, in units of time.
        seed: of the random numbers. A sequence depends on it and on its own number alone, up to rounding: the first
            ten of a hundred are those of ten.
        method: ``inverse`` solves for an exponential value of the compensator, for every family; ``thinning`` needs a
            bound of the intensity, which FNN and LNM lack. Both are exact.
        most: events of one sequence; more are refused, because such a model explodes.
        marks: names of the marks; None: numbers.
        unit: of time.

    Raises:
        TPPError: for arguments out of range, an unknown method, a family without a bound, a model that gives NaN, or a
            sequence with more than ``most`` events.

    Example:
        >>> from accord.tpp.build import build
        >>> simulate(build("poisson", marks=2), count=3, end=1.0).end.tolist()
        [1.0, 1.0, 1.0]
    """
    if count < 1 or not 0 < end < np.inf:
        raise TPPError(f"count={count}, end={end}; expected at least one sequence and a positive end.")
    names = tuple(str(k) for k in range(model.marks)) if marks is None else tuple(marks)
    if len(names) != model.marks:
        raise TPPError(f"there are {len(names)} names of marks and the model knows {model.marks}.")
    model.eval()
    times, drawn = grow(
        Sequences.start(model, count),
        streams(seed, torch.arange(count, device=model.device)),
        np.zeros(count),
        np.full(count, float(end)),
        method=method,
        most=most,
        scale=end / 100,
    )
    return Events.of(times, drawn, start=0.0, end=end, names=names, unit=unit, name="simulated")


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
    """How each sequence may go on for some time behind its end, given that nothing has come by that end.

    Args:
        model: fitted.
        events: the pasts; a future begins at the end of the window, or behind the last event where that is unknown.
        horizon: length of the futures.
        draws: futures of each sequence.
        seed: of the random numbers. A future depends on it, on its own past, on the number of that past among
            ``events`` and on the number of the draw, up to rounding: not on the other sequences.
        method: see ``simulate``.
        most: events of one future.

    Returns:
        ``draws`` times Events with one future for each past, in the same order.

    Raises:
        TPPError: as ``simulate``, or for another vocabulary.

    Example:
        >>> from accord.tpp.build import build
        >>> past = Events.of([[1.0, 2.0], [0.5]], [[0, 1], [1]], start=0.0)
        >>> future, = futures(build("lnm", marks=2), past, horizon=5.0)
        >>> len(future), bool((future.time >= 0.5).all()), future.end.tolist()
        (2, True, [7.0, 5.5])
    """
    if len(events) == 0 or draws < 1 or not 0 < horizon < np.inf:
        raise TPPError(f"{len(events)} pasts, draws={draws}, horizon={horizon}; expected positive numbers.")
    model.accept(events)
    model.eval()
    last, some = events.start.copy(), events.lengths > 0
    last[some] = events.time[events.offsets[1:][some] - 1]  # (N,)
    begin = np.where(np.isnan(events.end), last, events.end)  # (N,)
    end = begin + horizon
    nothing = (np.empty(0), np.empty(0, np.int64))
    found = [[nothing] * len(events) for _ in range(draws)]
    for group, past in read_in(model, events):
        numbers, draw = np.tile(group, draws), np.repeat(np.arange(draws), len(group))
        pasts = past.chosen(torch.arange(len(group), device=model.device).repeat(draws))
        keys = streams(seed, torch.from_numpy(numbers + DRAW * draw).to(model.device))
        times, marks = grow(
            pasts,
            keys,
            (begin - last)[numbers],
            (end - events.origin)[numbers],
            method=method,
            most=most,
            scale=horizon / 100,
        )
        for d, i, t, m in zip(draw, numbers, times, marks, strict=True):
            found[d][i] = (np.clip(t + events.origin[i], begin[i], end[i]), m)
    return [
        replace(
            Events.of([t for t, _ in one], [m for _, m in one], start=begin, end=end, names=events.marks),
            unit=events.unit,
            name=f"future of {events.name}",
            licence=events.licence,
        )
        for one in found
    ]
