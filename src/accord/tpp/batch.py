"""Batch: the tokens of some sequences, packed step by step without padding, and the loader that makes batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Integers

POOL = 16  # batches whose sequences are sorted by length together: little padding, still a random composition
JITTER = 0.1  # of log length in that order: without it a small data set would have the same batches in every epoch


@dataclass(frozen=True)
class Batch:
    """N sequences of a data set as T = N + (number of events) tokens, time step by time step.

    The sequences lie in order of decreasing length. Step 0 holds the N window starts, step i the i-th event of every
    sequence that has one: the layout of ``torch.nn.utils.rnn.PackedSequence``, with no padding anywhere. The *scored*
    events are those whose likelihood counts; each has a row of the token before it, whose history it is predicted from.

    Args:
        mark: (T,) mark of each token; 0 at window starts, where it means nothing.
        gap: (T,) time since the token before; 0 at window starts.
        age: (T,) time since the window's start.
        sizes: tokens of each step; the first is N.
        rank: (T,) the sequence of each token, 0..N-1 in order of this batch.
        step: (T,) the step of each token.
        event: (n,) rows of the scored events.
        prev: (n,) rows of the tokens before them.
        last: (N,) row of the last token of each sequence.
        tail: (N,) time from there to the end of the window; 0 where the window is unknown.
        windowed: whether any tail is known.
        source: (n,) where the scored events lie in ``Events.time``.
        order: (N,) numbers of the sequences in the data set.
    """

    mark: Tensor
    gap: Tensor
    age: Tensor
    sizes: tuple[int, ...]
    rank: Tensor
    step: Tensor
    event: Tensor
    prev: Tensor
    last: Tensor
    tail: Tensor
    windowed: bool
    source: Tensor
    order: Tensor

    @property
    def count(self) -> int:
        """n, the number of scored events."""
        return len(self.event)

    @property
    def sequence(self) -> Tensor:
        """(n,) the sequence of each scored event, 0..N-1 in order of this batch."""
        return self.rank[self.event]

    @property
    def scored_marks(self) -> Tensor:
        """(n,) the marks of the scored events."""
        return self.mark[self.event]

    def __len__(self) -> int:
        return self.sizes[0]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """The same on another device, with times of another dtype."""

        def moved(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            return value.to(device, dtype if value.is_floating_point() else None, non_blocking=True)

        return replace(self, **{f.name: moved(getattr(self, f.name)) for f in fields(self)})


def collate(
    events: Events, chosen: ArrayLike | None = None, dtype: torch.dtype | None = None, *, first: bool = True
) -> Batch:
    """Pack some sequences; gaps and ages are differences of float64 times and only then rounded to ``dtype``.

    Args:
        events: the data set.
        chosen: numbers of the sequences; None: all.
        dtype: of the times; None: PyTorch's default.
        first: whether the first event of a sequence is scored where ``events`` allows it; False is what the authors of
            the gradient-conflict study do.

    Raises:
        TPPError: without any sequence.

    Example:
        >>> batch = collate(Events.of([[1.0, 3.0], [2.0, 4.0, 5.0]], start=0.0))
        >>> batch.sizes, batch.gap.tolist(), batch.prev.tolist(), batch.order.tolist()
        ((2, 2, 2, 1), [0.0, 0.0, 2.0, 1.0, 2.0, 2.0, 1.0], [0, 1, 2, 3, 4], [1, 0])
    """
    chosen = np.arange(len(events)) if chosen is None else np.asarray(chosen, np.int64)
    if chosen.size == 0:
        raise TPPError("a batch needs at least one sequence.")
    chosen = chosen[np.argsort(-events.lengths[chosen], kind="stable")]
    lengths = events.lengths[chosen]  # (N,)
    count, total = len(chosen), int(lengths.sum())
    sizes = np.concatenate([[count], count - np.cumsum(np.bincount(lengths, minlength=1))[:-1]])  # (L + 1,)
    starts = np.concatenate([[0], np.cumsum(sizes)])  # row of each step's first token
    rank = np.repeat(np.arange(count), lengths)  # (events,) sequence by sequence, as in `events`
    step = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    source = np.repeat(events.offsets[chosen], lengths) + step - 1
    rows = starts[step] + rank

    def tokens(values: np.ndarray, at_start: float | np.ndarray = 0) -> np.ndarray:
        packed = np.empty(count + total, values.dtype)  # (T,)
        packed[:count] = at_start
        packed[rows] = values
        return packed

    age = events.time[source] - np.repeat(events.origin[chosen], lengths)
    scored = tokens(events.scored[source] & (first | (step > 1)))
    event = np.flatnonzero(scored)
    all_ranks, all_steps = tokens(rank, np.arange(count)), tokens(step)
    tail = events.tails[chosen]
    dtype = torch.get_default_dtype() if dtype is None else dtype
    as_tensor = torch.from_numpy
    return Batch(
        mark=as_tensor(tokens(events.mark[source])),
        gap=as_tensor(tokens(events.gaps[source])).to(dtype),
        age=as_tensor(tokens(age)).to(dtype),
        sizes=tuple(sizes.tolist()),
        rank=as_tensor(all_ranks),
        step=as_tensor(all_steps),
        event=as_tensor(event),
        prev=as_tensor(starts[all_steps[event] - 1] + all_ranks[event]),
        last=as_tensor(starts[lengths] + np.arange(count)),
        tail=as_tensor(tail).to(dtype),
        windowed=bool((tail > 0).any()),
        source=as_tensor(tokens(source)[event]),
        order=as_tensor(chosen),
    )


def eligible(events: Events, *, first: bool = True) -> Integers:
    """Numbers of the sequences with at least one scored event; the others say nothing and are left out.

    Example:
        >>> eligible(Events.of([[1.0], [1.0, 2.0]])).tolist()
        [1]
    """
    least = np.where(np.isnan(events.start) | (not first), 2, 1)  # (N,)
    return np.flatnonzero(events.lengths >= least)


def batches(
    events: Events,
    size: int,
    generator: np.random.Generator | None = None,
    *,
    dtype: torch.dtype | None = None,
    first: bool = True,
    tokens: int | None = None,
) -> Iterator[Batch]:
    """All eligible sequences in batches of similar length.

    For training, sequences are shuffled, sorted by length (but for some noise) within pools of 16 batches, and the
    batches of all pools are shuffled. For evaluation they are sorted as a whole. Results do not depend on which
    sequences share a batch.

    Args:
        events: the data set.
        size: sequences in a batch; the last one may be smaller.
        generator: decides the order; None: for evaluation.
        dtype: of the times.
        first: as in ``collate``.
        tokens: where the sequences of a batch would take more than so many padded tokens, it is cut into smaller ones.

    Example:
        >>> events = Events.of([[1.0] * 2, [1.0] * 9, [1.0] * 3], start=0.0)
        >>> [batch.sizes[0] * len(batch.sizes) for batch in batches(events, 2)]
        [20, 3]
    """
    if size < 1:
        raise TPPError(f"size={size}; a batch needs at least one sequence.")
    order = eligible(events, first=first)
    key = -np.log(events.lengths[order])
    pool = max(len(order), 1)
    if generator is not None:
        shuffled = generator.permutation(len(order))
        order, key = order[shuffled], key[shuffled] + generator.uniform(-JITTER, JITTER, len(order))
        pool = POOL * size
    groups = []
    for begin in range(0, len(order), pool):
        part = order[begin : begin + pool][np.argsort(key[begin : begin + pool], kind="stable")]
        groups += [part[i : i + size] for i in range(0, len(part), size)]
    if generator is not None:
        generator.shuffle(groups)
    for group in groups:
        longest = int(events.lengths[group].max()) + 1
        share = len(group) if tokens is None else max(1, min(len(group), tokens // longest))
        for begin in range(0, len(group), share):
            yield collate(events, group[begin : begin + share], dtype, first=first)
