"""Pareto fronts: which points no other beats, and how much of the plane they beat. Lower is better everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError

Array = NDArray[np.float64]


def front(points: Any) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    ``p`` dominates ``q`` if ``p_m <= q_m`` for all m and ``p_m < q_m`` for one. Equal points do not dominate each
    other: the front keeps all of them, or none.

    Args:
        points: (N, M), N points of M objectives, each to be made small; negate what is to be made large.

    Returns:
        (N,) bool, True on the front.

    Raises:
        AccordError: if the points are no (N, M) finite numbers.

    Source:
        Zitzler et al. 2003, https://doi.org/10.1109/TEVC.2003.810758, definition of dominance.

    Example:
        >>> front([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [2.0, 2.0]]).tolist()
        [True, True, False, True]
    """
    p = _checked(points)  # (N, M)
    if not p.shape[1]:
        return np.ones(len(p), dtype=np.bool_)  # nothing tells the points apart
    unique, back = np.unique(p, axis=0, return_inverse=True)  # (U, M) in lexicographic order
    kept = np.zeros(len(unique), dtype=np.bool_)  # (U,)
    for i, point in enumerate(unique):  # only an earlier point can dominate a later one, and one on the front is enough
        kept[i] = not (unique[:i][kept[:i]] <= point).all(axis=1).any()
    return kept[back.reshape(-1)]


def hypervolume(points: Any, reference: Any) -> float:
    """Volume of what the points dominate inside the box that ends at the reference point.

    ``HV(P, r) = volume of the union over p in P of [p_1, r_1] x ... x [p_M, r_M]``

    Exact: the boxes are cut into slabs along the last objective, and each slab is a hypervolume of one objective less.
    N points take about ``N^(M-1)`` steps. A point that does not beat the reference in *every* objective adds nothing.

    Args:
        points: (N, M), each objective to be made small; N = 0 has volume 0.
        reference: (M,), the worst values that still count. Fix it before the points are known: the volume, and which of
            two fronts has more of it, depend on it, and so do the units of the objectives.

    Returns:
        The volume, in the product of the units of the objectives.

    Raises:
        AccordError: for numbers that are not finite, or shapes that do not belong together.

    Source:
        Zitzler & Thiele 1998, https://doi.org/10.1007/BFb0056872; by slices: While et al. 2006,
        https://doi.org/10.1109/TEVC.2005.851275.

    Example:
        >>> hypervolume([[1.0, 2.0], [2.0, 1.0]], (3.0, 3.0))  # two boxes of 2 that share 1
        3.0
        >>> hypervolume([[1.0, 4.0]], (3.0, 3.0))  # too bad in the second objective to count
        0.0
    """
    r = np.asarray(reference, dtype=np.float64)  # (M,)
    if r.ndim != 1 or not len(r) or not np.isfinite(r).all():
        raise AccordError(f"the reference point is {reference!r}, expected M finite numbers, one per objective.")
    p = _checked(points)  # (N, M)
    if p.shape[1] != len(r) and p.size:
        raise AccordError(
            f"the points have {p.shape[1]} objectives and the reference point {len(r)}, expected the same."
        )
    gain = r - p.reshape(-1, len(r))  # (N, M), how far each point is better than the reference
    return _volume(gain[(gain > 0).all(axis=1)])


def _volume(gain: Array) -> float:
    """Volume of the union of the boxes ``[0, g_1] x ... x [0, g_M]``, ``gain (N, M)`` positive."""
    if not len(gain):
        return 0.0
    if gain.shape[1] == 1:
        return float(gain.max())
    gain = gain[np.argsort(-gain[:, -1], kind="stable")]  # (N, M), the deepest box first
    ends = np.append(gain[1:, -1], 0.0)  # (N,), where the next box begins
    if gain.shape[1] == 2:
        return float(np.maximum.accumulate(gain[:, 0]) @ (gain[:, 1] - ends))
    slabs = enumerate((gain[:, -1] - ends).tolist(), start=1)
    return sum(depth * _volume(_best(gain[:n, :-1])) for n, depth in slabs if depth > 0)


def _best(gain: Array) -> Array:
    """The boxes that lie in no other: the rest adds nothing, and every slab below would sort it again."""
    return gain[front(-gain)]


def _checked(points: Any) -> Array:
    p = np.asarray(points, dtype=np.float64)
    if p.ndim == 1 and not p.size:
        p = p.reshape(0, 0)
    if p.ndim != 2:
        raise AccordError(f"the points have shape {p.shape}, expected (N, M): a row per point, a column per objective.")
    if not np.isfinite(p).all():
        row = int(np.flatnonzero(~np.isfinite(p).all(axis=1))[0])
        raise AccordError(f"point {row} is {p[row].tolist()}, expected finite numbers; leave undefined points out.")
    return p
