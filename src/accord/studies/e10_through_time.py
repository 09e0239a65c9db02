"""E10: an early and a late loss share recurrent weights: do they conflict in the steps that both teach, and what helps?

The weights are handed out by time step (``accord.uses``), so that each step's contribution to each loss is known
exactly, and truncated backpropagation (``accord.through_time``) is seen to be what it is: some of them left out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

import accord
from accord.bench.stats import interval
from accord.report.chart import Axis, Curve, Curves, Point, Points, View
from accord.report.palette import method_style, reference_style, single_style, task_style
from accord.report.table import Column, Table
from accord.studies.judging import Claim, above, all_of, any_of, below
from accord.studies.sequences import EARLY, STEPS_IN_TIME, TASKS, TRAIN, Net, Part, load
from accord.studies.step_looks import SIGNAL, seen
from accord.studies.study import Array, Control, Results, Row, Study, Work

# What decides, fixed before any run
NOTHING = 0.0  # "costs" and "helps": the whole interval on one side of no difference (specification)
DECAY = 0.3  # decades, a factor of two, by which conflict would have to deepen the vanishing to be called its cause

CELLS = ("RNN, 8 units", "GRU, 8 units", "RNN, 24 units", "GRU, 24 units")
STEPS, BATCH, RATE, LOOK, CHECK = 400, 64, 1e-2, 40, 40
SUM, PCGRAD, MATCHED = "sum", "PCGrad()", "PCGrad(), length of the sum"
LATE_FIRST, EARLY_FIRST = "late loss first", "early loss first"
STATIC = {f"static {a:g}:{b:g}": (a, b) for a, b in ((4.0, 1.0), (2.0, 1.0), (1.0, 2.0), (1.0, 4.0))}
WINDOWS = {f"last {k} steps": k for k in (3, 5, 10)}
CUT = "last 5 steps"
ALONE = {f"{task} alone": task for task in TASKS}


class Arm(NamedTuple):
    """One training; ``window`` is how many steps the late loss teaches."""

    name: str
    method: str = "Sum()"
    scale: str = "sum"
    weights: tuple[float, float] = (1.0, 1.0)
    window: int = STEPS_IN_TIME
    tasks: tuple[str, ...] = TASKS


PLAIN = (Arm(SUM), *(Arm(name, tasks=(task,)) for name, task in ALONE.items()))
CUTS = tuple(Arm(name, window=k) for name, k in WINDOWS.items())
MITIGATIONS = (
    Arm(PCGRAD, "PCGrad()"),
    Arm(MATCHED, "PCGrad()", "match-norm"),
    Arm(LATE_FIRST, "Lexicographic(ranks=(1, 0))"),
    Arm(EARLY_FIRST, "Lexicographic(ranks=(0, 1))"),
    *(Arm(name, weights=weights) for name, weights in STATIC.items()),
)
ARMS = {
    "RNN, 8 units": (*PLAIN, Arm(CUT, window=5)),
    "GRU, 8 units": (*PLAIN, Arm(CUT, window=5)),
    "RNN, 24 units": (*PLAIN, *CUTS, *MITIGATIONS),  # where it costs least, everything is compared
    "GRU, 24 units": (*PLAIN, *CUTS),
}
LOOKED = (SUM, "B alone", PCGRAD)
FULL, WIDE = "RNN, 24 units", ("RNN, 24 units", "GRU, 24 units")


def fit(net: Net, parts: dict[str, Part], arm: Arm, work: Work) -> dict[str, Any]:
    """Train one arm; what it came to, what it cost, and what the looks saw."""
    steps, every = (3, 2) if work.smoke else (STEPS, LOOK)
    window = STEPS_IN_TIME if work.broken == "no truncation" else arm.window
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    balancer = accord.Balancer(net, arm.method, scale=arm.scale, seed=work.seed)  # type: ignore[arg-type]
    draw = torch.Generator().manual_seed(work.seed + 1)
    large, small, radii, checks, spent = [], [], [], [], 0.0
    for number in range(1, steps + 1):
        part = parts["train"].at(torch.randperm(TRAIN, generator=draw)[:BATCH])
        if arm.name in LOOKED and (number - 1) % every == 0:
            large.append(net.by_step(parts["train"]).numpy())
            small.append(net.by_step(part).numpy())
            radii.append(net.radius())
        began = time.process_time()
        balancer.backward(net.losses(part, window, arm.tasks, arm.weights))
        optimizer.step()
        optimizer.zero_grad()
        spent += time.process_time() - began
        if number % CHECK == 0 or number == steps:
            found = {name: net.evaluate(parts[name]) for name in ("validation", "test")}
            checks.append({f"{n} {m}": v for n, measures in found.items() for m, v in measures.items()})
    curves = {f"{name} curve": [check[name] for check in checks] for name in checks[0]}
    out = {**checks[-1], **curves, "ms/step": 1000 * spent / steps}
    return out | (seen(np.stack(large), np.stack(small), work.broken) | {"radius": radii} if large else {})


def measure(work: Work) -> Sequence[Row]:
    """All arms of one net."""
    kind, units = work.cell.split(", ")
    parts = load(work.seed, shuffled=work.broken == "shuffled digits")
    rows: list[dict[str, Any]] = []
    for arm in ARMS[work.cell]:
        net = Net(work.seed, kind, int(units.split()[0]))  # type: ignore[arg-type]
        rows.append({"net": work.cell, "arm": arm.name, **fit(net, parts, arm, work)})
    single = {task: next(row for row in rows if row["arm"] == f"{task} alone") for task in TASKS}
    for row in rows:
        share = min(1.0, rows[0]["ms/step"] / row["ms/step"])  # of its steps, in the CPU time of the plain sum
        for part in ("validation", "test"):
            row[f"{part} delta_m"] = _delta(row, single, part, 1.0)
        row["test delta_m at equal cost"] = _delta(row, single, "test", share)
        if row["arm"] in ALONE:  # the other head has learnt nothing: there is no trade to speak of
            row |= dict.fromkeys(("validation delta_m", "test delta_m", "test delta_m at equal cost"), float("nan"))
        row["test worst ratio"] = max(row[f"test {t} loss"] / single[t][f"test {t} loss"] for t in TASKS)
    return rows


def _delta(row: Row, single: dict[str, dict[str, Any]], part: str, share: float) -> float:
    """Mean relative change of both losses against training for one of them alone; below zero is better."""
    changes = []
    for task in TASKS:
        curve = row[f"{part} {task} loss curve"]
        here = float(np.interp(share * len(curve), np.arange(1, len(curve) + 1), curve))
        changes.append(here / single[task][f"{part} {task} loss"] - 1)
    return float(np.mean(changes))


def best_static(results: Results) -> Array:
    """Delta-m on test of the static weights that validate best, seed by seed; the sum is one of the five."""
    arms = (SUM, *STATIC)
    chosen = np.argmin([results.values("validation delta_m", net=FULL, arm=arm) for arm in arms], axis=0)  # (S,)
    test = np.array([results.values("test delta_m", net=FULL, arm=arm) for arm in arms])  # (5, S)
    return test[chosen, np.arange(len(chosen))]


def judge(results: Results) -> tuple[Claim, ...]:
    """Conflict in the shared steps; what truncation costs and gains; mitigations; vanishing."""

    def gap(measure: str, net: str, arm: str, reference: str = SUM) -> Array:
        return results.values(measure, net=net, arm=arm) - results.values(measure, net=net, arm=reference)

    def helps(arm: str) -> Any:
        reference = results.values("test delta_m", net=FULL, arm=SUM)
        tests = [
            below(f"{arm} − sum", gap("test delta_m", FULL, arm), NOTHING),
            below(
                "at equal cost", results.values("test delta_m at equal cost", net=FULL, arm=arm) - reference, NOTHING
            ),
            below("− best static", results.values("test delta_m", net=FULL, arm=arm) - best_static(results), NOTHING),
        ]
        if arm == PCGRAD:
            tests.append(below("of the sum's length − sum", gap("test delta_m", FULL, MATCHED), NOTHING))
        return all_of(*tests)

    nets = results.levels("net")
    conflict = [above(net, results.values("full excess", net=net, arm=SUM), NOTHING) for net in nets]
    decay = [above(f"sum − {arm}", gap("decay", FULL, SUM, arm), DECAY) for arm in ("B alone", PCGRAD)]
    tried = (PCGRAD, LATE_FIRST, EARLY_FIRST, CUT)
    return (
        Claim(
            "conflict in time",
            "In the steps that both teach, cosines of the early and the late loss are negative more often than noise "
            "explains (as often as not is enough for that: the mean cosine stands in the table).",
            f"supported if in one of {len(nets)} nets negative cosines in steps 1 to {EARLY}, on all training scans, "
            "are more frequent than of the noisier loss with itself, where the late loss's contribution has at least "
            f"{SIGNAL:.0%} of its longest; not supported if less frequent in all",
            any_of(*conflict),
        ),
        Claim(
            "truncation costs the late loss", "Cutting the late loss's past to 5 steps costs it accuracy.",
            "supported if its test accuracy falls for both nets of 24 units",
            all_of(*(below(net, gap("test B accuracy", net, CUT), NOTHING) for net in WIDE)),
        ),
        Claim(
            "truncation helps the early loss", "Cutting the late loss's past to 5 steps makes the early loss smaller.",
            "supported if its test error falls for both nets of 24 units",
            all_of(*(below(net, gap("test A loss", net, CUT), NOTHING) for net in WIDE)),
        ),
        Claim(
            "a mitigation pays", "Surgery, a priority or truncation makes both losses together smaller (Delta-m).",
            f"supported if for {FULL} one of {len(tried)} is better than the sum at equal steps and at equal CPU time, "
            "and than the best of five static weights; PCGrad also at the sum's length", any_of(*map(helps, tried)),
        ),
        Claim(
            "conflict makes gradients vanish", "Conflict of the losses deepens the vanishing of the late gradient.",
            f"supported if for {FULL} its length falls from the last step to step {EARLY} by {DECAY} decades more than "
            "in a training without the other loss, and than in one with it whose conflict PCGrad removes",
            all_of(*decay),
        ),
    )  # fmt: skip


def charts(results: Results) -> tuple[View, ...]:
    """For each net: how far gradients reach, how often they conflict, and what each arm came to."""
    return tuple(
        View(net, (_lengths(results, net), _incidence(results, net), _outcomes(results, net)))
        for net in results.levels("net")
    )


def _line(results: Results, net: str, measure: str, name: str, style: Any, arm: str = SUM) -> Curve:
    values = results.curve(measure, net=net, arm=arm)  # (S, T)
    x = np.arange(1.0, values.shape[1] + 1)
    return Curve(name, x, values.mean(0), style, values.min(0), values.max(0))


def _lengths(results: Results, net: str) -> Curves:
    lines = [
        _line(results, net, "A length by step", "early loss", task_style(0)),
        _line(results, net, "B length by step", "late loss", task_style(1)),
        _line(results, net, "B length by step", "late loss, trained alone", single_style(), "B alone"),
    ]
    return Curves("Length of each time step's contribution", Axis("time step"), Axis("length", log=True), tuple(lines))


def _incidence(results: Results, net: str) -> Curves:
    lines = [
        _line(results, net, "full incidence by step", "all scans", method_style(0)),
        _line(results, net, "full null by step", "all scans: same loss", reference_style()),
        _line(results, net, "batch incidence by step", "mini-batch", method_style(1)),
        _line(results, net, "batch null by step", "mini-batch: same loss", method_style(4)),
    ]
    return Curves("Negative cosines of both losses", Axis("time step"), Axis("share", share=True), tuple(lines), 0.5)


def _outcomes(results: Results, net: str) -> Points:
    points = []
    for k, arm in enumerate(a for a in results.levels("arm", net=net) if a not in ALONE):
        style = reference_style() if arm == SUM else method_style(k - 1)
        x, y = (interval(results.values(m, net=net, arm=arm).tolist()) for m in ("test A loss", "test B loss"))
        points.append(Point(arm, x.mean, y.mean, style, (x.low, x.high), (y.low, y.high)))
    alone = [results.values(f"test {t} loss", net=net, arm=f"{t} alone").mean() for t in TASKS]
    corner = (float(alone[0]), float(alone[1]), "each alone")
    return Points("Test losses, lower left is better", Axis("early loss"), Axis("late loss"), tuple(points), corner)


def tables(results: Results) -> tuple[Table, ...]:
    """What each arm came to and cost; what the looks saw."""
    ends = ("test A loss", "test B loss", "test B accuracy", "test delta_m", "test delta_m at equal cost",
            "test worst ratio", "ms/step")  # fmt: skip
    shared = ("incidence", "excess", "cosine, steps", "corrected, steps", "conflict, whole", "cosine, whole")
    arms = [(net, arm) for net in results.levels("net") for arm in results.levels("arm", net=net)]
    sums = [(net, SUM) for net in results.levels("net")]
    reach = [(net, arm) for net, arm in arms if arm in LOOKED]
    return (
        _table("Every arm", results, arms, ends, "Mean [95 % interval] over seeds; Delta-m against each loss alone."),
        _table("All training scans", results, sums, tuple(f"full {name}" for name in shared), "Steps: 1 to 3 in time."),
        _table("Mini-batches", results, sums, tuple(f"batch {name}" for name in shared), "The same with noise."),
        _table("The late gradient's reach", results, reach, ("decay", "no signal", "full norm ratio", "last radius"), (
            "decay: decades from the last step to step 3; no signal: share of looks and steps 1 to 3 in which the late "
            "loss has less than 1 % of its longest contribution, left out above; radius: spectral, of the weights."
        )),
    )  # fmt: skip


def _table(
    title: str, results: Results, rows: Sequence[tuple[str, str]], measures: Sequence[str], caption: str
) -> Table:
    def cell(measure: str, net: str, arm: str) -> str:
        if measure == "last radius":
            return str(interval(results.curve("radius", net=net, arm=arm)[:, -1].tolist()))
        return str(interval(results.values(measure, net=net, arm=arm).tolist()))

    cells = tuple((f"{net}: {arm}", *(cell(m, net, arm) for m in measures)) for net, arm in rows)
    return Table(title, (Column("", words=True), *map(Column, measures)), cells, caption)


STUDY = Study(
    name="E10",
    title="Conflict through time",
    question="Do an early and a late loss of a recurrent net conflict in the time steps that both teach, and does "
    "truncation, surgery or a priority help?",
    survey="The survey says that losses at different times conflict in shared recurrent weights, that this can make "
    "gradients explode or vanish, and that truncated backpropagation mitigates it. Vanishing comes from the product of "
    "the steps' Jacobians; it can hide a conflict. After truncation early steps are free of it by construction.",
    controls=(
        Control("five static weights", "that a plain reweighting of the losses buys the same"),
        Control(
            "each loss alone", "that a loss would be no better by itself; for vanishing: that conflict is its cause"
        ),
        Control("equal CPU time", "that a gain is bought with dearer steps"),
        Control("PCGrad of the sum's length", "that a shorter step, and not its direction, makes the difference"),
        Control("all training scans", "that conflict on mini-batches is sampling noise"),
        Control(
            "each loss with itself", "that so many negative cosines come from noise; of both losses the noisier one"
        ),
        Control(
            "PCGrad, for vanishing",
            "that the other loss, and not the conflict with it, changes how far gradients reach",
        ),
        Control("windows of 3, 5, 10 and all 20 steps", "that one length of the window was picked"),
    ),
    cells=CELLS,
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        "no truncation": "The window of 5 steps is all 20: truncation must no longer cost the late loss anything.",
        "shuffled digits": "The late loss has nothing to learn: truncation can then cost it nothing.",
        "one loss twice": "The looks compare the early loss with itself: there must be no conflict beyond noise.",
    },
    seconds=76.0,
)
