"""Arrays of a data set, with the sizes and ranges that they must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.data import arrays
from accord.errors import AccordError


@dataclass(frozen=True)
class Column:
    """What an array must be: one entry for each of N examples.

    Args:
        shape: of an entry.
        kind: ``u`` for whole numbers, ``f`` for floats.
        low: its least value.
        high: its greatest value.
    """

    shape: tuple[int, ...]
    kind: str
    low: float
    high: float


def read(path: Path, columns: Mapping[str, Column]) -> dict[str, NDArray[np.generic]]:
    """The arrays of an ``.npz`` file.

    Args:
        path: of the file.
        columns: by name, what each must be.

    Raises:
        AccordError: if one is missing or something else, or if their lengths differ.
    """
    found = arrays(path, list(columns))
    count = len(found[next(iter(columns))]) if found[next(iter(columns))].ndim else 0
    for name, column in columns.items():
        check(f"{path}: {name}", found[name], column, count)
    return found


def check(what: str, array: NDArray[np.generic], column: Column, count: int) -> None:
    """Refuse an array that is not what it must be.

    Args:
        what: it is called in the error.
        array: (N, ...).
        column: what it must be.
        count: N.

    Raises:
        AccordError: saying what was found and expected.
    """
    numeric = array.dtype.kind in ("iu" if column.kind == "u" else "f")
    if not numeric or array.shape != (count, *column.shape) or not count:
        wanted = "whole numbers" if column.kind == "u" else "floats"
        expected = ", ".join(map(str, (count or "N", *column.shape)))
        raise AccordError(f"{what} is {array.dtype} {array.shape}, expected {wanted} ({expected}); get the file anew.")
    low, high = array.min(), array.max()  # NaN wherever there is one
    if not (column.low <= low and high <= column.high):
        raise AccordError(
            f"{what} goes from {low} to {high}, expected {column.low} to {column.high}; get the file anew."
        )
