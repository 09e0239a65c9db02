"""E11: do masked words, next sentence and replaced words pull the same small transformer in different directions?"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

import accord
from accord import noise
from accord.bench.stats import delta_m
from accord.report.chart import Axis, Curves, Intervals, View
from accord.report.palette import method_style, task_style
from accord.report.table import Column, Table
from accord.studies import pretraining
from accord.studies.drawing import estimate, line, text
from accord.studies.judging import Claim, any_of, below
from accord.studies.study import Control, Results, Study, Work

TASKS = ("MLM", "NSP", "RTD")
PAIRS = tuple(combinations(TASKS, 2))
FAR, OFTEN = 0.3, 0.5  # specification, E11: "orthogonal" is wrong if a |cos| beyond 0.3 persists over half of training
SCALES = ("all", "embedding", "layers")

STEPS, BATCH, RATE = 1000, 16, 1e-3
# Parts of the training, looks in each, and pairs of sentences in each half of a look. A pilot with halves of 16 showed
# that no phase could be told from noise: a task conflicted with itself on a third of the looks.
PHASES, LOOKS, HALF = 5, 12, 64
CHECK_EVERY = 50
JOINT = "joint"
OPPOSED = "opposed"


def measure(work: Work) -> list[dict[str, Any]]:
    """Train one arm, looking at the joint one with two half-batches of its own."""
    train, other, chances = pretraining.corpus(work.seed, 0.15)
    steps, looks = (6, 3) if work.smoke else (STEPS, PHASES * LOOKS)
    objectives = TASKS if work.cell == JOINT else (work.cell.removesuffix(" alone"),)
    model = pretraining.Model(work.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    validation = list(pretraining.batches(other, 64, 1 if work.smoke else 6, chances, work.seed + 1))
    seen = pretraining.batches(train, 16 if work.smoke else HALF, 2 * looks, chances, work.seed + 2)  # for looks alone
    # What is shared has to be said: a head is reached by both halves of its own loss.
    monitor = accord.Monitor(model, every=1, blocks=pretraining.blocks(model), shared=list(pretraining.SHARED))
    balancer = accord.Balancer(model, "Sum()")

    def losses(given: pretraining.Batch) -> dict[str, torch.Tensor]:
        found = model.losses(given, objectives)
        return found | {"NSP": -found["MLM"]} if work.broken == OPPOSED and len(found) > 1 else found

    curves: dict[str, list[float]] = {f"{name} loss": [] for name in objectives}
    checks, spent = [], 0.0
    for number, given in enumerate(pretraining.batches(train, BATCH, steps, chances, work.seed + 3)):
        if len(objectives) > 1 and number * looks // steps > (number - 1) * looks // steps:
            monitor.observe(noise.halves(losses(next(seen)), losses(next(seen))))
        began = time.process_time()
        balancer.backward(losses(given))
        optimizer.step()
        optimizer.zero_grad()
        spent += time.process_time() - began
        if (number + 1) % CHECK_EVERY == 0 or number + 1 == steps:
            checks.append(float(number + 1))
            for name, value in pretraining.evaluate(model, validation, objectives).items():
                curves[name].append(value)
    row = {"arm": work.cell, "checks": checks, "ms/step": 1000 * spent / steps, "text": pretraining.text_hash()}
    row |= {"python": f"{sys.version_info.major}.{sys.version_info.minor}", "train pairs": len(train)}
    rows = [row | {f"{name} curve": curve for name, curve in curves.items()}]
    rows[0] |= {name: curve[-1] for name, curve in curves.items()}
    if len(objectives) > 1:
        rows += _angles(monitor.record(), 1 if work.smoke else PHASES)
    return rows


def _angles(record: Any, phases: int) -> list[dict[str, Any]]:
    """One row for each pair of objectives and each part of the model."""
    parts = {"all": record.gramians.sum(1), "embedding": record.gramians[:, list(record.blocks).index("embedding")]}
    parts["layers"] = parts["all"] - parts["embedding"]
    rows = []
    for scale, gramians in parts.items():  # (T, 6, 6)
        found = [noise.corrected_cosine(part) for part in np.array_split(gramians, phases)]
        excess = noise.excess_incidence(gramians)
        cosine = accord.conflict.cosine(gramians)[:, : len(TASKS), : len(TASKS)]  # (T, 3, 3) in one half
        norms = accord.conflict.norms(gramians)[:, : len(TASKS)]  # (T, 3)
        for i, j in combinations(range(len(TASKS)), 2):
            value = np.array([phase.value[i, j] for phase in found])  # (phases,)
            rows.append(
                {
                    "pair": f"{TASKS[i]}-{TASKS[j]}",
                    "scale": scale,
                    "corrected by phase": value.tolist(),
                    "raw by phase": [float(part[:, i, j].mean()) for part in np.array_split(cosine, phases)],
                    "corrected": float(np.nanmean(value)) if np.isfinite(value).any() else float("nan"),
                    "raw": float(cosine[:, i, j].mean()),
                    "identifiable": float(np.isfinite(value).mean()),
                    "far": _far(value),
                    "conflict": float((cosine[:, i, j] < 0).mean()),
                    "null": float(excess.null[i, j]),
                    "excess": float(excess.value[i, j]),
                    "norm ratio": float(np.median(norms[:, i] / norms[:, j])),
                }
            )
    return rows


def _far(values: np.ndarray) -> float:
    """Share of the phases in which the corrected cosine is far from 0; NaN if most of them cannot be told.

    Example:
        >>> _far(np.array([0.5, 0.1, np.nan])), _far(np.array([0.5, np.nan, np.nan]))
        (0.5, nan)
    """
    known = values[np.isfinite(values)]
    return float((np.abs(known) > FAR).mean()) if 2 * len(known) > len(values) else float("nan")


def _delta(results: Results, *, equal_cost: bool = False) -> np.ndarray:
    """(S,) delta-m of the joint model against one model for each objective; lower losses are better."""
    out = []
    for s, _ in enumerate(results.seeds):
        joint = {name: float(results.values(f"{name} loss", arm=JOINT)[s]) for name in TASKS}
        alone = {name: _alone(results, name, s, equal_cost) for name in TASKS}
        out.append(delta_m(joint, alone, dict.fromkeys(TASKS, False)))
    return np.array(out)


def _alone(results: Results, name: str, s: int, equal_cost: bool) -> float:
    """The loss of a model for one objective, at its end or where all three have cost as much as the joint one."""
    arms = [f"{task} alone" for task in TASKS]
    curve = results.curve(f"{name} loss curve", arm=f"{name} alone")[s]  # (T,)
    checks = results.curve("checks", arm=f"{name} alone")[s]  # (T,)
    if not equal_cost:
        return float(curve[-1])
    share = results.values("ms/step", arm=JOINT)[s] / sum(results.values("ms/step", arm=arm)[s] for arm in arms)
    return float(np.interp(checks[-1] * min(1.0, share), checks, curve))


def judge(results: Results) -> tuple[Claim, ...]:
    """The survey's claim, its correction pair by pair, and what sharing costs."""
    pairs = [f"{a}-{b}" for a, b in PAIRS]
    mean = {pair: results.values("corrected", pair=pair, scale="all") for pair in pairs}
    apart = tuple(
        Claim(
            f"{pair} orthogonal",
            f"{pair}: the two gradients are nearly orthogonal for most of the training.",
            f"supported if |corrected cosine| is beyond {FAR} in less than {OFTEN:.0%} of the phases, not supported if "
            "in more; inconclusive if for one seed most phases cannot be told from noise",
            below("share of phases beyond", results.values("far", pair=pair, scale="all"), OFTEN),
        )
        for pair in pairs
    )
    return (
        Claim(
            "conflict",
            "Pre-training with several objectives is in conflict: the corrected cosine of a pair is negative.",
            "supported if it is below 0 for one of the three pairs, on average over the training; not supported if it "
            "is above 0 for all of them",
            any_of(*(below(f"{pair}: mean corrected cosine", mean[pair], 0.0) for pair in pairs)),
        ),
        *apart,
        Claim(
            "sharing costs",
            "One model for all three objectives is worse than one for each, after as many steps.",
            "supported if delta-m (mean relative improvement of the validation losses) is below 0, not supported if "
            "above",
            below("delta-m", _delta(results), 0.0),
        ),
        Claim(
            "separate is better at equal cost",
            "Three models are better than one when all three together may only cost as much as the one.",
            "supported if delta-m at equal CPU time is below 0, not supported if above",
            below("delta-m at equal cost", _delta(results, equal_cost=True), 0.0),
        ),
    )


