"""JointLNM: a log-normal mixture of gaps for each mark, and a prior over marks."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from accord.tpp.decoders import lnm
from accord.tpp.decoders.part import JointPart
from accord.tpp.heads import MarkHead

BLOCK = 1 << 20  # numbers in a temporary tensor: events are taken in blocks that stay in the processor's cache


class JointLNM(JointPart):
    r"""Log-normal mixtures given the mark; the mark given the gap is the posterior.

    .. math:: f(\tau) = \sum_k p(k \mid h) f(\tau \mid k), \qquad
              p(k \mid \tau) = p(k \mid h) f(\tau \mid k) / f(\tau)

    f(tau | k) is an ``LNM`` of C components, p(k | h) a time-free ``MarkHead``. Together they are one mixture of M C
    components, which gives the compensator.

    Args:
        dim: D, the size of the history.
        marks: M.
        components: C, for each mark.
        head: units of the hidden layer of p(k | h).

    Source: the joint model of Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590; with the posterior as its
        mark distribution, where their code takes the prior.

    Example:
        >>> part = JointLNM(dim=4, marks=3, components=8, head=5)
        >>> log_density, compensator, log_marks = part.joint(torch.randn(6, 4), torch.rand(6))
        >>> torch.allclose(log_marks.exp().sum(1), torch.ones(6))
        True
    """

    def __init__(self, dim: int, marks: int, components: int, head: int) -> None:
        super().__init__()
        self.shape = (3, marks, components)
        self.prior = MarkHead(dim, marks, head, timed=False)
        self.maps = nn.Linear(dim, 3 * marks * components)  # A_w of all marks above A_m above A_s

    def joint(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See ``JointPart``."""
        log_density, log_marks = self.log_joint(h, tau)
        return log_density, self.compensator(h, tau), log_marks

    def log_joint(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``JointPart``; without the compensator, which costs more than all the rest."""
        each = self._each(h, tau)
        ground = torch.logsumexp(each, 1, keepdim=True)  # (n, 1)
        return ground.squeeze(1), each - ground

    def density(self, h: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        """See ``TimePart``."""
        return self.log_density(h, tau), self.compensator(h, tau)

    def log_density(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``TimePart``."""
        return torch.logsumexp(self._each(h, tau), 1)

    def compensator(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``TimePart``."""
        return torch.cat([self._compensator(*block) for block in self._blocks(h, tau)])

    def log_marks(self, h: Tensor, tau: Tensor) -> Tensor:
        """See ``MarkPart``."""
        return torch.log_softmax(self._each(h, tau), 1)

    def _each(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n, M) log f(tau, k)."""
        given = [lnm.log_density(*self.mixtures(some), t.unsqueeze(1)) for some, t in self._blocks(h, tau)]
        return self.prior.log_marks(h, tau) + torch.cat(given)

    def _compensator(self, h: Tensor, tau: Tensor) -> Tensor:
        """(n,) of the one mixture of M C components."""
        logits, mean, log_std = self.mixtures(h)
        log_w = self.prior.log_marks(h, tau).unsqueeze(2) + torch.log_softmax(logits, 2)
        return lnm.compensator(log_w.flatten(1), mean.flatten(1), log_std.flatten(1), tau)

    def mixtures(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the weights, means and log standard deviations of log tau given each mark; (n, M, C) each."""
        return self.maps(h).unflatten(1, self.shape).unbind(1)

    def _blocks(self, h: Tensor, tau: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        rows = max(1, BLOCK // self.maps.out_features)
        return zip(h.split(rows), tau.split(rows), strict=True)
