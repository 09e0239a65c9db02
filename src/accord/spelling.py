"""From spelling to object: ``CAGrad(c=0.5)``, ``digits(width=64)``. Values are literals, nothing is ever evaluated."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from accord.errors import AccordError, nearest

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z_]\w*(?:[-:]\w+)*")  # CAGrad, tpp-mooc, tpp:mine


def parse_among(known: Mapping[str, type[T]], text: str, what: str, part: str) -> T:
    """An object of one of the dataclasses, from its spelling.

    Args:
        known: the dataclasses by name.
        text: ``Name`` or ``Name(argument=literal, ...)``.
        what: the word for these classes in error messages.
        part: the word for their fields.

    Raises:
        AccordError: for an unknown name or argument (with the nearest right spelling), or a wrong value.

    Example:
        >>> @dataclasses.dataclass
        ... class Square:
        ...     side: float = 1.0
        >>> parse_among({"Square": Square}, "Square(side=2.0)", "shape", "argument")
        Square(side=2.0)
    """
    name, arguments = _split(text, what, part)
    if name not in known:
        raise AccordError(f"{what} {name!r} is unknown.{nearest(name, known)}")
    fields = {field.name: field for field in dataclasses.fields(known[name])}  # type: ignore[arg-type]
    for argument in arguments:
        if argument not in fields:
            hint = nearest(argument, fields) if fields else " It takes none."
            raise AccordError(f"{name} has no {part} {argument!r}.{hint}")
    missing = [f.name for f in fields.values() if f.name not in arguments and _required(f)]
    if missing:
        raise AccordError(f"{name} needs the {part} {missing[0]!r}; write {name}({missing[0]}=...).")
    return known[name](**arguments)


def _split(text: str, what: str, part: str) -> tuple[str, dict[str, Any]]:
    """Name and keyword arguments."""
    wrong = AccordError(f"{what} {text!r} cannot be read; write it as Name or Name({part}=value).")
    found = NAME.match(text.strip())
    if found is None:
        raise wrong
    name, rest = found.group(), text.strip()[found.end() :]
    if not rest:
        return name, {}
    try:
        node = ast.parse(f"name{rest}", mode="eval").body
    except (SyntaxError, ValueError):  # ValueError: a null byte
        raise wrong from None
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise wrong
    if node.args:
        raise AccordError(f"{what} {text!r}: name every {part}, as in {name}({part}=value).")
    arguments: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise wrong
        try:
            arguments[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            raise AccordError(
                f"{what} {text!r}: the value of {keyword.arg} must be a number, a quoted text, or a list of them."
            ) from None
    return name, arguments


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
