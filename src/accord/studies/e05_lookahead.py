"""E05: are gradients better aligned where momentum is about to carry the parameters, and does Nesterov's method win?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

import accord
from accord.bench.stats import delta_m
from accord.report.chart import Axis, Curves, Intervals, View
from accord.report.palette import method_style, reference_style
from accord.report.table import Column, Table
from accord.studies import two_digits
from accord.studies.drawing import estimate, line, text
from accord.studies.judging import Claim, Test, above, all_of
from accord.studies.study import Array, Control, Results, Study, Work

STEPS, BATCH, PROBE_EVERY, CHECK_EVERY = 800, 128, 20, 50
WIDTHS = (4, 16)
MOMENTUM, CARRIER = 0.9, 0.05  # the heavy ball on whose way the probes are
# Rates of equal effect: with momentum mu, a gradient moves the parameters by lr / (1 - mu) in all.
EFFECTIVE = (0.1, 0.2, 0.4, 0.8)
WEIGHTS = ((1.8, 0.2), (1.4, 0.6), (1.0, 1.0), (0.6, 1.4), (0.2, 1.8))
POINTS = ("ahead", "random", "random per layer", "behind")
LOOKS_OF_SMOKE = 4  # in a smoke run, steps between probes
LIMIT = 10.0  # nats: what diverged counts as this much, so that it can be compared

# Specification, E05: falsified if the interval of the change includes 0, or a random direction gives the same change.
CHANGE = 0.0
GAIN = 0.0  # nats of the worst task's test loss, Nesterov against heavy ball
MARGIN = 0.05  # ours, before any run: an advantage that is surely smaller is none
# Ours, before any run: a change of the cosine that is surely smaller is none.
SLIGHT = 0.005

TUNED = "tuned weights"
NOWHERE = "random instead of momentum"
SABOTAGES = {NOWHERE: "The probe ahead goes in a random direction; no claim of alignment may be supported then."}


def measure(work: Work) -> list[dict[str, Any]]:
    """Probes on the way of heavy ball, or trainings with each optimiser, at one width."""
    sizes = {"train": 256, "validation": 128, "test": 128} if work.smoke else {}
    given = two_digits.data(work.seed, **sizes)
    kind, _, width = work.cell.partition(" w=")
    return {"probe": probes, "train": _optimisers, "weights": _weights}[kind](work, given, int(width))


def probes(work: Work, given: two_digits.Data, width: int) -> list[dict[str, Any]]:
    """The cosine here and at four displaced points, of the same mini-batch, every few steps."""
    net = two_digits.Net(work.seed, width)
    optimizer = torch.optim.SGD(net.parameters(), lr=CARRIER, momentum=MOMENTUM)
    balancer = accord.Balancer(net, "Sum()")
    draw = torch.Generator().manual_seed(work.seed)
    part, looks = given.train, []
    for t, i in enumerate(given.indices(BATCH, 8 if work.smoke else STEPS)):

        def losses(i: torch.Tensor = i) -> dict[str, torch.Tensor]:
            return two_digits.losses(net, part.x[i], part.t1[i], part.t2[i])

        if t and t % (LOOKS_OF_SMOKE if work.smoke else PROBE_EVERY) == 0:
            ahead = accord.momentum_displacement(optimizer)  # mu v
            moves = {
                "ahead": accord.random_displacement(ahead, draw) if work.broken == NOWHERE else ahead,
                "random": accord.random_displacement(ahead, draw),
                "random per layer": accord.random_displacement(ahead, draw, per="parameter"),
                "behind": {p: -d for p, d in ahead.items()},
            }
            probe = accord.probe_ahead(net, losses, moves, shared=net.body.parameters())
            length = float(sum(d.square().sum() for d in ahead.values())) ** 0.5
            looks.append((t, length, probe.cosine()[0, 1], *(probe.cosine(name)[0, 1] for name in POINTS)))
        balancer.backward(losses())
        optimizer.step()
        optimizer.zero_grad()
    found = np.array(looks)  # (T, 3 + points)
    here = found[:, 2]  # (T,)
    row: dict[str, Any] = {"kind": "probe", "width": width, "looks": found[:, 0].tolist(), "here": here.tolist()}
    row |= {"cosine": _mean(here), "conflict": _mean(here < 0), "displacement": _mean(found[:, 1])}
    for k, name in enumerate(POINTS, 3):
        row |= {f"change {name}": _mean(found[:, k] - here), f"conflict {name}": _mean(found[:, k] < 0)}
        row[f"curve {name}"] = (found[:, k] - here).tolist()
    return [row]


def _mean(values: np.ndarray) -> float:
    """Over the looks in which both tasks had a gradient."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def train(
    work: Work, given: two_digits.Data, width: int, optimiser: str, effective: float,
    weights: Sequence[float] = (1.0, 1.0), tasks: Sequence[str] = two_digits.TASKS,
) -> dict[str, Any]:  # fmt: skip
    """One training. Nesterov's method is heavy ball with the gradients taken inside ``accord.lookahead``."""
    net = two_digits.Net(work.seed, width)
    momentum = 0.0 if optimiser == "SGD" else MOMENTUM
    optimizer = torch.optim.SGD(net.parameters(), lr=effective * (1 - momentum), momentum=momentum)
    balancer = accord.Balancer(net, "Sum()")
    part, spent, steps, curve = given.train, 0.0, [], []
    last = 6 if work.smoke else STEPS
    for t, i in enumerate(given.indices(BATCH, last), 1):
        began = time.process_time()
        with accord.lookahead(optimizer) if optimiser == "NAG" else nullcontext():
            balancer.backward(two_digits.losses(net, part.x[i], part.t1[i], part.t2[i], weights, tasks))
        optimizer.step()
        optimizer.zero_grad()
        spent += time.process_time() - began
        if t % CHECK_EVERY == 0 or t == last:
            steps.append(t)
            curve.append(_worst(two_digits.evaluate(net, given.validation), tasks))
    test = two_digits.evaluate(net, given.test)
    found = {"worst loss": _worst(test, tasks), "worst validation loss": curve[-1], "ms/step": 1000 * spent / last}
    return {"kind": "train", "width": width, **test, **found, "effective": effective, "steps": steps, "curve": curve}


