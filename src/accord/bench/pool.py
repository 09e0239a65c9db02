"""Several runs, one after the other or in worker processes; the numbers are the same either way."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn, Protocol

from accord.bench import store
from accord.bench.config import RunConfig, configure
from accord.bench.run import run
from accord.errors import AccordError

PATIENCE = 10.0  # seconds for a worker to end by itself when it is told to, or when its parent was killed


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
        jobs: how many at once, each in a process of its own; 1: in this process, in the order of ``configs``.

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
            watcher.finished(index, run(config, root, partial(watcher.epoch, index), PATIENCE))
    return [store.load(Path(root) / config.place) for config in configs]


class Queue:
    """Which run is next: one of every kind first, then those that take longest, so that none is left over at the end.

    A kind is a problem with a method; how long it takes is known from its runs that are finished. Results do not
    depend on the order.

    Args:
        configs: of the runs, by their index.

    Example:
        >>> several = [configure(problem="digits", seed=s, method=m) for s in (0, 1) for m in ("Sum()", "UPGrad()")]
        >>> queue = Queue(dict(enumerate(several)))
        >>> first = queue.next(), queue.next()
        >>> queue.took(0, 1.0)
        >>> queue.took(1, 9.0)
        >>> first, queue.next(), queue.next(), queue.next()
        ((0, 1), 3, 2, None)
    """

    def __init__(self, configs: Mapping[int, RunConfig]) -> None:
        self._kinds = {index: (config.problem, config.label) for index, config in configs.items()}
        self._open = list(configs)
        self._seconds: dict[tuple[str, str], float] = {}

    def next(self) -> int | None:
        """The index of the run that is to begin now, if there is one."""
        if not self._open:
            return None
        new = (index for index in self._open if self._kinds[index] not in self._seconds)
        chosen = next(new, None)
        if chosen is None:
            chosen = max(self._open, key=lambda index: self._seconds[self._kinds[index]])  # the first of equal ones
        self._open.remove(chosen)
        # one that is still going on takes longer than all of which we know
        self._seconds.setdefault(self._kinds[chosen], math.inf)
        return chosen

    def took(self, index: int, seconds: float) -> None:
        """A run is finished."""
        self._seconds[self._kinds[index]] = seconds


def skip(configs: Sequence[RunConfig], root: str | os.PathLike[str], watcher: Watcher) -> Queue:
    """Tell the watcher of the runs that are finished already.

    Returns:
        The others.

    Raises:
        AccordError: if a folder holds another run, or is damaged.
    """
    finished = [i for i, config in enumerate(configs) if (Path(root) / config.place / store.RESULT).exists()]
    queue = Queue({i: config for i, config in enumerate(configs) if i not in set(finished)})
    for index in finished:
        watcher.finished(index, run(configs[index], root, partial(watcher.epoch, index), PATIENCE))
    return queue


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
        with deaf():
            workers += [_Worker() for _ in range(jobs)]
        yield workers
    finally:
        for worker in workers:
            worker.stop()


@contextmanager
def deaf() -> Iterator[None]:
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
    queue = skip(configs, root, watcher)

    def next_run(worker: _Worker) -> None:
        worker.index = queue.next()
        if worker.index is not None:
            worker.line.send((worker.index, configs[worker.index].model_dump(), os.fspath(root)))

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
                    ended, index = store.load(Path(root) / config.place), worker.index
                    queue.took(index, seconds(ended))
                    next_run(worker)  # before anything else, so that nobody waits
                    watcher.finished(index, ended)
                case _, mistake:
                    raise AccordError(mistake)


def seconds(run: store.Run) -> float:
    """How long a finished run took."""
    result = run.result or {}
    return float(result.get("wall_seconds") or result.get("seconds") or 0.0)


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
    threading.Thread(target=_follow, daemon=True).start()

    def tell(kind: str) -> Callable[[Any], None]:
        return lambda value: line.send((kind, value))

    try:
        while True:
            _, values, root = line.recv()
            try:
                run(configure(**values), root, tell("epoch"), PATIENCE)
                tell("finished")(None)
            except AccordError as error:
                tell("mistake")(str(error))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # nobody is listening any more: the parent ended
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # an exception in the interpreter's last moments is only noise


def _follow() -> NoReturn:
    """End with the parent, however it ends; in the middle of an epoch too, which nobody will ask for."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
