"""rows: from the lists that a format holds to Events; what all formats check alike, with errors that name the place."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats
from accord.tpp.readers.found import ALL, part_name

ARGS = "args.json"  # settings that lie beside the events of one format
MOST_MARKS = 1_000_000
_PARTS = {"train", "training", "val", "valid", "validation", "dev", "devtest", "test", "cal", "calibration"}


@dataclass
class Rows:
    """One part as its source spells it: a list of times, and of marks, for each sequence."""

    where: str  # the file, for errors
    times: list[Floats]
    marks: list[Floats] | None = None
    start: ArrayLike = np.nan
    end: ArrayLike = np.nan
    notes: list[str] = field(default_factory=list)


def numbers(values: object, where: str, limit: float = np.inf) -> Floats:
    """A flat list or array of numbers as (n,) float64."""
    if isinstance(values, np.ndarray) and values.dtype == object and values.ndim == 1:
        values = list(values)
    if not isinstance(values, (list, tuple, np.ndarray)):
        raise TPPError(f"{where}: found {type(values).__name__}; expected a list of numbers.")
    if len(values) > limit:
        raise TPPError(f"{where}: {len(values)} numbers unfold from {limit} bytes; it is damaged or a trap.")
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind not in "iuf":
            raise TPPError(f"{where}: found an array {values.shape} of {values.dtype}; expected a flat one of numbers.")
        return np.asarray(values, np.float64)
    for kind in set(map(type, values)):  # before numpy sees them: it would unfold lists in lists
        if not issubclass(kind, (int, float, np.integer, np.floating)) or kind is bool:
            raise TPPError(f"{where}: found {kind.__name__} in the list; expected numbers only.")
    try:
        return np.array(values, np.float64)
    except OverflowError:
        raise TPPError(f"{where}: holds a whole number too large for a time or a mark.") from None


def number_lists(lists: object, where: str, limit: float = np.inf) -> list[Floats]:
    """`numbers` for the list of each sequence; together they may not hold more than ``limit``."""
    if not isinstance(lists, (list, tuple)) and not (isinstance(lists, np.ndarray) and lists.ndim):
        raise TPPError(f"{where}: found {type(lists).__name__}; expected one list of numbers for each sequence.")
    if len(lists) > limit:
        raise TPPError(f"{where}: {len(lists)} sequences unfold from {limit} bytes; it is damaged or a trap.")
    found, left = [], limit
    for i, values in enumerate(lists):
        found.append(numbers(values, f"{where}, sequence {i}", left))
        left -= found[-1].size
    return found


def same_lengths(one: Sequence[Floats], other: Sequence[Floats], what: str, where: str) -> None:
    """Refuse lists that do not run in parallel; ``what`` names both."""
    if len(one) != len(other):
        raise TPPError(
            f"{where}: {what} of {len(one)} and {len(other)} sequences; expected as many. Get the file anew."
        )
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        if a.size != b.size:
            raise TPPError(
                f"{where}: sequence {i}: {a.size} and {b.size} {what}; expected one of each for every event. "
                "Mend the sequence, or leave it out."
            )


def build(parts: dict[str, Rows], name: str, declared: object = None) -> dict[str, Events]:
    """Events of each part, all with one vocabulary.

    Args:
        parts: by name.
        name: of the data set.
        declared: number of marks as the source states it: the marks are 0..M-1, used or not. None: the vocabulary
            consists of the marks that occur in any part, in rising order. Either way a mark's name is the number that
            the source gives it.

    Raises:
        TPPError: naming file, sequence and event at fault.
    """
    for rows in parts.values():
        if rows.marks is not None:
            same_lengths(rows.times, rows.marks, "times and marks", rows.where)
            _check_marks(rows)
    used = [mark for rows in parts.values() for mark in (rows.marks or [])]
    if declared is None:
        unmarked = [0.0] if any(rows.marks is None for rows in parts.values()) else []
        kinds = np.unique(np.concatenate([unmarked, *used]))
    else:
        kinds = np.arange(_count(declared, parts), dtype=np.float64)
    names = tuple(str(int(kind)) for kind in kinds)
    return {part: dataclasses.replace(_events(rows, kinds, names), name=name) for part, rows in parts.items()}


def _check_marks(rows: Rows) -> None:
    for i, mark in enumerate(rows.marks or []):
        wrong = ~((mark >= 0) & (mark == np.floor(mark)) & (mark < 2**53))
        if wrong.any():
            at = int(wrong.argmax())
            raise TPPError(
                f"{rows.where}: sequence {i}, event {at} has mark {mark[at]}; expected a whole number from 0 on. "
                "If it stands for padding or for no event, take it out of times and marks alike."
            )


def _count(declared: object, parts: dict[str, Rows]) -> int:
    where = next(iter(parts.values())).where
    whole = isinstance(declared, (int, float, np.integer, np.floating)) and declared == np.floor(declared)
    if not whole or not 1 <= float(declared) <= MOST_MARKS:  # type: ignore[arg-type]
        raise TPPError(f"{where}: number of marks {str(declared)[:40]!r}; expected a whole number, 1 to {MOST_MARKS}.")
    count = int(declared)  # type: ignore[call-overload]
    for rows in parts.values():
        for i, mark in enumerate(rows.marks or []):
            if mark.size and mark.max() >= count:
                raise TPPError(
                    f"{rows.where}: sequence {i}, event {int(mark.argmax())} has mark {int(mark.max())}, but "
                    f"{count} marks are declared, 0 to {count - 1}. Mend that number, or number the marks from 0."
                )
    return count


def _events(rows: Rows, kinds: Floats, names: tuple[str, ...]) -> Events:
    marks = None if rows.marks is None else [np.searchsorted(kinds, mark) for mark in rows.marks]
    try:
        return Events.of(rows.times, marks, start=rows.start, end=rows.end, names=names, name=rows.where)
    except TPPError as error:
        text = str(error).removeprefix(f"{rows.where}: ")
        remedy = "" if "; " in text else " Mend the source, or leave the sequence out."
        raise TPPError(f"{rows.where}: {text}{remedy}") from None


def one_clock(rows: Rows, steps: Sequence[Floats], stored_dt: bool) -> None:
    """Compare the gaps that a source stores with its times; say in a note how many contradict, use them if asked to.

    The first of a sequence is not compared: sources fill it with 0, with the time itself or with something else. With
    ``stored_dt`` each sequence keeps its first time, the others become running sums of the stored gaps.
    """
    same_lengths(rows.times, steps, "times and stored gaps", rows.where)
    wrong, largest, total = 0, 0.0, 0
    for t, step in zip(rows.times, steps, strict=True):
        if not np.isfinite(t).all():
            continue  # refused where events are made, with the place
        gaps = np.diff(t)
        rounded = t.astype(np.float32)
        # Times that are float32 numbers may be roundings; their gaps are right to one step of that type.
        slack = np.spacing(np.abs(rounded[1:])) if np.array_equal(rounded, t) else 1e-9 * np.maximum(1, np.abs(t[1:]))
        off = np.abs(step[1:] - gaps)
        bad = ~(off <= slack + 1e-6 * np.abs(gaps))
        wrong, total = wrong + int(bad.sum()), total + gaps.size
        largest = max(largest, float(off[bad].max(initial=0)))
    if wrong:
        used = "stored gaps were used" if stored_dt else "times were used"
        rows.notes.append(
            f"{rows.where}: {wrong} of {total} stored gaps contradict the times, by up to {largest:.6g}; the {used}."
        )
    if stored_dt:
        rows.times = [
            np.concatenate([t[:1], t[:1] + np.cumsum(step[1:])]) for t, step in zip(rows.times, steps, strict=True)
        ]


def notes(parts: Iterable[Rows]) -> tuple[str, ...]:
    """The notes of all parts, in order."""
    return tuple(note for rows in parts for note in rows.notes)


def sources(path: str | Path, *endings: str) -> dict[str, Path]:
    """The files of a data set by part: a file alone, or all with one of these endings in a folder.

    The part is the word of the file name that names one, as in ``taxi_dev.pkl``; a file alone without such a word is
    the part ``all``, several are named by their stems.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in endings and file.name != ARGS)
        if not files:
            inner = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
            raise TPPError(f"{path}: no {' or '.join(endings)} file in the folder, which holds {inner}.")
    elif path.is_file():
        files = [path]
    else:
        raise TPPError(f"{path}: no such file or folder.")
    found: dict[str, Path] = {}
    for file in files:
        words = [word for word in re.split(r"[-_.\s]", file.stem.lower()) if word in _PARTS]
        part = part_name(words[-1]) if words else ALL if len(files) == 1 else file.stem
        if part in found:
            raise TPPError(f"{path}: {found[part].name} and {file.name} both hold the part {part!r}; give one of them.")
        found[part] = file
    return found


def mention(path: str | Path, endings: tuple[str, ...], *words: str) -> bool:
    """Whether a file with one of these endings, or each such file of a folder, holds all these words as bytes."""
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("*"))
    files = [file for file in files if file.suffix in endings and file.name != ARGS]
    return bool(files) and all(all(word.encode() in data for word in words) for data in map(Path.read_bytes, files))


def load_json(path: Path) -> Any:
    """One json value, or a list of those on the lines of the file."""
    try:
        text = path.read_text("utf-8")
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":
                raise
            return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise TPPError(f"{path}: cut off or no json ({type(error).__name__}: {str(error)[:120]}).") from None
