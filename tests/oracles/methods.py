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


def agem(rows: Array, main: int, always: bool = False) -> Array:
    """Every other gradient by itself, on vectors; the main one as it is."""
    g = rows[main]
    total = g.copy()
    for j, row in enumerate(rows):
        if j != main:
            total += row - row @ g / (g @ g) * g if always or row @ g < 0 else row
    return total


def grad_cosine(rows: Array, main: int, weighted: bool) -> Array:
    """The paper's rule, one auxiliary task after the other; rounding alone is no conflict."""
    g = rows[main]
    total = g.copy()
    for j, row in enumerate(rows):
        cosine = row @ g / np.linalg.norm(row) / np.linalg.norm(g)
        if j != main and cosine >= -1e-12:
            total += max(cosine, 0.0) * row if weighted else row
    return total


def lexicographic(rows: Array, ranks: Sequence[float]) -> Array:
    """Every gradient projected on the dual cone of those before it, each by enumeration."""
    total = np.zeros(rows.shape[1])
    for row, rank in zip(rows, ranks, strict=True):
        before = rows[[r < rank for r in ranks]]
        total += row + nnls(before @ before.T, -before @ row) @ before
    return total


def gradops(rows: Array) -> Array:
    """Residuals of least squares on the other gradients."""
    total = np.zeros(rows.shape[1])
    for i, row in enumerate(rows):
        others = np.delete(rows, i, axis=0)
        if (others @ row < 0).any():
            row = row - others.T @ np.linalg.lstsq(others.T, row, rcond=1e-9)[0]
        total += row
    return total


def fairgrad(rows: Array, alpha: float) -> Array:
    """``Gw = w^(−1/α)`` by turns: one weight at a time, by bisection of an increasing function of its logarithm."""
    gramian = rows @ rows.T
    weights = 1 / np.sqrt(np.diagonal(gramian))
    for _ in range(3000):
        before = weights.copy()
        for i in range(len(rows)):
            rest = gramian[i] @ weights - gramian[i, i] * weights[i]
            low, high = -60.0, 60.0
            for _ in range(60):
                middle = (low + high) / 2
                above = gramian[i, i] * math.exp(middle) + rest > math.exp(-middle / alpha)
                low, high = (low, middle) if above else (middle, high)
            weights[i] = math.exp(low)
        if np.abs(weights - before).max() <= 1e-12 * weights.max():
            break
    return weights @ rows


def dual_proj(rows: Array, pref: Array) -> Array:
    """The combination that is asked for, projected on the dual cone by enumeration."""
    gramian = rows @ rows.T
    return rows.T @ (pref + nnls(gramian, -gramian @ pref))


def config(rows: Array, pref: Array, length: Callable[[Array], Array | float]) -> Array:
    """The pseudo-inverse of the unit gradients, and the length from the projections, on vectors."""
    norms = np.linalg.norm(rows, axis=1)
    units = rows / norms[:, None]
    way = np.linalg.pinv(units, rcond=1e-6) @ pref
    way = way / np.linalg.norm(way)
    return (length(norms) * (units @ way)).sum() * way


def gradvac(rows: Array, orders: Sequence[Sequence[int]], targets: Array, beta: float) -> tuple[Array, Array]:
    """By geometry: keep the part across g_j, and give the part along it the length that the target cosine asks for."""
    changed, targets = [row.copy() for row in rows], targets.copy()
    for i, order in enumerate(orders):
        for j in order:
            unit = rows[j] / np.linalg.norm(rows[j])
            along = changed[i] @ unit
            if np.linalg.norm(changed[i]) <= 1e-6 * np.linalg.norm(rows[i]):
                continue
            cosine, target = along / np.linalg.norm(changed[i]), targets[i, j]
            if cosine < target:
                across = changed[i] - along * unit
                changed[i] = across + np.linalg.norm(across) * target / math.sqrt(1 - target**2) * unit
            targets[i, j] = (1 - beta) * target + beta * cosine
    return np.sum(changed, axis=0), targets


def krum(rows: Array, average: int, byzantine: int) -> Array:
    """Every set of neighbours is tried for every gradient."""
    count = len(rows)
    size = min(max(1, count - byzantine - 2), count - 1)
    scores = [
        min(
            sum(float(((row - rows[j]) ** 2).sum()) for j in near)
            for near in itertools.combinations([j for j in range(count) if j != i], size)
        )
        for i, row in enumerate(rows)
    ]
    return rows[np.argsort(scores, kind="stable")[:average]].mean(0)


# What follows keeps gradients from step to step. A history is a list of (K, P) matrices; a row of zeros: task absent.


def present(rows: Array) -> list[int]:
    return [i for i, row in enumerate(rows) if row.any()]


