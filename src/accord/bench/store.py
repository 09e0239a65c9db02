"""Stored runs: one folder per run, read and checked."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from accord import record
from accord.bench import config as configuration
from accord.bench import files
from accord.bench.config import RunConfig
from accord.errors import AccordError
from accord.record import Record

CONFIG, RESULT, HISTORY = "config.json", "result.json", "history.json"
CHECKPOINT, STEPS = "checkpoint.safetensors", "steps"
MASK, FULL = "mask.safetensors", "full"  # of sparse runs: what is trained, and looks at that and the rest
TRIALS = "search"  # folder of the runs by which something was chosen; they are no results


class Measure(BaseModel):
    """One measure of one task.

    Args:
        value: on the test data.
        higher_is_better: the direction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    higher_is_better: bool


class Score(BaseModel):
    """The test metric of one task.

    Args:
        metric: its name.
        value: on the test data.
        higher_is_better: the direction.
        loss: on the test data.
        measures: all measures of the task by name, where there are more than this one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    value: float
    higher_is_better: bool
    loss: float
    measures: dict[str, Measure] = {}


class Sparsity(BaseModel):
    """What a sparse run trained.

    Args:
        trainable: scalars that were trained, heads included.
        total: scalars of the model.
        shared: scalars of the model that are no head's.
        selected: of these, the ones that were trained.
        density: ``selected / shared``.
        hash: SHA-256 of the mask.
        seconds: that the selection took, the gradients that it looked at included.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainable: int
    total: int
    shared: int
    selected: int
    density: float
    hash: str
    seconds: float


class Result(BaseModel):
    """What a finished run amounts to.

    Args:
        status: always ``finished``.
        epochs: how many.
        steps: how many.
        seconds: of training, measuring included and evaluation left out.
        parameters: that the trained losses reach.
        shared_parameters: that several of them reach.
        test: by task, after epoch ``selected_epoch``.
        selected_epoch: the last one, unless the configuration says ``select="validation"``.
        best_epoch: the one with the best validation metrics, for information.
        overhead: share of the training time that the monitor added; None if unknown.
        loading_seconds: of ``seconds``, how many were spent waiting for batches; None if unknown.
        wall_seconds: from beginning to end, all sittings together, loading and evaluation included; None if unknown.
        peak_bytes: the most memory that training took beyond libraries and data, see ``memory.Peak``; None if unknown.
        sparse: of a sparse run, what it trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: str = "finished"
    epochs: int
    steps: int
    seconds: float
    parameters: int
    shared_parameters: int
    test: dict[str, Score]
    selected_epoch: int
    best_epoch: int
    overhead: float | None = None
    loading_seconds: float | None = None
    wall_seconds: float | None = None
    peak_bytes: int | None = None
    sparse: Sparsity | None = None


@dataclass(frozen=True)
class Run:
    """One stored run.

    Args:
        path: its folder.
        config: its configuration.
        result: see ``Result``; None while it is not finished.
        history: one dict per finished epoch: ``epoch``, ``seconds``, ``train_loss`` by task, and each task's metrics
            on ``validation``; on ``test`` as well where they may become the result: after the last epoch, or after all
            with ``select="validation"``.
    """

    path: Path
    config: RunConfig
    result: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        """Whether there is a result."""
        return self.result is not None

    @property
    def label(self) -> str:
        """See ``RunConfig``."""
        return self.config.label

    def record(self) -> Record | None:
        """The record of its steps, or None if there is none.

        Raises:
            AccordError: if a part of it is damaged.
        """
        return self._read(STEPS)

    def looks(self) -> Record | None:
        """The looks of a sparse run at its ``trained`` and ``frozen`` weights, or None if there are none.

        Raises:
            AccordError: if a part of it is damaged.
        """
        return self._read(FULL)

    def _read(self, name: str) -> Record | None:
        folder = self.path / name
        return record.read(folder) if record.parts(folder) else None

    @property
    def milliseconds(self) -> float:
        """Median time of a training step without measuring; the mean with measuring where nothing else is known."""
        steps = self.record()
        if steps is not None and np.isfinite(steps.step_seconds).any():
            return 1000 * float(np.nanmedian(steps.step_seconds))
        result = self.result or {}
        return 1000 * result["seconds"] / result["steps"] if result.get("steps") else math.nan


def load(path: str | os.PathLike[str]) -> Run:
    """The run in this folder.

    Raises:
        AccordError: if one of its files is damaged (it is named).
    """
    path = Path(path)
    config, result = configuration.read(path / CONFIG), _result(path / RESULT)
    history = files.read_json(path / HISTORY, list) if (path / HISTORY).exists() else []
    if not all(isinstance(epoch, dict) for epoch in history):
        raise files.damaged(path / HISTORY, "it holds something else than epochs")
    return Run(path, config, result, history)


def load_runs(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Run]:
    """All runs in some folders, at any depth, each once; those of a search are left out unless its folder is named.

    Args:
        paths: folders.

    Raises:
        AccordError: if a folder does not exist or holds no run, or a file of a run is damaged.

    Example:
        >>> load_runs("no/such/folder")
        Traceback (most recent call last):
        accord.errors.AccordError: no/such/folder does not exist; name a folder that `accord run` wrote.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            raise AccordError(f"{path} does not exist; name a folder that `accord run` wrote.")
        below = (config.parent for config in path.rglob(CONFIG))
        folders = sorted(folder for folder in below if TRIALS not in folder.relative_to(path).parts)
        if not folders:
            raise AccordError(f"{path} holds no run; name a folder that `accord run` wrote.")
        found |= dict.fromkeys(folders)
    resolved = {folder.resolve(): folder for folder in reversed(found)}  # the first of several names for one folder
    return [load(folder) for folder in found if resolved[folder.resolve()] == folder]


def _result(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return Result.model_validate(files.read_json(path)).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        raise files.damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
