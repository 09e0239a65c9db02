"""E03: gradient surgery. Does it pay, and what becomes of the task that is always projected?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

import accord
from accord import conflict
from accord.report.chart import Axis, Bars, Curves, Points, View
from accord.report.palette import Style, method_style, reference_style, single_style
from accord.report.table import Column, Table
from accord.studies import drawing, two_digits
from accord.studies.judging import Claim, Test, above, all_of, below
from accord.studies.study import Array, Control, Results, Study, Work
from accord.studies.two_digits import TASKS, Data, Fit

STEPS, CHECK, LOOK, RATE = 550, 50, 10, 2e-3
NARROW, WIDER = 2, 8
# In the order of their names: T1, T2. Two tasks: UPGrad's direction is half of PCGrad's, so with scale="sum" they are
# one method, and Lexicographic is A-GEM; tests say so.
SUM, SURGERY, SPARED, FIRST = "Sum()", "PCGrad()", "Lexicographic(ranks=(1, 0))", "Lexicographic(ranks=(0, 1))"
METHODS = {
    SUM: "sum",
    SURGERY: "PCGrad (= UPGrad)",
    SPARED: "T2 before T1",
    FIRST: "T1 before T2",
    "CAGrad()": "CAGrad",
}
SWEEP = {"1:1": (1.0, 1.0), "5:4": (1.25, 1.0), "2:1": (2.0, 1.0), "4:5": (1.0, 1.25), "1:2": (1.0, 2.0)}
CORRECTS = {
    SURGERY: accord.PCGrad(),
    SPARED: accord.Lexicographic(ranks=(1, 0)),
    FIRST: accord.Lexicographic(ranks=(0, 1)),
}
MATCHED = "PCGrad, norm matched"

# Thresholds, fixed before any run; from the specification of the study unless said otherwise.
STALL = 0.2  # nat by which the projected task must stay behind its loss under the sum
ABLE = math.log(10) - 0.2  # nat: a task that gets below it alone is not unable to learn (chance is ln 10); ours
GAIN = 0.05  # nat of the worse task's loss, below which a gain is not worth a second backward pass; ours
LITTLE = 0.3  # a gradient of which less survives counts as gone


def measure(work: Work) -> list[dict[str, Any]]:
    """All arms of a width."""
    small = {"train": 300, "validation": 60, "test": 60} if work.smoke else {}
    data = two_digits.data(work.seed, **small)
    width = int(work.cell.removeprefix("w="))
    reference = arm(work, data, width, METHODS[SUM])
    budget = reference["ms/step"]
    rows = [reference]
    rows += [arm(work, data, width, name, budget, method=method) for method, name in METHODS.items() if method != SUM]
    rows += [arm(work, data, width, MATCHED, budget, method=SURGERY, scale="match-norm")]
    rows += [arm(work, data, width, name, budget, weights=SWEEP[name]) for name in list(SWEEP)[1:]]
    return rows + [arm(work, data, width, f"{task} alone", budget, tasks=(task,)) for task in TASKS]


def arm(
    work: Work, data: Data, width: int, name: str, budget: float = float("nan"), *, method: str = SUM, **settings: Any
) -> dict[str, Any]:
    """Train one net and describe it.

    Args:
        work: the seed; a smoke run has a few steps.
        data: the images.
        width: of the bottleneck.
        name: of the arm.
        budget: milliseconds per step of the plain sum, for the comparison at equal cost.
        method: its spelling.
        settings: of ``two_digits.train``.
    """
    method = SUM if work.broken == "no projection" else method
    steps, check, look = (4, 2, 2) if work.smoke else (STEPS, CHECK, LOOK)
    fit = two_digits.train(
        two_digits.Net(work.seed, width), data, method=method, steps=steps, check_every=check, look_every=look,
        optimizer=lambda p: torch.optim.Adam(p, lr=RATE), **settings,
    )  # fmt: skip
    row: dict[str, Any] = {"arm": name, "width": width, "ms/step": fit.milliseconds, "step": fit.steps}
    row |= two_digits.evaluate(fit.net, data.test)
    row["worst loss"] = max(row[f"{task} loss"] for task in TASKS)
    row["total loss"] = sum(row[f"{task} loss"] for task in TASKS)
    row["worst validation loss"] = max(fit.curves[f"{task} loss"][-1] for task in TASKS)
    row["worst validation loss at equal cost"] = max(fit.at_equal_cost(budget, f"{task} loss") for task in TASKS)
    row |= {f"{task} loss curve": fit.curves[f"{task} loss"] for task in TASKS}
    return row | gradients(fit, method)


def gradients(fit: Fit, method: str) -> dict[str, float]:
    """What conflict there was in the shared body, and what surgery left of each gradient; over the looks."""
    if fit.record is None:  # one task alone
        return {}
    gramian = fit.record.gramian  # (T, 2, 2)
    row = {
        "cosine": float(np.nanmean(conflict.cosine(gramian)[:, 0, 1])),
        "conflict": float(np.nanmean(conflict.incidence(gramian))),
        "norm ratio": float(np.nanmean(conflict.norm_ratio(gramian))),
        "intervened": float(conflict.rate(conflict.intervened(fit.record.weights)).value),
    }
    for name, line in conflict.lines(fit.record).items():  # on how many looks is *some* loss raised, to first order
        row[f"harm {name}"] = float((line.relative > 1e-4).any(axis=1).mean())
    left = np.full((len(gramian), 2), np.nan)  # (T, 2); the sum and CAGrad have no corrected gradient of one task
    if method in CORRECTS:
        left = conflict.survival(gramian, CORRECTS[method].corrected(gramian))
    for i, task in enumerate(TASKS):
        there = left[np.isfinite(left[:, i]), i]
        row[f"{task} survival"] = float(there.mean()) if len(there) else float("nan")
        row[f"{task} least survival"] = float(there.min()) if len(there) else float("nan")
        row[f"{task} gone"] = float((there < LITTLE).mean()) if len(there) else float("nan")
    return row


def against_sum(results: Results, measure: str, arm: str, width: int) -> Array:
    """(S,) paired by seed."""
    return results.values(measure, arm=arm, width=width) - results.values(measure, arm=METHODS[SUM], width=width)


def tuned(results: Results, width: int) -> Array:
    """(S,) the worse task's test loss under the static weights that are best for it on validation images."""
    names = [METHODS[SUM], *list(SWEEP)[1:]]  # 1 : 1 is the plain sum
    validation = np.array([results.values("worst validation loss", arm=name, width=width) for name in names])
    test = np.array([results.values("worst loss", arm=name, width=width) for name in names])
    return test[validation.argmin(axis=0), np.arange(test.shape[1])]


