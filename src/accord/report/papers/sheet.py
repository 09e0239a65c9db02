"""A table of results as numbers: one `Sheet` per problem, and one over all problems.

``Study -> Sheet``, ``Suite -> Sheet``; ``formats`` turns a sheet into text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from accord.bench.comparison import undefined
from accord.bench.significance import holm, paired_t
from accord.bench.stats import LEVEL, Interval, interval
from accord.report.across.standing import dependence
from accord.report.across.suite import Suite
from accord.report.across.words import together
from accord.report.merit import (
    Seeds,
    against_single,
    joint_improvement,
    measured,
    measures,
    milliseconds,
    rates,
    uneven,
)  # fmt: skip
from accord.report.study import Arm, Study

MARKS = (
    "Bold: the best of a column and all that paired t tests (corrected by Holm) cannot tell from it; without bold, a "
    "column's methods cannot be told apart."
)


@dataclass(frozen=True)
class Cell:
    """A mean with its interval; ``best`` if nothing in its column is really better, but something is worse."""

    value: Interval
    best: bool = False


@dataclass(frozen=True)
class Head:
    """A column: its name and unit, how many decimals it shows, and the factor (100 for per cent) of what is shown."""

    name: str
    decimals: int = 3
    factor: float = 1.0
    signed: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table of results.

    Args:
        name: the stem of its file.
        title: what it is about.
        caption: how the numbers were obtained.
        words: headers of the columns of words, the first of them the method.
        heads: headers of the columns of numbers.
        rows: for each row its words, and a cell for each head; None where there is nothing.
    """

    name: str
    title: str
    caption: str
    words: tuple[str, ...]
    heads: tuple[Head, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[Cell | None, ...]], ...]


Column = tuple[Head, Callable[[Arm], Seeds], bool | None]  # None: no mark


def of_study(study: Study) -> Sheet:
    """Every measure of every task, Δm, the improvement over the plain sum and the time of a step, for every method."""
    columns: list[Column] = []
    for task in study.tasks:
        for name, up in measures(study, task).items():
            columns.append((Head(f"{task} {name} {'↑' if up else '↓'}"), _measure(task, name), up))
    if study.singles:
        columns.append((Head("Δm % ↑", 2, 100, True), lambda arm: against_single(arm, study)[0], True))
    if study.singles and uneven(study):
        columns.append((Head("Δm flat % ↑", 2, 100, True), lambda arm: against_single(arm, study, flat=True)[0], True))
    if study.reference is not None and len(study.arms) > 1:
        columns.append((Head("against Sum() % ↑", 2, 100, True), lambda arm: _over_sum(arm, study), True))
    columns.append((Head("ms/step", 2), milliseconds, None))
    several = len({rates(arm) for arm in study.arms}) > 1
    found = [_column(study.arms, *column) for column in columns]
    rows = []
    for i, arm in enumerate(study.arms):
        words = (arm.label, rates(arm)) if several else (arm.label,)
        rows.append((words, tuple(cells[i] for _, cells in found)))
    if study.singles:
        alone = tuple(_alone(study, task, name) for task in study.tasks for name in measures(study, task))
        blank: tuple[Cell | None, ...] = (None,) * (len(columns) - len(alone))
        words = ("each task alone", "") if several else ("each task alone",)
        rows.append((words, alone + blank))
    return Sheet(
        study.problem,
        study.problem,
        f"{_seeds(study.arms or tuple(study.singles.values()))} {_selection(study)} {_steps(study)}{MARKS}"
        f"{_undefined(study)}",
        ("method", "learning rate") if several else ("method",),
        tuple(head for head, _ in found),
        tuple(rows),
    )


def of_suite(suite: Suite) -> Sheet:
    """The worth of every method on every problem, its mean improvement over the plain sum, and its mean rank."""
    labels = list(suite.styles)
    head = [Head(f"{problem} % ↑", 2, 100, True) for problem in suite.problems]
    columns = [marked([suite.worth[problem].get(label, {}) for label in labels], True) for problem in suite.problems]
    whole = together(suite)
    columns.append([Cell(whole[label].interval) if label in whole else None for label in labels])
    head.append(Head("all, against Sum() % ↑", 2, 100, True))
    found = suite.ranking
    text = f"No mean rank: {found}."
    if not isinstance(found, str):
        apart = f"two methods differ if {found.critical:.2f} apart (Nemenyi)"
        text = " ".join([f"Mean rank over {len(found.problems)} problems; {apart}.", *dependence(suite)])
        ranks = dict(zip(found.methods, found.mean.tolist(), strict=True))
        columns.append([Cell(Interval(ranks[label], math.nan, math.nan, 1)) if label in ranks else None
                        for label in labels])  # fmt: skip
        head.append(Head("mean rank ↓", 2))
    rows = [((label,), tuple(column[i] for column in columns)) for i, label in enumerate(labels)]
    arms = [arm for study in suite.studies for arm in study.arms]
    caption = (
        "Worth of each method: Δm against training each task alone where those runs exist, else the improvement over "
        f"Sum(). {_seeds(arms)} {_selection(*suite.studies)} {text} {MARKS}{_undefined(*suite.studies)}"
    )
    return Sheet("all-problems", "All problems", caption, ("method",), tuple(head), tuple(rows))


