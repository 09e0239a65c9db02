"""FNN: a monotone network is the compensator, its derivative the intensity (fully neural network)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from accord.tpp.decoders.intensities import Intensities
from accord.tpp.numerics.softplus import OFFSET, scaled_softplus, softplus

LEAST_RATE = 1e-10  # of mu: keeps log lambda finite where the network is flat, and the compensator unbounded


class FNN(Intensities):
    r"""Compensators that a network with non-negative weights draws over log time.

    .. math:: \Lambda_u(\tau) = G_u(\log\tau) - G_u(\log\tau_0) + \mu_u\tau \;\; (\tau \ge \tau_0), \quad
              \lambda_u = \mu_u + G_u'(\log\tau)/\tau, \quad
              G = \mathrm{sp}_b(W_2\,\mathrm{act}(W_1 [\log\tau; h] + b_1) + b_2)

    with the floor ``tau_0``, below which only ``mu_u tau`` remains, and the bounded-to-linear activation
    ``act(x) = (1 - (1 + a e^x)^(-1/a)) (1 + sp(x))``, ``a`` and the sharpness of ``sp`` learnable for each hidden unit.
    The derivative is carried along by hand: one pass, no derivative by autograd for each mark.

    Args:
        dim: D.
        units: U; the marks M in the base form and in -D, C in + and ++.
        fnn: width of the hidden layer.
        ground: whether the units are only parts of one compensator, with a scalar mu: the form of + and ++.
        floor: ``tau_0``.

    Source: Omi, Ueda & Aihara 2019 (NeurIPS), "Fully neural network based model for general temporal point processes",
    https://arxiv.org/abs/1905.09690; with marks and activation as in Enguehard et al. 2020,
    https://arxiv.org/abs/2007.13794, but with ``Lambda(0) = 0``.

    Example:
        >>> part = FNN(dim=4, units=3, fnn=8)
        >>> part.compensator(torch.randn(2, 4), torch.zeros(2)).tolist()
        [0.0, 0.0]
    """

    def __init__(self, dim: int, units: int, fnn: int, ground: bool = False, floor: float = 1e-6) -> None:
        super().__init__()
        self.hidden = nn.Linear(1 + dim, fnn)  # W1: column 0 meets log tau
        self.alpha = nn.Parameter(torch.ones(fnn))
        self.b_hidden = nn.Parameter(torch.ones(fnn))
        self.out = nn.Linear(fnn, units)
        self.b_out = nn.Parameter(torch.ones(units))
        self.mu = nn.Parameter(torch.rand(1 if ground else units))
        self.ground = ground
        self.floor = floor
        with torch.no_grad():
            for layer in (self.hidden, self.out):
                layer.weight.abs_()

    def log_intensities(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, U) log lambda_u(tau), or (n, 1) of the sum if ``ground``."""
        value, slope = self._hidden(h, tau.log().unsqueeze(0))
        return self._log_rates(self._output(value)[0], slope, tau)

    def compensators(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, U) Lambda_u(tau), or (n, 1) of the sum if ``ground``."""
        value, _ = self._hidden(h, self._ends(tau))
        return self._grown(self._output(value), tau)

    def both(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Intensities``; the network runs once, over both ends of each gap."""
        value, slope = self._hidden(h, self._ends(tau))
        o = self._output(value)  # (2, n, U)
        return self._log_rates(o[0], slope, tau), self._grown(o, tau)

    @torch.no_grad()
    def project_(self) -> None:
        """Weights, alpha and sharpnesses >= 0, mu >= 1e-10."""
        for value in (self.hidden.weight, self.out.weight, self.alpha, self.b_hidden, self.b_out):
            value.clamp_(min=0.0)
        self.mu.clamp_(min=LEAST_RATE)

    def _ends(self, tau: Tensor) -> Tensor:
        """(2, n) log time at the end of each gap, and where the network's part of it begins."""
        end = tau.clamp(min=self.floor).log()
        return torch.stack((end, torch.full_like(end, math.log(self.floor))))

    def _hidden(self, h: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """(S, n, F) hidden layer at log times u (S, n), and (n, F) act' at the first; the history is projected once."""
        weight = self.hidden.weight
        z = torch.addcmul(linear(h, weight[:, 1:], self.hidden.bias), u.unsqueeze(-1), weight[:, 0])  # (S, n, F)
        a, sharpness = self.alpha + OFFSET, self.b_hidden + OFFSET
        grown, inside = softplus(z + a.log()), sharpness * z  # log(1 + a e^z) and the argument of sp
        gate, ramp = -torch.expm1(-grown / a), 1 + softplus(inside) / sharpness  # the two factors of act
        opening = torch.exp(z[0] - (1 / a + 1) * grown[0])  # gate'
        return gate * ramp, opening * ramp[0] + gate[0] * torch.sigmoid(inside[0])

    def _output(self, value: Tensor) -> Tensor:
        """(..., n, U) W2 A + b2."""
        return linear(value, self.out.weight, self.out.bias)

    def _log_rates(self, o: Tensor, slope: Tensor, tau: Tensor) -> Tensor:
        """The tangent of the network: dz/du is a column of W1, and takes its place in W2."""
        by_u = linear(slope, self.out.weight * self.hidden.weight[:, 0])  # (n, U)
        rates = torch.sigmoid((self.b_out + OFFSET) * o) * by_u / tau.unsqueeze(1)
        if self.ground:
            rates = rates.sum(1, keepdim=True)
        return (self.mu + rates).log()

    def _grown(self, o: Tensor, tau: Tensor) -> Tensor:
        """Growth of the network over the gap, and of the rate mu."""
        end, start = scaled_softplus(o, self.b_out)  # (n, U) twice
        # Without the mask rounding in the matrix product could leave a trace of growth where there is no time for it.
        grown = torch.relu(end - start) * (tau > self.floor).to(tau.dtype).unsqueeze(1)
        if self.ground:
            grown = grown.sum(1, keepdim=True)
        return grown + self.mu * tau.unsqueeze(1)
