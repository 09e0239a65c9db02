"""The verdict: plain sentences, each computed from the stored runs, including "no difference" and "cannot be said"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accord.bench import stats
from accord.bench.significance import holm, paired_t
from accord.conflict import norm_ratio, rate
from accord.report.merit import against_single, joint_improvement, over
from accord.report.plots.harm import harm_rates
from accord.report.study import Arm, Study
from accord.report.tables.results import conflict_incidence
from accord.report.text import UNDEFINED, listing, number, percent, share, times

# Below these shares the report says "hardly any"; they shape words, never numbers.
RARE_CONFLICT = 0.05
RARE_HARM = 0.05
MOST = 4  # tasks that a sentence names


@dataclass(frozen=True)
class Tile:
    """One key figure."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Verdict:
    """One sentence that says it all, key figures, and the sentences behind it."""

    lead: str
    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]


def verdict(study: Study) -> Verdict:
    """Is there conflict, who pays, and did any method help beyond seed noise?"""
    probed = _probed(study)
    conflict, conflict_text, conflict_tile = _conflict(study, probed)
    harm, harm_text, harm_tile = _harm(study, probed)
    outcome, outcome_text, outcome_tile = _outcome(study)
    lead = f"{conflict}{harm}; {outcome}." if outcome else f"{conflict}{harm}."
    sentences = [*conflict_text, *harm_text, *_undone(study), *outcome_text, *_unfinished(study)]
    tiles = [tile for tile in (conflict_tile, harm_tile, _imbalance(probed), outcome_tile) if tile is not None]
    return Verdict(lead, tuple(sentences), tuple(tiles))


def _probed(study: Study) -> Arm | None:
    """The arm that conflict is judged by: the plain sum, else the first with a record."""
    arms = [study.reference, *study.arms]
    return next((arm for arm in arms if arm is not None and arm.measured), None)


Part = tuple[str, list[str], Tile | None]


def _conflict(study: Study, arm: Arm | None) -> Part:
    if arm is None:
        if len(study.tasks) < 2:
            return "With one task there is nothing that could conflict", [], None
        return "Whether the tasks conflict was not measured", [study.unmeasured], None
    values = conflict_incidence(arm)
    shown = share(float(values.mean()))
    spread = f" (seeds: {share(values.min())} to {share(values.max())})" if len(values) > 1 else ""
    sentences = [
        f"Under {arm.label}, {shown} of the task pairs per probed step had gradients with a negative cosine{spread}. "
        "This is called conflict; only a raised loss is called harm.",
        "Part of it is sampling noise: two unrelated tasks would show a negative cosine on half of the mini-batches. "
        "These runs hold no noise floor to subtract.",
    ]
    if any("features" in record.space for record in arm.measured):
        sentences.append(
            "Gradients were measured at the shared features; cosines there differ from those of parameters."
        )
    rare = values.mean() < RARE_CONFLICT
    lead = (
        f"The tasks hardly conflict ({shown} of pairs per step)" if rare else f"{shown} of task pairs conflict per step"
    )
    return lead, sentences, Tile("Conflict", shown, f"of task pairs per step have a negative cosine under {arm.label}")


def _harm(study: Study, arm: Arm | None) -> Part:
    if arm is None:
        return "", [], None
    rare = conflict_incidence(arm).mean() < RARE_CONFLICT
    calm, hurt = (", and nobody pays", ", yet") if rare else (", but that hurts nobody much", ", and")
    means = rate(harm_rates(arm, study.tasks), axis=0).value  # (3, K)
    place = 2 if np.isfinite(means[2]).any() else 0
    who = "the optimiser's steps" if place == 2 else "the summed gradient"
    row = means[place]
    if not np.isfinite(row).any():
        return "", [], None
    worst = int(np.nanargmax(row))
    order = [int(i) for i in np.argsort(-row) if np.isfinite(row[i])]
    each = [f"‘{study.tasks[i]}’ {share(float(row[i]))}" for i in order[:MOST]]
    if len(order) > MOST:
        each.append(f"at most {share(float(row[order[MOST]]))} for the {len(order) - MOST} others")
    sentence = f"Under {arm.label}, {who} raised a task's loss to first order on this share of steps: {listing(each)}."
    name, most = f"‘{study.tasks[worst]}’", share(float(row[worst]))
    if row[worst] < RARE_HARM:
        lead = f"{calm} (no loss is raised on more than {most} of steps)"
        return lead, [sentence], Tile("Harm", most, f"of steps, at most, raise any one task's loss under {arm.label}")
    lead = f"{hurt} {name} pays most (its loss is raised on {most} of steps)"
    return lead, [sentence], Tile("Harm", most, f"of steps raise the loss of {name}, who pays most under {arm.label}")


def _imbalance(arm: Arm | None) -> Tile | None:
    if arm is None:
        return None
    logs = [rate(np.log(norm_ratio(record.gramian)), axis=0).value for record in arm.measured]
    typical = float(np.exp(np.mean(logs)))
    return Tile("Imbalance", f"{number(typical, 2)} ×", "typical largest over smallest gradient norm (1 is balance)")


