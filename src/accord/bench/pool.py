"""Several runs, one after the other or in worker processes; the numbers are the same either way."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from accord.bench import store
from accord.bench.config import RunConfig, configure
from accord.bench.run import run
from accord.errors import AccordError

PATIENCE = 10.0  # seconds for a worker to end by itself when it is told to


class Watcher(Protocol):
    """Who wants to know how far the runs are."""

    def epoch(self, index: int, done: int) -> None:
        """The run with this index has so many epochs behind it, first those of an earlier sitting."""

    def finished(self, index: int, run: store.Run) -> None:
        """A run is finished."""


def execute(
    configs: Sequence[RunConfig], root: str | os.PathLike[str], watcher: Watcher, jobs: int = 1
) -> list[store.Run]:
    """Run all of them; what is finished is skipped, what was stopped goes on.

    Args:
        configs: of the runs.
        root: folder of all runs.
        watcher: is told about every epoch.
        jobs: how many at once, each in a process of its own; 1: in this process.

    Returns:
        The finished runs, in the order of ``configs``.

    Raises:
        AccordError: for what a run complains about; the others stop after their last finished epoch.
    """
    if jobs < 1:
        raise AccordError(f"jobs is {jobs}; expected at least 1.")
    jobs = min(jobs, sum(not (Path(root) / config.place / store.RESULT).exists() for config in configs))
    if jobs > 1:
        with _pool(jobs) as workers:
            _share_out(configs, root, watcher, workers)
    else:
        for index, config in enumerate(configs):
            watcher.finished(index, run(config, root, partial(watcher.epoch, index)))
    return [store.load(Path(root) / config.place) for config in configs]


class _Worker:
    """A process that does one run after the other, and our end of its line."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads in an unknown state
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # so that the line breaks when the process ends
        self.index: int | None = None

    def stop(self) -> None:
        """End it now; it may tidy up, but not for long. What it writes is whole or not there either way."""
        self.line.close()
        self.process.terminate()
        self.process.join(PATIENCE)
        self.process.kill()
        self.process.join()


@contextmanager
def _pool(jobs: int) -> Iterator[list[_Worker]]:
    """Workers that do not hear Ctrl-C (the terminal sends it to all): we stop them."""
    workers: list[_Worker] = []
    try:
        with _deaf():
            workers += [_Worker() for _ in range(jobs)]
        yield workers
    finally:
        for worker in workers:
            worker.stop()


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C from their first moment."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread, where signals are not ours to handle
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _share_out(
    configs: Sequence[RunConfig], root: str | os.PathLike[str], watcher: Watcher, workers: list[_Worker]
) -> None:
    open_runs = deque(enumerate(configs))

    def next_run(worker: _Worker) -> None:
        worker.index = None
        if open_runs:
            worker.index, config = open_runs.popleft()
            worker.line.send((worker.index, config.model_dump(), os.fspath(root)))

    for worker in workers:
        next_run(worker)
    lines = {worker.line: worker for worker in workers}
    while busy := [worker.line for worker in workers if worker.index is not None]:
        for line in wait(busy):
            worker = lines[line]  # type: ignore[index]
            assert worker.index is not None
            config = configs[worker.index]
            match _receive(worker, config):
                case "epoch", done:
                    watcher.epoch(worker.index, done)
                case "finished", _:
                    watcher.finished(worker.index, store.load(Path(root) / config.place))
                    next_run(worker)
                case _, mistake:
                    raise AccordError(mistake)


def _receive(worker: _Worker, config: RunConfig) -> tuple[str, Any]:
    try:
        kind, value = worker.line.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        raise AccordError(
            f"the process of {config.label}, seed {config.seed}, ended with exit code {worker.process.exitcode} "
            "(-9: killed, perhaps for want of memory; 1: an error, shown above). The same command goes on from its "
            "last finished epoch."
        ) from None
    return kind, value


def _work(line: Connection) -> None:
    """The life of a worker process. What is no mistake of the user rises, and ends it with a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception, so that locks and temporary files go

    def tell(kind: str) -> Callable[[Any], None]:
        return lambda value: line.send((kind, value))

    try:
        while True:
            _, values, root = line.recv()
            try:
                run(configure(**values), root, tell("epoch"))
                tell("finished")(None)
            except AccordError as error:
                tell("mistake")(str(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody is listening any more: the parent ended
