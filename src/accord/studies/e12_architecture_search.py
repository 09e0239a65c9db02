"""E12: accuracy against cost in the space of architectures, where both losses meet in 15 numbers.

Each edge of a small network mixes five operations by ``softmax(alpha)``. Weights follow the cross entropy of one half
of the training scans; alpha follows two losses, the cross entropy of the other half and the expected cost.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

import accord
from accord import latency, pareto
from accord.report.chart import Axis, Bars, Curves, Points, View
from accord.report.palette import Style, method_style, reference_style, single_style
from accord.report.table import Column, Table
from accord.studies.drawing import bar, line, point, text
from accord.studies.judging import Claim, above, all_of, any_of, below
from accord.studies.mixed_edges import (
    CHANNELS,
    EDGES,
    OPERATIONS,
    SIDE,
    Mixed,
    Scans,
    batches,
    operation,
    scans,
    table,
    train_anew,
)
from accord.studies.study import Control, Results, Study, Work

PRESSURES = (0.03, 0.1, 0.3, 1.0, 3.0)  # lambda, times the expected cost in units of the dearest architecture
WARM, SEARCH, ANEW = 50, 250, 500  # steps: weights alone, then weights and alpha in turns; training anew
SUM, FIRST, LAST = "Sum()", "Lexicographic()", "Lexicographic(ranks=(1.0, 0.0))"
STOPPED = f"{FIRST}, equal time"
NO_COST, SHUFFLED, NO_PROJECTION = "no cost", "labels shuffled", "no projection"
# Thresholds, from "Falsified if": intervals of paired differences must not include 0.
NO_DIFFERENCE = 0.0
WORTH = 0.011  # of the hypervolume: one point of test error in a hundred at every cost up to the dearest, times 1.1
NEARLY_FREE = 0.02  # share of the dearest cost: at most an edge that is a depthwise or a 1x1 convolution
DEAREST = 1.1  # the reference point of the hypervolume; its error is that of the architecture without any operation


@dataclass
class Found:
    """What a search left: the decided architecture, those along the way, the steps looked at, milliseconds a step."""

    architecture: tuple[str, ...]
    way: list[tuple[str, ...]]
    milliseconds: float
    measures: dict[str, float]


def search(start: Mixed, data: Scans, method: str, pressure: float, work: Work) -> Found:
    """Alpha and weights in turns, from a network whose weights have had a start."""
    net, steps = copy.deepcopy(start), 2 if work.smoke else SEARCH
    costs = torch.zeros_like(table()) if work.broken == NO_COST else table()  # (E, O)
    moves = torch.optim.Adam(net.weights(), lr=0.01)
    turns = torch.optim.Adam([net.alpha], lr=0.05, betas=(0.5, 0.999))
    plain = accord.Balancer(net, SUM)
    balancer = accord.Balancer(net, method, generator=torch.Generator().manual_seed(work.seed))
    monitor = accord.Monitor(net, every=5, blocks="total", optimizer=turns)
    monitor.attach(balancer)  # every fifth step: the angle, and what Adam's step did to both losses
    way, spent, counted, seen = [], 0.0, 0, []
    parts = (data.weights, data.choice)
    pairs = zip(*(batches(part, 64, steps, work.seed + i) for i, part in enumerate(parts, 1)), strict=True)
    for number, ((x, y), (u, v)) in enumerate(pairs):
        began = time.process_time()
        net.alpha.requires_grad_(False)
        plain.backward({"accuracy": cross_entropy(net(x), y)})
        moves.step()
        moves.zero_grad()
        only_alpha(net, True)
        losses = {"accuracy": cross_entropy(net(u), v)}
        if pressure:
            losses["cost"] = pressure * latency.expected(net.alpha, costs)
        balancer.backward(losses)
        turns.step()
        turns.zero_grad()
        if number % 5:
            spent, counted = spent + time.process_time() - began, counted + 1
        if number % 50 == 0:
            seen.append(without_noise(net, data, costs))
        only_alpha(net, False)
        way.append(net.decided())
    return Found(way[-1], way, 1000 * spent / counted, measures(monitor.record(), seen))


def only_alpha(net: Mixed, only: bool) -> None:
    """Let gradients reach the architecture alone, or everything again."""
    for parameter in net.weights():
        parameter.requires_grad_(not only)
    net.alpha.requires_grad_(True)


def without_noise(net: Mixed, data: Scans, costs: torch.Tensor) -> tuple[float, float]:
    """Cosine of accuracy and cost on the whole half for alpha; cosine of accuracy with itself on two batches."""
    (x, y), n = data.choice, 64
    losses = {name: cross_entropy(net(x[part]), y[part])
              for name, part in (("whole", slice(None)), ("one", slice(n)), ("two", slice(n, 2 * n)))}  # fmt: skip
    step = accord.Monitor(net, every=1).observe(losses | {"cost": latency.expected(net.alpha, costs)})
    assert step is not None
    cosines = accord.conflict.cosine(step.gramian)  # (4, 4)
    return float(cosines[0, 3]), float(cosines[1, 2])


def measures(record: Any, seen: list[tuple[float, float]]) -> dict[str, float]:
    """Conflict, its null, harm and survival, from the steps that were looked at."""
    whole, null = np.array(seen).T  # (n,)
    out = {"cosine whole": float(np.mean(whole)), "null conflict": float(np.mean(null < 0))}
    names = ("cosine", "conflict", "excess", "harm step", "norm ratio", "survival")
    if len(record.tasks) < 2:
        return out | dict.fromkeys(names, float("nan"))
    gramian, change = record.gramian, record.change.sum(1)  # (T, 2, 2), (T, 2)
    angle = accord.conflict.cosine(gramian)[:, 0, 1]  # (T,), NaN where a gradient is zero
    if np.isnan(angle).all():
        return out | dict.fromkeys(names, float("nan"))
    incidence = float(np.nanmean(accord.conflict.incidence(gramian)))
    found = (
        float(np.nanmean(angle)), incidence, incidence - out["null conflict"], float((change > 0).any(1).mean()),
        float(np.nanmedian(accord.conflict.norm_ratio(gramian))),
        float(np.nanmean(np.sqrt(1 - np.minimum(angle, 0.0) ** 2))),
    )  # fmt: skip
    return out | dict(zip(names, found, strict=True))


class Anew:
    """Test errors by architecture: each is trained once per seed, whoever found it."""

    def __init__(self, data: Scans, work: Work) -> None:
        self.data, self.seed, self.steps = data, work.seed, 2 if work.smoke else ANEW
        self.known: dict[tuple[str, ...], float] = {}

    def row(self, method: str, at: int, pressure: float, architecture: tuple[str, ...]) -> dict[str, Any]:
        """What is known of a decided architecture."""
        if architecture not in self.known:
            self.known[architecture] = train_anew(architecture, self.data, self.seed, self.steps)
        costs = table()[0]  # (O,), true ones whatever is broken
        cost = float(sum(costs[OPERATIONS.index(name)] for name in architecture))
        return {
            "method": method, "point": at, "pressure": pressure, "architecture": " ".join(architecture),
            "error": self.known[architecture], "cost": cost,
        }  # fmt: skip


def measure(work: Work) -> list[dict[str, Any]]:
    """The searches for all pressures, or what they are compared with."""
    data = scans(work.seed, shuffled=work.broken == SHUFFLED)
    start = Mixed(work.seed)
    anew = Anew(data, work)
    warm = accord.Balancer(start, SUM)
    moves = torch.optim.Adam(start.weights(), lr=0.01)
    start.alpha.requires_grad_(False)
    for x, y in batches(data.weights, 64, 2 if work.smoke else WARM, work.seed):
        warm.backward({"accuracy": cross_entropy(start(x), y)})
        moves.step()
        moves.zero_grad()
    return searches(start, data, anew, work) if work.cell == "searches" else controls(start, data, anew, work)


def searches(start: Mixed, data: Scans, anew: Anew, work: Work) -> list[dict[str, Any]]:
    """Sum and priority for each pressure, and accuracy alone."""
    rows = []
    alone = search(start, data, SUM, 0.0, work)
    rows.append(anew.row("accuracy alone", 0, 0.0, alone.architecture) | shown(alone))
    for at, pressure in enumerate(PRESSURES):
        plain = search(start, data, SUM, pressure, work)
        first = search(start, data, SUM if work.broken == NO_PROJECTION else FIRST, pressure, work)
        rows.append(anew.row(SUM, at, pressure, plain.architecture) | shown(plain))
        rows.append(anew.row(FIRST, at, pressure, first.architecture) | shown(first))
        affordable = int(len(first.way) * min(1.0, plain.milliseconds / first.milliseconds))
        rows.append(anew.row(f"{FIRST}, equal time", at, pressure, first.way[max(affordable, 1) - 1]))
    return rows


def controls(start: Mixed, data: Scans, anew: Anew, work: Work) -> list[dict[str, Any]]:
    """The wrong order, MGDA, architectures drawn by chance, the same operation everywhere; and what operations cost."""
    rows = []
    for method, pressures in ((LAST, (0.1, 1.0)), ("MGDA()", (1.0,))):
        for at, pressure in enumerate(pressures):
            found = search(start, data, method, pressure, work)
            rows.append(anew.row(method, at, pressure, found.architecture) | shown(found))
    every = list(product(OPERATIONS, repeat=EDGES))
    drawn = torch.randperm(len(every), generator=torch.Generator().manual_seed(work.seed)).tolist()[: len(PRESSURES)]
    rows += [anew.row("random", at, np.nan, every[i]) for at, i in enumerate(drawn)]
    rows += [anew.row("uniform", at, np.nan, (name,) * EDGES) for at, name in enumerate(OPERATIONS)]
    shape = (1, CHANNELS, SIDE, SIDE)
    for name in OPERATIONS:
        module = operation(name)
        spent = latency.milliseconds(module, shape, runs=3 if work.smoke else 200)
        rows.append({"operation": name, "kMAC": latency.macs(module, shape) / 1000, "ms": spent})
    return rows


def shown(found: Found) -> dict[str, float]:
    """The measures of a search."""
    return found.measures | {"ms/step": found.milliseconds}


def volumes(results: Results, method: str) -> np.ndarray:
    """(S,) hypervolumes in the plane of error and cost, beyond what the architecture without any operation has."""
    free = results.values("error", method="uniform", point=0)  # (S,)
    points = results.levels("point", method=method)
    both = np.array([[results.values(name, method=method, point=p) for name in ("error", "cost")] for p in points])
    return np.array([pareto.hypervolume(both[:, :, s], (f, DEAREST)) for s, f in enumerate(free)])


def judge(results: Results) -> tuple[Claim, ...]:
    """Four claims; see ``Falsified if`` in their rules."""
    plain, first, short, chance, same = (volumes(results, m) for m in (SUM, FIRST, STOPPED, "random", "uniform"))
    angle = [results.values("cosine whole", method=SUM, pressure=p) for p in (PRESSURES[0], PRESSURES[-1])]
    dearest = results.values("cost", method=LAST, point=0)
    return (
        Claim(
            "pressure", "The more the cost weighs, the more the two losses are in conflict.",
            f"cosine on the whole half for alpha at pressure {PRESSURES[-1]:g} minus that at {PRESSURES[0]:g} below 0",
            below("difference of cosines", angle[1] - angle[0], NO_DIFFERENCE),
        ),
        Claim(
            "front", "Projecting the cost on what leaves accuracy alone is better than weighing the two.",
            f"hypervolume of five priorities above that of five weighted sums by {WORTH:g}, that is one point of error "
            "in a hundred at every cost, also when stopped at the sum's time, and as far above that of five random "
            "architectures; not supported if one of the intervals ends below that",
            all_of(above("priority minus sum", first - plain, WORTH),
                   above("the same at equal time", short - plain, WORTH),
                   above("priority minus random", first - chance, WORTH)),
        ),
        Claim(
            "search", "A search is worth its cost.",
            f"hypervolume of priority or of the sum (two tests) by {WORTH:g} above that of as many random "
            "architectures, and as far above that of the same operation everywhere, which needs no search",
            any_of(*(all_of(above(f"{name} minus random", found - chance, WORTH),
                            above(f"{name} minus uniform", found - same, WORTH))
                     for name, found in (("priority", first), ("sum", plain)))),
        ),
        Claim(
            "order", "With the cost before accuracy the search ends at an architecture that costs next to nothing.",
            f"cost at pressure 0.1 below {NEARLY_FREE:g} of the dearest", below("cost", dearest, NEARLY_FREE),
        ),
    )  # fmt: skip


STYLES: dict[str, Style] = {
    SUM: reference_style(), FIRST: method_style(0), "random": method_style(1), "uniform": method_style(2),
    LAST: method_style(3), "MGDA()": method_style(4), "accuracy alone": single_style(),
    STOPPED: method_style(5),
}  # fmt: skip


def charts(results: Results) -> tuple[View, ...]:
    """The fronts, and the conflict over the pressure."""
    marks = []
    for method, style in STYLES.items():
        for p in results.levels("point", method=method):
            x, y = (results.values(name, method=method, point=p) for name in ("cost", "error"))
            marks.append(point(method, x, y, style, f"point {p + 1}"))
    fronts = (SUM, FIRST, STOPPED, "random", "uniform")
    gain = [bar(method, [volumes(results, method)], STYLES[method]) for method in fronts]
    lines = [
        line(f"{method}, {label}", PRESSURES,
              np.stack([results.values(name, method=method, pressure=p) for p in PRESSURES], 1),
              Style(STYLES[method].colour, dash))
        for method in (SUM, FIRST)
        for name, label, dash in (("cosine", "batch of 64", "dot"), ("cosine whole", "whole half", "solid"))
    ]  # fmt: skip
    cost, error = Axis("cost, share of the dearest architecture"), Axis("test error after training anew")
    return (
        View("Fronts", (Points("Decided architectures", cost, error, tuple(marks)),
                        Bars("Hypervolume", ("beyond no operation at all",), tuple(gain), Axis("hypervolume")))),
        View("Conflict", (Curves("Accuracy and cost", Axis("pressure", log=True), Axis("cosine"), tuple(lines), 0.0),)),
    )  # fmt: skip


def tables(results: Results) -> tuple[Table, ...]:
    """Every point, and what the operations cost in counts and in time."""
    names = ("cost", "error", "cosine", "cosine whole", "conflict", "null conflict", "harm step", "norm ratio",
             "survival", "ms/step")  # fmt: skip
    body = []
    for method in STYLES:
        for p in results.levels("point", method=method):
            rows = results.where(method=method, point=p)
            pressure = rows[0]["pressure"]
            cells = [text(results.values(n, method=method, point=p)) if n in rows[0] else "" for n in names]
            body.append((method, "" if np.isnan(pressure) else f"{pressure:g}", *cells))
    costs = [(name, f"{results.values('kMAC', operation=name)[0]:g}", text(results.values("ms", operation=name)))
             for name in OPERATIONS]  # fmt: skip
    return (
        Table("Searches and controls", (Column("Method", words=True), Column("Pressure"), *map(Column, names)),
              tuple(body), "Means over seeds with 95 % intervals. Survival: how much a projection would leave of the "
              "length of the cost's gradient. There is no Δm, the mean relative gain over each task alone: cost alone "
              "ends at no operation, which costs nothing, and no cost is a multiple of 0."),
        Table("Operations", (Column("Operation", words=True), Column("kMAC"), Column("ms")), tuple(costs),
              "Counts are the same everywhere; times are medians of 200 on this machine, one image, one thread."),
    )  # fmt: skip


STUDY = Study(
    name="E12",
    title="Architecture search: accuracy against cost",
    question="Does projecting the gradient of the cost on what leaves accuracy alone find better architectures than "
    "weighing the two? Are either better than architectures drawn by chance?",
    survey="The survey says that accuracy and latency conflict, and that projecting the update for latency finds an "
    "efficient architecture without sacrificing accuracy. That holds to first order, and only for the noisy gradient "
    "of accuracy on a batch.",
    controls=(
        Control("tuned weights", "that a smaller weight of the cost does the same: five weights of a plain sum"),
        Control("random", "that any five architectures make as good a front: as many, trained anew as long"),
        Control("uniform", "that no search is needed at all: the same operation on every edge"),
        Control("accuracy alone", "that accuracy is lost for another reason than the cost: the search without it"),
        Control("cost alone", "the other end: no operation at all costs nothing, and needs no search (uniform, skip)"),
        Control("equal time", "that a dearer step is the reason: priority, stopped when the sum's time is used up"),
        Control("the wrong order", "that any projection does: cost before accuracy, and MGDA, which has no order"),
        Control("long training anew", "that quick learners win: every architecture ends its schedule"),
    ),
    cells=("searches", "controls"),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        NO_PROJECTION: "Priority is replaced by the plain sum: `front` can then not be supported.",
        NO_COST: "All operations are said to cost nothing: `pressure` and `order` lose their verdicts.",
        SHUFFLED: "Labels for training mean nothing: all architectures are at chance, `pressure` loses its verdict.",
    },
    seconds=176.0,
)
