"""Stored runs made comparable: everything but the times."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.bench import store
from accord.bench.config import RunConfig, configure
from accord.bench.run import run
from accord.problems import Digits

TINY = repr(Digits.tiny())
TIMES = {"seconds", "overhead", "loading_seconds", "wall_seconds", "peak_bytes"}
TIMED = {"time", "probe_seconds", "step_seconds"}


def tiny(**settings) -> RunConfig:
    return configure(**{"problem": TINY, "epochs": 3, "monitor_every": 2} | settings)


def without_times(run: store.Run) -> tuple:
    """Result and history without times, and the record as bytes, so that "equal" is bit for bit."""
    result = {key: value for key, value in run.result.items() if key not in TIMES}
    history = [{key: value for key, value in epoch.items() if key not in TIMES} for epoch in run.history]
    record = run.record()
    arrays = {}
    for field in dataclasses.fields(record) if record is not None else ():
        value = getattr(record, field.name)
        if field.name not in TIMED:
            arrays[field.name] = value.tobytes() if isinstance(value, np.ndarray) else value
    return result, history, arrays


class Stopped(Exception):
    """Stands for whatever ends a process."""


def stop_after(epoch: int):
    def on_epoch(done: int) -> None:
        if done == epoch:
            raise Stopped

    return on_epoch


def broken_then_resumed(config, root, epoch: int = 1):
    with pytest.raises(Stopped):
        run(config, root, stop_after(epoch))
    torch.rand(7)  # somebody uses random numbers in between
    return run(config, root)


def start(*arguments: str | Path, **options) -> subprocess.Popen[str]:
    """The command line in a process group of its own, which hears Ctrl-C whatever this process was told to do."""
    return subprocess.Popen(
        [sys.executable, "-m", "accord", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        **options,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], what: str) -> None:
    """Wait until a running process has brought something about."""

    def there() -> object:
        return condition() or process.poll() is not None

    wait_until(there, what)
    assert process.poll() is None, f"ended before {what}: {process.communicate()}"


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait; the deadline is only there so that a broken program does not hang the tests."""
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.02)
