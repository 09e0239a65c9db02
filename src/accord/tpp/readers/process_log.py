"""Process logs: tables of cases, activities and time stamps."""

from __future__ import annotations

from pathlib import Path

from accord.tpp.errors import TPPError
from accord.tpp.readers import table
from accord.tpp.readers.columns import files, header
from accord.tpp.readers.found import Found

HEADERS = (  # case, activity, time
    ("CaseID", "ActivityID", "CompleteTimestamp"),
    ("Case ID", "Activity", "Complete Timestamp"),
    ("case:concept:name", "concept:name", "time:timestamp"),
)


def recognises(path: str | Path) -> bool:
    """Whether it has the three columns of a process log, in one of the usual spellings."""
    return _columns(path) is not None


def read(path: str | Path, *, zone: str = "UTC", date_format: str | None = None, sort: bool = False) -> Found:
    r"""Read a process log: every case is a sequence, every activity a mark; windows are unknown.

    Args:
        path: a table, or a folder of ``train``, ``val`` and ``test`` tables.
        zone: IANA name of the time zone of stamps that carry none.
        date_format: of stamps that are not ISO 8601.
        sort: put the rows of a case in order of time; otherwise a step back is refused.

    Raises:
        TPPError: naming file and line, and what to do.

    Source:
        N. Tax, I. Verenich, M. La Rosa, M. Dumas, CAiSE 2017, arXiv 1612.02130 (first spelling); XES (third).

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "log.csv")
        ...     rows = ["CaseID,ActivityID,CompleteTimestamp", "2,1,2012-04-03 16:55:38", "2,8,2012-04-03 16:55:53"]
        ...     _ = path.write_text("\n".join(rows))
        ...     events = read(path).parts["all"]
        >>> events.gaps.tolist(), events.marks
        ([0.0, 15.0], ('1', '8'))
    """
    found = _columns(path)
    if found is None:
        name = next(iter(files(path).values())).name
        spelled = " or ".join(", ".join(columns) for columns in HEADERS)
        raise TPPError(
            f"{name}: no process log; expected the columns {spelled}. Read it as a table and name the columns."
        )
    case, activity, time = found
    return table.read(path, sequence=case, mark=activity, time=time, zone=zone, date_format=date_format, sort=sort)


def _columns(path: str | Path) -> tuple[str, str, str] | None:
    given = header(path)
    return next((names for names in HEADERS if given and all(set(names) <= set(columns) for columns in given)), None)
