"""E07: do bounded activations take the conflict out of gradients, or only their length?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

import accord
from accord.bench.stats import delta_m
from accord.report.chart import Axis, Bars, Curves, View
from accord.report.palette import method_style
from accord.report.table import Column, Table
from accord.studies import two_digits
from accord.studies.drawing import bar, line, text
from accord.studies.judging import Claim, above, all_of, below
from accord.studies.one_layer import exact
from accord.studies.study import Control, Results, Study, Work

STEPS, BATCH, LOOK_EVERY, RATE = 800, 128, 80, 1e-3
EARLY = (5, 10, 20, 40)  # further looks for the cosine at a given loss, which fast nets pass early
PROBE, SINGLE = 1000, 24  # images of a look at the mean gradients, and of a look at the gradients of single images
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "ReLU": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "GELU": nn.GELU, "SiLU": nn.SiLU,
}  # fmt: skip
HIDDEN: dict[int, tuple[int, ...]] = {1: (), 3: (64, 64)}  # depth -> widths before the bottleneck
SHAPES = tuple((width, depth) for width in (8, 32) for depth in HIDDEN)
WIDE = 32  # where the specification judges
WEIGHTS = ((1.8, 0.2), (1.4, 0.6), (1.0, 1.0), (0.6, 1.4), (0.2, 1.8))

# Specification, E07: falsified if sigmoid's cosine is not lower than ReLU's at w=32, or its norm not 1.5 times smaller.
SMALLER = 1.5
LOWER = 0.0

SAME = "same activation"
SABOTAGES = {SAME: "The sigmoid nets get a ReLU; 'length' and 'direction' may not be supported then."}


def _activation(work: Work, name: str) -> Callable[[], nn.Module]:
    return ACTIVATIONS["ReLU" if work.broken == SAME and name == "sigmoid" else name]


def measure(work: Work) -> list[dict[str, Any]]:
    """The exact part, a shape with every activation, or the controls at one shape."""
    if work.cell == "exact":
        return [exact(name, act()) for name, act in ACTIVATIONS.items()]
    sizes = {"train": 256, "validation": 128, "test": 128} if work.smoke else {}
    given = two_digits.data(work.seed, **sizes)
    if work.cell == "controls":
        return _controls(work, given)
    width, depth = (int(word[2:]) for word in work.cell.split(", "))
    rows = [train(work, given, name, width, depth) for name in ACTIVATIONS]
    # Nets that learn slowly are seen at an earlier stage: the same summed loss is the same stage.
    level = max(min(row["loss curve"]) for row in rows)
    for row in rows:
        row["cosine at equal loss"] = crossing(row["loss curve"], row["cosine curve"], level)
        affordable = row["steps"][-1] * min(1.0, rows[0]["ms/step"] / row["ms/step"])
        row["loss at equal cost"] = float(np.interp(affordable, row["steps"], row["worst curve"]))
    return rows


def train(
    work: Work, given: two_digits.Data, name: str, width: int, depth: int,
    weights: tuple[float, float] = (1.0, 1.0), tasks: tuple[str, ...] = two_digits.TASKS,
) -> dict[str, Any]:  # fmt: skip
    """Train a net with one activation and look at its gradients on the way."""
    net = two_digits.Net(work.seed, width, HIDDEN[depth], _activation(work, name))
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    balancer = accord.Balancer(net, "Sum()")
    part, spent, last = given.train, 0.0, 8 if work.smoke else STEPS
    fixed = torch.arange(min(PROBE, len(part.x)))
    curves: dict[str, list[float]] = {"steps": [], "cosine curve": [], "loss curve": [], "worst curve": []}
    grams = []
    for t, i in enumerate(given.indices(BATCH, last), 1):
        began = time.process_time()
        balancer.backward(two_digits.losses(net, part.x[i], part.t1[i], part.t2[i], weights, tasks))
        optimizer.step()
        optimizer.zero_grad()
        spent += time.process_time() - began
        regular = t % LOOK_EVERY == 0 or t == last
        if len(tasks) > 1 and (regular or t in EARLY):
            found = gramian(net, two_digits.losses(net, part.x[fixed], part.t1[fixed], part.t2[fixed]))
            grams += [found] if regular else []
            seen, held = two_digits.evaluate(net, part.first(PROBE)), two_digits.evaluate(net, given.validation)
            now = {"steps": t, "cosine curve": float(accord.conflict.cosine(found)[0, 1])}
            now |= {"loss curve": seen["T1 loss"] + seen["T2 loss"], "worst curve": _worst(held)}
            for key, value in now.items():
                curves[key].append(value)
    row: dict[str, Any] = {"kind": "train", "activation": name, "width": width, "depth": depth}
    test = two_digits.evaluate(net, given.test)
    row |= {
        **test,
        "worst loss": _worst(test),
        "worst validation loss": _worst(two_digits.evaluate(net, given.validation)),
    }
    row |= {"ms/step": 1000 * spent / last}
    return row | curves | (_conflict(np.array(grams)) | single(net, part) if grams else {})


def _worst(found: dict[str, float]) -> float:
    return max(found[f"{task} loss"] for task in two_digits.TASKS)


def gramian(net: two_digits.Net, losses: dict[str, torch.Tensor]) -> np.ndarray:
    """(K, K) in the shared body; the heads are each task's own."""
    step = accord.Monitor(net, every=1, blocks="total", shared=net.body.parameters()).observe(losses)
    assert step is not None  # every=1
    assert step.gramians is not None
    return step.gramians.sum(0).numpy()


