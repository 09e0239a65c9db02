"""The record of a run as arrays, and how rows with different tasks and blocks come onto common axes.

Legend: `T` recorded steps, `K` tasks, `B` blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from accord.errors import AccordError
from accord.step import Event, Step

Array = NDArray[np.float64]
# the arrays of a step with the letters of their axes
ARRAYS = {"losses": "K", "active": "K", "weights": "K", "gramians": "BKK", "descent": "BK", "change": "BK"}
NUMBERS = ("direction_norm", "update_norm", "probe_seconds", "step_seconds")


@dataclass(frozen=True)
class Row:
    """One probed step and when it happened.

    Args:
        step: the step.
        time: seconds since the start of the run, without pauses.
        probe_seconds: what the measurement cost.
        step_seconds: what a training step without measurement takes.
    """

    step: Step
    time: float = float("nan")
    probe_seconds: float | None = None
    step_seconds: float | None = None


@dataclass(frozen=True, eq=False)
class Record:
    """All probed steps of a run as numpy float64 arrays, in the order of the steps.

    The task axis holds every task that was ever named; where a step did not know a task yet, it is NaN (and not
    active). The block axis is the union of the steps' blocks; a block that a step did not have adds nothing (zero).
    What a step did not measure is NaN.

    Args:
        tasks: K names.
        blocks: B names, in order of first appearance.
        index: (T,) int, number of earlier backward passes.
        time: (T,) seconds since the start of the run.
        losses: (T, K).
        active: (T, K) bool.
        weights: (T, K); NaN for methods that combine whole gradients.
        gramians: (T, B, K, K).
        descent: (T, B, K), ``g_i · d``.
        change: (T, B, K), ``g_i · Δθ``.
        direction_norm: (T,) ``‖d‖``.
        update_norm: (T,) ``‖Δθ‖``.
        events: T lists.
        probe_seconds: (T,).
        step_seconds: (T,).
        space: T names: ``parameters`` or ``features``.

    Example:
        >>> import torch
        >>> step = Step(7, ("a", "b"), torch.tensor([1.0, 2.0]), torch.tensor([True, True]), blocks=("body", "neck"),
        ...             gramians=torch.ones(2, 2, 2))
        >>> record = Record.of([step])
        >>> len(record), record.tasks, record.gramians.shape, record.gramian[0].tolist()
        (1, ('a', 'b'), (1, 2, 2, 2), [[2.0, 2.0], [2.0, 2.0]])
    """

    tasks: tuple[str, ...]
    blocks: tuple[str, ...]
    index: NDArray[np.int64]
    time: Array
    losses: Array
    active: NDArray[np.bool_]
    weights: Array
    gramians: Array
    descent: Array
    change: Array
    direction_norm: Array
    update_norm: Array
    events: list[list[Event]]
    probe_seconds: Array
    step_seconds: Array
    space: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def gramian(self) -> Array:
        """(T, K, K), Gramians of the whole gradients: the sum of the blocks'; NaN on steps that have none."""
        if not self.blocks:
            return np.full((len(self), len(self.tasks), len(self.tasks)), np.nan)
        return self.gramians.sum(axis=1)  # (T, K, K)

    @staticmethod
    def of(steps: Sequence[Step | Row]) -> Record:
        """The record of steps in memory; a bare Step has no times.

        Raises:
            AccordError: if there are none, or two are the same step.
        """
        return assemble([plain(step if isinstance(step, Row) else Row(step)) for step in steps], "these steps")


def plain(row: Row) -> dict[str, Any]:
    """A row as names, numbers and numpy arrays of checked shapes."""
    step = row.step
    out: dict[str, Any] = {
        "index": int(step.index),
        "time": float(row.time),
        "tasks": tuple(step.tasks),
        "blocks": tuple(step.blocks),
        "space": step.space,
        "events": list(step.events),
        "direction_norm": step.direction_norm,
        "update_norm": step.update_norm,
        "probe_seconds": row.probe_seconds,
        "step_seconds": row.step_seconds,
    }
    for name in ARRAYS:
        values = getattr(step, name)
        out[name] = None
        if values is not None:
            if values.shape != shape_of(out, name):
                raise ValueError(f"step {step.index}: {name} {tuple(values.shape)}, expected {shape_of(out, name)}")
            out[name] = values.detach().cpu().to(torch.bool if name == "active" else torch.float64).numpy()
    return out


def shape_of(row: dict[str, Any], name: str) -> tuple[int, ...]:
    """The shape that an array has to have in a row with these tasks and blocks."""
    sizes = {"K": len(row["tasks"]), "B": len(row["blocks"])}
    return tuple(sizes[letter] for letter in ARRAYS[name])


def assemble(rows: list[dict[str, Any]], where: str) -> Record:
    """Bring rows with their own tasks and blocks onto common axes."""
    if not rows:
        raise AccordError(f"no steps in {where}: a record needs at least one")
    rows = sorted(rows, key=lambda row: row["index"])
    index = np.array([row["index"] for row in rows], dtype=np.int64)
    twice = index[:-1][np.diff(index) == 0]
    if len(twice):
        raise AccordError(f"step {twice[0]} is twice in {where}: two runs in one record? Give each its own folder")
    tasks = _union([rows[-1]["tasks"], *(row["tasks"] for row in rows)])
    blocks = _union(row["blocks"] for row in rows)
    sizes = {"K": len(tasks), "B": len(blocks)}
    arrays = {
        name: np.full((len(rows), *(sizes[letter] for letter in letters)), np.nan) for name, letters in ARRAYS.items()
    }
    arrays["active"][:] = 0
    for at, row in enumerate(rows):
        columns = [tasks.index(task) for task in row["tasks"]]
        axes = {"K": columns, "B": [blocks.index(block) for block in row["blocks"]]}
        for name, letters in ARRAYS.items():
            if row[name] is None:
                continue
            if "B" in letters:  # blocks that this step does not have add nothing to its tasks
                every = {"K": columns, "B": range(len(blocks))}
                arrays[name][at][np.ix_(*(every[letter] for letter in letters))] = 0.0
            arrays[name][at][np.ix_(*(axes[letter] for letter in letters))] = row[name]
    active = arrays.pop("active").astype(bool)
    numbers = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in ("time", *NUMBERS)}
    events, space = [row["events"] for row in rows], tuple(row["space"] for row in rows)
    return Record(tasks, blocks, index, active=active, events=events, space=space, **arrays, **numbers)


def _union(names: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All names, each at its first appearance."""
    return tuple(dict.fromkeys(name for row in names for name in row))
