"""Several parts of a data set as one, and copies of sequences among them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Integers


def join(parts: Sequence[Events]) -> Events:
    """All sequences of all parts, in order; unit, tick, name and licence are those of the first.

    Args:
        parts: at least one, with one vocabulary and one unit.

    Raises:
        TPPError: if vocabularies or units differ.

    Example:
        >>> join([Events.of([[1.0, 2.0]]), Events.of([[3.0], [4.0]])])
        Events(N=3, events=4, M=1)
    """
    if len({(part.marks, part.unit) for part in parts}) > 1:
        raise TPPError("parts with different marks or units cannot be joined; map them to one vocabulary and unit.")
    return dataclasses.replace(
        parts[0],
        time=np.concatenate([part.time for part in parts]),
        mark=np.concatenate([part.mark for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))]),
        start=np.concatenate([part.start for part in parts]),
        end=np.concatenate([part.end for part in parts]),
    )


def first_copies(events: Events) -> Integers:
    """(N,) for each sequence the first one with equal times and marks; its own number where there is none before.

    Times are compared as they are: equal *gaps* at another place in time are common among short sequences and prove
    nothing. For the same reason a sequence of one event is never called a copy.

    Example:
        >>> first_copies(Events.of([[1.0, 2.0], [5.0, 6.0], [1.0, 2.0], [3.0], [3.0]])).tolist()
        [0, 1, 0, 3, 4]
    """
    seen: dict[bytes, int] = {}
    first = np.arange(len(events))
    for i, (a, b) in enumerate(zip(events.offsets[:-1], events.offsets[1:], strict=True)):
        if b - a > 1:
            first[i] = seen.setdefault(events.time[a:b].tobytes() + events.mark[a:b].tobytes(), i)
    return first