def _worst(found: dict[str, float], tasks: Sequence[str]) -> float:
    worst = max(found[f"{task} loss"] for task in tasks)
    return min(worst, LIMIT) if np.isfinite(worst) else LIMIT


def _tuned(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The run with the best validation loss of the worse task."""
    return min(runs, key=lambda run: run["worst validation loss"])


def _optimisers(work: Work, given: two_digits.Data, width: int) -> list[dict[str, Any]]:
    """Each optimiser at its own best rate, and each task alone."""
    rows = {}
    for optimiser in ("SGD", "heavy ball", "NAG"):
        rows[optimiser] = _tuned([train(work, given, width, optimiser, rate) for rate in EFFECTIVE])
    for row in rows.values():  # where it has cost as much as the whole training with heavy ball
        affordable = row["steps"][-1] * min(1.0, rows["heavy ball"]["ms/step"] / row["ms/step"])
        row["loss at equal cost"] = float(np.interp(affordable, row["steps"], row["curve"]))
    best = rows["heavy ball"]["effective"]
    for task in two_digits.TASKS:
        rows[f"{task} alone"] = train(work, given, width, "heavy ball", best, tasks=(task,))
    return [{"arm": arm, **row} for arm, row in rows.items()]


def _weights(work: Work, given: two_digits.Data, width: int) -> list[dict[str, Any]]:
    """What a choice of loss weights does under heavy ball, at a rate in the middle."""
    runs = [
        train(work, given, width, "heavy ball", EFFECTIVE[2], weights) | {"weight": weights[0]} for weights in WEIGHTS
    ]
    return [{"arm": "tuned weights", **_tuned(runs)}]


def judge(results: Results) -> tuple[Claim, ...]:
    """Alignment and training apart, at each width."""
    claims = []
    for width in WIDTHS:
        change = {p: results.values(f"change {p}", kind="probe", width=width) for p in POINTS}
        ahead = above(f"w={width}, change of the cosine ahead", change["ahead"], CHANGE)
        if ahead.word != "supported":
            ahead = above(f"w={width}, change of the cosine ahead", change["ahead"], SLIGHT)
        beyond = [
            above(f"beyond {name}", change["ahead"] - change[name], CHANGE) for name in ("random", "random per layer")
        ]
        claims.append(
            Claim(
                f"alignment w={width}",
                f"At width {width} the tasks' gradients are better aligned where momentum is about to carry the "
                "parameters, and not merely because these have moved.",
                "supported if the cosine ahead minus that here is above 0, and above that of random directions of the "
                f"same length; not supported if below {SLIGHT}, or if below a random direction",
                all_of(ahead, *beyond),
            )
        )
    for width in WIDTHS:
        tuned = TUNED in results.levels("arm", kind="train", width=width)
        claims.append(
            Claim(
                f"training w={width}",
                f"At width {width} Nesterov's method leaves the worse task with a lower loss than heavy ball, also for "
                f"the same CPU time{', and than a choice of loss weights does' if tuned else ''}.",
                "supported if the gain over heavy ball is above 0, each with its own best rate on validation, in the "
                "test loss after as many steps and in the validation loss after as much CPU time"
                + (", and that over the tuned weights too" if tuned else " (no weights were tuned at this width)")
                + f"; not supported if one of the gains is below {MARGIN} nats",
                all_of(*_gains(results, width, tuned)),
            )
        )
    return tuple(claims)


def _gains(results: Results, width: int, tuned: bool) -> list[Test]:
    """Of Nesterov's method, over all that it is to be better than."""

    def loss(measure: str, arm: str) -> Array:
        return results.values(measure, kind="train", width=width, arm=arm)  # (S,)

    own, test, validation = "NAG", "worst loss", "worst validation loss"
    gains = {
        f"w={width}, heavy ball - NAG": loss(test, "heavy ball") - loss(test, own),
        "at equal cost": loss(validation, "heavy ball") - loss("loss at equal cost", own),
    }
    if tuned:
        gains["tuned weights - NAG"] = loss(test, TUNED) - loss(test, own)
        gains["tuned weights - NAG at equal cost"] = loss(validation, TUNED) - loss("loss at equal cost", own)
    return [_gain(name, values) for name, values in gains.items()]


def _gain(name: str, values: Array) -> Test:
    """Supported if above 0; not supported if surely below what anybody would notice."""
    found = above(name, values, GAIN)
    return found if found.word == "supported" else above(name, values, MARGIN)


def charts(results: Results) -> tuple[View, ...]:
    """The change over training, its mean against the controls, and the trainings."""
    change, means, way = [], [], []
    for width in WIDTHS:
        at = {"kind": "probe", "width": width}
        looks = results.curve("looks", **at)[0].tolist()
        lines = tuple(
            line(name, looks, results.curve(f"curve {name}", **at), method_style(k))
            for k, name in enumerate(POINTS[:2])
        )
        change.append(Curves(f"width {width}", Axis("step"), Axis("change of the cosine"), lines, level=0.0))
        rows = tuple(
            estimate(name, results.values(f"change {name}", **at), method_style(k)) for k, name in enumerate(POINTS)
        )
        means.append(Intervals(f"width {width}", Axis("mean change of the cosine"), rows))
        arms = ("heavy ball", "NAG", "SGD")
        steps = results.curve("steps", kind="train", width=width, arm=arms[0])[0].tolist()
        drawn = tuple(
            line(
                arm, steps, results.curve("curve", kind="train", width=width, arm=arm),
                method_style(k - 1) if k else reference_style(),
            )
            for k, arm in enumerate(arms)
        )  # fmt: skip
        way.append(Curves(f"width {width}", Axis("step"), Axis("worst validation loss (nats)", log=True), drawn))
    return (
        View("Mean change of the cosine, with its controls", tuple(means)),
        View("Change of the cosine on the way", tuple(change)),
        View("Training, each optimiser at its best rate", tuple(way)),
    )


def tables(results: Results) -> tuple[Table, ...]:
    """The probes, and the trainings with their cost."""
    probes = []
    for width in WIDTHS:
        row = results.where(kind="probe", width=width)[0]
        names = [
            "cosine",
            "conflict",
            "displacement",
            *(f"{what} {p}" for p in POINTS for what in ("change", "conflict")),
        ]
        probes += [
            (f"w={width}: {name}", text(results.values(name, kind="probe", width=width)))
            for name in names
            if name in row
        ]
    runs = []
    for width in WIDTHS:
        single = [results.values(f"{t} accuracy", width=width, arm=f"{t} alone") for t in two_digits.TASKS]  # (K, S)
        for arm in results.levels("arm", kind="train", width=width):
            at = {"kind": "train", "width": width, "arm": arm}
            own = [results.values(f"{t} accuracy", **at) for t in two_digits.TASKS]  # (K, S)
            relative = [
                delta_m(_named(own, s), _named(single, s), dict.fromkeys(two_digits.TASKS, True))
                for s in range(len(results.seeds))
            ]
            equal = "loss at equal cost" in results.where(**at)[0]
            runs.append(
                (
                    f"w={width}: {arm}",
                    text(results.values("worst loss", **at)),
                    "" if "alone" in arm else text(relative),
                    text(results.values("worst validation loss", **at)),
                    text(results.values("loss at equal cost", **at)) if equal else "",
                    text(results.values("effective", **at)),
                    text(results.values("ms/step", **at)),
                )
            )
    columns = (
        Column("arm", words=True),
        Column("worst loss", "of both tasks, on test images"),
        Column("delta-m", "accuracy relative to each task alone"),
        Column("validation loss", "of the worse task, after all steps"),
        Column("loss at equal cost", "worst validation loss at the CPU time of the whole training with heavy ball"),
        Column("effective rate", f"lr / (1 - momentum), the best of {EFFECTIVE} on validation"),
        Column("ms/step", "CPU time; SGD(nesterov=True) takes the same gradients without moving parameters"),
    )
    caption = "Means over seeds with 95 % intervals."
    return (
        Table("Probes", (Column("what", words=True), Column("mean")), tuple(probes), caption),
        Table("Trainings", columns, tuple(runs), caption),
    )


def _named(values: Sequence[np.ndarray], s: int) -> dict[str, float]:
    return {task: float(v[s]) for task, v in zip(two_digits.TASKS, values, strict=True)}


STUDY = Study(
    name="E05",
    title="Nesterov look-ahead",
    question="Are the tasks' gradients better aligned where momentum is about to carry the parameters, and does "
    "training gain from it?",
    survey="The survey says that Nesterov's look-ahead offers mitigation: gradients taken ahead are better aligned. "
    "Alignment and better training are two claims.",
    controls=(
        Control("random", "That any displacement of this length would do: a random direction over all parameters."),
        Control("random per layer", "That how far each layer moves would do: a random direction in each of them."),
        Control("behind", "That the way back does the same: the opposite displacement (shown, not judged)."),
        Control("same mini-batch", "That the batch made the difference: both points see the same examples."),
        Control("own rate each", "That one optimiser was merely given a better rate: four each, chosen on validation."),
        Control(
            "tuned weights",
            "That a choice of loss weights does more: the best of five on validation, at width 4 alone.",
        ),
        Control("each task alone", "What could be reached at all; the reference of delta-m."),
        Control("equal CPU time", "That the gain is bought with time: also read where heavy ball's budget ends."),
    ),
    cells=(*(f"probe w={w}" for w in WIDTHS), *(f"train w={w}" for w in WIDTHS), "weights w=4"),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages=SABOTAGES,
    seconds=63.0,
)
