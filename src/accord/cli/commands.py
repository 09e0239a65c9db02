"""The verbs, as a typer application."""

from __future__ import annotations

import dataclasses
import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from accord.bench import store, suite
from accord.bench.config import RunConfig, configure
from accord.cli import bench, compare, data, show, sparse, split, study, tpp
from accord.cli import demo as showcase
from accord.errors import AccordError
from accord.methods import METHODS
from accord.problems import PROBLEMS, parse
from accord.sparse import RULES

# Unknown verbs and options, missing and wrong values. The parser's own base of such errors moves from version to
# version; its one public child does not.
WRONG_USE: Any = typer.BadParameter.__bases__[0]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Find, explain and resolve gradient conflict in PyTorch training with several objectives.",
)
app.command()(bench.bench)
app.command()(compare.compare)
app.command()(compare.tables)
app.command()(split.split)
app.command()(sparse.sparse)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
app.add_typer(tpp.app, name="tpp")


def call(arguments: Sequence[str]) -> int:
    """Parse and run.

    Returns:
        The exit code.

    Raises:
        AccordError: for a wrong verb, option or value.
    """
    command = typer.main.get_command(app)
    try:
        return int(command.main(args=list(arguments), prog_name="accord", standalone_mode=False) or 0)
    except typer.Abort:  # what some versions make of Ctrl-C
        return 130
    except WRONG_USE as error:
        text = error.format_message()
        if not arguments:  # then the text is the help
            print(text)
            return 2
        raise AccordError(f"{' '.join(text.split())} `accord --help` and `accord VERB --help` list all.") from None


def spelling(kind: type[Any]) -> str:
    """A method or problem with its arguments and their defaults, as one may type it.

    Example:
        >>> from accord import methods
        >>> spelling(methods.Constant), spelling(methods.CAGrad)[:9]
        ('Constant(weights=...)', 'CAGrad(c=')
    """
    fields = []
    for f in dataclasses.fields(kind):
        if f.default is None:  # left out, as in the repr
            continue
        if f.default is not dataclasses.MISSING:
            fields.append(f"{f.name}={f.default!r}")
        elif f.default_factory is not dataclasses.MISSING:
            fields.append(f"{f.name}={f.default_factory()!r}")
        else:
            fields.append(f"{f.name}=...")
    return f"{getattr(kind, 'name', kind.__name__)}({', '.join(fields)})"


def _listing() -> str:
    problems = "\n".join(f"  {spelling(problem)}" for problem in PROBLEMS)
    methods = "\n".join(f"  {spelling(method)}" for method in METHODS)
    rules = "\n".join(f"  {spelling(rule)}" for rule in RULES)
    return (
        f"\b\nProblems, with their default settings:\n{problems}\n\n"
        f"\b\nMethods, with their default arguments:\n{methods}\n\n"
        f"\b\nRules of sparse training, with their default arguments:\n{rules}"
    )


