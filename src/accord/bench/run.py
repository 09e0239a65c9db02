"""One run from beginning to end: skipped when finished, resumed when stopped, the same numbers either way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from accord import problems, record
from accord.bench import checkpoint, files, stats, store
from accord.bench.config import RunConfig
from accord.bench.training import Training
from accord.errors import AccordError
from accord.problems import seeds


def run(config: RunConfig, root: str | os.PathLike[str], on_epoch: Callable[[int], None] | None = None) -> store.Run:
    """Train as configured; whatever of it was done before is not done again.

    After each epoch everything is on the disk, so that a kill loses one epoch at most. A resumed run gives bit for bit
    the numbers of an unbroken one on the same machine.

    Args:
        config: of the run.
        root: folder of all runs.
        on_epoch: called with the number of finished epochs, first with those that were there before.

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
    folder = Path(root) / config.place
    files.make_folder(folder)
    with files.lock(folder):
        for half_written in folder.glob(".*.tmp"):  # by a process that was killed
            half_written.unlink()
        stored = _claim(folder, config)
        if stored is not None:
            (folder / store.CHECKPOINT).unlink(missing_ok=True)
            if on_epoch is not None:
                on_epoch(config.epochs)
            return stored
        with _environment(config):
            _train(config, folder, on_epoch)
        return store.load(folder)


def _claim(folder: Path, config: RunConfig) -> store.Run | None:
    """The finished run in this folder, if that is what it holds; else the folder is made ours."""
    path = folder / store.CONFIG
    if not path.exists():
        files.write_json(path, config.model_dump(mode="json"))
        return None
    stored = store.load(folder)
    theirs, ours = stored.config.settings(), config.settings()
    for name, value in ours.items():
        if theirs[name] != value:
            raise AccordError(
                f"{folder} holds a run with {name}={theirs[name]!r}, and this one has {name}={value!r}; "
                "choose another folder with --out, or remove that one."
            )
    return stored if stored.finished else None


@contextmanager
def _environment(config: RunConfig) -> Iterator[None]:
    """Threads and global random numbers of this run; as before outside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        with seeds.seeded(config.seed, "training"):
            yield
    finally:
        torch.set_num_threads(threads)


def _train(config: RunConfig, folder: Path, on_epoch: Callable[[int], None] | None) -> None:
    saved = folder / store.CHECKPOINT
    state = checkpoint.load(saved) if saved.exists() else None
    if state is None:
        record.drop_after(folder / store.STEPS, 0)  # steps of an epoch that was never finished
    training = Training(config, folder / store.STEPS)
    if state is not None:
        try:
            training.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise checkpoint.damaged(saved, error) from None
    try:
        if on_epoch is not None:
            on_epoch(len(training.history))
        while len(training.history) < config.epochs:
            training.epoch()
            checkpoint.save(saved, training.state_dict())
            files.write_json(folder / store.HISTORY, training.history)
            if on_epoch is not None:
                on_epoch(len(training.history))
    finally:
        if training.monitor is not None:
            training.monitor.close()
    files.write_json(folder / store.HISTORY, training.history)  # a kill may have come between checkpoint and history
    files.write_json(folder / store.RESULT, _result(training))
    saved.unlink()


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
    ).model_dump()


def best_epoch(problem: problems.Problem, history: list[dict[str, Any]]) -> int:
    """The epoch that is best on the validation data; the test data have no say.

    The measure is the mean over tasks of the relative improvement over the last epoch, so that tasks with metrics of
    different size count alike. Of equally good epochs it is the earliest.

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
            gains.append(stats.gain(metrics[name], last[task][name], higher))
        known = [gain for gain in gains if gain == gain]  # NaN where the last value is 0
        return sum(known) / len(known) if known else 0.0

    merits = [merit(epoch) for epoch in history]
    return merits.index(max(merits)) + 1
