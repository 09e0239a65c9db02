"""The store of imported data sets: one folder each, with arrays (``events.npz``, no pickle) and ``meta.json``."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from accord.tpp.errors import TPPError, nearest
from accord.tpp.events import Events

ARRAYS, META, IDS, VERSION = "events.npz", "meta.json", "ids", 1
_FIELDS = ("time", "mark", "offsets", "start", "end")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Stored:
    """What the store knows of a data set without reading its events.

    Args:
        name: of the data set, and of its folder.
        sequences: by part.
        events: by part.
        marks: M.
        unit: of time.
        tick: resolution of the recording in ``unit``; None: continuous or unknown.
        licence: of the data, or what is known of it.
        source: name of the file or folder that it came from.
        sha256: of that file; empty for folders and for events that came from no file.
        problem: why it cannot be read, in a line; empty: it can.
    """

    name: str
    sequences: dict[str, int]
    events: dict[str, int]
    marks: int = 0
    unit: str = ""
    tick: float | None = None
    licence: str = ""
    source: str = ""
    sha256: str = ""
    problem: str = ""


def save(
    name: str,
    parts: Mapping[str, Events],
    folder: str | Path,
    *,
    ids: Mapping[str, tuple[str, ...]] | None = None,
    source: str | Path | None = None,
    replace: bool = False,
) -> Path:
    """Write a data set: complete or not at all.

    Args:
        name: letters, digits, ``. _ -``.
        parts: events by part, with one vocabulary, unit, tick and licence.
        folder: of the store; made if it is not there.
        ids: by part the names of the sequences in the source; parts without are left out.
        source: the file that the events were read from; its name and sha256 are kept.
        replace: whether to put it in the place of one with this name.

    Returns:
        The folder of the data set.

    Raises:
        TPPError: for a bad name, one that is taken, parts that do not fit together, or a folder that is not writable.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save("clicks", {"all": Events.of([[1.0, 2.5]], unit="hour")}, folder)
        ...     listing(folder)[0].events, load("clicks", folder)["all"].gaps.tolist()
        ({'all': 2}, [0.0, 1.5])
    """
    place = free(name, folder, replace)
    if not parts:
        raise TPPError(f"{name}: there is no part to store; give at least one.")
    common = {(part.marks, part.unit, part.tick, part.licence) for part in parts.values()}
    if len(common) > 1:
        raise TPPError(f"{name}: its parts differ in marks, unit, tick or licence; give them one of each.")
    try:
        digest = "" if source is None else _sha256(Path(source))
    except OSError as error:
        raise TPPError(f"{source} cannot be read: {error.strerror}.") from error
    marks, unit, tick, licence = common.pop()
    about = Stored(
        name=name,
        sequences={part: len(events) for part, events in parts.items()},
        events={part: events.time.size for part, events in parts.items()},
        marks=len(marks),
        unit=unit,
        tick=tick,
        licence=licence,
        source="" if source is None else Path(source).name,
        sha256=digest,
    )
    arrays: dict[str, Any] = {
        f"{part}.{field}": getattr(events, field) for part, events in parts.items() for field in _FIELDS
    }
    # As bytes: numpy's arrays of text give every name the room of the longest.
    arrays |= {
        f"{part}.{IDS}": np.frombuffer(json.dumps(each).encode(), np.uint8) for part, each in (ids or {}).items()
    }
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as made:
            new = Path(made) / name
            new.mkdir()
            np.savez_compressed(new / ARRAYS, **arrays)
            meta = {"version": VERSION, **asdict(about), "vocabulary": marks, "arrays": _sha256(new / ARRAYS)}
            (new / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
            _exchange(new, place, Path(made) / "old")
    except OSError as error:
        raise TPPError(f"{name}: cannot be written to {place.parent}: {error.strerror or error}.") from error
    return place


def load(name: str, folder: str | Path) -> dict[str, Events]:
    """The parts of a stored data set.

    Raises:
        TPPError: if there is none of this name, or its files are damaged.
    """

    def events(file: Any, about: Stored, vocabulary: tuple[str, ...]) -> dict[str, Events]:
        return {
            part: Events(
                **{field: file[f"{part}.{field}"] for field in _FIELDS},
                marks=vocabulary,
                unit=about.unit,
                tick=about.tick,
                name=name,
                licence=about.licence,
            )
            for part in about.events
        }

    return _opened(name, folder, events)


def load_ids(name: str, folder: str | Path) -> dict[str, tuple[str, ...]]:
    """By part the names that the source gave the sequences; parts whose source gave none are missing.

    Raises:
        TPPError: as ``load``.
    """

    def names(file: Any, about: Stored, _: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        return {
            part: tuple(json.loads(file[f"{part}.{IDS}"].tobytes())) for part in about.events if f"{part}.{IDS}" in file
        }

    return _opened(name, folder, names)


def _opened(name: str, folder: str | Path, read: Callable[[Any, Stored, tuple[str, ...]], _T]) -> _T:
    """What ``read`` makes of the arrays, what is known, and the vocabulary, after the checksum was compared."""
    place = _place(name, folder)
    if not os.path.isdir(place):  # unlike Path.is_dir, no error where the store may not be entered
        known = [entry.name for entry in listing(folder)]
        raise TPPError(f"no data set {name!r} in the store.{nearest(name, known) if known else ' It is empty.'}")
    about, vocabulary, checksum = _meta(place)
    try:
        if _sha256(place / ARRAYS) != checksum:
            raise ValueError("its checksum differs")
        with np.load(place / ARRAYS, allow_pickle=False) as file:
            return read(file, about, vocabulary)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _lost(place / ARRAYS, error) from error


def free(name: str, folder: str | Path, replace: bool = False) -> Path:
    """The folder that a data set would have.

    Raises:
        TPPError: for a bad name, or one that is taken and may not be replaced.
    """
    place = _place(name, folder)
    if place.exists() and not replace:
        raise TPPError(f"{name!r} is in the store already ({place}); choose another name, or replace it.")
    return place


def listing(folder: str | Path) -> list[Stored]:
    """All data sets of the store by name; a damaged one is there, with its ``problem``."""
    try:
        places = sorted(Path(folder).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise TPPError(f"{folder} cannot be read: {error.strerror}.") from error
    found = []
    for place in places:
        if place.is_dir() and _NAME.fullmatch(place.name):
            try:
                found.append(_meta(place)[0])
            except TPPError as error:
                found.append(Stored(place.name, {}, {}, problem=str(error)))
    return found


def _place(name: str, folder: str | Path) -> Path:
    # A full match leaves no way out of the folder: no separators, nothing that begins with a dot.
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise TPPError(
            f"{name!r} is no name for a data set; expected up to 100 letters, digits and . _ -, the first no sign."
        )
    return Path(folder) / name


def _exchange(new: Path, place: Path, old: Path) -> None:
    """Put ``new`` at ``place`` and what was there at ``old``; if that fails, put it back."""
    if place.exists():
        os.rename(place, old)
    try:
        os.rename(new, place)
    except BaseException:
        if old.exists() and not place.exists():
            os.rename(old, place)
        raise


def _meta(place: Path) -> tuple[Stored, tuple[str, ...], str]:
    """What is known, the vocabulary, and the checksum of the arrays."""
    try:
        given = json.loads((place / META).read_text(encoding="utf-8"))
        version, vocabulary, checksum = given.pop("version"), tuple(given.pop("vocabulary")), given.pop("arrays")
        if version != VERSION:
            raise ValueError(f"version {version}, expected {VERSION}")
        about = Stored(**given)
        if about.name != place.name or about.marks != len(vocabulary) or set(about.events) != set(about.sequences):
            raise ValueError("it contradicts itself")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _lost(place / META, error) from error
    return about, vocabulary, checksum


def _lost(path: Path, error: Exception) -> TPPError:
    """The error for a file of the store; one that may only not be read is not called damaged."""
    if isinstance(error, PermissionError):
        return TPPError(f"{path} cannot be read: {error.strerror}.")
    why = error.strerror if isinstance(error, OSError) else error
    return TPPError(f"{path} is damaged ({why}); remove that folder and import it again.")


def _sha256(path: Path) -> str:
    """Of a file; empty for a folder."""
    if path.is_dir():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
