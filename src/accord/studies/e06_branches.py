"""E06: do the branches of an Inception stem pull it in different directions, and does surgery between them help?

Under one loss the stem's gradient is the sum of what comes through each branch. ``accord.uses`` hands the stem's output
to the branches one by one, ``accord.contributions`` splits the gradient exactly, and a Balancer of the stem can then
treat the branches as if they were tasks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import accord
from accord import noise
from accord.bench.stats import interval
from accord.report.chart import Axis, Bar, Bars, Curve, Curves, Interval, Intervals, View
from accord.report.palette import method_style, task_style
from accord.report.table import Column, Table
from accord.studies.inception import BRANCHES, TRAIN, Data, Kind, Net, load
from accord.studies.judging import Claim, above, all_of, any_of, below
from accord.studies.study import Array, Control, Results, Row, Study, Work

# What decides, fixed before any run
INCIDENCE = 0.30  # of negative cosines between branches in a third of the training: the specification's line
DIFFERENCE = 0.10  # by which branches with targets of their own must conflict more often: the positive control

WIDTHS = (2, 8)  # channels of the stem
PHASES = ("first third", "second third", "last third")
STEPS, BATCH, RATE, LOOK, CHECK = 300, 64, 3e-3, 10, 60


class Arm(NamedTuple):
    """One training: its name, what the branches learn, how their parts of the stem's gradient are combined.

    ``method`` None is the plain loop, in which nothing is split.
    """

    name: str
    kind: Kind = "one loss"
    method: str | None = None
    scale: str = "sum"
    only: int | None = None  # a branch that is there alone


SUM, PCGRAD, MATCHED = "sum", "PCGrad()", "PCGrad(), length of the sum"
STATIC = {f"static {w}": w for w in ((2.0, 0.5, 0.5), (0.5, 2.0, 0.5), (0.5, 0.5, 2.0), (0.5, 0.5, 0.5))}
ALONE = tuple(f"{name} alone" for name in BRANCHES)
AUX: Kind = "auxiliary heads"
TARGETS: Kind = "targets of their own"
ARMS = (
    Arm(SUM),
    Arm(PCGRAD, method="PCGrad()"),
    Arm(MATCHED, method="PCGrad()", scale="match-norm"),
    *(Arm(name, method=f"Constant(weights={weights})") for name, weights in STATIC.items()),
    *(Arm(name, only=b) for b, name in enumerate(ALONE)),
    Arm(AUX, AUX),
    Arm(TARGETS, TARGETS),
)
LOOKED = (SUM, AUX, TARGETS)


def look(net: Net, data: Data, i: Tensor, sign: Tensor) -> tuple[Array, Array]:
    """Gramians of the branches' parts: (3, 3) of the mini-batch, (6, 6) of the two halves of all training images."""
    stem = list(net.stem.parameters())
    copies = accord.uses(net.stem(data.x[i]), 3)
    small = accord.contributions(net.loss(copies, data.labels[i]), copies, stem).gramian()[0, :, 0]  # (3, 3)
    every = data.part["train"]
    copies = accord.uses(net.stem(data.x[every]), 3)
    labels, half = data.labels[every], len(every) // 2
    losses = {
        "first": net.loss(tuple(z[:half] for z in copies), labels[:half]),
        "second": net.loss(tuple(z[half:] for z in copies), labels[half:]),
    }
    large = accord.contributions(losses, copies, stem).gramian().reshape(6, 6)
    twice = sign.repeat(2)  # (6,)
    return (small * sign[:, None] * sign).numpy(), (large * twice[:, None] * twice).numpy()


