"""What a method is worth: test metrics per seed, Delta-m against single-task training, differences paired by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from accord.bench.stats import Interval, delta_m, gain, interval
from accord.report.study import Arm, Study, Trial
from accord.report.text import SPACE

Seeds = dict[int, float]  # a value for each seed


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


def scores(arm: Arm, task: str) -> Seeds:
    """The test metric of one task by seed."""
    return {trial.seed: entry["value"] for trial in arm.trials if (entry := _entry(trial, task))}


def improvement(arm: Arm, study: Study, task: str) -> Seeds:
    """Relative improvement of one task over the plain sum with the same seed: ``± (M - R) / |R|``."""
    if study.reference is None or not (entry := _any_entry(study, task)):
        return {}
    own, other = scores(arm, task), scores(study.reference, task)
    return {seed: gain(own[seed], other[seed], entry["higher_is_better"]) for seed in own if seed in other}


def joint_improvement(arm: Arm, study: Study) -> Seeds:
    """Mean over tasks of ``improvement``, for seeds that both have finished."""
    parts = [improvement(arm, study, task) for task in study.tasks]
    seeds = set.intersection(*map(set, parts)) if parts else set()
    return {seed: float(np.mean([part[seed] for part in parts])) for seed in sorted(seeds)}


def against_single(arm: Arm, study: Study) -> tuple[Seeds, str]:
    """Delta-m by seed, against each task alone with the same seed.

    Returns:
        The values, and if there are none, why.
    """
    alone = {task: scores(single, task) for task, single in study.singles.items()}
    lacking = [task for task in study.tasks if not alone.get(task)]
    if lacking:
        return {}, "no single-task runs" if len(lacking) == len(study.tasks) else f"no run of {lacking[0]} alone"
    found = {task: scores(arm, task) for task in study.tasks}
    trained = set.intersection(*map(set, found.values()))
    seeds = sorted(trained.intersection(*(alone[task] for task in study.tasks)))
    if not seeds:
        if trained:
            return {}, "no single-task runs with its seeds"
        return {}, "not all tasks trained" if arm.finished else "no finished run"
    higher = {task: bool(_any_entry(study, task)["higher_is_better"]) for task in study.tasks}
    return {
        seed: delta_m({task: found[task][seed] for task in found}, {task: alone[task][seed] for task in found}, higher)
        for seed in seeds
    }, ""


def milliseconds(arm: Arm) -> Seeds:
    """Time of a training step without measuring, by seed."""
    found = {trial.seed: trial.run.milliseconds for trial in arm.trials}
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def _entry(trial: Trial, task: str) -> dict[str, Any]:
    return dict((trial.run.result or {}).get("test", {}).get(task, {}))


def _any_entry(study: Study, task: str) -> dict[str, Any]:
    arms = [*study.arms, *study.singles.values()]
    return next((entry for arm in arms for trial in arm.trials if (entry := _entry(trial, task))), {})
