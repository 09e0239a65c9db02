"""Hawkes: the classical self-exciting process, a reference for neural ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from accord.tpp.decoders.intensities import Intensities
from accord.tpp.errors import TPPError, nearest

DECAYS = ("pair", "global")


class Hawkes(Intensities):
    r"""The multivariate Hawkes process with exponential kernels; one unit for each mark.

    .. math:: \lambda_i(t) = \mu_i + \sum_{(s, j): s < t} \alpha_{ij} \beta_{ij} e^{-\beta_{ij} (t - s)}, \quad
              \lambda_i(\tau) = \mu_i + \sum_j \alpha_{ij} \beta_{ij} e^{-\beta_{ij} \tau} R_{ij}, \quad
              \Lambda_i(\tau) = \mu_i \tau + \sum_j \alpha_{ij} (1 - e^{-\beta_{ij} \tau}) R_{ij}

    An event of mark j causes ``alpha_ij`` events of mark i on average. All that the past says is in the decayed counts
    ``R_ij``, the sum of ``exp(-beta_ij age)`` over the past events of mark j: that is the history h of ``HawkesState``.

    The parameters are the logarithms of mu, alpha and beta. They are positive without projection, and a step of the
    optimiser changes them by a factor, whatever the unit of time; a step of fixed size on a decay would be nothing
    where gaps are 1e-4 and would reach zero at once where they are 1e4.

    Args:
        marks: M.
        decay: ``pair``: one beta for every pair of marks, h of size M²; ``global``: one for all, h of size M, which
            many marks call for: with 50 it takes a hundredth of the time and memory.
        scale: a typical gap, in units of time; at the start beta is 1/scale, mu is 1/(2 M scale) and alpha 1/(2 M).

    Raises:
        TPPError: for an unknown ``decay``, or sizes that are not positive.

    Source: Hawkes 1971, https://doi.org/10.1093/biomet/58.1.83.

    Example:
        >>> decoder = Hawkes(2, decay="global")
        >>> decoder.mu.tolist(), decoder.size
        ([0.25, 0.25], 2)
        >>> nothing = torch.zeros(1, decoder.size)
        >>> decoder.compensator(nothing, torch.tensor([4.0])).tolist()
        [2.0]
    """

    def __init__(self, marks: int, decay: str = "pair", scale: float = 1.0) -> None:
        super().__init__()
        if decay not in DECAYS:
            raise TPPError(f"unknown decay {decay!r}.{nearest(decay, DECAYS)}")
        if marks < 1 or not scale > 0:
            raise TPPError(f"marks={marks}, scale={scale}; expected positive numbers.")
        self.marks, self.targets = marks, marks if decay == "pair" else 1
        self.size = self.targets * marks
        start = torch.tensor([0.5 / (marks * scale), 0.5 / marks, 1 / scale]).log()
        self.log_mu = nn.Parameter(start[0].repeat(marks))
        self.log_alpha = nn.Parameter(start[1].repeat(marks, marks))
        self.log_beta = nn.Parameter(start[2].repeat(self.targets, self.targets))

    @property
    def mu(self) -> Tensor:
        """(M,) base rates."""
        return self.log_mu.exp()

    @property
    def alpha(self) -> Tensor:
        """(M, M) events of mark i that one of mark j causes directly."""
        return self.log_alpha.exp()

    @property
    def beta(self) -> Tensor:
        """(M, M) decay of the effect of j on i; (1, 1) if there is one for all."""
        return self.log_beta.exp()

    def log_intensities(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``Intensities``; h is that of ``HawkesState``."""
        return self._log_intensities(h, tau, self.alpha, self.beta)

    def compensators(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``Intensities``."""
        return self._compensators(h, tau, self.alpha, self.beta)

    def both(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Intensities``."""
        alpha, beta = self.alpha, self.beta
        return self._log_intensities(h, tau, alpha, beta), self._compensators(h, tau, alpha, beta)

    def bound(self, h: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """See ``TimePart``: without an event the intensity only falls."""
        return self.log_intensities(h, low).exp().sum(1)

    def _log_intensities(self, h: Tensor, tau: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        left = (-beta * tau[:, None, None]).exp() * h.view(-1, self.targets, self.marks)  # (n, M or 1, M)
        return (self.mu + caused(alpha * beta, left)).log()

    def _compensators(self, h: Tensor, tau: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
        gone = -(-beta * tau[:, None, None]).expm1() * h.view(-1, self.targets, self.marks)  # (n, M or 1, M)
        return self.mu * tau.unsqueeze(1) + caused(alpha, gone)


def caused(weight: Tensor, counts: Tensor) -> Tensor:
    """(n, M) ``sum_j weight_ij counts_ij``, from weights (M, M) and counts (n, M, M), or (n, 1, M) for any i."""
    if counts.shape[1] == 1:
        return counts.squeeze(1) @ weight.T
    return (weight * counts).sum(2)  # einsum would leave gradients whose layout slows down all that follows
