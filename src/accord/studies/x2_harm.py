"""X2: harm under real optimisers. Surgery makes the gradient harmless; is the step harmless, too?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

import accord
from accord import conflict
from accord.report.chart import Axis, Bars, Points, View
from accord.report.palette import method_style, reference_style
from accord.report.table import Column, Table
from accord.studies import drawing, two_digits
from accord.studies.judging import Claim, above, all_of, below
from accord.studies.study import Array, Control, Results, Study, Work
from accord.studies.two_digits import TASKS, Data, Fit, Net

WIDTH, STEPS, LOOK, CHECK, BATCH = 4, 450, 10, 50, 128
SWEEP = {"1:1": (1.0, 1.0), "5:4": (1.25, 1.0), "2:1": (2.0, 1.0), "4:5": (1.0, 1.25), "1:2": (1.0, 2.0)}
# Two tasks: UPGrad's direction is half of PCGrad's, so with scale="sum" they are one method; a test says so.
SUM, SURGERY, PROJECTED = "Sum()", "PCGrad()", "projected step"

# Thresholds, fixed before any run; from the specification of the study unless said otherwise.
HARMLESS = 0.05  # share of steps; "harm rate after surgery under Adam < 5 %" is its falsifier
EXACT = 0.01  # share of steps of what is zero by construction; ours
GAIN = 0.05  # nat of the worse task's loss, below which a gain is not worth a second backward pass; ours
TOLERANCE = 1e-4  # a cosine below it is rounding: a step is the difference of two float32 parameters; ours


def muon(net: Net) -> torch.optim.Optimizer:
    """Muon for the weight matrices of the body; biases and heads, which it is not made for, go with Adam."""
    matrices = [p for p in net.body.parameters() if p.ndim == 2]
    others = [p for p in net.parameters() if all(p is not m for m in matrices)]
    adam = torch.optim.Adam(others, lr=2e-3)
    moves = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0)
    moves.register_step_post_hook(lambda *_: adam.step())  # made first, so whoever hooks in later sees both as one step
    return moves


# Learning rates were chosen for the plain sum; scale="sum" gives them the same meaning for every method.
OPTIMIZERS: dict[str, Callable[[Net], torch.optim.Optimizer]] = {
    "SGD": lambda net: torch.optim.SGD(net.parameters(), lr=0.3),
    "momentum": lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9),
    "Adam": lambda net: torch.optim.Adam(net.parameters(), lr=2e-3),
    "Adam b1=0": lambda net: torch.optim.Adam(net.parameters(), lr=2e-3, betas=(0.0, 0.999)),
    "Muon": muon,
}


def measure(work: Work) -> list[dict[str, Any]]:
    """The three methods under one optimiser; beside Adam also the controls of the losses."""
    small = {"train": 300, "validation": 60, "test": 60} if work.smoke else {}
    data = two_digits.data(work.seed, **small)
    reference = arm(work, data, SUM)
    budget = reference["ms/step"]
    rows = [reference, *(arm(work, data, method, budget) for method in (SURGERY, PROJECTED))]
    if work.cell == "Adam":
        rows += [arm(work, data, SUM, budget, name=name, weights=SWEEP[name]) for name in list(SWEEP)[1:]]
        rows += [arm(work, data, SUM, budget, name=f"{task} alone", tasks=(task,)) for task in TASKS]
        rows += [arm(work, data, SURGERY, budget, name="PCGrad, norm matched", scale="match-norm")]
    return rows


def arm(
    work: Work, data: Data, method: str, budget: float = float("nan"), *, name: str = "", **settings: Any
) -> dict[str, Any]:
    """Train one net and describe it.

    Args:
        work: the optimiser is the cell.
        data: the images.
        method: of a Balancer, or the projection of the step.
        budget: milliseconds per step of the plain sum, for the comparison at equal cost.
        name: of the arm; by default the method.
        settings: of ``train``.
    """
    name = name or method
    if work.broken == "no projection":
        method = SUM
    averaged = work.cell != "Adam" or work.broken != "no averaging"
    fit, seen, guard = train(work, data, OPTIMIZERS[work.cell if averaged else "Adam b1=0"], method, **settings)
    row: dict[str, Any] = {
        "arm": name,
        "optimizer": work.cell,
        "ms/step": fit.milliseconds,
        **two_digits.evaluate(fit.net, data.test),
    }
    row["worst loss"] = max(row[f"{task} loss"] for task in TASKS)
    row["worst validation loss"] = max(fit.curves[f"{task} loss"][-1] for task in TASKS)
    row["worst validation loss at equal cost"] = max(fit.at_equal_cost(budget, f"{task} loss") for task in TASKS)
    row["corrected steps"] = float("nan") if guard is None else guard.changed / max(guard.steps, 1)
    for batch in ("same", "held_out"):  # losses looked at again after the step
        row[f"realised harm, {batch}"] = float(np.mean([one.harmed(batch).any() for one in seen])) if seen else np.nan
    return row | gradients(fit, method)


def train(
    work: Work, data: Data, optimizer: Callable[[Net], torch.optim.Optimizer], method: str, *,
    weights: tuple[float, float] = SWEEP["1:1"], tasks: tuple[str, ...] = TASKS, scale: Any = "sum",
) -> tuple[Fit, list[accord.effect.Realised], accord.effect.StepProjection | None]:  # fmt: skip
    """A loop as a user has it, with looks at what the optimiser's step really does.

    Args:
        work: the seed; a smoke run has a few steps.
        data: the images.
        optimizer: made from the net.
        method: a spelling, or the projection of the step that the plain sum leads to.
        weights: of the losses.
        tasks: one of both: single-task training.
        scale: of the combined gradient.

    Returns:
        The fit with its record, the losses before and after each step that was looked at, and the projection.
    """
    steps, look, check = (4, 2, 2) if work.smoke else (STEPS, LOOK, CHECK)
    fit, part = Fit(Net(work.seed, WIDTH)), data.train
    moves = optimizer(fit.net)
    balancer = accord.Balancer(fit.net, SUM if method == PROJECTED else method, scale=scale)
    guard = accord.effect.StepProjection(balancer, moves) if method == PROJECTED else None  # before the Monitor
    monitor = accord.Monitor(fit.net, every=look, blocks="total", optimizer=moves)
    if len(tasks) > 1:  # one gradient has no angle
        monitor.attach(balancer)
    seen, spent, counted = [], 0.0, 0
    others = replace(data, train=data.validation).indices(BATCH, steps)

    def losses(part: two_digits.Part, i: torch.Tensor) -> Callable[[], dict[str, torch.Tensor]]:
        return lambda: two_digits.losses(fit.net, part.x[i], part.t1[i], part.t2[i], weights, tasks)

    for number, (i, j) in enumerate(zip(data.indices(BATCH, steps), others, strict=True), 1):
        same, held_out = losses(part, i), losses(data.validation, j)
        if (number - 1) % look == 0 and len(tasks) > 1:
            with accord.effect.realised(fit.net, same=same, held_out=held_out) as looked:
                one_step(balancer, moves, fit.net, same)
            seen.append(looked)
        else:  # looks are no part of a method's price
            began = time.process_time()
            one_step(balancer, moves, fit.net, same)
            spent, counted = spent + time.process_time() - began, counted + 1
        if number % check == 0 or number == steps:
            fit.steps.append(number)
            for key, value in two_digits.evaluate(fit.net, data.validation).items():
                fit.curves.setdefault(key, []).append(value)
    fit.milliseconds = 1000 * spent / max(counted, 1)
    fit.record = monitor.record() if len(tasks) > 1 else None
    return fit, seen, guard


def one_step(balancer: accord.Balancer, moves: torch.optim.Optimizer, net: nn.Module, losses: Any) -> None:
    """Losses to a Balancer in place of ``sum(losses).backward()``, then the optimiser."""
    balancer.backward(losses())
    moves.step()
    net.zero_grad()


def gradients(fit: Fit, method: str) -> dict[str, float]:
    """Conflict, and first-order harm in gradient space and in update space, over the looks; nothing for a task alone.

    Harm is the share of the looks on which *some* task's loss is raised: by the plain sum of the gradients (``sum``),
    by what the method made of them (``aggregate``), by what the optimiser made of that (``step``).
    """
    if fit.record is None:
        return {}
    gramian = fit.record.gramian  # (T, 2, 2)
    row = {
        "cosine": float(np.nanmean(conflict.cosine(gramian)[:, 0, 1])),
        "conflict": float(np.nanmean(conflict.incidence(gramian))),
        "norm ratio": float(np.nanmean(conflict.norm_ratio(gramian))),
        "intervened": float(conflict.rate(conflict.intervened(fit.record.weights)).value),
    }
    for name, line in conflict.lines(fit.record).items():
        anybody = (line.relative > TOLERANCE).any(axis=1)  # (T,)
        row[f"harm {name}"] = float(anybody.mean())
    if method == SURGERY:
        left = conflict.survival(gramian, accord.PCGrad().corrected(gramian))  # (T, 2)
        row["survival"] = float(np.nanmean(left))
    return row


def difference(results: Results, measure: str, one: str, other: str, other_measure: str = "") -> Array:
    """(S,) paired by seed, under Adam."""
    mine = results.values(measure, arm=one, optimizer="Adam")
    return mine - results.values(other_measure or measure, arm=other, optimizer="Adam")


def tuned(results: Results) -> Array:
    """(S,) the worse task's test loss under the static weights that are best for it on validation images."""
    names = [SUM, *list(SWEEP)[1:]]  # 1 : 1 is the plain sum
    validation = np.array([results.values("worst validation loss", arm=name, optimizer="Adam") for name in names])
    test = np.array([results.values("worst loss", arm=name, optimizer="Adam") for name in names])
    return test[validation.argmin(axis=0), np.arange(test.shape[1])]