def benefit(results: Results, width: int) -> Test:
    """Whether PCGrad gains enough against all that could do the same for less."""
    name = METHODS[SURGERY]
    mine = results.values("worst loss", arm=name, width=width)
    later = results.values("worst validation loss at equal cost", arm=name, width=width)
    later = later - results.values("worst validation loss", arm=METHODS[SUM], width=width)
    return all_of(
        below("minus the sum", against_sum(results, "worst loss", name, width), -GAIN),
        below("at equal cost", later, -GAIN),
        below("norm matched, minus the sum", against_sum(results, "worst loss", MATCHED, width), -GAIN),
        below("minus static weights", mine - tuned(results, width), -GAIN),
    )


def judge(results: Results) -> tuple[Claim, ...]:
    """See the rules of the claims."""
    spared = METHODS[SPARED]
    behind = against_sum(results, "T1 loss", spared, NARROW)  # (S,)
    alone = results.values("T1 loss", arm="T1 alone", width=NARROW)  # (S,)
    left = [results.values("T1 survival", arm=spared, width=width) for width in (NARROW, WIDER)]
    rule = (
        f"supported if the worse task's loss is lower by {GAIN:g} nat than under the sum at equal steps, at equal "
        f"cost, and with the norm of the sum, and than under the best of {len(SWEEP)} static weights; not supported if "
        "one gain is smaller"
    )
    return (
        Claim("stall", f"With {NARROW} shared units the task that is always projected hardly learns.",
              f"supported if T1 under 'T2 before T1' stays {STALL:g} nat behind the plain sum, and alone gets below "
              f"{ABLE:.2f} nat; not supported if it comes within {STALL:g}",
              all_of(above("T1 behind the sum", behind, STALL), below("T1 alone", alone, ABLE))),
        Claim("hidden", "The sum of the losses does not show it: it is lower than under the plain sum.",
              "supported if the difference of the sums of losses is below zero",
              below("sum of losses", against_sum(results, "total loss", spared, NARROW), 0.0)),
        Claim("alarm", "The survival ratio shows it: less of T1's gradient is left than in a net where T1 learns.",
              f"supported if it is lower with {NARROW} units than with {WIDER}",
              below("survival", left[0] - left[1], 0.0)),
        *(Claim(f"benefit w={width}", f"Surgery (PCGrad) gives better final performance with {width} shared units.",
                rule, benefit(results, width)) for width in (NARROW, WIDER)),
    )  # fmt: skip


LOOKS = dict(zip(METHODS.values(), [reference_style(), *map(method_style, range(4))], strict=True))


def look_of(arm: str) -> Style:
    """The style of an arm, the same in every picture."""
    if "alone" in arm:
        return single_style()
    return LOOKS.get(arm, method_style(4 if arm == MATCHED else 5))


