"""E09a: does the class loss of an AC-GAN fight the adversarial one, and can a projection undo what it costs?"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import cross_entropy

from accord.report.chart import View
from accord.report.table import Table
from accord.studies import gan_pages as pages
from accord.studies.digit_gan import Batch, Gan, Losses, adversarial_d, adversarial_g, features, scans, train
from accord.studies.gan_measures import Judge, at_equal_cost, conflict_row, over_the_sweep
from accord.studies.judging import Claim, above, all_of, below
from accord.studies.study import Control, Results, Study, Work

STEPS, CHECK, LOOK = 1000, 200, 25
WEIGHTS = (0.5, 1.0, 2.0, 5.0, 10.0)  # of the class loss; the specification asks for 0.5, 1 and 5
HIGH = 5.0  # where projections are tried
# Fixed before any run. The first is the specification's falsifier; the others are ours.
FALLS = 0.0  # diversity from weight to weight: any fall counts
CONFLICT = 0.0  # of the generator's cosine at the highest weight
PULLED_APART = -0.1  # the discriminator's cosine without noise: what lies above is no conflict worth a remedy
RESTORED = 0.5  # share of the diversity lost between the weights 0.5 and 5 that a projection gives back: all its forms


def sweep(weight: float) -> str:
    """Name of the arm with this static weight."""
    return f"sum, weight {weight:g}"


ALONE, CLASSES_ALONE = "adversarial alone", "class alone"
PROTECT, MATCHED, SURGERY = "AGEM", "AGEM, as long as the sum", "PCGrad"
# arm -> (method of the generator's Balancer, scale, weight of the class loss)
ARMS: dict[str, tuple[str, Any, float]] = {
    ALONE: ("Sum()", "sum", 0.0),
    CLASSES_ALONE: ("Sum()", "sum", 1.0),
    **{sweep(weight): ("Sum()", "sum", weight) for weight in WEIGHTS},
    PROTECT: ("AGEM(main=0)", "sum", HIGH),  # the first loss named, the adversarial one, is protected
    MATCHED: ("AGEM(main=0)", "match-norm", HIGH),
    SURGERY: ("PCGrad()", "sum", HIGH),
}


def losses(arm: str, broken: str) -> tuple[Losses, Losses]:
    """The generator's and the discriminator's losses: whether real, and which digit."""
    weight = ARMS[arm][2]
    wrong = broken == "labels shuffled"

    def digit(gan: Gan, x: Tensor, labels: Tensor) -> Tensor:
        # Rolled by one, every image has the label of another one: a label then says nothing.
        return weight * cross_entropy(gan.d.digit(x), labels.roll(1) if wrong else labels)

    def generator(gan: Gan, batch: Batch) -> dict[str, Tensor]:
        _, fake = features(gan, batch)  # (N, 32)
        found = {"source": adversarial_g(gan, fake), "class": digit(gan, fake, batch.wanted)}
        return _kept(arm, found)

    def discriminator(gan: Gan, batch: Batch) -> dict[str, Tensor]:
        real, fake = features(gan, batch)  # (N, 32) both
        both = digit(gan, real, batch.labels) + digit(gan, fake, batch.wanted)
        return _kept(arm, {"source": adversarial_d(gan, real, fake), "class": both})

    return generator, discriminator


def _kept(arm: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    dropped = {ALONE: "class", CLASSES_ALONE: "source"}.get(arm)
    return {name: loss for name, loss in found.items() if name != dropped}


def measure(work: Work) -> list[dict[str, Any]]:
    """One arm: a GAN that is trained from the weights and batches that all arms of the seed have."""
    method, scale, weight = ARMS[work.cell]
    data = scans(work.seed)
    judge = Judge(data, work.seed)
    gan = Gan(work.seed, told=True, method=method, scale=scale)
    generator, discriminator = losses(work.cell, work.broken)
    steps = 10 if work.smoke else STEPS
    fit = train(
        gan, data, work.seed, generator, discriminator,
        steps=steps, look_every=5 if work.smoke else LOOK, check_every=5 if work.smoke else CHECK, check=judge.told,
    )  # fmt: skip
    row: dict[str, Any] = {"arm": work.cell, "weight": weight, "ms/step": fit.milliseconds, "steps": fit.steps}
    for name, curve in fit.curves.items():
        row |= {name: curve[-1], f"{name} curve": curve}
    if work.cell not in (ALONE, CLASSES_ALONE):
        row |= conflict_row(fit) | conflict_row(fit, "D")
    return [row]


def judge(results: Results) -> tuple[Claim, ...]:
    """Four claims; see the constants."""

    def diversity(arm: str) -> Any:
        return results.values("diversity", arm=arm)  # (S,)

    low, one, high = (diversity(sweep(weight)) for weight in (0.5, 1.0, HIGH))
    least = high + RESTORED * (low - high)  # (S,)
    timed = at_equal_cost(results, "diversity curve", PROTECT, sweep(HIGH))  # (S,)

    def gap(arm: str) -> Any:
        return over_the_sweep(results, arm, [sweep(w) for w in WEIGHTS], "class accuracy", "diversity")  # (S,)

    cosine = results.values("G cosine", arm=sweep(HIGH))
    return (
        Claim(
            "diversity",
            "The class loss costs variety: samples of one digit resemble each other the more, the larger its weight.",
            "supported if diversity falls from weight 0.5 to 1 and from 1 to 5",
            all_of(above("fall 0.5 to 1", low - one, FALLS), above("fall 1 to 5", one - high, FALLS)),
        ),
        Claim(
            "conflict in the generator",
            "With a large class weight the two losses are in conflict in the generator.",
            "supported if the mean cosine at weight 5 is below 0, on one batch and without the noise of the draw",
            all_of(
                below("cosine", cosine, CONFLICT),
                below("without noise", results.values("G corrected", arm=sweep(HIGH)), CONFLICT),
            ),
        ),
        Claim(
            "conflict in the discriminator",
            "Telling real from fake and naming the digit pull the discriminator's trunk apart.",
            "supported if the cosine without noise at weight 1 is below -0.1",
            below("cosine without noise", results.values("D corrected", arm=sweep(1.0)), PULLED_APART),
        ),
        Claim(
            "projection",
            "Protecting the adversarial loss by a projection restores variety, beyond what a smaller weight does.",
            "supported if AGEM at weight 5 restores half of what is lost from weight 0.5 to 5, and lies above the "
            "curve of the static weights at its class accuracy; all of it also when as long as the sum, and one half "
            "also when its time is the sum's",
            all_of(
                above("restored beyond one half", diversity(PROTECT) - least, 0.0),
                above("above the static weights", gap(PROTECT), 0.0),
                above("at equal time: restored beyond one half", timed - least, 0.0),
                above("at equal length: restored beyond one half", diversity(MATCHED) - least, 0.0),
                above("at equal length: above the static weights", gap(MATCHED), 0.0),
            ),
        ),
    )


def delta_m(results: Results, arm: str) -> Any:
    """(S,) mean relative gain over each task alone: diversity, and class accuracy."""
    pairs = (("diversity", ALONE), ("class accuracy", CLASSES_ALONE))
    gains = [results.values(name, arm=arm) / results.values(name, arm=alone) - 1 for name, alone in pairs]
    return np.mean(gains, axis=0)


def charts(results: Results) -> tuple[View, ...]:
    """Variety against accuracy; cosines over the weights."""
    static = [sweep(weight) for weight in WEIGHTS]
    return (
        View("What the class loss buys, and what it costs", (
            pages.plane(results, list(ARMS), "class accuracy", "diversity", front=static),
            pages.course(results, [ALONE, *static, PROTECT], "diversity"),
        )),
        View("Cosine of the two losses in the second half of the training", (
            pages.rows("Generator", results, "G cosine", [*static, PROTECT, MATCHED, SURGERY]),
            pages.rows("Discriminator", results, "D corrected", [*static, PROTECT, MATCHED, SURGERY]),
        )),
    )  # fmt: skip


def tables(results: Results) -> tuple[Table, ...]:
    """Quality and cost; conflict and its noise."""
    extra = {
        "Δm": {arm: delta_m(results, arm) for arm in ARMS},
        "diversity at the cost of the sum": {
            arm: at_equal_cost(results, "diversity curve", arm, sweep(HIGH)) for arm in ARMS
        },
    }
    return (
        pages.table("Samples", results, list(ARMS), ("class accuracy", "diversity", "ms/step"), extra),
        pages.conflict_table(results, [arm for arm in ARMS if arm not in (ALONE, CLASSES_ALONE)], ("G", "D")),
    )


STUDY = Study(
    name="E09a",
    title="AC-GAN: the class loss and variety",
    question="Do the class loss and the adversarial loss of an AC-GAN fight each other, in which of the two networks, "
    "and does protecting the adversarial loss bring the variety back?",
    survey="The survey names AC-GAN as a case of conflict between the adversarial and the class loss. Here the sign of "
    "the cosine is held against the noise of the draw, and variety against the weight of the class loss.",
    controls=(
        Control(ALONE, "what the class loss does at all: the same network without it (single task)"),
        Control(CLASSES_ALONE, "what the adversarial loss does at all (single task)"),
        Control("sum, five weights", "that a smaller weight does what the projection does"),
        Control(SURGERY, "that the protection of one task matters, and not projection as such"),
        Control(MATCHED, "that the projection acts by shortening the step: the same direction, as long as the sum"),
        Control("equal cost", "that a method is better only because its steps cost more: curves are cut at equal time"),
        Control("halves of a batch", "that a sign is noise: each loss with itself, and cosines without shared draws"),
        Control("another judge", "that the discriminator judges itself: a regression on scans no GAN has seen"),
    ),
    cells=tuple(ARMS),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages={
        "labels shuffled": "every image has another one's label, so the class loss has nothing to say: "
        "the claim about diversity must lose its support"
    },
    seconds=70.0,
)
