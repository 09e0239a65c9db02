"""Does what is predicted with 70 % come true in 70 % of the cases? Reliability of marks and of times."""

from __future__ import annotations

import numpy as np

from accord.report.chart import Array, Axis, Bar, Bars, Chart, Curve, Curves, View
from accord.report.palette import method_style, reference_style
from accord.report.text import fixed
from accord.tpp.metrics.calibration import MarkReliability, TimeReliability

SECTION = "calibration"
Z = 1.96  # of the 95 % intervals


def mark_reliability_chart(found: MarkReliability) -> Chart:
    """Confidence against accuracy of the likeliest mark, and how many events stand behind each value.

    Args:
        found: of ``accord.tpp.metrics.calibration.mark_reliability``.

    Example:
        >>> import torch
        >>> from accord.tpp.metrics.calibration import mark_reliability
        >>> found = mark_reliability(torch.tensor([[0.75, 0.25]] * 4).log(), torch.tensor([0, 0, 0, 1]))
        >>> [panel.title for panel in mark_reliability_chart(found).views[0].panels]
        ['Accuracy by confidence', 'Events by confidence in %']
    """
    count = found.count.cpu().numpy()  # (10,)
    some = count > 0  # empty bins have no accuracy, and a gap would hide a lonely neighbour
    confidence, accuracy = (values.cpu().numpy()[some] for values in (found.confidence, found.accuracy))
    low, high = wilson(accuracy, count[some])
    style = method_style(0)
    lines = Curves(
        "Accuracy by confidence",
        Axis("confidence in the likeliest mark", share=True),
        Axis("share in which it came", share=True),
        (_diagonal(), Curve("model", confidence, accuracy, style, low, high)),
    )
    names = tuple(f"{100 * middle:.0f}" for middle in found.midpoint.tolist())
    bars = Bars("Events by confidence in %", names, (Bar("model", count.astype(np.float64), style),), Axis("events"))
    return Chart(
        "mark_reliability",
        SECTION,
        f"Calibration of the mark: ECE {fixed(found.ece)}",
        "Events grouped by the probability of the likeliest mark: how often that mark came. On the diagonal the model "
        "is calibrated, below it is too sure. The band is a 95 % interval for the share; the bars say how many events "
        "each group holds.",
        (View("", (lines, bars)),),
    )


def time_reliability_chart(found: TimeReliability) -> Chart:
    """Level against share of events whose gap lies below that quantile.

    Args:
        found: of ``accord.tpp.metrics.calibration.time_reliability``.
    """
    level, share = found.level.cpu().numpy(), found.share.cpu().numpy()  # (50,)
    low, high = wilson(level, np.full(level.shape, found.count))
    lines = Curves(
        "Share by level",
        Axis("predicted probability", share=True),
        Axis("share of gaps below", share=True),
        (
            Curve("calibrated", level, level, reference_style(), low, high),
            Curve("model", level, share, method_style(0)),
        ),
    )
    return Chart(
        "time_reliability",
        SECTION,
        f"Calibration of the time: PCE {fixed(found.pce)}",
        "For each level, the share of gaps that are shorter than the gap the model gives that probability. On the "
        "diagonal the model is calibrated; above it gaps are shorter than predicted, below longer. The band holds 95 % "
        "of the shares of a calibrated model, level by level.",
        (View("", (lines,)),),
        wide=False,
    )


def wilson(share: Array, count: Array) -> tuple[Array, Array]:
    """Both ends of the 95 % interval of a share of ``count`` cases, (B,) each; it works at 0 and 1 too.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.

    Example:
        >>> [end.round(3).tolist() for end in wilson(np.array([0.0, 0.5]), np.array([10, 100]))]
        [[0.0, 0.404], [0.278, 0.596]]
    """
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * np.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def _diagonal() -> Curve:
    ends = np.array([0.0, 0.5, 1.0])  # three points: a line without markers
    return Curve("calibrated", ends, ends, reference_style())
