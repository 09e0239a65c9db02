"""Run folders as the training loop writes them, with simulated gradients: nothing is trained, everything is consistent.

Each probed step has true gradient vectors (K, B, D) from which Gramians, directions and steps are computed, so that
every identity between them holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from accord.bench.config import RunConfig, configure
from accord.bench.store import Run
from accord.record import Row, write_part
from accord.step import Event, Step

METHODS = ("Sum()", "PCGrad()", "UPGrad()", "CAGrad(c=0.5)", "NashMTL()")
TASKS = ("left", "right", "sum")
BLOCKS = ("conv1", "conv2", "conv3.first", "conv3.second", "fc1", "fc2")
D = 12  # parameters per block


@dataclass(frozen=True)
class Sample:
    """What to simulate.

    ``gain`` is added to a method's test accuracies, ``noise`` is what a seed adds to each of them; ``tilt`` is how far
    the tasks pull apart, ``jitter`` the noise of a mini-batch. ``unfinished`` methods have no result yet.
    """

    problem: str = "digits(epochs=4)"
    methods: Sequence[str] = METHODS
    tasks: Sequence[str] = TASKS
    blocks: Sequence[str] = BLOCKS
    seeds: int = 3
    probes: int = 100
    singles: bool = True  # of tasks that `digits` knows: a stored configuration is validated
    measured: bool = True
    recorded: bool = True
    unfinished: Sequence[str] = ()
    gain: Mapping[str, float] = field(default_factory=dict)
    noise: float = 0.004
    tilt: float = 1.7
    jitter: float = 0.7
    settings: Mapping[str, Any] = field(default_factory=dict)


def write(root: Path, sample: Sample | None = None) -> Path:
    """Write all runs of a sample under ``root`` and return it."""
    sample = sample or Sample()
    for seed in range(sample.seeds):
        for number, method in enumerate(sample.methods):
            _run(root, sample, method, None, seed, number)
        if sample.singles:
            for task in sample.tasks:
                _run(root, sample, "Sum()", task, seed, 99)
    return root


def read(root: Path) -> list[Run]:
    """The runs without the validation of stored configurations, which only knows the tasks of real problems."""
    given = configure(problem="digits").model_dump()
    found = []
    for path in sorted(root.rglob("config.json")):
        values = {**given, **json.loads(path.read_text())}
        config = RunConfig.model_construct(**{**values, "tasks": tuple(values["tasks"]) if values["tasks"] else None})
        result = path.with_name("result.json")
        history = json.loads(path.with_name("history.json").read_text())
        found.append(Run(path.parent, config, json.loads(result.read_text()) if result.exists() else None, history))
    return found


def _run(root: Path, sample: Sample, method: str, task: str | None, seed: int, number: int) -> None:
    folder = root / sample.problem / (f"single-{list(sample.tasks).index(task)}" if task else method) / f"seed-{seed}"
    folder.mkdir(parents=True)
    tasks = (task,) if task else tuple(sample.tasks)
    config = {
        "problem": sample.problem,
        "method": method,
        "tasks": [task] if task else None,
        "seed": seed,
        "epochs": 4,
        "lr": 0.001,
        "machine": "Linux x86_64",
        "versions": {"accord": "0.1.0", "torch": "2.13.0"},
        **sample.settings,
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = np.random.default_rng([seed, number, len(tasks)])
    if sample.recorded:
        rows = _rows(sample, method, tasks, generator)
        half = max(len(rows) // 2, 1)
        for part, rows_of_part in enumerate((rows[:half], rows[half:])):
            if rows_of_part:
                write_part(folder / "steps", part, rows_of_part)
    test = {name: _score(sample, method, name, seed, bool(task)) for name in tasks}
    history = [
        {
            "epoch": epoch,
            "seconds": 2.0,
            "train_loss": dict.fromkeys(tasks, 2.0 * 0.6**epoch),
            "validation": {name: {"accuracy": 0.9, "loss": 0.3} for name in tasks},
            "test": {name: {"accuracy": 0.9, "loss": 0.3} for name in tasks},
        }
        for epoch in range(4)
    ]
    (folder / "history.json").write_text(json.dumps(history))
    if method in sample.unfinished and not task:
        return
    cost = 1.0 if method == "Sum()" else 1.0 + 0.4 * len(tasks) + 0.1 * number
    result = {
        "status": "finished",
        "epochs": 4,
        "steps": 2000,
        "seconds": 8.0 * cost * (1 + 0.02 * seed),
        "parameters": 61_706,
        "shared_parameters": 59_856,
        "test": test,
        "selected_epoch": 3,
        "best_epoch": 3,
        "overhead": 0.031,
    }
    (folder / "result.json").write_text(json.dumps(result))


def _score(sample: Sample, method: str, task: str, seed: int, single: bool) -> dict[str, Any]:
    i = list(sample.tasks).index(task)
    # the seed's luck is shared by all methods: that is what pairing removes
    luck = np.random.default_rng([seed, i, 5]).normal(0, 0.006)
    own = np.random.default_rng([seed, i, sum(map(ord, method)), single]).normal(0, sample.noise)
    base = (0.945, 0.918, 0.874)[i % 3] + (0.012 if single else 0.0) + sample.gain.get(method, 0.0)
    value = float(np.clip(base + luck + own, 0, 1))
    return {"metric": "accuracy", "value": value, "higher_is_better": True, "loss": 3 * (1 - value)}


def _rows(sample: Sample, method: str, tasks: tuple[str, ...], generator: np.random.Generator) -> list[Row]:
    count, blocks = len(tasks), sample.blocks
    towards = generator.normal(size=(len(blocks), D))  # what all tasks share
    own = generator.normal(size=(count, len(blocks), D))
    depth = np.linspace(-0.6, 1.0, len(blocks))[:, None]  # conflict grows towards the output
    moving = np.zeros((len(blocks), D))
    rows = []
    for t in range(sample.probes):
        age = t / max(sample.probes - 1, 1)
        common = (1.1 - 0.9 * age) * towards
        apart = sample.tilt * (0.5 + 0.8 * age) * np.maximum(0.1, 0.6 + depth) * (own - own.mean(axis=0))
        noise = sample.jitter * generator.normal(size=own.shape)
        size = np.geomspace(1.0, 0.45, count)[:, None, None] * (1.2 - 0.8 * age)
        gradients = size * (common + apart + noise)  # (K, B, D)
        if len(blocks) > 2 and count > 1:
            gradients[1:, 0] = 0.0  # the first block is reached by one task only
        direction, weights = combine(method, gradients, generator)
        moving = 0.9 * moving + direction
        update = -0.01 * moving
        events = (Event("nonfinite", "the loss is NaN; left out of this step", tasks[-1]),) if t == 7 else ()
        rows.append(_row(sample, tasks, t, age, gradients, direction, update, weights, events, generator))
    return rows


def _row(
    sample: Sample,
    tasks: tuple[str, ...],
    t: int,
    age: float,
    gradients: np.ndarray,
    direction: np.ndarray,
    update: np.ndarray,
    weights: np.ndarray,
    events: tuple[Event, ...],
    generator: np.random.Generator,
) -> Row:
    count = len(tasks)
    losses = 2.3 * np.exp(-3 * age) * np.linspace(1, 1.6, count) * np.exp(generator.normal(0, 0.12, count)) + 0.05
    measured: dict[str, Any] = {}
    if sample.measured:
        measured = {
            "blocks": tuple(sample.blocks),
            "gramians": torch.from_numpy(np.einsum("ibd,jbd->bij", gradients, gradients)),
            "descent": torch.from_numpy(np.einsum("ibd,bd->bi", gradients, direction)),
            "change": torch.from_numpy(np.einsum("ibd,bd->bi", gradients, update)),
            "direction_norm": float(np.linalg.norm(direction)),
            "update_norm": float(np.linalg.norm(update)),
        }
    step = Step(
        20 * t,
        tasks,
        torch.from_numpy(losses),
        torch.ones(count, dtype=torch.bool),
        torch.from_numpy(weights),
        events=events,
        **measured,
    )
    return Row(step, time=0.08 * t, probe_seconds=0.002, step_seconds=0.004)


def combine(method: str, gradients: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A direction (B, D) and weights (K,): the sum, a sum over a dual cone, or something between."""
    count = len(gradients)
    flat = gradients.reshape(count, -1)  # (K, P)
    weights = np.ones(count)
    if method != "Sum()" and count > 1:
        # min ‖gᵀ + Gᵀ v‖, v >= 0: the projection of each gradient on the cone of directions that harm nobody
        weights = np.mean([nnls(flat.T, -g)[0] for g in flat], axis=0) * count + 1
        mix = {"UPGrad()": 1.0, "NashMTL()": 0.9, "PCGrad()": 0.6}.get(method, 0.35)
        weights = (1 - mix) + mix * weights
        weights = weights * count / weights.sum()
        if method == "PCGrad()":
            weights = weights * np.exp(generator.normal(0, 0.15, count))
    return np.tensordot(weights, gradients, 1), weights
