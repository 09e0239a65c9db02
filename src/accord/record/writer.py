"""Writer: rows to Parquet parts, batched, in a thread of its own, so that training does not wait for the disk."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from accord.errors import AccordError
from accord.record.files import drop_after, next_number, parts, write_part
from accord.record.table import Row

BATCH = 64  # rows per part file
PATIENCE = 10.0  # seconds after which fewer rows are written as well


class Writer:
    """Appends parts to one folder; what was flushed survives a kill.

    Args:
        folder: where the parts go; made when missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._foreign = bool(parts(folder)) if self.folder.exists() else False
        self._waiting: list[Row] = []
        self._last = time.monotonic()
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[Path] | None = None

    def add(self, row: Row) -> None:
        """Take a row; written with its batch.

        Raises:
            AccordError: when the folder holds another run's record.
        """
        if self._foreign:
            raise AccordError(
                f"{self.folder} already holds a record. Choose another folder or remove it; "
                "to resume, load the state first."
            )
        self._waiting.append(row)
        if len(self._waiting) >= BATCH or time.monotonic() - self._last > PATIENCE:
            self._submit()

    def _submit(self) -> None:
        self._settle()
        if self._waiting:
            rows, self._waiting = self._waiting, []
            self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="accord-record")
            self._writing = self._thread.submit(write_part, self.folder, next_number(self.folder), rows)
        self._last = time.monotonic()

    def _settle(self) -> None:
        """Wait for the part under way; its error, if any, is raised here."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def flush(self) -> None:
        """Return when every row is on the disk."""
        self._submit()
        self._settle()

    def resume(self, index: int) -> None:
        """Go on with a folder that is ours, forgetting steps from ``index`` on."""
        self._waiting.clear()
        if self.folder.exists():
            drop_after(self.folder, index)
        self._foreign = False

    def close(self) -> None:
        """Flush and end the thread."""
        self.flush()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
