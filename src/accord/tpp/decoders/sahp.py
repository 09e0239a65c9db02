"""SAHP: intensities that relax exponentially from one level to another (self-attentive Hawkes process)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from accord.tpp.decoders.intensities import Intensities
from accord.tpp.numerics.quadrature import nodes
from accord.tpp.numerics.softplus import OFFSET, log_softplus, scaled_softplus, softplus

# Numbers (events x nodes x units) in one temporary of the quadrature. On a processor such a block stays in its cache;
# on an accelerator it only bounds the memory, and fewer launches count more.
BUDGET = {"cpu": 2**16}
BUDGET_ELSEWHERE = 2**26
GATE = 1 / 4  # of gamma tau: below it the slope of phi as a quotient loses digits; its series is then exact to 1e-15


class SAHP(Intensities):
    r"""A sum of U intensities that relax from a level eta to a level mu.

    .. math:: \lambda_u(\tau) = \mathrm{sp}_{b_u}(\mu_u + (\eta_u - \mu_u) e^{-\gamma_u \tau}), \quad
              \mu = \mathrm{GELU}(W_\mu h), \; \eta = \mathrm{GELU}(W_\eta h), \; \gamma = \mathrm{sp}_{g}(W_\gamma h)

    with ``sp_b(x) = softplus(b' x)/b'`` and ``b' = b + 1e-3``. With ``v = exp(-gamma s)`` as the variable the integrand
    of the compensator is smooth for every ``gamma tau``, and a few nodes make it nearly exact:

    .. math:: \Lambda_u(\tau) = \tau \Big[\mathrm{sp}(\mu) + \phi(-\gamma\tau)
              \int_0^1 \frac{\mathrm{sp}(\mu + (\eta-\mu) v) - \mathrm{sp}(\mu)}{v} dx\Big], \quad
              v = e^{-\gamma\tau} + (1 - e^{-\gamma\tau}) x

    Args:
        dim: D.
        units: U; the marks M in the base form and in -D, C in + and ++.
        nodes: of Gauss-Legendre quadrature in training. Without gradients there are four times as many: trained models
            change so abruptly (b' times eta - mu beyond 1000) that 8 nodes are off by 1e-3, and 32 by less than 1e-5.

    Source: Zhang et al. 2020 (ICML), "Self-attentive Hawkes process", https://arxiv.org/abs/1907.07561, section 4;
    there the integral is a Monte Carlo estimate.

    Example:
        >>> part = SAHP(dim=4, units=3)
        >>> part.compensators(torch.randn(2, 4), torch.tensor([0.0, 1.0]))[0].tolist()
        [0.0, 0.0, 0.0]
    """

    nodes: int

    def __init__(self, dim: int, units: int, nodes: int = 8) -> None:
        super().__init__()
        self.levels = nn.Linear(dim, 2 * units, bias=False)  # W_mu above W_eta: one product
        self.rate = nn.Linear(dim, units, bias=False)
        self.b_rate = nn.Parameter(torch.ones(units))
        self.b = nn.Parameter(torch.ones(units))
        self.nodes = nodes

    def log_intensities(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, U) log lambda_u(tau)."""
        return self._log_rates(*self._curves(h, tau))

    def compensators(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, U) Lambda_u(tau)."""
        return relaxing_mean(*self._curves(h, tau), self._count()) * (tau.unsqueeze(1) / (self.b + OFFSET))

    def both(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Intensities``; the history is projected once."""
        curves = self._curves(h, tau)
        mean = relaxing_mean(*curves, self._count())
        return self._log_rates(*curves), mean * (tau.unsqueeze(1) / (self.b + OFFSET))

    def bound(self, h: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """(n,) the sum of each unit's larger end: every unit rises or falls throughout."""
        return torch.maximum(self.log_intensities(h, low), self.log_intensities(h, high)).exp().sum(1)

    @torch.no_grad()
    def project_(self) -> None:
        """Both sharpnesses >= 0."""
        self.b.clamp_(min=0.0)
        self.b_rate.clamp_(min=0.0)

    def _count(self) -> int:
        return self.nodes if torch.is_grad_enabled() else 4 * self.nodes

    def _curves(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(n, U) b' mu, b' (eta - mu) and gamma tau."""
        end, start = (gelu(self.levels(h)) * (self.b + OFFSET).repeat(2)).chunk(2, 1)
        return end, start - end, scaled_softplus(self.rate(h), self.b_rate) * tau.unsqueeze(1)

    def _log_rates(self, end: Tensor, change: Tensor, path: Tensor) -> Tensor:
        return log_softplus(torch.addcmul(end, change, torch.exp(-path))) - (self.b + OFFSET).log()


def relaxing_mean(end: Tensor, change: Tensor, path: Tensor, count: int) -> Tensor:
    """``int_0^1 softplus(end + change exp(-path x)) dx``, the mean of softplus on the way from one level to another.

    All nodes of some events at a time, values and slopes together: no (n, nodes, U) is ever kept.

    Args:
        end: (n, U).
        change: (n, U).
        path: (n, U) >= 0.
        count: number of nodes.

    Returns:
        (n, U).

    Example:
        >>> end, change = torch.zeros(1, 1), torch.ones(1, 1)
        >>> torch.allclose(relaxing_mean(end, change, torch.zeros(1, 1), 8), softplus(end + change))
        True
    """
    slopes = torch.is_grad_enabled() and any(x.requires_grad for x in (end, change, path))
    return _Relaxing.apply(end, change, path, count, slopes)[0]


class _Relaxing(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(end: Tensor, change: Tensor, path: Tensor, count: int, slopes: bool) -> tuple[Tensor, ...]:
        rows = max(1, BUDGET.get(end.device.type, BUDGET_ELSEWHERE) // (count * end.shape[1]))
        chunks = zip(*(x.split(rows) for x in (end, change, path)), strict=True)
        parts = [_relaxing(a, b, c, count, slopes) for a, b, c in chunks]
        return tuple(torch.cat(values) for values in zip(*parts, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.count, _ = inputs
        ctx.save_for_backward(*tensors, *output[1:])
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if grads[0] is None:
            return (None,) * 5
        end, change, path, *slopes = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is wanted: the slopes need a graph of their own
            _, *slopes = _relaxing(end, change, path, ctx.count, slopes=True)
        return *(grads[0] * slope for slope in slopes), None, None


def _relaxing(end: Tensor, change: Tensor, path: Tensor, count: int, slopes: bool) -> tuple[Tensor, ...]:
    """The mean, and with ``slopes`` also its derivatives by the three arguments.

    With v = exp(-path x) as the variable it is ``softplus(end) + phi(-path) Q``, Q the mean over v of the excess
    ``(softplus(end + change v) - softplus(end))/v``.
    """
    x, w = (value.reshape(-1, 1, 1) for value in nodes(count, end))  # (J, 1, 1)
    left = torch.exp(-path)  # (n, U) share of the change that is still to come
    v = (left - 1) * (1 - x) + 1  # (J, n, U)
    inside = torch.addcmul(end, change, v)
    share = w / v
    base = softplus(end)
    excess = share * (softplus(inside) - base)
    total = excess.sum(0)  # (n, U) Q
    scale, scale_by_path = _scale(path, left)
    value = torch.addcmul(base, scale, total)
    if not slopes:
        return (value,)
    rising, at_end = torch.sigmoid(inside), torch.sigmoid(end)
    pull = share * rising
    by_end = torch.addcmul(at_end, scale, pull.sum(0) - at_end * share.sum(0))
    by_change = scale * torch.tensordot(w.flatten(), rising, 1)
    by_left = torch.tensordot(1 - x.flatten(), change * pull - excess / v, 1)
    by_path = scale_by_path * total - scale * left * by_left
    return value, by_end, by_change, by_path


def _scale(path: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """``phi(-path) = (1 - exp(-path))/path`` and its slope; ``left`` is ``exp(-path)``."""
    positive = path.clamp(min=torch.finfo(path.dtype).tiny)
    scale = -torch.expm1(-positive) / positive
    # phi(-2u) = e^-u sinh(u)/u, and (sinh(u)/u)' = u/3 + u^3/30 + u^5/840 + u^7/45360 + ...
    u = path.clamp(max=GATE) / 2
    q = u * u
    odd = (((q / 45360 + 1 / 840) * q + 1 / 30) * q + 1 / 3) * u
    near = (torch.exp(-u) * odd - scale) / 2
    far = (left - scale) / path.clamp(min=GATE)
    # A choice by weights 0 and 1: ``where`` with a random mask is ten times slower on a processor.
    return scale, torch.lerp(near, far, (path - GATE).sign().clamp(min=0))
