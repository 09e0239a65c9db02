"""E04: does a learning rate that follows the conflict do more than the same learning rates without that link?"""

from __future__ import annotations

from typing import Any

import numpy as np

from accord.bench.stats import delta_m
from accord.report.chart import Axis, Curves, Intervals, View
from accord.report.palette import method_style, reference_style
from accord.report.table import Column, Table
from accord.studies import two_digits
from accord.studies.drawing import estimate, line, text
from accord.studies.judging import Claim, Test, above, all_of, any_of
from accord.studies.scheduled import FACTOR_EVERY, STEPS, Run, controls, train
from accord.studies.study import Control, Results, Study, Work

# Specification, E04: supported if better than all controls with an interval that excludes 0, at any base rate.
ADVANTAGE = 0.0  # nats of the worst task's loss
# Ours, before any run: at the losses of about 1 nat of the specification's pilot, what nobody would notice. An
# advantage that is surely smaller is none; without it, "no effect" could never be told from "too few seeds".
MARGIN = 0.05

# cell -> width, base rate, cosine across halves of the batch
PLACES = {
    "w=8, lr=0.1": (8, 0.1, False),
    "w=8, lr=0.3": (8, 0.3, False),
    "w=8, lr=0.6": (8, 0.6, False),
    "w=4, lr=0.3": (4, 0.3, False),
    "w=16, lr=0.3": (16, 0.3, False),
    "w=8, lr=0.3, de-noised": (8, 0.3, True),
}
WEIGHTED = ("w=8, lr=0.3", "w=8, lr=0.3, de-noised")  # the places where static weights were tuned
ARMS = ("base rate", "arithmetic mean", "geometric mean", "sorted", "permuted")
WEIGHTS = ((1.8, 0.2), (1.4, 0.6), (1.0, 1.0), (0.6, 1.4), (0.2, 1.8))
# variant -> place, its difference from the rule's defaults
VARIANTS: dict[str, tuple[str, dict[str, float]]] = {
    "threshold 1.1": ("w=8, lr=0.3", {"threshold": 1.1}),
    "threshold 1.3": ("w=8, lr=0.3", {"threshold": 1.3}),
    "ceiling 2, lr=0.3": ("w=8, lr=0.3", {"ceiling": 2.0}),
    "ceiling 2, lr=0.6": ("w=8, lr=0.6", {"ceiling": 2.0}),
}
GROWTH = (("ceiling 2, lr=0.3", "w=8, lr=0.3"), ("ceiling 2, lr=0.6", "w=8, lr=0.6"))
WEAK = "weak controls"
SABOTAGES = {
    WEAK: "The controls get a fiftieth of their rates; the claim 'schedule' must become supported, and 'decay' not."
}


def measure(work: Work) -> list[dict[str, Any]]:
    """A place with its controls, the sweep of the rule's numbers, or what a choice of weights does instead."""
    sizes = {"train": 256, "validation": 128, "test": 128} if work.smoke else {}
    given = two_digits.data(work.seed, **sizes)
    if work.cell == "sweep":
        return _sweep(work, given)
    if work.cell == "weights":
        return _weights(work, given)
    width, lr, halves = PLACES[work.cell]
    # Half a batch scatters more, hence the longer memory.
    schedule = train(given, width, lr, _steps(work), rule={"halves": True, "ema": 0.95} if halves else {})
    rows = [_row(work.cell, "schedule", schedule)]
    for arm, factors in controls(schedule.factors, work.seed):
        weak = 0.02 if work.broken == WEAK else 1.0
        run = train(given, width, lr, _steps(work), factors=[weak * f for f in factors])
        if arm == "base rate":
            rows[0]["loss at equal cost"] = schedule.at_equal_cost(run.milliseconds)
        rows.append(_row(work.cell, arm, run))
    return rows


def _steps(work: Work) -> int:
    return 6 if work.smoke else STEPS


def _sweep(work: Work, given: two_digits.Data) -> list[dict[str, Any]]:
    rows = []
    for variant, (place, rule) in VARIANTS.items():
        width, lr, _ = PLACES[place]
        rows.append(_row(variant, "schedule", train(given, width, lr, _steps(work), rule=rule)))
    return rows


def _weights(work: Work, given: two_digits.Data) -> list[dict[str, Any]]:
    """The weights with the best validation loss of the worse task, and each task alone."""
    width, lr, _ = PLACES[WEIGHTED[0]]
    runs = {weights: train(given, width, lr, _steps(work), weights=weights) for weights in WEIGHTS}
    best = min(runs, key=lambda weights: runs[weights].found["worst validation loss"])
    rows = [_row("weights", "tuned weights", runs[best]) | {"weight of T1": best[0]}]
    for task in two_digits.TASKS:
        rows.append(_row("weights", f"{task} alone", train(given, width, lr, _steps(work), tasks=(task,))))
    return rows


