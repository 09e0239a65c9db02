"""Surgery: how much of each gradient is left, and on which steps anything was done at all.

``g_i' = Σ_j C_ij g_j`` is task i's gradient after surgery; the coefficients C come from ``method.corrected(gramian)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accord.conflict.entries import Array, Rate, array, clean, defined, norms, rate


def survival(gramians: Any, coefficients: Any) -> Array:
    r"""What surgery leaves of each gradient: ``‖g_i'‖ / ‖g_i‖ = sqrt((C G Cᵀ)_ii / G_ii)``.

    Near zero, the task is stalled: its own gradient no longer moves anything. Above one, turning a gradient has made it
    longer. Gramians add over blocks, so with those of one block this is the survival in that block.

    Args:
        gramians: (..., K, K).
        coefficients: (..., K, K), from ``method.corrected(gramian)``; with a block axis in the Gramians, (..., 1, K, K)
            where one solve served all blocks.

    Returns:
        (..., K); NaN where the gradient is undefined.

    Source:
        Accord's own definition.

    Example:
        >>> import accord
        >>> gramian = np.array([[1.0, -0.6], [-0.6, 1.0]])
        >>> survival(gramian, accord.PCGrad().corrected(gramian)).round(6)
        array([0.8, 0.8])
    """
    there, full = defined(gramians), clean(gramians)
    own = np.where(there[..., :, None] & there[..., None, :], array(coefficients), 0.0)  # (..., K, K)
    left = np.einsum("...ij,...jk,...ik->...i", own, full, own)
    return np.where(there, np.sqrt(np.maximum(left, 0.0)) / np.where(there, norms(gramians), 1.0), np.nan)


def intervened(weights: Any, active: Any = None, tolerance: float = 1e-6) -> Array:
    """Whether a method changed the direction of the sum: ``1{max_i |w_i / mean w − 1| > tolerance}``.

    A method that is paid for in every step, and intervenes in few, is a plain sum that costs more; ``rate`` of this is
    the share of the steps on which it did anything.

    Args:
        weights: (..., K), as ``Step`` and ``Record`` keep them.
        active: (..., K) bool, tasks that took part; by default those with a finite weight.
        tolerance: of rounding.

    Returns:
        (...) of 1, 0 and NaN; NaN where nothing is known, as for methods that combine whole gradients, or with fewer
        than two tasks.

    Source:
        Accord's own definition.

    Example:
        >>> intervened([[1.0, 1.0], [2.0, 2.0], [1.5, 1.0], [np.nan, np.nan]])
        array([ 0.,  0.,  1., nan])
    """
    full = array(weights)
    there = np.isfinite(full)
    if active is not None:
        there = there & np.asarray(active, dtype=bool)
    count = there.sum(axis=-1, keepdims=True)
    kept = np.where(there, full, 0.0)
    mean = kept.sum(axis=-1, keepdims=True) / np.maximum(count, 1)  # (..., 1)
    off = np.where(there, np.abs(kept - mean), 0.0).max(axis=-1)
    changed = (off > tolerance * np.abs(mean[..., 0])).astype(np.float64)
    return np.where(count[..., 0] > 1, changed, np.nan)


def oscillation(change: Any, tolerance: float = 0.0) -> Rate:
    """How often a loss is pushed the other way than in the look before: share of sign flips of ``g_i · Δθ``.

    Near 1 the update swings to and fro along the task's gradient; a task that always wins or always pays is at 0. Where
    successive steps are asked for, look at every step (``Monitor(every=1)``); with rarer looks, flips between looks are
    not seen.

    Args:
        change: (T, ..., K), ``record.change`` or, of the whole, ``record.change.sum(axis=1)``.
        tolerance: changes of at most this size have no sign, and the next sign is compared with the one before them.

    Returns:
        A ``Rate`` with (..., K): share of the looks with a sign that follow another one; NaN if there are none.

    Source:
        Accord's own definition.

    Example:
        >>> oscillation([[1.0, -1.0], [-1.0, -2.0], [0.0, -1.0], [1.0, np.nan]]).value
        array([1., 0.])
    """
    signs = array(change).copy()
    signs = np.where(np.abs(signs) > tolerance, np.sign(signs), np.nan)  # NaN compares as False
    flips, last = np.full(signs.shape, np.nan), np.full(signs.shape[1:], np.nan)
    for t, now in enumerate(signs):
        here = np.isfinite(now)
        both = here & np.isfinite(last)
        flips[t] = np.where(both, (now != last).astype(np.float64), np.nan)
        last = np.where(here, now, last)
    return rate(flips)
