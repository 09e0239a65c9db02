"""``accord data``: what there is and how to get it; event sequences: import them and look for what is wrong."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import textwrap
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from accord.cli import datasets, show
from accord.cli.reading import Reading, pairs
from accord.cli.tpp.source import recorded
from accord.data import folder
from accord.data.locate import VARIABLE
from accord.problems.tpp_sets import IMPORTED, REAL, STORE
from accord.report.text import times
from accord.tpp import store
from accord.tpp.check import check as findings
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.parts import join
from accord.tpp.readers import FORMATS
from accord.tpp.tick import tick

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Data sets: list, get and link them. Event sequences: import and check them.",
)
app.command("get")(datasets.get)
app.command("link")(datasets.link)
app.command("show")(datasets.show_)
COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
INDENT = " " * 9


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file or folder.")],
    name: Annotated[str, typer.Option("--as", help="Name in the store; the problem is then tpp:NAME.")],
    format: Annotated[str | None, typer.Option(help=f"{', '.join(FORMATS)}; default: what the file tells.")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of time, such as hour.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the data.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of one with this name.")] = False,
    sequence: Annotated[str | None, typer.Option(help="Tables: column of sequence ids; none: one sequence.")] = None,
    time: Annotated[str | None, typer.Option(help="Tables: column of numbers or dates.")] = None,
    mark: Annotated[str | None, typer.Option(help="Tables: column of marks; none: all alike.")] = None,
    start: Annotated[str | None, typer.Option(help="Tables: column, number or date where observation starts.")] = None,
    end: Annotated[str | None, typer.Option(help="Tables: the same for its end.")] = None,
    mark_bins: Annotated[str | None, typer.Option(help="Tables: edges such as 2,3,4 for numeric marks.")] = None,
    zone: Annotated[str | None, typer.Option(help="Tables, logs: time zone of dates that carry none.")] = None,
    date_format: Annotated[str | None, typer.Option(help="Tables, logs: such as '%d.%m.%Y %H:%M'.")] = None,
    decimal: Annotated[str | None, typer.Option(help="Tables: sign of decimal numbers, a point or a comma.")] = None,
    sort: Annotated[bool, typer.Option("--sort", help="Tables, logs: put rows in order of time.")] = False,
    option: Annotated[list[str] | None, typer.Option(help="Any reader option, as key=value; repeatable.")] = None,
) -> None:  # fmt: skip
    """Read event sequences and keep them under a name, complete or not at all."""
    mapping = {
        "sequence": sequence, "time": time, "mark": mark, "start": start, "end": end, "mark_bins": mark_bins,
        "zone": zone, "date_format": date_format, "decimal": decimal, "sort": "true" if sort else None, "unit": unit,
        "licence": licence,
    }  # fmt: skip
    given = {key: value for key, value in mapping.items() if value is not None}
    place = folder() / STORE
    _writable(place)
    store.free(name, place, replace)  # reading may take long
    found = Reading(format, given | pairs(option or [])).read(file)
    resolution = tick(join(list(found.parts.values())))
    parts = {part: dataclasses.replace(events, tick=resolution) for part, events in found.parts.items()}
    store.save(name, parts, place, ids=found.ids, source=file, replace=replace)
    for warning in found.warnings:
        print(f"Note: {warning}")
    table = show.grid("part", "sequences", "events", "events per sequence")
    for part, events in parts.items():
        table.add_row(part, f"{len(events):,}", f"{events.time.size:,}", _spread(events))
    show.console().print(table)
    one = next(iter(parts.values()))
    marks = times(len(one.marks), "mark")
    print(f"{marks}, unit of time {one.unit}, {_resolution(one.tick)}. Stored in {place / name}.")
    print(f"Look at it: accord data check {name}. Train on it: accord tpp fit {IMPORTED}{name} thp+ --out FOLDER")


@app.command("list")
def list_() -> None:
    """What was imported, which event sets lie in the data folder, and which multi-task sets there are."""
    root = folder()
    imported = store.listing(root / STORE)
    if imported:
        table = show.grid("imported", "sequences", "events", "marks", "unit", "source", "licence")
        for entry in imported:
            if entry.problem:
                table.add_row(f"{IMPORTED}{entry.name}", "damaged")
                continue
            counts = [" + ".join(f"{n:,}" for n in each.values()) for each in (entry.sequences, entry.events)]
            row = (*counts, f"{entry.marks:,}", entry.unit, entry.source, entry.licence)
            table.add_row(f"{IMPORTED}{entry.name}", *row)
        show.console().print(table)
        for entry in imported:
            if entry.problem:
                print(entry.problem)
    else:
        print(f"Nothing was imported to {root / STORE} yet: accord data import FILE --as NAME")
    _real(root)
    datasets.multitask()


def _real(root: Path) -> None:
    names = {problem.name.removeprefix("tpp-"): problem.name for problem in REAL}
    files = sorted((root / "tpp").glob("*.parquet"))
    if not files:
        print(f"There are no event sets in {root / 'tpp'}.")
        return
    import polars as pl

    table = show.grid("in the data folder", "sequences", "events", "marks", "use it as")
    for file in files:
        usable = file.stem in names and file.with_suffix(".splits.json").exists()
        try:
            columns = pl.scan_parquet(file).select(
                pl.col("sequence").n_unique(), events=pl.len(), marks=pl.col("mark").n_unique()
            )
            counts = [f"{value:,}" for value in columns.collect().row(0)]
        except (pl.exceptions.PolarsError, OSError):
            counts = ["not readable", "", ""]
        table.add_row(file.stem, *counts, names[file.stem] if usable else "accord data import")
    show.console().print(table)


@app.command()
def check(
    what: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Imported, a problem such as tpp-mooc, or a file.")],
    format: Annotated[str | None, typer.Option(help="Of a file; default: what it tells.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Of the reader, as key=value; repeatable.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 if there is an error.")] = False,
) -> None:
    """Look for what would make results wrong or misleading."""
    if what in [entry.name for entry in store.listing(folder() / STORE)] and not os.path.exists(what):
        what = IMPORTED + what
    source = recorded(what, Reading(format, pairs(option or [])))
    console = show.console()
    for note in source.notes:
        _say(console, "warning", note)
    found = findings(source.parts)
    for finding in found:
        _say(console, finding.severity, f"{finding.kind}: {finding.text}")
        print(_indented(finding.remedy))
    if not found and not source.notes:
        print("Nothing found.")
    if strict and any(finding.severity == "error" for finding in found):
        raise typer.Exit(1)


def _say(console: Console, severity: str, text: str) -> None:
    shown = f"{severity:{len(INDENT)}}{_indented(text).removeprefix(INDENT)}"
    console.print(shown, style=COLOURS[severity], highlight=False, markup=False, soft_wrap=True)


def _indented(text: str) -> str:
    return textwrap.fill(
        text, min(show.console().width, show.WIDE), initial_indent=INDENT, subsequent_indent=INDENT
    )  # fmt: skip


def _writable(place: Path) -> None:
    """Refuse a store that cannot be written before anything is read."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise TPPError(
            f"{place} cannot be written ({error.strerror or error}); set {VARIABLE} to a folder of data sets that you "
            "may write to."
        ) from None


def _spread(events: Events) -> str:
    lengths = events.lengths
    return f"{lengths.min():,} to {lengths.max():,}, median {np.median(lengths):,.0f}" if len(events) else ""


def _resolution(tick: float | None) -> str:
    return "no time grid" if tick is None else f"times on a grid of {tick:.6g}"