def judge(results: Results) -> tuple[Claim, ...]:
    """See the rules of the claims."""

    def harm(arm: str, optimizer: str, space: str = "step") -> Array:
        return results.values(f"harm {space}", arm=arm, optimizer=optimizer)

    spared = harm(SURGERY, "Adam") - harm(SURGERY, "Adam b1=0")  # (S,)
    later = difference(results, "worst validation loss at equal cost", PROJECTED, SUM, "worst validation loss")
    against_tuned = results.values("worst loss", arm=PROJECTED, optimizer="Adam") - tuned(results)
    return (
        Claim("gradient", "After surgery the combined gradient raises nobody's loss to first order.",
              f"supported if it does on less than {EXACT:.0%} of the steps, under all of {len(OPTIMIZERS)} optimisers",
              all_of(*(below(name, harm(SURGERY, name, "aggregate"), EXACT) for name in OPTIMIZERS))),
        Claim("Adam", "So nobody pays: Adam's step after surgery raises nobody's loss to first order either.",
              f"supported if it raises somebody's on less than {HARMLESS:.0%} of the steps, not supported if on more",
              below("harm of the step", harm(SURGERY, "Adam"), HARMLESS)),
        Claim("momentum", "The same for SGD with momentum.", f"as for Adam, {HARMLESS:.0%}",
              below("harm of the step", harm(SURGERY, "momentum"), HARMLESS)),
        Claim("Muon", "The same for Muon.", f"as for Adam, {HARMLESS:.0%}",
              below("harm of the step", harm(SURGERY, "Muon"), HARMLESS)),
        Claim("averaging", "It is the average over earlier gradients that undoes surgery, not the scaling of each "
              "parameter.",
              f"supported if without it (beta1 = 0) Adam's step harms on less than {HARMLESS:.0%} of the steps, and on "
              f"{HARMLESS:.0%} of all steps fewer than with it",
              all_of(below("harm with beta1 = 0", harm(SURGERY, "Adam b1=0"), HARMLESS),
                     above("harm spared", spared, HARMLESS))),
        Claim("update space", "Projecting the step itself makes every optimiser's step harmless.",
              f"supported if it harms on less than {EXACT:.0%} of the steps, under all of {len(OPTIMIZERS)} optimisers",
              all_of(*(below(name, harm(PROJECTED, name), EXACT) for name in OPTIMIZERS))),
        Claim("less harm, less loss", "Adam with harmless steps ends with a lower loss of the worse task.",
              f"supported if it is lower by {GAIN:g} nat than under the sum at equal steps and at equal cost, and than "
              f"under the best of {len(SWEEP)} static weights; not supported if one gain is smaller",
              all_of(below("minus the sum", difference(results, "worst loss", PROJECTED, SUM), -GAIN),
                     below("at equal cost", later, -GAIN), below("minus static weights", against_tuned, -GAIN))),
    )  # fmt: skip


