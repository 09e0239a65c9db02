"""A table as plain data, for the page, the terminal, and the text behind every chart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column's header, a hint that says what its numbers are, and whether it holds words, which stand left."""

    header: str
    hint: str = ""
    words: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of text; the first cell of a row names it.

    Args:
        title: what the rows are.
        columns: one per cell.
        rows: cells as they are shown.
        caption: how the numbers were obtained.
        name: its name in the registry.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    name: str = ""
