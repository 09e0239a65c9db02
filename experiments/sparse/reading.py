"""From stored runs to numbers: one row per run, and what two rows of one seed have to say about each other.

Shares are in per cent. A conflict is a negative cosine of two task gradients in the shared parameters; a step with
three tasks has an incidence of 0, 33, 67 or 100 %. "full" is over all shared parameters, "masked" over those that are
trained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from plan import LORA

from accord import conflict, problems
from accord.bench import stats, store
from accord.record import Record

Array = NDArray[np.float64]
LEFT_OUT = ("f1",)  # of rare labels: 0 for some task alone, and a change of nothing is no per cent
BINS, FEWEST = 6, 3  # of the training loss; looks in a bin of a run below which it says nothing


class Key(NamedTuple):
    """What a run is, but for its seed.

    Args:
        problem: its name.
        encoder: its spelling.
        task: that is trained alone, or "".
        method: its spelling.
        lr: learning rate.
        sparse: spelling of the rule, ``LoRA``, or "".
        trains: ``selected`` or ``all``.
        order: of mask and combination.
        anchor: strength; 0 without.
    """

    problem: str
    encoder: str
    task: str = ""
    method: str = "Sum()"
    lr: float = 2e-3
    sparse: str = ""
    trains: str = "selected"
    order: str = "mask-then-combine"
    anchor: float = 0.0

    @staticmethod
    def of(run: store.Run) -> Key:
        """The key of a stored run."""
        config = run.config
        problem = problems.parse(config.problem)
        adapted = LORA if (config.arm or "").startswith(LORA) else ""
        return Key(
            problem.name, getattr(problem, "encoder", ""), "+".join(config.tasks or ()), config.method, config.lr,
            config.sparse or adapted, config.sparse_trains, config.sparse_order, config.anchor or 0.0,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Looks:
    """Gramians over a training.

    Args:
        index: (T,) steps.
        rates: (T,) incidence in per cent.
        cosines: (T, pairs).
        epochs: (T,) counted from 0.
    """

    index: NDArray[np.int64]
    rates: Array
    cosines: Array
    epochs: NDArray[np.int64]

    @staticmethod
    def of(record: Record, gramians: Array, per_epoch: float) -> Looks:
        """From a record and (T, K, K)."""
        return Looks(
            record.index,
            100 * conflict.incidence(gramians),
            conflict.upper(conflict.cosine(gramians)),
            (record.index / per_epoch).astype(np.int64),
        )

    def mean(self, late: bool = False) -> float:
        """Mean incidence over all epochs, or over the last half of them."""
        return _mean(self.rates[self.epochs >= (self.epochs.max() + 1) / 2] if late else self.rates)

    def below(self, threshold: float) -> float:
        """Share of pairs whose cosine is below the threshold."""
        return 100 * _mean(conflict.below(self.cosines, threshold))

    def by_epoch(self) -> Array:
        """(epochs,)."""
        return np.array([_mean(self.rates[self.epochs == epoch]) for epoch in range(self.epochs.max() + 1)])


class Facts:
    """The numbers of one finished run.

    Args:
        run: stored.
    """

    def __init__(self, run: store.Run) -> None:
        assert run.result is not None
        self.run, self.key, self.seed, self.result = run, Key.of(run), run.config.seed, run.result
        self.problem = problems.parse(run.config.problem)
        self.per_epoch = self.result["steps"] / self.result["epochs"]

    @cached_property
    def record(self) -> Record | None:
        """Of its steps."""
        return self.run.record()

    @cached_property
    def trained(self) -> Looks | None:
        """Conflict in what is trained: masked, and full where everything is."""
        record = self.record
        return None if record is None else Looks.of(record, record.gramian, self.per_epoch)

    @cached_property
    def both(self) -> tuple[Looks, Looks] | None:
        """Masked and full at the same steps, of a run with a mask that looked at both."""
        record = self.run.looks()
        if record is None:
            return None
        masked = record.gramians[:, record.blocks.index("trained")]  # (T, K, K)
        return Looks.of(record, masked, self.per_epoch), Looks.of(record, record.gramian, self.per_epoch)

    @property
    def masked(self) -> Looks | None:
        """Conflict in what the mask selects; of a dense run without a mask, in everything."""
        if self.key.trains == "all" and self.both is not None:
            return self.both[0]
        return self.trained

    @property
    def full(self) -> Looks | None:
        """Conflict in all shared parameters; unknown for a sparse run that never looked."""
        if self.key.sparse and self.key.trains == "selected":
            return None if self.both is None else self.both[1]
        return self.trained

    @property
    def test(self) -> dict[str, dict[str, float]]:
        """Every measure of every task on the test data, at the epoch that was chosen on validation data."""
        return {
            task: {name: value for name, value, _ in _measures(score)} for task, score in self.result["test"].items()
        }

    @property
    def higher(self) -> dict[str, dict[str, bool]]:
        """Whether higher is better."""
        return {task: {name: up for name, _, up in _measures(score)} for task, score in self.result["test"].items()}

    @property
    def headline(self) -> dict[str, float]:
        """The metric of each task on the test data."""
        return {task: score["value"] for task, score in self.result["test"].items()}

    @property
    def validation(self) -> dict[str, float]:
        """The metric of each task on the validation data, at the same epoch."""
        line = self.run.history[self.result["selected_epoch"] - 1]["validation"]
        return {task: float(values[self.problem.metric[task][0]]) for task, values in line.items()}

    def smoothed_loss(self, reference: Mapping[str, float]) -> tuple[NDArray[np.int64], Array]:
        """The training loss over the recorded steps: mean over tasks, each in units of the reference, smoothed.

        Args:
            reference: loss of each task at the beginning of the dense run.
        """
        assert self.record is not None
        scale = np.array([reference[task] for task in self.record.tasks])
        mean = np.nanmean(self.record.losses / scale, axis=1)  # (T,)
        width = max(3, len(mean) // 12)
        padded = np.pad(mean, width, mode="edge")
        kernel = np.ones(2 * width + 1) / (2 * width + 1)
        return self.record.index, np.convolve(padded, kernel, mode="valid")

    def first_losses(self) -> dict[str, float]:
        """Loss of each task at the first recorded step."""
        assert self.record is not None
        return dict(zip(self.record.tasks, map(float, self.record.losses[0]), strict=True))


class Book:
    """All finished runs by what they are and by seed.

    Args:
        runs: stored.
    """

    def __init__(self, runs: Iterable[store.Run]) -> None:
        self.rows: dict[Key, dict[int, Facts]] = {}
        for run in runs:
            if run.finished:
                facts = Facts(run)
                self.rows.setdefault(facts.key, {})[facts.seed] = facts
        self._singles: dict[tuple[str, str], Key | None] = {}

    def get(self, key: Key) -> dict[int, Facts]:
        """By seed; empty if it was not run."""
        return self.rows.get(key, {})

    def single(self, problem: str, encoder: str, task: str) -> Key | None:
        """The task alone, dense, at the learning rate that is best on validation data in the mean over seeds."""
        if (problem, task) not in self._singles:
            found = [
                key
                for key in self.rows
                if (key.problem, key.encoder, key.task, key.sparse) == (problem, encoder, task, "")
            ]
            self._singles[problem, task] = max(found, key=self._alone, default=None)
        return self._singles[problem, task]

    def _alone(self, key: Key) -> float:
        signs = [1 if facts.problem.metric[key.task][1] else -1 for facts in self.get(key).values()]
        return _mean([sign * row.validation[key.task] for sign, row in zip(signs, self.get(key).values(), strict=True)])

    def delta_m(self, facts: Facts, home: str, everything: bool = False) -> float:
        """Improvement over each task alone with the same seed, per cent; greater is better.

        Args:
            facts: of a run of all tasks.
            home: encoder of the tasks alone.
            everything: all measures and not only the metric of each task.
        """
        single: dict[str, dict[str, float]] = {}
        for task in facts.headline:
            key = self.single(facts.key.problem, home, task)
            alone = None if key is None else self.get(key).get(facts.seed)
            if alone is None:
                return math.nan
            single[task] = alone.test[task] if everything else {"": alone.headline[task]}
        values = facts.test if everything else {task: {"": value} for task, value in facts.headline.items()}
        higher: dict[str, Any] = (
            facts.higher if everything else {task: {"": facts.problem.metric[task][1]} for task in values}
        )
        return 100 * stats.delta_m(values, single, higher)

    def merit(self, key: Key, reference: Key) -> float:
        """On validation data: mean over tasks and seeds of the relative improvement over the reference, per cent."""
        found = []
        for seed, facts in self.get(key).items():
            base = self.get(reference).get(seed)
            if base is not None:
                higher = {task: facts.problem.metric[task][1] for task in facts.validation}
                found.append(100 * stats.delta_m(facts.validation, base.validation, higher))
        return _mean(found)


def matched(one: Facts, other: Facts, reference: Mapping[str, float]) -> float:
    """Difference of incidence, one minus other, at equal training loss, in percentage points.

    The range of smoothed losses that both runs pass through is cut into bins that hold equally many looks of both; a
    bin counts if both have enough looks in it; the difference is the mean over bins.

    Args:
        one: a run.
        other: another, of the same seed.
        reference: see ``Facts.smoothed_loss``.

    Returns:
        NaN where they never have the same loss.
    """
    places = [at_loss(facts, reference) for facts in (one, other)]
    if any(place is None for place in places):
        return math.nan
    (x, p), (y, q) = [place for place in places if place is not None]
    low, high = max(x.min(), y.min()), min(x.max(), y.max())
    both = np.concatenate([x, y])
    both = both[(both >= low) & (both <= high)]
    if low >= high or len(both) < 2 * FEWEST:
        return math.nan
    edges = np.quantile(both, np.linspace(0, 1, BINS + 1))
    edges[-1] += 1e-9
    found = []
    for start, end in itertools.pairwise(edges):
        here, there = p[(x >= start) & (x < end)], q[(y >= start) & (y < end)]
        if min(len(here), len(there)) >= FEWEST:
            found.append(_mean(here) - _mean(there))
    return _mean(found)


def at_loss(facts: Facts, reference: Mapping[str, float]) -> tuple[Array, Array] | None:
    """Smoothed training loss and incidence (full) of each look."""
    if facts.full is None:
        return None
    index, losses = facts.smoothed_loss(reference)
    return np.interp(facts.full.index, index, losses), facts.full.rates


def _measures(score: Mapping[str, Any]) -> list[tuple[str, float, bool]]:
    found = score["measures"] or {score["metric"]: score}
    return [(name, m["value"], m["higher_is_better"]) for name, m in found.items() if name not in LEFT_OUT]


def _mean(values: Any) -> float:
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    return float(array.mean()) if array.size else math.nan
