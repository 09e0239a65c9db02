"""Arrays with named axes, brought onto common names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accord.report.chart import Array


def align(values: Array, found: Sequence[str], wanted: Sequence[str], axes: tuple[int, ...] = (-1,)) -> Array:
    """Reorder named axes; NaN for names that the array does not have.

    Args:
        values: any array.
        found: the names along each of ``axes``.
        wanted: the names as they shall be.
        axes: which axes are named.

    Example:
        >>> align(np.array([1.0, 2.0]), ["b", "a"], ["a", "b", "c"])
        array([ 2.,  1., nan])
    """
    places = np.array([found.index(name) if name in found else len(found) for name in wanted], dtype=np.intp)
    for axis in axes:
        edge = [(0, 0)] * values.ndim
        edge[axis] = (0, 1)
        values = np.take(np.pad(values, edge, constant_values=np.nan), places, axis=axis)
    return values
