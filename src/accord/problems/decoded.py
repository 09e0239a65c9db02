"""What takes long to read is read once: arrays in the user's cache, mapped into memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from accord.data.locate import cache
from accord.errors import AccordError
from accord.problems.pixels import resized

FOLDER = "decoded"
CHUNK = 64  # images that one thread decodes at once


def kept(name: str, key: Sequence[object], write: Callable[[Path], None]) -> NDArray[np.uint8]:
    """An array of bytes that was made before, or is made now.

    Args:
        name: of the data set.
        key: everything that the array depends on.
        write: makes it, as a ``.npy`` file at the given path.

    Returns:
        The array, mapped into memory; writing to it changes no file.

    Raises:
        AccordError: if the cache cannot be written.
    """
    digest = hashlib.sha256(repr([str(part) for part in key]).encode()).hexdigest()[:16]
    path = cache() / FOLDER / f"{name}-{digest}.npy"
    found = _mapped(path)
    if found is not None:
        return found
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(beside)
            os.replace(beside, path)  # whole or not at all
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise AccordError(
            f"{path} cannot be written ({error.strerror or error}); make room there, {name} is decoded into it."
        ) from None
    made = _mapped(path)
    assert made is not None
    return made


def images(name: str, folder: Path, files: Sequence[str], stated: tuple[int, int], size: int) -> NDArray[np.uint8]:
    """Image files as one array of small colour images, decoded once for all runs.

    Args:
        name: of the data set.
        folder: of the files.
        files: the names of N of them.
        stated: width and height that each must have.
        size: height and width wanted, by area averaging.

    Returns:
        (N, 3, size, size) bytes.

    Raises:
        AccordError: for a file that is missing, damaged, or of another size.
    """
    if not folder.is_dir():
        raise AccordError(f"{folder} is missing; expected a folder with {files[0]} and {len(files) - 1} more images.")

    def shrunk(begin: int) -> NDArray[np.uint8]:
        some = np.stack([decode(folder / file, stated) for file in files[begin : begin + CHUNK]])  # (n, H, W, 3)
        return resized(some, (size, size)).transpose(0, 3, 1, 2)  # (n, 3, size, size)

    def write(beside: Path) -> None:
        missing = set(files).difference(os.listdir(folder))
        if missing:  # said before minutes of decoding
            more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise AccordError(f"{folder / min(missing)} is missing{more}; get the data set anew.")
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            save(beside, (len(files), 3, size, size), pool.map(shrunk, range(0, len(files), CHUNK)))

    names = hashlib.sha256("\n".join(files).encode()).hexdigest()
    return kept(name, [folder.resolve(), folder.stat().st_mtime_ns, names, size], write)


def save(path: Path, shape: tuple[int, ...], chunks: Iterable[NDArray[np.uint8]]) -> None:
    """Write a ``.npy`` file piece by piece, so that no more than a piece is in memory.

    Args:
        path: of the file.
        shape: of the whole.
        chunks: bytes, cut along the first axis.
    """
    with path.open("wb") as file:  # a mapped file would end the process, not raise, when the disk is full
        about = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)
        for chunk in chunks:
            file.write(np.ascontiguousarray(chunk).data)


def decode(path: Path, stated: tuple[int, int]) -> NDArray[np.uint8]:
    """One image file.

    Args:
        path: of the file.
        stated: width and height that it must have.

    Returns:
        (H, W, 3) bytes.

    Raises:
        AccordError: if it is damaged or of another size.
    """
    from PIL import Image  # an extra, and slow to import

    try:
        with Image.open(path) as image:
            if image.size != stated:
                raise AccordError(
                    f"{path} has {image.width} x {image.height} pixels, expected {stated[0]} x {stated[1]}."
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # a broken PNG: SyntaxError
        if isinstance(error, AccordError):
            raise
        raise AccordError(f"{path} is no whole image ({' '.join(str(error).split())}); get it anew.") from None


def stamp(path: Path) -> tuple[str, int, int]:
    """What changes when a file does: its place, length and time of change.

    Raises:
        AccordError: if there is no such file.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise AccordError(f"{path} cannot be read ({error.strerror}); get the data set anew.") from None
    return str(path.resolve()), about.st_size, about.st_mtime_ns


def _mapped(path: Path) -> NDArray[np.uint8] | None:
    try:
        found = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or spoiled: made anew
        return None
    return found if found.dtype == np.uint8 else None
