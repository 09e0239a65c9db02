"""Conflict metrics the slow and obvious way: on the gradients themselves, one pair after the other.

Each function takes a list of vectors; a vector of zeros or with NaN is no gradient. None stands for "undefined".
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def real(vectors):
    return [np.isfinite(v).all() and bool(np.any(v != 0)) for v in vectors]


def length(vector):
    return math.sqrt(sum(float(x) ** 2 for x in vector))


def angle(a, b):
    if not all(real([a, b])):
        return None
    return float(np.dot(a / length(a), b / length(b)))


def conflicting(a, b):
    return None if not all(real([a, b])) else float(np.dot(a, b)) < 0


def pairs(vectors):
    return list(itertools.combinations(vectors, 2))


def mean(values):
    values = [float(v) for v in values if v is not None]
    return sum(values) / len(values) if values else None


def incidence(vectors):
    return mean(conflicting(a, b) for a, b in pairs(vectors))


def synergy(vectors):
    return mean(conflicting(a, -b) for a, b in pairs(vectors))


def severity(vectors):
    return mean(None if angle(a, b) is None else max(-angle(a, b), 0) for a, b in pairs(vectors))


def in_conflict(vectors, i):
    others = [conflicting(vectors[i], v) for j, v in enumerate(vectors) if j != i]
    others = [c for c in others if c is not None]
    return any(others) if others else None


def magnitude_similarity(a, b):
    if not all(real([a, b])):
        return None
    return 2 * length(a) * length(b) / (length(a) ** 2 + length(b) ** 2)


def lengths(vectors):
    return [length(v) for v, here in zip(vectors, real(vectors), strict=True) if here]


def norm_ratio(vectors):
    found = lengths(vectors)
    return max(found) / min(found) if len(found) > 1 else None


def dominance(vectors, i):
    return length(vectors[i]) / sum(lengths(vectors)) if real(vectors)[i] else None


def priority(vectors, i):
    here = real(vectors)
    if not here[i] or not any(in_conflict(vectors, j) for j in range(len(vectors))):
        return None
    squares = [int(np.dot(v, v)) if ok else -1 for v, ok in zip(vectors, here, strict=True)]  # integers: exact
    return all(squares[i] > s for j, s in enumerate(squares) if j != i)


def rows(vectors):
    return np.stack([v for v, here in zip(vectors, real(vectors), strict=True) if here]) if any(real(vectors)) else None


def sum_norm(vectors):
    return None if rows(vectors) is None else length(rows(vectors).sum(0))


def cancellation(vectors):
    return None if rows(vectors) is None else sum_norm(vectors) / sum(lengths(vectors))


def singular_values(vectors):
    """As many as there are gradients: those beyond P are zero."""
    if rows(vectors) is None:
        return None
    found = np.linalg.svd(rows(vectors), compute_uv=False)
    return np.concatenate([found, np.zeros(len(rows(vectors)) - len(found))])


def condition_number(vectors):
    if rows(vectors) is None:
        return None
    found = singular_values(vectors)
    return math.inf if found[-1] < 1e-7 * found[0] else found[0] / found[-1]


def effective_rank(vectors):
    if rows(vectors) is None:
        return None
    found = singular_values(vectors)
    share = found / found.sum()
    return math.exp(-sum(p * math.log(p) for p in share if p > 0))


def pareto_gap(vectors):
    """The shortest point of the convex hull lies inside some face: try the shortest point of every face's plane."""
    if rows(vectors) is None:
        return None
    points = rows(vectors)
    best = min(length(p) for p in points)
    for size in range(2, len(points) + 1):
        for face in itertools.combinations(points, size):
            edges = np.stack([p - face[0] for p in face[1:]])  # (size - 1, P)
            steps = np.linalg.lstsq(edges.T, -face[0], rcond=None)[0]
            if (steps >= 0).all() and steps.sum() <= 1:
                best = min(best, length(face[0] + steps @ edges))
    return best


def curvature_bound(a, b):
    if not all(real([a, b])) or length(a + b) == 0:
        return None
    return (1 - angle(a, b) ** 2) * length(a - b) ** 2 / length(a + b) ** 2


def raised(gradient, start, step):
    """How much the linear loss ``g · θ``, which is its own first-order expansion, rises when θ moves by the step."""
    return float(np.dot(gradient, start + step) - np.dot(gradient, start))


def longest_run(flags):
    kept = [f for f in flags if not math.isnan(f)]
    return max((len(list(run)) for up, run in itertools.groupby(kept) if up), default=0)