def _row(place: str, arm: str, run: Run) -> dict[str, Any]:
    row: dict[str, Any] = {"place": place, "arm": arm, **run.found, "checks": run.steps, "curve": run.worst}
    if run.factors:
        row |= {"mean factor": float(np.mean(run.factors)), "factor": run.factors[::FACTOR_EVERY]}
    return row


def _gains(results: Results, place: str) -> dict[str, np.ndarray]:
    """(S,) worst loss of each control minus that of the schedule: above 0, the schedule is better."""
    own = results.values("worst loss", place=place, arm="schedule")
    found = {arm: results.values("worst loss", place=place, arm=arm) - own for arm in ARMS}
    if place in WEIGHTED:
        found["tuned weights"] = results.values("worst loss", place="weights", arm="tuned weights") - own
    return found


def _better(name: str, gain: np.ndarray) -> Test:
    """Supported if the gain is above 0; not supported if it is surely below what anybody would notice."""
    test = above(name, gain, ADVANTAGE)
    return test if test.word == "supported" else above(name, gain, MARGIN)


def _beats_all(results: Results, place: str) -> Test:
    """Against all controls; what is told is the hardest one of those that decide."""
    gains = _gains(results, place)
    tests = {arm: _better(f"{place}, {arm} - schedule", gain) for arm, gain in gains.items()}
    word = all_of(*tests.values()).word
    deciding = [arm for arm, test in tests.items() if test.word == word]
    hardest = min(deciding, key=lambda arm: float(np.mean(gains[arm])))
    return Test(word, tests[hardest].found)


def _worth_it(results: Results, place: str) -> Test:
    """Against the base rate, and against tuned weights where there are any; all have had the same CPU time."""
    own = results.values("loss at equal cost", place=place, arm="schedule")
    others = {"base rate": place} | ({"tuned weights": "weights"} if place in WEIGHTED else {})
    found = {arm: results.values("worst validation loss", place=at, arm=arm) for arm, at in others.items()}
    return all_of(*(_better(f"{place}, {arm} - schedule", loss - own) for arm, loss in found.items()))


def judge(results: Results) -> tuple[Claim, ...]:
    """Four claims; the first is the survey's."""
    grown = [
        _better(
            f"{variant}, ceiling 1 - ceiling 2",
            results.values("worst loss", place=place, arm="schedule")
            - results.values("worst loss", place=variant, arm="schedule"),
        )
        for variant, place in GROWTH
    ]
    return (
        Claim(
            "schedule",
            "A learning rate that falls in conflict leaves the worse task with a lower loss than every control does.",
            f"supported if in one of {len(PLACES)} places the gains over all controls, at width 8 and rate 0.3 tuned "
            "weights among them, lie above 0 (each place is a "
            "chance to be right by accident, so a single one is weak evidence); not supported if in every place one of "
            f"the gains lies below {MARGIN} nats",
            any_of(*(_beats_all(results, place) for place in PLACES)),
        ),
        Claim(
            "decay",
            "The same rates sorted, a plain decay that looks at no gradient, do as well (a correction of the survey).",
            f"supported if nowhere the schedule is better than its sorted rates by {MARGIN} nats; not supported if it "
            "is in one place",
            all_of(*(above(f"{p}, schedule - sorted", -_gains(results, p)["sorted"], -MARGIN) for p in PLACES)),
        ),
        Claim(
            "cost",
            "It is worth its cost: at equal CPU time it has a lower worst-task validation loss than the base rate, and "
            "than tuned weights where there are any.",
            f"supported if in one of {len(PLACES)} places the gain lies above 0, at width 8 and rate 0.3 that over the "
            f"tuned weights too; not supported if in every place one of the gains lies below {MARGIN} nats",
            any_of(*(_worth_it(results, place) for place in PLACES)),
        ),
        Claim(
            "growth",
            "Letting the rate grow to twice its base while gradients agree lowers the worse task's loss.",
            f"supported if the gain lies above 0 at the base rates 0.3 and 0.6; not supported if below {MARGIN} at one",
            all_of(*grown),
        ),
    )


