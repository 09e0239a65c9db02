"""Stored runs, sorted for the report: one `Study` per problem, one `Arm` per method, one `Trial` per seed.

Everything that the report shows is a pure function of a Study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from accord.conflict import defined
from accord.errors import AccordError
from accord.record import Record
from accord.report.palette import Style, method_style, reference_style, task_style

if TYPE_CHECKING:
    from accord.bench.store import Run

REFERENCE = "Sum()"  # what every method is compared with: plain PyTorch
GIVEN = {"problem", "method", "seed"}  # what a label or its place on the page says already


@dataclass(frozen=True, eq=False)
class Trial:
    """One run with its record; None where nothing was probed."""

    run: Run
    record: Record | None

    @property
    def seed(self) -> int:
        """The seed, by which runs of two methods are paired."""
        return self.run.config.seed

    @property
    def measured(self) -> bool:
        """Whether the Gramian of at least two tasks with a gradient was recorded on some step."""
        record = self.record
        return record is not None and bool((defined(record.gramian).sum(axis=-1) > 1).any())


@dataclass(frozen=True, eq=False)
class Arm:
    """The runs of one method with one configuration, by seed."""

    label: str
    style: Style
    trials: tuple[Trial, ...]

    @property
    def records(self) -> list[Record]:
        """The records of the probed runs."""
        return [trial.record for trial in self.trials if trial.record is not None and len(trial.record)]

    @property
    def measured(self) -> list[Record]:
        """The records with Gramians of at least two tasks."""
        return [trial.record for trial in self.trials if trial.record is not None and trial.measured]

    @property
    def finished(self) -> list[Trial]:
        """The trials with a result."""
        return [trial for trial in self.trials if trial.run.finished]


@dataclass(frozen=True, eq=False)
class Study:
    """All runs of one problem.

    Args:
        problem: its spelling.
        tasks: all names, in the order in which the problem names them.
        arms: the methods; the plain sum comes first.
        singles: single-task baselines by task.
    """

    problem: str
    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    singles: dict[str, Arm] = field(default_factory=dict)

    @property
    def reference(self) -> Arm | None:
        """The plain sum, if it was run."""
        return next((arm for arm in self.arms if arm.label.split(" · ")[0] == REFERENCE), None)

    @property
    def unmeasured(self) -> str:
        """Why no conflict can be shown; empty if it can."""
        if len(self.tasks) < 2:
            return "Needs two tasks: with one there is no pair that could conflict."
        if not any(arm.measured for arm in self.arms):
            return "No Gramians were recorded in these runs: monitor_every is 0. Train with a larger one to see this."
        return ""

    def style(self, task: str) -> Style:
        """The style of a task, the same in every chart."""
        return task_style(self.tasks.index(task))

    @cached_property
    def edges(self) -> np.ndarray:
        """(N+1,) edges of windows of steps, the same for all methods, with about five probes in each."""
        index = [record.index for arm in self.arms for record in arm.records]
        if not index:
            return np.array([0.0, 1.0])
        probes = float(np.median([len(steps) for steps in index]))
        count = int(np.clip(probes // 5 if probes >= 15 else probes, 1, 40))
        return np.linspace(min(steps[0] for steps in index), max(steps[-1] for steps in index) + 1, count + 1)


def studies(runs: Iterable[Run]) -> list[Study]:
    """Sort runs by problem and method.

    Args:
        runs: from ``accord.bench.store.load_runs``, in any order.

    Returns:
        One Study per problem, in order of name.

    Raises:
        AccordError: if there is no run, or two runs with one configuration and one seed.
    """
    problems: dict[str, list[Run]] = {}
    for run in runs:
        problems.setdefault(run.config.problem, []).append(run)
    if not problems:
        raise AccordError("found no run to report on, expected at least one run folder; run `accord run` first")
    return [_study(name, problems[name]) for name in sorted(problems)]


def _study(problem: str, runs: Sequence[Run]) -> Study:
    trials = [Trial(run, _record(run)) for run in sorted(runs, key=lambda run: (run.label, run.config.seed))]
    alone = [trial for trial in trials if len(trial.run.config.tasks or ()) == 1]
    whole = [trial for trial in trials if trial not in alone]
    groups = _grouped(whole, _labels(whole))
    ordered = sorted(groups, key=lambda label: (label.split(" · ")[0] != REFERENCE, label))
    first = bool(ordered) and ordered[0].split(" · ")[0] == REFERENCE
    arms = [
        Arm(label, reference_style() if first and i == 0 else method_style(i - first), groups[label])
        for i, label in enumerate(ordered)
    ]
    tasks = _tasks(whole or alone)
    found = _grouped(alone, [(trial.run.config.tasks or ("",))[0] for trial in alone])
    singles = {task: Arm(task, reference_style(), found[task]) for task in tasks if task in found}
    return Study(problem, tasks, tuple(arms), singles)


def _grouped(trials: Sequence[Trial], labels: Sequence[str]) -> dict[str, tuple[Trial, ...]]:
    groups: dict[str, dict[int, Trial]] = {}
    for trial, label in zip(trials, labels, strict=True):
        known = groups.setdefault(label, {}).setdefault(trial.seed, trial)
        if known is not trial:
            raise AccordError(
                f"found two runs of {label} with seed {trial.seed}, expected one: {known.run.path} and "
                f"{trial.run.path}; name one of them"
            )
    return {label: tuple(by_seed.values()) for label, by_seed in groups.items()}


def _labels(trials: Sequence[Trial]) -> list[str]:
    """The method's spelling, followed by those settings in which runs of the same method differ."""
    configs = [_settings(trial.run) for trial in trials]
    labels = []
    for trial, config in zip(trials, configs, strict=True):
        method = trial.run.config.method
        same = [c for t, c in zip(trials, configs, strict=True) if t.run.config.method == method]
        differing = [key for key in config if any(c.get(key) != config[key] for c in same)]
        labels.append(" · ".join([method, *(f"{key}={_plain(config[key])}" for key in sorted(differing))]))
    return labels


def _settings(run: Run) -> dict[str, object]:
    return {key: value for key, value in run.config.settings().items() if key not in GIVEN}


def _plain(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _tasks(trials: Sequence[Trial]) -> tuple[str, ...]:
    """All names of tasks, from results and records."""
    names: dict[str, None] = {}
    for trial in trials:
        names |= dict.fromkeys((trial.run.result or {}).get("test", {}))
        names |= dict.fromkeys(trial.record.tasks if trial.record is not None else ())
        for epoch in trial.run.history:
            names |= dict.fromkeys(epoch.get("train_loss", {}))
    return tuple(names)


def _record(run: Run) -> Record | None:
    record = run.record()
    return record if record is not None and len(record) else None