def marked(columns: Sequence[Seeds], higher: bool | None) -> list[Cell | None]:
    """The cells of a column from the values by seed of each method; the best and those as good as it are marked.

    A method is as good as the best if a paired t test over their common seeds does not reject, corrected for the number
    of methods. Where nothing is rejected, nothing is marked: there is no best.

    Example:
        >>> a, b = {0: 1.0, 1: 1.1, 2: 1.2}, {0: 0.5, 1: 0.61, 2: 0.7}
        >>> [cell.best for cell in marked([a, b, {0: 5.0}], higher=True)]
        [True, False, False]
    """
    cells = [Cell(interval(values.values())) if values else None for values in columns]
    known = {i: cell.value.mean for i, cell in enumerate(cells) if cell is not None and cell.value.seeds > 1}
    if higher is None or len(known) < 2:
        return cells
    best = (max if higher else min)(known, key=lambda i: known[i])
    p = holm({str(i): paired_t(_differences(columns[i], columns[best])) for i in known if i != best})
    alike = {best} | {int(i) for i, value in p.items() if value >= 1 - LEVEL}  # who shares no seeds is not tested
    if len(alike) == len(p) + 1:
        return cells
    return [replace(cell, best=i in alike) if cell is not None else None for i, cell in enumerate(cells)]


def _differences(values: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    return [values[seed] - other[seed] for seed in values if seed in other]


def _column(
    arms: Sequence[Arm], head: Head, read: Callable[[Arm], Seeds], up: bool | None
) -> tuple[Head, list[Cell | None]]:
    cells = marked([read(arm) for arm in arms], up)
    if head.factor == 1 and up is not None:  # as many decimals as show two digits of a typical interval
        halves = sorted(c.value.half for c in cells if c is not None and c.value.half > 0)
        if halves:
            size = 1 - math.floor(math.log10(halves[len(halves) // 2]))
            head = replace(head, decimals=min(max(size, 0), 5))
    return head, cells


def _measure(task: str, name: str) -> Callable[[Arm], Seeds]:
    return lambda arm: measured(arm, task, name)


def _over_sum(arm: Arm, study: Study) -> Seeds:
    return {} if arm is study.reference else joint_improvement(arm, study)


def _alone(study: Study, task: str, name: str) -> Cell | None:
    values = measured(study.singles[task], task, name) if task in study.singles else {}
    return Cell(interval(values.values())) if values else None


def _seeds(arms: Sequence[Arm]) -> str:
    counts = sorted({len(arm.finished) for arm in arms})
    if counts[-1] < 2:
        return "One seed: there are no intervals, and no best."
    many = f"{counts[-1]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Mean ± half of the 95 % interval (Student's t) over {many} seeds."


def _selection(*studies: Study) -> str:
    chosen = {
        trial.run.config.select
        for study in studies
        for arm in (*study.arms, *study.singles.values())
        for trial in arm.trials
    }
    epoch = {"last": "after the last epoch", "validation": "of the epoch that is best on the validation data"}
    return f"Test metrics {' or '.join(epoch.get(name, name) for name in sorted(chosen))}."


def _undefined(*studies: Study) -> str:
    """What is in no mean."""
    arms = [arm for study in studies for arm in (*study.arms, *study.singles.values())]
    missing = undefined(trial.run for arm in arms for trial in arm.finished)
    return f" {missing}" if missing else ""


def _steps(study: Study) -> str:
    """Numbers of training steps, where methods differ in them, as with equal compute."""
    steps = {arm.label: {(trial.run.result or {}).get("steps") for trial in arm.finished} for arm in study.arms}
    known = {label: sorted(step for step in found if step) for label, found in steps.items()}
    if len({step for found in known.values() for step in found}) < 2:
        return ""
    each = (f"{label} {' to '.join(map(str, dict.fromkeys((f[0], f[-1]))))}" for label, f in known.items() if f)
    return f"Training steps: {', '.join(each)}. "
