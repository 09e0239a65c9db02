"""The record of a run on disk: Parquet part files, each written atomically. polars is imported only here, lazily."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accord.errors import AccordError
from accord.record.table import ARRAYS, NUMBERS, Record, Row, assemble, plain, shape_of
from accord.step import Event

NAME = re.compile(r"part-(\d+)\.parquet")
REQUIRED = ("index", "time", "tasks", "blocks", "losses", "active", "space", "events")


def parts(folder: str | os.PathLike[str]) -> list[Path]:
    """The part files of a record in order; other files, such as a half-written one, are passed over.

    Example:
        >>> parts("no/such/folder")
        []
    """
    folder = Path(folder)
    found = {int(match[1]): path for path in folder.glob("part-*") if (match := NAME.fullmatch(path.name))}
    return [found[number] for number in sorted(found)]


def next_number(folder: str | os.PathLike[str]) -> int:
    """The number for the next part: one more than the largest.

    Example:
        >>> next_number("no/such/folder")
        0
    """
    return max((int(path.stem.removeprefix("part-")) for path in parts(folder)), default=-1) + 1


def write_part(folder: str | os.PathLike[str], number: int, rows: Sequence[Row]) -> Path:
    """Write rows as one part file: either the whole file is there afterwards or nothing is.

    Args:
        folder: made if missing.
        number: of the part; it must not exist yet.
        rows: at least one.

    Returns:
        The path of the part.

    Raises:
        AccordError: if polars is missing or the part exists.
        ValueError: if there are no rows, or a step's arrays do not fit its names.

    Example:
        >>> import tempfile, torch
        >>> from accord.step import Step
        >>> step = Step(0, ("a",), torch.tensor([1.0]), torch.tensor([True]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_part(folder, 0, [Row(step, time=0.5)])
        ...     path.name, read(folder).losses
        ('part-000000.parquet', array([[1.]]))
    """
    polars = _polars()
    path = Path(folder) / f"part-{number:06d}.parquet"
    if not rows:
        raise ValueError(f"no rows for {path}")
    if path.exists():
        raise AccordError(f"{path} exists already: write to a new folder, or drop_after what is to be replaced")
    cells = [plain(row) for row in rows]
    columns = {name: [_cell(row[name]) for row in cells] for name in _schema(polars)}
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(polars.DataFrame(columns, schema=_schema(polars)), path)
    return path


def drop_after(folder: str | os.PathLike[str], index: int) -> None:
    """Remove every row of step ``index`` and later, so that a resumed run does not record a step twice.

    Each part is replaced or removed at once; a kill in between leaves a record that can be read and dropped again.

    Args:
        folder: of the record; nothing happens if it does not exist.
        index: the first step that will be repeated.

    Raises:
        AccordError: if polars is missing or a part cannot be read.
    """
    polars = _polars()
    for path in parts(folder):
        frame = _load(polars, path)
        kept = frame.filter(polars.col("index") < index)
        if not len(kept):
            path.unlink()
        elif len(kept) < len(frame):
            _save(kept, path)


def read(folder: str | os.PathLike[str]) -> Record:
    """Read all parts of a record.

    Args:
        folder: with the ``part-*.parquet`` files.

    Raises:
        AccordError: if polars is missing, there is no part, a part cannot be read (it is named), or two rows are
            of the same step.
    """
    polars, paths = _polars(), parts(folder)
    if not paths:
        state = "has no part-*.parquet files" if Path(folder).is_dir() else "does not exist"
        raise AccordError(f"no record to read: {folder} {state}; accord.Monitor(..., path=...) writes one")
    rows: list[dict[str, Any]] = []
    for path in paths:
        frame = _load(polars, path)
        try:
            rows += _decode(frame)
        except (ValueError, TypeError, KeyError) as error:
            raise AccordError(f"{path} is not a part of a record: {error}") from error
    return assemble(rows, str(folder))


def _polars() -> Any:
    """The optional library, imported only when something is read or written."""
    try:
        import polars
    except ImportError as error:
        raise AccordError("records on disk need polars: pip install 'accord[bench]'") from error
    return polars


def _schema(polars: Any) -> dict[str, Any]:
    """Columns of a part; readers ignore columns that they do not know, so that later versions can add some."""
    floats = polars.List(polars.Float64)
    event = polars.Struct({"kind": polars.String, "message": polars.String, "task": polars.String})
    names = {"tasks": polars.List(polars.String), "blocks": polars.List(polars.String)}
    arrays = {name: polars.List(polars.Boolean) if name == "active" else floats for name in ARRAYS}
    return (
        {"index": polars.Int64, "time": polars.Float64}
        | names
        | arrays
        | {"space": polars.String, "events": polars.List(event)}
        | dict.fromkeys(NUMBERS, polars.Float64)
    )


def _save(frame: Any, path: Path) -> None:
    """Write beside the place, then move: a reader never sees half a file, and a kill leaves only a ``.tmp``."""
    beside = path.with_name(path.name + ".tmp")
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    with beside.open("wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())  # else a power failure could keep the new name and lose the content
    os.replace(beside, path)


def _load(polars: Any, path: Path) -> Any:
    """One part as a data frame with at least our columns and their types."""
    # polars panics on some damaged files, and its PanicException is not an Exception
    damaged = (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError)
    try:
        frame = polars.read_parquet(io.BytesIO(path.read_bytes()))
    except damaged as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AccordError(f"{path} cannot be read: {reason}; it is damaged: restore it, or remove it") from error
    wrong = [name for name, kind in _schema(polars).items() if frame.schema.get(name) != kind]
    if wrong:
        raise AccordError(f"{path} is not a part of a record: missing or of another type: {', '.join(wrong)}")
    empty = [name for name in REQUIRED if frame.get_column(name).null_count()]
    if empty:
        raise AccordError(f"{path} is not a part of a record: no value in {', '.join(empty)}")
    return frame


def _cell(value: Any) -> Any:
    """A value as polars stores it: arrays flat (row major), events as structs."""
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    if isinstance(value, list | tuple):
        return [vars(item) if isinstance(item, Event) else item for item in value]
    return value


def _decode(frame: Any) -> list[dict[str, Any]]:
    """The rows of a part, as ``plain`` makes them; raises ValueError where lengths do not fit."""
    rows: list[dict[str, Any]] = frame.drop(list(ARRAYS)).to_dicts()
    for name in ARRAYS:
        column = frame.get_column(name)
        lengths = column.list.len()
        flat = column.filter(lengths > 0).explode()  # empty lists would explode to a null
        if flat.null_count():
            raise ValueError(f"{name} has missing values")
        values = flat.to_numpy()
        start = 0
        for row, length in zip(rows, lengths, strict=True):
            shape = shape_of(row, name)
            if length is not None and length != np.prod(shape, dtype=int):
                raise ValueError(f"step {row['index']} has {length} values in {name}, expected shape {shape}")
            row[name] = None if length is None else values[start : start + length].reshape(shape)
            start += length or 0
    for row in rows:
        row["events"] = [Event(event["kind"], event["message"], event["task"]) for event in row["events"]]
    return rows
