"""ifl_tpp: torch-saved dictionaries and npz archives, as used by ifl-tpp and its relatives."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.readers.archive import members
from accord.tpp.readers.found import Found
from accord.tpp.readers.rows import Rows, build, mention, notes, number_lists, numbers, sources
from accord.tpp.readers.unpickle import load, loads

PICKLES = (".pkl", ".pickle", ".pt", ".pth")


def recognises(path: str | Path) -> bool:
    """Whether files here name the fields of this format; nothing is unpickled."""
    return mention(path, PICKLES, "sequences", "arrival_times") or mention(path, (".npz",), "arrival_times.npy")


def read(path: str | Path) -> Found:
    """Events from ``{'sequences': [{arrival_times, marks, t_start, t_end}], 'num_marks'}`` or from an npz archive.

    The windows are those of the file: ``t_start`` and ``t_end`` of each sequence, or ``[0, t_max]`` where one ``t_max``
    is given for all. An archive holds ``arrival_times`` and perhaps ``marks``; its windows start at 0, their ends are
    unknown. Without marks all events have mark 0; without ``num_marks`` the vocabulary consists of those that occur.

    Args:
        path: a file, or a folder of ``train``, ``val`` and ``test``.

    Returns:
        The parts; a warning for arrays of an archive that are not read.

    Raises:
        TPPError: naming file, sequence and field at fault.

    Source:
        https://github.com/shchur/ifl-tpp; specification of this package, section 12.
    """
    parts: dict[str, Rows] = {}
    counts: set[Any] = set()
    for part, file in sources(path, *PICKLES, ".npz").items():
        parts[part], count = _archive(file) if file.suffix == ".npz" else _pickled(file)
        counts.add(count)
    if len(counts) > 1:
        raise TPPError(f"{path}: 'num_marks' differs: {', '.join(map(str, counts))}; expected one.")
    return Found(build(parts, Path(path).stem, counts.pop()), notes(parts.values()))


def _pickled(file: Path) -> tuple[Rows, object]:
    content, limit = load(file), file.stat().st_size
    sequences = content.get("sequences") if isinstance(content, dict) else None
    if not isinstance(sequences, (list, tuple)) or not sequences:
        raise TPPError(f"{file}: no 'sequences'; expected a dict with a list of them.")
    for i, sequence in enumerate(sequences):
        if not isinstance(sequence, dict) or "arrival_times" not in sequence:
            raise TPPError(f"{file}: sequence {i} has no 'arrival_times'. Mend the sequence, or leave it out.")
    times = number_lists([sequence["arrival_times"] for sequence in sequences], f"{file}, arrival_times", limit)
    marked = [sequence.get("marks") is not None for sequence in sequences]
    if any(marked) and not all(marked):
        raise TPPError(f"{file}: sequence {marked.index(False)} has no 'marks', others have; expected all or none.")
    marks = (
        number_lists([sequence["marks"] for sequence in sequences], f"{file}, marks", limit) if any(marked) else None
    )
    common = content.get("t_max")
    start, end = (
        [_number(sequence.get(name, default), f"{file}: sequence {i}, {name}") for i, sequence in enumerate(sequences)]
        for name, default in (("t_start", None if common is None else 0.0), ("t_end", common))
    )
    count = content.get("num_marks")
    return Rows(str(file), times, marks, start, end), None if count is None else _number(count, f"{file}: num_marks")


def _number(value: object, where: str) -> float:
    """A number, or an array of one; None: unknown."""
    if value is None:
        return math.nan
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return float(numbers([value], where)[0])


def _archive(file: Path) -> tuple[Rows, None]:
    files = members(file.read_bytes(), str(file))
    raw = {name: files.pop(f"{name}.npy") for name in ("arrival_times", "marks") if f"{name}.npy" in files}
    if "arrival_times" not in raw:
        raise TPPError(f"{file}: no 'arrival_times' in the archive, which holds {', '.join(files) or 'nothing'}.")
    found = {
        name: number_lists(_array(data, f"{file}, {name}"), f"{file}, {name}", len(data)) for name, data in raw.items()
    }
    rows = Rows(str(file), found["arrival_times"], found.get("marks"), start=0.0)
    if files:
        rows.notes.append(f"{file}: not read: {', '.join(sorted(files))}.")
    return rows, None


def _array(data: bytes, where: str) -> Any:
    """The array of a .npy file; one of objects goes through the whitelist."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except Exception as error:  # numpy parses the header as Python source: any kind of error of that
        raise TPPError(f"{where}: cut off or no .npy array ({type(error).__name__}: {str(error)[:80]}).") from None
    content = data[stream.tell() :]
    if dtype == np.dtype(object):
        return loads(content, where)
    if dtype.kind not in "iuf" or math.prod(shape) * dtype.itemsize != len(content):
        raise TPPError(f"{where}: an array {shape} of {dtype} in {len(content)} bytes; expected numbers that fill it.")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