def charts(results: Results) -> tuple[View, ...]:
    """Cosines by phase, with and without the embedding, and the losses."""
    phases = range(1, len(results.where(scale="all")[0]["raw by phase"]) + 1)
    cosines = tuple(
        Curves(
            f"{scale}: {kind}",
            Axis("phase of the training"),
            Axis("cosine"),
            tuple(
                line(pair, list(phases), results.curve(f"{kind} by phase", pair=pair, scale=scale), method_style(i))
                for i, pair in enumerate(results.levels("pair"))
            ),
            level=0.0,
        )
        for scale in SCALES
        for kind in ("raw", "corrected")
    )
    checks = results.curve("checks", arm=JOINT)[0].tolist()  # (T,)
    losses = tuple(
        Curves(
            name,
            Axis("step"),
            Axis("validation loss (nats)"),
            tuple(
                line(arm, checks, results.curve(f"{name} loss curve", arm=arm), style)
                for arm, style in ((JOINT, method_style(0)), (f"{name} alone", task_style(i)))
            ),
        )
        for i, name in enumerate(TASKS)
    )  # fmt: skip
    rows = (
        estimate("equal steps", _delta(results), method_style(0)),
        estimate("equal CPU time", _delta(results, equal_cost=True), method_style(1)),
    )
    return (
        View("Cosine, whole encoder", cosines[:2]),
        View("Cosine, embedding", cosines[2:4]),
        View("Cosine, layers without the embedding", cosines[4:]),
        View("Losses", losses),
        View("Joint model against separate ones", (Intervals("Delta-m", Axis("delta-m"), rows),)),
    )


