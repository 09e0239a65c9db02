"""RMTPP: an intensity that grows or decays exponentially since the last event."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accord.tpp.decoders.part import TimePart
from accord.tpp.numerics.phi import phi

LEAST_RATE = 1e-10  # of mu: keeps log lambda and its gradient finite where the exponential has died out


class RMTPP(TimePart):
    r"""The recurrent marked temporal point process, with a base rate.

    .. math:: \lambda(\tau) = \mu + e^{x + w\tau}, \quad x = v \cdot h + b, \qquad
              \Lambda(\tau) = \mu\tau + \tau e^x \phi(w\tau), \quad \phi(z) = (e^z - 1)/z

    w has any sign; mu >= 1e-10 keeps the process from dying out where w < 0.

    Args:
        dim: D, the size of the history.

    Source: Du et al. 2016, "Recurrent marked temporal point processes", KDD; mu as in Bosser & Ben Taieb
        2024, https://arxiv.org/abs/2412.08590.

    Example:
        >>> part = RMTPP(dim=4)
        >>> log_density, compensator = part.density(torch.randn(5, 4), torch.rand(5))
        >>> bool((compensator > 0).all())
        True
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.level = nn.Linear(dim, 1)
        self.growth = nn.Parameter(torch.empty(()).uniform_(0, 1e-3))
        self.rate = nn.Parameter(torch.tensor(1e-2))

    def density(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``TimePart``."""
        x, z = self.level(h).squeeze(1), self.growth * tau  # (n,) twice
        compensator = self._integral(x, z, tau)
        return torch.logaddexp(self.rate.log(), x + z) - compensator, compensator

    def compensator(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``TimePart``."""
        return self._integral(self.level(h).squeeze(1), self.growth * tau, tau)

    def bound(self, h: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """See ``TimePart``; exact, because the intensity is monotone."""
        steepest = torch.maximum(self.growth * low, self.growth * high)
        return self.rate + torch.exp(self.level(h).squeeze(1) + steepest)

    @torch.no_grad()
    def project_(self) -> None:
        """Mu >= 1e-10."""
        self.rate.clamp_(min=LEAST_RATE)

    def _integral(self, x: Tensor, z: Tensor, tau: Tensor) -> Tensor:
        # phi(z) = e^z phi(-z): what grows joins the exponent, so that 0 * inf cannot happen before Lambda overflows.
        rising = z > 0
        exponent = torch.where(rising, x + z, x)
        return tau * (self.rate + torch.exp(exponent) * phi(torch.where(rising, -z, z)))
