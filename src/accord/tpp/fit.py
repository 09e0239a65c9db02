"""Fit: train a model until it stops getting better on the validation part."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accord.tpp.batch import eligible
from accord.tpp.checkpoint import read, write
from accord.tpp.errors import TPPError
from accord.tpp.events import Events, Splits
from accord.tpp.model import PointProcess
from accord.tpp.training import Backward, MakeOptimizer, Training

STATE = "training.safetensors"
STOPPING = ("joint", "tasks")


@dataclass(frozen=True)
class Fitted:
    """How a training went; the model itself was changed in place.

    Args:
        history: for each epoch the mean training loss per event, the validation loss per sequence, and the seconds.
        best: epoch (from 1) with the lowest validation loss, jointly and of each task while it was trained.
        training: keeps the parameters of those epochs; see ``restore``.
    """

    history: list[dict[str, Any]]
    best: dict[str, int]
    training: Training

    def restore(self, kind: str) -> None:
        """Put the parameters of another best epoch into the model.

        Args:
            kind: ``joint``, ``time`` or ``mark``; ``tasks``: the time part of the one and the mark part of the other.

        Raises:
            TPPError: for another kind, or ``tasks`` where the model shares parameters.
        """
        if kind not in (*self.best, "tasks"):
            raise TPPError(f"kind={kind!r} is not known; expected one of {', '.join(self.best)}, tasks.")
        if kind == "tasks" and not self.training.model.disjoint:
            raise TPPError("kind='tasks' needs a model without shared parameters, such as a ++ variant.")
        self.training.restore(kind)


def fit(
    model: PointProcess,
    splits: Splits,
    *,
    epochs: int = 500,
    batch: int = 32,
    patience: int = 50,
    stopping: str | None = None,
    optimizer: MakeOptimizer | None = None,
    backward: Backward | None = None,
    seed: int = 0,
    paper_compat: bool = False,
    simulated: bool = False,
    path: str | os.PathLike[str] | None = None,
    on_epoch: Callable[[dict[str, Any]], object] | None = None,
) -> Fitted:
    """Train a model in place; afterwards it has the parameters of its best epoch on the validation part.

    Both losses are negative log likelihoods divided by the scored events of the batch.

    Args:
        model: with fresh parameters, or those to go on from.
        splits: training and validation parts; the test part is not touched.
        epochs: at most so many.
        batch: sequences per step.
        patience: epochs without a better one after which training stops.
        stopping: ``joint``: by the sum of the two losses; ``tasks``: each task by its own, and its parameters rest
            from then on (needs a model without shared parameters). None: ``tasks`` where the model allows it.
        optimizer: makes one from parameters; None: ``Adam`` with PyTorch's defaults.
        backward: called with the losses ``{"time", "mark"}`` to fill ``.grad``, such as ``balancer.backward``. None:
            the gradient of their sum. What it keeps for itself is not stored in ``path``.
        seed: of the order of batches.
        paper_compat: as the authors of the study: first events are not scored, losses are sums over the batch, ends of
            windows are ignored.
        simulated: with ``paper_compat``: keep the ends of the windows, as they do for simulated data.
        path: folder in which the state is kept after each epoch; a call with the same arguments goes on from there.
        on_epoch: called with each line of the history.

    Returns:
        The history and the best epochs.

    Raises:
        TPPError: for an argument out of range, parts without scored events, or a loss that is no finite number.

    Source: Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590, and their code for what the text leaves open.

    Example:
        >>> import numpy as np
        >>> from accord.tpp.build import build
        >>> from accord.tpp.events import Events, split
        >>> rng = np.random.default_rng(0)
        >>> times = [np.cumsum(rng.exponential(size=8)) for _ in range(20)]
        >>> events = Events.of(times, [np.arange(8) % 2] * 20, start=0.0)
        >>> fitted = fit(build("lnm++", marks=2), split(events), epochs=2, batch=8)
        >>> len(fitted.history), sorted(fitted.history[0]["validation"])
        (2, ['joint', 'mark', 'time'])
    """
    for name, value in (("epochs", epochs), ("batch", batch), ("patience", patience)):
        if value < 1:
            raise TPPError(f"{name}={value}; expected at least 1.")
    if stopping is None:
        stopping = "tasks" if model.disjoint else "joint"
    if stopping not in STOPPING:
        raise TPPError(f"stopping={stopping!r} is not known; expected one of {', '.join(STOPPING)}.")
    if stopping == "tasks" and not model.disjoint:
        raise TPPError("stopping='tasks' needs a model without shared parameters, such as a ++ variant.")
    splits = compatible(splits, paper_compat and not simulated)
    for name in ("train", "validation"):
        part = getattr(splits, name)
        model.accept(part)
        if eligible(part, first=not paper_compat).size == 0:
            raise TPPError(f"the {name} part has no event that could be scored.")
    training = Training(model, splits, batch, optimizer, backward, seed, patience, stopping, paper_compat)
    state = None if path is None else Path(path) / STATE
    about = {
        "settings": model.settings,
        "data": hashlib.sha256("".join(splits.train.fingerprints()).encode()).hexdigest()[:16],
        "batch": batch,
        "seed": seed,
        "stopping": stopping,
        "paper_compat": paper_compat,
        "optimizer": repr(next(iter(training.optimizers.values())).defaults),
    }
    if state is not None and state.exists():
        _resume(training, state, about)
    while len(training.history) < epochs and training.active:
        training.epoch()
        if state is not None:
            tensors, rest = training.state()
            write(state, tensors, {"about": about, "rest": rest})
        if on_epoch is not None:
            on_epoch(training.history[-1])
    training.restore("tasks" if stopping == "tasks" else "joint")
    model.eval()
    return Fitted(training.history, {name: rule.epoch for name, rule in training.rules.items()}, training)


def compatible(splits: Splits, without_windows: bool) -> Splits:
    """The parts, their ends of windows forgotten if so wished."""

    def forgotten(part: Events) -> Events:
        kept = part.subset(np.flatnonzero(part.lengths > 0))
        return dataclasses.replace(kept, end=np.full(len(kept), np.nan))

    if not without_windows:
        return splits
    return Splits(forgotten(splits.train), forgotten(splits.validation), forgotten(splits.test))


def _resume(training: Training, state: Path, about: dict[str, Any]) -> None:
    tensors, stored = read(state)
    theirs = stored.get("about", {})
    for name, value in about.items():
        if theirs.get(name) != value:
            raise TPPError(f"{state} belongs to a training with {name}={theirs.get(name)!r}; this one has {value!r}.")
    try:
        training.load(tensors, stored["rest"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise TPPError(f"{state} is damaged ({error}); remove it to begin anew.") from None
