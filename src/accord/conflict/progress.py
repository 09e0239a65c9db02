"""Who pays: on which steps, and by how much, is a task's loss raised to first order.

One quantity for three directions: the *progress* of a task, the first-order decrease of its loss,

- under the plain sum of the gradients, ``g_i · Σ_j g_j`` (per unit of learning rate): ``summed``,
- under the combined gradient d of the method, ``g_i · d`` (per unit of learning rate): ``aggregated``,
- under the step ``Δθ`` that the optimiser really took, ``-g_i · Δθ``: ``taken``.

Harm is the negative part of progress. The relative harm, ``g_i · Δ / (‖g_i‖ ‖Δ‖)`` with ``Δ`` the direction moved
(``-Σg``, ``-d`` or ``Δθ``), is a cosine, so that the three can be compared. A negative cosine between two gradients
is called conflict; only a raised loss is called harm. Under the sum of two gradients task 1 is harmed exactly if
``cos < -n_1 / n_2``, because ``g_1 · (g_1 + g_2) = n_1 (n_1 + n_2 cos)``: the longer gradient is never harmed.

All amounts add over blocks; a task whose gradient is zero or not finite, or that is not active, is NaN.
Source: Accord's own definitions; the condition is elementary algebra, and a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from accord.conflict.entries import Array, Rate, array, clean, defined, norms, rate
from accord.conflict.joint import sum_norm

# Methods such as PCGrad and UPGrad leave gradients exactly orthogonal to the direction: rounding decides the sign.
TOLERANCE = 1e-6


def summed(gramians: Any, active: Any = None) -> Array:
    """Progress of each task under the plain sum of the gradients: ``g_i · Σ_j g_j``.

    Args:
        gramians: (..., K, K).
        active: (..., K) bool, tasks that take part; by default all that are defined.

    Returns:
        (..., K), per unit of learning rate.

    Example:
        >>> summed([[1.0, -2.0], [-2.0, 9.0]])  # cos = -2/3 < -1/3: the shorter gradient is harmed
        array([-1.,  7.])
    """
    there = defined(gramians)
    if active is not None:
        there = there & np.asarray(active, dtype=bool)
    pairs = there[..., :, None] & there[..., None, :]
    return np.where(there, np.where(pairs, clean(gramians), 0.0).sum(axis=-1), np.nan)


def aggregated(descent: Any, active: Any = None) -> Array:
    """Progress of each task under the combined gradient: ``g_i · d``, as ``Step`` and ``Record`` keep it.

    Args:
        descent: (..., K), ``g_i · d``.
        active: (..., K) bool, tasks that took part.

    Returns:
        (..., K), per unit of learning rate; NaN for inactive tasks.

    Example:
        >>> aggregated([0.5, -1.0])
        array([ 0.5, -1. ])
    """
    full = array(descent)
    return full if active is None else np.where(np.asarray(active, dtype=bool), full, np.nan)


def taken(change: Any, active: Any = None) -> Array:
    """Progress of each task under the step that the optimiser took: ``-g_i · Δθ``.

    Args:
        change: (..., K), ``g_i · Δθ``.
        active: (..., K) bool, tasks that took part.

    Returns:
        (..., K), in the unit of the loss; NaN for inactive tasks.

    Example:
        >>> taken([0.5, -1.0])
        array([-0.5,  1. ])
    """
    return -aggregated(change, active)


def harm(progress: Any) -> Array:
    """By how much a loss is raised to first order: ``max(-progress, 0)``.

    Args:
        progress: (...) from ``summed``, ``aggregated`` or ``taken``.

    Returns:
        (...) in the unit of ``progress``; NaN stays NaN.

    Example:
        >>> harm([-2.0, 3.0])
        array([2., 0.])
    """
    full = array(progress)
    return np.where(np.isnan(full), np.nan, np.maximum(-full, 0.0))


def relative_harm(progress: Any, gramians: Any, length: Any) -> Array:
    """Progress as a signed cosine, positive where the task is harmed: ``-progress_i / (n_i ‖Δ‖)``.

    Its negative is how well each task is served: the cosine between the step and ``-g_i``.

    Args:
        progress: (..., K).
        gramians: (..., K, K), of the same gradients.
        length: (...), ``‖Δ‖``: ``sum_norm(G)``, ``direction_norm`` or ``update_norm``.

    Returns:
        (..., K) in [-1, 1]; NaN where the gradient is undefined or nothing moved.

    Example:
        >>> gramian = [[1.0, -2.0], [-2.0, 4.0]]
        >>> relative_harm(summed(gramian), gramian, sum_norm(gramian))
        array([ 1., -1.])
    """
    own, step = norms(gramians), array(length)[..., None]
    own, step = np.where(own > 0, own, np.nan), np.where(step > 0, step, np.nan)
    return np.clip(-array(progress) / own / step, -1.0, 1.0)


def harmed(relative: Any, tolerance: float = TOLERANCE) -> Array:
    """Whether a task is harmed: ``1{relative harm > tolerance}``.

    Args:
        relative: (...) from ``relative_harm``.
        tolerance: a cosine below which the sign is rounding.

    Returns:
        (...) of 1, 0 and NaN; ``rate(harmed(...))`` is the harm rate with the number of undefined steps.

    Example:
        >>> harmed([0.5, -0.5, 1e-9, np.nan])
        array([ 1.,  0.,  0., nan])
    """
    full = array(relative)
    return np.where(np.isnan(full), np.nan, (full > tolerance).astype(np.float64))


@dataclass(frozen=True)
class Line:
    """Progress and relative harm of each task on each step, under one of the three directions.

    Args:
        progress: (T, K) first-order decrease of each loss.
        relative: (T, K) relative harm in [-1, 1], positive where the task is harmed.
    """

    progress: Array
    relative: Array

    def rate(self, tolerance: float = TOLERANCE) -> Rate:
        """Share of the steps on which each task is harmed (K,), with the counts of defined and undefined steps."""
        return rate(harmed(self.relative, tolerance))


class Probes(Protocol):
    """What ``lines`` reads; an ``accord.record.Record`` has it. `T` steps, `B` blocks, `K` tasks, NaN if unknown."""

    @property
    def gramian(self) -> Array: ...  # noqa: D102  (T, K, K)
    @property
    def active(self) -> Any: ...  # noqa: D102  (T, K) bool
    @property
    def descent(self) -> Array: ...  # noqa: D102  (T, B, K)
    @property
    def change(self) -> Array: ...  # noqa: D102  (T, B, K)
    @property
    def direction_norm(self) -> Array: ...  # noqa: D102  (T,)
    @property
    def update_norm(self) -> Array: ...  # noqa: D102  (T,)


def lines(record: Probes) -> Mapping[str, Line]:
    """The three lines of the harm plot: ``sum``, ``aggregate`` and ``step``.

    Args:
        record: anything with the arrays of a ``Record``.

    Returns:
        A ``Line`` with (T, K) arrays for each direction; NaN on steps that did not record it.

    Example:
        >>> import torch
        >>> from accord.record import Record
        >>> from accord.step import Step
        >>> step = Step(0, ("a", "b"), torch.zeros(2), torch.ones(2, dtype=torch.bool), blocks=("total",),
        ...             gramians=torch.tensor([[[1.0, -2.0], [-2.0, 9.0]]]))
        >>> lines(Record.of([step]))["sum"].rate().value
        array([1., 0.])
    """
    gramian = record.gramian
    there = defined(gramian) & np.asarray(record.active, dtype=bool)  # (T, K)
    kept = np.where(there[:, :, None] & there[:, None, :], clean(gramian), 0.0)
    parts = {
        "sum": (summed(kept), sum_norm(kept)),
        "aggregate": (aggregated(record.descent.sum(axis=1), there), record.direction_norm),
        "step": (taken(record.change.sum(axis=1), there), record.update_norm),
    }
    return {name: Line(progress, relative_harm(progress, kept, size)) for name, (progress, size) in parts.items()}
