"""Theorems about methods, as functions that fail where one does not hold.

Letters: ``J`` gradients (K, P), ``d`` direction (P,).

Every law is tested on a fresh copy of the method with the same draw of its generator, so stateful and random methods
are covered as far as the law speaks about them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.methods import Aggregation, Method, Weighting

import inputs

Build = Callable[[int, int], Tensor]


def direction(method: Method, rows: Tensor, losses: Tensor, seed: int = 0) -> tuple[Tensor, float]:
    """d (P,), and the size ``Σ|w_i| n_i`` that its rounding errors are measured with."""
    fresh, generator = copy.deepcopy(method), torch.Generator().manual_seed(seed)
    norms = rows.norm(dim=1)
    if isinstance(fresh, Aggregation):
        return fresh.aggregate(rows, losses, generator=generator), float(norms.sum())
    assert isinstance(fresh, Weighting)
    weights = weigh(fresh, rows, losses, generator)
    return weights @ rows, float((weights.abs() * norms).sum())


def weigh(method: Weighting, rows: Tensor, losses: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
    """The weights, from whatever the method reads; a second batch, where it wants one, has the same gradients."""
    cross = rows @ rows.T if method.needs_second_batch else None
    if method.needs_gradients:
        return method(losses=losses, gradients=rows, cross=cross, generator=generator)
    return method(rows @ rows.T, losses, cross=cross, generator=generator)


def losses_of(k: int, seed: int = 0) -> Tensor:
    return torch.rand(k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1


def close(found: Tensor, expected: Tensor, size: float, tolerance: float = 1e-6) -> bool:
    return bool(torch.isfinite(found).all()) and float((found - expected).norm()) <= tolerance * size


def never_conflicts(method: Method, rows: Tensor) -> None:
    """NC: ``g_i·d/n_i ≥ −1e-9 Σ|w_j|n_j`` for all i, and no cosine below -1e-4 whenever d ≠ 0."""
    d, size = direction(method, rows, losses_of(len(rows)))
    norms = rows.norm(dim=1)
    along = (rows @ d)[norms > 0] / norms[norms > 0]  # (k,)
    assert float(along.min()) >= -1e-9 * size
    if float(d.norm()) > 0:
        assert float(along.min()) >= -1e-4 * float(d.norm())


def permutation(method: Method, rows: Tensor) -> None:
    """PE: permuting the tasks does not change d."""
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))
    losses = losses_of(len(rows))
    d, size = direction(method, rows, losses)
    permuted, _ = direction(method, rows[order], losses[order])
    assert close(permuted, d, size)


def linear_under_scaling(method: Method, rows: Tensor) -> None:
    """LS: ``d(diag(αs + βt)J) = α d(diag(s)J) + β d(diag(t)J)`` for s, t, α, β > 0."""
    s, t, losses = (losses_of(len(rows), seed) for seed in (1, 2, 0))
    first, one = direction(method, s[:, None] * rows, losses)
    second, two = direction(method, t[:, None] * rows, losses)
    both, _ = direction(method, (2 * s + 3 * t)[:, None] * rows, losses)
    assert close(both, 2 * first + 3 * second, 2 * one + 3 * two)


def scale_invariant(method: Method, rows: Tensor) -> None:
    """SI: the direction of ``d(diag(s)J)`` does not depend on s > 0."""
    losses = losses_of(len(rows))
    d, size = direction(method, rows, losses)
    scaled, other = direction(method, losses_of(len(rows), 1)[:, None] * rows, losses)
    if float(d.norm()) <= 1e-9 * size or float(scaled.norm()) <= 1e-9 * other:  # zero has no direction
        assert float(d.norm()) <= 1e-9 * size
        assert float(scaled.norm()) <= 1e-9 * other
    else:
        lost = size / float(d.norm()) + other / float(scaled.norm())  # where terms cancel, digits are lost
        assert close(scaled / scaled.norm(), d / d.norm(), lost)


def homogeneous(degree: float) -> Callable[[Method, Tensor], None]:
    """H(h): ``d(sJ) = s^h d(J)`` for s > 0."""

    def law(method: Method, rows: Tensor) -> None:
        losses = losses_of(len(rows))
        d, size = direction(method, rows, losses)
        for s in (1e-4, 1e4):
            assert close(direction(method, s * rows, losses)[0] / s**degree, d, size, 1e-7)

    return law


def fixed_at_stationary(method: Method, rows: Tensor) -> None:
    """PS, PS+, one half: d = 0 where the gradients cancel (for some ``w ∈ Δ``, or ``w > 0``)."""
    assert float(direction(method, rows, losses_of(len(rows)))[0].abs().max()) == 0


def moves_elsewhere(method: Method, rows: Tensor) -> None:
    """PS, PS+, other half: d ≠ 0 everywhere else."""
    assert float(direction(method, rows, losses_of(len(rows)))[0].norm()) > 0


def reduces_to_sum(method: Method, rows: Tensor) -> None:
    """RS: the plain sum (or mean, by the native scale) when all inner products are non-negative."""
    assert float((rows @ rows.T).min()) >= 0
    expected = rows.sum(0) if method.native_scale == "sum" else rows.mean(0)
    d, size = direction(method, rows, losses_of(len(rows)))
    assert close(d, expected, size, 1e-12)


def keeps_agreed_signs(method: Method, rows: Tensor) -> None:
    """RS-sign: in coordinates where no two signs differ, d is the plain sum."""
    agreed = ((rows >= 0).all(0) | (rows <= 0).all(0)).nonzero()[:, 0]
    assert len(agreed)
    d, size = direction(method, rows, losses_of(len(rows)))
    assert close(d[agreed], rows[:, agreed].sum(0), size, 1e-12)


def protects_first(method: Method, rows: Tensor) -> None:
    """PR: ``g_1·d ≥ n_1² − 1e-9 n_1 Σ|w_j|n_j``: the first task gains what its own gradient alone gives it."""
    d, size = direction(method, rows, losses_of(len(rows)))
    norm = float(rows[0].norm())
    assert float(rows[0] @ d) / norm >= norm - 1e-9 * size


def protects_in_order(method: Method, rows: Tensor) -> None:
    """LX: adding a task at the end reduces ``g_h·d`` for no earlier h (up to ``1e-9 n_h Σ|w_j|n_j``)."""
    losses, norms = losses_of(len(rows)), rows.norm(dim=1).clamp(min=1e-300)
    before = direction(method, rows[:1], losses[:1])[0]
    for i in range(1, len(rows)):
        d, size = direction(method, rows[: i + 1], losses[: i + 1])
        assert float((rows[:i] @ (d - before) / norms[:i]).min()) >= -1e-9 * size
        before = d


@dataclass(frozen=True)
class Law:
    """A function and the inputs on which it says something."""

    check: Callable[[Method, Tensor], None]
    inputs: dict[str, Build]


LAWS: dict[str, tuple[Law, ...]] = {
    "NC": (Law(never_conflicts, {**inputs.INPUTS, "weakly stationary": inputs.weakly_stationary}),),
    "NC-full-rank": (Law(never_conflicts, inputs.FULL_RANK),),
    "PE": (Law(permutation, inputs.INPUTS),),
    "PE-mild": (Law(permutation, {name: f for name, f in inputs.INPUTS.items() if name != "ratio 1e6"}),),
    "LS": (Law(linear_under_scaling, inputs.INPUTS),),
    "SI": (Law(scale_invariant, inputs.INPUTS),),
    "SI-full-rank": (Law(scale_invariant, inputs.FULL_RANK),),
    "H0": (Law(homogeneous(0), inputs.INPUTS),),
    "H1": (Law(homogeneous(1), inputs.INPUTS),),
    "PS": (
        Law(fixed_at_stationary, {**inputs.STATIONARY, "weakly stationary": inputs.weakly_stationary}),
        Law(moves_elsewhere, inputs.FULL_RANK),
    ),
    "PS+": (
        Law(fixed_at_stationary, {"strongly stationary": inputs.strongly_stationary}),
        Law(moves_elsewhere, {**inputs.FULL_RANK, "weakly stationary": inputs.weakly_stationary}),
    ),
    "RS": (Law(reduces_to_sum, {"agreeing": inputs.agreeing, "parallel": inputs.parallel}),),
    "PR": (Law(protects_first, {**inputs.INPUTS, "weakly stationary": inputs.weakly_stationary}),),
    "LX": (Law(protects_in_order, {**inputs.INPUTS, "weakly stationary": inputs.weakly_stationary}),),
    "RS-sign": (Law(keeps_agreed_signs, {"agreeing": inputs.agreeing, "partly agreeing": inputs.partly_agreeing}),),
}
