"""Many quadratic programs, each with its own set of free variables, solved in one batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SMALL = 16  # up to this size, cutting systems down costs more than it saves


def on_faces(matrix: Array, inverse: Array | None, targets: Array, free: NDArray[np.bool_]) -> Array:
    """The minimiser s of ``½ sᵀAs − bᵀs`` with ``s = 0`` off F, and ``y = As − b``: s on F, y off it.

    Each row has its own F. With ``A⁻¹``, a row whose F is more than half of everything solves for y off F instead:
    ``(A⁻¹)_NN y_N = −(A⁻¹b)_N``, then ``s = A⁻¹(b + y)``.

    Args:
        matrix: A (K, K).
        inverse: A⁻¹ (K, K), or None if A is too close to singular.
        targets: b (R, K).
        free: F (R, K).

    Returns:
        (R, K)

    Example:
        >>> A = np.array([[2.0, 1.0], [1.0, 2.0]])
        >>> on_faces(A, None, np.array([[1.0, 1.0]]), np.array([[True, False]])).tolist()
        [[0.5, -0.5]]
    """
    size = len(matrix)
    if inverse is None:
        inner = (_filled_up if size <= SMALL else _cut_down)(matrix, targets, free)  # (R, K)
        return np.where(free, inner, inner @ matrix - targets)
    mostly = (2 * free.sum(1) > size)[:, None]  # (R, 1)
    right = np.where(mostly, -(targets @ inverse), targets)  # (R, K)
    both = np.concatenate([matrix, inverse])  # (2K, K)
    inner = _cut_down(both, right, free ^ mostly, mostly * size)  # (R, K), s or y
    inner = np.where(mostly, (targets + inner) @ inverse, inner)  # (R, K), s
    return np.where(free, inner, inner @ matrix - targets)


def _filled_up(matrix: Array, right: Array, chosen: NDArray[np.bool_]) -> Array:
    """As below, with systems of full size that have rows of the identity off S: fewer calls, more arithmetic."""
    system = np.where(chosen[:, :, None] & chosen[:, None, :], matrix, np.eye(len(matrix)))  # (R, K, K)
    return np.linalg.solve(system, np.where(chosen, right, 0.0)[:, :, None])[:, :, 0]


def _cut_down(matrix: Array, right: Array, chosen: NDArray[np.bool_], first: NDArray[np.intp] | int = 0) -> Array:
    """(R, K), the solutions of ``M_SS x_S = b_S``, zero off S, with M the K rows that begin at ``first`` (R, 1).

    The systems have the size of the largest S. Smaller ones are filled up with other unknowns, which come first and
    have so large a diagonal that they are pivots and vanish.
    """
    count, size = chosen.shape
    sizes = chosen.sum(1)  # (R,)
    most = int(sizes.max(initial=0))
    order = chosen.argsort(1, kind="stable")[:, size - most :]  # (R, m), S last
    rows = np.arange(count)[:, None]
    outside = np.arange(most) < most - sizes[:, None]  # (R, m)
    system = matrix.take(((order + first) * size)[:, :, None] + order[:, None, :])  # (R, m, m)
    system.reshape(count, -1)[:, :: most + 1] += np.where(outside, 1e30, 0.0)
    cut = np.where(outside, 0.0, right[rows, order])  # (R, m)
    result = np.zeros((count, size))
    result[rows, order] = np.where(outside, 0.0, np.linalg.solve(system, cut[:, :, None])[:, :, 0])
    return result