def _conflict(grams: np.ndarray) -> dict[str, float]:
    """Means over the looks (T, 2, 2); of lengths the geometric one, because they change by magnitudes."""
    lengths = accord.conflict.norms(grams)  # (T, 2)
    cosine = accord.conflict.cosine(grams)[:, 0, 1]  # (T,)
    return {
        "norm": float(np.exp(np.log(lengths).mean())),
        "norm ratio": float(np.exp(np.log(lengths[:, 0] / lengths[:, 1]).mean())),
        "conflict mass": float(np.maximum(0, -grams[:, 0, 1]).mean()),
        "cosine": float(cosine.mean()),
        "conflict": float((cosine < 0).mean()),
    }


def single(net: two_digits.Net, part: two_digits.Part) -> dict[str, float]:
    """Single images: how often T1's gradient on one and T2's on another have nothing at all in common.

    Within one image both tasks go through the same active units, so that only a dead layer would give 0; between two
    images, disjoint sets of active units do.
    """
    losses = {}
    for task, label in (("T1", part.t1), ("T2", part.t2)):
        for n in range(SINGLE):
            both = two_digits.losses(net, part.x[n : n + 1], label[n : n + 1], label[n : n + 1], tasks=(task,))
            losses[f"{task} {n}"] = both[task]
    across = gramian(net, losses)[:SINGLE, SINGLE:]  # (N, N)
    other = ~np.eye(SINGLE, dtype=bool)
    return {
        "zero overlap, same image": float((np.diag(across) == 0).mean()),
        "zero overlap, two images": float((across[other] == 0).mean()),
        "negative overlap, two images": float((across[other] < 0).mean()),
    }


def crossing(losses: list[float], values: list[float], level: float) -> float:
    """The value where the loss first falls to a level, between two looks by interpolation.

    Example:
        >>> crossing([4.0, 2.0, 1.0], [0.0, 1.0, 2.0], 3.0), crossing([4.0, 2.0], [0.0, 1.0], 5.0)
        (0.5, 0.0)
    """
    k = next(k for k, loss in enumerate(losses) if loss <= level)
    if k == 0:
        return values[0]
    share = (losses[k - 1] - level) / (losses[k - 1] - losses[k])
    return values[k - 1] + share * (values[k] - values[k - 1])


