"""What a set of runs of one problem amounts to: one row per method, and two honest sentences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord import conflict, methods
from accord.bench.comparison import measures_of
from accord.bench.labels import REFERENCE, labels, reference
from accord.bench.stats import Interval, delta_m, interval, verdict
from accord.bench.store import Run
from accord.errors import AccordError

LONG = 24  # characters of a label from which on arguments with their default are left out
DIRECTIONS = ("sum", "aggregate", "step")
Scores = dict[str, dict[str, float]]  # every measure of every task
CHANCE = 0.5  # share of negative cosines among unrelated gradients, which pure mini-batch noise is
NOTABLE = 0.05  # share of cases from which on conflict, or harm, is worth a word


@dataclass(frozen=True)
class Row:
    """One method over its seeds; all intervals are over seeds, at 95 %.

    Args:
        label: see ``labels``: the method's spelling, or ``single-<task>``.
        test: the test metric by task.
        delta_m: see ``stats.delta_m``, each seed against the single-task runs of the same seed; None without those.
        against: mean over tasks of the relative improvement over the plain sum with the same seed; None without that.
        against_by_task: the same for each task; empty without that.
        conflict: share of the task pairs with a negative cosine, over all recorded steps; None if none were recorded.
        harm: share of tasks and recorded steps on which the loss is raised to first order, by the plain sum of the
            gradients (``sum``), the combined gradient (``aggregate``) and the optimiser's real step (``step``).
        milliseconds: of a training step without measuring.
    """

    label: str
    test: dict[str, Interval]
    delta_m: Interval | None
    against: Interval | None
    against_by_task: dict[str, Interval]
    conflict: Interval | None
    harm: dict[str, Interval] | None
    milliseconds: Interval


def summarise(runs: Sequence[Run]) -> list[Row]:
    """One row for each method and each task trained alone, in the order of the runs.

    Args:
        runs: of one problem; those that are not finished are left out.
    """
    finished = [run for run in runs if run.finished]
    groups: dict[str, dict[int, Run]] = {}
    for run, label in zip(finished, labels(finished), strict=True):
        groups.setdefault(label, {})[run.config.seed] = run
    plain = reference({label: next(iter(group.values())) for label, group in groups.items()})
    single: dict[int, Scores] = {}
    for run in finished:
        if run.config.baseline:
            single.setdefault(run.config.seed, {}).update(_scores(run))
    return [
        _row(label, group, {} if plain == label else groups.get(plain or "", {}), single)
        for label, group in groups.items()
    ]


def _row(label: str, group: dict[int, Run], reference: dict[int, Run], single: dict[int, Scores]) -> Row:
    scores = {seed: _scores(run) for seed, run in group.items()}
    higher = {
        task: {name: up for name, (_, up) in part.items()}
        for run in group.values()
        for task, part in measures_of(run).items()
    }
    plain = {seed: _scores(run) for seed, run in reference.items()}
    alone = next(iter(group.values())).config.tasks is not None
    compared = not alone and bool(plain)
    probes = [probe for run in group.values() if (probe := probed(run)) is not None]
    return Row(
        label,
        {task: interval(scores_of(run)[task] for run in group.values()) for task in higher},
        None if alone or not single else _relative(scores, single, higher),
        _relative(scores, plain, higher) if compared else None,
        {task: _relative(scores, plain, {task: up}) for task, up in higher.items()} if compared else {},
        interval(share for share, _ in probes) if probes else None,
        {name: interval(harm[name] for _, harm in probes) for name in DIRECTIONS} if probes else None,
        interval(run.milliseconds for run in group.values()),
    )


def short(label: str) -> str:
    """A method's spelling; where it is long, without the arguments that have their default.

    Example:
        >>> short("CAGrad(c=0.5)"), short("FairGrad(alpha=2.0, max_norm=1.0)")
        ('CAGrad(c=0.5)', 'FairGrad(alpha=2.0)')
    """
    if len(label) <= LONG:
        return label
    name, *settings = label.split(" · ")
    spelling, *added = name.split(" + ")
    try:
        method = methods.parse(spelling)
    except AccordError:  # a name that the user gave
        return label
    default = {f.name: f.default for f in dataclasses.fields(method)}  # type: ignore[arg-type]
    kept = [f"{name}={getattr(method, name)!r}" for name in default if getattr(method, name) != default[name]]
    return " · ".join([" + ".join([f"{type(method).__name__}({', '.join(kept)})", *added]), *settings])


def scores_of(run: Run) -> dict[str, float]:
    """The test metric by task."""
    return {task: entry["value"] for task, entry in _test(run).items()}


def probed(run: Run) -> tuple[float, dict[str, float]] | None:
    """Conflict incidence and harm rates of a run, or None if no Gramian of several tasks was recorded."""
    record = run.record()
    if record is None or len(record.tasks) < 2 or not np.isfinite(record.gramian).any():
        return None
    share = float(conflict.rate(conflict.incidence(record.gramian)).value)
    harm = {name: line.rate().value for name, line in conflict.lines(record).items()}  # (K,) each
    return share, {name: float(conflict.rate(values).value) for name, values in harm.items()}


def sentences(rows: Sequence[Row]) -> list[str]:
    """Was there conflict, and did resolving it help? Computed, with the same words for either answer.

    Args:
        rows: from ``summarise``, among them the plain sum.

    Returns:
        Two sentences; none where the plain sum, or other methods, are missing.
    """
    plain = next((row for row in rows if row.label == REFERENCE), None)
    others = [row for row in rows if row.against is not None]
    if plain is None or not others or plain.conflict is None or plain.harm is None:
        return []
    return [_was_there_conflict(plain.conflict, plain.harm), _did_it_help(plain, others)]


def _was_there_conflict(share: Interval, harm: dict[str, Interval]) -> str:
    if harm["sum"].mean >= NOTABLE:
        opening = "There was harmful conflict"
    elif share.mean > CHANCE:
        opening = "There was frequent conflict, though the plain sum seldom harmed a task"
    elif share.mean >= NOTABLE:
        opening = "There was conflict, no more often than between unrelated gradients, and seldom harm"
    else:
        opening = "There was hardly any conflict"
    return (
        f"{opening}: under the plain sum {_percent(share.mean)} of the task pairs had gradients with a negative cosine "
        f"(unrelated gradients would have 50 %), the summed gradient raised a task's loss to first order in "
        f"{_percent(harm['sum'].mean)} of all cases (tasks x steps), and the optimiser's real step in "
        f"{_percent(harm['step'].mean)}."
    )


def _did_it_help(plain: Row, others: Sequence[Row]) -> str:
    said: dict[str, list[str]] = {}
    for row in others:
        assert row.against is not None
        change = f"{100 * row.against.mean:+.1f} %"
        if not math.isnan(row.against.low):
            change += f" [{100 * row.against.low:+.1f}, {100 * row.against.high:+.1f}]"
        word = verdict(row.against)
        if word in ("better", "worse"):  # a mean may hide a task that paid
            tasks = (f"{task} {100 * row.against_by_task[task].mean:+.1f}" for task in row.against_by_task)
            change += f" ({', '.join(tasks)})"
        said.setdefault(word, []).append(f"{short(row.label)} {change}")
    opening = {
        "better": "helped with",
        "worse": "hurt with",
        "no difference beyond seed noise": "made no difference beyond seed noise with",
        "not known from one seed": "changed the result, by an amount that one seed cannot tell from noise, with",
    }
    parts = [f"{opening[word]} {', '.join(said[word])}" for word in opening if word in said]
    ratios = [row.milliseconds.mean / plain.milliseconds.mean for row in others]
    low, high = min(ratios), max(ratios)
    times = f"{low:.1f}" if high - low < 0.05 else f"{low:.1f} to {high:.1f}"
    return (
        f"Resolving it {'; it '.join(parts)} (mean relative change of the test metrics against the plain sum, paired "
        f"by seed; each 95 % interval by itself), and a step took {times} times as long."
    )


def _percent(share: float) -> str:
    return "an unknown share" if math.isnan(share) else f"{100 * share:.{0 if share >= 0.1 else 1}f} %"


def _test(run: Run) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = (run.result or {}).get("test", {})
    return found


def _scores(run: Run) -> Scores:
    return {task: {name: value for name, (value, _) in part.items()} for task, part in measures_of(run).items()}


def _relative(scores: dict[int, Scores], other: dict[int, Scores], higher: dict[str, dict[str, bool]]) -> Interval:
    """Mean relative improvement over a reference with the same seed, over the tasks in ``higher``."""
    return interval(
        delta_m({task: scores[seed][task] for task in higher}, other[seed], higher) for seed in scores if seed in other
    )
