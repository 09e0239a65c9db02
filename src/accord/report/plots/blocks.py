"""Where and when the conflict is: block x time."""

from __future__ import annotations

import numpy as np

from accord.conflict import cosine, drop_negligible, group, incidence, rate, upper
from accord.record import Record
from accord.report.chart import Array, Axis, Chart, Heat, View
from accord.report.names import align
from accord.report.plots.cosine import round_limit
from accord.report.study import Arm, Study
from accord.report.text import number
from accord.report.timeline import STEP, middle, windows

MOST = 40  # rows that can be read; deeper names are added up, which is exact for Gramians


def block_time(study: Study) -> Chart:
    """Block x time heat maps: share of conflicting pairs, and mean cosine; one view per method."""
    missing = study.unmeasured
    courses = {} if missing else {arm: _course(study, arm) for arm in study.arms if arm.measured}
    limit = round_limit(np.concatenate([cosines.ravel() for *_, cosines in courses.values()])) if courses else 1.0
    return Chart(
        "block_time",
        "method",
        "Which layers conflict, and when",
        "Each row is a block of shared parameters, from the input at the top to the output; time runs to the right. "
        "The first map is the share of task pairs whose gradients in this block had a negative cosine, the second "
        "their mean cosine. Half of the pairs at a cosine near zero is what pure noise looks like. Hatched: undefined, "
        "because fewer than two tasks have a gradient there.",
        tuple(
            View(arm.label, missing=missing) if missing else _view(study, arm, courses.get(arm), limit)
            for arm in study.arms
        ),
        "Method",
    )


def per_block(record: Record) -> tuple[Array, Array, tuple[str, ...]]:
    """Share of conflicting pairs and mean cosine per block, each (T, B), and the names of the blocks."""
    gramians, names = drop_negligible(record.gramians), record.blocks  # (T, B, K, K)
    depth = max((name.count(".") + 1 for name in names), default=1)
    while len(names) > MOST and depth > 1:
        depth -= 1
        gramians, names = group(record.gramians, record.blocks, depth)
    return incidence(gramians), rate(upper(cosine(gramians)), axis=-1).value, names


def _course(study: Study, arm: Arm) -> tuple[tuple[str, ...], Array, Array]:
    """Names of the blocks, and (B, N) share of conflicting pairs and mean cosine, by block and window."""
    parts = [per_block(record) for record in arm.measured]
    names = tuple(dict.fromkeys(name for *_, blocks in parts for name in blocks))

    def over_windows(seeds: list[tuple[Array, tuple[str, ...]]]) -> Array:
        aligned = [align(values, blocks, names) for values, blocks in seeds]  # (T, B) each
        steps = [record.index for record in arm.measured]
        return middle(np.stack([windows(i, v, study.edges) for i, v in zip(steps, aligned, strict=True)])).T

    return names, over_windows([(part[0], part[2]) for part in parts]), over_windows([part[1:] for part in parts])


def _view(study: Study, arm: Arm, course: tuple[tuple[str, ...], Array, Array] | None, limit: float) -> View:
    if course is None:
        return View(arm.label, missing="No Gramians were recorded in the runs of this method.")
    names, shares, cosines = course
    times = tuple(number(float(edge), 6).split(".")[0] for edge in np.ceil(study.edges[:-1]))
    frequency = Heat(
        "Share of conflicting pairs",
        names,
        times,
        shares,
        Axis("conflicting", share=True),
        (0.0, 1.0),
        "sequential",
        STEP,
        Axis("block"),
    )
    angle = Heat(
        "Mean cosine", names, times, cosines, Axis("cosine"), (-limit, limit), "diverging", STEP, Axis("block")
    )
    return View(arm.label, (frequency, angle))
