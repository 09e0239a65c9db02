"""du_text: a line of times and a line of marks for each sequence, as distributed with RMTPP."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Floats
from accord.tpp.readers.found import ALL, Found, part_name
from accord.tpp.readers.rows import Rows, build


def recognises(path: str | Path) -> bool:
    """Whether it is one of a pair of files ``time*.txt`` and ``event*.txt``, or a folder with such a pair."""
    path = Path(path)
    file = next(iter(sorted(path.glob("time*.txt"))), None) if path.is_dir() else path
    return file is not None and file.suffix == ".txt" and all(found.is_file() for found in _pair(file) or [Path()])


def read(path: str | Path) -> Found:
    """Events from ``time*.txt`` and ``event*.txt`` with one sequence on each line.

    The vocabulary consists of the marks that occur, as numbered in the source, mostly from 1. Windows are unknown. What
    follows ``time`` in the name is the part: ``time-train.txt`` is ``train``, ``time-1-train.txt`` is ``1-train``.

    Args:
        path: one file of a pair, or a folder, whose parts get one vocabulary.

    Raises:
        TPPError: naming file and line: numbers that cannot be read, decreasing times, counts that disagree.

    Source:
        https://github.com/dunan/NeuralPointProcess; specification of this package, section 12.
    """
    path = Path(path)
    files = sorted(path.glob("time*.txt")) if path.is_dir() else [path]
    if not files:
        raise TPPError(f"{path}: no time*.txt in the folder; expected it and event*.txt beside it.")
    parts = {}
    for file in files:
        pair = _pair(file)
        if pair is None or not all(found.is_file() for found in pair):
            raise TPPError(f"{file}: expected time*.txt and event*.txt of the same ending beside each other.")
        part = pair[0].stem.removeprefix("time").strip("-_. ")
        times, marks = (_lines(found) for found in pair)
        parts[part_name(part) or ALL] = Rows(f"{pair[0]} (sequence i is line i + 1)", times, marks)
    return Found(build(parts, path.stem))


def _pair(file: Path) -> tuple[Path, Path] | None:
    for word in ("time", "event"):
        if file.name.startswith(word):
            rest = file.name.removeprefix(word)
            return file.with_name(f"time{rest}"), file.with_name(f"event{rest}")
    return None


def _lines(file: Path) -> list[Floats]:
    try:
        lines = file.read_text("utf-8").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise TPPError(f"{file}: no text ({error.reason} at byte {error.start}); expected numbers.") from None
    found = []
    for i, line in enumerate(lines):
        try:
            found.append(np.array(line.split(), np.float64))
        except ValueError as error:
            raise TPPError(f"{file}, line {i + 1}: {str(error)[:80]}; expected numbers with blanks between.") from None
    return found
