"""NextEvent: the distribution of the next event after given histories."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.tpp.decoders import lnm
from accord.tpp.decoders.joint_lnm import JointLNM
from accord.tpp.decoders.lnm import LNM
from accord.tpp.decoders.part import TimePart
from accord.tpp.errors import TPPError
from accord.tpp.inverse import inverse
from accord.tpp.mixture_inverse import mixture_inverse
from accord.tpp.model import Decoded, PointProcess
from accord.tpp.numerics.quadrature import nodes

ROWS = 1 << 16  # rows decoded at once where one history is asked about at many gaps
NODES = 96  # of the mean, in log time
EARLY = 1e-4  # the mean is integrated from this quantile
FAR = 40.0  # to where the compensator is this large
LOST = 1e-6  # a mean is infinite if so much never comes
GRID = 128  # gaps among which the mode is looked for before it is refined
THIRDS = 30  # refinements of the mode: (2/3)^30 of a grid step is below 1e-6


@dataclass(frozen=True)
class NextEvent:
    """When the next event comes and which mark it has, for n histories.

    Args:
        model: in evaluation mode.
        h_time: (n, D) histories for the time.
        h_mark: (n, D) histories for the mark.
        limit: gaps above it count as infinite.
        scale: a usual gap, where searches begin.
        elapsed: (n,) time that has passed since the last event without a new one; None: none. All gaps count from the
            last event, and all distributions are conditional on this time.
    """

    model: PointProcess
    h_time: Tensor
    h_mark: Tensor
    limit: float
    scale: float
    elapsed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.h_time)

    def decode(self, tau: Tensor) -> Decoded:
        """Density, compensator and marks at one gap (n,) for each history; see ``PointProcess.decode``."""
        return self.model.decode(self.h_time, self.h_mark, tau)

    def quantile(self, share: float) -> Tensor:
        """(n,) the gap below which the next event comes with probability ``share``; inf if that is never reached.

        Args:
            share: in [0, 1).
        """
        if not 0 <= share < 1:
            raise TPPError(f"there is no quantile of {share}; expected a share in [0, 1).")
        return self.reach(self.h_time.new_full((len(self),), -math.log1p(-share)))

    def median(self) -> Tensor:
        """(n,) the gap that the next event exceeds with probability 1/2."""
        return self.quantile(0.5)

    def reach(self, hazard: Tensor, scale: Tensor | float | None = None) -> Tensor:
        """(n,) the gap at which the compensator has grown by ``hazard`` (n,) since ``elapsed``: samples, if Exp(1).

        Args:
            hazard: (n,).
            scale: where the search begins, one for all or (n,); None: at a usual gap.
        """
        part, floor = self.model.time_part, self.model.floor
        mixture = mixture_of(part, self.h_time) if self.elapsed is None else None
        if mixture is not None:
            return mixture_inverse(*mixture, hazard, floor=floor, limit=self.limit)
        if self.elapsed is not None:
            hazard = hazard + part.compensator(self.h_time, self.elapsed)

        gap = inverse(
            lambda tau: part.compensator(self.h_time, tau),
            hazard,
            scale=self.scale if scale is None else scale,
            floor=floor,
            limit=self.limit,
        )
        return gap if self.elapsed is None else torch.maximum(gap, self.elapsed)

    def mean(self) -> Tensor:
        r"""(n,) expected gap, :math:`\int_0^\infty \exp(-\Lambda(u))\, du`; inf where more than 1e-6 never comes.

        In closed form for log-normal mixtures, whose tails may be heavy; else by quadrature in log time, from a low
        quantile to where the survival is ``exp(-40)``, or to ``limit``.
        """
        part = self.model.time_part
        mixture = mixture_of(part, self.h_time)
        if mixture is not None:
            return mixture_mean(*mixture, self.elapsed)
        begin, comes = self.quantile(EARLY), torch.isfinite(self.quantile(1 - LOST))  # (n,) each
        begin = begin.clamp(max=self.limit)
        high = self.reach(torch.full_like(begin, FAR)).clamp(max=self.limit)
        x, w = nodes(NODES, self.h_time)  # (Q,)
        width = torch.log(high) - torch.log(begin)  # (n,)
        u = torch.exp(torch.log(begin)[:, None] + width[:, None] * x)  # (n, Q)
        gone = 0.0 if self.elapsed is None else part.compensator(self.h_time, self.elapsed)[:, None]
        survival = torch.exp(gone - self._many(part.compensator, u))  # (n, Q)
        return torch.where(comes, begin + width * ((survival * u) @ w), torch.inf)

    def mode(self) -> Tensor:
        """(n,) the gap with the highest density; for a falling density that is the floor, or ``elapsed``.

        The best of a grid in log time, and for mixtures among the modes of their components, is refined.
        """
        low = self.h_time.new_full((len(self),), self.model.floor)
        if self.elapsed is not None:
            low = torch.maximum(low, self.elapsed)
        high = torch.maximum(self.quantile(0.99).clamp(max=self.limit), low * 1.01)
        bottom, length = low.log()[:, None], (high / low).log()[:, None]  # (n, 1) each
        y = bottom + length * torch.linspace(0, 1, GRID, dtype=low.dtype, device=low.device)  # (n, GRID)
        mixture = mixture_of(self.model.time_part, self.h_time)
        if mixture is not None:
            _, mean, log_std = mixture
            y = torch.cat([y, torch.maximum(mean - torch.exp(2 * log_std), bottom)], 1)
        peak = self._best(y)
        step = length.squeeze(1) / (GRID - 1)
        found = [low.log(), peak, self._climbed(peak, step, low.log())]
        if mixture is not None:  # a component may be narrower than the grid
            found.append(self._climbed(peak, torch.exp(mixture[2].amin(1)), low.log()))
        return torch.maximum(torch.exp(self._best(torch.stack(found, 1))), low)

    def _best(self, y: Tensor) -> Tensor:
        """(n,) those of the log times (n, Q) with the highest density; the first of equals."""
        return y.gather(1, self._many(self.model.time_part.log_density, torch.exp(y)).argmax(1, keepdim=True))[:, 0]

    def _climbed(self, peak: Tensor, step: Tensor, low: Tensor) -> Tensor:
        """(n,) the log time with the highest density within a step of the peak, if there is one hill; not below low."""
        left, right = torch.maximum(peak - step, low), peak + step
        for _ in range(THIRDS):
            third = (right - left) / 3
            a, b = left + third, right - third
            rising = self._log_density(a) < self._log_density(b)
            left, right = torch.where(rising, a, left), torch.where(rising, right, b)
        return (left + right) / 2

    def _log_density(self, y: Tensor) -> Tensor:
        return self.model.time_part.log_density(self.h_time, torch.exp(y))

    def log_marks(self, tau: Tensor) -> Tensor:
        """(n, M) log p(k | tau): which mark, if the next event comes at ``tau`` (n,)."""
        return self.model.mark_part.log_marks(self.h_mark, tau.clamp(min=self.model.floor))

    def marginal_marks(self, points: int = 16) -> Tensor:
        """(n, M) p(k): which mark, whenever the next event comes; a mean over quantiles of the time.

        Args:
            points: Gauss-Legendre nodes in the distribution function. Those that are never reached are left out, and
                the weights of the others add up to 1; without any the row is NaN.
        """
        x, w = nodes(points, self.h_time)  # (Q,)
        total = self.h_mark.new_zeros(len(self), self.model.marks)  # (n, M)
        weight = self.h_mark.new_zeros(len(self))
        near = self.h_time.new_full((len(self),), self.scale)
        for hazard, part in zip(-torch.log1p(-x), w, strict=True):
            tau = self.reach(hazard.expand(len(self)), near)
            reached = torch.isfinite(tau)
            near = torch.where(reached, tau, near)  # the next quantile is not far
            chance = torch.exp(self.log_marks(near))
            total += torch.where(reached[:, None], part * chance, 0)
            weight += part * reached
        return total / weight[:, None]

    def _many(self, function: Callable[[Tensor, Tensor], Tensor], tau: Tensor) -> Tensor:
        """(n, Q) of a function of histories and gaps, at Q gaps (n, Q) for each history, some rows at a time."""
        count = tau.shape[1]
        step = max(1, ROWS // count)
        found = [
            function(h.repeat_interleave(count, 0), t.reshape(-1)).view(-1, count)
            for h, t in zip(self.h_time.split(step), tau.split(step), strict=True)
        ]
        return torch.cat(found)


def mixture_of(part: TimePart, h: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Logits of the weights, means and log standard deviations (n, C) of log tau; None for families without."""
    if isinstance(part, LNM):
        return part.mixture(h)
    if isinstance(part, JointLNM):
        logits, mean, log_std = part.mixtures(h)  # (n, M, C) each
        log_w = part.prior.log_marks(h, h.new_ones(len(h))).unsqueeze(2) + torch.log_softmax(logits, 2)
        return log_w.flatten(1), mean.flatten(1), log_std.flatten(1)
    return None


def mixture_mean(logits: Tensor, mean: Tensor, log_std: Tensor, elapsed: Tensor | None) -> Tensor:
    r"""(n,) expectation of log-normal mixtures (n, C), given that they exceed ``elapsed`` (n,).

    .. math:: E[X; X > e] = \sum_c w_c e^{m_c + s_c^2/2} \Phi\Big(s_c - \frac{\log e - m_c}{s_c}\Big)
    """
    if elapsed is None:
        return lnm.mean(logits, mean, log_std)
    std = torch.exp(log_std)
    z = (elapsed.log().unsqueeze(1) - mean) / std  # (n, C)
    each = torch.log_softmax(logits, 1) + mean + std.square() / 2 + torch.special.log_ndtr(std - z)
    return torch.exp(torch.logsumexp(each, 1) + lnm.compensator(logits, mean, log_std, elapsed))
