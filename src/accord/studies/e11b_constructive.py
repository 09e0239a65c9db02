"""E11b: constructive disagreement. Are objectives that agree better teachers, or those that do not?"""

from __future__ import annotations

import sys
import time
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import accord
from accord import noise
from accord.report.chart import Axis, Intervals, Points, View
from accord.report.palette import method_style, single_style
from accord.report.table import Column, Table
from accord.studies import pretraining
from accord.studies.drawing import estimate, point, text
from accord.studies.judging import Claim, above, below
from accord.studies.study import Control, Results, Study, Work

Array = NDArray[np.float64]
TASKS = pretraining.OBJECTIVES
MIXES = tuple("+".join(mix) for size in (2, 3, 4) for mix in combinations(TASKS, size))  # 11 with a cosine
SINGLE = tuple(f"{task} alone" for task in TASKS)
NONE = "none"

# Specification, E11b: a relation counts if the interval of Spearman's correlation excludes 0.
RELATION = 0.0
LEARNT = 0.0  # pre-training must beat the untrained encoder, or the probe says nothing about it
READS = 0.1  # ours: the probe must beat the largest topic's share by this much, or it says nothing at all

STEPS, BATCH, RATE = 250, 16, 1e-3
LOOKS, HALF = 12, 48
HELD_OUT, TOPICS, FOLDS = 0.4, 6, 5  # the probe: the six largest topics among pairs that pre-training never saw
SHUFFLED = "shuffled topics"


