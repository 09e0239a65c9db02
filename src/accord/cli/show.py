"""What the terminal shows: a progress bar, a table, two sentences, paths."""

from __future__ import annotations

import math
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from accord.bench import cluster, comparison, pool, store, summary
from accord.bench.config import RunConfig
from accord.bench.stats import Interval
from accord.errors import AccordError

WIDE = 120  # columns where the output is no terminal
MANY = 6  # tasks beyond which a table shows means over tasks, and the line of a run no scores


def console() -> Console:
    """Standard output as it is now."""
    return Console() if sys.stdout.isatty() else Console(width=WIDE)


class Watch:
    """A progress bar over all epochs of all runs; where the output is no terminal, a line per finished run."""

    def __init__(self, configs: Sequence[RunConfig], results: bool = True) -> None:
        self.configs = configs
        self.results = results  # a search must not look at the test data, nor must its users
        self.console = console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("[dim]elapsed"),
            TimeElapsedColumn(),
            TextColumn("[dim]remaining"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            transient=True,
        )
        self.done: dict[int, int] = {}
        self.began: dict[int, float] = {}
        self.skipped: set[int] = set()
        self.complete = 0
        self.task = self.bar.add_task("", total=sum(config.epochs for config in configs))
        self._tell()

    def epoch(self, index: int, done: int) -> None:
        """See ``pool.Watcher``."""
        if index in self.began:
            self.skipped.discard(index)
        else:
            self.began[index] = time.monotonic()
            self.skipped.add(index)  # until it is told again
        self.done[index] = done
        self._tell()

    def finished(self, index: int, run: store.Run) -> None:
        """See ``pool.Watcher``."""
        self.complete += 1
        self.done[index] = self.configs[index].epochs  # also where a limit on steps made them fewer
        self._tell()
        if self.console.is_terminal:
            return
        config = self.configs[index]
        found = summary.scores_of(run)
        several = ", ".join(f"{task} {score:.3f}" for task, score in found.items())
        scores = f": {several}" if self.results and len(found) <= MANY else ""
        took = "was finished" if index in self.skipped else f"{time.monotonic() - self.began[index]:.1f} s"
        print(f"[{self.complete}/{len(self.configs)}] {config.label}, seed {config.seed}{scores} ({took})", flush=True)

    def _tell(self) -> None:
        self.bar.update(
            self.task,
            completed=sum(self.done.values()),
            description=f"{self.complete} of {len(self.configs)} {'runs' if self.results else 'trials'} finished",
        )


def execute(
    configs: Sequence[RunConfig], root: Path, jobs: int | None, ray: str | None = None, results: bool = True
) -> list[store.Run]:
    """Run all of them and show how far they are; see ``pool.execute``, and ``cluster.execute`` where Ray is given."""
    watch = Watch(configs, results)
    with watch.bar:
        if ray is None:
            return pool.execute(configs, root, watch, 1 if jobs is None else jobs)
        return cluster.execute(configs, root, watch, ray, jobs)


def table(runs: Sequence[store.Run]) -> None:
    """Print the results, then conflict and harm: means over seeds ± half of the 95 % interval."""
    rows = summary.summarise(runs)
    single = [row for row in rows if row.label.startswith("single-") and " + " not in row.label]
    shown = [row for row in rows if row not in single]
    alone = {task: row.test[task] for row in single for task in row.test}
    metric = {task: entry["metric"] for run in runs for task, entry in (run.result or {}).get("test", {}).items()}
    names, cells = _scores(metric)
    head = grid("method", *names, "Δm %", "ms/step")
    for row in shown:
        merit = _plusminus(row.delta_m, 1, 100, sign="+") if row.delta_m else ""
        head.add_row(summary.short(row.label), *cells(row.test), merit, f"{row.milliseconds.mean:.1f}")
    if alone:
        head.add_row("single tasks", *cells(alone), "0", "")
    console().print(head)
    seeds = max((found.seeds for row in rows for found in row.test.values()), default=0)
    chosen = "best on validation" if runs[0].config.select == "validation" else "last"
    count = "one seed" if seeds == 1 else f"{seeds} seeds, ± half of the 95 % interval"
    text = f"Test metrics after the {chosen} epoch; mean over {count}."
    if len(metric) > MANY:
        text += " Each task by itself: `accord tables`, `accord report`."
    if alone:
        text += " Δm: mean relative improvement over training each task alone, paired by seed."
    if missing := comparison.undefined(run for run in runs if run.finished):
        text += f" {missing}"
    print(wrapped(text))
    _conflict(shown)


