"""Prepared files, from where they are offered to the data folder: whole and checked, or not at all."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from accord.data.catalogue.dataset import SHARING, DataSet, File
from accord.data.places import right
from accord.data.transfer import SCHEMES, transfer
from accord.errors import AccordError

Tell = Callable[[File, int, int], None]  # file, bytes that are there, bytes in all


def address(file: File, mirror: str | None) -> str | None:
    """Where a file is offered.

    Args:
        file: of a data set.
        mirror: address of a folder that holds the prepared files under their paths; None: the public address, if any.

    Raises:
        AccordError: if the mirror is no http or https address.

    Example:
        >>> address(File("mtl/adult/adult.parquet"), "http://localhost:8000/data/")
        'http://localhost:8000/data/mtl/adult/adult.parquet'
    """
    if mirror is None:
        return file.public.url if file.public else None
    try:
        parts = urlsplit(mirror)
        fine = parts.scheme in SCHEMES and parts.hostname and not parts.query and not parts.fragment
    except ValueError:
        fine = False
    if not fine:
        raise AccordError(
            f"--from {mirror!r} is no address of a folder; write it as https://host/folder. Files on this machine need "
            "no download: set ACCORD_DATA to their folder."
        )
    return f"{mirror.rstrip('/')}/{quote(file.path)}"


def refused(dataset: DataSet, files: Sequence[File]) -> AccordError:
    """Why files of a set cannot be downloaded without a mirror, and what to do.

    Args:
        dataset: that has them.
        files: without a public address.
    """
    some = "" if len(files) == len(dataset.files) else f" {', '.join(Path(file.path).name for file in files)} of"
    return AccordError(
        f"no public address gives{some} the prepared files of {dataset.name} ({SHARING[dataset.sharing]}). Ask at "
        f"{dataset.origin}; from a mirror of your own: accord data get {dataset.name} --from URL"
    )


def get(file: File, root: Path, mirror: str | None, tell: Tell) -> Path:
    """Bring one file to its place.

    Args:
        file: of a data set.
        root: the data folder.
        mirror: see ``address``.
        tell: called while bytes arrive.

    Returns:
        Its path; a file that was there and is right is left alone.

    Raises:
        AccordError: if it is not offered, cannot be reached or written, or is another file.
    """
    path = root / file.path
    if right(path, file):
        return path
    url = address(file, mirror)
    if url is None:
        raise AccordError(f"{file.path} has no public address; get it from a mirror with --from URL.")
    public = file.public if mirror is None else None
    size, digest = (public.size, public.sha256) if public else (file.size, file.sha256)
    # what a mirror and what the public address gave must not be mixed up, where they differ
    part = path.with_name(f"{path.name}.public.part" if public and public.pack else f"{path.name}.part")
    transfer(url, part, size, digest, lambda count: tell(file, count, size))
    try:
        if public and public.pack:
            _pack(part, path)
            part.unlink()
        else:
            _forced(part)
            os.replace(part, path)
        part.with_name(f"{part.name}.from").unlink(missing_ok=True)
    except OSError as error:
        if right(path, file):  # another process was faster
            return path
        raise AccordError(f"{path} cannot be written ({error.strerror or error}).") from None
    return path


def _pack(source: Path, path: Path) -> None:
    """Compress a file as the prepared ones were: without name and time, so that equal content gives equal bytes."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with (
            source.open("rb") as content,
            beside.open("wb") as raw,
            gzip.GzipFile("", "wb", compresslevel=9, fileobj=raw, mtime=0) as packed,
        ):
            shutil.copyfileobj(content, packed)
        _forced(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _forced(path: Path) -> None:
    """To the disk, else a power failure could keep the new name and lose the content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
