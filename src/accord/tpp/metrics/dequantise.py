"""Take the grid of the recording away: a likelihood on rounded times rewards a model for finding the grid."""

from __future__ import annotations

import dataclasses

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Events


def dequantise(events: Events, draw_seed: int) -> Events:
    """Add noise of one tick, ``t + U(0, tick)``, to every time, and sort again within each sequence, marks attached.

    The negative log likelihood of the time on such events is that of a continuous recording; average it over some
    draws. A window that ends before its last event then reaches to that event. Where ``start`` is unknown, the
    earliest event after the noise is the one that is not scored.

    Args:
        events: with a known ``tick``.
        draw_seed: decides the noise alone.

    Returns:
        Events without a tick, the same number in each sequence.

    Raises:
        TPPError: if ``tick`` is unknown.

    Source:
        Theis et al. 2016, https://arxiv.org/abs/1511.01844, for images.

    Example:
        >>> found = dequantise(Events.of([[1.0, 1.0, 3.0]], [[0, 1, 2]], tick=0.5), 0)
        >>> found.time.round(3).tolist(), found.mark.tolist()
        ([1.135, 1.318, 3.02], [1, 0, 2])
    """
    if events.tick is None:
        raise TPPError(f"{events.name or 'events'}: the tick is unknown, so there is no grid to take away.")
    noise = np.random.default_rng(draw_seed).uniform(0, events.tick, events.time.size)  # (E,)
    time = events.time + noise
    order = np.lexsort((time, events.sequence))  # by sequence, then by time
    time = time[order]
    end = events.end.copy()  # (N,)
    some = events.lengths > 0
    # fmax would take the last event for an unknown end
    end[some] = np.maximum(end[some], time[events.offsets[1:][some] - 1])
    return dataclasses.replace(events, time=time, mark=events.mark[order], end=end, tick=None)
