"""Two half-batches: their losses under one roof, and the parts of their common Gramian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accord.conflict import defined
from accord.conflict.entries import Array, square
from accord.errors import AccordError


class Halves(NamedTuple):
    """The parts of ``(T, ..., 2K, 2K)`` Gramians, with ``a_i, b_i`` the gradients of task i on the two halves.

    Args:
        first: (T, ..., K, K), ``a_i · a_j``.
        second: (T, ..., K, K), ``b_i · b_j``.
        across: (T, ..., K, K), ``a_i · b_j``; not symmetric.
        here: (T, ..., K) bool, which tasks have a gradient in both halves, neither zero nor infinite.
    """

    first: Array
    second: Array
    across: Array
    here: NDArray[np.bool_]

    @property
    def pairs(self) -> NDArray[np.bool_]:
        """(T, ..., K, K) draws in which both tasks of a pair take part."""
        return self.here[..., :, None] & self.here[..., None, :]


def split(gramians: Any) -> Halves:
    """Cut the Gramians of two half-batches into their parts.

    Args:
        gramians: (T, ..., 2K, 2K) over T draws or steps; the first K rows are half a, the others half b, in one order.

    Returns:
        The parts. Rows of tasks that do not take part are zero.

    Raises:
        AccordError: without an axis of draws, without a draw, or with an odd number of rows.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [1.0, 1.0]])  # a_1, a_2, b_1, b_2
        >>> split([rows @ rows.T]).across[0]
        array([[2., 1.],
               [0., 1.]])
    """
    full = square(gramians)
    if full.ndim < 3 or not len(full):
        raise AccordError(f"found Gramians of shape {full.shape}, expected (T, ..., 2K, 2K) with at least one draw.")
    if full.shape[-1] % 2 or not full.shape[-1]:
        raise AccordError(
            f"found Gramians of {full.shape[-1]} rows, expected 2K: the K tasks on half a, then the same K on half b."
        )
    tasks = full.shape[-1] // 2
    fine = defined(full)  # (T, ..., 2K)
    here = fine[..., :tasks] & fine[..., tasks:]  # (T, ..., K)
    blocks = full[..., :tasks, :tasks], full[..., tasks:, tasks:], full[..., :tasks, tasks:]
    # a pair whose product overflowed although both norms are finite has no number: it takes no part either
    broken = ~np.isfinite(blocks).all(axis=0) & here[..., :, None] & here[..., None, :]  # (T, ..., K, K)
    here = here & ~broken.any(axis=-1) & ~broken.any(axis=-2)
    both = here[..., :, None] & here[..., None, :]  # (T, ..., K, K)
    first, second, across = (np.where(both, part, 0.0) for part in blocks)
    return Halves(first, second, across, here)


def halves(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Losses of the same tasks on two disjoint half-batches, in the order that this unit reads.

    ``monitor.observe(halves(a, b))`` then gives Gramians of ``2K`` rows. Give such looks a Monitor of their own, and
    tell it what the tasks share, ``Monitor(model, every=1, shared=["trunk"])``: the head of a task is reached by both
    of its halves, and by itself the Monitor would count it as shared, in ``a_i · b_i`` but never in ``a_i · b_j``.

    Args:
        a: losses by task on one half.
        b: losses by task on the other half; the same names.

    Returns:
        The 2K losses, those of ``b`` with `` again`` behind their names.

    Raises:
        AccordError: if the names differ, or a doubled name is taken.

    Example:
        >>> list(halves({"up": 1.0, "down": 2.0}, {"down": 2.1, "up": 0.9}))
        ['up', 'down', 'up again', 'down again']
    """
    if set(a) != set(b):
        raise AccordError(f"found the tasks {list(a)} on one half and {list(b)} on the other, expected the same.")
    out = dict(a) | {f"{name} again": b[name] for name in a}
    if len(out) != 2 * len(a):
        raise AccordError(f"found the tasks {list(a)}, of which one is another's name with ' again'; rename it.")
    return out
