"""Checks of a method's own arguments, shared so that every mistake is reported in the same words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError, nearest

if TYPE_CHECKING:
    from accord.methods.method import Method

Array = NDArray[np.float64]


def number(
    method: Method,
    name: str,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Make the field a float, and refuse what is no finite number or out of bounds.

    Args:
        method: whose field it is.
        name: of the field.
        above: exclusive lower bound.
        least: inclusive lower bound.
        most: inclusive upper bound.
        below: exclusive upper bound.
    """
    value = getattr(method, name)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not (above < value < below and least <= value <= most):
        bounds = " and".join(
            f" {sign} {bound:g}"
            for sign, bound in ((">", above), (">=", least), ("<=", most), ("<", below))
            if math.isfinite(bound)
        )
        raise AccordError(f"{type(method).__name__}: {name}={value!r}, expected a finite number{bounds}.")
    setattr(method, name, float(value))


def whole(method: Method, name: str, *, least: int) -> None:
    """Refuse a field that is not an integer of at least `least`.

    Args:
        method: whose field it is.
        name: of the field.
        least: the smallest allowed value.
    """
    value = getattr(method, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise AccordError(f"{type(method).__name__}: {name}={value!r}, expected an integer >= {least}.")


def choice(method: Method, name: str, known: Sequence[str | None]) -> None:
    """Refuse a field that is none of the known words.

    Args:
        method: whose field it is.
        name: of the field.
        known: the allowed words, None among them if it is allowed.
    """
    value = getattr(method, name)
    if value not in known:
        words = [word for word in known if word is not None]
        hint = nearest(value, words) if isinstance(value, str) else ""
        raise AccordError(
            f"{type(method).__name__}: {name}={value!r}, expected one of {', '.join(map(repr, known))}.{hint}"
        )


def vector(method: Method, name: str) -> None:
    """Make the field a tuple of floats, and refuse what is no sequence of finite numbers.

    Args:
        method: whose field it is.
        name: of the field.
    """
    value = getattr(method, name)
    try:
        numbers = tuple(float(part) for part in value)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or isinstance(value, str | dict) or not all(map(math.isfinite, numbers)):
        raise AccordError(
            f"{type(method).__name__}: {name}={value!r}, expected finite numbers, one per task in the order of the "
            f"losses, as in {name}=(1.0, 2.0)."
        )
    setattr(method, name, numbers)


def preferences(method: Method) -> None:
    """Refuse a field ``pref`` that is neither None nor positive numbers, one per task.

    Args:
        method: whose field it is.
    """
    if getattr(method, "pref", None) is not None:
        vector(method, "pref")
        pref = getattr(method, "pref", ())
        if min(pref) <= 0:
            raise AccordError(f"{type(method).__name__}: pref={pref!r}, expected positive preferences.")


def pick(method: Method, name: str, active: NDArray[np.intp], total: int) -> Array:
    """The entries of a per-task argument that belong to the active tasks.

    Args:
        method: whose field it is.
        name: of the field, which ``vector`` has checked.
        active: (k,) columns of the active tasks.
        total: K.

    Returns:
        (k,)
    """
    values = getattr(method, name)
    if len(values) != total:
        raise AccordError(
            f"{method!r}: {name} has {len(values)} entries, but there are {total} tasks; give one per task."
        )
    return np.asarray(values)[active]


def shares(method: Method, active: NDArray[np.intp], total: int) -> Array:
    """The field ``pref`` of the active tasks, normalised to sum to one; equal where it is None.

    Args:
        method: whose field it is, which ``preferences`` has checked.
        active: (k,) columns of the active tasks.
        total: K.

    Returns:
        (k,)
    """
    if getattr(method, "pref", None) is None:
        return np.full(len(active), 1 / len(active))
    pref = pick(method, "pref", active, total)
    return pref / pref.sum()


def present(method: Method, losses: Array | None) -> Array:
    """The losses, or an error that says that this method needs them.

    Args:
        method: who needs them.
        losses: (k,) or None.
    """
    if losses is None:
        raise AccordError(f"{method!r} reads the losses, but none were given; call it as method(gramian, losses).")
    return losses


def positive(method: Method, losses: Array | None) -> Array:
    """The losses, or an error if one of them has no logarithm.

    Args:
        method: who needs them.
        losses: (k,) or None.
    """
    losses = present(method, losses)
    if losses.min() <= 0:
        raise AccordError(f"{method!r} takes logarithms, but a loss is {losses.min():g}; expected losses > 0.")
    return losses
