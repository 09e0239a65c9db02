"""``accord bench``: run a suite, or go on with it, and print its tables."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from accord.bench import cost, files, plan, search, store, suite
from accord.bench.config import RunConfig
from accord.cli import show
from accord.report.text import times

Runs = list[store.Run]


def bench(
    file: Annotated[Path, typer.Argument(help="A suite, such as suites/tiny.yaml.", metavar="SUITE")],
    out: Annotated[Path | None, typer.Option(help="Folder of the suite; default: runs/NAME.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs beside each other; default: 1, on Ray all that fit.")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster; auto: this machine's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
) -> None:  # fmt: skip
    """Run a suite of problems, architectures, methods and seeds; finished runs are skipped, stopped ones go on."""
    asked = suite.read(file)
    root = Path("runs") / asked.name if out is None else out
    arms = plan.arms(asked)
    _announce(asked, arms, root)
    if dry_run:
        return
    files.make_folder(root)
    try:
        with files.lock(root):
            for place in (root, root / store.TRIALS):
                files.sweep(place)
            files.write(root / plan.COPY, file.read_bytes())
            runs = _conduct(asked, arms, root, partial(show.execute, jobs=jobs, ray=ray))
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last finished epoch of each run.", file=sys.stderr)
        raise SystemExit(130) from None
    _tables(runs)
    print(f"\nStored in {root}. For the report: accord report {shlex.quote(str(root))}")


def _announce(asked: suite.Suite, arms: Sequence[RunConfig], root: Path) -> None:
    """What will run, before anything does."""
    final = plan.runs(asked, arms)
    finished = sum((root / config.place / store.RESULT).exists() for config in final)
    print(f"Suite {asked.name} in {root}: {times(len(final), 'run')}, {finished} of them finished.")
    for line in plan.changes(asked, root):
        print(f"The suite has changed since it was last run here: {line}")
    table = show.grid("problem", "method", "seeds", "epochs", "rate")
    for arm in arms:
        rate = "searched" if asked.search else f"{arm.lr:g}"
        table.add_row(arm.problem, arm.label, ", ".join(map(str, asked.seeds)), str(arm.epochs), rate)
    show.console().print(table)
    if asked.search is not None:
        print(show.wrapped(_budget(asked.search, arms)))
    if asked.mode == "equal-compute":
        text = "Equal compute: each method gets the steps that cost as much as all steps of the plain sum; its steps"
        print(show.wrapped(f"{text} are measured first, unless that was done here before."))


def _budget(asked: suite.Search, arms: Sequence[RunConfig]) -> str:
    """What the search costs, in a sentence or two."""
    trials = search.trials(asked, arms)
    epochs = sum(config.epochs for config in trials)
    text = (
        f"Search on validation data: {times(len(search.rates(asked)), 'rate')} from {asked.low:g} to {asked.high:g}, "
        f"the same for every method, with {times(len(asked.seeds), 'seed')}; {times(len(trials), 'trial')} of "
        f"{epochs} epochs in all, one reference for each problem and seed included."
    )
    tuned = any(arm.arm == plan.TUNED for arm in arms)
    return f"{text} Weighted sums get {asked.weights} times the trials of a method." if tuned else text


def _conduct(asked: suite.Suite, arms: list[RunConfig], root: Path, execute: Any) -> Runs:
    """Measure, search, run; whatever of it was done before is not done again."""
    plan.conflicts([] if asked.search or asked.mode == "equal-compute" else plan.runs(asked, arms), root)
    costs, found = None, None
    if asked.mode == "equal-compute":
        arms, costs = cost.limited(arms, root, lambda text: print(text, flush=True))
        _tell_costs(arms, costs)
    if asked.search is not None:
        folder = root / store.TRIALS
        with search.studies(asked, folder):
            pass  # a wrong storage is told before anything is trained
        budgets = [{"problem": a.problem, "label": a.label, **search.budget(asked.search, a)} for a in arms]
        plan.write(asked, plan.runs(asked, arms), root, costs, budgets, final=False)
        trials = search.trials(asked.search, arms)
        plan.conflicts(trials, folder)
        execute(trials, folder, results=False)
        arms, found = search.choose(asked, arms, folder)
        _tell_choice(found)
    configs = plan.runs(asked, arms)
    plan.conflicts(configs, root)
    plan.write(asked, configs, root, costs, found)
    return list(execute(configs, root))


def _tell_costs(arms: Sequence[RunConfig], costs: dict[str, Any]) -> None:
    table = show.grid("problem", "method", "ms/step", "x plain sum", "steps")
    for arm in arms:
        if arm.tasks is None:
            here = costs[cost.where(arm)]
            found = here["methods"][cost.named(arm)]
            steps = arm.max_steps or here["steps_per_epoch"] * arm.epochs
            ratio = found["milliseconds"] / found["plain"]
            table.add_row(arm.problem, arm.label, f"{found['milliseconds']:.2f}", f"{ratio:.2f}", str(steps))
    show.console().print(table)


def _tell_choice(found: Sequence[dict[str, Any]]) -> None:
    table = show.grid("problem", "method", "chosen rate", "validation: % over\nplain sum, usual rate", "trials")
    for entry in found:
        merit = "diverged" if entry["merit"] is None else f"{100 * entry['merit']:+.1f}"
        count = entry["budget"]["candidates"] * entry["budget"]["seeds"]
        table.add_row(entry["problem"], entry["label"], f"{entry['lr']:g}", merit, str(count))
    show.console().print(table)
    edges = [f"{entry['label']} on {entry['problem']} ({entry['edge']})" for entry in found if entry["edge"]]
    if edges:
        print(show.wrapped(f"At the edge of what was tried, so that a wider range may do better: {', '.join(edges)}."))


def _tables(runs: Runs) -> None:
    """A table for each problem that has methods, with the tasks that were trained alone for it."""
    for problem in dict.fromkeys(run.config.problem for run in runs):
        here = [run for run in runs if run.config.problem == problem]
        if all(run.config.tasks for run in here) and any(_home(run) == problem for run in runs):
            continue  # single tasks alone: they stand in the tables of the architectures
        home = plan.alone(problem)
        singles = [run for run in runs if run.config.tasks and run.config.problem == home and home != problem]
        print(f"\n{problem}")
        show.table([*here, *singles])


def _home(run: store.Run) -> str | None:
    return None if run.config.tasks else plan.alone(run.config.problem)
