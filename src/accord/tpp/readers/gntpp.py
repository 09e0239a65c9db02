"""gntpp: pickles of ragged columns, as used by GNTPP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from accord.tpp.errors import TPPError
from accord.tpp.events import Floats
from accord.tpp.readers.found import Found
from accord.tpp.readers.rows import Rows, build, mention, notes, number_lists, numbers, one_clock, sources
from accord.tpp.readers.unpickle import load

ENDINGS = (".pkl", ".pickle")


def recognises(path: str | Path) -> bool:
    """Whether pickles here name the fields of this format; nothing is unpickled."""
    return mention(path, ENDINGS, "timestamps", "types", "event_type_num")


def read(path: str | Path) -> Found:
    """Events from ``{timestamps, types, intervals, lengths, t_max, event_type_num}``.

    Marks are 0..M-1 of ``event_type_num``, used or not. ``t_max`` is the largest time of the whole data set, not the
    end of a window: both ends of the windows are unknown.

    Args:
        path: a pickle, or a folder of ``train``, ``val`` and ``test``.

    Returns:
        The parts; warnings if ``intervals`` contradict the times, or padding was left out.

    Raises:
        TPPError: naming file, sequence and field at fault.

    Source:
        https://github.com/BIRD-TAO/GNTPP; specification of this package, section 12.
    """
    return ragged(path, "intervals")


def ragged(path: str | Path, intervals: str) -> Found:
    """Read columns with one list for each sequence; ``intervals`` is the name of the stored gaps."""
    parts: dict[str, Rows] = {}
    counts: set[Any] = set()
    for part, file in sources(path, *ENDINGS).items():
        content = load(file)
        missing = [name for name in ("timestamps", "types") if not isinstance(content, dict) or name not in content]
        if missing:
            raise TPPError(f"{file}: no {' and no '.join(map(repr, missing))}; expected a dict of columns.")
        parts[part] = _rows(content, str(file), intervals, file.stat().st_size)
        counts.add(_count(content))
    if len(counts) > 1:
        raise TPPError(f"{path}: the number of marks differs: {', '.join(map(str, counts))}; expected one.")
    return Found(build(parts, Path(path).stem, counts.pop()), notes(parts.values()))


def _count(content: dict[str, Any]) -> object:
    count = content.get("event_type_num")
    return count if count is None or isinstance(count, (int, float, np.number)) else str(count)


def _rows(content: dict[str, Any], where: str, intervals: str, limit: int) -> Rows:
    names = [name for name in ("timestamps", "types", intervals) if name in content]
    lists = {name: number_lists(content[name], f"{where}, {name}", limit) for name in names}
    rows = Rows(where, [])
    if "lengths" in content:
        lengths = numbers(content["lengths"], f"{where}, lengths", limit)
        lists = {name: _cut(lists[name], lengths, f"{where}, {name}", rows.notes) for name in names}
    rows.times, rows.marks = lists["timestamps"], lists["types"]
    if intervals in lists:
        one_clock(rows, lists[intervals], stored_dt=False)
    return rows


def _cut(lists: list[Floats], lengths: Floats, where: str, told: list[str]) -> list[Floats]:
    """Leave out what lies behind the stated length, if it is one value repeated."""
    if len(lists) != lengths.size:
        raise TPPError(f"{where}: {len(lists)} sequences and {lengths.size} lengths; expected as many.")
    left_out = 0
    for i, (values, length) in enumerate(zip(lists, lengths.tolist(), strict=True)):
        behind = values[int(length) :] if 0 <= length < np.inf and length == int(length) else values
        if values.size < length or np.unique(behind).size > 1:
            raise TPPError(
                f"{where}: sequence {i} has {values.size} values but length {length:g}, and what lies behind is no "
                "padding. Mend the length, or leave the sequence out."
            )
        left_out += behind.size
    if left_out:
        told.append(f"{where}: {left_out} values behind the stated lengths were left out as padding.")
    return [values[: int(length)] for values, length in zip(lists, lengths.tolist(), strict=True)]
