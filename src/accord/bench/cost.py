"""What a step of each method costs beside one of the plain sum, and how many steps cost the same."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accord.bench import files
from accord.bench.additions import NONE
from accord.bench.config import RunConfig, vary
from accord.bench.run import environment
from accord.bench.training import Training
from accord.problems import Batch

COSTS = "costs.json"
PLAIN = "Sum()"
ROUNDS = 7  # of the interleaved measurement, after one to warm up
STEPS = 10  # in a round at most: methods that work every few steps are seen with their mean
REMEDY = "plan.json holds a copy under 'costs'; without that, remove this file and the runs whose max_steps changes."
SECONDS = 0.3  # a round takes no longer than this, unless two steps do


def measure(arms: Sequence[RunConfig]) -> dict[str, Any]:
    """Milliseconds per step of each arm and of the plain sum, on the real problem, without looking at anything.

    In each round every method does a few steps, one after the other, so that a busy minute slows all alike. Of a round
    the mean counts, over rounds the median.

    Args:
        arms: of one problem, optimiser and number of threads; the seed is that of the first.

    Returns:
        ``steps_per_epoch``, and under ``methods`` by ``named(arm)`` ``milliseconds`` and ``plain``, those of the plain
        sum in the same rounds.
    """
    bare = {"seed": arms[0].seed, "tasks": None, "monitor_every": 0, "arm": None, "max_steps": None}
    every = [vary(arms[0], **bare, **NONE, method=PLAIN)]
    every += [vary(arm, **bare, **({"sparse_look": 0} if arm.sparse else {})) for arm in arms]
    with environment(arms[0]), tempfile.TemporaryDirectory() as unused:
        trainings = {named(config): Training(config, Path(unused)) for config in every}
        steps = {name: _stepper(training) for name, training in trainings.items()}
        for step in steps.values():
            step()
        counts = {name: max(2, min(STEPS, int(SECONDS / _seconds(step, 1)))) for name, step in steps.items()}
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(ROUNDS):
            for name, step in steps.items():
                times[name].append(_seconds(step, counts[name]))
    per_step = {name: 1000 * statistics.median(found) for name, found in times.items()}
    return {
        "steps_per_epoch": len(trainings[PLAIN].data.train),
        "methods": {name: {"milliseconds": found, "plain": per_step[PLAIN]} for name, found in per_step.items()},
    }


def named(arm: RunConfig) -> str:
    """By what the cost of a step goes: the method and what is done to the model, whatever the arm is called.

    Example:
        >>> from accord.bench.config import configure
        >>> named(configure(problem="digits", method="UPGrad", sparse="PSN(k=8)", arm="mine"))
        'UPGrad() + PSN(k=8)'
    """
    return " + ".join([arm.method, *arm.additions])


def where(arm: RunConfig) -> str:
    """Beside which others an arm is measured: those of the same problem, optimiser and number of threads.

    Example:
        >>> from accord.bench.config import configure
        >>> where(configure(problem="digits")), where(configure(problem="digits", optimizer="SGD", threads=2))
        ('digits', 'digits, SGD, 2 threads')
    """
    usual = RunConfig.model_fields
    words = [arm.problem]
    if arm.optimizer != usual["optimizer"].default:  # files of earlier versions name the problem alone
        words.append(arm.optimizer)
    if arm.threads != usual["threads"].default:
        words.append(f"{arm.threads} threads")
    return ", ".join(words)


def _stepper(training: Training) -> Callable[[], None]:
    """One training step after the other, without end."""

    def batches() -> Iterator[tuple[Batch, Batch | None]]:
        for _ in itertools.count():
            yield from zip(training.data.train, training.beside(0), strict=False)

    waiting = batches()
    training.model.train()

    def step() -> None:
        training.step(*next(waiting))

    return step


def _seconds(step: Callable[[], None], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began) / count


def limited(arms: Sequence[RunConfig], root: Path, tell: Callable[[str], None]) -> tuple[list[RunConfig], Any]:
    """The arms with as many steps as cost what all steps of the plain sum cost; never more than all.

    Costs are measured once, and stored: a suite that is started again goes on with the same numbers of steps. Tasks
    that are trained alone keep all their steps.

    Args:
        arms: see ``plan.arms``.
        root: folder of the suite.
        tell: is told what is being measured.

    Returns:
        The arms, and the costs, see ``where`` and ``measure``.

    Raises:
        AccordError: if the stored costs are damaged.
    """
    path = root / COSTS
    costs = files.read_json(path, remedy=REMEDY) if path.exists() else {}
    for problem, entry in costs.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("methods"), dict):
            raise files.damaged(path, f"it holds no costs of {problem}", REMEDY)
    wanted: dict[str, list[RunConfig]] = {}
    for arm in arms:
        if arm.tasks is None:
            wanted.setdefault(where(arm), []).append(arm)
    for place, group in wanted.items():
        known = costs.get(place, {}).get("methods", {})
        missing = [arm for arm in group if named(arm) not in known]
        if missing:
            tell(f"measuring a step of {', '.join(map(named, missing))} on {place}")
            found = measure(missing)
            costs[place] = {**found, "methods": {**found["methods"], **known}}
            files.write_json(path, costs)
    try:
        return [arm if arm.tasks else vary(arm, max_steps=limit(costs[where(arm)], arm)) for arm in arms], costs
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:  # infinity and NaN are no numbers of steps
        raise files.damaged(path, repr(error), REMEDY) from None


def limit(costs: dict[str, Any], arm: RunConfig) -> int | None:
    """The number of steps that costs the same as all steps of the plain sum; None where that is all of them.

    Example:
        >>> from accord.bench.config import configure
        >>> costs = {"steps_per_epoch": 10, "methods": {"UPGrad()": {"milliseconds": 4.0, "plain": 1.0}}}
        >>> limit(costs, configure(problem="digits", method="UPGrad", epochs=2))
        5
    """
    found, total = costs["methods"][named(arm)], costs["steps_per_epoch"] * arm.epochs
    steps = int(total * found["plain"] / found["milliseconds"])
    return None if named(arm) == PLAIN or steps >= total else max(1, steps)