def _scores(metric: dict[str, str]) -> tuple[list[str], Callable[[dict[str, Interval]], list[str]]]:
    """Heads of columns, and their cells in a row: a column for each task, or for each metric where tasks are many."""
    if len(metric) <= MANY:
        return (
            [f"{task}\n{name}" for task, name in metric.items()],
            lambda test: [_plusminus(test[task], 3) if task in test else "" for task in metric],
        )
    groups: dict[str, list[str]] = {}
    for task, name in metric.items():
        groups.setdefault(name, []).append(task)

    def means(test: dict[str, Interval]) -> list[str]:
        known = [[test[task].mean for task in tasks if task in test] for tasks in groups.values()]
        return [f"{sum(values) / len(values):.3f}" if values else "" for values in known]

    return [f"{name}, mean\nof {len(tasks)} tasks" for name, tasks in groups.items()], means


def _conflict(rows: Sequence[summary.Row]) -> None:
    measured = [row for row in rows if row.conflict and row.harm]
    if not measured:
        return
    head = grid("method", "conflict %", "harm %:\nplain sum", "\nmethod", "\noptimiser's step")
    for row in measured:
        assert row.conflict is not None
        assert row.harm is not None
        head.add_row(
            summary.short(row.label), *map(_percent, (row.conflict, *(row.harm[d] for d in summary.DIRECTIONS)))
        )
    console().print(head)
    text = (
        "Conflict: share of task pairs with a negative cosine. Harm: share of cases (tasks x steps) in which the plain "
        "sum of the gradients, the method's direction, or the optimiser's actual step raises a loss to first order."
    )
    print(wrapped(text))


def grid(*columns: str) -> Table:
    """An empty table: the first column to the left, the others to the right."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", no_wrap=i > 0, overflow="fold", vertical="bottom")
    return table


def verdict(runs: Sequence[store.Run]) -> None:
    """Print the two sentences."""
    for sentence in summary.sentences(summary.summarise(runs)):
        print("\n" + wrapped(sentence))


def report(runs: Sequence[store.Run], path: Path, figures: Path | None) -> None:
    """Write the page, and figures where wanted, and print where they are.

    Raises:
        AccordError: if a place cannot be written.
    """
    from accord.report import page  # plotly and jinja2 take their time

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        page.write(list(runs), path)
        if figures is not None:
            from accord.report import figures as drawing

            figures.mkdir(parents=True, exist_ok=True)
            drawing.write(list(runs), figures)
    except OSError as error:
        raise AccordError(f"{error.filename or path} cannot be written ({error.strerror}); choose another.") from None
    print(f"\nReport: {path}")
    if figures is not None:
        print(f"Figures: {figures}")


def _plusminus(found: Interval, decimals: int, factor: float = 1, sign: str = "") -> str:
    text = f"{factor * found.mean:{sign}.{decimals}f}"
    return text if math.isnan(found.low) else f"{text} ±{factor * found.half:.{decimals}f}"


def _percent(found: Interval) -> str:
    return "" if math.isnan(found.mean) else f"{100 * found.mean:.{0 if found.mean >= 0.1 else 1}f}"


def wrapped(text: str) -> str:
    """Text in lines that fit."""
    return textwrap.fill(text, min(console().width, WIDE))
