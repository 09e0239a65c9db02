"""Do events happen as often as predicted? Calibration of the time (PCE, KS, QQ) and of the mark (ECE, reliability)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.tpp.errors import TPPError
from accord.tpp.metrics.marks import check

MARK_BINS = 10
TIME_LEVELS = 50
TERMS = 20  # of the series of the Kolmogorov distribution; where each is used, the 5th is below 1e-16
SWITCH = 1.18  # both series converge at once here


@dataclass(frozen=True)
class TimeReliability:
    """How often F(tau) was at most b, for b = 1/50, 2/50, ..., 1.

    Args:
        level: (50,) b.
        share: (50,) of events with F(tau) <= b; equal to b if the time is calibrated.
        count: n, events.
    """

    level: Tensor
    share: Tensor
    count: int

    @property
    def pce(self) -> float:
        """Probabilistic calibration error, ``mean_j |share_j - b_j|``; between 0 and 1/2."""
        return (self.share - self.level).abs().mean().item()


def time_reliability(compensator: Tensor) -> TimeReliability:
    r"""Reliability of the predicted distribution of the gap, from :math:`u_i = F(\tau_i) = 1 - e^{-\Lambda(\tau_i)}`.

    Args:
        compensator: (n,) Lambda(tau) of the events.

    Returns:
        ``TimeReliability``; its ``pce`` is the published measure.

    Raises:
        TPPError: if there is no event, or a compensator is NaN.

    Source:
        Kuleshov et al. 2018, https://arxiv.org/abs/1807.00263; grid of Bosser & Ben Taieb 2024,
        https://arxiv.org/abs/2412.08590.

    Example:
        >>> certain = time_reliability(torch.full((4,), 50.0))  # all events come when nearly none is expected
        >>> round(certain.pce, 4)
        0.49
    """
    u = -torch.expm1(-_known(compensator))  # (n,)
    level = torch.arange(1, TIME_LEVELS + 1, dtype=u.dtype, device=u.device) / TIME_LEVELS  # (50,)
    # the first level that is not below u; u = 1 has the last, so no bin is missing
    inside = torch.bucketize(u, level).bincount(minlength=TIME_LEVELS)[:TIME_LEVELS]  # (50,)
    return TimeReliability(level, inside.cumsum(0).double() / len(u), len(u))


@dataclass(frozen=True)
class KolmogorovSmirnov:
    """Distance of the compensators from a standard exponential.

    Args:
        distance: largest difference of the empirical and the exponential distribution function, 0 to 1.
        p_value: how likely a distance at least as large is if the model is the truth, for many events. Parameters that
            were fitted to the same events make it too large.
        count: n, events.
    """

    distance: float
    p_value: float
    count: int


def kolmogorov_smirnov(compensator: Tensor) -> KolmogorovSmirnov:
    r"""Are :math:`\Lambda(\tau_i)` independent draws of Exp(1), as they are if the model is the truth?

    .. math:: D = \sup_x |F_n(x) - (1 - e^{-x})|, \qquad p = P(K > D \sqrt n)

    with the limiting distribution of Kolmogorov. Unlike the grid of 50 levels, D sees a distribution that is wrong
    within one level, such as gaps of an exact grid.

    Args:
        compensator: (n,) Lambda(tau) of the events.

    Returns:
        ``KolmogorovSmirnov``.

    Raises:
        TPPError: if there is no event, or a compensator is NaN.

    Source:
        Brown et al. 2002, https://doi.org/10.1162/08997660252741149 (time rescaling); Kolmogorov 1933.

    Example:
        >>> found = kolmogorov_smirnov(torch.tensor([0.5, 0.5]).log().neg())  # both at the median
        >>> round(found.distance, 4), round(found.p_value, 4)
        (0.5, 0.6994)
    """
    u = (-torch.expm1(-_known(compensator))).sort().values  # (n,)
    n = len(u)
    steps = torch.arange(n + 1, dtype=u.dtype, device=u.device) / n  # (n + 1,)
    distance = torch.maximum(steps[1:] - u, u - steps[:-1]).max().item()
    return KolmogorovSmirnov(distance, _kolmogorov_tail(distance * math.sqrt(n)), n)


def _kolmogorov_tail(x: float) -> float:
    """P(K > x) of Kolmogorov's distribution, by the series that converges at x."""
    if x <= 0:
        return 1.0
    if x > SWITCH:
        return 2 * sum((-1) ** (j - 1) * math.exp(-2 * (j * x) ** 2) for j in range(1, TERMS))
    odd = sum(math.exp(-(((2 * j - 1) * math.pi / x) ** 2) / 8) for j in range(1, TERMS))
    return 1 - math.sqrt(2 * math.pi) / x * odd


@dataclass(frozen=True)
class Quantiles:
    """Sorted compensators against what a standard exponential would give.

    Args:
        expected: (Q,) medians of the order statistics of n draws of Exp(1).
        observed: (Q,) the same order statistics of Lambda(tau).
        low: (Q,) lower end of the band that holds an order statistic with probability 95 %, each by itself.
        high: (Q,) upper end.
    """

    expected: Tensor
    observed: Tensor
    low: Tensor
    high: Tensor


