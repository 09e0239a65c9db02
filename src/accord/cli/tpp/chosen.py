"""A fitted model together with the events it is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accord.cli.reading import Reading
from accord.cli.tpp.about import About
from accord.cli.tpp.source import PARTS, fingerprint, recorded, training
from accord.errors import AccordError
from accord.tpp.checkpoint import load
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Splits
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
        train: the events that it was fitted on; None: they are not at hand.
        seen: sequences of ``events`` that are among them, where they should not.
    """

    model: PointProcess
    about: About
    events: Events
    part: str
    train: Events | None
    seen: int = 0


def opened(path: Path) -> tuple[PointProcess, About]:
    """The model that ``accord tpp fit`` wrote, by its file or the folder of that.

    Raises:
        TPPError: if there is none, or it is damaged.
    """
    path = path / MODEL if path.is_dir() else path
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
        splits = _own(about)
        return Chosen(model, about, *_part(vars(splits), part, data), splits.train)
    parts, _ = recorded(data, reading, about.seed)
    events, name = _part(parts, part, data)
    events = about.scaled(events)
    try:
        train = _own(about).train
    except (AccordError, TPPError):  # its data may be gone; then nothing is compared with them
        return Chosen(model, about, events, name, None)
    known = set(train.fingerprints())
    return Chosen(model, about, events, name, train, sum(print_ in known for print_ in events.fingerprints()))


def _own(about: About) -> Splits:
    """The data of the model.

    Raises:
        TPPError: if they changed since.
    """
    splits = training(about.data, about.reading, about.seed).splits
    if fingerprint(splits.train) != about.train:
        raise TPPError(
            f"{about.data} has changed since the model was fitted: its training part holds other sequences. Fit anew, "
            "or give the data under another name."
        )
    return splits


def _same(data: str, other: str) -> bool:
    if data == other:
        return True
    return Path(data).exists() and Path(other).exists() and Path(data).samefile(other)


def _part(parts: Mapping[str, Events], part: str | None, data: str) -> tuple[Events, str]:
    if part is None:
        part = PARTS[2] if PARTS[2] in parts else next(iter(parts)) if len(parts) == 1 else None
    if part is None or part not in parts:
        found = "" if part is None else f"there is no part {part!r}; "
        raise TPPError(f"{data}: {found}it has {', '.join(parts)}; choose one with --part.")
    return parts[part], part