def _controls(work: Work, given: two_digits.Data) -> list[dict[str, Any]]:
    """At width 8 and depth 1: each task alone for the two activations in question, and tuned weights for ReLU."""
    runs = [train(work, given, "ReLU", 8, 1, weights=weights) | {"weight of T1": weights[0]} for weights in WEIGHTS]
    rows = [min(runs, key=lambda run: run["worst validation loss"]) | {"kind": "tuned weights"}]
    for name in ("ReLU", "sigmoid"):
        for task in two_digits.TASKS:
            rows.append(train(work, given, name, 8, 1, tasks=(task,)) | {"kind": f"{task} alone"})
    return rows


def judge(results: Results) -> tuple[Claim, ...]:
    """Sigmoid against ReLU in the wide net: length, direction, direction at the same stage; ReLU against itself."""

    def of(measure: str, activation: str, depth: int, width: int = WIDE) -> np.ndarray:
        return results.values(measure, kind="train", activation=activation, width=width, depth=depth)

    # Ratios are judged as logarithms, whose mean over seeds does not depend on which one is the numerator.
    length = [np.log(of("norm", "ReLU", d) / of("norm", "sigmoid", d)) for d in HIDDEN]
    direction = [of("cosine", "sigmoid", d) - of("cosine", "ReLU", d) for d in HIDDEN]
    stage = [of("cosine at equal loss", "sigmoid", d) - of("cosine at equal loss", "ReLU", d) for d in HIDDEN]
    closer = [np.abs(of("cosine", "ReLU", d)) - np.abs(of("cosine", "ReLU", d, 8)) for d in HIDDEN]
    return (
        Claim(
            "length",
            "A bounded activation makes conflicting gradients shorter: sigmoid against ReLU, 32 features wide.",
            f"supported if ReLU's gradients are more than {SMALLER} times as long, at depth 1 and 3",
            all_of(
                *(
                    above(f"depth {d}, log of the ratio", v, np.log(SMALLER))
                    for d, v in zip(HIDDEN, length, strict=True)
                )
            ),
        ),
        Claim(
            "direction",
            "It does not turn them towards each other: sigmoid's mean cosine is lower than ReLU's.",
            "supported if the difference is below 0, at depth 1 and 3",
            all_of(*(below(f"depth {d}, sigmoid - ReLU", v, LOWER) for d, v in zip(HIDDEN, direction, strict=True))),
        ),
        Claim(
            "direction at equal loss",
            "The same at equal summed training loss: not merely because sigmoid nets learn more slowly.",
            "supported if the difference is below 0, at depth 1 and 3",
            all_of(*(below(f"depth {d}, sigmoid - ReLU", v, LOWER) for d, v in zip(HIDDEN, stage, strict=True))),
        ),
        Claim(
            "width",
            "ReLU's task gradients come closer to orthogonal with more features.",
            "supported if the absolute value of the mean cosine is lower at width 32 than at 8, at depth 1 and 3",
            all_of(*(below(f"depth {d}, |cos| 32 - 8", v, LOWER) for d, v in zip(HIDDEN, closer, strict=True))),
        ),
    )


def charts(results: Results) -> tuple[View, ...]:
    """Length, cosine and overlaps by activation; the cosine against the loss."""
    names = tuple(f"w={w}, d={d}" for w, d in SHAPES)

    def panel(title: str, measure: str, **axis: bool) -> Bars:
        bars = []
        for k, activation in enumerate(ACTIVATIONS):
            at = [{"kind": "train", "activation": activation, "width": w, "depth": d} for w, d in SHAPES]
            bars.append(bar(activation, [results.values(measure, **a) for a in at], method_style(k)))
        return Bars(title, names, tuple(bars), Axis(measure, **axis))

    wide = {"kind": "train", "width": WIDE, "depth": 1}
    steps = results.curve("steps", activation="ReLU", **wide)[0].tolist()
    way = tuple(
        line(activation, steps, results.curve("cosine curve", activation=activation, **wide), method_style(k))
        for k, activation in enumerate(ACTIVATIONS)
    )
    return (
        View("Length and direction", (panel("Length", "norm", log=True), panel("Direction", "cosine"))),
        View(
            "Conflict mass, and direction at the same loss",
            (panel("Conflict mass", "conflict mass", log=True), panel("At equal loss", "cosine at equal loss")),
        ),
        View("Single images", (panel("Nothing in common", "zero overlap, two images", share=True),)),
        View("Cosine, width 32, depth 1", (Curves("Training", Axis("step"), Axis("cosine"), way, level=0.0),)),
    )


