"""Two methods side by side on stored runs: what B brings over A, whether it is real, and what it costs.

Differences are relative improvements ``± (B - A) / |A|``, a mean over a task's measures and then over tasks, between
runs of one problem and one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord import problems
from accord.bench import significance
from accord.bench.labels import GIVEN, settings_of
from accord.bench.stats import Interval, delta_m, gains, interval
from accord.bench.store import Run
from accord.errors import AccordError

STRUCTURE = ("architecture", "encoder")  # what two runs of "the same problem" may differ in, if it is said
LISTED = 6  # undefined measures that are named one by one
NEVER = ("select", "tasks")  # with these two different, test metrics do not mean the same


@dataclass(frozen=True)
class Measured:
    """One measure of one task: both means over seeds, and the improvement."""

    task: str
    name: str
    higher: bool
    a: float
    b: float
    gain: Interval


@dataclass(frozen=True)
class Difference:
    """What B brings over A on one problem; intervals at 95 % over the seeds that both finished.

    Args:
        problem: its spelling, that of A if they differ.
        differences: the improvement in the mean over tasks, by seed; NaN where it is no finite number.
        gain: their mean.
        p: of the paired t test.
        p_flip: of the sign-flip test.
        measures: every measure of every task.
        step_ratio: time of a step of B over A, by seed.
        total_ratio: training time of B over A, by seed.
        steps: of A and B; the smallest and the largest where seeds differ.
        lr: learning rates of A and B.
        others: other settings that differ, with both values.
    """

    problem: str
    differences: dict[int, float]
    gain: Interval
    p: float
    p_flip: float
    measures: tuple[Measured, ...]
    step_ratio: Interval
    total_ratio: Interval
    steps: tuple[str, str]
    lr: tuple[str, str]
    others: dict[str, tuple[str, str]]

    @property
    def spread(self) -> float:
        """Standard deviation of the differences over seeds; NaN with one."""
        return float(np.std(list(self.differences.values()), ddof=1)) if len(self.differences) > 1 else math.nan


@dataclass(frozen=True)
class Comparison:
    """B against A over all problems that both finished.

    Args:
        a: label of the baseline.
        b: label of what is compared with it.
        problems: one entry each.
        corrected: p-values of the problems, corrected for their number (Holm).
        gain: mean over the problems, for these problems and new seeds; NaN from single seeds.
        p: of that mean being 0.
        p_problems: of Wilcoxon's test over the problems' means, which speaks about other problems too; without those
            that have a single seed, for single runs are never ranked.
        notes: what was left out, in words.
    """

    a: str
    b: str
    problems: tuple[Difference, ...]
    corrected: dict[str, float]
    gain: Interval
    p: float
    p_problems: float
    notes: tuple[str, ...]


def compare(a: Sequence[Run], b: Sequence[Run], names: tuple[str, str]) -> Comparison:
    """Compare two methods on the problems and seeds that both finished.

    Args:
        a: runs of the baseline, of any problems; each problem and seed once.
        b: runs of the other method.
        names: their labels.

    Raises:
        AccordError: if they share no problem, or no seed, or differ in what must be equal; it says what differs.
    """
    left, right = _by_problem(a, names[0]), _by_problem(b, names[1])
    pairs, notes = _matched(left, right, names)
    found = []
    for one, other in pairs:
        common = sorted(left[one].keys() & right[other].keys())
        apart = len(left[one].keys() ^ right[other].keys())
        if apart:
            notes.append(f"{one}: {apart} {'seed' if apart == 1 else 'seeds'} that only one of both finished left out")
        if common:
            entry = _difference(one, [(left[one][seed], right[other][seed]) for seed in common])
            found.append(entry)
            if lost := [str(seed) for seed, value in entry.differences.items() if math.isnan(value)]:
                notes.append(
                    f"{one}: left out of every mean and test, because a measure is no finite number there or is 0 "
                    f"under {names[0]}: seed {', '.join(lost)}"
                )
    if not found:
        raise AccordError(f"found no seed that both {names[0]} and {names[1]} finished, expected at least one")
    whole = significance.pooled([entry.differences.values() for entry in found])
    lonely = [entry.problem for entry in found if entry.gain.seeds < 2]
    if lonely and len(found) > 1:
        notes.append(f"one seed each, so left out of the overall interval: {', '.join(lonely)}")
    return Comparison(
        *names,
        tuple(found),
        significance.holm({entry.problem: entry.p for entry in found}),
        whole.interval,
        whole.p,
        significance.wilcoxon([entry.gain.mean for entry in found if entry.gain.seeds > 1]),
        tuple(notes),
    )


def _by_problem(runs: Sequence[Run], name: str) -> dict[str, dict[int, Run]]:
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        if run.finished:
            known = found.setdefault(run.config.problem, {}).setdefault(run.config.seed, run)
            if known is not run:
                raise AccordError(
                    f"found two runs of {name} on {run.config.problem} with seed {run.config.seed}, expected one: "
                    f"{known.path} and {run.path}"
                )
    if not found:
        raise AccordError(f"found no finished run of {name}, expected at least one")
    return found


def _matched(
    left: Mapping[str, Any], right: Mapping[str, Any], names: tuple[str, str]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Equal spellings first; then those that differ in architecture and encoder alone, where only one is left each."""
    pairs = [(problem, problem) for problem in left if problem in right]
    rest = [[problem for problem in side if (problem, problem) not in pairs] for side in (left, right)]
    keys = [{problem: _data(problem) for problem in side} for side in rest]
    for one in list(rest[0]):
        same = [other for other in rest[1] if keys[1][other] == keys[0][one]]
        alike = [other for other in rest[0] if keys[0][other] == keys[0][one]]
        if len(same) == 1 and len(alike) == 1:
            pairs.append((one, same[0]))
            rest[0].remove(one)
            rest[1].remove(same[0])
    if not pairs:
        one, other = next(iter(left)), next(iter(right))
        raise AccordError(
            f"{names[0]} and {names[1]} share no problem: {_apart(one, other)}; runs of different problems cannot be "
            "compared"
        )
    notes = [f"only {name} was run on {problem}: left out" for name, side in zip(names, rest, strict=True)
             for problem in side]  # fmt: skip
    return pairs, notes