def charts(results: Results) -> tuple[View, ...]:
    """Who learns, what survives, and the plane of both losses."""
    widths = [width for width in (NARROW, WIDER) if width in results.levels("width")]
    views = []
    for width in widths:
        step = results.where(arm=METHODS[SUM], width=width)[0]["step"]
        panels = tuple(
            Curves(f"{task} on validation images", Axis("step"), Axis("loss in nat"),
                   tuple(drawing.line("alone" if "alone" in arm else arm, step,
                                      results.curve(f"{task} loss curve", arm=arm, width=width), look)
                         for arm, look in (*LOOKS.items(), (f"{task} alone", single_style()))), level=math.log(10))
            for task in TASKS
        )  # fmt: skip
        views.append(View(f"Losses with {width} shared units; the line is chance", panels))
    corrected = [METHODS[name] for name in (SURGERY, SPARED, FIRST)]
    survival = tuple(
        Bars(f"Gradient of {task}", tuple(f"{width} units" for width in widths),
             tuple(drawing.bar(arm, [results.values(f"{task} survival", arm=arm, width=width) for width in widths],
                             look_of(arm)) for arm in corrected), Axis("length left", share=True), limit=1.0)
        for task in TASKS
    )  # fmt: skip
    views.append(View("What surgery leaves of each gradient, mean over the looks", survival))
    fronts = []
    for width in widths:
        arms = [arm for arm in results.levels("arm") if "alone" not in arm]
        at = [(arm, *(results.values(f"{task} loss", arm=arm, width=width) for task in TASKS)) for arm in arms]
        x, y = (float(results.values(f"{t} loss", arm=f"{t} alone", width=width).mean()) for t in TASKS)
        fronts.append(
            Points(f"{width} shared units", Axis("test loss of T1 in nat"), Axis("test loss of T2 in nat"),
                   tuple(drawing.point("static weights" if arm in SWEEP else arm, a, b, look_of(arm),
                                       arm if arm in SWEEP else "") for arm, a, b in at), (x, y, "each alone"))
        )  # fmt: skip
    return (*views, View("Surgery among static weights", tuple(fronts)))


REACHED = ("T1 loss", "T2 loss", "worst loss", "total loss", "T1 accuracy", "T2 accuracy")
EQUAL = "worst validation loss at equal cost"
SEEN = ("conflict", "cosine", "norm ratio", "intervened", "harm sum", "harm aggregate", "harm step")
LEFT = tuple(f"{task} {word}" for task in TASKS for word in ("survival", "least survival", "gone"))


def tables(results: Results) -> tuple[Table, ...]:
    """What was reached at which price, and what was seen in the gradients."""
    arms = list(dict.fromkeys((row["arm"], row["width"]) for row in results.rows))

    def cell(measure: str, at: dict[str, Any]) -> str:
        there = all(measure in row for row in results.where(**at))
        return drawing.text(results.values(measure, **at)) if there else "-"

    reached, seen = [], []
    for name, width in arms:
        at: dict[str, Any] = {"arm": name, "width": width}
        label, delta = f"{name}, width {width}", "-"
        if "alone" not in name:
            alone = [results.values(f"{task} accuracy", arm=f"{task} alone", width=width) for task in TASKS]
            kept = [results.values(f"{task} accuracy", **at) / own for task, own in zip(TASKS, alone, strict=True)]
            delta = drawing.text(np.mean(kept, axis=0) - 1)
            seen.append((label, *(cell(measure, at) for measure in (*SEEN, *LEFT))))
        reached.append((label, *(cell(measure, at) for measure in (*REACHED, EQUAL)), delta, cell("ms/step", at)))
    return (
        Table("What was reached, and its price", tuple(map(Column, ("arm", *REACHED, EQUAL, "Delta-m", "ms/step"))),
              tuple(reached), "Means over seeds with 95 % intervals. Test images; equal cost on validation images. "
              "Delta-m: mean change of accuracy against each task alone. Milliseconds of CPU time without looks and "
              "evaluations."),
        Table("Conflict, harm, and what surgery left", tuple(map(Column, ("arm", *SEEN, *LEFT))), tuple(seen),
              f"Means over the looks (one in {LOOK} steps) in the shared body; not corrected for the noise of "
              "mini-batches. Intervened: share of steps on which the method turned the sum. Harm: share on which some "
              f"loss is raised to first order. Gone: share on which less than {LITTLE:g} of the gradient survives."),
    )  # fmt: skip


STUDY = Study(
    name="E03",
    title="Gradient surgery and its stall",
    question="Does projecting conflicting gradients end in a better net, and what becomes of a task that is always the "
    "one to be projected?",
    survey="The survey says that correcting both gradients is smoother, fairer and performs better, and warns that "
    "asymmetric surgery can stall the projected task. Its projection is unconditional and throws help away, too; "
    "PCGrad's is not. With three and more tasks PCGrad depends on the order and may leave conflict.",
    controls=(
        Control("the plain sum", "that the task learns as little without surgery"),
        Control("each task alone, at every width", "that the shared units are too few for the task itself"),
        Control("static weights, five points, chosen on validation images", "that other weights do the same for less"),
        Control("equal cost", "that a gain per step is lost by the time of the second backward pass"),
        Control("norm matched", "that surgery helps by longer steps, not by another direction"),
        Control("both orders of importance", "that T1 stalls because it is harder, not because it is projected"),
    ),
    cells=(f"w={NARROW}", f"w={WIDER}"),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={"no projection": "all methods are replaced by the plain sum: the stall must not be supported"},
    seconds=70.0,
)
