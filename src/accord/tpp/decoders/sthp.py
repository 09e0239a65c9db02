"""STHP: the ground intensity and the marks of SMURF-THP, from saturating ramps in time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accord.tpp.decoders.part import MarkPart, TimePart
from accord.tpp.numerics.quadrature import nodes
from accord.tpp.numerics.softplus import log_scaled_softplus, scaled_softplus


class _Ramps(nn.Module):
    """``tanh(tanh(W1 h + b1) tau + W2 h + b2)``: units that rise or fall once, from a level to a level."""

    def __init__(self, dim: int, units: int) -> None:
        super().__init__()
        self.history = nn.Linear(dim, 2 * units)  # W1, b1 above W2, b2: one product

    def forward(self, h: Tensor, tau: Tensor, shares: Tensor) -> Tensor:
        """(J, n, U) from histories (n, D) and gaps (n,), at J shares of each gap."""
        slope, level = self.history(h).chunk(2, 1)  # (n, U) twice
        ends = torch.stack((slope.tanh() * tau.unsqueeze(1), level)).flatten(1)  # (2, n U)
        # One product instead of a broadcast sum: its backward pass sums over the nodes without a temporary.
        basis = torch.stack((shares, torch.ones_like(shares)), 1)  # (J, 2)
        return (basis @ ends).tanh_().view(len(shares), *level.shape)


class STHP(TimePart):
    r"""A ground intensity that follows ramps in time, with sharpness b learnable.

    .. math:: \lambda(\tau) = \mathrm{sp}_b(w_3 \cdot \tanh(\tanh(W_1 h + b_1)\,\tau + W_2 h + b_2) + b_3)

    The compensator is a Gauss-Legendre mean of 12 nodes in time, accurate while slopes times gaps stay moderate.

    Args:
        dim: D, the size of the history.
        units: U.
        nodes: of that mean.

    Source: Li et al. 2023, "SMURF-THP", https://arxiv.org/abs/2310.16336, as the time model of Bosser & Ben Taieb
        2024, https://arxiv.org/abs/2412.08590.

    Example:
        >>> part = STHP(dim=4, units=6)
        >>> part.compensator(torch.randn(3, 4), torch.tensor([0.0, 1.0, 2.0]))[0].item()
        0.0
    """

    nodes: int

    def __init__(self, dim: int, units: int, nodes: int = 12) -> None:
        super().__init__()
        self.ramps = _Ramps(dim, units)
        self.nodes = nodes
        self.out = nn.Linear(units, 1)
        self.sharpness = nn.Parameter(torch.ones(()))

    def density(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``TimePart``."""
        x, w = nodes(self.nodes, tau)
        inside = self._inside(h, tau, torch.cat((x, x.new_ones(1))))  # (J + 1, n): the nodes, and the event itself
        compensator = tau * (w @ scaled_softplus(inside[:-1], self.sharpness))
        return log_scaled_softplus(inside[-1], self.sharpness) - compensator, compensator

    def compensator(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``TimePart``."""
        x, w = nodes(self.nodes, tau)
        return tau * (w @ scaled_softplus(self._inside(h, tau, x), self.sharpness))

    def bound(self, h: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """See ``TimePart``; every unit is monotone, so each is largest at one of the ends."""
        here = low.new_ones(1)
        ends = torch.cat((self.ramps(h, low, here), self.ramps(h, high, here))) * self.out.weight  # (2, n, U)
        return scaled_softplus(ends.amax(0).sum(1) + self.out.bias, self.sharpness)

    @torch.no_grad()
    def project_(self) -> None:
        """B >= 0."""
        self.sharpness.clamp_(min=0)

    def _inside(self, h: Tensor, tau: Tensor, shares: Tensor) -> Tensor:
        """(J, n) argument of the softplus."""
        return self.out(self.ramps(h, tau, shares)).squeeze(2)


class STHPMarkHead(MarkPart):
    r"""Marks from ramps in time of their own.

    .. math:: p(k \mid \tau) = \mathrm{softmax}_k(M_3 \tanh(\tanh(M_1 h + c_1)\,\tau + M_2 h + c_2) + c_3)

    Args:
        dim: D, the size of the history.
        marks: M, also the number of hidden units.

    Source: as ``STHP``.

    Example:
        >>> head = STHPMarkHead(dim=4, marks=3)
        >>> head.log_marks(torch.randn(5, 4), torch.rand(5)).shape
        torch.Size([5, 3])
    """

    def __init__(self, dim: int, marks: int) -> None:
        super().__init__()
        self.ramps = _Ramps(dim, marks)
        self.out = nn.Linear(marks, marks)

    def log_marks(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``MarkPart``."""
        hidden = self.ramps(h, tau, tau.new_ones(1)).squeeze(0)  # (n, M)
        return torch.log_softmax(self.out(hidden), 1)