def _data(problem: str) -> tuple[Any, ...]:
    """Everything about a problem but its architecture."""
    parsed = problems.parse(problem)
    return (parsed.name, *(str(item) for item in sorted(vars(parsed).items()) if item[0] not in STRUCTURE))


def _apart(one: str, other: str) -> str:
    first, second = problems.parse(one), problems.parse(other)
    if first.name != second.name:
        return f"one holds {one}, the other {other}"
    differing = [f"{key}={value!r} against {vars(second)[key]!r}" for key, value in vars(first).items()
                 if value != vars(second)[key]]  # fmt: skip
    return f"{first.name} with {', '.join(differing)}"


def measures_of(run: Run) -> dict[str, dict[str, tuple[float, bool]]]:
    """Every test measure by task and name: its value, and whether higher is better."""
    found = {}
    for task, score in (run.result or {}).get("test", {}).items():
        several = score.get("measures") or {score["metric"]: score}
        found[task] = {name: (float(one["value"]), bool(one["higher_is_better"])) for name, one in several.items()}
    return found


def undefined(runs: Iterable[Run]) -> str:
    """Which test measures are no number and hence in no mean, in a sentence; "" if there are none.

    A mean over the seeds that are left would look like that of a method which never fails.

    Args:
        runs: finished ones; others have no test measures.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for run in runs:
        for task, part in measures_of(run).items():
            for name, (value, _) in part.items():
                if math.isnan(value):
                    found.setdefault((run.config.label, f"{task} {name}"), []).append(run.config.seed)
    parts = [f"{label}: {what} of seed {', '.join(map(str, seeds))}" for (label, what), seeds in found.items()]
    if not parts:
        return ""
    more = f"; and {len(parts) - LISTED} more" if len(parts) > LISTED else ""
    return f"No number, and in no mean (diverged, or undefined on these data): {'; '.join(parts[:LISTED])}{more}."


def _difference(problem: str, pairs: Sequence[tuple[Run, Run]]) -> Difference:
    _refuse(problem, pairs)
    before, after = ([measures_of(run) for run in side] for side in zip(*pairs, strict=True))
    if any(one.keys() != other.keys() for one, other in zip(before, after, strict=True)):
        raise AccordError(f"the runs on {problem} have different tasks: {sorted(before[0])} and {sorted(after[0])}")
    higher = {task: {name: up for name, (_, up) in part.items()} for task, part in before[0].items()}
    plain = [[{task: {name: value for name, (value, _) in part.items()} for task, part in one.items()} for one in side]
             for side in (before, after)]  # fmt: skip
    by_measure = [gains(b, a, higher) for a, b in zip(*plain, strict=True)]
    whole = {pair[0].config.seed: delta_m(b, a, higher) for pair, a, b in zip(pairs, *plain, strict=True)}
    differences = {seed: value if math.isfinite(value) else math.nan for seed, value in whole.items()}
    measured = tuple(
        Measured(
            task,
            name,
            up,
            float(np.mean([one[task][name] for one in plain[0]])),
            float(np.mean([one[task][name] for one in plain[1]])),
            interval(one[task][name] for one in by_measure),
        )
        for task, part in higher.items()
        for name, up in part.items()
    )
    configs = [[run.config for run in side] for side in zip(*pairs, strict=True)]
    steps = [sorted({run.result["steps"] for run in side if run.result}) for side in zip(*pairs, strict=True)]
    return Difference(
        problem,
        differences,
        interval(differences.values()),
        significance.paired_t(differences.values()),
        significance.sign_flip(differences.values()),
        measured,
        interval(b.milliseconds / a.milliseconds for a, b in pairs),
        interval(_seconds(b) / _seconds(a) for a, b in pairs),
        (_range(steps[0]), _range(steps[1])),
        (_range(sorted({c.lr for c in configs[0]})), _range(sorted({c.lr for c in configs[1]}))),
        _others(pairs),
    )


def _refuse(problem: str, pairs: Sequence[tuple[Run, Run]]) -> None:
    for a, b in pairs:
        for key in NEVER:
            one, other = getattr(a.config, key), getattr(b.config, key)
            if one != other:
                raise AccordError(
                    f"the runs on {problem} differ in {key} ({one!r} against {other!r}), so that their test metrics do "
                    "not mean the same; run one of them again"
                )


def _others(pairs: Sequence[tuple[Run, Run]]) -> dict[str, tuple[str, str]]:
    """Settings that differ, apart from method, seed and learning rate."""
    found: dict[str, tuple[str, str]] = {}
    for a, b in pairs:
        left, right = settings_of(a), settings_of(b)
        for key in (*left, *(key for key in right if key not in left)):
            if key not in (*GIVEN, "lr") and left.get(key) != right.get(key):
                found[key] = (str(left.get(key)), str(right.get(key)))
        if a.config.problem != b.config.problem:
            first, second = vars(problems.parse(a.config.problem)), vars(problems.parse(b.config.problem))
            found |= {k: (str(first[k]), str(second[k])) for k in STRUCTURE if first.get(k) != second.get(k)}
    return found


def _seconds(run: Run) -> float:
    return float((run.result or {}).get("seconds") or math.nan)


def _range(values: Sequence[float]) -> str:
    ends = list(dict.fromkeys(f"{value:g}" for value in values[:1] + values[-1:]))  # type: ignore[operator]
    return " to ".join(ends)
