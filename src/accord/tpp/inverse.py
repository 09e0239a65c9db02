"""The inverse of a compensator: quantiles and exact samples of the next gap."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 60  # halving 37 e-folds of time 60 times reaches one unit in the last place of float64


@torch.no_grad()
def inverse(
    compensator: Callable[[Tensor], Tensor],
    target: Tensor,
    *,
    scale: Tensor | float,
    floor: float,
    limit: float,
) -> Tensor:
    """The gap tau with ``Lambda(tau) = target``, for n rows at once.

    Secants of ``log Lambda`` as a function of ``log tau``, where power laws are straight lines, inside a bracket that
    shrinks with every step; where a secant leaves it or steps are no longer halved, bisection. An intensity for
    tangents would cost as much as a compensator and save hardly a step. The result carries no gradient.

    Args:
        compensator: (n,) gaps to (n,) ``Lambda``, non-decreasing in each row.
        target: (n,) values of Lambda, >= 0.
        scale: a typical gap, where the search starts; one for all rows, or (n,).
        floor: smallest gap; the answer where Lambda is above the target already there.
        limit: largest gap.

    Returns:
        (n,) gaps in [floor, limit]; ``inf`` where ``Lambda(limit) < target``.

    Example:
        >>> rate = torch.tensor([0.5, 2.0], dtype=torch.float64)
        >>> target = torch.full_like(rate, math.log(2))
        >>> median = inverse(lambda tau: rate * tau, target, scale=1.0, floor=1e-6, limit=1e6)
        >>> torch.allclose(median, math.log(2) / rate)
        True
    """
    goal = target.log()
    low, below, high, above, found = _bracket(compensator, target, scale, floor, limit)
    early = below >= goal
    done = early | ~found
    # A chord in logarithms hits power laws at once; where an end is infinite it gives no point, then halve.
    y = _inside(low + (goal - below) / (above - below) * (high - low), low, high)
    y_before, f_before = low, below - goal  # (n,) each, for the secant
    stride = high - low
    eps = torch.finfo(target.dtype).eps
    for _ in range(STEPS):
        tau = y.exp()
        value = compensator(tau)
        f = value.log() - goal
        over = f >= 0
        low, high = torch.where(over, low, y), torch.where(over, y, high)
        size = y.abs().clamp(min=1)
        done |= (f.abs() <= 4 * eps) | (high - low <= 2 * eps * size)
        secant = y - f * (y - y_before) / (f - f_before)
        # rounding of Lambda may keep f away from 0 for ever; then the steps say when there is nothing left to find
        done |= (secant - y).abs() <= 16 * eps * size
        if bool(done.all()):
            break
        slow = (secant - y).abs() > stride / 2
        following = torch.where(slow, (low + high) / 2, _inside(secant, low, high))
        y_before, f_before, stride = y, f, (following - y).abs()
        y = torch.where(done, y, following)
    gap = torch.where(early, floor, y.exp().clamp(floor, limit))
    gap = torch.where(found, gap, math.inf)
    return torch.where(value.isnan() | target.isnan(), math.nan, gap)  # mistakes of the model stay visible


def _inside(y: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``y`` where it lies strictly between, else the middle; a NaN lies nowhere."""
    return torch.where((y > low) & (y < high), y, (low + high) / 2)


def _bracket(
    compensator: Callable[[Tensor], Tensor], target: Tensor, scale: Tensor | float, floor: float, limit: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Two gaps around the answer and log Lambda there, all in logarithms, and whether ``limit`` reaches the target.

    The upper end grows from ``scale`` by 2, 4, 16, 256, ...: few evaluations also for a scale that is far off.
    """
    bottom = torch.full_like(target, floor)
    top = torch.as_tensor(scale, dtype=target.dtype, device=target.device).expand_as(target).clamp(floor, limit)
    at_bottom, at_top = compensator(bottom), compensator(top)
    factor = 2.0
    while True:
        short = at_top < target
        if not bool((short & (top < limit)).any()):
            break
        bottom, at_bottom = torch.where(short, top, bottom), torch.where(short, at_top, at_bottom)
        top = torch.where(short, (top * factor).clamp(max=limit), top)
        at_top = torch.where(short, compensator(top), at_top)
        factor = min(factor**2, limit / floor)
    return bottom.log(), at_bottom.log(), top.log(), at_top.log(), ~short
