"""The scale contract: one learning rate means the same under every method."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError, nearest

Array = NDArray[np.float64]
Native = Literal["sum", "mean", "unit-free", "objective"]
Choice = Literal["sum", "mean", "native", "match-norm"]


def check(scale: str) -> None:
    """Refuse an unknown scale.

    Args:
        scale: the user's word.

    Raises:
        AccordError: with the nearest right spelling.

    Example:
        >>> check("sum")
    """
    known = get_args(Choice)
    if scale not in known:
        raise AccordError(f"scale={scale!r}, expected one of {', '.join(known)}.{nearest(str(scale), known)}")


def factor(scale: Choice, native: Native, k: int) -> float:
    """What the direction is multiplied with, where that does not depend on the gradients.

    ==========  =========  =========
    native      ``sum``    ``mean``
    ==========  =========  =========
    sum         1          1/k
    mean        k          1
    objective   1          1
    ==========  =========  =========

    Args:
        scale: the scale asked for.
        native: the scale of the method.
        k: how many tasks are active.

    Raises:
        AccordError: if the factor depends on the Gramian (``match-norm``, or a unit-free method).

    Example:
        >>> factor("sum", "mean", 3), factor("mean", "sum", 4), factor("sum", "objective", 3)
        (3.0, 0.25, 1.0)
    """
    check(scale)
    if scale == "native" or native == "objective":
        return 1.0
    if scale == "match-norm" or native == "unit-free":
        raise AccordError(
            f"scale={scale!r} of a method with native scale {native!r} needs the Gramian of the task gradients, "
            "which this method does not compute; choose 'sum', 'mean' or 'native'."
        )
    if scale == "sum":
        return float(k) if native == "mean" else 1.0
    return 1.0 / k if native == "sum" else 1.0


def rescale(weights: Array, gramian: Array | None, scale: Choice, native: Native) -> tuple[Array, str | None]:
    """Bring native weights to the scale asked for.

    Unit-free methods (NashMTL) get ``λ = 1ᵀGw / wᵀGw``, which makes ``‖d‖ = Σ g_i·d/‖d‖``: the length of the plain sum
    seen from d. ``match-norm`` gives ``‖d‖ = √(1ᵀG1)``, the length of the plain sum itself; where the gradients cancel
    (below ``1e-6 Σ n_i``) that length means nothing and the native one stays.

    Args:
        weights: (k,) native weights of the active tasks.
        gramian: (k, k) of the active tasks, or None.
        scale: the scale asked for.
        native: the scale of the method.

    Returns:
        (k,) weights, and a message if something could not be done as asked.

    Raises:
        AccordError: if the Gramian is needed and missing.

    Example:
        >>> orthogonal = np.eye(2)
        >>> rescale(np.array([0.5, 0.5]), orthogonal, "sum", "mean")[0].tolist()
        [1.0, 1.0]
        >>> rescale(np.array([0.1, 0.1]), orthogonal, "sum", "unit-free")[0].round(12).tolist()
        [1.0, 1.0]
    """
    if (
        gramian is None
        or native == "objective"
        or scale == "native"
        or (scale != "match-norm" and native != "unit-free")
    ):
        return weights * factor(scale, native, len(weights)), None
    check(scale)
    square = float(weights @ gramian @ weights)  # ‖d‖²
    if square <= 0:  # a stationary point: zero stays zero
        return weights, None
    if scale == "match-norm":
        target = math.sqrt(max(float(gramian.sum()), 0.0))
        if target < 1e-6 * float(np.sqrt(np.diagonal(gramian)).sum()):
            return weights, "the task gradients cancel, so scale='match-norm' has no length to match; kept as is"
        return weights * (target / math.sqrt(square)), None
    length = float((gramian @ weights).sum()) / square  # λ
    return weights * (length / len(weights) if scale == "mean" else length), None