def tables(results: Results) -> tuple[Table, ...]:
    """Angles, and what comes out of the training at what cost."""
    names = ("raw", "corrected", "identifiable", "far", "conflict", "null", "excess", "norm ratio")
    angles = [
        (f"{pair}, {scale}", *(text(results.values(name, pair=pair, scale=scale)) for name in names))
        for scale in SCALES
        for pair in results.levels("pair")
    ]
    hints = (
        "mean cosine in one half-batch", "mean over phases that can be told", "share of the phases that can be told",
        f"share of those with a |cosine| above {FAR}", "share of looks with a negative cosine",
        "that of each task with itself", "across halves, above the null", "median of |g1| / |g2|",
    )  # fmt: skip
    arms = [
        (
            arm,
            *(text(results.values(f"{n} loss", arm=arm)) if arm in (JOINT, f"{n} alone") else "" for n in TASKS),
            text(results.values("ms/step", arm=arm)),
        )
        for arm in results.levels("arm")
    ]
    first = results.where(arm=JOINT)[0]
    caption = (
        f"Text: help topics of Python {first['python']}, hash {first['text']}, {first['train pairs']} pairs to train. "
        "Validation losses after all steps; CPU time without looks and evaluation."
    )
    return (
        Table("Angles", (Column("pair and part", words=True), *map(Column, names, hints)), tuple(angles)),
        Table("Losses", tuple(map(Column, ("arm", *(f"{n} loss" for n in TASKS), "ms/step"))), tuple(arms), caption),
    )


CELLS: Sequence[str] = (JOINT, *(f"{name} alone" for name in TASKS))

STUDY = Study(
    name="E11",
    title="Language pre-training with three objectives",
    question="Do masked words, next sentence and replaced words pull a small transformer in different directions, and "
    "is one model for all three worse than one for each?",
    survey="The survey names pre-training with several objectives as a place of conflict. That orthogonal "
    "gradients do no harm holds to first order only.",
    controls=(
        Control("each objective alone", "That a loss is high because the task is hard: the same encoder and steps."),
        Control("equal CPU time", "That separate models only win because they cost more."),
        Control("same task", "That a negative cosine on a batch means conflict: each objective against itself."),
        Control("corrected cosine", "That 'orthogonal' only means noise: what cannot be told is left out and counted."),
        Control("without the embedding", "That the angle is one of rare words that only one objective touches."),
        Control("same sentences", "That the objectives differ because their inputs do: all read the same pairs."),
    ),
    cells=tuple(CELLS),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        OPPOSED: "NSP is replaced by the negative of MLM; 'MLM-NSP orthogonal' must become not supported, and "
        "'conflict' supported."
    },
    seconds=163.0,
)
