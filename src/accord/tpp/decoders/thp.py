"""THP: intensities that are a softplus of a line in time (transformer Hawkes process)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accord.tpp.decoders.intensities import Intensities
from accord.tpp.numerics.softplus import OFFSET, log_softplus, softplus_mean


class THP(Intensities):
    r"""A sum of U softplus intensities of time, with an exact compensator.

    .. math:: \lambda_u(\tau) = \mathrm{sp}_{b_u}(x_u + a_u \tau), \quad x_u = v_u \cdot h + c_u + d_u, \quad
              \Lambda_u(\tau) = \frac{\tau}{b'_u} \int_0^1 \mathrm{softplus}(b'_u (x_u + a_u \tau s))\, ds

    with ``sp_b(x) = softplus(b' x)/b'`` and ``b' = b + 1e-3``. The integral is a difference of dilogarithms. ``a`` has
    any sign: an intensity may rise without bound, or fall to 0 and leave mass at infinity.

    Args:
        dim: D.
        units: U; the marks M in the base form and in -D, C in + and ++.

    Source: Zuo et al. 2020 (ICML), "Transformer Hawkes Process", https://arxiv.org/abs/2002.09291, section 3.2; there
    ``tau`` is divided by the time of the last event, which makes the model depend on the origin of time. Not here.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> part, h, tau = THP(4, 3).double(), torch.randn(1, 4).double(), torch.ones(1).double().requires_grad_()
        >>> (slope,) = torch.autograd.grad(part.compensator(h, tau), tau)
        >>> torch.allclose(slope.log(), torch.logsumexp(part.log_intensities(h, tau), 1))
        True
    """

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.history = nn.Linear(dim, units)  # v, d
        self.time = nn.Linear(1, units)  # a, c
        self.b = nn.Parameter(torch.ones(units))

    def log_intensities(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, U) log lambda_u(tau)."""
        return self._log_rates(*self._segment(h, tau))

    def compensators(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, U) Lambda_u(tau)."""
        return softplus_mean(*self._segment(h, tau)) * (tau.unsqueeze(1) / (self.b + OFFSET))

    def both(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Intensities``; history and time are projected once."""
        segment = self._segment(h, tau)
        mean = softplus_mean(*segment)
        return self._log_rates(*segment), mean * (tau.unsqueeze(1) / (self.b + OFFSET))

    def bound(self, h: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """(n,) the sum of each unit's larger end: every unit rises or falls throughout."""
        return torch.maximum(self.log_intensities(h, low), self.log_intensities(h, high)).exp().sum(1)

    @torch.no_grad()
    def project_(self) -> None:
        """The sharpness >= 0."""
        self.b.clamp_(min=0.0)

    def _segment(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """(n, U) b' x and b' a tau: where the argument of the softplus starts, and how far it moves."""
        sharpness = self.b + OFFSET
        # b' multiplies the U rows of the weights, not the n rows of the result.
        weight, bias = self.history.weight * sharpness.unsqueeze(1), (self.history.bias + self.time.bias) * sharpness
        start = nn.functional.linear(h, weight, bias)  # (n, U)
        return start, tau.unsqueeze(1) * (self.time.weight.squeeze(1) * sharpness)

    def _log_rates(self, start: Tensor, length: Tensor) -> Tensor:
        return log_softplus(start + length) - (self.b + OFFSET).log()
