"""E09b: does feature matching pull the generator where the adversarial loss pulls it?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from accord.report.chart import View
from accord.report.table import Table
from accord.studies import gan_pages as pages
from accord.studies.digit_gan import Batch, Gan, adversarial_d, adversarial_g, features, scans, train
from accord.studies.gan_auxiliary import Strength, classifier_features, matching
from accord.studies.gan_measures import Judge, at_equal_cost, conflict_row
from accord.studies.judging import Claim, above, all_of, below, equivalent
from accord.studies.study import Control, Results, Study, Work

STEPS, CHECK, LOOK = 1000, 200, 25
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)  # length of the auxiliary gradient over that of the adversarial one
# Fixed before any run. The first is the specification's falsifier; the others are ours.
SYNERGY = 0.3  # of the mean cosine
NEVER = 0.05  # of the share of looks with a negative cosine
SAME = 0.1  # a relative difference of distances below which surgery makes none


def sweep(weight: float) -> str:
    """Name of the arm with this static weight."""
    return f"sum, weight {weight:g}"


ALONE, MATCHING_ALONE, RANDOM = "adversarial alone", "matching alone", "features of a random network"
SURGERY, MATCHED = "PCGrad", "PCGrad, as long as the sum"
# arm -> (method of the generator's Balancer, scale, weight)
ARMS: dict[str, tuple[str, Any, float]] = {
    ALONE: ("Sum()", "sum", 0.0),
    MATCHING_ALONE: ("Sum()", "sum", 1.0),
    **{sweep(weight): ("Sum()", "sum", weight) for weight in WEIGHTS},
    SURGERY: ("PCGrad()", "sum", 1.0),
    MATCHED: ("PCGrad()", "match-norm", 1.0),
    RANDOM: ("Sum()", "sum", 1.0),
}


def losses_d(gan: Gan, batch: Batch) -> dict[str, Tensor]:
    """The discriminator has one task."""
    return {"adversarial": adversarial_d(gan, *features(gan, batch))}


class GeneratorLosses:
    """Adversarial and feature matching, the latter on the discriminator's features or on those of a random network.

    Args:
        arm: which of both.
        strength: how strong feature matching is.
        random: (N, 64) -> (N, 32) features that know nothing, for the control.
        broken: what is broken on purpose.
    """

    def __init__(self, arm: str, strength: Strength, random: nn.Module, broken: str) -> None:
        self.arm, self.strength, self.random, self.broken = arm, strength, random, broken

    def __call__(self, gan: Gan, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch."""
        real, fake = features(gan, batch)  # (N, 32) both
        found = {"adversarial": adversarial_g(gan, fake)}
        if self.arm == RANDOM:
            real, fake = self.random(torch.cat(batch.seen())).chunk(2)  # (N, 32) both
        elif self.broken == "matched to negatives":
            real = gan.d.trunk(1 - batch.seen()[0])  # (N, 32), of negatives: white paper where the ink was
        found["matching"] = self.strength.factor * matching(real, fake)
        dropped = {ALONE: "matching", MATCHING_ALONE: "adversarial"}.get(self.arm)
        return {name: loss for name, loss in found.items() if name != dropped}


def measure(work: Work) -> list[dict[str, Any]]:
    """One arm: a GAN that is trained from the weights and batches that all arms of the seed have."""
    method, scale, weight = ARMS[work.cell]
    data = scans(work.seed)
    look = 5 if work.smoke else LOOK
    strength = Strength(weight, look)
    losses = GeneratorLosses(work.cell, strength, classifier_features(data, work.seed, steps=0), work.broken)
    fit = train(
        Gan(work.seed, method=method, scale=scale), data, work.seed, losses, losses_d,
        steps=10 if work.smoke else STEPS, look_every=look,
        check_every=5 if work.smoke else CHECK, check=Judge(data, work.seed).untold, after=strength,
    )  # fmt: skip
    row: dict[str, Any] = {"arm": work.cell, "weight": weight, "ms/step": fit.milliseconds, "steps": fit.steps}
    for name, curve in fit.curves.items():
        row |= {name: curve[-1], f"{name} curve": curve}
    return [row if work.cell in (ALONE, MATCHING_ALONE) else row | conflict_row(fit, last=1.0)]


