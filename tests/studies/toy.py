"""A study of nothing, in a moment: what the tests of running and of pages use."""

from __future__ import annotations

import numpy as np

from accord.report.chart import Axis, Curve, Curves, View
from accord.report.palette import method_style
from accord.report.table import Column, Table
from accord.studies.judging import Claim, below, equivalent
from accord.studies.study import Control, Results, Study, Work

METHODS = ("Sum()", "PCGrad()")


def measure(work: Work):
    """Noise, and a gain unless that is broken."""
    rng = np.random.default_rng(work.seed)
    gain = 0.0 if work.broken else 0.2
    return [
        {"method": m, "loss": 1.0 - i * gain + 0.02 * rng.normal(), "gap": np.nan, "curve": [1.0, 0.5, 0.4]}
        for i, m in enumerate(METHODS)
    ]


def judge(results: Results) -> tuple[Claim, ...]:
    """Two claims."""
    sums, projected = (results.values("loss", method=m, cell="a") for m in METHODS)
    difference = projected - sums
    return (
        Claim("helps", "It lowers the <loss>.", "below -0.1", below("difference", difference, -0.1)),
        Claim("same", "Both are equal.", "within 0.1", equivalent("difference", difference, 0.1)),
    )


def charts(results: Results) -> tuple[View, ...]:
    """A picture, and one that is missing."""
    x = np.arange(1.0, 4.0)
    curves = tuple(
        Curve(m, x, results.curve("curve", method=m, cell="a").mean(0), method_style(i)) for i, m in enumerate(METHODS)
    )
    return View("Loss", (Curves("cell a", Axis("step"), Axis("loss"), curves),)), View("Nothing", missing="no data")


def tables(results: Results) -> tuple[Table, ...]:
    """A table."""
    rows = tuple((m, f"{results.values('loss', method=m, cell='a').mean():.3f}") for m in METHODS)
    return (Table("Mean loss", (Column(""), Column("loss")), rows, "means over seeds"),)


STUDY = Study(
    "toy", "A toy", "Does it help?", "The survey says so.", (Control("Sum()", "that nothing is needed"),), ("a", "b"),
    measure, judge, charts, tables, {"no gain": "the gain is left out, so that *helps* must fall"}, 0.1,
)  # fmt: skip