def measure(work: Work) -> list[dict[str, Any]]:
    """Pre-train with one mix, look at the angles of its objectives, and ask a linear probe for the topic."""
    train, other, chances = pretraining.corpus(work.seed, HELD_OUT)
    steps, looks = (4, 2) if work.smoke else (STEPS, LOOKS)
    objectives = _objectives(work.cell)
    model = pretraining.Model(work.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    balancer = accord.Balancer(model, "Sum()")
    seen = pretraining.batches(train, 16 if work.smoke else HALF, 2 * looks, chances, work.seed + 2)
    monitor = accord.Monitor(model, every=1, blocks="total", shared=list(pretraining.SHARED))
    spent = 0.0
    for number, given in enumerate(
        pretraining.batches(train, BATCH, steps if objectives else 0, chances, work.seed + 3)
    ):
        if len(objectives) > 1 and number * looks // steps > (number - 1) * looks // steps:
            first, second = (model.losses(next(seen), objectives) for _ in range(2))
            monitor.observe(noise.halves(first, second))
        began = time.process_time()
        balancer.backward(model.losses(given, objectives))
        optimizer.step()
        optimizer.zero_grad()
        spent += time.process_time() - began
    row = {"mix": work.cell, "objectives": len(objectives), "text": pretraining.text_hash(), "train pairs": len(train)}
    row |= {"python": f"{sys.version_info.major}.{sys.version_info.minor}", "ms/step": 1000 * spent / steps}
    if len(objectives) > 1:
        row |= _angles(np.asarray(monitor.record().gramian), len(objectives))
    return [row | _probe(model, other, work)]


def _objectives(cell: str) -> tuple[str, ...]:
    """The objectives of a cell.

    Example:
        >>> _objectives("MLM+RTD"), _objectives("NSP alone"), _objectives("none")
        (('MLM', 'RTD'), ('NSP',), ())
    """
    return () if cell == NONE else tuple(cell.removesuffix(" alone").split("+"))


def _angles(gramians: Array, tasks: int) -> dict[str, float]:
    """Means over the pairs of a mix; the corrected one over pairs that pass the gate."""
    found, excess = noise.corrected_cosine(gramians), noise.excess_incidence(gramians)
    upper = np.triu_indices(tasks, 1)
    corrected = found.value[upper]  # (pairs,)
    known = corrected[np.isfinite(corrected)]
    return {
        "raw": float(found.raw[upper].mean()),
        "corrected": float(known.mean()) if len(known) else float("nan"),
        "identifiable": float(np.isfinite(corrected).mean()),
        "excess": float(excess.value[upper].mean()),
        "null": float(excess.null[upper].mean()),
    }


def _probe(model: pretraining.Model, pairs: pretraining.Pairs, work: Work) -> dict[str, float]:
    """Accuracy of a linear classifier of topics on mean features of pairs never seen, cross-validated."""
    counts = torch.bincount(pairs.topic)
    chosen = torch.isin(pairs.topic, counts.argsort(descending=True, stable=True)[:TOPICS])
    if work.smoke:
        chosen &= chosen.cumsum(0) <= 60
    few = pairs[chosen.nonzero()[:, 0]]
    words = pretraining.joined(few.first, few.second, (pretraining.CLS, pretraining.SEP))  # (N, L)
    with torch.no_grad():
        real = (words != pretraining.PAD)[..., None]  # (N, L, 1)
        features = (model.encode(words) * real).sum(1) / real.sum(1)  # (N, D)
    topics = few.topic.numpy()
    if work.broken == SHUFFLED:
        topics = np.random.default_rng(work.seed).permutation(topics)
    folds = StratifiedKFold(2 if work.smoke else FOLDS, shuffle=True, random_state=work.seed)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    found = cross_val_predict(probe, features.numpy(), topics, cv=folds)
    most = float(np.bincount(topics).max() / len(topics))
    return {"probe accuracy": float((found == topics).mean()), "majority": most, "probe pairs": len(topics)}


def _ranks(values: Array) -> Array:
    """Ranks from 0, ties in the middle.

    Example:
        >>> _ranks(np.array([3.0, 1.0, 3.0])).tolist()
        [1.5, 0.0, 1.5]
    """
    return ((values[:, None] > values).sum(1) + (values[:, None] >= values).sum(1) - 1) / 2


def spearman(x: Array, y: Array) -> float:
    """Rank correlation over the mixes with a cosine; NaN for fewer than seven, or if one side does not vary.

    Example:
        >>> spearman(np.arange(8.0), np.arange(8.0) ** 3)
        1.0
    """
    known = np.isfinite(x) & np.isfinite(y)
    if known.sum() < 7:  # the specification's least number of combinations
        return float("nan")
    a, b = (_ranks(v[known]) - (known.sum() - 1) / 2 for v in (x, y))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(round(a @ b / scale, 12)) if scale > 0 else float("nan")


def _relation(results: Results, angle: str, mixes: tuple[str, ...] = MIXES) -> Array:
    """(S,) Spearman's correlation of the angle with the probe's accuracy."""
    x, y = (np.stack([results.values(name, mix=mix) for mix in mixes]) for name in (angle, "probe accuracy"))
    return np.array([spearman(x[:, s], y[:, s]) for s in range(x.shape[1])])


def _left_over(results: Results) -> Array:
    """(S,) the same within mixes of one size: ranks of what is above the mean of all mixes with as many objectives."""
    sizes = np.array([len(_objectives(mix)) for mix in MIXES])
    out = []
    for s, _ in enumerate(results.seeds):
        x, y = (np.array([results.values(n, mix=mix)[s] for mix in MIXES]) for n in ("raw", "probe accuracy"))
        mean = [np.array([v[sizes == size].mean() for size in sizes]) for v in (x, y)]
        several = sizes < max(sizes)  # the one mix of all is its own mean
        out.append(spearman((x - mean[0])[several], (y - mean[1])[several]))
    return np.array(out)


def _gain(results: Results) -> Array:
    """(S,) probe accuracy of all mixes, on average, minus that of the untrained encoder."""
    mixes = np.mean([results.values("probe accuracy", mix=mix) for mix in MIXES], axis=0)
    return np.asarray(mixes - results.values("probe accuracy", mix=NONE))


def judge(results: Results) -> tuple[Claim, ...]:
    """Both answers to the survey's question, and whether the probe can tell anything."""
    relation = _relation(results, "raw")
    rule = f"Spearman's correlation of mean cosine and probe accuracy over the {len(MIXES)} mixes, one for each seed: "
    best = np.max([results.values("probe accuracy", mix=mix) for mix in SINGLE], axis=0)
    most = np.mean([results.values("probe accuracy", mix=mix) for mix in MIXES], axis=0)
    return (
        Claim(
            "agreeing teachers",
            "The better a mix of objectives agrees, the better is what it teaches.",
            f"{rule}supported if its mean is above 0, not supported if below",
            above("Spearman's correlation", relation, RELATION),
        ),
        Claim(
            "constructive disagreement",
            "The less a mix of objectives agrees, the better is what it teaches.",
            f"{rule}supported if its mean is below 0, not supported if above",
            below("Spearman's correlation", relation, RELATION),
        ),
        Claim(
            "the probe works",
            "The features of the encoders tell topics apart.",
            f"supported if the mean accuracy over all mixes exceeds the largest topic's share by {READS}, not "
            "supported if not",
            above("probe accuracy - largest topic", most - results.values("majority", mix=NONE), READS),
        ),
        Claim(
            "pre-training helps",
            "Mixes teach something that the probe sees: more than the untrained encoder.",
            "supported if the mean gain is above 0, not supported if below",
            above("probe accuracy - untrained", _gain(results), LEARNT),
        ),
        Claim(
            "mixes beat the best single objective",
            "The mean mix teaches more than the best objective alone.",
            "supported if the mean gain is above 0, not supported if below; the best is chosen by the probe itself, "
            "which favours it",
            above("probe accuracy - best alone", most - best, 0.0),
        ),
    )


def charts(results: Results) -> tuple[View, ...]:
    """Accuracy against the cosine, accuracy of every mix, correlations."""
    accuracy = Axis("probe accuracy", share=True)
    marks = tuple(
        point(
            f"{len(_objectives(mix))} objectives", results.values("raw", mix=mix),
            results.values("probe accuracy", mix=mix), method_style(len(_objectives(mix)) - 2), note=mix,
        )
        for mix in MIXES
    )  # fmt: skip
    cells = (*SINGLE, NONE, *MIXES)
    reached = tuple(
        estimate(
            mix,
            results.values("probe accuracy", mix=mix),
            method_style(len(_objectives(mix)) - 2) if mix in MIXES else single_style(),
        )
        for mix in cells
    )
    untrained = float(np.mean(results.values("probe accuracy", mix=NONE)))
    rows = (
        estimate("raw cosine", _relation(results, "raw"), method_style(0)),
        estimate("raw cosine, mixes of one size", _left_over(results), method_style(1)),
        estimate("corrected cosine", _relation(results, "corrected"), method_style(2)),
    )
    return (
        View("Accuracy against agreement", (Points("Mixes", Axis("mean raw cosine"), accuracy, marks),)),
        View("Accuracy", (Intervals("Topic of unseen sentences; line: untrained", accuracy, reached, untrained),)),
        View("Correlation", (Intervals("With probe accuracy", Axis("Spearman's correlation"), rows, 0.0, (-1, 1)),)),
    )


def tables(results: Results) -> tuple[Table, ...]:
    """Every mix."""
    angles = ("raw", "corrected", "identifiable", "excess", "null")
    rows = [
        (
            mix,
            text(results.values("probe accuracy", mix=mix)),
            *(text(results.values(n, mix=mix)) if mix in MIXES else "" for n in angles),
            "" if mix == NONE else text(results.values("ms/step", mix=mix)),
        )
        for mix in (*MIXES, *SINGLE, NONE)
    ]
    first = results.where(mix=NONE)[0]
    caption = (
        f"Text: help topics of Python {first['python']}, hash {first['text']}, {first['train pairs']} pairs to train, "
        f"{first['probe pairs']} for the probe, of which {first['majority']:.0%} in the largest topic. {STEPS} steps."
    )
    columns = ("mix", "probe accuracy", *angles, "ms/step")
    return (Table("All mixes", tuple(map(Column, columns)), tuple(rows), caption),)


STUDY = Study(
    name="E11b",
    title="Constructive disagreement",
    question="Are pre-training objectives that agree better teachers, or those that disagree?",
    survey="The survey asks whether agreeing tutors are better ones, or whether disagreement can be constructive. It "
    "asks; it does not claim.",
    controls=(
        Control("none", "That the probe reads topics off the words alone: the same encoder, untrained."),
        Control("each objective alone", "That a mix is good because one of its objectives is."),
        Control("same steps and sentences", "That a mix is good because it saw more: all mixes read the same pairs."),
        Control("mixes of one size", "That the relation is one with the number of objectives."),
        Control("corrected cosine", "That the cosine ranks mixes by their noise; shown beside the raw one."),
        Control("unseen sentences", "That the probe rewards what was learnt by heart."),
    ),
    cells=(*MIXES, *SINGLE, NONE),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={SHUFFLED: "The probe's topics are shuffled; 'the probe works' must become not supported."},
    seconds=165.0,
)
