"""Time rescaling: under the true model the compensators between events are exponential; are they?"""

from __future__ import annotations

from accord.report.chart import Axis, Chart, Curve, Curves, View
from accord.report.palette import method_style, reference_style
from accord.tpp.metrics.calibration import Quantiles


def rescaling_chart(found: Quantiles) -> Chart:
    """Quantile against quantile, with the band in which a true model stays.

    Args:
        found: of ``accord.tpp.metrics.calibration.quantiles``.

    Example:
        >>> import torch
        >>> from accord.tpp.metrics.calibration import quantiles
        >>> (panel,) = rescaling_chart(quantiles(torch.tensor([0.1, 2.0, 0.7]))).views[0].panels
        >>> [curve.name for curve in panel.curves]
        ['true model, 95 % band', 'this model']
    """
    expected, observed, low, high = (
        values.cpu().numpy() for values in (found.expected, found.observed, found.low, found.high)
    )  # (Q,)
    lines = Curves(
        "Rescaled gaps",
        Axis("quantile of Exp(1)"),
        Axis("quantile of Λ(τ)"),
        (
            Curve("true model, 95 % band", expected, expected, reference_style(), low, high),
            Curve("this model", expected, observed, method_style(0)),
        ),
    )
    return Chart(
        "time_rescaling",
        "calibration",
        "Are the rescaled gaps exponential?",
        "If the model were the truth, the expected number of events in each gap would be an exponential draw, and the "
        "line would stay in the band. Where it lies above, gaps are longer than the model expects; below, shorter.",
        (View("", (lines,)),),
        wide=False,
    )
