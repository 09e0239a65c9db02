"""All gradients together: what the sum loses, how many directions there are, how far from a Pareto point.

The rows of ``J (K, P)`` are the task gradients, ``G = J Jᵀ``; its eigenvalues are the squares of the singular
values ``σ_k`` of J. Squaring halves the digits: singular values below about 1e-8 of the largest count as zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from accord.conflict.direction import cosine
from accord.conflict.entries import Array, clean, defined, norms, square
from accord.linalg.min_norm import min_norm
from accord.linalg.scaling import scaled


def sum_norm(gramians: Any) -> Array:
    """Length of the summed gradient: ``‖Σ_i g_i‖ = sqrt(Σ_ij G_ij)``.

    Args:
        gramians: (..., K, K).

    Returns:
        (...), over defined tasks; NaN where there is none.

    Example:
        >>> float(sum_norm([[9.0, 0.0], [0.0, 16.0]]))
        5.0
    """
    length = np.sqrt(np.maximum(clean(gramians).sum(axis=(-2, -1)), 0.0))  # rounding may pass below zero
    return np.where(defined(gramians).any(axis=-1), length, np.nan)


def cancellation(gramians: Any) -> Array:
    """What is left of the gradients when they are summed: ``‖Σ_i g_i‖ / Σ_i ‖g_i‖``.

    Args:
        gramians: (..., K, K).

    Returns:
        (...) in [0, 1]: 1 if all point the same way, 0 if they cancel; NaN where no task is defined.

    Source:
        Accord's own definition.

    Example:
        >>> float(cancellation([[1.0, -1.0], [-1.0, 1.0]]))
        0.0
    """
    lengths = np.nansum(norms(gramians), axis=-1)
    return np.minimum(sum_norm(gramians) / np.where(lengths > 0, lengths, np.nan), 1.0)


def singular_values(gramians: Any) -> Array:
    """The singular values of the matrix J of defined gradients, largest first: ``σ_k = sqrt(λ_k(G))``.

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K); 0 what rounding cannot tell from zero, NaN beyond the number of defined tasks.

    Example:
        >>> singular_values([[4.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
        array([ 3.,  2., nan])
    """
    full = clean(gramians)
    count = np.asarray(defined(gramians).sum(axis=-1))[..., None]  # (..., 1)
    broken = np.asarray(~np.isfinite(full).all(axis=(-2, -1)))[..., None]
    full = np.where(broken[..., None], 0.0, full)
    values = np.linalg.eigvalsh(full)[..., ::-1]  # (..., K), largest first
    floor = full.shape[-1] * np.finfo(np.float64).eps * values[..., :1]
    sigma = np.sqrt(np.where(values > floor, values, 0.0))
    return np.where(broken | (np.arange(full.shape[-1]) >= count), np.nan, sigma)


def condition_number(gramians: Any) -> Array:
    """Condition number of the matrix of gradients: ``σ_max / σ_min`` over the defined tasks' rows.

    Args:
        gramians: (..., K, K).

    Returns:
        (...) from 1 to infinity (linearly dependent gradients); NaN where no task is defined.

    Source:
        Senushkin et al. 2023 (Aligned-MTL), https://arxiv.org/abs/2305.19000, section 3.

    Example:
        >>> float(condition_number([[4.0, 0.0], [0.0, 9.0]]))
        1.5
    """
    sigma = singular_values(gramians)
    smallest = np.fmin.reduce(sigma, axis=-1, initial=np.nan)
    with np.errstate(divide="ignore"):
        return sigma[..., 0] / smallest


def effective_rank(gramians: Any) -> Array:
    """How many directions the gradients span in effect: ``exp(-Σ_k p_k log p_k)``, ``p_k = σ_k / Σ_l σ_l``.

    The ``σ`` are singular values of the gradients, not eigenvalues of the Gramian.

    Args:
        gramians: (..., K, K).

    Returns:
        (...) from 1 (all parallel) to the number of defined tasks (orthogonal, equal norms); NaN if there is none.

    Source:
        Roy and Vetterli 2007, The effective rank, EUSIPCO, https://ieeexplore.ieee.org/document/7098875.

    Example:
        >>> float(effective_rank([[1.0, 0.0], [0.0, 1.0]]).round(6))
        2.0
    """
    sigma = singular_values(gramians)
    mass = np.nansum(sigma, axis=-1, keepdims=True)
    share = sigma / np.where(mass > 0, mass, np.nan)
    logs = np.log(np.where(share > 0, share, 1.0))  # 0 log 0 = 0
    entropy = -np.nansum(share * logs, axis=-1)
    return np.where(mass[..., 0] > 0, np.exp(entropy), np.nan)


def pareto_gap(gramians: Any) -> Array:
    """Length of the shortest convex combination of the gradients: ``min_{w ∈ Δ} sqrt(wᵀ G w)``.

    Zero exactly at Pareto-stationary points: no direction lowers all losses to first order.

    Args:
        gramians: (..., K, K).

    Returns:
        (...) over the defined tasks, in the unit of the gradients; NaN where there is none.

    Source:
        Désidéri 2012 (MGDA), https://doi.org/10.1016/j.crma.2012.03.014.

    Example:
        >>> round(float(pareto_gap([[1.0, 0.0], [0.0, 1.0]])), 6)
        0.707107
    """
    full, here = square(gramians), defined(gramians)
    out = np.full(full.shape[:-2], np.nan)
    for at in np.ndindex(out.shape):
        tasks = np.flatnonzero(here[at])
        matrix = full[at][np.ix_(tasks, tasks)]  # (k, k)
        if len(tasks) and np.isfinite(matrix).all():
            weights = min_norm(*scaled(matrix)).value  # (k,)
            out[at] = np.sqrt(max(float(weights @ matrix @ weights), 0.0))
    return out


def curvature_bound(gramians: Any) -> Array:
    """How much curvature surgery on a pair needs to pay: ``(1 - cos_ij²) ‖g_i - g_j‖² / ‖g_i + g_j‖²``.

    Args:
        gramians: (..., K, K).

    Returns:
        (..., K, K); 0 for parallel gradients and on the diagonal, NaN where a gradient is undefined or ``g_i = -g_j``.

    Source:
        Yu et al. 2020, https://arxiv.org/abs/2001.06782, multi-task curvature bounding measure (theorem 2).

    Example:
        >>> curvature_bound([[1.0, 0.0], [0.0, 1.0]])
        array([[0., 1.],
               [1., 0.]])
    """
    angles, length = cosine(gramians), norms(gramians)
    left, right = length[..., :, None], length[..., None, :]
    largest = np.maximum(left, right)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.minimum(left, right) / largest  # (..., K, K)
        apart = 1 + ratio**2 - 2 * ratio * angles  # ‖g_i - g_j‖² in units of the longer one
        joint = 1 + ratio**2 + 2 * ratio * angles
        return (1 - angles**2) * apart / joint