@app.command(epilog=_listing())
def run(
    problem: Annotated[str, typer.Argument(help="A problem, such as digits or 'digits(width=64)'.")],
    method: Annotated[
        list[str] | None, typer.Option(help="A method, such as 'UPGrad()'; give as many as wanted.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Number of seeds: 0, 1, 2 and so on.")] = 3,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training data; default: the problem's.")] = None,
    single_tasks: Annotated[
        bool, typer.Option("--single-tasks", help="Train each task alone as well: the baselines of Delta-m.")
    ] = False,
    scale: Annotated[str, typer.Option(help="sum, mean, native or match-norm.")] = "sum",
    heads: Annotated[str | None, typer.Option(help="plain or weighted; default: the method's own.")] = None,
    engine: Annotated[str, typer.Option(help="auto, stacked, segmented or features.")] = "auto",
    lr: Annotated[float | None, typer.Option(help="Learning rate; default: the problem's.")] = None,
    optimizer: Annotated[str, typer.Option(help="Adam, AdamW or SGD.")] = "Adam",
    monitor_every: Annotated[int, typer.Option(help="Measure every n-th step; 0: never.")] = 10,
    sparse: Annotated[
        list[str] | None, typer.Option(help="Train only what a rule selects, such as 'PSN(k=300)'; dense: everything.")
    ] = None,
    sparse_look: Annotated[int | None, typer.Option(help="Look at the frozen weights too, every n-th step.")] = None,
    sparse_order: Annotated[str | None, typer.Option(help="mask-then-combine or combine-then-mask.")] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="A layer of which every task gets a copy; as many as wanted.")
    ] = None,
    anchor: Annotated[float | None, typer.Option(help="Pull shared parameters towards their initial values.")] = None,
    select: Annotated[str, typer.Option(help="Test metrics after the last epoch, or the best on validation.")] = "last",
    threads: Annotated[int, typer.Option(help="PyTorch's threads per run.")] = 1,
    jobs: Annotated[int, typer.Option(help="Runs beside each other, each in a process of its own.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder of all runs.")] = Path("runs"),
) -> None:
    """Train a problem with one or more methods and seeds; finished runs are skipped, stopped ones go on."""
    if seeds < 1:
        raise AccordError(f"--seeds is {seeds}; expected at least 1.")
    common = {
        "problem": problem, "epochs": epochs, "lr": lr, "optimizer": optimizer, "select": select, "threads": threads,
    }  # fmt: skip
    common = {name: value for name, value in common.items() if value is not None}
    several: dict[str, Any] = {"scale": scale, "heads": heads, "engine": engine, "monitor_every": monitor_every}
    if split:
        several["split"] = tuple(split)
    if anchor is not None:
        several["anchor"] = anchor
    rules = _rules(sparse or [suite.DENSE], sparse_look=sparse_look, sparse_order=sparse_order)
    pairs = itertools.product(rules, method or ["Sum()"])
    chosen: list[dict[str, Any]] = [{"method": text, **several, **rule} for rule, text in pairs]
    if single_tasks:
        chosen += [{"tasks": (task,), "monitor_every": 0} for task in parse(problem).tasks]
    configs = [configure(**common, **extra, seed=seed) for extra in chosen for seed in range(seeds)]
    runs = _execute(configs, out, jobs)
    show.table(runs)
    folder = out / configs[0].problem
    print(f"\nStored in {folder}. For the report: accord report {shlex.quote(str(folder))}")


def _rules(spellings: Sequence[str], **given: Any) -> list[dict[str, Any]]:
    """The settings of each rule; none for ``dense``."""
    known = {name: value for name, value in given.items() if value is not None}
    rules = [{} if text == suite.DENSE else {"sparse": text, **known} for text in spellings]
    if known and not any(rules):
        option = next(iter(known)).replace("_", "-")
        raise AccordError(f"--{option} is given without a rule; say --sparse RULE as well.")
    return rules


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders with runs, at any depth.")],
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    figures: Annotated[Path | None, typer.Option(help="Folder for figures (PDF and PNG) as well.")] = None,
) -> None:
    """Write the report of some runs: one HTML page that needs no network."""
    found = store.load_runs(runs)
    show.report(found, out, figures)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for runs and report.")] = Path("demo"),
    jobs: Annotated[int | None, typer.Option(help="Runs beside each other; default: one per core, 2 at most.")] = None,
) -> None:
    """See conflict on real images and in simulated events, resolve it, and read the report: a few minutes."""
    runs = _execute(showcase.configs(), out / "runs", showcase.default_jobs() if jobs is None else jobs)
    for problem in dict.fromkeys(run.config.problem for run in runs):
        part = [run for run in runs if run.config.problem == problem]
        print(f"\n{problem}")
        show.table(part)
        show.verdict(part)
    show.report(runs, out / "report.html", None)


def _execute(configs: Sequence[RunConfig], root: Path, jobs: int) -> list[store.Run]:
    """Run everything with a progress bar; Ctrl-C ends the program with a word on how to go on."""
    unique = list({config.place: config for config in configs}.values())
    try:
        return show.execute(unique, root, jobs)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on from the last finished epoch of each run.", file=sys.stderr)
        raise SystemExit(130) from None
