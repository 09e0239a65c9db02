"""The Balancer's settings: which combinations can be, decided once at construction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from accord import scale as scaling
from accord.engines import ENGINES
from accord.errors import AccordError, nearest
from accord.methods import Method

Heads = Literal["plain", "weighted"]
EngineName = Literal["auto", "stacked", "segmented", "features"]


def check(method: Method, scale: str, heads: str | None, engine: str) -> Heads:
    """Refuse what cannot be.

    Args:
        method: a method.
        scale: see ``scale.py``.
        heads: ``plain``, ``weighted``, or None for the method's own default.
        engine: ``auto`` or the name of an engine.

    Returns:
        How heads are treated.

    Raises:
        AccordError: for an unknown word, or words that exclude each other.
    """
    if not isinstance(method, Method):
        raise AccordError(f"method is {method!r}; expected a method such as accord.UPGrad(), or its spelling.")
    scaling.check(scale)
    if not method.needs_gramian:
        scaling.factor(scale, method.native_scale, 1)  # type: ignore[arg-type]  # refuses what would need the Gramian
    if heads is not None and heads not in get_args(Heads):
        raise AccordError(f"heads={heads!r} is not known.{nearest(str(heads), get_args(Heads))}")
    if engine != "auto" and engine not in ENGINES:
        raise AccordError(f"engine={engine!r} is not known.{nearest(str(engine), ['auto', *ENGINES])}")
    if method.needs_gradients and engine not in ("auto", "stacked"):
        raise AccordError(f"{method!r} combines whole gradients, which only engine='stacked' holds.")
    if method.needs_gradients and heads == "weighted":
        raise AccordError(f"{method!r} has no weights, so heads='weighted' is not possible.")
    if not (method.needs_gramian or method.needs_gradients):
        if heads == "plain":
            raise AccordError(f"{method!r} weights whole losses, heads included; heads='plain' is not possible.")
        return "weighted"
    return "weighted" if heads == "weighted" else "plain"


def check_state(state: Mapping[str, Any], own: Mapping[str, Any], equal: Sequence[str]) -> None:
    """Refuse a state that belongs to something else.

    Args:
        state: to be loaded.
        own: the present state, which has the same keys.
        equal: the keys that must agree.

    Raises:
        AccordError: for missing keys or other settings.
    """
    missing = sorted(set(own) - set(state))
    if missing:
        raise AccordError(f"this is no state of a Balancer: it lacks {', '.join(missing)}.")
    for name in equal:
        if state[name] != own[name]:
            raise AccordError(f"the state is of {name} {state[name]}, but this Balancer has {own[name]}.")
