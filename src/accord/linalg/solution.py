"""What an iterative solver returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Solution(NamedTuple):
    """What an iterative solver found.

    Args:
        value: the solution, the best feasible iterate if it did not converge.
        converged: whether the optimality conditions hold.
        iterations: how many rounds it took.
        residual: the largest violation of the optimality conditions, in the solver's own units.
    """

    value: Array
    converged: bool
    iterations: int
    residual: float
