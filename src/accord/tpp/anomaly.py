"""Anomaly scores: which events, and which sequences, a model did not expect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accord.tpp.events import Events, Floats, Integers
from accord.tpp.model import PointProcess
from accord.tpp.score import score


@dataclass(frozen=True, eq=False)
class Anomalies:
    """How unexpected n scored events and their N sequences are.

    Args:
        index: (n,) where the events lie in ``Events.time``.
        time: (n,) -log f(tau), nats; its zero depends on the unit of time.
        mark: (n,) -log p(k | tau), nats.
        tail: (n,) two-sided tail probability of the gap, 2 min(F, 1 - F): uniform if the model is the truth.
        late: (n,) whether the gap lies in the upper tail.
        sequences: (N,) numbers of the sequences with a scored event; the others cannot be judged.
        surprise: (N,) negative log likelihood of a sequence, its window included, for each of its scored events.
        spacing: (N,) squared-spacing statistic of the rescaled times, about 2 in a long sequence if the model is the
            truth; high: fewer events than expected, or in clusters; low: more events, or too regular.
    """

    index: Integers
    time: Floats
    mark: Floats
    tail: Floats
    late: np.ndarray
    sequences: Integers
    surprise: Floats
    spacing: Floats


def anomalies(model: PointProcess, events: Events) -> Anomalies:
    r"""Score every event and every sequence by how little the model expected it.

    The statistic of a sequence is that of Shchur et al. on its rescaled gaps :math:`w_i = \Lambda(\tau_i)`, the wait to
    the end of the window among them:

    .. math:: \psi = \frac{1}{V} \sum_i w_i^2, \qquad V = \sum_i w_i

    If the model is the truth, these are the spacings of a Poisson process of rate 1 on [0, V], and for a given V
    :math:`E\,\psi = 2 (V - 1 + e^{-V})/V`; at another rate r it tends to 2/r. Both tails are anomalous. V differs from
    sequence to sequence: compare with sequences that are simulated from the model, or judged to be normal.

    Args:
        model: fitted on normal data.
        events: to judge.

    Raises:
        TPPError: if no event can be scored.

    Source: Shchur et al. 2021, https://arxiv.org/abs/2106.04465, the sum-of-squared-spacings (3S) statistic; here of
        the ground process, while ``surprise`` looks at marks too.

    Example:
        >>> from accord.tpp.build import build
        >>> found = anomalies(build("poisson", marks=1), Events.of([[1.0, 2.0, 900.0]], start=0.0))
        >>> int(found.time.argmax()), bool(found.late[2])
        (2, True)
    """
    found = score(model, events)
    time, mark = -found.log_density.numpy(), -found.own.numpy()
    w = found.compensator.numpy()
    upper, lower = np.exp(-w), -np.expm1(-w)
    place = np.searchsorted(found.sequences, events.sequence[found.index])  # (n,) 0..N-1

    def summed(values: Floats) -> Floats:
        return np.bincount(place, values, minlength=len(found.sequences)).astype(np.float64)

    last = found.window.numpy()
    total, squares = summed(w) + last, summed(w**2) + last**2
    # psi <= V: it is 0 where nothing had time to happen, and infinite where V is
    spacing = np.divide(squares, total, out=total.copy(), where=(total > 0) & np.isfinite(squares))
    return Anomalies(
        found.index,
        time,
        mark,
        2 * np.minimum(upper, lower),
        upper < lower,
        found.sequences,
        (summed(time + mark) + last) / summed(np.ones_like(w)),
        spacing,
    )