def tables(results: Results) -> tuple[Table, ...]:
    """Part A, which is exact; all nets with their cost; the controls."""
    exactly = ("same unit", "opposite inputs, unit", "opposite inputs, layer")
    part_a = tuple(
        (name, *(f"{results.values(case, kind='exact', activation=name)[0]:.3g}" for case in exactly))
        for name in ACTIVATIONS
    )
    measures = (
        "norm", "norm ratio", "cosine", "cosine at equal loss", "conflict", "conflict mass", "zero overlap, same image",
        "zero overlap, two images", "worst loss", "T1 accuracy", "T2 accuracy", "loss at equal cost", "ms/step",
    )  # fmt: skip
    nets = tuple(
        (
            f"w={w}, d={d}: {name}",
            *(text(results.values(m, kind="train", activation=name, width=w, depth=d)) for m in measures),
        )
        for w, d in SHAPES
        for name in ACTIVATIONS
    )
    return (
        Table(
            "Part A: what follows exactly",
            (Column("activation", words=True), *(Column(case) for case in exactly)),
            part_a,
            "Cosines. One unit with opposite targets; inputs x and -x, both pulled to 0, for one unit and for 64.",
        ),
        Table("Nets", (Column("net", words=True), *map(Column, measures)), nets, "Means over seeds, 95 % intervals."),
        _control_table(results),
    )


def _control_table(results: Results) -> Table:
    rows = []
    for kind, name in (("tuned weights", "ReLU"), ("train", "ReLU"), ("train", "sigmoid")):
        at = {"kind": kind, "activation": name, "width": 8, "depth": 1}
        relative = []
        for s in range(len(results.seeds)):
            own = {t: results.values(f"{t} accuracy", **at)[s] for t in two_digits.TASKS}
            alone = {t: results.values(f"{t} accuracy", kind=f"{t} alone", activation=name)[s] for t in own}
            relative.append(delta_m(own, alone, dict.fromkeys(own, True)))
        rows.append((f"{kind}: {name}", text(results.values("worst loss", **at)), text(relative)))
    columns = (
        Column("arm", words=True),
        Column("worst loss"),
        Column("delta-m", "to each task alone, same activation"),
    )
    return Table(
        "Controls at width 8, depth 1", columns, tuple(rows), "Test images. Tuned: best of five on validation."
    )


STUDY = Study(
    name="E07",
    title="Activation functions",
    question="Does a bounded activation take the conflict out of two tasks' gradients, or only their length?",
    survey="The survey says that sigmoid, compared with ReLU, reduces the magnitude of conflicting gradients, not "
    "their direction.",
    controls=(
        Control("same weights and data", "That the seeds differ: all activations start from the same numbers."),
        Control("equal loss", "That sigmoid nets are merely at an earlier stage of training."),
        Control("two widths, two depths", "That it holds in one shape only."),
        Control("mean of 1000 images", "That sampling noise pulls the cosine to 0: looks are at many images."),
        Control("tuned weights", "That a choice of loss weights does more, the best of five on validation."),
        Control("each task alone", "That an activation is simply worse: the reference of delta-m."),
        Control("equal CPU time", "That an activation wins by costing less."),
    ),
    cells=("exact", *(f"w={w}, d={d}" for w, d in SHAPES), "controls"),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages=SABOTAGES,
    seconds=64.0,
)
