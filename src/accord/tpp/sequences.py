"""Sequences that grow event by event: encoder states beside what was sampled so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from accord.tpp.batch import collate
from accord.tpp.draws import child, uniform
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Integers
from accord.tpp.model import PointProcess
from accord.tpp.next_event import NextEvent
from accord.tpp.thinning import thin

METHODS = ("inverse", "thinning")
GAP, MARK = 0, 1  # what the draws of one event are for


@dataclass
class Sequences:
    """N sequences that grow by one event at a time, all with as many events.

    Args:
        model: in evaluation mode.
        states: of its encoders, by tag.
        h: (N, D) histories, by tag.
        age: (N,) float64 time of the last event since the origin.
    """

    model: PointProcess
    states: dict[str, Any]
    h: dict[str, Tensor]
    age: Tensor

    @classmethod
    def start(cls, model: PointProcess, count: int) -> Self:
        """Without events."""
        like = next(model.parameters())
        found = {tag: encoder.start(count, like) for tag, encoder in model.encoders().items()}
        age = torch.zeros(count, dtype=torch.float64, device=like.device)
        return cls(model, {tag: s for tag, (s, _) in found.items()}, {tag: h for tag, (_, h) in found.items()}, age)

    def advance(self, gap: Tensor, mark: Tensor) -> None:
        """One more event of each sequence: gaps (N,) float64, marks (N,)."""
        self.age = self.age + gap
        gap, age = gap.to(self.model.dtype), self.age.to(self.model.dtype)
        for tag, encoder in self.model.encoders().items():
            self.states[tag], self.h[tag] = encoder.advance(self.states[tag], gap, mark, age)

    def chosen(self, rows: Tensor) -> Self:
        """Some of them, with repetition if wanted, to go their own way."""
        states = {tag: encoder.select(self.states[tag], rows) for tag, encoder in self.model.encoders().items()}
        return type(self)(self.model, states, {tag: h[rows] for tag, h in self.h.items()}, self.age[rows])

    @property
    def histories(self) -> tuple[Tensor, Tensor]:
        """(N, D) for the time and for the mark."""
        if "shared" in self.h:
            return self.h["shared"], self.h["shared"]
        return self.h["time"], self.h["mark"]


def read_in(model: PointProcess, events: Events) -> Iterator[tuple[Integers, Sequences]]:
    """All sequences of a data set after their last event: numbers of those of one length, and these."""
    batch = collate(events, None, torch.float64)
    order, sizes = batch.order.numpy(), (*batch.sizes, 0)
    moved = batch.to(model.device)
    gaps, marks = moved.gap.split(batch.sizes), moved.mark.split(batch.sizes)
    sequences = Sequences.start(model, len(batch))
    rows = torch.arange(len(batch), device=model.device)
    for step, (size, later) in enumerate(pairwise(sizes)):
        if step:
            sequences.advance(gaps[step], marks[step])
        if later < size:  # the sequences lie in order of decreasing length
            yield order[later:size], sequences.chosen(rows[later:size])
            sequences = sequences.chosen(rows[:later])


def grow(
    sequences: Sequences, keys: Tensor, elapsed: np.ndarray, end: np.ndarray, *, method: str, most: int, scale: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sample events until each sequence reaches its end.

    Args:
        sequences: N of them; they are used up.
        keys: (N,) of the random numbers of each sequence.
        elapsed: (N,) time since their last events in which nothing happened.
        end: (N,) where they end, counted from their origins.
        method: ``inverse`` or ``thinning``.
        most: new events of one sequence.
        scale: a usual gap.

    Returns:
        New times, counted from the origins, and marks of each sequence.
    """
    if method not in METHODS:
        raise TPPError(f"method={method!r} is not known; expected one of {', '.join(METHODS)}.")
    model, device = sequences.model, sequences.age.device
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise TPPError("the model has parameters that are no finite numbers; it was not trained to an end.")
    limit, wait = torch.from_numpy(end).to(device), torch.from_numpy(elapsed).to(device)  # (N,) each
    waited, farthest = bool(elapsed.any()), float(end.max())
    rows = torch.arange(len(end), device=device)  # the sequences that are still open
    log: list[tuple[Tensor, Tensor, Tensor]] = []  # rows, times and marks of each round
    while True:
        draws = child(keys[rows], len(log))
        gap = _next_gap(sequences, wait if waited else None, limit[rows], draws, method, farthest, scale)
        inside = (~(sequences.age + gap >= limit[rows])).nonzero().squeeze(1)  # a NaN is kept, to be refused
        if len(inside) == 0:
            return _by_sequence(log, len(end))
        if len(inside) < len(rows):
            rows, gap, draws, sequences = rows[inside], gap[inside], draws[inside], sequences.chosen(inside)
        if len(log) == most:
            raise TPPError(f"a sequence has more than {most} events before its end; such a model explodes.")
        chance = torch.exp(model.mark_part.log_marks(sequences.histories[1], gap.to(model.dtype).clamp(model.floor)))
        cumulative = chance.double().cumsum(1)  # (N, M)
        if bool((gap + cumulative[:, -1]).isnan().any()):
            raise TPPError("the model gives NaN for some gaps or marks; it was not trained to an end.")
        level = uniform(draws, MARK).unsqueeze(1) * cumulative[:, -1:]
        mark = (cumulative < level).sum(1).clamp(max=model.marks - 1)  # (N,)
        sequences.advance(gap, mark)
        log.append((rows, sequences.age, mark))
        waited = False


def _next_gap(
    sequences: Sequences,
    elapsed: Tensor | None,
    end: Tensor,
    draws: Tensor,
    method: str,
    farthest: float,
    scale: float,
) -> Tensor:
    """(N,) float64 time from the last event to the next; inf, or a number beyond the end, where none comes."""
    model, (h_time, h_mark) = sequences.model, sequences.histories
    begin = None if elapsed is None else elapsed.to(h_time)
    if method == "thinning":
        start = h_time.new_zeros(len(h_time)) if begin is None else begin
        try:
            gap = thin(model, h_time, start, (end - sequences.age).to(h_time), scale, child(draws, GAP))
        except NotImplementedError as error:
            raise TPPError(f"{error} Use method='inverse'.") from None
    else:
        hazard = -torch.log(uniform(child(draws, GAP), 0)).to(h_time)  # Exp(1)
        gap = NextEvent(model, h_time, h_mark, farthest, scale, begin).reach(hazard)
    # Rounding to the model's precision must not move an event to before the end of its past.
    return gap.double() if elapsed is None else torch.maximum(gap.double(), elapsed)


def _by_sequence(log: list[tuple[Tensor, Tensor, Tensor]], count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Times and marks of each sequence, in order, from those of each round."""
    if not log:
        return [np.empty(0)] * count, [np.empty(0, np.int64)] * count
    rows, times, marks = (torch.cat(column).cpu().numpy() for column in zip(*log, strict=True))
    order = np.argsort(rows, kind="stable")
    cuts = np.cumsum(np.bincount(rows, minlength=count))[:-1]
    return np.split(times[order], cuts), np.split(marks[order], cuts)
