"""Do the gradients point against each other? Cosines, how often and how strongly they are negative, for how long.

A negative cosine is called *conflict*. It is not yet harm: under the plain sum of two gradients task i is only
harmed if ``cos < -n_i / n_j`` (see ``accord.conflict.progress``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.conflict.entries import Array, array, norms, rate, square, upper


def cosine(gramians: Any) -> Array:
    """Cosine of the angle between each two gradients: ``G_ij / (n_i n_j)``.

    NaN where a gradient is zero or not finite: then there is no angle, and 0 would read as "orthogonal".

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K, K) in [-1, 1], 1 on the diagonal.

    Source:
        Yu et al. 2020, https://arxiv.org/abs/2001.06782, definition 1.

    Example:
        >>> cosine([[1.0, -1.0, 0.0], [-1.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
        array([[ 1. , -0.5,  nan],
               [-0.5,  1. ,  nan],
               [ nan,  nan,  nan]])
    """
    full, length = square(gramians), norms(gramians)
    length = np.where(length > 0, length, np.nan)
    # one division after the other: the product of two tiny norms could underflow
    with np.errstate(over="ignore"):
        out = np.where(np.isfinite(full), full, np.nan) / length[..., :, None] / length[..., None, :]
    out = np.clip(out, -1.0, 1.0)
    tasks = np.arange(full.shape[-1])
    out[..., tasks, tasks] = np.where(np.isnan(length), np.nan, 1.0)
    return out


def below(values: Any, threshold: float = 0.0) -> Array:
    """1 where a value lies below the threshold, 0 where it does not, NaN where it is undefined."""
    full = array(values)
    return np.where(np.isnan(full), np.nan, (full < threshold).astype(np.float64))


def incidence(gramians: Any, threshold: float = 0.0) -> Array:
    """Share of the task pairs in conflict: ``#{i<j: cos_ij < threshold} / #{i<j: cos_ij defined}``.

    Args:
        gramians: (..., K, K).
        threshold: 0 counts every conflict; a negative one counts severe conflicts only.

    Returns:
        (...) in [0, 1]; NaN where no pair is defined.

    Source:
        Conflict: Yu et al. 2020, https://arxiv.org/abs/2001.06782, definition 1; with a threshold: the S-conflict
        score of Shi et al. 2023 (Recon), https://arxiv.org/abs/2302.11289.

    Example:
        >>> float(incidence([[1.0, -1.0, 0.0], [-1.0, 4.0, 0.0], [0.0, 0.0, 1.0]]).round(3))
        0.333
    """
    return rate(below(upper(cosine(gramians)), threshold), axis=-1).value


def pair_incidence(gramians: Any, threshold: float = 0.0, axis: int | tuple[int, ...] = 0) -> Array:
    """How often each pair conflicts: the share of the steps (or blocks) on which its cosine is below the threshold.

    Args:
        gramians: (T, ..., K, K).
        threshold: as in ``incidence``.
        axis: what to average over, by default the first axis (steps).

    Returns:
        (..., K, K) over the entries where the pair is defined, NaN where there is none; 0 on the diagonal.

    Example:
        >>> pair_incidence([[[1.0, -1.0], [-1.0, 4.0]], [[1.0, 1.0], [1.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]]])
        array([[0. , 0.5],
               [0.5, 0. ]])
    """
    return rate(below(cosine(gramians), threshold), axis=axis).value


def synergy(gramians: Any, threshold: float = 0.0) -> Array:
    """Share of the task pairs that pull the same way: ``#{i<j: cos_ij > threshold} / #{i<j: cos_ij defined}``.

    Args:
        gramians: (..., K, K).
        threshold: how far above zero the cosine has to be.

    Returns:
        (...) in [0, 1]; NaN where no pair is defined.

    Source:
        Accord's own definition. A positive cosine does not prove positive transfer: ForkMerge,
        https://arxiv.org/abs/2301.12618.

    Example:
        >>> float(synergy([[1.0, 1.0], [1.0, 4.0]]))
        1.0
    """
    return rate(below(-upper(cosine(gramians)), -threshold), axis=-1).value


def in_conflict(gramians: Any, threshold: float = 0.0) -> Array:
    """Which tasks conflict with at least one other: ``1{∃ j: cos_ij < threshold}``.

    Args:
        gramians: (..., K, K).
        threshold: as in ``incidence``.

    Returns:
        (..., K): 1, 0, or NaN for a task that is in no defined pair. ``rate(in_conflict(G), axis=-1)`` is the share
        of tasks in conflict, ``rate(in_conflict(G))`` how often each task is.

    Example:
        >>> in_conflict([[1.0, -1.0, 0.0], [-1.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
        array([1., 1., 0.])
    """
    angles = cosine(gramians)
    tasks = np.arange(angles.shape[-1])
    angles[..., tasks, tasks] = np.nan  # a task with itself is no pair
    lowest = np.fmin.reduce(angles, axis=-1, initial=np.nan)  # fmin passes over NaN
    return below(lowest, threshold)


def severity(gramians: Any) -> Array:
    """How strong the conflict is: the mean negative part of the cosine, ``mean_{i<j} max(-cos_ij, 0)``.

    Args:
        gramians: (..., K, K).

    Returns:
        (...) in [0, 1], over defined pairs; NaN where there is none.

    Source:
        Accord's own definition.

    Example:
        >>> float(severity([[1.0, -1.0], [-1.0, 4.0]]))
        0.5
    """
    angles = upper(cosine(gramians))
    return rate(np.where(np.isnan(angles), np.nan, np.maximum(-angles, 0.0)), axis=-1).value


def longest_run(flags: Any) -> NDArray[np.intp]:
    """For how many steps in a row a flag was up, at most: the longest duration of a conflict.

    Undefined (NaN) steps are passed over: they neither lengthen a run nor end it.

    Args:
        flags: (T, ...) of 1, 0 and NaN, or bool; for pairs ``below(cosine(G))``, for tasks ``in_conflict(G)``.

    Returns:
        (...) integers.

    Source:
        Accord's own definition.

    Example:
        >>> int(longest_run([1, 1, 0, 1, float("nan"), 1, 1]))
        3
    """
    full = array(flags)
    run = np.zeros(full.shape[1:], dtype=np.intp)
    longest = run.copy()
    for step in full:
        run = np.where(np.isnan(step), run, np.where(step > 0, run + 1, 0))
        longest = np.maximum(longest, run)
    return longest
