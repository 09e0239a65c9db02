"""Readers of event sequences: one file for each format, `read` for all of them.

==============  ======================================================================
format          source
==============  ======================================================================
``gatech``      pickles of EasyTPP, THP, HYPRO, anhp
``easytpp``     json of EasyTPP on the Hugging Face hub
``ifl_tpp``     torch-saved dictionaries and npz archives of ifl-tpp
``authors``     json of the gradient-conflict study and of neuralTPPs
``du_text``     ``time*.txt`` and ``event*.txt`` of RMTPP
``gntpp``       pickles of GNTPP
``vi_dpp``      pickles of VI-DPP
``hotpp``       parquet of HoTPP, a row for each sequence
``process_log`` csv of process mining: case, activity, time
``table``       csv or parquet with a row for each event
==============  ======================================================================
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

from accord.tpp.errors import TPPError, nearest
from accord.tpp.readers import authors, du_text, easytpp, gatech, gntpp, hotpp, ifl_tpp, process_log, table, vi_dpp
from accord.tpp.readers.columns import is_table, load
from accord.tpp.readers.found import Found

# In the order in which a format is looked for: what is recognised by its own field names first.
FORMATS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (gatech, easytpp, ifl_tpp, authors, du_text, gntpp, vi_dpp, hotpp, process_log, table)
}
ABOUT = ("name", "unit", "licence")


def read(path: str | Path, format: str | None = None, **options: Any) -> Found:
    """Events from a file or folder.

    Args:
        path: of the source.
        format: one of `FORMATS`; None: what the file names and the words in the files tell. Nothing is unpickled to
            find out.
        options: of the reader, for example ``stored_dt`` of ``gatech``; besides ``name``, ``unit`` of time and
            ``licence`` of the data for all of them.

    Returns:
        Parts and warnings.

    Raises:
        TPPError: if there is no such file, format or option, if the format cannot be told, or what the reader finds.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, line in (("time.txt", "0.5 2.0"), ("event.txt", "1 2")):
        ...         _ = Path(folder, name).write_text(line)
        ...     events = read(folder, unit="s").parts["all"]
        >>> events.time.tolist(), events.marks, events.unit
        ([0.5, 2.0], ('1', '2'), 's')
    """
    path = Path(path)
    try:
        path.stat()
        return _read(path, recognise(path) if format is None else format, options)
    except OSError as error:
        raise TPPError(f"{error.filename or path}: {(error.strerror or str(error)).lower()}.") from None


def _read(path: Path, format: str, options: dict[str, Any]) -> Found:
    if format not in FORMATS:
        raise TPPError(f"no format {format!r}.{nearest(format, FORMATS)}")
    reader = FORMATS[format].read
    known = [name for name in inspect.signature(reader).parameters if name != "path"]
    for option in options:
        if option not in (*known, *ABOUT):
            raise TPPError(f"format {format} has no option {option!r}.{nearest(option, [*known, *ABOUT])}")
    about = {name: options.pop(name) for name in ABOUT if name in options and name not in known}
    found: Found = reader(path, **options)
    parts = {part: dataclasses.replace(events, **about) for part, events in found.parts.items()}
    return dataclasses.replace(found, parts=parts)


def recognise(path: str | Path) -> str:
    """The format of a file or folder, by names and words in it.

    Raises:
        TPPError: if none recognises it: what it holds, and what to do.
    """
    path = Path(path)
    for name, module in FORMATS.items():
        if module.recognises(path):
            return name
    known = f"format=, one of {', '.join(FORMATS)}"
    if path.is_dir():
        inner = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise TPPError(f"{path}: unknown format: the folder holds {inner}. Give a file in it, or {known}.")
    if path.is_file() and is_table(path):
        names = ", ".join(load(path).frame.columns[:10])
        raise TPPError(
            f"{path.name}: unknown format: no column 'time' of single values, but {names}. Name its columns: "
            "time='...', sequence='...', mark='...', or None for the last two."
        )
    raise TPPError(f"{path}: unknown format; give {known}.")
