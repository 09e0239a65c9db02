"""Patterns that name parameters: ``encoder.*.bias``, or parts of a name, as ``fc2``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TypeVar

from accord.errors import AccordError, nearest
from accord.sharing import inside

T = TypeVar("T")


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern names a parameter: as a whole (with ``*``, ``?``), or as some of the parts between its dots.

    Example:
        >>> [matches(p, "blocks.0.fc2.weight") for p in ("*.weight", "fc2", "fc2.weight", "fc", "blocks.1")]
        [True, True, True, False, False]
    """
    return fnmatchcase(name, pattern) or f".{pattern}." in f".{name}."


def is_head(head: str, name: str) -> bool:
    """Whether an entry of ``heads=`` means a parameter: by its name, that of a module around it, or with ``*``.

    Unlike ``matches`` from the first part of the name on: ``1`` is not the second layer of every block.

    Example:
        >>> [is_head(head, "1.0.weight") for head in ("1", "1.0.weight", "1.*", "0", "weight")]
        [True, True, True, False, False]
    """
    return inside(name, [head]) or ("*" in head and fnmatchcase(name, head))


def first(patterns: Mapping[str, T], names: Iterable[str]) -> T | None:
    """What is said for the first pattern that matches one of the names; None if none does."""
    names = list(names)
    return next((said for pattern, said in patterns.items() if any(matches(pattern, name) for name in names)), None)


def check(
    patterns: Iterable[str], names: Iterable[str], what: str, means: Callable[[str, str], bool] = matches
) -> None:
    """Every pattern has to match something.

    Args:
        patterns: see ``matches``.
        names: of parameters.
        what: the argument that the patterns come from.
        means: ``matches`` or ``is_head``.

    Raises:
        AccordError: naming the first pattern that matches nothing.
    """
    names = list(names)
    for pattern in patterns:
        if not any(means(pattern, name) for name in names):
            raise AccordError(f"{what}: {pattern!r} matches no parameter.{_hint(pattern, names)}")


def _hint(pattern: str, names: list[str]) -> str:
    """The nearest name or part of a name."""
    inner = (part for name in names for part in name.split(".") if not part.isdigit())
    parts = [*dict.fromkeys([*names, *inner])]
    hint = nearest(pattern, parts)
    return hint if hint.startswith(" Did") else f" There are, for instance: {', '.join(names[:3])}."