def _undone(study: Study) -> list[str]:
    """Methods whose gradients harm nobody while the steps made of them do."""
    undone, share_of_steps = [], []
    for arm in study.arms:
        if arm.measured:
            _, aggregated, step = rate(harm_rates(arm, study.tasks), axis=(0, 2)).value
            if aggregated < 0.01 and step >= RARE_HARM:
                undone.append(arm.label)
                share_of_steps.append(float(step))
    if not undone:
        return []
    low, high = share(min(share_of_steps)), share(max(share_of_steps))
    span = low if low == high else f"{low} to {high}"
    return [
        f"{listing(undone)} made gradients that raise no loss, yet the optimiser's steps still raised a task's loss on "
        f"{span} of steps: momentum or adaptive rates undo part of the surgery."
    ]


def _outcome(study: Study) -> Part:
    if not study.arms:
        return "", ["Only single-task runs were given: there is no joint training to judge."], None
    reference = study.reference
    others = [arm for arm in study.arms if arm is not reference]
    if reference is None or not others:
        lacking = "runs of Sum()" if reference is None else "a second method"
        return "", [f"Whether a method helps was not tested: that needs {lacking}."], None
    found = [(arm, over(joint_improvement(arm, study))) for arm in others]
    found = [(arm, known) for arm, known in found if known.seeds]
    if not found:
        sentence = "Whether a method helps cannot be said yet: no method shares a finished seed with Sum()."
        return "no run is finished that could tell whether a method helps", [sentence], None
    judged = [(arm, known) for arm, known in found if known.seeds > 1]
    if not judged:
        sentence = "With one seed no interval can be given, so nothing can be said about differences between methods."
        tile = Tile("Methods against Sum()", UNDEFINED, "one seed: no interval can be given")
        return "with one seed, no difference between methods can be told from noise", [sentence], tile
    return _compared(study, judged)


def _compared(study: Study, judged: list[tuple[Arm, stats.Interval]]) -> Part:
    p = holm({arm.label: paired_t(joint_improvement(arm, study).values()) for arm, _ in judged})
    words = {arm.label: _word(known, p.get(arm.label, 1.0)) for arm, known in judged}
    better, worse = ([label for label in words if words[label] == word] for word in ("better", "worse"))
    best, known = max(judged, key=lambda pair: pair[1].mean)
    interval = f"95 % interval [{percent(known.low)}, {percent(known.high)}]"
    lead = _ranking(better, worse) or _none(judged)
    sentences = [
        f"Best against Sum(): {best.label} with {percent(known.mean)} in the mean over tasks, {interval}, paired "
        f"over {times(known.seeds, 'seed')}."
    ]
    if len(judged) > 1 and (better or worse):
        sentences.append(
            f"{len(judged)} methods were compared; what is called a difference is one after Holm's correction for that."
        )
    beyond = words[best.label] in ("better", "worse")
    note = f"{interval}: {'beyond' if beyond else 'within'} seed noise"
    return lead, sentences + _baselines(study), Tile(f"{best.label} against Sum()", percent(known.mean), note)


def _word(known: stats.Interval, p: float) -> str:
    """Which side of the plain sum a method is on, if its corrected p-value says that it is on one."""
    if p >= 1 - stats.LEVEL:
        return "no difference beyond seed noise"
    return "better" if known.mean > 0 else "worse"


def _ranking(better: list[str], worse: list[str]) -> str:
    """Who differs from the plain sum, in words; empty if nobody does."""
    parts = []
    if better:
        parts.append(f"{listing(better)} beat{'s' if len(better) == 1 else ''} the plain sum beyond seed noise")
    elif worse:
        parts.append("no method beats the plain sum beyond seed noise")
    if worse:
        verb = "is" if len(worse) == 1 else "are"
        parts.append(f"{listing(worse)} {verb} worse" + (" than it beyond seed noise" if better else " beyond it"))
    return ", and ".join(parts)


def _none(judged: list[tuple[Arm, stats.Interval]]) -> str:
    if len(judged) == 1:
        return f"{judged[0][0].label} shows no difference from the plain sum beyond seed noise"
    return f"none of the {len(judged)} other methods differs from the plain sum beyond seed noise"


def _baselines(study: Study) -> list[str]:
    """How joint training compares with training each task alone."""
    if study.reference is None:
        return []
    values, lacking = against_single(study.reference, study)
    if not values:
        return [f"How joint training compares with training each task alone cannot be said: {lacking}."]
    known = over(values)
    shown = f"(Δm {percent(known.mean)})"
    if known.seeds < 2:
        return [f"Joint training with Sum() against training each task alone: Δm {percent(known.mean)}, from one seed."]
    word = stats.verdict(known)
    if word in ("better", "worse"):
        return [f"Joint training with Sum() is {word} than training each task alone {shown}."]
    return [
        f"Joint training with Sum() against each task alone {shown}: {known.seeds} seeds cannot tell this from noise."
    ]


def _unfinished(study: Study) -> list[str]:
    waiting = sum(not trial.run.finished for arm in study.arms for trial in arm.trials)
    if not waiting:
        return []
    return [f"{times(waiting, 'run')} {'is' if waiting == 1 else 'are'} unfinished: the picture may change."]
