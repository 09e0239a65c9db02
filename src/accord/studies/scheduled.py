"""Training with a conflict-aware learning rate, and with the same rates without their link to conflict: for E04."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import accord
from accord.studies import two_digits

STEPS, BATCH = 600, 128
LOOK_EVERY = 2  # the rule decides at every second step: half the cost, hardly less to learn
CHECK_EVERY = 50
FACTOR_EVERY = 20  # steps between two points of the drawn schedule
LIMIT = 10.0  # nats: what diverged counts as this much, so that it can be compared


@dataclass
class Run:
    """One training: the factors that it used, the curve, and what it cost."""

    factors: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    worst: list[float] = field(default_factory=list)
    milliseconds: float = float("nan")
    found: dict[str, float] = field(default_factory=dict)

    def at_equal_cost(self, milliseconds: float) -> float:
        """The worst task's validation loss once it has cost as much as a whole run at so many ms per step."""
        affordable = self.steps[-1] * min(1.0, milliseconds / self.milliseconds)
        return float(np.interp(affordable, self.steps, self.worst))


def train(
    given: two_digits.Data, width: int, lr: float, steps: int = STEPS, *, rule: dict[str, Any] | None = None,
    factors: Sequence[float] | None = None, weights: Sequence[float] = (1.0, 1.0),
    tasks: Sequence[str] = two_digits.TASKS,
) -> Run:  # fmt: skip
    """SGD with a conflict-aware rate (``rule``), with given factors, or with neither: the base rate.

    Args:
        given: the images; their seed is that of the initial weights.
        width: of the shared bottleneck.
        lr: base rate.
        steps: how many.
        rule: arguments of ``accord.ConflictAwareLR``.
        factors: (steps,) the base rate is multiplied with.
        weights: of the losses.
        tasks: one of both: single-task training.

    Example:
        >>> small = two_digits.data(0, train=256, validation=32, test=32)
        >>> run = train(small, 4, 0.1, 6, rule={"threshold": 0.0, "shrink": 0.5})
        >>> run.factors  # it looks at every second step
        [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    """
    net = two_digits.Net(given.seed, width)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    # The two halves of a task reach its head; what tasks share is the body alone.
    balancer = accord.Balancer(net, "Sum()", shared=list(net.body.parameters()))
    rates = monitor = None
    if rule is not None:
        rates = accord.ConflictAwareLR(optimizer, **rule)
        monitor = accord.Monitor(net, every=LOOK_EVERY, blocks="total")
        monitor.attach(balancer)
    run, spent = Run(), 0.0
    for t, i in enumerate(given.indices(BATCH, steps)):
        began = time.process_time()
        step = balancer.backward(losses(net, given.train, i, weights, tasks, halves=bool(rule and rule.get("halves"))))
        if rates is not None:
            rates.update(step)  # the factor holds for the step below; without a look it stays as it is
            run.factors.append(rates.factors["total"])
        elif factors is not None:
            optimizer.param_groups[0]["lr"] = lr * factors[t]
        optimizer.step()
        optimizer.zero_grad()
        spent += time.process_time() - began
        if (t + 1) % CHECK_EVERY == 0 or t + 1 == steps:
            run.steps.append(t + 1)
            run.worst.append(_worst(two_digits.evaluate(net, given.validation), tasks))
    run.milliseconds = 1000 * spent / steps
    test = two_digits.evaluate(net, given.test)
    run.found = test | {"worst loss": _worst(test, tasks), "worst validation loss": run.worst[-1]}
    run.found |= {"ms/step": run.milliseconds}
    if monitor is not None:
        run.found |= _conflict(monitor.record().gramian)
    return run


def _worst(found: dict[str, float], tasks: Sequence[str]) -> float:
    worst = max(found[f"{task} loss"] for task in tasks)
    return min(worst, LIMIT) if np.isfinite(worst) else LIMIT


def losses(
    net: two_digits.Net, part: two_digits.Part, i: torch.Tensor, weights: Sequence[float], tasks: Sequence[str],
    *, halves: bool,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """By task, or by task and half of the batch; either way they add up to the same."""
    if not halves:
        return two_digits.losses(net, part.x[i], part.t1[i], part.t2[i], weights, tasks)
    out: dict[str, torch.Tensor] = {}
    for name, j in zip("ab", i.chunk(2), strict=True):
        halved = [w / 2 for w in weights]
        found = two_digits.losses(net, part.x[j], part.t1[j], part.t2[j], halved, tasks)
        out |= {f"{task} {name}": loss for task, loss in found.items()}
    return out


def _conflict(gramians: np.ndarray) -> dict[str, float]:
    """Incidence, and, with two halves (T, 4, 4), how much of it a task has with itself."""
    if gramians.shape[-1] == 2:
        cosine = accord.conflict.cosine(gramians)[:, 0, 1]  # (T,)
        known = np.isfinite(cosine)  # both tasks have a gradient: features can die at a high rate
        if not known.any():
            return dict.fromkeys(("conflict", "cosine", "norm ratio"), float("nan"))
        lengths = accord.conflict.norms(gramians[known])  # (T, 2)
        ratio = float(np.median(lengths[:, 0] / lengths[:, 1]))
        return {
            "conflict": float((cosine < 0)[known].mean()),
            "cosine": float(cosine[known].mean()),
            "norm ratio": ratio,
        }
    across = gramians[:, :2, 2:]  # (T, 2, 2)
    itself = np.einsum("tii->ti", across)  # (T, 2)
    other = (across[:, 0, 1] + across[:, 1, 0]) / 2  # (T,)
    observed, null = float((other < 0).mean()), float((itself < 0).mean())
    squared = float(np.maximum(itself.mean(0), 0).prod())
    corrected = float(other.mean() / squared**0.5) if squared > 0 else float("nan")
    return {"conflict": observed, "null": null, "excess": observed - null, "cosine": corrected}


def controls(factors: Sequence[float], seed: int) -> Iterator[tuple[str, list[float]]]:
    """The same rates without the link to conflict.

    Example:
        >>> dict(controls([1.0, 0.25, 0.25], seed=0))["sorted"], dict(controls([1.0, 0.25], 0))["geometric mean"]
        ([1.0, 0.25, 0.25], [0.5, 0.5])
    """
    used = np.asarray(factors)  # (T,)
    shuffled = used[torch.randperm(len(used), generator=torch.Generator().manual_seed(seed)).numpy()]
    yield "base rate", [1.0] * len(used)
    yield "arithmetic mean", [float(used.mean())] * len(used)
    yield "geometric mean", [float(np.exp(np.log(used).mean()))] * len(used)
    yield "sorted", np.sort(used)[::-1].tolist()
    yield "permuted", shuffled.tolist()
