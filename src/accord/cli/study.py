"""``accord study list``, ``run``, ``all`` and ``page``: questions of the survey, answered by running them."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from accord.bench import files
from accord.cli import show
from accord.errors import AccordError
from accord.studies import page, registry, running
from accord.studies.findings import Finding
from accord.studies.judging import SEEDS
from accord.studies.running import Plan
from accord.studies.study import Study, Work

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Honest studies of what is said about conflict.")

SETS = 2  # of a full run: a verdict has to hold twice
SEEDS_HELP = f"Seeds of a set; fewer than {SEEDS} give no verdict. Default: {SEEDS}, of a smoke run 1."
Seeds = Annotated[int, typer.Option(help=f"Seeds of a set; fewer than {SEEDS} give no verdict.")]
SomeSeeds = Annotated[int | None, typer.Option(help=SEEDS_HELP)]
Sets = Annotated[int, typer.Option(help="Disjoint sets of seeds; where their verdicts differ, it is inconclusive.")]
First = Annotated[int, typer.Option(help="The first seed.")]
Jobs = Annotated[int | None, typer.Option(help="Processes beside each other; default: one per core.")]
Out = Annotated[Path, typer.Option(help="Folder of all studies.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="A few steps only, to see that everything runs.")]


@app.command("list")
def listing() -> None:
    """All studies, and how long one seed of each takes on one idle core."""
    table = show.grid("study", "seconds per seed", "cells")
    table.add_column("title", justify="left", overflow="fold")
    studies = registry.every()
    for study in studies:
        table.add_row(study.name, f"{study.seconds:.0f}", str(len(study.cells)), study.title)
    show.console().print(table)
    cores = os.cpu_count() or 1
    full = sum(study.seconds for study in studies) * SEEDS * SETS / cores
    print(
        show.wrapped(
            f"accord study all: {SETS} sets of {SEEDS} seeds, about {_hours(full)} on the {cores} cores here; "
            f"with --quick one set, about {_hours(full / SETS)}."
        )
    )


@app.command()
def run(
    names: Annotated[list[str], typer.Argument(help="Studies, such as E03 X1.")],
    seeds: SomeSeeds = None,
    sets: Sets = 1,
    first_seed: First = 0,
    smoke: Smoke = False,
    broken: Annotated[str, typer.Option(help="Break something on purpose; the study's page names what can be.")] = "",
    jobs: Jobs = None,
    out: Out = Path("studies"),
) -> None:
    """Run studies and write their pages; finished pieces are skipped, a stopped study goes on."""
    count = _count(seeds, smoke)
    _conduct([Plan(study, out, count, sets, first_seed, smoke, broken) for study in _chosen(names)], jobs)


@app.command("all")
def everything(
    quick: Annotated[bool, typer.Option("--quick", help="One set of seeds instead of two.")] = False,
    seeds: SomeSeeds = None,
    first_seed: First = 0,
    smoke: Smoke = False,
    jobs: Jobs = None,
    out: Out = Path("studies"),
) -> None:
    """Run every study, and sum up all verdicts on one page."""
    sets = 1 if quick or smoke else SETS
    count = _count(seeds, smoke)
    _conduct([Plan(study, out, count, sets, first_seed, smoke) for study in registry.every()], jobs)


@app.command("page")
def pages(
    names: Annotated[list[str] | None, typer.Argument(help="Studies; default: all that are complete.")] = None,
    seeds: Seeds = SEEDS,
    first_seed: First = 0,
    out: Out = Path("studies"),
) -> None:
    """Judge and draw again what was measured, with as many sets of seeds as are complete; nothing is measured."""
    studies = _chosen(names) if names else registry.every()
    counts = {study.name: _complete(Plan(study, out, seeds, 1, first_seed)) for study in studies}
    complete = [Plan(study, out, seeds, counts[study.name], first_seed) for study in studies if counts[study.name]]
    if names and (missing := [name for name, count in counts.items() if not count]):
        raise AccordError(f"{', '.join(missing)}: not every seed was measured in {out}; accord study run does that.")
    if not complete:
        raise AccordError(f"{out} holds no complete study with these seeds; accord study run makes one.")
    _sum_up(complete, {plan.study.name: page.write(plan) for plan in complete}, out)


def _count(seeds: int | None, smoke: bool) -> int:
    return seeds if seeds is not None else 1 if smoke else SEEDS


def _chosen(names: Sequence[str]) -> Sequence[Study]:
    """Each once, however often and in whatever case it was named."""
    return list({study.name: study for study in map(registry.find, names)}.values())


def _complete(plan: Plan) -> int:
    """How many sets of seeds are there in whole, one after the other."""
    count = 0
    while all(plan.place(work).exists() for work in replace(plan, sets=count + 1).works()):
        count += 1
    return count


class Watch:
    """A progress bar in seconds of work; where the output is no terminal, a line per finished piece."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self.console = show.console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("[dim]elapsed"),
            TimeElapsedColumn(),
            TextColumn("[dim]remaining"),
            TimeRemainingColumn(),
            speed_estimate_period=600,  # pieces are long: the usual 30 seconds would see none
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.found: dict[str, Sequence[Finding]] = {}
        self.count, self.total = 0, sum(len(plan.works()) for plan in plans)
        weight = sum(plan.study.seconds * plan.seeds * plan.sets for plan in plans)
        self.task = self.bar.add_task("", total=weight)

    def piece(self, plan: Plan, work: Work, seconds: float, fresh: bool) -> None:
        """See ``running.Watcher``."""
        self.count += 1
        text = f"{plan.study.name} {work.cell}, seed {work.seed}"
        self.bar.update(self.task, advance=plan.study.seconds / len(plan.study.cells), description=text)
        if not self.console.is_terminal:
            took = f"{seconds:.1f} s" if fresh else "was finished"
            print(f"[{self.count}/{self.total}] {text} ({took})", flush=True)

    def complete(self, plan: Plan) -> None:
        """See ``running.Watcher``; the page is written as soon as it can be."""
        self.found[plan.study.name] = page.write(plan)


def _conduct(plans: Sequence[Plan], jobs: int | None) -> None:
    root = plans[0].root
    files.make_folder(root)
    watch = Watch(plans)
    try:
        with files.lock(root), watch.bar:
            running.execute(plans, watch, (os.cpu_count() or 1) if jobs is None else jobs)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on with what is not finished.", file=sys.stderr)
        raise SystemExit(130) from None
    _sum_up(plans, watch.found, root)


def _sum_up(plans: Sequence[Plan], found: dict[str, Sequence[Finding]], root: Path) -> None:
    """Print the verdicts and where the pages are."""
    table = show.grid("study")
    table.add_column("verdict", justify="left", no_wrap=True)
    table.add_column("claim", justify="left", overflow="fold")
    for plan in plans:
        for finding in found[plan.study.name]:
            table.add_row(plan.study.name, finding.word, finding.claim.statement)
    show.console().print(table)
    if plans[0].smoke:
        print("A smoke run: the numbers mean nothing.")
    for plan in plans:
        print(f"{plan.study.name}: {plan.folder / page.PAGE}")
    if len(plans) > 1:
        print(f"All verdicts: {page.summarise(plans, found, root)}")


def _hours(seconds: float) -> str:
    minutes = max(1, math.ceil(seconds / 60))
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
