"""easytpp: json of the EasyTPP data sets on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accord.tpp.errors import TPPError
from accord.tpp.readers.found import Found
from accord.tpp.readers.rows import Rows, build, load_json, mention, notes, number_lists, one_clock, sources

ENDINGS = (".json", ".jsonl")
TIME, STEP, MARK = "time_since_start", "time_since_last_event", "type_event"


def recognises(path: str | Path) -> bool:
    """Whether json here names the fields of this format."""
    return mention(path, ENDINGS, f'"{TIME}"', f'"{MARK}"')


def read(path: str | Path, *, stored_dt: bool = False) -> Found:
    """Events from records ``{dim_process, seq_len, time_since_start: [], time_since_last_event: [], type_event: []}``.

    Times count from the first event, so the start of the window is unknown, as is its end. Marks are 0..M-1 of
    ``dim_process``, used or not.

    Args:
        path: a list of records or one record on each line; or a folder of ``train``, ``dev`` and ``test`` files.
        stored_dt: take the gaps from ``time_since_last_event`` where they contradict the times, as EasyTPP does.

    Returns:
        The parts; a warning for each part whose stored gaps contradict its times.

    Raises:
        TPPError: naming file, record and field at fault.

    Source:
        https://huggingface.co/easytpp; specification of this package, section 12.
    """
    parts: dict[str, Rows] = {}
    declared: set[Any] = set()
    for part, file in sources(path, *ENDINGS).items():
        records = load_json(file)
        records = [records] if isinstance(records, dict) else records
        if not isinstance(records, list) or not records:
            raise TPPError(f"{file}: found {type(records).__name__}; expected a list of records.")
        parts[part] = _rows(records, str(file), stored_dt)
        declared |= {str(record["dim_process"]) for record in records}
    if len(declared) > 1:
        raise TPPError(f"{path}: 'dim_process' differs among records: {', '.join(sorted(declared)[:5])}; expected one.")
    return Found(build(parts, Path(path).stem, records[0]["dim_process"]), notes(parts.values()))


def _rows(records: list[Any], where: str, stored_dt: bool) -> Rows:
    for i, record in enumerate(records):
        for name in ("dim_process", TIME, MARK):
            if not isinstance(record, dict) or name not in record:
                raise TPPError(f"{where}: record {i} has no {name!r}; expected it in every one. Mend or leave it out.")
    rows = Rows(
        where,
        number_lists([record[TIME] for record in records], f"{where}, {TIME}"),
        number_lists([record[MARK] for record in records], f"{where}, {MARK}"),
    )
    for i, (record, times) in enumerate(zip(records, rows.times, strict=True)):
        if record.get("seq_len", times.size) != times.size:
            raise TPPError(
                f"{where}: sequence {i} has {times.size} events but 'seq_len' {record['seq_len']}; expected the same. "
                "Take padding out of all its lists, or mend 'seq_len'."
            )
    if stored_dt or all(STEP in record for record in records):
        one_clock(rows, number_lists([record.get(STEP) for record in records], f"{where}, {STEP}"), stored_dt)
    return rows