def moco(
    history: Sequence[Array], beta: float, beta_sigma: float, gamma: float, gamma_sigma: float, rho: float
) -> list[tuple[Array, dict[int, float]]]:
    """d and λ of every step."""
    tracked: dict[int, Array] = {}
    times: dict[int, int] = {}
    weights: dict[int, float] = {}
    found = []
    for step, rows in enumerate(history, start=1):
        tasks = present(rows)
        for i in tasks:
            times[i] = times.get(i, 0) + 1
            y = tracked.get(i, np.zeros(rows.shape[1]))
            tracked[i] = y - beta / times[i] ** beta_sigma * (y - rows[i])
        kept = np.array([tracked[i] for i in tasks])
        start = np.array([weights.get(i, 1 / len(tasks)) for i in tasks])
        start = start / start.sum() if start.sum() else np.full(len(tasks), 1 / len(tasks))
        matrix = kept @ kept.T + rho * np.eye(len(tasks))
        ends = onto_simplex(start - gamma / step**gamma_sigma * matrix @ start)
        weights.update(zip(tasks, ends, strict=True))
        found.append((ends @ kept, dict(weights)))
    return found


def momentum_config(history: Sequence[Array], first: float, second: float) -> list[Array]:
    """The pseudo-inverse of the unit averages, as in the paper; every task from when it was met."""
    moments: dict[int, Array] = {}
    times: dict[int, int] = {}
    found = []
    before, squares = np.zeros(history[0].shape[1]), np.zeros(history[0].shape[1])
    for step, rows in enumerate(history, start=1):
        for i in present(rows):
            times[i] = times.get(i, 0) + 1
            moments[i] = first * moments.get(i, np.zeros(rows.shape[1])) + (1 - first) * rows[i]
        hats = np.array([moments[i] / (1 - first ** times[i]) for i in moments])
        u = config(hats, np.ones(len(hats)), lambda norms: norms)
        fake = u * (1 - first**step)
        pseudo = (fake - first * before) / (1 - first)
        before = fake
        squares = second * squares + (1 - second) * pseudo**2
        found.append(u / (np.sqrt(squares / (1 - second**step)) + 1e-8))
    return found


def gcond(
    history: Sequence[Array], thresholds: Sequence[float], momentum: float, norm_ema: float, window: int
) -> tuple[list[Array], list[tuple[int, int, bool]]]:
    """d of every step, and all (winner, loser, overruled); on the vectors themselves."""
    critical, main, weak = thresholds
    last: dict[int, Array] = {}
    norms: dict[int, float] = {}
    fights: list[tuple[int, int, bool]] = []
    average, found = np.zeros(history[0].shape[1]), []
    for step, rows in enumerate(history, start=1):
        tasks = present(rows)
        g = {i: rows[i].copy() for i in tasks}
        for i in tasks:
            norms[i] = norm_ema * norms.get(i, 1.0) + (1 - norm_ema) * np.linalg.norm(g[i])
        for _ in range(2 * len(tasks)):
            lowest, pair = weak - 1e-6, None
            for i, j in itertools.combinations(tasks, 2):
                if np.linalg.norm(g[i]) < 1e-6 * np.linalg.norm(rows[i]) or not g[j].any():
                    continue
                if np.linalg.norm(g[j]) < 1e-6 * np.linalg.norm(rows[j]):
                    continue
                cosine = g[i] @ g[j] / np.linalg.norm(g[i]) / np.linalg.norm(g[j])
                if cosine < lowest:
                    lowest, pair = cosine, (i, j)
            if pair is None:
                break
            score = {}
            for i in pair:
                old = last.get(i, np.zeros(len(g[i])))
                same = g[i] @ old / np.linalg.norm(g[i]) / np.linalg.norm(old) if old.any() else 0.0
                strength = [np.linalg.norm(g[n]) / norms[n] for n in (i, *[o for o in pair if o != i])]
                score[i] = 0.8 * max(same, 0.0) + 0.2 * strength[0] / sum(strength)
            winner, loser = pair if score[pair[0]] >= score[pair[1]] else pair[::-1]
            recent = [fight[0] for fight in fights[-window:]] if window else []
            overruled = False
            for i, rival in (pair, pair[::-1]):
                if window and recent == [i] * window:
                    overruled = winner == i
                    winner, loser = rival, i
                    break
            fights.append((winner, loser, overruled))
            if lowest >= main:
                angle = math.pi / 2 * (1 - (lowest - main) / (weak - main))
            elif lowest > critical:
                angle = math.pi / 2 + math.pi / 2 * ((lowest - main) / (critical - main)) ** 2
            else:
                angle = math.pi
            w, v = g[winner], g[loser]
            g[winner] = w - math.sin(angle) * (w @ v) / (v @ v) * v
            g[loser] = v - math.sin(min(angle, math.pi / 2)) * (w @ v) / (w @ w) * w
        last.update({i: g[i].copy() for i in tasks})
        average = momentum * average + (1 - momentum) * np.sum([g[i] for i in tasks], axis=0)
        found.append(average / (1 - momentum**step))
    return found, fights


def bloop(history: Sequence[Array], main: int, weight: float, rate: float) -> list[Array]:
    average, found = np.zeros(history[0].shape[1]), []
    for rows in history:
        tasks = present(rows)
        if main in tasks:
            average = (1 - rate) * average + rate * rows[main]
        d = np.zeros(rows.shape[1])
        for i in tasks:
            if i == main:
                d += rows[i]
            else:
                unit = average / np.linalg.norm(average) if average.any() else average
                d += weight * (rows[i] - (rows[i] @ unit) * unit)
        found.append(d)
    return found


