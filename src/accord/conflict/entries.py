"""What counts as a gradient: reading Gramians, undefined entries, means that leave them out.

Legend: `K` tasks, `B` blocks, `T` steps; ``g_i`` the gradient of task i, ``G_ij = g_i · g_j``, ``n_i = ‖g_i‖``.
A gradient that is zero or not finite takes no part: every metric leaves it out and none replaces it by a number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Rate(NamedTuple):
    """A mean over the defined entries, and how many there were.

    Args:
        value: the mean; NaN where nothing was defined.
        defined: how many entries the mean is over.
        undefined: how many entries were left out.
    """

    value: Array
    defined: NDArray[np.intp]
    undefined: NDArray[np.intp]


def array(values: Any) -> Array:
    """Any array or tensor, on any device and of any dtype, as a numpy float64 array of the same shape.

    Example:
        >>> import torch
        >>> array(torch.ones(2, dtype=torch.bfloat16, requires_grad=True))
        array([1., 1.])
    """
    if hasattr(values, "detach"):  # a tensor; torch itself is not needed here
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def square(gramians: Any) -> Array:
    """The Gramians as ``(..., K, K)`` float64.

    Raises:
        ValueError: if the last two axes differ.
    """
    out = array(gramians)
    if out.ndim < 2 or out.shape[-1] != out.shape[-2]:
        raise ValueError(f"found an array of shape {out.shape}, expected Gramians of shape (..., K, K)")
    return out


def norms(gramians: Any) -> Array:
    """Length of each task's gradient: ``n_i = sqrt(G_ii)``; NaN where it is not finite.

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K).

    Example:
        >>> norms([[9.0, 0.0], [0.0, 16.0]])
        array([3., 4.])
    """
    squares = np.einsum("...ii->...i", square(gramians))  # (..., K)
    fine = np.isfinite(squares) & (squares >= 0)
    return np.sqrt(np.where(fine, squares, np.nan))


def defined(gramians: Any) -> NDArray[np.bool_]:
    """Which tasks have a direction at all: those with ``0 < n_i < ∞``.

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K) bool.

    Example:
        >>> defined([[9.0, 0.0], [0.0, 0.0]])
        array([ True, False])
    """
    return norms(gramians) > 0


def clean(gramians: Any) -> Array:
    """The Gramians with the rows and columns of undefined tasks set to zero, so that sums leave them out.

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K, K).

    Example:
        >>> clean([[9.0, np.nan], [np.nan, np.nan]])
        array([[9., 0.],
               [0., 0.]])
    """
    full = square(gramians)
    here = defined(full)
    return np.where(here[..., :, None] & here[..., None, :], full, 0.0)


def rate(values: Any, axis: int | tuple[int, ...] = 0) -> Rate:
    """Mean over the entries that are not NaN, with the count of those that are.

    ``value = Σ values / #defined``; of 0/1 flags (``in_conflict``, ``priority``, ``harmed``) it is their rate.
    Left-out entries are counted and never enter the denominator.

    Args:
        values: flags or amounts, NaN where undefined.
        axis: the axes to average over; steps come first, so the default is the rate over time.

    Returns:
        The mean, and the numbers of defined and undefined entries, without the averaged axes.

    Example:
        >>> share = rate([1.0, 0.0, 0.0, np.nan])
        >>> print(round(float(share.value), 3), share.defined, share.undefined)
        0.333 3 1
    """
    full = array(values)
    there = ~np.isnan(full)
    count = there.sum(axis=axis)
    total = np.where(there, full, 0.0).sum(axis=axis)
    mean = np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)
    return Rate(mean, count, (~there).sum(axis=axis))


def upper(matrices: Array) -> Array:
    """The entries above the diagonal, one per pair of tasks: ``(..., K, K) -> (..., K(K-1)/2)``."""
    rows, columns = np.triu_indices(matrices.shape[-1], 1)
    return matrices[..., rows, columns]
