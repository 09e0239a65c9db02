"""Gaps between the events of one sequence, without the wait from its start to the first of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accord.tpp.events import Events, Floats


def within(events: Events) -> NDArray[np.bool_]:
    """(E - 1,) whether an event and the one behind it belong to one sequence."""
    return events.sequence[1:] == events.sequence[:-1]


def inner_gaps(events: Events) -> Floats:
    """(E - N,) gaps from event to event, in the unit of time; fewer are missing where sequences are empty.

    Example:
        >>> inner_gaps(Events.of([[1.0, 1.5], [7.0], [0.0, 4.0]], start=0.0)).tolist()
        [0.5, 4.0]
    """
    return np.diff(events.time)[within(events)]
