"""Learning rates, and weights of plain weighted sums, chosen for every method alike on validation data."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from accord import problems
from accord.bench import files, stats, store
from accord.bench.additions import NONE
from accord.bench.config import RunConfig, vary
from accord.bench.plan import TUNED, alone
from accord.bench.suite import Search, Suite
from accord.errors import AccordError
from accord.problems import seeds

CHOSEN, STUDIES = "chosen.json", "studies.sqlite"
PLAIN = {"method": "Sum()", **NONE}
REFERENCE = "reference"  # the plain sum with the rate that holds without a search
SPREAD = 4.0  # weights lie between 1 / SPREAD and SPREAD before their mean is set to 1
DIGITS = 4  # of rates and weights, so that they can be read and typed
WORST = -math.inf  # merit of a trial that diverged


@dataclass(frozen=True)
class Candidate:
    """One point of a study.

    Args:
        lr: learning rate.
        weighting: which of the weightings, counted from 0; None where weights are not searched for.
        weights: of the tasks, likewise.
    """

    lr: float
    weighting: int | None = None
    weights: tuple[float, ...] | None = None

    @property
    def params(self) -> dict[str, float]:
        """What is varied, by name."""
        return {"lr": self.lr} if self.weighting is None else {"lr": self.lr, "weighting": self.weighting}

    def applied(self, arm: RunConfig) -> RunConfig:
        """The arm with these values."""
        return vary(arm, lr=self.lr, **({} if self.weights is None else {"method": f"Constant({self._weights})"}))

    @property
    def _weights(self) -> str:
        assert self.weights is not None
        return f"weights={list(self.weights)}"


def rates(search: Search) -> list[float]:
    """The learning rates, evenly spaced in the logarithm, both ends included.

    A grid and no adaptive sampler: every method is given the same chances, no trial waits for another, and a search
    that was stopped goes on with the same rates.

    Example:
        >>> rates(Search(trials=3, low=1e-4, high=1e-2))
        [0.0001, 0.001, 0.01]
    """
    if search.trials == 1:
        return [_rounded(math.sqrt(search.low * search.high))]
    ratio = search.high / search.low
    inner = [_rounded(search.low * ratio ** (i / (search.trials - 1))) for i in range(1, search.trials - 1)]
    return list(dict.fromkeys([search.low, *inner, search.high]))


def weightings(count: int, tasks: int) -> list[tuple[float, ...]]:
    """Random weights: log-uniform between 1/4 and 4, then divided by their mean; the same in every search.

    Args:
        count: how many.
        tasks: K.

    Example:
        >>> [round(sum(weights) / 3, 3) for weights in weightings(2, 3)]
        [1.0, 1.0]
    """
    uniform = torch.rand(count, tasks, generator=seeds.generator(0, "weightings", tasks), dtype=torch.float64)
    weights = SPREAD ** (2 * uniform - 1)  # (count, K)
    weights /= weights.mean(1, keepdim=True)
    return [tuple(map(_rounded, row)) for row in weights.tolist()]


def candidates(search: Search, arm: RunConfig) -> list[Candidate]:
    """The points of an arm's study, lower rates first."""
    if arm.arm != TUNED:
        return [Candidate(lr) for lr in rates(search)]
    drawn = weightings(search.weights, len(problems.parse(arm.problem).tasks))
    return [Candidate(lr, i, weights) for lr in rates(search) for i, weights in enumerate(drawn)]


def trials(search: Search, arms: Sequence[RunConfig]) -> list[RunConfig]:
    """All runs of the search: of every arm every candidate, and a reference for every problem.

    They are ordinary runs in a folder of their own, with the candidate's rate in their name.
    """
    found = {run.place: run for arm in arms for run in references(search, arm)}
    for arm in arms:
        for candidate in candidates(search, arm):
            found |= {run.place: run for run in _runs(search, arm, candidate)}
    return list(found.values())


def references(search: Search, arm: RunConfig) -> list[RunConfig]:
    """What the trials of this arm are measured against: the plain sum with the rate that holds without a search."""
    return [
        _trial(search, vary(arm, **PLAIN, tasks=None, max_steps=None, problem=alone(arm.problem)), REFERENCE, s)
        for s in search.seeds
    ]


def _runs(search: Search, arm: RunConfig, candidate: Candidate) -> list[RunConfig]:
    weighting = "" if candidate.weighting is None else f" {candidate.weighting}"
    name = f"lr={candidate.lr:g} {arm.name}{weighting}"
    return [_trial(search, candidate.applied(arm), name, seed) for seed in search.seeds]


