"""Stored runs, sorted for the report: one `Study` per problem, one `Arm` per method, one `Trial` per seed.

Everything that the report shows is a pure function of a Study.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from accord.bench.labels import baselines, labels, reference
from accord.conflict import defined
from accord.errors import AccordError
from accord.record import Record
from accord.report.palette import Style, method_style, reference_style, task_style

if TYPE_CHECKING:
    from accord.bench.store import Run


@dataclass(frozen=True, eq=False)
class Trial:
    """One run with its record; None where nothing was probed."""

    run: Run
    record: Record | None

    @cached_property
    def looks(self) -> Record | None:
        """Of a sparse run: the record of looks at what is trained and what is frozen."""
        return self.run.looks()

    @property
    def seed(self) -> int:
        """The seed, by which runs of two methods are paired."""
        return self.run.config.seed

    @property
    def milliseconds(self) -> float:
        """Median time of a training step without measuring, from the record that was read already."""
        if self.record is not None and np.isfinite(self.record.step_seconds).any():
            return 1000 * float(np.nanmedian(self.record.step_seconds))
        return self.run.milliseconds

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
    def looks(self) -> list[Record]:
        """Of sparse runs: the records of looks at what is trained and what is frozen."""
        found = [trial.looks for trial in self.trials]
        return [record for record in found if record is not None and "trained" in record.blocks]

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
        found = reference({arm.label: arm.trials[0].run for arm in self.arms})
        return next((arm for arm in self.arms if arm.label == found), None)

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
        One Study per problem, in order of name. A method looks the same in all of them.

    Raises:
        AccordError: if there is no run, or two runs with one configuration and one seed.
    """
    problems: dict[str, list[Run]] = {}
    for run in runs:
        problems.setdefault(run.config.problem, []).append(run)
    if not problems:
        raise AccordError("found no run to report on, expected at least one run folder; run `accord run` first")
    problems = baselines(problems)
    parts = [(name, *_sorted(problems[name])) for name in sorted(problems)]
    plain = [reference({label: trials[0].run for label, trials in groups.items()}) for _, groups, _ in parts]
    names = sorted(
        {label for (_, groups, _), own in zip(parts, plain, strict=True) for label in groups if label != own}
    )
    return [
        _study(name, groups, alone, own, {label: method_style(i) for i, label in enumerate(names)})
        for (name, groups, alone), own in zip(parts, plain, strict=True)
    ]


Groups = dict[str, tuple[Trial, ...]]


def _sorted(runs: Sequence[Run]) -> tuple[Groups, list[Trial]]:
    """The trials of all tasks by label, and those of one task alone."""
    trials = [Trial(run, _record(run)) for run in sorted(runs, key=lambda run: (run.label, run.config.seed))]
    alone = [trial for trial in trials if trial.run.config.baseline]
    whole = [trial for trial in trials if len(trial.run.config.tasks or ()) != 1]  # one task, sparse, is neither
    return _grouped(whole, labels([trial.run for trial in whole])), alone


def _study(problem: str, groups: Groups, alone: list[Trial], plain: str | None, styles: dict[str, Style]) -> Study:
    arms = [
        Arm(label, reference_style() if label == plain else styles[label], groups[label])
        for label in sorted(groups, key=lambda label: (label != plain, label))
    ]
    tasks = _tasks([trial for group in groups.values() for trial in group] or alone)
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
