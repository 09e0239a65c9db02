"""Every question about every task of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from accord.curves.answer import LAST, Answer
from accord.curves.questions import MARGIN, WITHIN, gap, overfitting, relative, stuck, underfitting
from accord.errors import AccordError


@dataclass(frozen=True)
class Fit:
    """How a task has learned: three answers and three numbers.

    Args:
        overfitting: see ``overfitting``.
        underfitting: see ``underfitting``.
        stuck: see ``stuck``.
        gap: see ``gap``.
        train_ratio: training loss over that of the task trained alone; NaN without one.
        validation_ratio: the same of the validation loss.
    """

    overfitting: Answer
    underfitting: Answer
    stuck: Answer
    gap: float
    train_ratio: float
    validation_ratio: float

    @property
    def flags(self) -> tuple[str, ...]:
        """The questions answered with yes."""
        return tuple(name for name in ("overfitting", "underfitting", "stuck") if getattr(self, name))


def diagnose(
    train: Mapping[str, Any],
    validation: Mapping[str, Any],
    chance: Mapping[str, float],
    single: Mapping[str, tuple[Any, Any]] | None = None,
    *,
    margin: float = MARGIN,
    within: float = WITHIN,
    last: float = LAST,
) -> dict[str, Fit]:
    """All of the above for each task.

    Args:
        train: (T,) training losses by task.
        validation: (T,) validation losses by task.
        chance: chance levels by task.
        single: training and validation losses of the task trained alone, where there are any.
        margin: of ``overfitting``, in the unit of the losses.
        within: of ``underfitting`` and ``stuck``.
        last: which part of the curves counts.

    Returns:
        A Fit for each task of ``train``.

    Raises:
        AccordError: for tasks that are not the same in all three.

    Example:
        >>> curves = {"a": [2.0 * 0.8**t for t in range(24)], "b": [2.3] * 24}
        >>> found = diagnose(curves, {"a": [1.0 + 0.05 * t for t in range(24)], "b": [2.3] * 24}, {"a": 2.3, "b": 2.3})
        >>> found["a"].flags, found["b"].flags
        (('overfitting',), ('underfitting', 'stuck'))
    """
    for name, other in (("validation", validation), ("chance", chance)):
        if set(other) != set(train):
            raise AccordError(f"curves: {name} has tasks {sorted(other)}, train has {sorted(train)}; give the same.")
    alone = dict(single or {})
    found = {}
    for task in train:
        ratios = [
            relative(own, one, last=last) if task in alone else np.nan
            for own, one in zip((train[task], validation[task]), alone.get(task, ((), ())), strict=True)
        ]
        found[task] = Fit(
            overfitting(train[task], validation[task], margin=margin, last=last),
            underfitting(train[task], chance[task], within=within, last=last),
            stuck(train[task], chance[task], within=within),
            gap(train[task], validation[task], last=last),
            *ratios,
        )
    return found
