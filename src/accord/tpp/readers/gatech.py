"""gatech: pickles of event dictionaries, as used by EasyTPP, THP, HYPRO and anhp."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Any

from accord.tpp.errors import TPPError
from accord.tpp.readers.found import Found, part_name
from accord.tpp.readers.rows import Rows, build, mention, notes, numbers, one_clock, sources
from accord.tpp.readers.unpickle import load

ENDINGS = (".pkl", ".pickle")
TIME, STEP, MARK = "time_since_start", "time_since_last_event", "type_event"


def recognises(path: str | Path) -> bool:
    """Whether pickles here name the fields of this format; nothing is unpickled."""
    return mention(path, ENDINGS, TIME, MARK)


def read(path: str | Path, *, stored_dt: bool = False) -> Found:
    """Events from ``{'dim_process': M, '<part>': [[{time_since_start, time_since_last_event, type_event}, ...]]}``.

    Every part of the file that holds events is read; empty ones and keys that hold something else (``args``,
    ``log_lik``) are left aside. Marks are 0..M-1, used or not. Neither start nor end of a window is known: the first
    time need not be 0.

    Args:
        path: a pickle, or a folder of them.
        stored_dt: take the gaps from ``time_since_last_event`` where they contradict the times, as EasyTPP does.

    Returns:
        The parts; a warning for each part whose stored gaps contradict its times.

    Raises:
        TPPError: naming file, part, sequence and field at fault.

    Source:
        https://github.com/ant-research/EasyTemporalPointProcess; specification of this package, section 12.
    """
    parts: dict[str, Rows] = {}
    declared: dict[object, str] = {}
    for file in sources(path, *ENDINGS).values():
        content, limit = load(file), file.stat().st_size
        if not isinstance(content, dict):
            raise TPPError(f"{file}: found {type(content).__name__}; expected a dict with 'dim_process' and parts.")
        filled = [key for key, value in content.items() if _has_events(value)]
        if not filled:
            raise TPPError(f"{file}: no part holds events; expected lists of dicts with {TIME!r} and {MARK!r}.")
        for key in filled:
            name = part_name(str(key))
            if name in parts:
                raise TPPError(f"{file}: the part {name!r} was found before, in {parts[name].where}; give one of them.")
            parts[name] = _rows(content[key], f"{file} [{key}]", stored_dt, limit)
        if "dim_process" not in content:
            raise TPPError(f"{file}: 'dim_process', the number of marks, is missing; add it to the dict.")
        declared.setdefault(_plain(content["dim_process"]), str(file))
    if len(declared) > 1:
        told = ", ".join(f"{count} in {file}" for count, file in declared.items())
        raise TPPError(f"'dim_process' differs: {told}; expected one vocabulary of marks.")
    return Found(build(parts, Path(path).stem, next(iter(declared))), notes(parts.values()))


def _plain(count: object) -> object:
    return count if isinstance(count, (int, float)) else str(count)


def _has_events(value: object) -> bool:
    """Whether the first sequence with events holds dicts."""
    if not isinstance(value, list):
        return False
    first = next((seq for seq in value if isinstance(seq, (list, tuple)) and len(seq)), None)
    return first is not None and isinstance(first[0], dict) and TIME in first[0]


def _rows(part: list[Any], where: str, stored_dt: bool, limit: int) -> Rows:
    for i, sequence in enumerate(part):
        if not isinstance(sequence, (list, tuple)):
            raise TPPError(f"{where}: sequence {i} is {type(sequence).__name__}; expected a list of dicts.")
    if sum(map(len, part)) > limit:
        raise TPPError(f"{where}: more events unfold than the file has bytes ({limit}); it is damaged or a trap.")
    rows = Rows(where, _column(part, TIME, where), _column(part, MARK, where))
    stored = [sequence[0] for sequence in part if sequence]
    if stored_dt or all(STEP in event for event in stored):
        one_clock(rows, _column(part, STEP, where), stored_dt)
    return rows


def _column(part: list[Any], name: str, where: str) -> list[Any]:
    found = []
    for i, sequence in enumerate(part):
        try:
            found.append(numbers(list(map(itemgetter(name), sequence)), f"{where}, sequence {i}, {name}"))
        except (KeyError, TypeError, IndexError):
            at = next(j for j, event in enumerate(sequence) if not isinstance(event, dict) or name not in event)
            raise TPPError(
                f"{where}: sequence {i}, event {at} has no {name!r}. Mend the event, or leave the sequence out."
            ) from None
    return found
