"""Exact simulation of a Hawkes process through its families, one generation of all sequences at a time."""

from __future__ import annotations

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats, Integers
from accord.tpp.hawkes.process import HawkesProcess

_MOST = 100_000_000  # events; more than memory holds is a mistake, most often a spectral radius above 1


def simulate(process: HawkesProcess, n: int, end: float, seed: int = 0) -> Events:
    """Draw sequences on the window [0, end], with nothing before 0. Exact: there is no grid and no burn-in.

    Immigrants of mark i are a Poisson process of rate ``base_i``. Every event of mark j has Poisson(``adjacency_ij``)
    children of mark i, born after Exp(``decay_ij``) delays. The union of all generations is the Hawkes process. Work is
    proportional to the number of events, whatever M is, and the loop runs over generations alone.

    Args:
        process: to draw from.
        n: number of sequences.
        end: of the window, > 0.
        seed: decides everything.

    Returns:
        Sequences with known window; some may be empty.

    Raises:
        TPPError: if n or end is not positive, or the draw would exceed 100 million events.

    Source: Hawkes and Oakes, "A cluster process representation of a self-exciting process", J. Appl. Prob. 11 (1974),
    https://doi.org/10.2307/3212693.

    Example:
        >>> events = simulate(HawkesProcess([1.0], [[0.5]], [[2.0]]), n=2000, end=10.0)
        >>> len(events), events.lengths.mean().round().item()  # the expectation is 20 - (1 - exp(-10))
        (2000, 19.0)
    """
    if n < 1 or not 0 < end < np.inf:
        raise TPPError(f"n={n}, end={end}: expected at least one sequence and a finite window of positive length.")
    rng = np.random.default_rng(seed)
    marks = process.base.size
    _refuse_too_many(process, n * end * process.base.sum())
    counts = rng.poisson(process.base * end, (n, marks)).ravel()  # (N M,)
    cell = np.repeat(np.arange(n * marks), counts)
    generation = (cell // marks, cell % marks, rng.uniform(0.0, end, cell.size))  # sequence, mark, time: (e,) each
    family = [generation]
    total = cell.size
    while generation[0].size:
        generation = _children(process, *generation, end=end, room=_MOST - total, rng=rng)
        total += generation[0].size
        family.append(generation)
    sequence, mark, time = (np.concatenate(parts) for parts in zip(*family, strict=True))  # (E,)
    order = np.lexsort((time, sequence))
    return Events(
        time=time[order],
        mark=mark[order],
        offsets=np.concatenate([[0], np.cumsum(np.bincount(sequence, minlength=n))]),
        marks=tuple(str(k) for k in range(marks)),
        start=np.zeros(n),
        end=np.full(n, end),
        name="hawkes",
        licence="simulated",
    )


def _children(
    process: HawkesProcess,
    sequence: Integers,
    mark: Integers,
    time: Floats,
    *,
    end: float,
    room: int,
    rng: np.random.Generator,
) -> tuple[Integers, Integers, Floats]:
    """Sequence, mark and time of all children born before ``end``."""
    marks = process.base.size
    parents = np.bincount(mark, minlength=marks)  # (M,)
    by_mark = np.argsort(mark, kind="stable")
    first = np.cumsum(parents) - parents  # (M,) where each mark starts in `by_mark`
    # The children of mark i of all parents of mark j together are Poisson, and each has a parent drawn evenly.
    counts = rng.poisson(process.adjacency * parents)  # (M, M)
    if counts.sum() > room:
        _refuse_too_many(process, _MOST + 1)
    pair = np.repeat(np.arange(marks**2), counts.ravel())  # (c,)
    mother = pair % marks
    parent = by_mark[first[mother] + rng.integers(parents[mother])]
    born = time[parent] + rng.exponential(1 / process.decay.ravel()[pair])
    kept = born < end
    return sequence[parent[kept]], pair[kept] // marks, born[kept]


def _refuse_too_many(process: HawkesProcess, events: float) -> None:
    if events > _MOST:
        raise TPPError(
            f"more than {_MOST:,} events would be drawn (spectral radius of adjacency: {process.spectral_radius:.3g}); "
            "ask for fewer sequences, a shorter window or a smaller adjacency."
        )
