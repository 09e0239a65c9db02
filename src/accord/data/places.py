"""Where data may be written, and whether prepared files are at hand."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zlib
from pathlib import Path

from accord.data.catalogue.dataset import File, Public
from accord.data.locate import VARIABLE, places
from accord.errors import AccordError

CHUNK = 1 << 18


def destination() -> Path:
    """The first of them that can be written.

    Raises:
        AccordError: if none can.
    """
    found = next((place for place in places() if _writable(place)), None)
    if found is None:
        listed = " nor ".join(str(place) for place in places())
        raise AccordError(f"neither {listed} can be written; set {VARIABLE} to a folder that can.")
    return found


def at_hand(file: File) -> Path | None:
    """The file in one of the places, if it is there and right."""
    return next((place / file.path for place in places() if right(place / file.path, file)), None)


def right(path: Path, file: File) -> bool:
    """Whether a file is what the catalogue says.

    Args:
        path: of the file.
        file: what it should be. One that was packed here may differ in its bytes, since libraries compress differently;
            then its content must be that of the public file.
    """
    if not path.is_file():
        return False
    if path.stat().st_size == file.size and sha256(path) == file.sha256:
        return True
    return file.public is not None and file.public.pack and _holds(path, file.public)


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _holds(path: Path, public: Public) -> bool:
    """Whether a compressed file holds the public one; never unpacks more than that has bytes."""
    digest, count = hashlib.sha256(), 0
    try:
        with gzip.open(path) as opened:
            while count <= public.size and (chunk := opened.read(CHUNK)):
                digest.update(chunk)
                count += len(chunk)
    except (OSError, EOFError, zlib.error):
        return False
    return count == public.size and digest.hexdigest() == public.sha256


def _writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False
