"""Cutting a data set into parts at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def split(count: int, shares: Sequence[float], rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Cut ``range(count)`` at random into disjoint parts; the last one takes what is left.

    Example:
        >>> [len(part) for part in split(10, (0.6, 0.2), np.random.default_rng(0))]
        [6, 2, 2]
    """
    ends = np.round(np.cumsum(shares) * count).astype(int)
    return np.split(rng.permutation(count), ends)
