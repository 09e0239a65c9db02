"""Exact log-likelihood and intensities of a Hawkes process, by the exponential recursion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats, Integers
from accord.tpp.hawkes.process import HawkesProcess

_CHUNK = 2**16  # float64 numbers handled together: 512 KiB, so that a few temporaries stay in a core's cache


@dataclass(frozen=True, eq=False)
class HawkesLikelihood:
    """The log likelihood, term by term, as `accord.tpp.model.Likelihood` has it; n scored events in their order.

    Args:
        time: (n,) ``log lambda(t_i) - Lambda(t_{i-1}, t_i)`` of the ground process, the log density of the gap.
        mark: (n,) ``log p(k_i | t_i) = log lambda_{k_i}(t_i) - log lambda(t_i)``.
        window: (N,) compensator from the last event to the end of the window; 0 where that is unknown. It belongs to
            the time, with a minus sign.
        compensator: (n,) ground ``Lambda(t_{i-1}, t_i)``: independent Exp(1) numbers if the process is the true one.
        mark_totals: (N, M) compensator of each mark over all gaps and the window: the expected counts.
    """

    time: Floats
    mark: Floats
    window: Floats
    compensator: Floats
    mark_totals: Floats


def log_likelihood(process: HawkesProcess, events: Events) -> HawkesLikelihood:
    """Exact log likelihood, split into time, mark and final window; before `Events.origin` nothing has happened.

    ``S_ij(t) = sum_{events (s, j), s < t} adjacency_ij exp(-decay_ij (t - s))`` is carried from event to event. With it
    ``lambda_i = base_i + sum_j decay_ij S_ij``, and over a gap without events
    ``Lambda_i(gap) = base_i gap + sum_j S_ij (1 - exp(-decay_ij gap))``. Time O(E M²), memory O(E + N M). Events at
    equal times follow one another in the order given, each excited by those in front of it.

    Args:
        process: with M marks.
        events: N sequences over the same M marks.

    Raises:
        TPPError: if the numbers of marks differ.

    Source: Ozaki, "Maximum likelihood estimation of Hawkes' self-exciting point processes" (1979),
    https://doi.org/10.1007/BF02480272.

    Example:
        >>> poisson = HawkesProcess([1.0, 3.0], np.zeros((2, 2)), np.ones((2, 2)))
        >>> terms = log_likelihood(poisson, Events.of([[0.5]], [[1]], start=0.0, end=1.0))
        >>> np.exp(terms.mark).round(12).tolist(), terms.compensator.tolist(), terms.window.tolist()
        ([0.75], [2.0], [2.0])
    """
    log_ground, log_mark, compensator = np.empty((3, events.time.size))  # each (E,)
    window, totals = np.zeros(len(events)), np.zeros((len(events), process.base.size))  # (N,), (N, M)
    for step, sequences, gap, state, left in _walk(process, events):
        passed = process.base * gap[:, None] + np.einsum("nij->ni", state - left)  # (n, M)
        totals[sequences] += passed
        ground = passed.sum(-1)  # (n,)
        going = np.count_nonzero(events.lengths[sequences] > step)  # the first ones; the others reach their end
        window[sequences[going:]] = ground[going:]
        rows = events.offsets[sequences[:going]] + step
        rates = process.base + np.einsum("ij,nij->ni", process.decay, left[:going])  # (going, M)
        compensator[rows] = ground[:going]
        with np.errstate(divide="ignore"):  # an impossible event has log likelihood -inf
            log_ground[rows] = np.log(rates.sum(-1))
            log_mark[rows] = np.log(rates[np.arange(going), events.mark[rows]]) - log_ground[rows]
    scored = events.scored
    time = log_ground[scored] - compensator[scored]
    return HawkesLikelihood(time, log_mark[scored], window, compensator[scored], totals)


def intensities(process: HawkesProcess, events: Events, times: ArrayLike) -> Floats:
    """Conditional intensities of all marks at given times, each given the events strictly before it.

    Args:
        process: with M marks.
        events: N sequences.
        times: (N, G) in the unit of the events, not before the origin of their sequence; (G,) serves all sequences.

    Returns:
        (N, G, M) events per unit of time.

    Raises:
        TPPError: if the shape does not fit, a time lies before the window, or the numbers of marks differ.

    Example:
        >>> process = HawkesProcess([1.0], [[0.5]], [[2.0]])
        >>> intensities(process, Events.of([[1.0]], start=0.0), [0.5, 1.0, 1.5])[0, :, 0].round(3).tolist()
        [1.0, 1.0, 1.368]
    """
    at = np.asarray(times, np.float64)
    if at.ndim not in (1, 2) or (at.ndim == 2 and len(at) != len(events)):
        raise TPPError(f"times have shape {at.shape}; expected (G,) or ({len(events)}, G).")
    at = np.broadcast_to(at, (len(events), at.shape[-1]))  # (N, G)
    if not (at >= events.origin[:, None]).all():
        raise TPPError("some times lie before the origin of their sequence, or are no numbers; ask for later ones.")
    windows = zip(events.offsets[:-1], events.offsets[1:], at, strict=True)
    earlier = [np.searchsorted(events.time[a:b], row) for a, b, row in windows]
    before = np.concatenate(earlier)  # (N G,) how many events lie strictly before each time
    query = np.argsort(before, kind="stable")
    bounds = np.searchsorted(before[query], np.arange(events.lengths.max() + 2))
    place = np.empty(len(events), np.int64)  # of each sequence among those that advance together
    found = np.empty((at.size, process.base.size))  # (N G, M)
    for step, sequences, _, state, _ in _walk(process, events):
        place[:] = -1
        place[sequences] = np.arange(len(sequences))
        asked = query[bounds[step] : bounds[step + 1]]
        for piece in _pieces(asked[place[asked // at.shape[1]] >= 0], process):  # (q,)
            sequence = piece // at.shape[1]
            last = events.time[events.offsets[sequence] + step - 1] if step else events.origin[sequence]  # (q,)
            left = state[place[sequence]] * np.exp(-process.decay * (at.flat[piece] - last)[:, None, None])  # (q, M, M)
            found[piece] = process.base + np.einsum("ij,qij->qi", process.decay, left)
    return found.reshape(*at.shape, -1)


def _walk(process: HawkesProcess, events: Events) -> Iterator[tuple[int, Integers, Floats, Floats, Floats]]:
    """Step i, sequences (n,), their gap behind event i (n,), and S (n, M, M) at its start and just before its end.

    Steps are 0..L; the last gap is the tail of the window. Sequences advance together, longest first, so that those
    still under way are always the first ones.
    """
    marks = process.base.size
    if len(events.marks) != marks:
        raise TPPError(f"the process has {marks} marks and the events have {len(events.marks)}; expected the same.")
    order = np.argsort(-events.lengths, kind="stable")
    for chunk in _pieces(order, process):
        lengths = events.lengths[chunk]
        state = np.zeros((len(chunk), marks, marks))
        for step in range(int(lengths[0]) + 1):
            reached = int(np.searchsorted(-lengths, -step, "right"))  # sequences with at least `step` events
            going = int(np.searchsorted(-lengths, -step, "left"))  # with more
            sequences, state = chunk[:reached], state[:reached]
            rows = events.offsets[sequences[:going]] + step  # (going,) the event that ends the gap
            gap = np.concatenate([events.gaps[rows], events.tails[sequences[going:]]])  # (n,)
            left = state * np.exp(-process.decay * gap[:, None, None])
            yield step, sequences, gap, state, left
            state = left
            state[np.arange(going), :, events.mark[rows]] += process.adjacency.T[events.mark[rows]]


def _pieces(numbers: Integers, process: HawkesProcess) -> Iterator[Integers]:
    """Cut an index so that M² numbers for each of its entries fit into the cache."""
    size = max(1, _CHUNK // process.base.size**2)
    return (numbers[i : i + size] for i in range(0, len(numbers), size))
