"""From blocks to groups of blocks to the whole: Gramians and inner products add exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from accord.conflict.entries import Array, array, norms, square


def total(gramians: Any) -> Array:
    """The Gramian of the whole gradients: ``G = Σ_b G^b``.

    Args:
        gramians: (..., B, K, K).

    Returns:
        (..., K, K).

    Example:
        >>> total([[[1.0, -1.0], [-1.0, 1.0]], [[1.0, 2.0], [2.0, 4.0]]])
        array([[2., 1.],
               [1., 5.]])
    """
    return square(gramians).sum(axis=-3)


def group(
    values: Any, blocks: Sequence[str], by: Mapping[str, str] | int, axis: int = -3
) -> tuple[Array, tuple[str, ...]]:
    """Add up the blocks that belong together: ``G^group = Σ_{b in group} G^b``, exact because blocks are disjoint.

    Args:
        values: Gramians (..., B, K, K), or with ``axis=-2`` the inner products (..., B, K) of a Record.
        blocks: the B names.
        by: name of the group of each block, or a depth: blocks whose dotted names agree in that many parts.
        axis: where the blocks are.

    Returns:
        The sums, with the groups in place of the blocks, and the groups' names in order of first appearance.

    Raises:
        ValueError: if names and axis differ in length, or a block has no group.

    Example:
        >>> gramians = np.stack([np.eye(2), 2 * np.eye(2), 4 * np.eye(2)])
        >>> grouped, names = group(gramians, ["body.0", "body.1", "neck.0"], 1)
        >>> names, grouped[:, 0, 0]
        (('body', 'neck'), array([3., 4.]))
    """
    full = np.moveaxis(array(values), axis, 0)  # (B, ...)
    if len(blocks) != len(full):
        raise ValueError(f"found {len(full)} blocks on axis {axis}, expected one for each of the {len(blocks)} names")
    if isinstance(by, int):
        if by < 1:
            raise ValueError(f"found a depth of {by}, expected at least 1")
        by = {name: ".".join(name.split(".")[:by]) for name in blocks}
    missing = [name for name in blocks if name not in by]
    if missing:
        raise ValueError(f"these blocks have no group: {', '.join(missing)}; name one for every block")
    names = tuple(dict.fromkeys(by[name] for name in blocks))
    out = np.zeros((len(names), *full.shape[1:]))
    for part, name in zip(full, blocks, strict=True):
        out[names.index(by[name])] += part
    return np.moveaxis(out, 0, axis), names


def drop_negligible(gramians: Any, ratio: float = 1e-12) -> Array:
    """Set a task's gradient to zero in the blocks where it is rounding only: ``n_i^b <= ratio · n_i``.

    Such an entry would show the angle of rounding errors; set to zero it is undefined, hence left out of rates.

    Args:
        gramians: (..., B, K, K).
        ratio: relative to the norm of the task's whole gradient.

    Returns:
        (..., B, K, K).

    Source:
        Accord's own rule, for gradients that are zero but for rounding.

    Example:
        >>> kept = drop_negligible([[[1.0, 0.5], [0.5, 1.0]], [[1.0, 1e-30], [1e-30, 1e-60]]])
        >>> kept[1]
        array([[1., 0.],
               [0., 0.]])
    """
    full = square(gramians)
    whole = np.sqrt((norms(full) ** 2).sum(axis=-2, keepdims=True))  # (..., 1, K)
    small = norms(full) <= ratio * whole  # (..., B, K); False for NaN, which stays NaN
    return np.where(small[..., :, None] | small[..., None, :], 0.0, full)
