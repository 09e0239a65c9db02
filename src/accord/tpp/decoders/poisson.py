"""Poisson: one constant rate for each mark, whatever the history."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accord.tpp.decoders.intensities import Intensities


class Poisson(Intensities):
    r"""Independent homogeneous Poisson processes, one for each mark: the baseline without history.

    .. math:: \lambda_k = e^{a_k}, \qquad \Lambda_k(\tau) = \tau e^{a_k}

    Args:
        marks: M.

    Example:
        >>> part = Poisson(marks=3)
        >>> part.compensator(torch.randn(2, 4), torch.tensor([0.0, 2.0])).tolist()
        [0.0, 6.0]
    """

    def __init__(self, marks: int) -> None:
        super().__init__()
        self.log_rates = nn.Parameter(torch.zeros(marks))

    def log_intensities(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``Intensities``; a view of M numbers."""
        return self.log_rates.expand(len(tau), -1)

    def compensators(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``Intensities``; (n, 1)."""
        return (self.log_rates.exp().sum() * tau).unsqueeze(1)

    def bound(self, h: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """See ``TimePart``; exact."""
        return self.log_rates.exp().sum().expand_as(high)
