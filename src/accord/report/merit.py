"""What a method is worth: test metrics per seed, Delta-m against single-task training, differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from accord.bench.comparison import measures_of
from accord.bench.stats import Interval, delta_m, interval
from accord.report.study import Arm, Study, Trial
from accord.report.text import SPACE

Seeds = dict[int, float]  # a value for each seed
Parts = dict[str, dict[str, float]]  # every measure of every task


def ends(found: Interval) -> tuple[float, float] | None:
    """Both ends of an interval; None where one seed cannot give any."""
    return None if math.isnan(found.low) else (found.low, found.high)


def span(values: Mapping[int, float]) -> tuple[float, float] | None:
    """The smallest and the largest seed; None with fewer than two."""
    return (min(values.values()), max(values.values())) if len(values) > 1 else None


def over(values: Mapping[int, float]) -> Interval:
    """The mean over seeds with its 95 % interval."""
    return interval(values.values())


def metric_names(study: Study) -> dict[str, str]:
    """The name of each task's test metric, where one is known, with an arrow for the better direction."""
    return {
        task: f"{found['metric']}{SPACE}{'↑' if found['higher_is_better'] else '↓'}"
        for task in study.tasks
        if (found := _any_entry(study, task))
    }


def main_metric(study: Study, task: str) -> tuple[str, bool] | None:
    """The name of a task's main metric and whether higher is better; None where no run is finished."""
    found = _any_entry(study, task)
    return (found["metric"], bool(found["higher_is_better"])) if found else None


def scores(arm: Arm, task: str) -> Seeds:
    """The test metric of one task by seed."""
    return {trial.seed: entry["value"] for trial in arm.trials if (entry := _entry(trial, task))}


def measures(study: Study, task: str) -> dict[str, bool]:
    """The measures of a task, and whether higher is better; one of them unless the problem has more."""
    arms = [*study.arms, *study.singles.values()]
    found = (measures_of(trial.run).get(task, {}) for arm in arms for trial in arm.trials)
    return {name: up for name, (_, up) in next((part for part in found if part), {}).items()}


def measured(arm: Arm, task: str, name: str) -> Seeds:
    """One measure of one task by seed."""
    found = {trial.seed: measures_of(trial.run).get(task, {}) for trial in arm.trials}
    return {seed: part[name][0] for seed, part in found.items() if name in part}


def improvement(arm: Arm, study: Study, task: str) -> Seeds:
    """Relative improvement of one task over the plain sum with the same seed, the mean over its measures."""
    if study.reference is None:
        return {}
    own, other = _values(arm), _values(study.reference)
    up = {task: measures(study, task)}
    return {
        seed: delta_m({task: own[seed][task]}, other[seed], up)
        for seed in own
        if task in own[seed] and task in other.get(seed, {})
    }


def joint_improvement(arm: Arm, study: Study) -> Seeds:
    """Mean over tasks of ``improvement``, for seeds that both have finished."""
    parts = [improvement(arm, study, task) for task in study.tasks]
    seeds = set.intersection(*map(set, parts)) if parts else set()
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in sorted(seeds)}


def against_single(arm: Arm, study: Study, flat: bool = False) -> tuple[Seeds, str]:
    """Delta-m by seed, against each task alone with the same seed.

    Args:
        arm: the method.
        study: with single-task runs.
        flat: over all measures instead of over tasks; see ``stats.delta_m``.

    Returns:
        The values, and if there are none, why.
    """
    alone = {task: scores(single, task) for task, single in study.singles.items()}
    lacking = [task for task in study.tasks if not alone.get(task)]
    if lacking:
        return {}, "no single-task runs" if len(lacking) == len(study.tasks) else f"no run of {lacking[0]} alone"
    trained = set.intersection(*(set(scores(arm, task)) for task in study.tasks))
    seeds = sorted(trained.intersection(*(alone[task] for task in study.tasks)))
    if not seeds:
        if trained:
            return {}, "no single-task runs with its seeds"
        return {}, "not all tasks trained" if arm.finished else "no finished run"
    own, single = _values(arm), {task: _values(study.singles[task]) for task in study.tasks}
    higher = {task: measures(study, task) for task in study.tasks}
    return {
        seed: delta_m(own[seed], {task: single[task][seed][task] for task in study.tasks}, higher, flat)
        for seed in seeds
    }, ""


def uneven(study: Study) -> bool:
    """Whether tasks differ in their number of measures, so that Delta-m flat is another number than per task."""
    return len({len(measures(study, task)) for task in study.tasks}) > 1


def worth(arm: Arm, study: Study) -> Seeds:
    """What ranks methods: Delta-m where every task was trained alone, else the improvement over the plain sum."""
    if any(against_single(other, study)[0] for other in study.arms):
        return against_single(arm, study)[0]
    if arm is study.reference:
        return {trial.seed: 0.0 for trial in arm.finished}
    return joint_improvement(arm, study)


def rates(arm: Arm) -> str:
    """The learning rate of a method; several where its seeds differ."""
    return ", ".join(dict.fromkeys(f"{trial.run.config.lr:g}" for trial in arm.trials))


def peak(arm: Arm) -> Seeds:
    """Peak memory in MiB by seed, where it was measured."""
    found = {trial.seed: (trial.run.result or {}).get("peak_bytes") for trial in arm.trials}
    return {seed: value / 2**20 for seed, value in found.items() if value}


def milliseconds(arm: Arm) -> Seeds:
    """Time of a training step without measuring, by seed."""
    found = {trial.seed: trial.milliseconds for trial in arm.trials}
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def _values(arm: Arm) -> dict[int, Parts]:
    return {
        trial.seed: {
            t: {name: value for name, (value, _) in part.items()} for t, part in measures_of(trial.run).items()
        }
        for trial in arm.finished
    }


def _entry(trial: Trial, task: str) -> dict[str, Any]:
    return dict((trial.run.result or {}).get("test", {}).get(task, {}))


def _any_entry(study: Study, task: str) -> dict[str, Any]:
    arms = [*study.arms, *study.singles.values()]
    return next((entry for arm in arms for trial in arm.trials if (entry := _entry(trial, task))), {})
