"""Two methods side by side, and tables for papers: from stored runs alone, nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from accord import methods
from accord.bench import additions, comparison, wording
from accord.bench.labels import labels
from accord.bench.store import Run, load_runs
from accord.cli import show
from accord.errors import AccordError, nearest


def compare(
    runs: Annotated[list[Path], typer.Argument(help="One folder with both methods, or two: A, the baseline, then B.")],
    a: Annotated[str | None, typer.Option("--a", help="The baseline by its label, such as 'Sum()'.")] = None,
    b: Annotated[str | None, typer.Option("--b", help="What is compared with it, such as 'UPGrad()'.")] = None,
) -> None:
    """Is the difference between two methods real? One sentence, paired by seed and problem, with its cost."""
    if len(runs) > 2:
        raise AccordError(f"found {len(runs)} folders, expected one with both methods or two; name the methods with "
                          "--a and --b.")  # fmt: skip
    arms = [arms_of(load_runs(path)) for path in runs]
    if len(arms) == 2:
        names = (_chosen(arms[0], a, "--a", str(runs[0])), _chosen(arms[1], b, "--b", str(runs[1])))
        found = (arms[0][names[0]], arms[1][names[1]])
        if names[0] == names[1]:
            names = (f"{names[0]} ({runs[0]})", f"{names[1]} ({runs[1]})")
    else:
        names = both(arms[0], a, b)
        found = (arms[0][names[0]], arms[0][names[1]])
    made = comparison.compare(*found, names)
    print(show.wrapped(wording.verdict(made)))
    for entry in made.problems:
        if len(made.problems) > 1:
            corrected = made.corrected.get(entry.problem)
            print("\n" + show.wrapped(wording.sentence(entry, *names, corrected, len(made.corrected))))
        show.console().print(table(entry, names))
    print(show.wrapped(wording.method(made)))
    for note in made.notes:
        print(show.wrapped(f"Note: {note}."))


def tables(
    runs: Annotated[list[Path], typer.Argument(help="Folders with runs, at any depth.")],
    to: Annotated[Path, typer.Option(help="Folder for the tables.")],
    format: Annotated[list[str] | None, typer.Option(help="md, latex, html or csv; default: all four.")] = None,
) -> None:
    """Write tables for papers: one per problem, and one over all problems."""
    from accord.report.papers import formats, write

    try:
        paths = write.write(load_runs(runs), to, format or list(formats.FORMATS))
    except OSError as error:
        raise AccordError(f"{error.filename or to} cannot be written ({error.strerror}); choose another.") from None
    for path in paths:
        print(path)


def arms_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of all tasks by label."""
    found: dict[str, list[Run]] = {}
    for run, label in zip(runs, labels(runs), strict=True):
        if run.config.tasks is None or len(run.config.tasks) > 1:
            found.setdefault(label, []).append(run)
    return found


def both(arms: dict[str, list[Run]], a: str | None, b: str | None) -> tuple[str, str]:
    """The labels of two arms of one folder: those named, or the plain sum and the only other one."""
    names = list(arms)
    if a is None and b is None and len(names) == 2:
        return (names[0], names[1]) if names[1] != "Sum()" else (names[1], names[0])
    if a is None or b is None:
        raise AccordError(f"found {len(names)} methods ({', '.join(names)}); name two of them with --a and --b.")
    first, second = _chosen(arms, a, "--a", "the folder"), _chosen(arms, b, "--b", "the folder")
    if first == second:
        raise AccordError(f"--a and --b both name {first}; expected two different methods.")
    return first, second


def _chosen(arms: dict[str, list[Run]], name: str | None, option: str, where: str) -> str:
    """The label that was meant: as it is written, or as the method's spelling."""
    if name is None:
        if len(arms) == 1:
            return next(iter(arms))
        raise AccordError(f"{where} holds {len(arms)} methods ({', '.join(arms)}); name one with {option}.")
    if name in arms:
        return name
    method, *added = name.split(" + ")
    try:
        spelled = " + ".join([repr(methods.parse(method)), *map(_rule, added)])
    except AccordError:
        spelled = name
    if spelled in arms:
        return spelled
    raise AccordError(f"{where} holds no run of {name!r}.{nearest(name, arms)} It holds {', '.join(arms) or 'none'}.")


def _rule(text: str) -> str:
    """The one right spelling of a rule; what else is added to a method stays as it is written."""
    try:
        return additions.spelled(text)
    except AccordError:
        return text


def table(entry: comparison.Difference, names: tuple[str, str]) -> object:
    """Both means and the improvement of every measure."""
    grid = show.grid(entry.problem, names[0], names[1], "improvement %", "95 % interval")
    for one in entry.measures:
        arrow = "↑" if one.higher else "↓"
        low, high = 100 * one.gain.low, 100 * one.gain.high
        ends = f"[{low:+.2f}, {high:+.2f}]" if one.gain.seeds > 1 else "one seed"
        grid.add_row(
            f"{one.task} {one.name} {arrow}", f"{one.a:.4g}", f"{one.b:.4g}", f"{100 * one.gain.mean:+.2f}", ends
        )
    return grid
