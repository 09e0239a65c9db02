"""NextEvent: the distribution of the next event after given histories."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.tpp.decoders.lnm import LNM
from accord.tpp.errors import TPPError
from accord.tpp.inverse import inverse
from accord.tpp.model import Decoded, PointProcess
from accord.tpp.numerics.quadrature import nodes

REACH = 1e6  # times the time span of the data: a gap beyond it counts as never
ROWS = 1 << 16  # rows decoded at once where one history is asked about at many gaps
NODES = 32  # of the mean, in log time
EDGES = (1e-4, 1 - 1e-6)  # quantiles between which the mean is integrated
GRID = 64  # gaps among which the mode is looked for before it is refined


@dataclass(frozen=True)
class NextEvent:
    """When the next event comes and which mark it has, for n histories.

    Args:
        model: in evaluation mode.
        h_time: (n, D) histories for the time.
        h_mark: (n, D) histories for the mark.
        span: time span of the data; gaps above 1e6 spans count as infinite.
        scale: a usual gap, where searches begin.
        elapsed: (n,) time that has passed since the last event without a new one; None: none. All gaps count from the
            last event, and all distributions are conditional on this time.
    """

    model: PointProcess
    h_time: Tensor
    h_mark: Tensor
    span: float
    scale: float
    elapsed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.h_time)

    def decode(self, tau: Tensor) -> Decoded:
        """Density, compensator and marks at one gap (n,) for each history; see ``PointProcess.decode``."""
        return self.model.decode(self.h_time, self.h_mark, tau)

    def quantile(self, share: float | Tensor) -> Tensor:
        """(n,) the gap below which the next event comes with probability ``share``; inf if that is never reached.

        Args:
            share: in [0, 1), one number or (n,).
        """
        share = torch.as_tensor(share, dtype=self.h_time.dtype, device=self.h_time.device).expand(len(self))
        if bool(((share < 0) | (share >= 1)).any()):
            raise TPPError("a quantile needs shares in [0, 1).")
        return self.reach(-torch.log1p(-share))

    def reach(self, hazard: Tensor) -> Tensor:
        """(n,) the gap at which the compensator has grown by ``hazard`` (n,) since ``elapsed``: samples, if Exp(1)."""
        part = self.model.time_part
        if self.elapsed is not None:
            hazard = hazard + part.compensator(self.h_time, self.elapsed)

        def rate(tau: Tensor) -> Tensor:
            log_density, compensator = part.density(self.h_time, tau)
            return torch.exp(log_density + compensator)

        return inverse(
            lambda tau: part.compensator(self.h_time, tau),
            rate,
            hazard,
            scale=self.scale,
            floor=self.model.floor,
            limit=REACH * self.span,
        )

    def median(self) -> Tensor:
        """(n,) the gap that the next event exceeds with probability 1/2."""
        return self.reach(self.h_time.new_full((len(self),), math.log(2)))

    def mean(self) -> Tensor:
        r"""(n,) expected gap, :math:`\int_0^\infty \exp(-\Lambda(u))\, du`; inf where some mass lies at infinity.

        In closed form for LNM; else by quadrature in log time between two far quantiles. What lies beyond the upper
        one, a share of 1e-6, is left out.
        """
        part = self.model.time_part
        if isinstance(part, LNM) and self.elapsed is None:
            return part.mean(self.h_time)
        low, high = (self.quantile(edge) for edge in EDGES)  # (n,) each
        begin = low if self.elapsed is None else torch.maximum(low, self.elapsed)
        x, w = nodes(NODES, self.h_time)  # (Q,)
        width = torch.log(high) - torch.log(begin)  # (n,) inf where the mean is
        u = torch.exp(torch.log(begin)[:, None] + width[:, None] * x)  # (n, Q)
        gone = 0.0 if self.elapsed is None else part.compensator(self.h_time, self.elapsed)[:, None]
        survival = torch.exp(gone - self._many(part.compensator, torch.nan_to_num(u, posinf=1.0)))  # (n, Q)
        return torch.where(torch.isinf(high), high, begin + width * ((survival * u) @ w))

    def mode(self) -> Tensor:
        """(n,) the gap with the highest density; for a falling density that is the floor, or ``elapsed``."""
        low = self.h_time.new_full((len(self),), self.model.floor)
        if self.elapsed is not None:
            low = torch.maximum(low, self.elapsed)
        high = torch.maximum(self.quantile(0.99).clamp(max=REACH * self.span), low * 1.01)
        steps = torch.linspace(0, 1, GRID, dtype=low.dtype, device=low.device)
        y = torch.log(low)[:, None] + (torch.log(high) - torch.log(low))[:, None] * steps  # (n, GRID)
        best = self._many(lambda h, tau: self.model.time_part.density(h, tau)[0], torch.exp(y)).argmax(1, keepdim=True)
        left = y.gather(1, (best - 1).clamp(min=0)).squeeze(1)
        right = y.gather(1, (best + 1).clamp(max=GRID - 1)).squeeze(1)
        for _ in range(30):  # ternary search: the bracket shrinks to (2/3)^30 of a grid step
            third = (right - left) / 3
            a, b = left + third, right - third
            rising = self._log_density(a) < self._log_density(b)
            left, right = torch.where(rising, a, left), torch.where(rising, right, b)
        middle = (left + right) / 2
        at_edge = self._log_density(torch.log(low)) >= self._log_density(middle)
        return torch.where(at_edge, low, torch.exp(middle))

    def _log_density(self, y: Tensor) -> Tensor:
        return self.model.time_part.density(self.h_time, torch.exp(y))[0]

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
        for share, part in zip(x.tolist(), w, strict=True):
            tau = self.quantile(share)
            reached = torch.isfinite(tau)
            chance = torch.exp(self.log_marks(torch.where(reached, tau, self.span)))
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
        return torch.cat(found) if found else tau
