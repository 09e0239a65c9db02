"""Several runs on a Ray cluster: the same folders and the same numbers as with local processes.

A worker gets a configuration and the files of the run so far, trains in a folder of its own, and sends what changed
after every epoch; this process alone writes the folder of the suite. Data are not shipped: every machine of the cluster
needs the data folder (``ACCORD_DATA``), and the same versions of accord and PyTorch.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from accord.bench import config as configuration
from accord.bench import files, pool, store
from accord.bench.config import RunConfig, configure
from accord.bench.run import claim, stages
from accord.errors import AccordError

AUTO = "auto"  # the cluster that runs on this machine, or else one that is started for the occasion
LAST = (store.CHECKPOINT, store.HISTORY, store.RESULT)  # written after everything else, in this order
SAME = ("accord", "torch", "numpy")  # versions that decide numbers
Change = tuple[dict[str, bytes], list[str]]  # content of new files by name, names of removed ones


def execute(
    configs: Sequence[RunConfig],
    root: str | os.PathLike[str],
    watcher: pool.Watcher,
    address: str = AUTO,
    jobs: int | None = None,
) -> list[store.Run]:
    """Run all of them on Ray; what is finished is skipped, what was stopped goes on.

    Args:
        configs: of the runs.
        root: folder of all runs, on this machine.
        watcher: is told about every epoch.
        address: of the cluster, or ``auto``.
        jobs: how many at once at most; None: as many as the cluster has processors.

    Returns:
        The finished runs, in the order of ``configs``.

    Raises:
        AccordError: if Ray is missing or cannot be reached, and for what a run complains about; the others stop after
            their last finished epoch.
    """
    if jobs is not None and jobs < 1:
        raise AccordError(f"jobs is {jobs}; expected at least 1.")
    root = Path(root)
    with _connected(address) as ray:
        queue, streams = pool.skip(configs, root, watcher), _Streams(ray, configs, root)
        try:
            while True:
                while len(streams) < (jobs or math.inf) and streams.room() and (index := queue.next()) is not None:
                    streams.begin(index)
                if not len(streams):
                    break
                for index, kind, done in streams.receive():
                    if kind == "epoch":
                        watcher.epoch(index, done)
                    else:
                        ended = store.load(root / configs[index].place)
                        queue.took(index, pool.seconds(ended))
                        watcher.finished(index, ended)
        finally:
            streams.stop()
    return [store.load(root / config.place) for config in configs]


class _Streams:
    """The runs that are going on: for each the task that sends its files, and the lock of its folder."""

    def __init__(self, ray: Any, configs: Sequence[RunConfig], root: Path) -> None:
        self.ray, self.configs, self.root = ray, configs, root
        self.task = ray.remote(num_returns="streaming", max_retries=0)(_train)
        self.going: dict[Any, tuple[int, ExitStack]] = {}

    def __len__(self) -> int:
        return len(self.going)

    def room(self) -> bool:
        """Whether the cluster, as large as it is now, could begin another run; one can always wait for it."""
        threads = sum(self.configs[index].threads for index, _ in self.going.values())
        return not self.going or threads < self.ray.cluster_resources().get("CPU", 1)

    def begin(self, index: int) -> None:
        """Begin a run, or go on with it."""
        config = self.configs[index]
        folder = self.root / config.place
        files.make_folder(folder)
        with ExitStack() as held:
            held.enter_context(files.lock(folder, pool.PATIENCE))
            for place in (folder, folder / store.STEPS):
                files.sweep(place)
            claim(folder, config)
            task = self.task.options(num_cpus=config.threads)
            stream = task.remote(config.model_dump(), content(folder), configuration.versions())
            self.going[stream] = (index, held.pop_all())

    def receive(self) -> Iterator[tuple[int, str, int]]:
        """What happened next: index of the run, ``epoch`` or ``finished``, number of finished epochs."""
        ready, _ = self.ray.wait(list(self.going), num_returns=1)
        for stream in ready:
            index, held = self.going[stream]
            config = self.configs[index]
            try:
                kind, value, change = self.ray.get(next(stream))
            except self.ray.exceptions.RayTaskError as error:
                raise AccordError(f"{_name(config)} failed on a worker of Ray: {_line(error.cause)}.") from None
            except (self.ray.exceptions.RayError, StopIteration) as error:
                raise AccordError(
                    f"the worker of {_name(config)} was lost ({_line(error)}). The same command goes on from its last "
                    "finished epoch."
                ) from None
            if kind == "mistake":
                raise AccordError(value)
            _apply(self.root / config.place, change)
            if kind == "finished":
                del self.going[stream]
                held.close()
            yield index, kind, value

    def stop(self) -> None:
        """End all runs; what has arrived of them is whole."""
        for stream in self.going:
            self.ray.cancel(stream)
        if self.going:  # they tidy up their folders meanwhile
            self.ray.wait(list(self.going), num_returns=len(self.going), timeout=pool.PATIENCE)
        for _, held in self.going.values():
            held.close()
        self.going.clear()


def _train(values: dict[str, Any], held: dict[str, bytes], versions: dict[str, str]) -> Iterator[tuple[str, Any, Any]]:
    """The task: one run, in a folder of its own, told epoch by epoch."""
    try:
        here = configuration.versions()
        for name in SAME:
            if here[name] != versions[name]:
                found = f"{name} {here[name]}, this machine {versions[name]}"
                raise AccordError(f"a worker of Ray has {found}; install the same everywhere.")
        with tempfile.TemporaryDirectory(prefix="accord-") as scratch:
            config, sent = configure(**values), dict(held)
            folder = Path(scratch) / config.place
            _apply(folder, (held, []))
            with closing(stages(config, scratch)) as epochs:
                for done in epochs:
                    yield "epoch", done, _change(folder, sent)
            yield "finished", config.epochs, _change(folder, sent)
    except AccordError as error:
        yield "mistake", str(error), None


def content(folder: Path) -> dict[str, bytes]:
    """All files of a run by their name, without lock and half-written ones."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in found
        if path.name != "lock" and path.suffix != ".tmp"
    }


def _change(folder: Path, sent: dict[str, bytes]) -> Change:
    """What differs from what was sent, which is then sent too."""
    now = content(folder)
    new = {name: value for name, value in now.items() if sent.get(name) != value}
    gone = [name for name in sent if name not in now]
    sent.clear()
    sent.update(now)
    return new, gone


def _apply(folder: Path, change: Change) -> None:
    """Write what changed in the order in which a run writes it: a kill in between leaves what a run may leave."""
    new, gone = change
    for name in sorted(new, key=lambda name: LAST.index(name) if name in LAST else -1):
        files.write(folder / name, new[name])
    for name in gone:
        (folder / name).unlink(missing_ok=True)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected; a cluster that was started here ends afterwards."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray
    except ImportError:
        raise AccordError("--ray needs ray: pip install 'accord[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    quiet: Mapping[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        try:
            ray.init(address, **quiet)
        except ConnectionError:
            if address != AUTO:
                raise
            ray.init("local", include_dashboard=False, **quiet)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        raise AccordError(f"Ray cannot be reached at {address!r} ({_line(error)}); try --ray auto.") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _name(config: RunConfig) -> str:
    return f"{config.label}, seed {config.seed}"


def _line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