def charts(results: Results) -> tuple[View, ...]:
    """Harm by optimiser in both spaces, and against the loss that comes of it."""
    names = [name for name in OPTIMIZERS if name in results.levels("optimizer")]
    looks = ((SUM, reference_style()), (SURGERY, method_style(0)), (PROJECTED, method_style(1)))
    titles = {"harm aggregate": "The gradient handed to the optimiser", "harm step": "The optimiser's step",
              "realised harm, same": "Losses really raised, same batch",
              "realised harm, held_out": "Losses really raised, held-out batch"}  # fmt: skip
    panels = [
        Bars(title, tuple(names),
             tuple(drawing.bar(arm, [results.values(key, arm=arm, optimizer=name) for name in names], style)
                   for arm, style in looks), Axis("share of steps", share=True), limit=1.0)
        for key, title in titles.items()
    ]  # fmt: skip
    points = []
    for optimizer in names:
        for arm, style in looks:
            x, y = (results.values(key, arm=arm, optimizer=optimizer) for key in ("harm step", "worst loss"))
            points.append(drawing.point(arm, x, y, style, note=optimizer))
    axes = Axis("harmful steps", share=True), Axis("test loss of the worse task in nat")
    return (
        View("Steps that raise some task's loss, to first order", tuple(panels[:2])),
        View("Steps that really raised some task's loss", tuple(panels[2:])),
        View("Does less harm mean less loss?", (Points("One mark per optimiser and method", *axes, tuple(points)),)),
    )


