"""LNM: the gap is drawn from a mixture of log-normal distributions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from accord.tpp.decoders.part import TimePart

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
HALF_ROOT = math.sqrt(0.5)
SWITCH = {torch.float64: 30.0, torch.float32: 12.0}  # standard deviations: from here on erfc is near its underflow


class LNM(TimePart):
    r"""A mixture of C log-normal distributions.

    .. math:: f(\tau) = \sum_c w_c\,\mathrm{LogNormal}(\tau; m_c, s_c), \quad
              w = \mathrm{softmax}(A_w h), \; m = A_m h, \; s = e^{A_s h}

    with affine maps A. Density, compensator and mean are closed; quantiles are not.

    Args:
        dim: D, the size of the history.
        components: C.

    Source: Shchur, Biloš & Günnemann 2020, https://arxiv.org/abs/1909.12127, section 3.2.

    Example:
        >>> part = LNM(dim=4, components=8)
        >>> part.log_density(torch.randn(5, 4), torch.ones(5)).shape
        torch.Size([5])
    """

    def __init__(self, dim: int, components: int) -> None:
        super().__init__()
        self.maps = nn.Linear(dim, 3 * components)  # A_w above A_m above A_s: one product

    def density(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``TimePart``."""
        mixture = self.mixture(h)
        return log_density(*mixture, tau), compensator(*mixture, tau)

    def log_density(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``TimePart``; without the compensator, which costs more than the density."""
        return log_density(*self.mixture(h), tau)

    def compensator(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``TimePart``."""
        return compensator(*self.mixture(h), tau)

    def mean(self, h: Tensor) -> Tensor:
        """(n,) expected gap, ``sum_c w_c exp(m_c + s_c^2/2)``; ``inf`` where it overflows."""
        return mean(*self.mixture(h))

    def mixture(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the weights, means and log standard deviations of log tau; (n, C) each."""
        return self.maps(h).chunk(3, 1)


def log_density(logits: Tensor, mean: Tensor, log_std: Tensor, tau: Tensor) -> Tensor:
    """Log density of a log-normal mixture.

    Args:
        logits: (n, ..., C) of the weights.
        mean: (n, ..., C) of log tau.
        log_std: (n, ..., C) of log tau.
        tau: (n, ...) > 0.

    Returns:
        (n, ...).
    """
    y = tau.log()
    z = (y.unsqueeze(-1) - mean) * torch.exp(-log_std)  # (n, ..., C)
    each = torch.addcmul(logits - log_std, z, z, value=-0.5)
    return torch.logsumexp(each, -1) - torch.logsumexp(logits, -1) - y - HALF_LOG_TWO_PI


def compensator(logits: Tensor, mean: Tensor, log_std: Tensor, tau: Tensor) -> Tensor:
    """``-log(1 - F(tau))`` of a log-normal mixture, accurate in both tails; 0 at 0.

    Args:
        logits: (n, C) of the weights.
        mean: (n, C) of log tau.
        log_std: (n, C) of log tau.
        tau: (n,) >= 0.

    Returns:
        (n,).
    """
    started = tau > 0
    y = torch.where(started, tau, 1.0).log()
    z = (y.unsqueeze(1) - mean) * torch.exp(-log_std)  # (n, C)
    log_w = torch.log_softmax(logits, 1)
    passed = (log_w.exp() * torch.erfc(z * -HALF_ROOT)).sum(1) / 2  # (n,) F, with all its digits where it is small
    early = passed < 0.5
    of_passed = -torch.log1p(-torch.where(early, passed, 0.0))
    of_left = -torch.logsumexp(log_w + _log_left(z), 1)
    return torch.where(started, torch.where(early, of_passed, of_left), 0.0)


def _log_left(z: Tensor) -> Tensor:
    """``log(1 - Phi(z))`` of the normal distribution; accurate in absolute terms below 0, in relative ones above.

    PyTorch's ``log_ndtr`` is a loop over scalars, its ``erfc`` is vectorised and on a processor 50 times faster.
    """
    switch = SWITCH[z.dtype]
    near = torch.log(torch.erfc(z.clamp(max=switch) * HALF_ROOT) / 2)
    x = z.clamp(min=switch)
    r = 1 / (x * x)
    # log(1 - r + 3 r^2 - 15 r^3 + 105 r^4 - ...), Mills' ratio for large x
    series = r * (-1 + r * (5 / 2 + r * (-37 / 3 + r * 353 / 4)))
    far = series - 0.5 * x * x - x.log() - HALF_LOG_TWO_PI
    return torch.where(z < switch, near, far)


def mean(logits: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """(n,) expectation of a log-normal mixture; arguments (n, C) as in ``log_density``."""
    return torch.logsumexp(torch.log_softmax(logits, 1) + mean + 0.5 * torch.exp(2 * log_std), 1).exp()