def fit(net: Net, data: Data, arm: Arm, work: Work) -> dict[str, float | list[float]]:
    """Train one arm; what it came to, what it cost, and what the looks saw."""
    steps = 3 if work.smoke else STEPS
    every, check = (1, 3) if work.smoke else (LOOK, CHECK)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    rest = accord.Balancer(net, "Sum()")
    stem = accord.Balancer(net.stem, arm.method or "Sum()", scale=arm.scale, seed=work.seed)  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(work.seed + 1)
    sign = torch.tensor([1.0, -1.0 if work.broken == "wrong sign" else 1.0, 1.0], dtype=torch.float64)  # (3,)
    small: list[Array] = []
    large: list[Array] = []
    checks, spent = [], 0.0
    for number in range(steps):
        i = data.part["train"][torch.randperm(TRAIN, generator=draw)[:BATCH]]  # (BATCH,)
        if arm.name in LOOKED and number % every == 0:
            for kept, gramian in zip((small, large), look(net, data, i, sign), strict=True):
                kept.append(gramian)
        began = time.process_time()
        z = net.stem(data.x[i])  # (BATCH, width, 8, 8)
        if arm.method is None:
            rest.backward({"loss": net.loss((z, z, z), data.labels[i])})
        else:
            # Below the stem's output, a linear loss for each branch, whose gradient is exactly the branch's part
            top = z.detach().requires_grad_()
            copies = accord.uses(top, 3)
            loss = net.loss(copies, data.labels[i])
            parts = accord.contributions(loss, copies).parts[0]  # 3 times [(BATCH, width, 8, 8)]
            stem.backward({b: (z * part[0]).sum() for b, part in zip(BRANCHES, parts, strict=True)})
            rest.backward({"loss": loss})
        optimizer.step()
        optimizer.zero_grad()
        spent += time.process_time() - began
        if (number + 1) % check == 0:
            checks.append([number + 1.0, *_losses(net, data)])
    names = ("steps", "train loss curve", "validation loss curve", "test loss curve", "accuracy curve")
    curves: dict[str, list[float]] = {n: list(c) for n, c in zip(names, zip(*checks, strict=True), strict=True)}
    last = {
        "validation loss": "validation loss curve",
        "test loss": "test loss curve",
        "test accuracy": "accuracy curve",
    }
    out = {name: curves[curve][-1] for name, curve in last.items()}
    out |= {"train AUC": float(np.mean(curves["train loss curve"])), "ms/step": 1000 * spent / steps}
    return {**out, **curves, **(seen(np.stack(small), np.stack(large)) if small else {})}


@torch.no_grad()
def _losses(net: Net, data: Data) -> tuple[float, float, float, float]:
    found, right = {}, 0.0
    for name, i in data.part.items():
        logits, digit = net.logits(data.x[i]), data.labels[i, 0]  # (N, 10), (N,)
        found[name] = float(cross_entropy(logits, digit))
        if name == "test":
            right = float((logits.argmax(1) == digit).double().mean())
    return found["train"], found["validation"], found["test"], right


def seen(small: Array, large: Array) -> dict[str, float | list[float]]:
    """Conflict between the branches, in all and by thirds of the training.

    Args:
        small: (T, 3, 3) of mini-batches.
        large: (T, 6, 6) of the two halves of all training images.
    """
    whole = large[:, :3, :3] + large[:, 3:, 3:] + large[:, :3, 3:] + large[:, 3:, :3]  # (T, 3, 3), without noise
    upper = np.triu_indices(3, 1)
    found = noise.excess_incidence(large)
    out: dict[str, float | list[float]] = {
        "cosine curve": accord.conflict.rate(
            accord.conflict.cosine(whole)[:, upper[0], upper[1]], axis=1
        ).value.tolist(),
        "conflict": _mean(accord.conflict.incidence(small)),
        "full conflict": _mean(accord.conflict.incidence(whole)),
        "null": _mean(found.null[upper]),
        "excess": _mean(found.value[upper]),
        "corrected cosine": _mean(noise.corrected_cosine(large).value[upper]),
        "cosine": _mean(accord.conflict.cosine(small)[:, upper[0], upper[1]]),
        "cancellation": _mean(accord.conflict.cancellation(small)),
        "norm ratio": _mean(accord.conflict.norm_ratio(small)),
    }
    for phase, part in zip(PHASES, np.array_split(small, 3), strict=True):
        out[f"conflict, {phase}"] = _mean(accord.conflict.incidence(part))
    # To first order, the loss falls by d·s / |d| per unit of length: surgery's d is at most as good as the sum s itself
    weights = [accord.PCGrad()(torch.as_tensor(g)).numpy() for g in small]  # (3,) each
    turned = [w @ g.sum(1) / np.sqrt((w @ g @ w) * g.sum()) for w, g in zip(weights, small, strict=True)]
    return out | {"surgery's descent": _mean(np.array(turned))}


