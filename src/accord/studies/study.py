"""Study: a question about gradient conflict as plain data, and the rows that answer it.

``measure: (Work) -> rows``;  ``judge: (Results) -> claims``;  ``charts, tables: (Results) -> pictures, tables``.

A study is cut into *cells* (a width, a learning rate). A cell with a seed is one piece of work: it does not need any
other one, and everything that is compared within it has the same data, the same order of batches and the same initial
weights. Letters: `S` seeds, `T` checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.report.chart import View
from accord.report.table import Table
from accord.studies.judging import Claim

Array = NDArray[np.float64]
Row = Mapping[str, Any]  # factors (text, whole numbers), measures (floats; NaN is undefined), curves (lists of floats)


@dataclass(frozen=True)
class Control:
    """What a finding is compared with, and what it rules out, in one sentence."""

    name: str
    rules_out: str


@dataclass(frozen=True)
class Work:
    """One piece of work.

    Args:
        cell: which one of the study's.
        seed: of all randomness.
        smoke: a few steps only, to see that everything runs; the numbers mean nothing.
        broken: the name of what is broken on purpose; empty: nothing.
    """

    cell: str
    seed: int
    smoke: bool = False
    broken: str = ""


@dataclass(frozen=True)
class Study:
    """A question, how it is measured, and when the answer counts as what.

    Args:
        name: as it is typed.
        title: of its page.
        question: one or two sentences.
        survey: what the survey says about it.
        controls: what the findings are compared with.
        cells: the independent pieces of work of one seed.
        measure: makes the rows of one cell and seed; all its randomness comes from the seed.
        judge: from rows to claims; thresholds are constants beside it, fixed before any run.
        charts: the pictures.
        tables: the tables, cost among them.
        sabotages: what can be broken on purpose, and which verdict that must change.
        seconds: that one seed takes with all its cells on one idle core; for the estimate.
    """

    name: str
    title: str
    question: str
    survey: str
    controls: tuple[Control, ...]
    cells: tuple[str, ...]
    measure: Callable[[Work], Sequence[Row]]
    judge: Callable[[Results], tuple[Claim, ...]]
    charts: Callable[[Results], tuple[View, ...]]
    tables: Callable[[Results], tuple[Table, ...]]
    sabotages: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 60.0


class Results:
    """The rows of all cells over several seeds.

    Args:
        rows: each with the key ``seed``.

    Raises:
        ValueError: without any row.

    Example:
        >>> rows = [{"seed": s, "method": m, "loss": s + i} for s in (0, 1) for i, m in enumerate(("Sum()", "MGDA()"))]
        >>> results = Results(rows)
        >>> results.values("loss", method="MGDA()") - results.values("loss", method="Sum()")  # paired by seed
        array([1., 1.])
        >>> results.levels("method")
        ('Sum()', 'MGDA()')
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows: tuple[Row, ...] = tuple(rows)
        self.seeds: tuple[int, ...] = tuple(sorted({int(row["seed"]) for row in self.rows}))
        if not self.rows:
            raise ValueError("found no rows, expected at least one")

    def __repr__(self) -> str:
        return f"Results({len(self.rows)} rows, seeds {list(self.seeds)})"

    def where(self, **factors: Any) -> tuple[Row, ...]:
        """The rows with these factors, in the order of the seeds."""
        found = [row for row in self.rows if all(row.get(name) == value for name, value in factors.items())]
        return tuple(sorted(found, key=lambda row: int(row["seed"])))

    def values(self, measure: str, **factors: Any) -> Array:
        """One measure of one arm for every seed.

        Args:
            measure: its name.
            factors: that single out one row per seed.

        Returns:
            (S,) in the order of ``seeds``, so that differences of two arms are paired; NaN where undefined.

        Raises:
            KeyError: if there is no such row or measure for a seed, or more than one row.
        """
        return np.array([float(row[measure]) for row in self._one_per_seed(measure, factors)])  # (S,)

    def curve(self, measure: str, **factors: Any) -> Array:
        """A measure that is a list, for every seed.

        Returns:
            (S, T).

        Raises:
            KeyError: as ``values``.
        """
        return np.array([row[measure] for row in self._one_per_seed(measure, factors)], dtype=np.float64)  # (S, T)

    def levels(self, factor: str, **factors: Any) -> tuple[Any, ...]:
        """The different values of a factor in the order in which they were measured."""
        return tuple(dict.fromkeys(row[factor] for row in self.where(**factors) if factor in row))

    def of(self, seeds: Iterable[int]) -> Results:
        """The rows of some of the seeds.

        Raises:
            ValueError: if there are none.
        """
        wanted = set(seeds)
        return Results(row for row in self.rows if int(row["seed"]) in wanted)

    def _one_per_seed(self, measure: str, factors: Mapping[str, Any]) -> tuple[Row, ...]:
        rows = self.where(**factors)
        if tuple(int(row["seed"]) for row in rows) != self.seeds:
            raise KeyError(f"{factors}: found rows of seeds {[row['seed'] for row in rows]}, expected {self.seeds}")
        if missing := [row["seed"] for row in rows if measure not in row]:
            raise KeyError(f"{factors}: the rows of seeds {missing} have no {measure!r}")
        return rows


def plain(value: Any) -> Any:
    """A row as JSON holds it: numbers are Python's own, undefined ones are null.

    Example:
        >>> plain({"a": np.float32(0.5), "b": [1, math.nan]})
        {'a': 0.5, 'b': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(part) for part in (value.tolist() if isinstance(value, np.ndarray) else value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None  # also what diverged: there is no number
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a row holds a {type(value).__name__}; expected text, a number or a list of numbers")


def restored(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as it was measured: what JSON calls null is NaN again.

    Example:
        >>> restored({"a": None, "b": [1.0, None]})
        {'a': nan, 'b': [1.0, nan]}
    """

    def one(value: Any) -> Any:
        if isinstance(value, list):
            return [one(part) for part in value]
        return math.nan if value is None else value

    return {name: one(value) for name, value in row.items()}
