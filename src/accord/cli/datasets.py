"""``accord data get``, ``link`` and ``show``, and the table of multi-task sets: what the catalogue knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from accord.cli import show
from accord.data import folder
from accord.data.catalogue import DATASETS, SHARING, DataSet, File, dataset
from accord.data.fetch import Tell, address, refused
from accord.data.fetch import get as fetch
from accord.data.links import link as make_link
from accord.data.links import linked
from accord.data.locate import places
from accord.data.places import at_hand, destination
from accord.errors import AccordError
from accord.problems import PROBLEMS

NAME = typer.Argument(help="A data set; accord data list has them.", show_default=False)


def get(
    name: Annotated[str, NAME],
    mirror: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="A folder that holds the prepared files under the same paths."),
    ] = None,
) -> None:
    """Download the files of a data set, checked; the same command goes on where it was stopped."""
    entry = dataset(name)
    _about(entry)
    if entry.kind == "bundled":
        return
    if entry.kind == "original":
        raise AccordError(
            f"{name} is given by its originators alone: {entry.origin}. When you have it: accord data link {name} "
            "FOLDER"
        )
    missing = [file for file in entry.files if at_hand(file) is None]
    if not missing:
        print("All files are at hand.")
        return
    unoffered = [file for file in missing if address(file, mirror) is None]
    if len(unoffered) < len(missing):
        root = destination()
        if root != folder():
            print(show.wrapped(f"{folder()} cannot be written, so that they go to {root}."))
        with _watched() as tell:
            for file in missing:
                if file not in unoffered:
                    print(f"{fetch(file, root, mirror, tell)}: {file.size:,} bytes, checked", flush=True)
    if unoffered:
        raise refused(entry, unoffered)


def link(
    name: Annotated[str, NAME],
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="In the layout of the originators.")],
) -> None:
    """Say where a data set lies that only its originators may give."""
    entry = dataset(name)
    path = make_link(entry, target)
    print(f"{path} -> {target.expanduser().absolute()}")
    print(show.wrapped(f"It should hold {entry.layout}."))


def show_(name: Annotated[str, NAME]) -> None:
    """What a data set is, its licence, whom to cite, its files, and whether they are right."""
    entry = dataset(name)
    _about(entry)
    if entry.kind == "original":
        print(show.wrapped(f"Layout: {entry.layout}."))
        print(f"Linked: {linked(entry) or f'no; accord data link {name} FOLDER'}")
    if entry.files:
        table = show.grid("file", "bytes", "SHA-256", "public", "at hand")
        for file in entry.files:
            table.add_row(file.path, f"{file.size:,}", file.sha256[:12], "yes" if file.public else "no", _state(file))
        show.console().print(table)
        print("Places: " + ", ".join(str(place) for place in places()))


def multitask() -> None:
    """Print the table of sets that are no event sequences."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    for column in ("multi-task", "rows", "tasks", "passing on", "at hand", "use it as"):
        table.add_column(column, no_wrap=column in ("multi-task", "passing on", "at hand"))
    for entry in DATASETS.values():
        if entry.kind != "events":
            names = _problems(entry)
            used = ", ".join(names) if len(names) < 3 else f"{names[0]}, ... ({len(names)})"
            table.add_row(entry.name, entry.rows, entry.tasks, entry.sharing, _presence(entry), used)
    show.console().print(table)
    print(show.wrapped("Licence, citation and files: accord data show NAME. Download: accord data get NAME."))


def _about(entry: DataSet) -> None:
    lines = [
        f"{entry.title}. {entry.rows}; tasks: {entry.tasks}.",
        f"Licence: {entry.licence} (as commonly stated; confirm it at the originator): {SHARING[entry.sharing]}.",
        f"Cite: {entry.citation}.",
        f"Origin: {entry.origin}.",
        *([f"Note: {entry.note}"] if entry.note else []),
        *([f"Problem: {', '.join(_problems(entry))}"] if _problems(entry) else []),
    ]
    for line in lines:
        print(show.wrapped(line))


def _problems(entry: DataSet) -> list[str]:
    return [problem.name for problem in PROBLEMS if problem.dataset == entry.name]


def _presence(entry: DataSet) -> str:
    """Whether the files are there, by their length: quick enough for a list."""
    if entry.kind == "original":
        return "linked" if linked(entry) else "no"
    there = [
        any((place / file.path).is_file() and (place / file.path).stat().st_size == file.size for place in places())
        for file in entry.files
    ]
    return "yes" if all(there) else "in part" if any(there) else "no"


def _state(file: File) -> str:
    if at_hand(file):
        return "yes"
    return "another file" if any((place / file.path).exists() for place in places()) else "no"


@contextmanager
def _watched() -> Iterator[Tell]:
    """A progress bar for each file, where the output is a terminal."""
    console = show.console()
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        tasks = {}

        def tell(file: File, done: int, size: int) -> None:
            if file.path not in tasks:
                tasks[file.path] = bar.add_task(Path(file.path).name, total=size)
            bar.update(tasks[file.path], completed=done)

        yield tell
