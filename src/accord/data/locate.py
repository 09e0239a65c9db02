"""Data sets that are not bundled: where they lie, and whether they are what they should be."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from accord.errors import AccordError

VARIABLE = "ACCORD_DATA"
ORIGINALS = "originals"  # folder of links


def cache() -> Path:
    """The user's own folder, ``~/.cache/accord``.

    Example:
        >>> cache().parts[-2:]
        ('.cache', 'accord')
    """
    return Path.home() / ".cache" / "accord"


def places() -> list[Path]:
    """Where data sets are looked for: the data folder, then the user's own where that is another."""
    return list(dict.fromkeys([folder(), cache()]))


def folder() -> Path:
    """The folder of data sets: the environment variable ``ACCORD_DATA``, else ``~/.cache/accord``.

    Raises:
        AccordError: if ``ACCORD_DATA`` is set and is no folder.

    Example:
        >>> folder().is_absolute()
        True
    """
    chosen = os.environ.get(VARIABLE)
    if not chosen:
        return cache()
    path = Path(chosen).expanduser().absolute()
    if not path.is_dir():
        raise AccordError(f"{VARIABLE}={chosen!r} is no folder; set it to the folder that holds the data sets.")
    return path


def find(name: str) -> Path:
    """The file of a data set, checked against ``manifest.json`` where the data folder has one.

    Args:
        name: path below the data folder, such as ``mtl/mnist/mnist.npz``; what that lacks may be in
            ``~/.cache/accord``, where ``accord data get`` puts things if the data folder cannot be written.

    Raises:
        AccordError: if the file is missing or not the one that the manifest describes.
    """
    root = next((place for place in places() if (place / name).is_file()), None)
    if root is None:
        raise AccordError(
            f"{name} is not in {folder()}; set {VARIABLE} to the folder that holds {name}, or see `accord data list`."
        )
    path = root / name
    expected = checksum(root, name)
    if expected is not None and _sha256(path) != expected:
        raise AccordError(f"{path} is not the file that manifest.json describes (SHA-256 differs); get it anew.")
    return path


def original(name: str) -> Path:
    """The folder of a data set in the layout of its originators, which must not be passed on with Accord.

    Args:
        name: such as ``celeba``; the folder, or a link to it, is ``originals/NAME`` below the data folder, or below
            ``~/.cache/accord`` where the data folder cannot be written.

    Raises:
        AccordError: if there is none.
    """
    found = next((path for place in places() if (path := place / ORIGINALS / name).is_dir()), None)
    if found is None:
        raise AccordError(f"{name} is not at hand; if you have it, say where: accord data link {name} FOLDER")
    return found


def checksum(root: Path, name: str) -> str | None:
    """The SHA-256 of a file according to ``manifest.json`` (``{"files": [{"file", "sha256"}]}``), if it says.

    Raises:
        AccordError: if the manifest cannot be read.
    """
    manifest = root / "manifest.json"
    if not manifest.is_file():
        return None
    try:
        listed: list[dict[str, Any]] = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        return next((str(entry["sha256"]) for entry in listed if entry["file"] == name), None)
    except (ValueError, KeyError, TypeError) as error:
        raise AccordError(f"{manifest} is damaged ({error}); get it anew, or remove it to go without checks.") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