def charts(results: Results) -> tuple[View, ...]:
    """The schedules, the gains over each control, and the way there."""
    steps = np.arange(len(results.rows[0].get("factor", [0]))) * FACTOR_EVERY  # (T,)
    drawn = tuple(
        line(place, steps.tolist(), results.curve("factor", place=place, arm="schedule"), method_style(i))
        for i, place in enumerate(PLACES)
    )
    gains = tuple(
        Intervals(
            place,
            Axis("worst loss: control - schedule (nats)"),
            tuple(estimate(arm, gain, method_style(i)) for i, (arm, gain) in enumerate(_gains(results, place).items())),
        )
        for place in PLACES
    )
    checks = results.curve("checks", place="w=8, lr=0.3", arm="schedule")[0]  # (T,)
    way = tuple(
        line(
            arm, checks.tolist(), results.curve("curve", place="w=8, lr=0.3", arm=arm),
            reference_style() if arm == "base rate" else method_style(i),
        )
        for i, arm in enumerate(("schedule", *ARMS))
    )  # fmt: skip
    return (
        View("Factor of the learning rate", (Curves("Schedules", Axis("step"), Axis("factor", log=True), drawn),)),
        View("Gain over each control; right of the line, the schedule is better", gains[:3]),
        View("Gain over each control, other widths and the de-noised cosine", gains[3:]),
        View(
            "Worst task's validation loss, width 8, rate 0.3",
            (Curves("Training", Axis("step"), Axis("worst validation loss (nats)"), way),),
        ),
    )


def tables(results: Results) -> tuple[Table, ...]:
    """All arms, with what they cost."""
    single = {t: results.values(f"{t} accuracy", place="weights", arm=f"{t} alone") for t in two_digits.TASKS}
    rows = []
    for place in results.levels("place"):
        for arm in results.levels("arm", place=place):
            own = {t: results.values(f"{t} accuracy", place=place, arm=arm) for t in two_digits.TASKS}
            up = dict.fromkeys(own, True)
            relative = [
                delta_m({t: v[s] for t, v in own.items()}, {t: v[s] for t, v in single.items()}, up)
                for s in range(len(results.seeds))
            ]
            known = results.where(place=place, arm=arm)[0]
            rows.append(
                (
                    f"{place}: {arm}",
                    text(results.values("worst loss", place=place, arm=arm)),
                    "" if "alone" in arm else text(relative),
                    *(
                        text(results.values(name, place=place, arm=arm)) if name in known else ""
                        for name in (
                            "worst validation loss",
                            "loss at equal cost",
                            "mean factor",
                            "conflict",
                            "excess",
                            "cosine",
                            "norm ratio",
                        )
                    ),
                    text(results.values("ms/step", place=place, arm=arm)),
                )
            )
    columns = (
        Column("arm", words=True),
        Column("worst loss", "of both tasks, on test images"),
        Column("delta-m", "accuracy relative to each task alone at width 8 and rate 0.3"),
        Column("validation loss", "of the worse task, after all steps"),
        Column("loss at equal cost", "worst validation loss at the CPU time of the base rate's whole run"),
        Column("mean factor"),
        Column("conflict", "share of looks with a negative cosine; across halves where de-noised"),
        Column("excess", "conflict minus that of a task with itself, across halves"),
        Column("cosine", "mean; where de-noised, corrected for noise"),
        Column("norm ratio", "median of |g1| / |g2|"),
        Column("ms/step", "CPU time, looks included, evaluation left out"),
    )
    caption = (
        "Means over seeds with 95 % intervals. Tuned weights: best validation loss of the worse task of five. Other "
        "thresholds and ceilings have other mean rates and no controls of their own: they are shown, not judged."
    )
    return (Table("All arms", columns, tuple(rows), caption),)


STUDY = Study(
    name="E04",
    title="Conflict-aware learning rate",
    question="Does a learning rate that shrinks in conflict do more than the same rates without that link?",
    survey="The survey advises to slow down where gradients conflict and to speed up where they agree. The speed-up "
    "needs a ceiling, because above the stable rate training diverges.",
    controls=(
        Control("base rate", "Whether it helps at all."),
        Control("arithmetic mean", "That a lower constant rate would do: its effective rate."),
        Control("geometric mean", "The same, where the rate sits on its floor for long."),
        Control("sorted", "That any decay would do: the same rates in descending order."),
        Control("permuted", "The link with conflict itself: the same rates in random order. The decisive one."),
        Control(
            "tuned weights",
            "That a choice of loss weights does more: the best of five on validation, at width 8 and rate 0.3.",
        ),
        Control("each task alone", "What could be reached at all; the reference of delta-m."),
        Control("equal CPU time", "That the looks would have been better spent on more steps."),
        Control("de-noised cosine", "That the rule only failed because sampling noise drives it."),
    ),
    cells=(*PLACES, "sweep", "weights"),
    measure=measure,
    judge=judge,
    charts=charts,
    tables=tables,
    sabotages=SABOTAGES,
    seconds=77.0,
)
