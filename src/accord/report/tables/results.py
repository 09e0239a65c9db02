"""The table of results: one row per method."""

from __future__ import annotations

import numpy as np

from accord.bench.comparison import undefined
from accord.bench.stats import Interval, interval
from accord.conflict import incidence, rate
from accord.report.merit import against_single, joint_improvement, metric_names, milliseconds, over, scores
from accord.report.plots.harm import harm_rates
from accord.report.study import Arm, Study
from accord.report.table import Column, Table
from accord.report.text import UNDEFINED, fixed, percent, share


def results(study: Study) -> Table:
    """Test metric per task, Delta-m, difference to the plain sum, cost, conflict and harm of every method."""
    metrics = metric_names(study)
    compared = study.reference is not None and len(study.arms) > 1
    columns = [
        Column("method"),
        Column("seeds", "finished runs"),
        *(Column(f"{task} {metrics[task]}" if task in metrics else task, "test metric") for task in study.tasks),
        Column("Δm", "mean over tasks of the relative improvement over training each task alone; higher is better"),
        *([Column("against Sum()", "mean relative improvement over the plain sum with the same seed")] * compared),
        Column("ms/step", "training time per step, monitor included"),
        Column("conflict", "share of task pairs with a negative cosine, over all probed steps"),
        Column("harm", "share of tasks and steps on which the optimiser's step raised the loss to first order"),
    ]
    rows = [_row(study, arm, compared) for arm in study.arms]
    if study.singles:
        alone = ["" if task not in study.singles else _metric(study.singles[task], task) for task in study.tasks]
        seeds = str(max(len(single.finished) for single in study.singles.values()))
        rows.append(("each task alone", seeds, *alone, "0 (reference)", *([UNDEFINED] * (compared + 3))))
    caption = (
        "Mean over seeds ± half of the 95 % interval (Student's t); with one seed there is no interval. "
        f"{_selection(study)} Differences to Sum() are paired by seed."
    )
    if any(len(arm.finished) < len(arm.trials) for arm in study.arms):
        caption += " Unfinished runs have no test metric yet; their probed steps count for conflict and harm."
    runs = [trial.run for arm in (*study.arms, *study.singles.values()) for trial in arm.finished]
    if missing := undefined(runs):
        caption += f" {missing}"
    return Table("Results", tuple(columns), tuple(rows), caption, "results")


def conflict_incidence(arm: Arm) -> np.ndarray:
    """(S,) share of conflicting pairs over all probed steps, for each probed run."""
    return np.array([rate(incidence(record.gramian)).value for record in arm.measured])


def _row(study: Study, arm: Arm, compared: bool) -> tuple[str, ...]:
    merit, lacking = against_single(arm, study)
    waiting = len(arm.trials) - len(arm.finished)
    reference = study.reference is arm
    versus = [UNDEFINED if reference else _signed(over(joint_improvement(arm, study)))] * compared
    harms = harm_rates(arm, study.tasks)[:, 2].mean(axis=-1) if arm.measured else np.empty(0)  # (S,)
    return (
        arm.label,
        f"{len(arm.finished)}" + (f" (+{waiting} unfinished)" if waiting else ""),
        *(_metric(arm, task) for task in study.tasks),
        _signed(over(merit)) if merit else lacking,
        *versus,
        _plain(over(milliseconds(arm)), 2),
        share(interval(conflict_incidence(arm)).mean),
        share(interval(harms).mean),
    )


def _metric(arm: Arm, task: str) -> str:
    return _plain(over(scores(arm, task)), 3)


def _plain(found: Interval, decimals: int) -> str:
    text = fixed(found.mean, decimals)
    return text if found.seeds < 2 else f"{text} ± {fixed(found.half, decimals)}"


def _signed(found: Interval) -> str:
    text = percent(found.mean)
    return text if found.seeds < 2 else f"{text} ± {fixed(100 * found.half, 2)}"


def _selection(study: Study) -> str:
    chosen = {trial.run.config.select for arm in study.arms for trial in arm.trials}
    epoch = {"last": "after the last epoch", "validation": "of the epoch that is best on the validation data"}
    return f"Test metrics are those {' or '.join(epoch[name] for name in sorted(chosen)) or 'of the finished runs'}."