def judge(results: Results) -> tuple[Claim, ...]:
    """Four claims; see the constants."""
    one = sweep(1.0)
    alone, both, surgery = (results.values("distance", arm=arm) for arm in (ALONE, one, SURGERY))
    return (
        Claim(
            "synergy",
            "Feature matching and the adversarial loss pull the generator the same way.",
            "supported if the mean cosine is above 0.3, on one batch and without the noise of the draw",
            all_of(
                above("cosine", results.values("G cosine", arm=one), SYNERGY),
                above("without noise", results.values("G corrected", arm=one), SYNERGY),
            ),
        ),
        Claim(
            "no conflict",
            "They are practically never in conflict.",
            "supported if the cosine is negative at fewer than 5 % of the looks",
            below("share below 0", results.values("G conflict", arm=one), NEVER),
        ),
        Claim(
            "nothing for surgery",
            "Where there is no conflict, surgery changes nothing.",
            "supported if the distance to real scans under PCGrad is within 10 % of that under the sum",
            equivalent("relative difference", surgery / both - 1, SAME),
        ),
        Claim(
            "better samples",
            "Feature matching makes the samples better at the cost of the adversarial loss alone.",
            "supported if the distance to real scans is smaller at equal CPU time",
            below("difference", at_equal_cost(results, "distance curve", one, ALONE) - alone, 0.0),
        ),
    )


def delta_m(results: Results, arm: str) -> Any:
    """(S,) mean relative gain over the adversarial loss alone, in distance and variety."""
    gains = [
        1 - results.values("distance", arm=arm) / results.values("distance", arm=ALONE),
        results.values("diversity", arm=arm) / results.values("diversity", arm=ALONE) - 1,
    ]
    return np.mean(gains, axis=0)


def charts(results: Results) -> tuple[View, ...]:
    """Cosines; samples over the training."""
    static = [sweep(weight) for weight in WEIGHTS]
    return (
        View("Cosine of the two losses in the generator", (
            pages.rows("On one batch", results, "G cosine", [*static, SURGERY, RANDOM], SYNERGY),
            pages.rows("Without the noise of the draw", results, "G corrected", [*static, SURGERY, RANDOM], SYNERGY),
        )),
        View("Samples", (
            pages.plane(results, list(ARMS), "distance", "diversity", front=static),
            pages.course(results, [ALONE, sweep(1.0), SURGERY], "distance"),
        )),
    )  # fmt: skip


def tables(results: Results) -> tuple[Table, ...]:
    """Quality and cost; conflict and its noise."""
    extra = {
        "Δm": {arm: delta_m(results, arm) for arm in ARMS},
        "distance at the cost of the adversarial loss alone": {
            arm: at_equal_cost(results, "distance curve", arm, ALONE) for arm in ARMS
        },
    }
    with_both = [arm for arm in ARMS if arm not in (ALONE, MATCHING_ALONE)]
    return (
        pages.table("Samples", results, list(ARMS), ("distance", "diversity", "missing", "ms/step"), extra),
        pages.conflict_table(results, with_both),
    )


STUDY = Study(
    name="E09b",
    title="Feature matching: losses that agree",
    question="Does feature matching pull a generator where the adversarial loss pulls it, and is there anything left "
    "for surgery to do?",
    survey="The survey recommends auxiliary losses that want to go to the same place, and names feature matching as "
    "one of them.",
    controls=(
        Control(ALONE, "what feature matching does at all (single task)"),
        Control(
            MATCHING_ALONE, "that the adversarial loss is what helps (single task; the discriminator still learns)"
        ),
        Control("sum, five weights", "that another static weight is what matters"),
        Control(SURGERY, "that the agreement leaves surgery something to do"),
        Control(MATCHED, "that surgery acts by the length of the step"),
        Control(RANDOM, "that any features would do: those of a network that has learned nothing"),
        Control("equal cost", "that a method is better only because its steps cost more: curves are cut at equal time"),
        Control("halves of a batch", "that the agreement is shared noise: cosines of losses on different draws"),
    ),
    cells=tuple(ARMS),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        "matched to negatives": "the samples' features are matched to those of negatives of the scans: "
        "the claim of synergy must lose its support"
    },
    seconds=63.0,
)
