"""Slow, obvious second implementations: on explicit vectors, by enumeration, or with autograd."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pcgrad(rows: Array, orders: Sequence[Sequence[int]]) -> Array:
    """Algorithm 1 of the paper, on the gradients themselves."""
    changed = [row.copy() for row in rows]
    for i, order in enumerate(orders):
        for j in order:
            product = changed[i] @ rows[j]
            if product < 0:
                changed[i] = changed[i] - product / (rows[j] @ rows[j]) * rows[j]
    return np.sum(changed, axis=0)


def graddrop(rows: Array, draws: Array, leak: float) -> Array:
    """The formula, one coordinate and one task at a time; 0/0 is ½."""
    result = np.zeros(rows.shape[1])
    for p in range(rows.shape[1]):
        total, size = rows[:, p].sum(), np.abs(rows[:, p]).sum()
        purity = 0.5 * (1 + total / size) if size else 0.5
        for g in rows[:, p]:
            keep = (purity > draws[p] and g > 0) or (purity < draws[p] and g < 0)
            result[p] += (leak + (1 - leak) * keep) * g
    return result


def supports(k: int) -> list[tuple[int, ...]]:
    return [s for size in range(k + 1) for s in itertools.combinations(range(k), size)]


def nnls(matrix: Array, target: Array) -> Array:
    """``min ½sᵀAs − bᵀs, s ≥ 0``: the best feasible point among the minimisers on every face."""
    best, lowest = np.zeros(len(target)), 0.0
    for support in supports(len(target)):
        index = list(support)
        if not index:
            continue
        point = np.zeros(len(target))
        point[index] = np.linalg.lstsq(matrix[np.ix_(index, index)], target[index], rcond=None)[0]
        value = 0.5 * point @ matrix @ point - target @ point
        if (point >= -1e-12).all() and value < lowest:
            best, lowest = point, value
    return best


def simplex_qp(matrix: Array, linear: Array, price: Array) -> Array:
    """``min ½xᵀAx + bᵀx, x ≥ 0, qᵀx = 1``: the best feasible point among the minimisers on every face."""
    best, lowest = None, math.inf
    for support in supports(len(linear))[1:]:
        index, size = list(support), len(support)
        system = np.zeros((size + 1, size + 1))
        system[:size, :size] = matrix[np.ix_(index, index)]
        system[size, :size] = system[:size, size] = price[index]
        found = np.linalg.lstsq(system, np.append(-linear[index], 1.0), rcond=None)[0]
        point = np.zeros(len(linear))
        point[index] = found[:size]
        value = 0.5 * point @ matrix @ point + linear @ point
        if (point >= -1e-12).all() and abs(price @ point - 1) < 1e-9 and value < lowest:
            best, lowest = point, value
    assert best is not None
    return best


def upgrad(rows: Array) -> Array:
    """The mean of the projections of all rows on the dual cone, each by enumeration."""
    gramian = rows @ rows.T
    projected = [rows.T @ (np.eye(len(rows))[i] + nnls(gramian, -gramian[i])) for i in range(len(rows))]
    return np.mean(projected, axis=0)


def mgda(rows: Array) -> Array:
    """The shortest vector of the convex hull, by enumeration."""
    return simplex_qp(rows @ rows.T, np.zeros(len(rows)), np.ones(len(rows))) @ rows


def aligned_mtl(rows: Array, scale: Callable[[Array], float]) -> Array:
    """Replace all singular values by one, then add the rows; of full rank."""
    left, singular, right = np.linalg.svd(rows, full_matrices=False)
    return (math.sqrt(scale(singular**2)) * left @ right).sum(0)


def onto_simplex(point: Array) -> Array:
    """θ with ``Σ max(x − θ, 0) = 1``, by bisection."""
    low, high = point.min() - 1, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(point - low, 0)


def uncertainty_weighting(losses: Sequence[Array], lr: float) -> list[Array]:
    """The objective of the paper as a loss, with autograd and torch's Adam; s starts at the log of the first losses."""
    s = torch.tensor(np.log(losses[0]), requires_grad=True)
    adam, weights = torch.optim.Adam([s], lr=lr), []
    for values in losses:
        variable = torch.tensor(values, requires_grad=True)
        objective = (0.5 * torch.exp(-s) * variable + 0.5 * s).sum()
        adam.zero_grad()
        objective.backward()
        assert variable.grad is not None
        weights.append(variable.grad.numpy())
        adam.step()
    return weights


def famo(before: Sequence[Array], after: Sequence[Array], lr: float, decay: float) -> list[Array]:
    """Algorithm 1 of the paper with autograd and torch's Adam."""
    xi = torch.zeros(len(before[0]), dtype=torch.float64, requires_grad=True)
    adam, weights = torch.optim.Adam([xi], lr=lr, weight_decay=decay), []
    for old, new in zip(before, after, strict=True):
        z = torch.softmax(xi, -1)
        scaled = z.detach().numpy() / (old + 1e-8)
        weights.append(scaled / scaled.sum())
        delta = torch.tensor(np.log(old + 1e-8) - np.log(new + 1e-8))
        adam.zero_grad()
        xi.grad = torch.autograd.grad(z, xi, grad_outputs=delta)[0]
        adam.step()
    return weights


def dwa(losses: Sequence[Array], temperature: float, window: int) -> list[Array]:
    """From the whole history, anew in every step."""
    weights = []
    for t in range(len(losses)):
        full = t // window
        means = [np.mean(losses[w * window : (w + 1) * window], axis=0) for w in range(full)]
        rate = means[-1] / means[-2] if full >= 2 else np.ones(len(losses[0]))
        powers = np.exp(rate / temperature)
        weights.append(len(rate) * powers / powers.sum())
    return weights
