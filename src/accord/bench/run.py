"""One run from beginning to end: skipped when finished, resumed when stopped, the same numbers either way."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from accord import problems, record
from accord.bench import checkpoint, files, stats, store
from accord.bench.config import RunConfig
from accord.bench.training import Training
from accord.errors import AccordError
from accord.problems import seeds
from accord.sparse import store as masks
from accord.sparse.mask import Mask


def run(
    config: RunConfig,
    root: str | os.PathLike[str],
    on_epoch: Callable[[int], None] | None = None,
    patience: float = 0.0,
) -> store.Run:
    """Train as configured; whatever of it was done before is not done again.

    After each epoch everything is on the disk, so that a kill loses one epoch at most. A resumed run gives bit for bit
    the numbers of an unbroken one on the same machine.

    Args:
        config: of the run.
        root: folder of all runs.
        on_epoch: called with the number of finished epochs, first with those that were there before.
        patience: seconds to wait for another process that writes in the folder.

    Returns:
        The finished run.

    Raises:
        AccordError: if the folder holds another run, is damaged, in use, or cannot be written, or data are missing.

    Example:
        >>> import tempfile
        >>> from accord.bench.config import configure
        >>> config = configure(problem="digits(train=64, validation=32, test=32, epochs=1)", method="UPGrad()")
        >>> with tempfile.TemporaryDirectory() as root:
        ...     sorted(run(config, root).result["test"])
        ['left', 'right', 'sum']
    """
    with closing(stages(config, root, patience)) as epochs:  # closed at once, whatever ``on_epoch`` raises
        for done in epochs:
            if on_epoch is not None:
                on_epoch(done)
    return store.load(Path(root) / config.place)


def stages(config: RunConfig, root: str | os.PathLike[str], patience: float = 0.0) -> Generator[int, None, None]:
    """The same, epoch by epoch, for who wants to do something in between; the folder is locked until the end.

    Yields:
        The number of finished epochs, first of those that were there before. Everything is on the disk then.
    """
    folder = Path(root) / config.place
    files.make_folder(folder)
    with files.lock(folder, patience):
        for place in (folder, folder / store.STEPS):
            files.sweep(place)
        fresh = not (folder / store.CONFIG).exists()
        stored = claim(folder, config)
        if stored is not None:
            (folder / store.CHECKPOINT).unlink(missing_ok=True)
            yield len(stored.history)
            return
        try:
            with environment(config):
                yield from _train(config, folder)
        except AccordError:
            if fresh and not (folder / store.CHECKPOINT).exists():  # it was refused, and nobody has to finish it
                for name in (store.CONFIG, store.MASK):
                    (folder / name).unlink(missing_ok=True)
            raise


def claim(folder: Path, config: RunConfig) -> store.Run | None:
    """The finished run in this folder, if that is what it holds; else the folder is made ours.

    Raises:
        AccordError: if the folder holds another run, or is damaged.
    """
    path = folder / store.CONFIG
    if not path.exists():
        files.write_json(path, config.model_dump(mode="json"))
        return None
    stored = store.load(folder)
    for name, theirs, ours in differences(stored.config, config):
        raise AccordError(
            f"{folder} holds a run with {name}={theirs!r}, and this one has {name}={ours!r}; "
            "choose another folder with --out, or remove that one."
        )
    return stored if stored.finished else None


def differences(one: RunConfig, other: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """The settings in which two configurations differ: name, value of the one, value of the other."""
    theirs = one.settings()
    for name, value in other.settings().items():
        if theirs[name] != value:
            yield name, theirs[name], value


@contextmanager
def environment(config: RunConfig) -> Iterator[None]:
    """Threads and global random numbers of this run; as before outside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with seeds.seeded(config.seed, "training"):
            yield
    finally:
        torch.set_num_threads(threads)