def _trial(search: Search, config: RunConfig, name: str, seed: int) -> RunConfig:
    epochs = search.epochs or config.epochs
    # a limit on steps is a share of the epochs, and stays that share
    limit = None if config.max_steps is None else max(1, config.max_steps * epochs // config.epochs)
    looks = {} if config.sparse is None else {"sparse_look": 0}
    return vary(config, arm=name, seed=seed, epochs=epochs, max_steps=limit, monitor_every=0, **looks)


def merit(run: store.Run, reference: store.Run) -> float:
    """How good a trial is on the validation data: mean over its tasks of the relative improvement over a reference.

    The reference is taken after its last epoch. The trial is taken after its last epoch too, or, where the results
    will be those of the epoch that is best on validation data, after its best one. Where the reference is 0 the plain
    difference stands in. The test data have no say.

    Args:
        run: a finished trial.
        reference: a finished run of the same problem and seed, with all tasks.

    Returns:
        0.01 is one per cent better; minus infinity if the trial diverged.
    """
    metric = problems.parse(run.config.problem).metric
    base = reference.history[-1]["validation"]
    epochs = run.history if run.config.select == "validation" else run.history[-1:]

    def of(epoch: Mapping[str, Any]) -> float:
        gains = []
        for task, metrics in epoch["validation"].items():
            name, higher = metric[task]
            value, before = metrics[name], base[task][name]
            if not math.isfinite(value):
                return WORST
            if not math.isfinite(before) or before == 0:
                gains.append((value - (before if before == 0 else 0.0)) * (1 if higher else -1))
            else:
                gains.append(stats.gain(value, before, higher))
        return sum(gains) / len(gains)

    return max(map(of, epochs))


def choose(suite: Suite, arms: Sequence[RunConfig], root: Path) -> tuple[list[RunConfig], list[dict[str, Any]]]:
    """The arms with the best of their candidates, from finished trials.

    Args:
        suite: has the search.
        arms: see ``plan.arms``.
        root: folder of the trials.

    Returns:
        The arms, and for each what was tried, what came out and what it cost; also stored beside the trials, and in
        the Optuna storage. Of equally good candidates it is the first, the one with the lowest rate.

    Raises:
        AccordError: if optuna is missing or the storage cannot be used.
    """
    search = suite.search
    assert search is not None
    final, found = [], []
    for arm in arms:
        base = {run.seed: _ended(root / run.place) for run in references(search, arm)}
        points = candidates(search, arm)
        merits = []
        for point in points:
            ended = [_ended(root / run.place) for run in _runs(search, arm, point)]
            merits.append(sum(merit(run, base[run.config.seed]) for run in ended) / len(ended))
        best = merits.index(max(merits))
        final.append(points[best].applied(arm))
        found.append(_summary(search, arm, points, merits, best))
    files.write_json(root / CHOSEN, found)
    with studies(suite, root) as storage:
        for arm, entry in zip(arms, found, strict=True):
            _record(storage, suite, arm, entry)
    return final, found


def _ended(path: Path) -> store.Run:
    """A finished trial, whose epochs are all that counts."""
    run = store.load(path)
    if not run.history:
        raise files.damaged(path / store.HISTORY, "it holds no epoch of a finished trial")
    return run


def _summary(
    search: Search, arm: RunConfig, points: Sequence[Candidate], merits: Sequence[float], best: int
) -> dict[str, Any]:
    chosen, tried = points[best], [point.lr for point in points]
    edge = {min(tried): "lowest", max(tried): "highest"}.get(chosen.lr) if len(set(tried)) > 1 else None
    return {
        "problem": arm.problem,
        "label": arm.label,
        "lr": chosen.lr,
        "weights": chosen.weights,
        "merit": _json(merits[best]),
        "edge": edge,
        "budget": budget(search, arm),
        "trials": [
            {**point.params, "weights": point.weights, "merit": _json(value)}
            for point, value in zip(points, merits, strict=True)
        ],
    }


def budget(search: Search, arm: RunConfig) -> dict[str, int]:
    """What the study of an arm costs: candidates, seeds, epochs of a trial, and epochs in all."""
    count, epochs = len(candidates(search, arm)), search.epochs or arm.epochs
    return {
        "candidates": count,
        "seeds": len(search.seeds),
        "epochs": epochs,
        "total_epochs": count * len(search.seeds) * epochs,
    }


@contextmanager
def studies(suite: Suite, root: Path) -> Any:
    """The Optuna storage, opened.

    Raises:
        AccordError: if optuna is missing or the storage cannot be used.
    """
    search = suite.search
    assert search is not None
    try:
        import optuna
        from sqlalchemy.engine import URL
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise AccordError("the search of a suite needs optuna: pip install 'accord[optuna]'") from None
    files.make_folder(root)
    url = search.storage or URL.create("sqlite", database=str((root / STUDIES).resolve())).render_as_string()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = optuna.storages.RDBStorage(url)
        try:
            yield storage
        finally:
            storage.engine.dispose()
    except (SQLAlchemyError, ImportError, optuna.exceptions.OptunaError) as error:
        reason = (
            str(error).splitlines()[0] if search.storage is None else type(error).__name__
        )  # a URL may hold secrets
        raise AccordError(f"the storage of the search cannot be used ({reason}); check search.storage.") from None


def _record(storage: Any, suite: Suite, arm: RunConfig, entry: Mapping[str, Any]) -> None:
    """Add to the arm's study what it lacks: the runs are the truth, and a kill in between does no harm."""
    import optuna

    search = suite.search
    assert search is not None
    settings = json.dumps([arm.settings(), search.model_dump(exclude={"storage"})], sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:8]  # other settings, another study
    study = optuna.create_study(
        storage=storage,
        study_name=f"{suite.name} | {arm.problem} | {arm.label}"[:500] + f" | {digest}",
        direction="maximize",
        load_if_exists=True,
    )
    ranges: dict[str, Any] = {"lr": optuna.distributions.FloatDistribution(search.low, search.high, log=True)}
    if arm.arm == TUNED:
        ranges["weighting"] = optuna.distributions.IntDistribution(0, search.weights - 1)
    known = [trial.params for trial in study.get_trials(deepcopy=False)]
    for trial in entry["trials"]:
        params = {name: trial[name] for name in ranges}
        if params not in known:
            value = WORST if trial["merit"] is None else trial["merit"]
            about = {"weights": trial["weights"], **entry["budget"]}
            study.add_trial(
                optuna.trial.create_trial(params=params, distributions=ranges, value=value, user_attrs=about)
            )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _json(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None
