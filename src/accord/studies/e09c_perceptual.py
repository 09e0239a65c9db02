"""E09c: does a paired-feature (perceptual) loss fight the adversarial one, early, or where that one is solved?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import accord
from accord.report.chart import View
from accord.report.table import Table
from accord.studies import gan_pages as pages
from accord.studies.digit_gan import (
    LATENT,
    Batch,
    Fit,
    Gan,
    Scans,
    adversarial_d,
    adversarial_g,
    features,
    scans,
    train,
)
from accord.studies.gan_auxiliary import Strength, classifier_features, matching, paired
from accord.studies.gan_measures import Judge, at_equal_cost, conflict_row, corrected, over_the_sweep
from accord.studies.judging import Claim, above, all_of, below
from accord.studies.study import Control, Results, Study, Work

FIRST, SECOND, CHECK, LOOK = 1500, 800, 200, 25  # steps with the adversarial loss alone, then with an auxiliary one
EARLY = 300  # steps that count as early
WEIGHTS = (0.1, 0.25, 0.5, 1.0, 2.0)  # length of the auxiliary gradient over that of the adversarial one
# Fixed before any run. Both zeros are the specification's falsifiers; the others are ours.
AT_REST, PUSHES = 0.15, 0.25  # gradient at real scans over that far away: sampling noise of 256 points is near 0.06
AGREES = 0.3  # of the early cosine: the same bound as for feature matching in E09b
BELOW = 0.0
RESTORED = 0.5  # share of the variety lost to the perceptual loss that the projection gives back: all its forms


def sweep(weight: float) -> str:
    """Name of the arm with this static weight of the perceptual loss."""
    return f"sum, weight {weight:g}"


ALONE, MATCHING, PAIRED_ALONE = "adversarial alone", "matching", "perceptual alone"
PROTECT, MATCHED, SURGERY = "AGEM", "AGEM, as long as the sum", "PCGrad"
ONE = sweep(1.0)
# arm -> (method of the generator's Balancer, scale, weight)
ARMS: dict[str, tuple[str, Any, float]] = {
    ALONE: ("Sum()", "sum", 0.0),
    MATCHING: ("Sum()", "sum", 1.0),
    PAIRED_ALONE: ("Sum()", "sum", 1.0),
    **{sweep(weight): ("Sum()", "sum", weight) for weight in WEIGHTS},
    PROTECT: ("AGEM(main=0)", "sum", 1.0),
    MATCHED: ("AGEM(main=0)", "match-norm", 1.0),
    SURGERY: ("PCGrad()", "sum", 1.0),
}
STATIC = "at real scans"
CELLS: dict[str, tuple[str, ...]] = {  # arms that go on from one first phase
    STATIC: (),
    "without": (ALONE, MATCHING, PAIRED_ALONE),
    "static weights": tuple(sweep(weight) for weight in WEIGHTS),
    "projections": (PROTECT, MATCHED, SURGERY),
}


def losses_d(gan: Gan, batch: Batch) -> dict[str, Tensor]:
    """The discriminator has one task."""
    return {"adversarial": adversarial_d(gan, *features(gan, batch))}


class GeneratorLosses:
    """Adversarial, and one auxiliary loss on the frozen features of a classifier, the same for both kinds.

    Args:
        arm: which of them.
        strength: how strong the auxiliary one is.
        phi: (N, 64) -> (N, 32).
        broken: what is broken on purpose.
    """

    def __init__(self, arm: str, strength: Strength, phi: nn.Module, broken: str) -> None:
        self.arm, self.strength, self.phi = arm, strength, phi
        self.paired = matching if broken == "means compared" else paired

    def __call__(self, gan: Gan, batch: Batch) -> dict[str, Tensor]:
        """The losses of a batch."""
        if self.arm == ALONE:
            return {"adversarial": adversarial_g(gan, features(gan, batch)[1])}
        found = self.all(gan, batch)
        kind = "matching" if self.arm == MATCHING else "perceptual"
        auxiliary = {kind: self.strength.factor * found[kind]}
        return auxiliary if self.arm == PAIRED_ALONE else {"adversarial": found["adversarial"], **auxiliary}

    def all(self, gan: Gan, batch: Batch) -> dict[str, Tensor]:
        """All three, to look at."""
        real, fake = self.phi(torch.cat([batch.real, batch.fake])).chunk(2)  # (N, 32) both
        return {
            "adversarial": adversarial_g(gan, features(gan, batch)[1]),
            "matching": matching(real, fake),
            "perceptual": self.paired(real, fake),
        }


def measure(work: Work) -> list[dict[str, Any]]:
    """The static test, or a first phase without auxiliary loss and every arm that goes on from there."""
    data = scans(work.seed)
    phi = classifier_features(data, work.seed, steps=20 if work.smoke else 300)
    if work.cell == STATIC:
        return at_real_scans(data, phi, work)
    judge = Judge(data, work.seed)
    watched = work.cell == "without"
    base = GeneratorLosses(ALONE, Strength(0.0), phi, work.broken)
    gan = Gan(work.seed)
    first = 8 if work.smoke else FIRST
    look = 2 if work.smoke else LOOK
    fit = train(
        gan, data, work.seed, base, losses_d, steps=first, look_every=look if watched else first, check_every=first,
        watch=base.all if watched else None,
    )  # fmt: skip
    rows = []
    for arm in CELLS[work.cell]:
        method, scale, weight = ARMS[arm]
        strength = Strength(weight, look)
        losses = GeneratorLosses(arm, strength, phi, work.broken)
        second = train(
            Gan(work.seed, method=method, scale=scale).go_on(gan), data, work.seed + 10_000, losses, losses_d,
            steps=8 if work.smoke else SECOND, look_every=look, check_every=4 if work.smoke else CHECK,
            check=judge.untold, after=strength, watch=losses.all if arm == ALONE else None,
        )  # fmt: skip
        row: dict[str, Any] = {"arm": arm, "weight": weight, "ms/step": second.milliseconds, "steps": second.steps}
        for name, curve in second.curves.items():
            row |= {name: curve[-1], f"{name} curve": curve}
        if arm == ALONE:
            row |= watch_row(fit, second)
        elif arm != PAIRED_ALONE:
            row |= conflict_row(second, last=1.0)
        rows.append(row)
    return rows


def at_real_scans(data: Scans, phi: nn.Module, work: Work) -> list[dict[str, Any]]:
    """The audit: points at real scans, where the adversarial loss is solved, against samples of an untrained GAN."""
    untrained = Gan(work.seed).g  # far away is where the training starts
    compare = matching if work.broken == "means compared" else paired
    rows = []
    for n in (64, 256):

        def draw(generator: torch.Generator, n: int = n) -> Tensor:
            return data.x[torch.randint(len(data.x), (n,), generator=generator)]  # (N, 64)

        def matched(x: Tensor, g: torch.Generator) -> Tensor:
            return matching(phi(draw(g)), phi(x))

        def resembling(x: Tensor, g: torch.Generator) -> Tensor:
            return compare(phi(draw(g)), phi(x))

        def start(g: torch.Generator, n: int = n) -> Tensor:
            z = torch.randn(n, LATENT, generator=g)  # (N, 16)
            return untrained(z, torch.zeros(n, dtype=torch.long))  # (N, 64)

        found = accord.equilibrium(
            {"matching": matched, "perceptual": resembling}, draw, start, towards=lambda x: x.mean(0) - x,
            draws=8 if work.smoke else 32, seed=work.seed,
        )  # fmt: skip
        rows += [
            {"arm": f"{name}, {n} points", "ratio": push.ratio, "direction": push.direction}
            for name, push in found.items()
        ]
    return rows


def watch_row(first: Fit, second: Fit) -> dict[str, Any]:
    """Cosines of the adversarial loss with both auxiliary ones while only the adversarial one is learned."""
    every = np.concatenate([first.halves["G"], second.halves["G"]])  # (T, 6, 6): three losses on one half, on the other
    late = len(second.halves["G"])
    early = max(1, round(len(first.halves["G"]) * EARLY / FIRST))
    cosine = accord.conflict.cosine(every)  # (T, 6, 6)
    row: dict[str, Any] = {}
    for k, name in ((1, "matching"), (2, "perceptual")):
        own = (cosine[:, 0, k] + cosine[:, 3, 3 + k]) / 2  # (T,) mean of the two halves
        row |= {
            f"early {name}": float(np.nanmean(own[:early])), f"late {name}": float(np.nanmean(own[-late:])),
            f"late {name} corrected": corrected(every[-late:], 0, k), f"{name} cosine": own.tolist(),
        }  # fmt: skip
    return row


def judge(results: Results) -> tuple[Claim, ...]:
    """Six claims; see the constants."""

    def of(measure: str, arm: str) -> Any:
        return results.values(measure, arm=arm)  # (S,)

    lost = of("diversity", MATCHING) - of("diversity", ONE)  # (S,)
    least = of("diversity", ONE) + RESTORED * lost  # (S,)
    timed = at_equal_cost(results, "diversity curve", PROTECT, ONE)  # (S,)

    def gap(arm: str) -> Any:
        return over_the_sweep(results, arm, [ALONE, *map(sweep, WEIGHTS)], "nearness", "diversity")  # (S,)

    return (
        Claim(
            "equilibrium",
            "At real scans feature matching is at rest, and the perceptual loss pushes on.",
            "supported if the gradient at real scans is below 0.15 of that far away for matching, above 0.25 for the "
            "perceptual loss (256 points)",
            all_of(
                below("matching", of("ratio", "matching, 256 points"), AT_REST),
                above("perceptual", of("ratio", "perceptual, 256 points"), PUSHES),
            ),
        ),
        Claim(
            "no conflict early",
            "Early in the training the perceptual loss agrees with the adversarial one (the survey corrected).",
            f"supported if the mean cosine over the first {EARLY} steps is above 0.3",
            above("cosine", of("early perceptual", ALONE), AGREES),
        ),
        Claim(
            "less agreement later",
            "After the adversarial training went on alone, the perceptual loss agrees with it less than matching does.",
            f"supported if the mean cosine over the {SECOND} steps after the first {FIRST} is below that of matching",
            below("perceptual - matching", of("late perceptual", ALONE) - of("late matching", ALONE), BELOW),
        ),
        Claim(
            "variety",
            "Switched on then, the perceptual loss costs variety.",
            "supported if the samples of a digit are less varied than with feature matching of equal strength",
            above("matching - perceptual", lost, BELOW),
        ),
        Claim(
            "missing digits",
            "Switched on then, the perceptual loss makes digits rare.",
            "supported if the histogram of digits is further (KL) from the real one than with feature matching",
            above("perceptual - matching", of("missing", ONE) - of("missing", MATCHING), BELOW),
        ),
        Claim(
            "projection",
            "Protecting the adversarial loss restores the variety, beyond what a smaller weight does.",
            "supported if AGEM gives back half of what is lost, and lies above the curve of the static weights at its "
            "nearness to real scans; all of it also when as long as the sum, and one half also when its time is the "
            "sum's",
            all_of(
                above("restored beyond one half", of("diversity", PROTECT) - least, 0.0),
                above("above the static weights", gap(PROTECT), 0.0),
                above("at equal time: restored beyond one half", timed - least, 0.0),
                above("at equal length: restored beyond one half", of("diversity", MATCHED) - least, 0.0),
                above("at equal length: above the static weights", gap(MATCHED), 0.0),
            ),
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
    """The static test, the cosines over the training, and what becomes of the samples."""
    static = [f"{name}, {n} points" for name in ("matching", "perceptual") for n in (64, 256)]
    return (
        View("Before any training", (
            pages.rows("Gradient at real scans / far away", results, "ratio", static),
            pages.rows("Push towards the mean scan", results, "direction", static),
        )),
        View("Cosine with the adversarial loss while only that one is learned", (
            pages.over_looks(results, ALONE, ("matching cosine", "perceptual cosine"), LOOK),
        )),
        View("Samples after the second phase", (
            pages.plane(
                # Alone, the perceptual loss is so far off that nothing else could be told apart; the table has it.
                results, [arm for arm in ARMS if arm != PAIRED_ALONE], "distance", "diversity",
                front=[sweep(w) for w in WEIGHTS],
            ),
            pages.course(results, [ALONE, MATCHING, ONE, PROTECT], "diversity"),
        )),
    )  # fmt: skip


def tables(results: Results) -> tuple[Table, ...]:
    """The static test; quality and cost; conflict and its noise."""
    extra = {
        "Δm": {arm: delta_m(results, arm) for arm in ARMS},
        "diversity at the cost of the sum": {arm: at_equal_cost(results, "diversity curve", arm, ONE) for arm in ARMS},
    }
    static: Sequence[str] = [f"{name}, {n} points" for name in ("matching", "perceptual") for n in (64, 256)]
    watched = [f"{when} {name}" for when in ("early", "late") for name in ("matching", "perceptual")]
    watched += [f"late {name} corrected" for name in ("matching", "perceptual")]
    with_both = [arm for arm in ARMS if arm not in (ALONE, PAIRED_ALONE)]
    return (
        pages.table("At real scans", results, static, ("ratio", "direction"), {}),
        pages.table("Cosines while only the adversarial loss is learned", results, [ALONE], watched, {}),
        pages.table("Samples", results, list(ARMS), ("distance", "diversity", "missing", "ms/step"), extra),
        pages.conflict_table(results, with_both),
    )


STUDY = Study(
    name="E09c",
    title="Perceptual loss: does it still push where the generator is right?",
    question="Does a loss that asks every sample to resemble a random real one fight the adversarial loss, and when: "
    "from the start, or only where the adversarial training has come to rest?",
    survey="The survey names the perceptual loss as a companion that pulls elsewhere than the adversarial one. "
    "Corrected: they can be in conflict only near the equilibrium of the adversarial loss.",
    controls=(
        Control(ALONE, "what the auxiliary loss does at all: the training goes on without one (single task)"),
        Control(PAIRED_ALONE, "that the adversarial loss matters (single task; the discriminator still learns)"),
        Control(MATCHING, "that any loss on these features does it: the same features, of which means are compared"),
        Control("sum, five weights", "that a smaller weight does what the projection does"),
        Control(SURGERY, "that the protection of one task matters, and not projection as such"),
        Control(MATCHED, "that the projection acts by shortening the step"),
        Control("64 and 256 points", "that a rest is a push: sampling noise halves with four times the points"),
        Control("equal cost", "that a method is better only because its steps cost more: curves are cut at equal time"),
        Control("halves of a batch", "that a cosine is shared noise: gradients on different draws"),
    ),
    cells=tuple(CELLS),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        "means compared": "the perceptual loss compares means, as matching does: "
        "the claim about the equilibrium must become not supported"
    },
    seconds=71.0,
)
