"""The files of SmallNORB: matrices of bytes or of whole numbers behind a short header, perhaps packed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from accord.errors import AccordError
from accord.problems.decoded import kept, save, stamp
from accord.problems.pixels import resized

BYTES, NUMBERS = 0x1E3D4C55, 0x1E3D4C54  # the first four bytes of a file of bytes, of 32-bit whole numbers
SIDE = 96
CHUNK = 500  # pairs of images
BROKEN = (OSError, EOFError, zlib.error)


def left_images(place: Path, stem: str, size: int) -> NDArray[np.uint8]:
    """The left image of each pair in ``STEM-dat.mat``, shrunk by area averaging, once for all runs.

    Args:
        place: folder of the files.
        stem: the beginning of their names.
        size: height and width wanted.

    Returns:
        (N, 1, size, size) bytes.

    Raises:
        AccordError: if the file is missing or not what it should be.
    """
    path = _found(place, stem, "dat")

    def write(beside: Path) -> None:
        with _opened(path) as file:
            count = _header(file, path, BYTES, (2, SIDE, SIDE))

            def chunks() -> Iterator[NDArray[np.uint8]]:
                for begin in range(0, count, CHUNK):
                    some = min(CHUNK, count - begin)
                    content = _exactly(file, path, some * 2 * SIDE * SIDE)
                    pairs = np.frombuffer(content, np.uint8).reshape(some, 2, SIDE, SIDE)
                    yield resized(pairs[:, 0], (size, size))
                _ended(file, path)

            save(beside, (count, 1, size, size), chunks())

    return kept("smallnorb", [*stamp(path), size], write)


def labels(place: Path, stem: str) -> NDArray[np.int64]:
    """The classes of azimuth (0 to 17) and elevation (0 to 8) in ``STEM-info.mat``.

    Args:
        place: folder of the files.
        stem: the beginning of their names.

    Returns:
        (N, 2)

    Raises:
        AccordError: if the file is missing or not what it should be.
    """
    path = _found(place, stem, "info")
    with _opened(path) as file:
        count = _header(file, path, NUMBERS, (4,))
        info = np.frombuffer(_exactly(file, path, 16 * count), "<i4").reshape(count, 4).astype(np.int64)
        _ended(file, path)
    elevation, azimuth = info[:, 1], info[:, 2]  # of instance, elevation, azimuth, lighting
    for name, found, known in (("elevation", elevation, range(9)), ("azimuth", azimuth, range(0, 36, 2))):
        wrong = found[~np.isin(found, known)]
        if len(wrong):
            raise AccordError(f"{path}: {name} {wrong[0]}, expected {known[0]}, {known[1]}, ... {known[-1]}.")
    return np.stack([azimuth // 2, elevation], 1)


def _found(place: Path, stem: str, kind: str) -> Path:
    name = f"{stem}-{kind}.mat"
    found = next((path for path in (place / name, place / f"{name}.gz") if path.is_file()), None)
    if found is None:
        raise AccordError(f"{name} is not in {place}, nor is {name}.gz; get the data set anew.")
    return found


def _opened(path: Path) -> IO[bytes]:
    try:
        return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise AccordError(f"{path} cannot be read ({error.strerror or error}).") from None


def _header(file: IO[bytes], path: Path, wanted: int, shape: tuple[int, ...]) -> int:
    """How many entries of this shape follow, after the magic number, the number of axes and at least three lengths."""
    magic, axes = np.frombuffer(_exactly(file, path, 8), "<u4").tolist()
    if magic != wanted:
        raise AccordError(f"{path} begins with 0x{magic:08X}, expected 0x{wanted:08X}; get the file anew.")
    if axes != len(shape) + 1:
        raise AccordError(f"{path} has {axes} axes, expected {len(shape) + 1}; get the file anew.")
    lengths = np.frombuffer(_exactly(file, path, 4 * max(3, axes)), "<i4").tolist()[:axes]
    if tuple(lengths[1:]) != shape or lengths[0] < 1:
        raise AccordError(f"{path} is {tuple(lengths)}, expected (N, {', '.join(map(str, shape))}); get the file anew.")
    return int(lengths[0])


def _exactly(file: IO[bytes], path: Path, size: int) -> bytes:
    content = _read(file, path, size)
    if len(content) != size:
        raise AccordError(f"{path} ends too early: {len(content)} bytes where {size} were expected; get it anew.")
    return content


def _ended(file: IO[bytes], path: Path) -> None:
    if _read(file, path, 1):
        raise AccordError(f"{path} goes on after the last of its entries; get it anew.")


def _read(file: IO[bytes], path: Path, size: int) -> bytes:
    try:
        return file.read(size)
    except BROKEN as error:
        raise AccordError(f"{path} is damaged ({error}); get it anew.") from None
