"""How samples are judged, and what Gramians say about two losses: numbers of the studies E09a, E09b and E09c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import accord
from accord.studies.digit_gan import CLASSES, Fit, Gan, Scans
from accord.studies.study import Results

Array = NDArray[np.float64]
BLUR = 0.5  # added to every count of the histogram, so that a class without samples costs much but not infinitely much


class Judge:
    """A logistic regression of scans that no GAN has seen, and real scans to compare with.

    Args:
        data: whose other half it learns.
        seed: of the samples that are judged.

    Example:
        >>> from accord.studies.digit_gan import scans
        >>> data = scans(0)
        >>> judge = Judge(data, 0)
        >>> judge.accuracy(data.x, data.y) > 0.9, round(judge.diversity(data.x, data.y), 6)
        (True, 1.0)
    """

    def __init__(self, data: Scans, seed: int) -> None:
        from sklearn.linear_model import LogisticRegression

        self.data, self.seed = data, seed
        self.model = LogisticRegression(max_iter=200).fit(data.other_x.numpy(), data.other_y.numpy())
        self.spread = _within(data.x, data.y)  # of real scans

    def accuracy(self, x: Tensor, wanted: Tensor) -> float:
        """Share of the samples in which it sees the digit that was asked for."""
        return float((self.model.predict(x.numpy()) == wanted.numpy()).mean())

    def diversity(self, x: Tensor, digits: Tensor) -> float:
        """Mean distance of two samples of one digit over that of two real scans; 1: as varied as reality."""
        return _within(x, digits) / self.spread

    def seen(self, x: Tensor) -> Tensor:
        """(N,) the digits that it sees."""
        return torch.as_tensor(self.model.predict(x.numpy()))

    def missing(self, x: Tensor) -> float:
        """``KL(real || samples)`` of the histograms of digits; 0: all digits as often as in reality."""
        real = torch.bincount(self.data.y, minlength=CLASSES).double()  # (10,)
        found = torch.bincount(self.seen(x), minlength=CLASSES).double() + BLUR  # (10,)
        p, q = real / real.sum(), found / found.sum()
        return float((p * (p / q).log()).sum())

    def distance(self, x: Tensor) -> float:
        """Energy distance of the samples to scans that no GAN has seen: ``2 E|x-y| - E|x-x'| - E|y-y'|``.

        It falls when quality rises and when variety rises, and is 0 for equal distributions.
        """
        y = self.data.other_x
        return float(2 * torch.cdist(x, y).mean() - _apart(x) - _apart(y))

    def told(self, gan: Gan) -> dict[str, float]:
        """For a generator that was told which digits to make."""
        x, wanted = gan.samples(self.seed)
        # Variety among samples in which the same digit is seen: among those of one wish it would count wrong digits.
        return {"class accuracy": self.accuracy(x, wanted), "diversity": self.diversity(x, self.seen(x))}

    def untold(self, gan: Gan) -> dict[str, float]:
        """For a generator that chooses for itself: variety among samples in which the same digit is seen."""
        x, _ = gan.samples(self.seed)
        distance = self.distance(x)
        return {
            "diversity": self.diversity(x, self.seen(x)), "missing": self.missing(x),
            "distance": distance, "nearness": -distance,
        }  # fmt: skip


def conflict_row(fit: Fit, net: str = "G", last: float = 0.5) -> dict[str, float]:
    """What the looks at two losses say: the sign of the cosine, its noise, and harm.

    ``corrected``: products of gradients on different halves of the batch share no noise of the draw, so
    ``mean g_1·g_2' / sqrt(mean g_1·g_1' mean g_2·g_2')`` estimates the cosine without it; NaN where a loss does not
    agree with itself. ``floor``: the share of looks at which a loss is in conflict with itself, on other data.

    Args:
        fit: of two losses.
        net: ``G`` or ``D``.
        last: share of the training, from its end, that is looked at.

    Example:
        >>> one = np.array([[[1.0, -0.5], [-0.5, 1.0]]] * 4)
        >>> fit = Fit(looks={"D": one}, halves={"D": np.kron(np.ones((2, 2)), one)})
        >>> row = conflict_row(fit, "D")
        >>> row["D cosine"], row["D conflict"], row["D corrected"], row["D floor"]
        (-0.5, 1.0, -0.5, 0.0)
    """
    gramians, halves = (np.asarray(g)[-max(1, round(last * len(g))) :] for g in (fit.looks[net], fit.halves[net]))
    cosine = accord.conflict.cosine(gramians)[:, 0, 1]  # (T,)
    ratio = np.sqrt(gramians[:, 0, 0] / gramians[:, 1, 1])  # (T,)
    apart = accord.conflict.cosine(halves)  # (T, 4, 4): first a, second a, first b, second b
    row = {
        "cosine": float(np.nanmean(cosine)), "conflict": float(np.nanmean(cosine < 0)),
        "corrected": corrected(halves), "norm ratio": float(np.nanmedian(ratio)),
        "floor": float(np.nanmean(np.stack([apart[:, 0, 2], apart[:, 1, 3]]) < 0)),
        "survival": float(np.nanmean(np.sqrt(1 - np.minimum(cosine, 0) ** 2))),
    }  # fmt: skip
    return {f"{net} {name}": value for name, value in row.items()} | (_harm(fit.record) if net == "G" else {})


def corrected(halves: Any, first: int = 0, second: int = 1) -> float:
    """The cosine of two losses without the noise of the draw; see ``conflict_row``.

    Args:
        halves: (T, 2K, 2K) Gramians of K losses on one half, then on the other.
        first: which loss.
        second: which other loss.
    """
    mean = np.asarray(halves, dtype=np.float64).mean(0)  # (2K, 2K)
    k = len(mean) // 2
    own = mean[first, first + k], mean[second, second + k]
    cross = (mean[first, second + k] + mean[second, first + k]) / 2
    return float(cross / np.sqrt(own[0] * own[1])) if min(own) > 0 else float("nan")


def _harm(record: Any) -> dict[str, float]:
    """Share of looks at which some loss is raised: by the plain sum, and by the step that Adam took."""
    if record is None:
        return {}
    lines = accord.conflict.lines(record)
    rates = {}
    for name, line in (("harm sum", lines["sum"]), ("harm step", lines["step"])):
        flags = accord.conflict.harmed(line.relative)  # (T, 2)
        rates[name] = float(flags[np.isfinite(flags).all(-1)].max(-1, initial=0.0).mean())
    return rates


def at_equal_cost(results: Results, curve: str, arm: str, reference: str) -> Array:
    """What an arm had reached where it had cost as much as the reference in whole, (S,).

    Args:
        results: rows with ``steps``, ``ms/step`` and the curve.
        curve: its name.
        arm: that is to be judged; a cheaper one is not trained longer.
        reference: whose cost is the measure.
    """
    affordable = results.values("ms/step", arm=reference) / results.values("ms/step", arm=arm)  # (S,)
    steps, values = results.curve("steps", arm=arm), results.curve(curve, arm=arm)  # (S, T) both
    last = steps[:, -1] * np.minimum(affordable, 1.0)  # (S,)
    return np.array([np.interp(n, s, v) for n, s, v in zip(last, steps, values, strict=True)])  # (S,)


def over_the_sweep(results: Results, arm: str, sweep: Sequence[str], x: str, y: str) -> Array:
    """How far an arm lies above the best that static weights reach, (S,): in each seed's own sweep, joined by lines.

    Args:
        results: rows with ``arm``.
        arm: that is to be judged.
        sweep: arms of the static weights.
        x: the measure that stands for one task.
        y: the measure that stands for the other one; higher is better for both.
    """
    gaps = []
    at = np.stack([results.values(x, arm=name) for name in sweep], 1)  # (S, W)
    of = np.stack([results.values(y, arm=name) for name in sweep], 1)  # (S, W)
    for mine, reached, xs, ys in zip(results.values(x, arm=arm), results.values(y, arm=arm), at, of, strict=True):
        order = np.argsort(xs)
        # From the right: what is reached at this x or more. No more is demanded than some static weight gives.
        best = np.maximum.accumulate(ys[order][::-1])[::-1]
        gaps.append(reached - float(np.interp(mine, xs[order], best)))
    return np.array(gaps)


def _within(x: Tensor, digits: Tensor) -> float:
    """Mean distance of two of one digit, a mean over the digits that occur at least twice."""
    groups = [x[digits == c] for c in range(CLASSES)]
    return float(np.mean([_apart(group) for group in groups if len(group) > 1]))


def _apart(x: Tensor) -> float:
    """Mean distance of two different ones."""
    return float(torch.pdist(x).mean())
