"""Time against mark: how the cosines of their gradients are distributed, and how they move."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from accord.conflict import PairConflict, evolution
from accord.report.chart import Array, Axis, Bar, Bars, Chart, Curve, Curves, View
from accord.report.palette import method_style
from accord.report.text import fixed, share, trimmed, whole

SECTION = "conflict"
LABELLED = 3  # every third bin has a number below it


def histogram_chart(parts: Mapping[str, PairConflict]) -> Chart:
    """Cosines of the two gradients in 15 bins, a panel for each part of the model.

    Args:
        parts: measures by part, such as ``encoder`` and ``decoder``, each over tensors and steps.

    Example:
        >>> from accord.conflict import pair_conflict
        >>> chart = histogram_chart({"encoder": pair_conflict(np.eye(2)[None])})
        >>> chart.views[0].panels[0].title
        'Cosines, encoder'
    """
    shares = [found.histogram / max(found.histogram.sum(), 1) for found in parts.values()]  # (15,) each
    limit = 1.05 * max(float(each.max()) for each in shares) or None  # one for all, so that panels compare
    panels = []
    for i, (name, found) in enumerate(parts.items()):
        bins = len(found.histogram)
        centres = (2 * np.arange(bins) + 1) / bins - 1  # (15,)
        labels = tuple(trimmed(round(c, 2)) if j % LABELLED == 1 else "" for j, c in enumerate(centres.tolist()))
        bar = Bar(
            f"{name}: CG {share(found.incidence)}, mean {fixed(found.cosine, 2)}",
            shares[i],
            method_style(i),
        )
        panels.append(Bars(f"Cosines, {name}", labels, (bar,), Axis("share of the cosines", share=True), limit))
    undefined = sum(found.undefined for found in parts.values())
    notes = (f"{whole(undefined)} undefined cosines (a gradient was zero) are left out.",) if undefined else ()
    return Chart(
        "conflict_histogram",
        SECTION,
        "How often time and mark conflict",
        "Cosine of the angle between the gradient of the time and that of the mark, for each tensor that both train, "
        "at each measured step; the number below a bar is the middle of its bin. Left of 0 the two conflict; CG is the "
        "share of conflicts.",
        (View("", tuple(panels)),),
        notes=notes,
    )


def evolution_chart(parts: Mapping[str, Array], steps: NDArray[np.int64], window: int, stride: int) -> Chart:
    """The mean cosine over training, one line for each part of the model.

    Args:
        parts: Gramians (T, B, 2, 2) by part.
        steps: (T,) training steps at which they were measured.
        window: measured steps averaged.
        stride: measured steps between two points.
    """
    averaged = f", averaged over the last {window} measured steps" if window > 1 else ", of each measured step"
    lines = []
    for i, (name, gramians) in enumerate(parts.items()):
        at, mean = evolution(gramians, window, stride)
        lines.append(Curve(name, steps[at].astype(np.float64), mean, method_style(i)))
    return Chart(
        "conflict_evolution",
        SECTION,
        "How time and mark conflict over training",
        f"Mean cosine over all tensors that both tasks train{averaged}; below 0 the gradients point against each "
        "other.",
        (View("", (Curves("Mean cosine", Axis("training step"), Axis("mean cosine"), tuple(lines), 0.0),)),),
        wide=False,
    )
