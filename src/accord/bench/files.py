"""Files that are there whole or not at all, and one lock per folder."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from accord.errors import AccordError

GLANCE = 0.05  # seconds between two tries for a lock

try:
    import fcntl
except ImportError:  # Windows has no flock; there two processes are not kept apart
    fcntl = None  # type: ignore[assignment]


def write(path: Path, content: bytes) -> None:
    """Write a file beside its place, force it to the disk, then move it there.

    Args:
        path: its folder is made if missing.
        content: of the file.

    Raises:
        AccordError: if the folder or the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder) / "new" / "file", b"text")
        ...     (Path(folder) / "new" / "file").read_bytes()
        b'text'
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    make_folder(path.parent)
    try:
        try:
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # else a power failure could keep the new name and lose the content
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder that is locked by us."""
    for half_written in folder.glob("*.tmp"):  # hidden ones too
        half_written.unlink()


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises:
        AccordError: if that is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> AccordError:
    """The error for a place that cannot be written."""
    return AccordError(f"{path} cannot be written ({error.strerror or error}); choose another folder with --out.")


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, as ``write`` does."""
    write(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, kind: type = dict, remedy: str | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: of the file.
        kind: the type that its value must have.
        remedy: see ``damaged``.

    Raises:
        AccordError: if it cannot be read or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, str(error), remedy) from None
    if not isinstance(value, kind):
        raise damaged(path, f"it holds a {type(value).__name__}, expected a {kind.__name__}", remedy)
    return value


def damaged(path: Path, reason: str, remedy: str | None = None) -> AccordError:
    """The error for a file that is not what was written.

    Args:
        path: of the file.
        reason: what is wrong.
        remedy: what to do; None: what is right for a file of a single run.
    """
    reason = " ".join(reason.split()).removesuffix(".")
    remedy = remedy or f"Remove the folder {path.parent} and run again."
    return AccordError(f"{path} is damaged: {reason}. {remedy}")


@contextmanager
def lock(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Nobody else writes in this folder meanwhile; the system frees the lock when its process ends, however it ends.

    Args:
        folder: it must exist.
        patience: seconds to wait for another process to let go.

    Raises:
        AccordError: if another process holds the lock.
    """
    if fcntl is None:
        yield
        return
    path = folder / "lock"
    handle = _acquire(path, time.monotonic() + patience)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is freed, so that nobody else's file is removed
        os.close(handle)


def _acquire(path: Path, deadline: float) -> int:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise unwritable(path, error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 20).decode(errors="replace").strip()
            os.close(handle)
            if time.monotonic() < deadline:
                time.sleep(GLANCE)
                continue
            raise AccordError(
                f"{path.parent} is being written by another process (number {holder or 'unknown'}); wait for it to end."
            ) from None
        with suppress(FileNotFoundError):
            if os.path.sameopenfile(handle, again := os.open(path, os.O_RDONLY)):
                os.close(again)
                return handle
            os.close(again)
        os.close(handle)  # the holder before us removed this very file between our opening and locking it
