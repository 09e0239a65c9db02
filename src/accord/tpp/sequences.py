"""Sequences that grow event by event: encoder states beside what was sampled so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from accord.tpp.batch import collate
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.model import PointProcess
from accord.tpp.next_event import NextEvent
from accord.tpp.thinning import thin

METHODS = ("inverse", "thinning")
WINDOW = 4  # usual gaps: length of the pieces on which thinning bounds the intensity


class Sequences:
    """Sequences that grow by one event at a time: their encoder states, histories and ages."""

    def __init__(self, model: PointProcess, count: int) -> None:
        self.model = model
        like = next(model.parameters())
        self.states: dict[str, Any] = {}
        self.h: dict[str, Tensor] = {}
        for tag, encoder in model.encoders().items():
            self.states[tag], self.h[tag] = encoder.start(count, like)
        self.age = torch.zeros(count, dtype=torch.float64, device=like.device)  # (N,) of the last event

    def advance(self, gap: Tensor, mark: Tensor) -> None:
        """One more event of each sequence: gaps (N,) float64, marks (N,)."""
        self.age = self.age + gap
        gap, age = gap.to(self.model.dtype), self.age.to(self.model.dtype)
        for tag, encoder in self.model.encoders().items():
            self.states[tag], self.h[tag] = encoder.advance(self.states[tag], gap, mark, age)

    def select(self, rows: Tensor) -> None:
        """Keep some of them, with repetition if wanted."""
        for tag, encoder in self.model.encoders().items():
            self.states[tag], self.h[tag] = encoder.select(self.states[tag], rows), self.h[tag][rows]
        self.age = self.age[rows]

    @property
    def histories(self) -> tuple[Tensor, Tensor]:
        """(N, D) for the time and for the mark."""
        if "shared" in self.h:
            return self.h["shared"], self.h["shared"]
        return self.h["time"], self.h["mark"]


def read_in(model: PointProcess, events: Events, chosen: np.ndarray) -> Sequences:
    """The sequences with these numbers, all of one length, after their last event."""
    batch = collate(events, chosen, torch.float64)  # equal lengths: the order is kept
    sequences, count = Sequences(model, len(chosen)), len(chosen)
    gaps, marks = batch.gap.view(-1, count).to(model.device), batch.mark.view(-1, count).to(model.device)
    for step in range(1, len(batch.sizes)):
        sequences.advance(gaps[step], marks[step])
    return sequences


def grow(
    sequences: Sequences,
    elapsed: Tensor,
    end: np.ndarray,
    *,
    seed: tuple[int, ...],
    method: str,
    most: int,
    span: float,
    scale: float,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sample events until each sequence reaches its end.

    Args:
        sequences: N of them; they are used up.
        elapsed: (N,) float64 time since their last events in which nothing happened.
        end: (N,) where they end, counted from their origins.
        seed: numbers that decide all draws.
        method: ``inverse`` or ``thinning``.
        most: new events of one sequence.
        span: gaps above 1e6 spans count as infinite.
        scale: a usual gap.

    Returns:
        New times, counted from the origins, and marks of each sequence.
    """
    if method not in METHODS:
        raise TPPError(f"method={method!r} is not known; expected one of {', '.join(METHODS)}.")
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))
    device = sequences.age.device
    limit = torch.from_numpy(np.asarray(end, np.float64)).to(device)  # (N,)
    rows = torch.arange(len(limit), device=device)  # the sequences that are still open
    elapsed = elapsed.to(device)
    log: list[tuple[Tensor, Tensor, Tensor]] = []  # rows, times and marks of each round
    while len(rows):
        gap = _next_gap(sequences, elapsed, limit[rows] - sequences.age, generator, method, span, scale)
        inside = (sequences.age + gap < limit[rows]).nonzero().squeeze(1)
        rows, gap = rows[inside], gap[inside]
        sequences.select(inside)
        if len(rows) and len(log) == most:
            raise TPPError(f"a sequence has more than {most} events before its end; such a model explodes.")
        tau = gap.to(sequences.model.dtype).clamp(min=sequences.model.floor)
        chance = torch.exp(sequences.model.mark_part.log_marks(sequences.histories[1], tau))  # (N, M)
        draw = torch.rand(len(rows), 1, generator=generator, dtype=torch.float64).to(device)
        cumulative = chance.double().cumsum(1)
        mark = (cumulative < draw * cumulative[:, -1:]).sum(1).clamp(max=sequences.model.marks - 1)  # (N,)
        sequences.advance(gap, mark)
        log.append((rows.cpu(), sequences.age.cpu(), mark.cpu()))
        elapsed = torch.zeros(len(rows), dtype=torch.float64, device=device)
    return _by_sequence(log, len(limit))


def _next_gap(
    sequences: Sequences,
    elapsed: Tensor,
    left: Tensor,
    generator: torch.Generator,
    method: str,
    span: float,
    scale: float,
) -> Tensor:
    """(N,) float64 time from the last event to the next; anything above ``left`` where that lies behind the end."""
    model, (h_time, h_mark) = sequences.model, sequences.histories
    begin = elapsed.to(h_time)
    if method == "thinning":
        try:
            return thin(model, h_time, begin, left.to(h_time), WINDOW * scale, generator).double()
        except NotImplementedError as error:
            raise TPPError(f"{error} Use method='inverse'.") from None
    uniform = torch.rand(len(left), generator=generator, dtype=torch.float64)
    following = NextEvent(model, h_time, h_mark, span, scale, begin)
    return following.reach(-torch.log1p(-uniform).to(h_time)).double()


def _by_sequence(log: list[tuple[Tensor, Tensor, Tensor]], count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Times and marks of each sequence, in order, from those of each round."""
    if not log:
        return [np.empty(0)] * count, [np.empty(0, np.int64)] * count
    rows, times, marks = (torch.cat(column).numpy() for column in zip(*log, strict=True))
    order = np.argsort(rows, kind="stable")
    cuts = np.cumsum(np.bincount(rows, minlength=count))[:-1]
    return np.split(times[order], cuts), np.split(marks[order], cuts)
