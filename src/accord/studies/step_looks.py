"""What looks at every time step of a recurrent net say: how far a loss reaches, and where two losses conflict."""

from __future__ import annotations

import numpy as np

import accord
from accord import noise
from accord.studies.sequences import EARLY
from accord.studies.study import Array

SIGNAL = 0.01  # of a loss's longest contribution; below it a step has no signal, and its cosine says nothing


def seen(large: Array, small: Array, broken: str = "") -> dict[str, float | list[float]]:
    """What the looks say about each step in time, and about the gradients as wholes.

    Args:
        large: (T', 4, T, 4, T), of all training scans; rows are A and B on one half, then on the other.
        small: the same of mini-batches.
        broken: ``one loss twice``: B is replaced by A, which cannot conflict with itself.

    Returns:
        Measures and curves, as they stand in a row.

    Example:
        >>> g = np.zeros((1, 4, 4, 4, 4))
        >>> for t in range(4):  # A and B are opposed in every step, and both halves agree
        ...     g[0, :, t, :, t] = np.outer([1.0, -1.0, 1.0, -1.0], [1.0, -1.0, 1.0, -1.0])
        >>> found = seen(g, g)
        >>> found["full incidence"], found["full excess"], found["no signal"]
        (1.0, 1.0, 0.0)
        >>> seen(g, g, "one loss twice")["full incidence"]
        0.0
    """
    if broken == "one loss twice":
        large, small = (g[:, [0, 0, 2, 2]][:, :, :, [0, 0, 2, 2]] for g in (large, small))
    lengths = accord.conflict.norms(_joined(_by_step(large)))  # (T', T, 2)
    late = lengths[..., 1]  # (T', T)
    there = (late > SIGNAL * late.max(1, keepdims=True))[:, :EARLY]  # (T', 3): elsewhere no angle means anything
    out: dict[str, float | list[float]] = {
        "A length by step": _defined(lengths[..., 0].mean(0)).tolist(),
        "B length by step": _defined(late.mean(0)).tolist(),
        "no signal": 1 - float(there.mean()),
        "decay": _mean(np.log10(_defined(late[:, -1]) / _defined(late[:, EARLY - 1]))),
    }
    for name, gramians in (("full", large), ("batch", small)):
        steps = _by_step(gramians)[:, :EARLY]  # (T', 3, 4, 4)
        whole = _joined(gramians.sum((2, 4)))  # (T', 2, 2), of the gradients themselves
        across = noise.split(steps).across  # (T', 3, 2, 2), of one half with the other
        against = ((across[..., 0, 1] < 0) + (across[..., 1, 0] < 0).astype(float)) / 2  # (T', 3)
        itself = np.einsum("ntii->nti", across) < 0  # (T', 3, 2)
        observed = accord.conflict.rate(np.where(there, against, np.nan)).value  # (3,)
        # Of the loss with more noise: one that is nothing else conflicts with everything half of the time
        null = accord.conflict.rate(np.where(there[..., None], itself, np.nan)).value.max(1)  # (3,)
        out |= {
            f"{name} incidence by step": observed.tolist(),
            f"{name} null by step": null.tolist(),
            f"{name} incidence": _mean(observed),
            f"{name} excess": _mean(observed - null),
            f"{name} cosine, steps": _mean(np.where(there, accord.conflict.cosine(_joined(steps))[..., 0, 1], np.nan)),
            f"{name} corrected, steps": _mean(noise.corrected_cosine(steps).value[:, 0, 1]),
            f"{name} conflict, whole": _mean(accord.conflict.incidence(whole)),
            f"{name} cosine, whole": _mean(accord.conflict.cosine(whole)[..., 0, 1]),
            f"{name} norm ratio": _mean(accord.conflict.norm_ratio(whole)),
        }
    return out


def _by_step(gramians: Array) -> Array:
    """(T', T, 4, 4): of each step's contributions, out of (T', 4, T, 4, T)."""
    return np.einsum("nitjt->ntij", gramians)


def _joined(halves: Array) -> Array:
    """Gramians (..., 2, 2) of the gradients on all scans, twice the mean over both halves."""
    return np.asarray(halves.reshape(*halves.shape[:-2], 2, 2, 2, 2).sum((-4, -2)))


def _defined(lengths: Array) -> Array:
    """NaN for zero, which is "no gradient at all" and has no logarithm."""
    return np.where(lengths > 0, lengths, np.nan)


def _mean(values: Array) -> float:
    """Over what is defined; NaN where nothing is."""
    return float(accord.conflict.rate(values.reshape(-1)).value)