def trimmed_mean(rows: Array, trim: int) -> Array:
    """By sorting."""
    return np.sort(rows, axis=0)[trim : len(rows) - trim].mean(0)


def excess_mtl(history: Sequence[Array], lr: float, warmup: int) -> list[Array]:
    """Weights of every step, without logarithms; 0 for absent tasks."""
    squares: dict[int, Array] = {}
    weights: dict[int, float] = {}
    excess: dict[int, list[float]] = {}
    found = []
    for rows in history:
        tasks, result = present(rows), np.zeros(len(rows))
        for i in tasks:
            squares[i] = squares.get(i, np.zeros(rows.shape[1])) + rows[i] ** 2
            excess.setdefault(i, []).append((rows[i] ** 2 / np.sqrt(squares[i] + 1e-7)).sum())
            weights.setdefault(i, 1.0)
        learning = [i for i in tasks if len(excess[i]) > warmup]
        for i in learning:
            weights[i] *= math.exp(lr * excess[i][-1] / np.mean(excess[i][:warmup]))
        if learning:
            total = sum(weights[i] for i in tasks)
            for i in tasks:
                weights[i] *= len(tasks) / total
        for i in tasks:
            result[i] = weights[i] if learning else 1.0
        found.append(result)
    return found


def db_mtl(history: Sequence[Array], beta: float, sigma: float) -> list[Array]:
    """From the gradients of the logarithms of the losses."""
    smooth: dict[int, Array] = {}
    times: dict[int, int] = {}
    found = []
    for rows in history:
        tasks = present(rows)
        for i in tasks:
            times[i] = times.get(i, 0) + 1
            share = beta / times[i] ** sigma
            smooth[i] = rows[i] + share * (smooth.get(i, np.zeros(rows.shape[1])) - rows[i])
        longest = max(np.linalg.norm(smooth[i]) for i in tasks)
        found.append(np.sum([longest / np.linalg.norm(smooth[i]) * smooth[i] for i in tasks], axis=0))
    return found


def sdmgrad(
    batches: Sequence[tuple[Array, Array]], lam: float, pref: Array, lr: float, momentum: float, rounds: int
) -> list[Array]:
    """On the gradients of two batches per step, with torch's SGD on w and the projection by bisection."""
    w, weights = np.full(len(pref), 1 / len(pref)), []
    for first, second in batches:
        sigma = np.sqrt(np.maximum((first * second).sum(1), 0)).mean()
        variable = torch.tensor(w, requires_grad=True)
        sgd = torch.optim.SGD([variable], lr=lr, momentum=momentum)
        for _ in range(rounds):
            aim = second.T @ (w + lam * pref)  # (P,)
            variable.grad = torch.tensor(first @ aim / sigma**2)
            sgd.step()
            w = onto_simplex(variable.detach().numpy())
            with torch.no_grad():
                variable.copy_(torch.tensor(w))
        weights.append((w + lam * pref) / (1 + lam))
    return weights


def modo(batches: Sequence[tuple[Array, Array]], gamma: float, rho: float) -> list[Array]:
    """On the gradients of two batches per step."""
    w, weights = np.full(len(batches[0][0]), 1 / len(batches[0][0])), []
    for first, second in batches:
        w = onto_simplex(w - gamma * (first @ (second.T @ w) + rho * w))
        weights.append(w)
    return weights


def forum(rows: Array, q: Array, phi: float) -> tuple[Array, float]:
    """``min ‖Σλ_iF_i + νq‖² − νφ‖q‖²``, ``λ ∈ Δ``, ``ν ≥ max(πᵀλ, 0)``: the best feasible point among the minimisers
    for every support of λ and every set of bounds of ν that may be met.

    Returns:
        λ and the value.
    """
    k, square = len(rows), q @ q
    products, pi = np.vstack([rows, q]) @ np.vstack([rows, q]).T, phi - rows @ q / square
    linear = np.append(np.zeros(k), phi * square)
    best, lowest = np.zeros(k), math.inf
    bounds = [np.append(np.zeros(k), 1.0), np.append(-pi, 1.0)]  # both >= 0
    for support, met in itertools.product(supports(k)[1:], supports(2)):
        zero = [np.eye(k + 1)[i] for i in range(k) if i not in support] + [bounds[j] for j in met]
        equal = np.vstack([np.append(np.ones(k), 0.0), *zero])
        system = np.block([[2 * products, equal.T], [equal, np.zeros((len(equal), len(equal)))]])
        right = np.concatenate([linear, [1.0], np.zeros(len(zero))])
        point = np.linalg.lstsq(system, right, rcond=None)[0][: k + 1]
        feasible = (point[:k] >= -1e-10).all() and all(b @ point >= -1e-10 for b in bounds)
        value = point @ products @ point - linear @ point
        if feasible and abs(equal @ point - right[k + 1 :]).max() < 1e-9 and value < lowest:
            best, lowest = point[:k], value
    return best, lowest
