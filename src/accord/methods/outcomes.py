"""What methods do when a point is stationary or a solver falls short, in the same words for all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from accord.linalg.solution import Solution

if TYPE_CHECKING:
    from accord.methods.method import Method

Array = NDArray[np.float64]


def zeros(method: Method, count: int) -> Array:
    """The weights at a stationary point: nothing to do, and an event that says so.

    Args:
        method: who found it.
        count: k, the number of active tasks.

    Returns:
        (k,) zeros.
    """
    method.report("stationary", "no direction improves every task; the direction is zero")
    return np.zeros(count)


def checked(method: Method, found: Solution) -> Array:
    """A solver's value, with an event if it missed its residual.

    Args:
        method: who asked.
        found: the solver's answer, whose value is feasible in any case.
    """
    if not found.converged:
        method.report(
            "solver",
            f"K={found.value.shape[-1]}: residual {found.residual:.1e} after {found.iterations} rounds; "
            "the best feasible iterate is used",
        )
    return found.value