def _mean(values: Array) -> float:
    """Over what is defined; NaN where nothing is."""
    return float(accord.conflict.rate(values.reshape(-1)).value)


def measure(work: Work) -> Sequence[Row]:
    """All arms of one width of the stem."""
    width = int(work.cell.removeprefix("c0="))
    rows: list[dict[str, Any]] = []
    for arm in ARMS:
        data = load(work.seed, own=arm.kind == TARGETS and work.broken != "same targets")
        found = fit(Net(work.seed, width, arm.kind, arm.only), data, arm, work)
        rows.append({"c0": width, "arm": arm.name, "variant": arm.kind, **found})
    budget = float(rows[0]["ms/step"])
    for row in rows:
        affordable = row["steps"][-1] * min(1.0, budget / row["ms/step"])
        row["test loss at equal cost"] = float(np.interp(affordable, row["steps"], row["test loss curve"]))
    return rows


def best_static(results: Results, c0: int) -> Array:
    """Test loss of the static weights that validate best, seed by seed; equal weights are the sum: five points."""
    arms = (SUM, *STATIC)
    chosen = np.argmin([results.values("validation loss", c0=c0, arm=arm) for arm in arms], axis=0)  # (S,)
    test = np.array([results.values("test loss", c0=c0, arm=arm) for arm in arms])  # (5, S)
    return test[chosen, np.arange(len(chosen))]


def judge(results: Results) -> tuple[Claim, ...]:
    """Conflict between branches, the use of surgery, and the positive control."""

    def loss(arm: str, c0: int, measure: str = "test loss") -> Array:
        return results.values(measure, c0=c0, arm=arm)

    widths = results.levels("c0")
    conflict = [
        above(f"incidence, c0={c}, {v}, {p}", results.values(f"conflict, {p}", c0=c, arm=v), INCIDENCE)
        for c in widths for v in (SUM, AUX) for p in PHASES
    ]  # fmt: skip
    helps = [
        all_of(
            below(f"c0={c}, PCGrad − sum", loss(PCGRAD, c) - loss(SUM, c), 0.0),
            below("at equal cost", loss(PCGRAD, c, "test loss at equal cost") - loss(SUM, c), 0.0),
            below("PCGrad of the sum's length − sum", loss(MATCHED, c) - loss(SUM, c), 0.0),
            below("PCGrad − best static", loss(PCGRAD, c) - best_static(results, c), 0.0),
        )
        for c in widths
    ]
    more = [
        above(f"more often, c0={c}", loss(TARGETS, c, "full conflict") - loss(SUM, c, "full conflict"), DIFFERENCE)
        for c in widths
    ]
    return (
        Claim(
            "branches conflict", "Branches of one stem under one loss conflict: their parts of its gradient disagree.",
            f"supported if in one of {len(conflict)} thirds of trainings more than {INCIDENCE:.0%} of the cosines on "
            "mini-batches are negative, noise included; not supported if in none", any_of(*conflict),
        ),
        Claim(
            "surgery helps", "PCGrad between the branches' parts lowers the test loss.",
            "supported if for one of the widths it is below the sum, at equal steps, at equal CPU time and at equal "
            "length, and below the best static weights; not supported if for none", any_of(*helps),
        ),
        Claim(
            "targets decide", "Branches conflict when their targets differ, not because they are branches.",
            f"supported if on all training images, without noise, branches with targets of their own conflict more "
            f"often than under one loss by more than {DIFFERENCE:.0%}, for both widths", all_of(*more),
        ),
    )  # fmt: skip


def charts(results: Results) -> tuple[View, ...]:
    """How often branches conflict, their mean cosine over the training, and what each arm gains."""
    return tuple(
        View(f"stem of {c} channels", (_incidence(results, c), _cosine(results, c), _gains(results, c)))
        for c in results.levels("c0")
    )