def _train(config: RunConfig, folder: Path) -> Iterator[int]:
    saved = folder / store.CHECKPOINT
    state = checkpoint.load(saved) if saved.exists() else None
    if state is None:
        for place in (store.STEPS, store.FULL):
            record.drop_after(folder / place, 0)  # steps of an epoch that was never finished
    training = Training(config, folder / store.STEPS, mask(folder))
    keep(training, folder)
    if state is not None:
        try:
            training.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoint.damaged(saved, error) from None
    try:
        yield len(training.history)
        while not training.done:
            training.epoch()
            checkpoint.save(saved, training.state_dict())
            files.write_json(folder / store.HISTORY, training.history)
            yield len(training.history)
    finally:
        training.close()
    training.prepared.verify()
    files.write_json(folder / store.HISTORY, training.history)  # a kill may have come between checkpoint and history
    files.write_json(folder / store.RESULT, _result(training))
    saved.unlink()


def mask(folder: Path) -> Mask | None:
    """The mask with which the run in this folder began; None if it has none yet.

    Raises:
        AccordError: if its file is damaged.
    """
    path = folder / store.MASK
    return masks.load(path) if path.exists() else None


def keep(training: Training, folder: Path) -> None:
    """Store the mask of a run that begins: it is chosen once, and whoever goes on with the run trains these weights."""
    made = training.prepared.sparse
    if made is not None and not (folder / store.MASK).exists():
        masks.save(made.mask, folder / store.MASK)


def _result(training: Training) -> dict[str, Any]:
    config, history = training.config, training.history
    best = best_epoch(training.problem, history)
    selected = best if config.select == "validation" else len(history)
    parameters, shared = training.parameters()
    overhead = float("nan") if training.monitor is None else training.monitor.overhead
    test = {}
    for task, metrics in history[selected - 1]["test"].items():
        metric, higher = training.problem.metric[task]
        measures = {
            name: store.Measure(value=metrics[name], higher_is_better=up)
            for name, up in training.problem.measures.get(task, {}).items()
        }
        test[task] = store.Score(
            metric=metric, value=metrics[metric], higher_is_better=higher, loss=metrics["loss"], measures=measures
        )
    return store.Result(
        epochs=len(history),
        steps=training.steps,
        seconds=training.seconds,
        parameters=parameters,
        shared_parameters=shared,
        test=test,
        selected_epoch=selected,
        best_epoch=best,
        overhead=overhead if overhead == overhead else None,  # NaN: unknown
        loading_seconds=training.loading_seconds,
        wall_seconds=training.wall_seconds,
        peak_bytes=training.peak.bytes,
        sparse=training.prepared.summary(),
    ).model_dump()


def best_epoch(problem: problems.Problem, history: list[dict[str, Any]]) -> int:
    """The epoch that is best on the validation data; the test data have no say.

    The measure is the mean over tasks of the relative improvement over the last epoch, so that tasks with metrics of
    different size count alike; an epoch with a metric that is not finite is never better than one without.
    Of equally good epochs it is the earliest.

    Args:
        problem: names the metrics.
        history: one dict per epoch.

    Returns:
        Counted from 1.

    Example:
        >>> from accord.problems import Digits
        >>> values = [{"left": 0.5, "right": 0.9}, {"left": 0.9, "right": 0.9}, {"left": 0.8, "right": 0.9}]
        >>> best_epoch(Digits(), [{"validation": {k: {"accuracy": v} for k, v in epoch.items()}} for epoch in values])
        2
    """
    last = history[-1]["validation"]

    def merit(epoch: dict[str, Any]) -> float:
        gains = []
        for task, metrics in epoch["validation"].items():
            name, higher = problem.metric[task]
            if not math.isfinite(metrics[name]):
                return -math.inf  # this epoch diverged
            gains.append(stats.gain(metrics[name], last[task][name], higher))
        known = [gain for gain in gains if math.isfinite(gain)]  # NaN where the last value is 0, or diverged
        return sum(known) / len(known) if known else 0.0

    merits = [merit(epoch) for epoch in history]
    return merits.index(max(merits)) + 1
