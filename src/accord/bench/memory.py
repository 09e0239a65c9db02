"""Peak memory of one run inside a process that does many."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET = "5"  # clear_refs: the highest resident size becomes the present one (proc_pid_clear_refs(5))


class Peak:
    """The most memory that some stretches of work took beyond what the process held when this object was made.

    Resident memory on the CPU, plus what PyTorch allocated on GPUs. A run makes it when its data are loaded and before
    there is a model, and measures its training steps alone: the figure is that of parameters, gradients, activations,
    optimiser and method. It holds neither the imported libraries nor the data, which workers keep from run to run, nor
    evaluation, nor the writing of checkpoints. The first run of a process also counts what libraries allocate at their
    first use.

    Example:
        >>> peak = Peak()
        >>> peak.begin()
        >>> block = torch.ones(2**23)  # 32 MiB
        >>> peak.end()
        >>> peak.bytes is None or peak.bytes > 2**24
        True
    """

    def __init__(self) -> None:
        self.bytes: int | None = None  # None: the system does not tell
        self._cuda = torch.cuda.is_initialized()
        gc.collect()
        _trim()
        self._before = _read("VmRSS")
        self._before_cuda = torch.cuda.memory_allocated() if self._cuda else 0

    def begin(self) -> None:
        """A stretch begins."""
        try:
            CLEAR.write_text(RESET)
        except OSError:  # not Linux, or not permitted: an older and higher peak must not be taken for ours
            self._before = None
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    def end(self) -> None:
        """It ends."""
        highest = _read("VmHWM")
        if self._before is None or highest is None:
            return
        found = max(highest - self._before, 0)
        if torch.cuda.is_initialized():
            found += max(torch.cuda.max_memory_allocated() - self._before_cuda, 0)
        self.bytes = max(found, self.bytes or 0)


def _read(name: str) -> int | None:
    """A size in bytes from the status of this process."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])


def _trim() -> None:
    """Give freed memory back to the system, else what an earlier run freed would hide what this one takes."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
        if trim is not None:
            trim(0)