MEASURES = ("conflict", "cosine", "norm ratio", "intervened", "survival", "corrected steps")
HARM = ("harm sum", "harm aggregate", "harm step", "realised harm, same", "realised harm, held_out")
REACHED = ("T1 loss", "T2 loss", "worst loss", "T1 accuracy", "T2 accuracy", "worst validation loss at equal cost")


def tables(results: Results) -> tuple[Table, ...]:
    """Harm and gradients; what was reached, at which price."""
    arms = list(dict.fromkeys((row["optimizer"], row["arm"]) for row in results.rows))

    def cell(measure: str, at: dict[str, str]) -> str:
        there = all(measure in row for row in results.where(**at))
        return drawing.text(results.values(measure, **at)) if there else "-"

    harm, reached = [], []
    for optimizer, arm in arms:
        at = {"optimizer": optimizer, "arm": arm}
        label = f"{optimizer}: {arm}"
        if "alone" not in arm:
            harm.append((label, *(cell(measure, at) for measure in (*HARM, *MEASURES))))
        delta = "-"
        if optimizer == "Adam" and "alone" not in arm:
            parts = [difference(results, f"{t} accuracy", arm, f"{t} alone")
                     / results.values(f"{t} accuracy", arm=f"{t} alone", optimizer="Adam") for t in TASKS]  # fmt: skip
            delta = drawing.text(np.mean(parts, axis=0))
        reached.append((label, *(cell(measure, at) for measure in REACHED), delta, cell("ms/step", at)))
    return (
        Table("Who is harmed, and by what", tuple(map(Column, ("arm", *HARM, *MEASURES))), tuple(harm),
              f"Share of the looks (one in {LOOK} steps) on which some loss is raised, to first order and really. "
              "Means over seeds with 95 % intervals. Shared body; not corrected for the noise of mini-batches. Losses "
              "on a held-out batch also rise by that noise alone."),
        Table("What was reached, and its price", tuple(map(Column, ("arm", *REACHED, "Delta-m", "ms/step"))),
              tuple(reached), "Test images; equal cost on validation images. Delta-m: mean change of accuracy against "
              "each task alone, under Adam. Milliseconds of CPU time without looks and evaluations. The projection "
              "takes the task gradients apart from the Balancer, so it is dearer than it need be."),
    )  # fmt: skip


STUDY = Study(
    name="X2",
    title="Harm under real optimisers",
    question="Gradient surgery hands the optimiser a gradient that raises nobody's loss. Does the step that the "
    "optimiser makes of it raise somebody's?",
    survey="The survey says that projecting conflicting gradients keeps one task's update from making another worse. "
    "That is so for the combined gradient, to first order; averaging over earlier gradients and scaling each "
    "parameter come after it. Nor is a negative cosine harm: the sum of two gradients hurts a task only if "
    "cos < -|g1|/|g2|.",
    controls=(
        Control("the plain sum under each optimiser", "that the optimiser harms as much without surgery"),
        Control("Adam with beta1 = 0", "that the scaling of each parameter does it, not the average"),
        Control("static weights, five points, chosen on validation images", "that other weights reach the same loss"),
        Control("each task alone", "that the net cannot learn a task at all"),
        Control("equal cost", "that a gain per step is lost by what the step costs"),
        Control("PCGrad, norm matched", "that longer steps do it, not another direction"),
        Control("losses looked at again, on the same and on a held-out batch", "that first-order harm is no real harm"),
    ),
    cells=tuple(OPTIMIZERS),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        "no projection": "PCGrad and the projection of the step are replaced by the sum: the claims on the gradient "
        "and on update space must not be supported",
        "no averaging": "Adam runs with beta1 = 0: its claim must be supported, and that on averaging must not",
    },
    seconds=61.0,
)
