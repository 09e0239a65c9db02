"""The ledger: with what, on what, and with which incidents the runs were made."""

from __future__ import annotations

from collections import Counter

from accord.bench.labels import ADDITIONS, GIVEN
from accord.report.study import Arm, Study, Trial
from accord.report.table import Column, Table
from accord.report.text import UNDEFINED, fixed, listing, share, whole


def settings(study: Study) -> Table:
    """Every setting, with all the values that occur."""
    trials = [trial for arm in (*study.arms, *study.singles.values()) for trial in arm.trials]
    values: dict[str, Counter[str]] = {}
    added = any(trial.run.config.additions for trial in trials)
    for trial in trials:
        config = trial.run.config
        about = {"machine": config.machine, **{f"{name} version": text for name, text in config.versions.items()}}
        for key, value in {**config.settings(), **about}.items():
            if key not in (*GIVEN, "tasks") and (key not in ADDITIONS or added):
                values.setdefault(key, Counter())[_shown(value)] += 1
    seeds = sorted({trial.seed for trial in trials})
    rows = [("problem", study.problem), ("tasks", listing(study.tasks)), ("seeds", listing([str(s) for s in seeds]))]
    rows += [(key, listing([text for text, _ in found.most_common()])) for key, found in values.items()]
    return Table("Settings", (Column("setting"), Column("value", words=True)), tuple(rows), name="settings")


def runs(study: Study) -> Table:
    """One row per run: state, length, cost of the monitor, counted events."""
    columns = (
        Column("run"),
        Column("seed"),
        Column("state"),
        Column("epochs"),
        Column("steps"),
        Column("seconds"),
        Column("parameters", "shared by several tasks / all"),
        Column("probed steps"),
        Column("monitor", "share of the training time spent on measuring"),
        Column("events", "what went differently from plan", words=True),
    )
    rows = [_run(arm.label, trial) for arm in study.arms for trial in arm.trials]
    rows += [_run(f"{task} alone", trial) for task, arm in study.singles.items() for trial in arm.trials]
    caption = (
        "Events are counted on probed steps: a task whose loss or gradient is not finite is left out of that step."
    )
    return Table("Runs", columns, tuple(rows), caption, "runs")


def events(arm: Arm) -> Counter[str]:
    """How often each kind of event occurred, and to which task."""
    return Counter(
        f"{event.kind}{f' ({event.task})' if event.task else ''}"
        for record in arm.records
        for step in record.events
        for event in step
    )


def _run(label: str, trial: Trial) -> tuple[str, ...]:
    result, record = trial.run.result or {}, trial.record
    counts = events(Arm(label, None, (trial,)))  # type: ignore[arg-type]
    overhead = result.get("overhead")
    shared, every = result.get("shared_parameters"), result.get("parameters")
    return (
        label,
        str(trial.seed),
        "finished" if trial.run.finished else "unfinished",
        str(result.get("epochs", len(trial.run.history))),
        str(result.get("steps", UNDEFINED)),
        fixed(result["seconds"], 1) if "seconds" in result else UNDEFINED,
        f"{whole(shared)} / {whole(every)}" if shared is not None and every is not None else UNDEFINED,
        str(len(record)) if record is not None else "no record",
        share(overhead) if overhead is not None else UNDEFINED,
        listing([f"{count} × {kind}" for kind, count in counts.items()]) or "none",
    )


def _shown(value: object) -> str:
    return "default" if value is None else str(value)
