"""What a run does to its model beside training it with a method: sparse training, layers of their own, an anchor."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from accord.errors import AccordError
from accord.sparse.rules import parse_rule

if TYPE_CHECKING:
    from accord.bench.config import RunConfig

LONGEST = 100  # of one word in a label: labels are names of folders
DEFAULT_ORDER = "mask-then-combine"
NONE = dict.fromkeys(("sparse", "split", "split_after", "anchor", "sparse_look")) | {
    "sparse_order": DEFAULT_ORDER,
    "sparse_trains": "selected",
}  # the fields of a run without additions
PLAIN = ("sparse_order", "sparse_trains", "sparse_look")  # mean nothing without a rule


def words(config: RunConfig) -> tuple[str, ...]:
    """The additions as words of a label, in a fixed order.

    Example:
        >>> from accord.bench.config import configure
        >>> configure(problem="digits", method="UPGrad", split=("encoder.trunk.2",), anchor=0.1).label
        'UPGrad() + split(encoder.trunk.2) + anchor(0.1)'
    """
    found = []
    if config.split is not None:
        later = "" if config.split_after is None else f" after {config.split_after}"
        found.append(_short(f"split({', '.join(config.split)})") + later)
    if config.sparse is not None:
        rule = _short(config.sparse)
        found.append(rule if config.sparse_trains == "selected" else f"watched {rule}")
        if config.sparse_order != DEFAULT_ORDER:
            found.append(config.sparse_order)
    if config.anchor is not None:
        found.append(f"anchor({config.anchor:g})")
    return tuple(found)


def spelled(rule: str) -> str:
    """The one right spelling of a rule.

    Raises:
        AccordError: for an unknown name or argument, or a wrong value.
    """
    return repr(parse_rule(rule))


def check(config: RunConfig) -> None:
    """Settings of sparse training without a rule are a mistake, as is a split with nobody to split between.

    Raises:
        AccordError: for the first mistake.
    """
    fields = type(config).model_fields
    for name in PLAIN:
        if config.sparse is None and getattr(config, name) != fields[name].default:
            raise AccordError(f"{name} is {getattr(config, name)!r} without a rule; give sparse as well.")
    if config.sparse_trains == "all" and config.sparse_order != DEFAULT_ORDER:
        raise AccordError("sparse_trains='all' trains everything, so there is no sparse_order; leave it out.")
    if config.split is not None and len(config.tasks or ("all", "of them")) < 2:
        raise AccordError(f"split is {list(config.split)} with one task; expected several, or leave split out.")
    if config.split_after is not None:
        _check_later(config)


def _check_later(config: RunConfig) -> None:
    if config.split is None:
        raise AccordError(f"split_after is {config.split_after} without layers; give split as well.")
    if config.sparse is not None or config.anchor is not None:
        other = "sparse" if config.sparse is not None else "anchor"
        raise AccordError(f"split_after is given with {other}; layers can be split beside that from the start only.")
    assert config.split_after is not None
    if config.split_after >= config.epochs:
        raise AccordError(f"split_after is {config.split_after} of {config.epochs} epochs; expected fewer.")


def _short(text: str) -> str:
    """A text that may be part of the name of a folder; what is cut off is told apart by a few digits."""
    if len(text) <= LONGEST and not set(text) & set("/\\") and text.isprintable():
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    kept = "".join(c if c.isprintable() and c not in "/\\" else "-" for c in text[: LONGEST - 12])
    return f"{kept}... {digest}"