def _incidence(results: Results, c0: int) -> Bars:
    bars = []
    for k, arm in enumerate(LOOKED):
        found = [interval(results.values(f"conflict, {p}", c0=c0, arm=arm).tolist()) for p in PHASES]
        means, low, high = (np.array([f[n] for f in found]) for n in range(3))
        bars.append(Bar({SUM: "one loss"}.get(arm, arm), means, task_style(k), low, high))
    return Bars("Negative cosines, mini-batches", PHASES, tuple(bars), Axis("share", share=True), 1.0)


def _cosine(results: Results, c0: int) -> Curves:
    lines = []
    for k, arm in enumerate(LOOKED):
        seen = results.curve("cosine curve", c0=c0, arm=arm)  # (S, T)
        x = np.linspace(0, results.curve("steps", c0=c0, arm=arm)[0, -1], seen.shape[1])
        name = {SUM: "one loss"}.get(arm, arm)
        lines.append(Curve(name, x, seen.mean(0), task_style(k), seen.min(0), seen.max(0)))
    return Curves("Mean cosine, all training images", Axis("step"), Axis("cosine"), tuple(lines), 0.0)


def _gains(results: Results, c0: int) -> Intervals:
    reference, rows = results.values("test loss", c0=c0, arm=SUM), []
    for k, arm in enumerate(a for a in (PCGRAD, MATCHED, *STATIC, *ALONE, AUX)):
        gain = results.values("test loss", c0=c0, arm=arm) - reference  # (S,)
        found = interval(gain.tolist())
        rows.append(Interval(arm, found.mean, (found.low, found.high), gain, method_style(k)))
    return Intervals("Test loss minus that of the sum", Axis("difference"), tuple(rows))


def tables(results: Results) -> tuple[Table, ...]:
    """What each arm came to and cost; what the looks saw."""
    ends = ("test loss", "test loss at equal cost", "test accuracy", "train AUC", "ms/step")
    looks = ("conflict", "full conflict", "null", "excess", "cosine", "corrected cosine", "cancellation", "norm ratio")
    return (
        _table("Every arm", results, [arm.name for arm in ARMS], ends, "Mean [95 % interval] over seeds."),
        _table("Between the branches", results, LOOKED, (*looks, "surgery's descent"), (
            "conflict: share of negative cosines on mini-batches; full: on all training images; null: how often a "
            "branch conflicts with itself on two halves; surgery's descent: cosine of PCGrad's direction with the sum."
        )),
    )  # fmt: skip


def _table(title: str, results: Results, arms: Sequence[str], measures: tuple[str, ...], caption: str) -> Table:
    rows = [
        (f"{arm}, c0={c}", *(str(interval(results.values(m, c0=c, arm=arm).tolist())) for m in measures))
        for c in results.levels("c0") for arm in arms
    ]  # fmt: skip
    return Table(title, (Column("", words=True), *map(Column, measures)), tuple(rows), caption)


STUDY = Study(
    name="E06",
    title="Branches of one stem",
    question="Do the branches of an Inception stem conflict about the stem, and does surgery between them help?",
    survey="The survey says that branches disagree about their common stem and so slow learning. Under one loss their "
    "sum is the true gradient, so that a disagreement costs nothing by itself.",
    controls=(
        Control("static weights of the branches", "that any other weighting, five of them, would do as well"),
        Control("each branch alone", "that a single branch would do; the single-task training of this setting"),
        Control("equal CPU time", "that surgery is only better because a step of it may cost more"),
        Control("PCGrad of the sum's length", "that a shorter step, and not its direction, makes the difference"),
        Control("all training images", "that conflict on mini-batches is sampling noise; with the same-branch null"),
        Control(TARGETS, "that the measurement could not see a conflict: here there must be one"),
    ),
    cells=tuple(f"c0={width}" for width in WIDTHS),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        "wrong sign": "The middle branch's part is measured with the wrong sign: branches must now conflict.",
        "same targets": "Branches with targets of their own all learn the digit: the positive control must fail.",
    },
    seconds=78.0,
)
