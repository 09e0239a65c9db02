"""E02: losses of unlike units. A regression in thousands and a classification below one share an encoder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import accord
from accord.report.chart import Axis, Intervals, Points, View
from accord.report.palette import method_style, reference_style, single_style
from accord.report.table import Column, Table
from accord.studies import drawing, patients
from accord.studies.judging import Claim, Test, above, all_of, below, equivalent
from accord.studies.patients import TASKS, Data, Net
from accord.studies.study import Array, Control, Results, Study, Work

STEPS, BATCH, CHECK_EVERY = 800, 64, 50
STATIC = {"0.3": 0.3, "1": 1.0, "3": 3.0, "10": 10.0, "30": 30.0}  # weight of T1 times the variance of its targets
# learning rates, of which the validation part chooses one: those of SGD follow the weights, so that the best of a pilot
# run with a seed of its own lies inside; Adam does not feel the size of a loss
RATES: dict[str, dict[str, tuple[float, ...]]] = {
    "SGD": {"raw": (3e-4, 1e-3, 3e-3), "doubled": (1e-2, 3e-2, 1e-1), "weighted": (3e-2, 1e-1, 3e-1),
            "halved": (1e-1, 3e-1, 1.0), "any": (1e-3, 1e-2, 1e-1)},
    "Adam": dict.fromkeys(("raw", "doubled", "weighted", "halved", "any"), (1e-2, 3e-2, 1e-1)),
}  # fmt: skip
OWN = "inverse gradient, heads apart"
GROUPS = {
    "weightings": ("sum", "inverse gradient", OWN, "inverse loss"),
    "uncertainty": ("uncertainty", "uncertainty from 0, in the loop"),
    "static": tuple(f"static {name}" for name in STATIC),
    "alone": ("T1 alone", "T2 alone"),
    "arms": ("sum", "inverse gradient", "uncertainty", "uncertainty from 0, in the loop", "static 1"),
}

# Thresholds, fixed before any run; from the specification of the study unless said otherwise.
RAISED = 0.08  # accuracy of T2
RATIO = 2.0  # decades between the weights of uncertainty weighting and those of inverse losses
OFF = 0.9  # of the variance: a regression above it is as good as switched off (within 10 % of chance)
NOISE = 0.04  # accuracy: differences below it are noise on 142 patients
SAME = 0.05  # relative difference of mean squared errors that counts as none; ours

Factor = Callable[[Net, dict[str, Tensor]], dict[str, Any]]


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Args:
        name: of the arm.
        rates: which learning rates it may try.
        method: combines the gradients.
        factor: what the losses are multiplied by before.
        tasks: both, or one alone.
        noise: the log variances are learned with the net, by its optimiser.
        heads: whether the weights reach the heads too, as they do where losses are weighted.
    """

    name: str
    rates: str = "weighted"
    method: str = "Sum()"
    factor: Factor = lambda net, losses: dict.fromkeys(TASKS, 1.0)
    tasks: tuple[str, ...] = TASKS
    noise: bool = False
    heads: Literal["plain", "weighted"] | None = None

    def weighted(self, net: Net, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is minimised: ``factor L``, and ``s / 2`` where s is learned."""
        factor, logs = self.factor(net, losses), {"T1": net.s1, "T2": net.s2}
        return {name: factor[name] * loss + (logs[name] / 2 if self.noise else 0.0) for name, loss in losses.items()}


def inverse_loss(net: Net, losses: dict[str, Tensor]) -> dict[str, Any]:
    """The weights ``1 / (2 L)`` that uncertainty weighting has at its optimum ``s = log L``."""
    return {name: 1 / (2 * loss.detach()) for name, loss in losses.items()}


def uncertainty(net: Net, losses: dict[str, Tensor]) -> dict[str, Any]:
    """The weights of the paper, ``exp(-s) / 2`` for a regression and ``exp(-s)`` for a classification."""
    return {"T1": torch.exp(-net.s1) / 2, "T2": torch.exp(-net.s2)}


def arms(group: str, variance: float) -> list[Arm]:
    """The arms of a group."""
    known = (
        Arm("sum", "raw"),
        Arm("inverse gradient", "doubled", method="InverseNorm()", heads="weighted"),
        Arm(
            OWN, "doubled", method="InverseNorm()", heads="plain"
        ),  # each head with its own gradient, whatever its weight
        Arm("inverse loss", "halved", factor=inverse_loss),
        Arm("uncertainty", "halved", method="UncertaintyWeighting()"),  # s from log L on, with an Adam of its own
        Arm("uncertainty from 0, in the loop", "any", factor=uncertainty, noise=True),
        Arm("T1 alone", "raw", tasks=("T1",)),
        Arm("T2 alone", tasks=("T2",)),
        *(Arm(f"static {name}", factor=static(c / variance)) for name, c in STATIC.items()),
    )
    return [arm for name in GROUPS[group] for arm in known if arm.name == name]


def static(first: float) -> Factor:
    """A fixed weight of T1."""
    return lambda net, losses: {"T1": first, "T2": 1.0}


def measure(work: Work) -> list[dict[str, Any]]:
    """Every arm of a cell at the learning rate that is best for it on the validation part."""
    optimizer, _, group = work.cell.partition(" ")
    data = patients.data(work.seed, shuffled=work.broken == "shuffled labels")
    rows = []
    for arm in arms(group, data.chance["T1"]):
        if work.broken == "no weighting" and arm.name == "inverse gradient":
            arm = replace(arm, method="Sum()", rates="raw", heads=None)
        rates = RATES[optimizer][arm.rates]
        tries = [train(work, data, arm, optimizer, rate) for rate in (rates[:1] if work.smoke else rates)]
        best = min(tries, key=lambda row: row["validation"])
        rows.append(best | {"optimizer": optimizer, "edge": float(best["rate"] in (rates[0], rates[-1]))})
    return rows


def train(work: Work, data: Data, arm: Arm, optimizer: str, rate: float) -> dict[str, Any]:
    """One training, how good it is on the parts that it has not seen, and on the way there."""
    net = Net(work.seed, arm.noise)
    trained = [p for p in net.parameters() if p.requires_grad]
    moves = torch.optim.SGD(trained, lr=rate) if optimizer == "SGD" else torch.optim.Adam(trained, lr=rate)
    balancer = accord.Balancer(net, arm.method, heads=arm.heads)
    weights, steps, taken, spent = np.ones(2), 3 if work.smoke else STEPS, 0, 0.0
    checks, looks = [*range(CHECK_EVERY, steps, CHECK_EVERY), steps], list[dict[str, float]]()
    for part in data.batches(BATCH, steps):
        began = time.process_time()
        losses = {name: loss for name, loss in net.losses(part).items() if name in arm.tasks}
        if not all(bool(loss.isfinite()) for loss in losses.values()):
            break  # the rate is too high: its validation loss says so
        step = balancer.backward(arm.weighted(net, losses))
        moves.step()
        moves.zero_grad()
        weights = step.weights.numpy() if step.weights is not None and len(arm.tasks) == 2 else weights  # (2,)
        taken, spent = taken + 1, spent + time.process_time() - began
        if taken in checks:
            looks.append(net.evaluate(data.test))  # not part of the cost
    looks += [net.evaluate(data.test)] * (len(checks) - len(looks))  # what has diverged stays as it is
    way = {f"{name} curve": [look[name] for look in looks] for name in ("T1 loss", "T2 accuracy")}
    cost = {"ms/step": 1000 * spent / max(taken, 1), "checks": checks}
    return {"arm": arm.name, "rate": rate} | cost | way | described(net, data, arm, weights, rate)


def described(net: Net, data: Data, arm: Arm, weights: Any, rate: float) -> dict[str, Any]:
    """Losses, the accuracy, and the weights that the tasks have in the end."""
    seen, kept, test = (net.evaluate(part) for part in (data.train, data.validation, data.test))
    level = {task: torch.tensor(seen[f"{task} loss"]) for task in TASKS}
    with torch.no_grad():
        factor = {task: float(value) for task, value in arm.factor(net, level).items()}
    first, second = (float(w) * factor[task] for w, task in zip(weights, TASKS, strict=True))
    validation = sum(kept[f"{task} loss"] / data.chance[task] for task in arm.tasks)  # each 1 at chance
    ratio = first / second * seen["T1 loss"] / seen["T2 loss"] if second > 0 else math.nan
    return test | {
        "validation": validation if math.isfinite(validation) else math.inf,
        "T1 over variance": test["T1 loss"] / data.chance["T1"],
        "T1 rate": rate * first,  # learning rate times weight
        "T2 rate": rate * second,
        "decades": math.log10(ratio) if ratio > 0 and math.isfinite(ratio) else math.nan,
    }


def tuned(results: Results, measure: str, optimizer: str = "SGD") -> Array:
    """(S,) a measure of the static weights that are best on the validation part."""
    names = [f"static {name}" for name in STATIC]
    found = np.array([results.values("validation", arm=name, optimizer=optimizer) for name in names])  # (W, S)
    values = np.array([results.values(measure, arm=name, optimizer=optimizer) for name in names])  # (W, S)
    return values[found.argmin(axis=0), np.arange(values.shape[1])]


def at_equal_cost(results: Results, measure: str, arm: str, optimizer: str) -> Array:
    """(S,) a measure of an arm at the step that the CPU time of the sum's whole training pays for."""
    at = {"arm": arm, "optimizer": optimizer}
    budget = results.values("ms/step", arm="sum", optimizer=optimizer) / results.values("ms/step", **at)  # (S,)
    checks, curves = results.curve("checks", **at), results.curve(f"{measure} curve", **at)  # (S, C) each
    paid = np.minimum(budget, 1.0) * checks[:, -1]  # (S,) steps
    return np.array([np.interp(*one) for one in zip(paid, checks, curves, strict=True)])


def judge(results: Results) -> tuple[Claim, ...]:
    """See the rules of the claims."""

    def get(measure: str, arm: str, optimizer: str = "SGD") -> Array:
        return results.values(measure, arm=arm, optimizer=optimizer)

    def raised(optimizer: str) -> Test:
        base, paid = get("T2 accuracy", "sum", optimizer), ("T2 accuracy", "inverse gradient", optimizer)
        return all_of(above("gain of T2 at equal steps", get(*paid) - base, RAISED),
                      above("at equal cost", at_equal_cost(results, *paid) - base, RAISED))  # fmt: skip

    decades = {name: np.abs(get("decades", "uncertainty", name)) for name in RATES}
    t1, t2 = (get(name, "inverse gradient") for name in ("T1 loss", "T2 accuracy"))
    loop = "uncertainty from 0, in the loop"
    return (
        Claim("inverse gradient", "Weights inverse to the gradients save the task of small numbers, under SGD.",
              f"supported if they raise T2's accuracy by {RAISED:g} over the sum, each at its own rate, after as many "
              "steps and also where they have cost as much CPU time as the sum's whole training; not supported if one "
              "of the two gains is smaller",
              raised("SGD")),
        Claim("at no cost", "They cost the task of large numbers nothing.",
              f"supported if T1's squared error is not higher than the sum's by {SAME:.0%}",
              below("relative difference of T1", t1 / get("T1 loss", "sum") - 1, SAME)),
        Claim("under Adam", "They do the same under Adam.",
              f"supported if they raise T2's accuracy by {RAISED:g} there, at equal steps and at equal cost",
              raised("Adam")),
        Claim("static does as well", "One fixed weight, with a learning rate of its own, does as much as they do.",
              f"supported if the best of {len(STATIC)} static weights is equal within {NOISE:g} of accuracy and "
              f"{SAME:.0%} of squared error",
              all_of(equivalent("T2", t2 - tuned(results, "T2 accuracy"), NOISE),
                     equivalent("T1", t1 / tuned(results, "T1 loss") - 1, SAME))),
        Claim("uncertainty is sane", "Uncertainty weighting from s = log L ends near the weights of inverse losses.",
              f"supported if its ratio of weights is less than {10**RATIO:g} times off under both optimisers",
              all_of(*(below(f"decades, {name}", values, RATIO) for name, values in decades.items()))),
        Claim("log terms suffice", "The log terms keep learned uncertainties from switching a task off.",
              f"supported if from s = 0, learned by the net's SGD, T1's squared error is below {OFF:g} of the variance",
              below("T1 over variance", get("T1 over variance", loop), OFF)),
    )  # fmt: skip


def charts(results: Results) -> tuple[View, ...]:
    """Both tasks by arm and optimiser, and the plane of both."""
    arms = [arm for arm in results.levels("arm") if arm not in ("T1 alone", "T2 alone")]
    both = [arm for arm in arms if results.where(arm=arm, optimizer="Adam")]
    alone = {task: results.values(measure, arm=f"{task} alone", optimizer="SGD")
             for task, measure in zip(TASKS, ("T1 loss", "T2 accuracy"), strict=True)}  # fmt: skip
    rows = tuple(
        Intervals(title, axis, tuple(
            drawing.estimate(f"{arm}, {name}", results.values(measure, arm=arm, optimizer=name), method_style(i))
            for arm in both for i, name in enumerate(RATES)), level)
        for title, measure, axis, level in (
            ("T1: progression; line: the mean", "T1 over variance", Axis("squared error over variance"), 1.0),
            ("T2: sex; line: a coin", "T2 accuracy", Axis("accuracy", share=True), 0.5),
        )
    )  # fmt: skip
    points = []
    for i, arm in enumerate(arms):
        t1, t2 = (results.values(measure, arm=arm, optimizer="SGD") for measure in ("T1 loss", "T2 accuracy"))
        points.append(drawing.point(arm, t1, t2, reference_style() if arm == "sum" else method_style(i)))
    t1, t2 = alone["T1"], alone["T2"]
    points.append(drawing.point("each alone", t1, t2, single_style()))
    corner = (float(np.nanmean(t1)), float(np.nanmean(t2)), "each alone")
    plane = Points("SGD, each arm at its own rate", Axis("squared error of T1"), Axis("accuracy of T2"),
                   tuple(points), corner)  # fmt: skip
    return View("Both tasks by arm and optimiser", rows), View("Left and up is better", (plane,))


def tables(results: Results) -> tuple[Table, ...]:
    """Every arm at the rate that validation chose."""
    shown_measures = ("T1 loss", "T2 accuracy", "T2 loss", "rate", "T1 rate", "T2 rate", "decades", "edge", "ms/step")
    base = {"T1": results.values("T1 loss", arm="T1 alone", optimizer="SGD"),
            "T2": results.values("T2 accuracy", arm="T2 alone", optimizer="SGD")}  # fmt: skip
    rows = []
    for optimizer in RATES:
        for arm in dict.fromkeys(row["arm"] for row in results.where(optimizer=optimizer)):
            at = {"arm": arm, "optimizer": optimizer}
            t1, t2 = results.values("T1 loss", **at), results.values("T2 accuracy", **at)
            delta = (1 - t1 / base["T1"] + t2 / base["T2"] - 1) / 2  # (S,), Delta-m: above 0 is better than alone
            cells = [drawing.text(results.values(measure, **at)) for measure in shown_measures]
            cells += [drawing.text(at_equal_cost(results, measure, **at)) for measure in ("T1 loss", "T2 accuracy")]
            rows.append((f"{arm}, {optimizer}", "-" if "alone" in arm else drawing.text(delta), *cells))
    columns = ("arm", "Delta-m", "T1 squared error", "T2 accuracy", "T2 loss", "rate", "rate times weight of T1",
               "rate times weight of T2", "decades from inverse loss", "rate at the edge", "ms/step",
               "T1 squared error at equal cost", "T2 accuracy at equal cost")  # fmt: skip
    caption = (
        f"{patients.TEST} test patients; means over seeds with 95 % intervals. {STEPS} steps; three rates for each "
        "arm, chosen on the validation part by the sum of both losses over chance. "
        "Decades: how far the ratio of the weights is from that of inverse losses. Delta-m: against each task alone "
        "under SGD. At equal cost: where an arm has used as much CPU time as the whole training with the sum, read off "
        f"the line between looks at the test patients at every {CHECK_EVERY}th step; ms/step leaves evaluation out. "
        "With so few patients ten seeds are the least: look at both sets together."
    )
    return (Table("Every arm at its own learning rate", tuple(map(Column, columns)), tuple(rows), caption),)


STUDY = Study(
    name="E02",
    title="Loss scales: uncertainty and inverse-gradient weighting",
    question="A regression with losses in thousands and a classification with losses below one share an encoder. Which "
    "weighting saves the small one, and is it more than a learning rate?",
    survey="The survey says that weights inverse to the gradients keep a task from drowning the others, and that "
    "learned uncertainties balance the losses, where log terms prevent infinite uncertainty. They equalise gradients, "
    "not updates; and nothing in the log term keeps a first step from overshooting.",
    controls=(
        Control(
            "static weights, five points, each at its own rate", "that more than the ratio of two numbers is needed"
        ),
        Control(
            "a learning rate of its own for every arm", "that a weighting wins or loses by the length of its steps"
        ),
        Control("equal CPU time", "that a weighting wins by costing more: it is also read where the sum's budget ends"),
        Control("heads apart", "that a weighting works by what it does to the heads"),
        Control("inverse losses in closed form", "that learning the uncertainties adds something"),
        Control("each task alone", "that T2 cannot be learned, or T1 not better"),
        Control("Adam beside SGD", "that the finding belongs to one optimiser"),
    ),
    cells=("SGD weightings", "SGD uncertainty", "SGD static", "SGD alone", "Adam arms"),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        "no weighting": "inverse-gradient weighting is the plain sum: it must not raise T2",
        "shuffled labels": "the sexes are dealt out at random: nothing can raise T2",
    },
    seconds=100.0,
)
