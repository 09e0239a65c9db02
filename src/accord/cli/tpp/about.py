"""What a checkpoint says of the data its model was fitted on, so that others are brought to the same form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from accord.cli.reading import Reading
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Floats
from accord.tpp.tick import tick

PLAIN = "1"  # the unit of times whose unit is not known


@dataclass(frozen=True)
class About:
    """The data of a fitted model, and the scale that it knows times in: ``(t - offset) * factor``.

    Args:
        data: as the user named them.
        seed: of their split.
        marks: names of the M marks, in the model's order.
        unit: of time as recorded.
        offset: subtracted from recorded times.
        factor: that they are multiplied by afterwards.
        recipe: that chose both.
        train: hash of the training sequences.
        simulated: whether the data are.
        paper_compat: see ``accord.tpp.fit``.
        format: of the file, as given.
        options: of its reader, as given.
        settings: all else that the training was told, for the reader of the file.
    """

    data: str
    seed: int
    marks: tuple[str, ...]
    unit: str
    offset: float
    factor: float
    recipe: str
    train: str
    simulated: bool
    paper_compat: bool
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any], path: object) -> About:
        """From what the checkpoint at ``path`` holds.

        Raises:
            TPPError: if it was written by something else.
        """
        try:
            return cls(**{**found, "marks": tuple(found["marks"])})
        except (KeyError, TypeError):
            raise TPPError(
                f"{path} does not say on which marks and scale its model was fitted; `accord tpp fit` writes both."
            ) from None

    @property
    def reading(self) -> Reading:
        """How its file is read."""
        return Reading(self.format, self.options)

    def scaled(self, events: Events) -> Events:
        """Recorded events with the model's vocabulary, in its unit of time.

        Raises:
            TPPError: for a mark that the model does not know, or times in another unit.
        """
        name = events.name or "the data"
        if PLAIN not in (events.unit, self.unit) and events.unit != self.unit:
            raise TPPError(
                f"{name}: times are in {events.unit}, and the model was fitted on {self.unit}; convert them."
            )
        number = {mark: k for k, mark in enumerate(self.marks)}
        place = np.array([number.get(mark, -1) for mark in events.marks], np.int64)  # (M of the data,)
        unknown = place[events.mark] < 0
        if unknown.any():
            first = events.marks[events.mark[int(unknown.argmax())]]
            known = ", ".join(self.marks[:5]) + (", ..." if len(self.marks) > 5 else "")
            raise TPPError(
                f"{name}: {unknown.sum():,} events have marks that the model does not know, such as {first!r}; it "
                f"knows {known}. Leave them out, or fit a model on data that have them."
            )
        found = dataclasses.replace(events, tick=tick(events) if events.tick is None else events.tick)
        moved = {field: getattr(found, field) - self.offset for field in ("time", "start", "end")}
        found = dataclasses.replace(found, **moved, mark=place[events.mark], marks=self.marks)
        return found.rescaled(self.factor, self.model_unit)

    def original(self, time: Floats) -> Floats:
        """Times of the model in the unit and from the origin of the recorded ones, to rounding."""
        return time / self.factor + self.offset

    @property
    def model_unit(self) -> str:
        """Unit of the model's times, in words."""
        if self.factor == 1:
            return words(self.unit)
        return f"{1 / self.factor:.6g} {'' if self.unit == PLAIN else '× '}{words(self.unit)}"


def words(unit: str) -> str:
    """A unit for texts and axes.

    Example:
        >>> words("1"), words("hour"), words("1 = 60 s")
        ('units of the data', 'hour', 'units of 60 s')
    """
    return "units of the data" if unit == PLAIN else unit.replace("1 =", "units of") if "=" in unit else unit
