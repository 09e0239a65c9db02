"""From spelling to problem: ``digits(width=64)``."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping
from typing import Any

from accord.errors import AccordError, nearest
from accord.problems.problem import Problem


def parse_among(known: Mapping[str, type[Problem]], text: str) -> Problem:
    """A problem from its spelling.

    Args:
        known: the problems by name.
        text: ``name`` or ``name(setting=value, ...)``.

    Raises:
        AccordError: for an unknown name or setting (with the nearest right spelling), or a wrong value.
    """
    name, settings = _split(text)
    if name not in known:
        raise AccordError(f"problem {name!r} is unknown.{nearest(name, known)}")
    fields = [f.name for f in dataclasses.fields(known[name])]  # type: ignore[arg-type]
    for setting in settings:
        if setting not in fields:
            raise AccordError(f"problem {name} has no setting {setting!r}.{nearest(setting, fields)}")
    return known[name](**settings)


def _split(text: str) -> tuple[str, dict[str, Any]]:
    """Name and settings; values are literals, nothing is ever evaluated."""
    wrong = AccordError(f"problem {text!r} cannot be read; write it as name or name(setting=value).")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):  # ValueError: a null byte
        raise wrong from None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise wrong
    settings: dict[str, Any] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise wrong
        try:
            settings[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            raise AccordError(
                f"problem {text!r}: the value of {keyword.arg} must be a number or a quoted text."
            ) from None
    return node.func.id, settings
