r"""Continuous ranked probability score (CRPS) of the predicted gap, :math:`\int (F(u) - 1\{\tau \le u\})^2 du`.

Lower is better. It is in the units of its axis and, of a prediction that is one sure gap, the absolute error. For
log-normal mixtures it is known in closed form, for the gap itself and for its logarithm; for any other model
``crps_quadrature`` integrates.

Letters: n events, C components.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from accord.tpp.errors import TPPError

PAIRS = 2**20  # numbers held at once per intermediate of the C x C terms: 8 MiB, near the processor
NODES = 8  # of Gauss-Legendre in each panel
PANELS = (4, 8, 16, 32, 64, 128)
TOLERANCE = 1e-9  # relative change that ends the refinement
FAR = 40.0  # e^-40 of an integral is below its last digit
REACH = 9  # doublings of a step in log time: up to 2^9 - 1, a factor e^511
BISECTIONS = 30


def crps_log_time(log_w: Tensor, m: Tensor, s: Tensor, tau: Tensor) -> Tensor:
    r"""CRPS of log(tau) under a log-normal mixture: every order of magnitude counts alike, whatever the unit of time.

    .. math:: \sum_c w_c A(y - m_c, s_c) - \tfrac12 \sum_{cd} w_c w_d A\big(m_c - m_d, \sqrt{s_c^2 + s_d^2}\big),
              \qquad A(m, s) = E|m + sZ| = 2 s \varphi(m/s) + m (2 \Phi(m/s) - 1), \quad y = \log\tau

    Args:
        log_w: (n, C) log weights, normalised.
        m: (n, C) means of log(tau).
        s: (n, C) standard deviations of log(tau).
        tau: (n,) > 0.

    Returns:
        (n,) float64, differentiable.

    Source:
        Grimit et al. 2006, https://doi.org/10.1256/qj.05.235.

    Example:
        >>> one = torch.ones(1, 1)
        >>> crps_log_time(0 * one, 0 * one, one, torch.ones(1))  # of N(0, 1) at 0: (sqrt 2 - 1) / sqrt pi
        tensor([0.2337], dtype=torch.float64)
    """
    log_w, m, s, y = log_w.double(), m.double(), s.double(), tau.double().log().unsqueeze(1)
    to_event = (log_w.exp() * _absolute(y - m, s)).sum(1)  # (n,)
    between = []
    for lw, mean, sd in _chunks(log_w, m, s):
        pair = _absolute(mean.unsqueeze(2) - mean.unsqueeze(1), torch.hypot(sd.unsqueeze(2), sd.unsqueeze(1)))
        between.append(torch.einsum("nc,ncd,nd->n", lw.exp(), pair, lw.exp()))
    return to_event - torch.cat(between) / 2


def crps_time(log_w: Tensor, m: Tensor, s: Tensor, tau: Tensor) -> Tensor:
    r"""CRPS of tau under a log-normal mixture, in units of time; mostly about the largest gaps.

    .. math:: \tau - 2 E\min(X, \tau) + E\min(X, X')

    with independent draws X, X'. It equals the usual :math:`E|X - \tau| - \tfrac12 E|X - X'|`, but where that is a
    difference of means :math:`e^{m + s^2/2}`, which overflow, minima stay of the order of ordinary draws:

    .. math:: E\min(X_c, \tau) = e^{m_c + s_c^2/2} \Phi(z - s_c) + \tau \Phi(-z), \quad z = (\log\tau - m_c)/s_c, \\
              E[X_c; X_c < X_d] = e^{m_c + s_c^2/2}\, \Phi\big((m_d - m_c - s_c^2) / \sqrt{s_c^2 + s_d^2}\big)

    where each product is taken as a sum of logarithms.

    Args:
        log_w: (n, C) log weights, normalised.
        m: (n, C) means of log(tau).
        s: (n, C) standard deviations of log(tau).
        tau: (n,) >= 0, units of time.

    Returns:
        (n,) float64, differentiable for tau > 0.

    Source:
        Gneiting & Raftery 2007, https://doi.org/10.1198/016214506000001437, equation 21.

    Example:
        >>> one = torch.ones(1, 1)
        >>> crps_time(0 * one, 0 * one, one, torch.ones(1))  # of a standard log-normal at its median
        tensor([0.2674], dtype=torch.float64)
    """
    log_w, m, s, tau = log_w.double(), m.double(), s.double(), tau.double()
    log_mean = m + s.square() / 2  # (n, C)
    z = (tau.log().unsqueeze(1) - m) / s  # (n, C)
    below = (log_w + log_mean + torch.special.log_ndtr(z - s)).logsumexp(1).exp()  # (n,) E[X; X < tau]
    above = (log_w.exp() * torch.special.ndtr(-z)).sum(1)  # (n,) P(X > tau)
    smaller = []
    for lw, mean, sd, lm in _chunks(log_w, m, s, log_mean):
        apart = mean.unsqueeze(1) - mean.unsqueeze(2) - sd.square().unsqueeze(2)  # (rows, C, C) m_d - m_c - s_c²
        ahead = torch.special.log_ndtr(apart / torch.hypot(sd.unsqueeze(2), sd.unsqueeze(1)))
        both = (lw + lm).unsqueeze(2) + lw.unsqueeze(1) + ahead  # (rows, C, C)
        smaller.append(2 * both.flatten(1).logsumexp(1).exp())
    return tau - 2 * (below + tau * above) + torch.cat(smaller)


@dataclass(frozen=True)
class Quadrature:
    """An integral and what the last refinement changed.

    Args:
        value: (n,) float64; ``inf`` where some mass never comes.
        change: (n,) absolute difference from the value on half as many panels: far above the error once nodes resolve
            the distribution, of its order where they do not (modes apart by more than 1,000 times their width).
    """

    value: Tensor
    change: Tensor


@torch.no_grad()
def crps_quadrature(compensator: Callable[[Tensor], Tensor], tau: Tensor) -> Quadrature:
    r"""CRPS of tau under any model that has a compensator, in units of time.

    .. math:: \int_0^\tau F(u)^2 du + \int_\tau^\infty e^{-2 \Lambda(u)} du, \qquad F = 1 - e^{-\Lambda}

    Both integrals are taken in x with ``log u = c + d sinh x``: c is the median of log u and d half the distance of its
    quartiles, found by bisection, so nodes lie where F rises, whatever its scale, and spread out where it does not.
    Panels of 8 Gauss-Legendre nodes are doubled until no event changes by more than 1e-9 of its value, or there are
    128 on each side of tau. Takes 500 to 2,000 calls of ``compensator`` for smooth distributions.

    Args:
        compensator: u (n,) float64 -> Lambda(u) (n,), each event with its own history. In float32 its rounding is above
            the tolerance, and all 4,000 calls are made.
        tau: (n,) >= 0, units of time.

    Returns:
        ``Quadrature`` with the score of each event.

    Raises:
        TPPError: if a compensator is NaN.

    Source:
        Matheson & Winkler 1976, https://doi.org/10.1287/mnsc.22.10.1087.

    Example:
        >>> crps_quadrature(lambda u: u, torch.ones(1)).value  # exponential: tau + 2 exp(-tau) - 3/2
        tensor([0.2358], dtype=torch.float64)
    """
    tau = tau.double()

    def at(y: Tensor) -> Tensor:  # (n,) Lambda at log time y
        found = compensator(y.exp()).double()
        if bool(found.isnan().any()):
            raise TPPError(f"the compensator is NaN for {int(found.isnan().sum())} of {len(tau)} events.")
        return found

    begin = tau.log().clamp(min=-27.0)  # (n,) any finite place near the distribution
    low, centre, high = (_solve(at, begin, -math.log1p(-p)) for p in (0.25, 0.5, 0.75))
    width = ((high - low) / 2).clamp(min=1e-8)  # (n,)
    middle = torch.maximum(tau.log(), centre - FAR)  # (n,) log tau, or so far below the median that it is all the same
    end, resolved = _tail(at, torch.maximum(middle, centre))
    x0, x1, x2 = (((y - centre) / width).asinh() for y in (middle - FAR, middle, end))

    def left(y: Tensor) -> Tensor:
        return torch.expm1(-at(y)).square() * y.exp()

    def right(y: Tensor) -> Tensor:
        return (y - 2 * at(y)).exp()

    value = change = torch.full_like(tau, torch.inf)
    for panels in PANELS:
        before = value
        value = torch.zeros_like(tau)
        for position, weight in zip(*_rule(panels), strict=True):
            for integrand, a, b in ((left, x0, x1), (right, x1, x2)):
                x = a + (b - a) * position
                value += weight * (b - a) * width * x.cosh() * integrand(centre + width * x.sinh())
        change = (value - before).abs()
        if bool((change <= TOLERANCE * value)[resolved].all()):
            break
    return Quadrature(value.where(resolved, torch.inf), change.where(resolved, 0.0))


def _absolute(m: Tensor, s: Tensor) -> Tensor:
    """E|m + sZ| for a standard normal Z."""
    scaled = m / s
    return s * math.sqrt(2 / math.pi) * (-scaled.square() / 2).exp() + m * torch.erf(scaled / math.sqrt(2))


def _chunks(*values: Tensor) -> zip[tuple[Tensor, ...]]:
    """Rows of (n, C) tensors, so many at once that their (rows, C, C) intermediates stay small."""
    rows = max(1, PAIRS // values[0].shape[1] ** 2)
    return zip(*(v.split(rows) for v in values), strict=True)


def _solve(at: Callable[[Tensor], Tensor], begin: Tensor, level: float) -> Tensor:
    """(n,) y with Lambda(e^y) = level, roughly; the upper end of the search where there is none."""
    low, high, step = begin, begin, 1.0
    for _ in range(REACH):
        below, above = at(low) > level, at(high) < level
        if not bool((below | above).any()):
            break
        low, high = torch.where(below, low - step, low), torch.where(above, high + step, high)
        step *= 2
    for _ in range(BISECTIONS):
        y = (low + high) / 2
        under = at(y) < level
        low, high = torch.where(under, y, low), torch.where(under, high, y)
    return high


def _tail(at: Callable[[Tensor], Tensor], top: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) y above which e^y S² is e^-40 of what it can be at ``top``, and (n,) whether there is one."""
    end, resolved, step = top, torch.zeros_like(top, dtype=torch.bool), 1.0
    for _ in range(REACH):
        end = torch.where(resolved, end, end + step)
        resolved = 2 * at(end) - (end - top) >= FAR
        if bool(resolved.all()):
            break
        step *= 2
    return end, resolved


def _rule(panels: int) -> tuple[list[float], list[float]]:
    """Positions and weights of a composite Gauss-Legendre rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    positions = (np.arange(panels)[:, None] + (nodes + 1) / 2) / panels  # (panels, 8)
    return positions.ravel().tolist(), np.tile(weights / 2 / panels, panels).tolist()
