"""The parts of a decoder: what predicts the time of the next event, and what predicts its mark."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn


class TimePart(nn.Module):
    """The distribution of the next gap, given the history h.

    Args:
        nodes: of the quadrature behind its compensator; None: that is closed.
    """

    nodes: int | None = None

    @abstractmethod
    def density(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and compensator.

        Args:
            h: (n, D).
            tau: (n,) gaps, at least the model's floor.

        Returns:
            log f(tau), with f = lambda exp(-Lambda), and Lambda(tau); (n,) each.
        """

    def log_density(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n,) log f(tau) alone; a family overrides it where that is cheaper than ``density``."""
        return self.density(h, tau)[0]

    @abstractmethod
    def compensator(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n,) Lambda(tau) >= 0, non-decreasing, 0 at tau = 0 exactly; ``tau`` may be 0 or any positive number."""

    def bound(self, h: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """(n,) an upper bound of the ground intensity on [low, high], for thinning; the tighter, the faster.

        Raises:
            NotImplementedError: for a family without one; those are sampled by the inverse of their compensator.
        """
        raise NotImplementedError(f"{type(self).__name__} has no bound of its intensity.")

    def project_(self) -> None:
        """Put parameters back where constraints want them; called after every optimiser step."""


class MarkPart(nn.Module):
    """The distribution of the next mark, given the history h and when the event happens."""

    @abstractmethod
    def log_marks(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, M) log p(k | tau); rows sum to 1 in probability."""

    def project_(self) -> None:
        """Put parameters back where constraints want them; called after every optimiser step."""


class JointPart(TimePart, MarkPart):
    """Time and mark from the same numbers, as in the base models."""

    @abstractmethod
    def joint(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log density (n,), compensator (n,) and log p(k | tau) (n, M) in one pass."""

    def log_joint(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """Log density (n,) and log p(k | tau) (n, M); a family overrides it where that is cheaper than ``joint``."""
        log_density, _, log_marks = self.joint(h, tau)
        return log_density, log_marks