def quantiles(compensator: Tensor, points: int = 200) -> Quantiles:
    r"""Time-rescaling QQ data: is :math:`\Lambda(\tau_i)` Exp(1), and if not, at which gaps?

    The i-th smallest of n uniform draws is Beta(i, n + 1 - i), which gives expectation and band without approximation.
    About one point in 20 lies outside the band of a true model, and neighbours do so together.

    Args:
        compensator: (n,) Lambda(tau) of the events.
        points: at most so many order statistics, evenly spaced in rank, with the smallest and the largest.

    Returns:
        ``Quantiles`` with Q = min(points, n) on the device of ``compensator``.

    Raises:
        TPPError: if there is no event, a compensator is NaN, or scipy is missing.

    Source:
        Brown et al. 2002, https://doi.org/10.1162/08997660252741149; David & Nagaraja 2003, Order Statistics, 2.1.

    Example:
        >>> found = quantiles(torch.tensor([0.1, 2.0, 0.7]))
        >>> bool((found.low < found.observed).all()), found.expected.round(decimals=3).tolist()
        (True, [0.231, 0.693, 1.578])
    """
    try:
        from scipy.special import betainccinv, betaincinv
    except ImportError as error:
        raise TPPError("the band of the quantiles needs scipy: pip install 'accord[bench]'") from error
    ordered = _known(compensator).sort().values  # (n,)
    n = len(ordered)
    rank = torch.linspace(1, n, min(points, n), dtype=torch.float64).round()  # (Q,)

    def exponential(tail: float) -> Tensor:  # (Q,) quantile that an order statistic exceeds with probability `tail`
        below, above = rank.numpy(), (n + 1 - rank).numpy()
        # 1 - x is the other order statistic; near x = 1 only it has digits left
        x, rest = torch.from_numpy(betainccinv(below, above, tail)), torch.from_numpy(betaincinv(above, below, tail))
        return torch.where(x < 0.5, -torch.log1p(-x), -rest.log()).to(ordered.device)

    observed = ordered[rank.long().to(ordered.device) - 1]
    return Quantiles(exponential(0.5), observed, exponential(0.975), exponential(0.025))


@dataclass(frozen=True)
class MarkReliability:
    """How often the most likely mark came, for events grouped by its probability, in bins (0, 0.1], ..., (0.9, 1].

    Args:
        midpoint: (10,) of the bins.
        confidence: (10,) mean probability of the most likely mark; NaN in empty bins.
        accuracy: (10,) share of events in which that mark came; NaN in empty bins.
        count: (10,) events.
    """

    midpoint: Tensor
    confidence: Tensor
    accuracy: Tensor
    count: Tensor

    @property
    def ece(self) -> float:
        """Expected calibration error, ``sum_b n_b/n |accuracy_b - confidence_b|`` over bins that hold events."""
        weights = self.count.double() / self.count.sum()  # (10,)
        return (weights * (self.accuracy - self.confidence).abs()).nansum().item()

    @property
    def ece_published(self) -> float:
        """``mean_b |accuracy_b - midpoint_b|``: all bins weigh alike, and an empty one has accuracy 0.

        Of a calibrated model with 50 marks that is never surer than 0.5 it is at least 0.375.
        """
        return (self.accuracy.nan_to_num(0.0) - self.midpoint).abs().mean().item()


def mark_reliability(log_p: Tensor, marks: Tensor) -> MarkReliability:
    """Reliability of the most likely mark; of equally likely ones the smallest number is the prediction.

    Args:
        log_p: (n, M) log probabilities.
        marks: (n,) true marks.

    Returns:
        ``MarkReliability`` with both expected calibration errors.

    Raises:
        TPPError: if shapes do not fit, a mark is unknown or a probability is NaN.

    Source:
        Guo et al. 2017, https://arxiv.org/abs/1706.04599; Bosser & Ben Taieb 2024,
        https://arxiv.org/abs/2412.08590 (published).

    Example:
        >>> found = mark_reliability(torch.tensor([[0.75, 0.25]] * 4).log(), torch.tensor([0, 0, 0, 1]))
        >>> abs(found.ece) < 1e-6, found.count.tolist()[7]
        (True, 4)
    """
    check(log_p, marks)
    best, predicted = log_p.max(1)  # (n,)
    confidence = best.double().exp()  # (n,)
    edges = torch.arange(1, MARK_BINS, dtype=torch.float64, device=marks.device) / MARK_BINS  # (9,) between the bins
    bins = torch.bucketize(confidence, edges)  # (n,)
    count = bins.bincount(minlength=MARK_BINS)  # (10,)
    hits = (predicted == marks).double()  # (n,)

    def mean(values: Tensor) -> Tensor:  # (10,) 0/0 is NaN
        return bins.bincount(weights=values, minlength=MARK_BINS) / count

    midpoint = (torch.arange(MARK_BINS, dtype=torch.float64, device=marks.device) + 0.5) / MARK_BINS  # (10,)
    return MarkReliability(midpoint, mean(confidence), mean(hits), count)


def _known(compensator: Tensor) -> Tensor:
    """(n,) float64, or a refusal."""
    if compensator.ndim != 1 or not len(compensator):
        raise TPPError(f"compensators have shape {tuple(compensator.shape)}; expected (n,) with n > 0.")
    if bool(compensator.isnan().any()):
        raise TPPError(f"{int(compensator.isnan().sum())} of {len(compensator)} compensators are NaN.")
    return compensator.double()
