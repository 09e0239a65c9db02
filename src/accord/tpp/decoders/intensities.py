"""Intensities: decoders that sum the intensities of U units; with U = M, unit k is mark k."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from accord.tpp.decoders.part import JointPart


class Intensities(JointPart):
    """A family with lambda = sum_u lambda_u, from which everything else follows.

    As a joint part its units are the marks: p(k | tau) = lambda_k / lambda. As a time part alone the number of its
    units is free. As a mark part alone it gives the mark distribution of the joint form, its compensator unused.
    """

    @abstractmethod
    def log_intensities(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, U) log lambda_u(tau)."""

    @abstractmethod
    def compensators(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, U) Lambda_u(tau), or (n, 1) where a family can only sum."""

    def both(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """``log_intensities`` and ``compensators``; a family overrides it to share work between them."""
        return self.log_intensities(h, tau), self.compensators(h, tau)

    def joint(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``JointPart``."""
        units, compensators = self.both(h, tau)  # (n, U) twice
        ground = torch.logsumexp(units, 1, keepdim=True)  # (n, 1)
        compensator = compensators.sum(1)
        return ground.squeeze(1) - compensator, compensator, units - ground

    def density(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``TimePart``."""
        units, compensators = self.both(h, tau)
        compensator = compensators.sum(1)
        return torch.logsumexp(units, 1) - compensator, compensator

    def compensator(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``TimePart``."""
        return self.compensators(h, tau).sum(1)

    def log_marks(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``MarkPart``."""
        return torch.log_softmax(self.log_intensities(h, tau), 1)
