"""A fitted model together with the events it is asked about."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accord.cli.reading import Reading
from accord.cli.tpp.about import About
from accord.cli.tpp.source import PARTS, Names, Taken, fingerprint, recorded, training
from accord.errors import AccordError
from accord.tpp.checkpoint import load
from accord.tpp.errors import TPPError
from accord.tpp.events import Events
from accord.tpp.model import PointProcess

MODEL = "model.safetensors"


@dataclass(frozen=True, eq=False)
class Chosen:
    """A model and events in its unit of time.

    Args:
        model: fitted.
        about: its data.
        events: to look at.
        part: their name.
        raw: the same sequences as recorded, with all events.
        ids: (N,) what they are called in the source.
        train: the events that it was fitted on; None: they are not at hand.
        seen: sequences of ``events`` that are among them, where they should not.
    """

    model: PointProcess
    about: About
    events: Events
    part: str
    raw: Events
    ids: Names
    train: Events | None
    seen: int = 0

    @property
    def recorded(self) -> Events:
        """``events`` in the unit and from the origin of their source; marks stay those of the model."""
        events, raw = self.events, self.raw
        if raw.time.size == events.time.size:  # exact, where the way there and back would round
            return dataclasses.replace(events, time=raw.time, start=raw.start, end=raw.end)
        time, start, end = map(self.about.original, (events.time, events.start, events.end))
        return dataclasses.replace(events, time=time, start=start, end=end)  # a recipe left some events out

    def number(self, sequence: str | None) -> int:
        """The place of a sequence among ``events``, by what it is called in the source; None: the first.

        Raises:
            TPPError: if none is called so.
        """
        known = [str(name) for name in self.ids.tolist()]
        if sequence is None:
            return 0
        if sequence not in known:
            shown = ", ".join(known[:5]) + (" and others" if len(known) > 5 else "")
            raise TPPError(f"{self.part} holds no sequence {sequence!r}; it has {shown}.")
        return known.index(sequence)


def opened(path: Path) -> tuple[PointProcess, About]:
    """The model that ``accord tpp fit`` wrote, by its file or the folder of that.

    Raises:
        TPPError: if there is none, or it is damaged.
    """
    path = path / MODEL if os.path.isdir(path) else path
    model, about = load(path)
    return model, About.of(about, path)


def choose(path: Path, data: str, part: str | None, reading: Reading) -> Chosen:
    """A model and what is asked about.

    Of the data that the model was fitted on, the same split and, unless told otherwise, its test part. Of other data,
    their test part, or their only one, brought to the model's marks and unit.

    Args:
        path: of the model.
        data: as the user named them.
        part: of the data; None: as said above.
        reading: of files.

    Raises:
        TPPError: for data that do not fit the model, have changed since, or have no such part.
    """
    model, about = opened(path)
    if _same(data, about.data) and reading in (about.reading, Reading()):
        taken = _own(about)
        events, name = _part(vars(taken.splits), part, data)
        return Chosen(model, about, events, name, taken.raw[name], taken.ids[name], taken.splits.train)
    source = recorded(data, reading, about.seed)
    raw, name = _part(source.parts, part, data)
    events = about.scaled(raw)
    try:
        train = _own(about).splits.train
    except (AccordError, TPPError):  # its data may be gone; then nothing is compared with them
        return Chosen(model, about, events, name, raw, source.ids[name], None)
    known = set(train.fingerprints())
    seen = sum(print_ in known for print_ in events.fingerprints())
    return Chosen(model, about, events, name, raw, source.ids[name], train, seen)


def _own(about: About) -> Taken:
    """The data of the model.

    Raises:
        TPPError: if they changed since.
    """
    taken = training(about.data, about.reading, about.seed)
    if fingerprint(taken.splits.train) != about.train:
        raise TPPError(
            f"{about.data} has changed since the model was fitted: its training part holds other sequences. Fit anew, "
            "or give the data under another name."
        )
    return taken


def _same(data: str, other: str) -> bool:
    if data == other:
        return True
    return os.path.exists(data) and os.path.exists(other) and os.path.samefile(data, other)


def _part(parts: Mapping[str, Events], part: str | None, data: str) -> tuple[Events, str]:
    if part is None:
        part = PARTS[2] if PARTS[2] in parts else next(iter(parts)) if len(parts) == 1 else None
    if part is None or part not in parts:
        found = "" if part is None else f"there is no part {part!r}; "
        raise TPPError(f"{data}: {found}it has {', '.join(parts)}; choose one with --part.")
    return parts[part], part
