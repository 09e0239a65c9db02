"""How readers are told from the command line what a file means."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accord.tpp.errors import TPPError
from accord.tpp.readers import ABOUT, FORMATS, read, recognise
from accord.tpp.readers.found import Found

COLUMNS = ("sequence", "time", "mark", "start", "end", "mark_bins")  # whoever names one reads a table


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        format: one of the readers' formats; None: what the file tells.
        options: of the reader, as typed.
    """

    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def read(self, path: str | Path) -> Found:
        """Events from a file or folder.

        Raises:
            TPPError: as ``accord.tpp.readers.read``, or for a value that an option cannot have.
        """
        if not self.options or not os.path.exists(path):
            return read(path, self.format)
        format = self.format
        if format is None:
            format = "table" if self.options.keys() & set(COLUMNS) else recognise(path)
        known = inspect.signature(FORMATS[format].read).parameters if format in FORMATS else {}
        given = {name: _value(name, text, known) for name, text in self.options.items()}
        return read(path, format, **given)


def pairs(texts: Sequence[str]) -> dict[str, str]:
    """Options of a reader from ``key=value``.

    Raises:
        TPPError: for a text without ``=``.

    Example:
        >>> pairs(["stored_dt=true", "start=0"])
        {'stored_dt': 'true', 'start': '0'}
    """
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise TPPError(f"--option {text!r} is not of the form key=value.")
        found[name.strip().replace("-", "_")] = value.strip()
    return found


def _value(name: str, text: str, known: Mapping[str, inspect.Parameter]) -> Any:
    """What was typed, as the kind that the reader expects; it refuses options that it does not know itself."""
    if name in ABOUT and name not in known:
        return text
    kind = str(known[name].annotation) if name in known else "str"
    if "None" in kind and text.lower() in ("", "none"):
        return None
    if kind == "bool":
        if text.lower() not in ("true", "false"):
            raise TPPError(f"{name}={text!r} is not true or false.")
        return text.lower() == "true"
    if kind.startswith("Sequence"):
        parts = [part.strip() for part in text.split(",")]
        if "float" not in kind:
            return parts
        try:
            return [float(part) for part in parts]
        except ValueError:
            raise TPPError(f"{name}={text!r}; expected numbers with commas between them, such as 2,3,4.") from None
    return text
