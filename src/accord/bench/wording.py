"""A comparison in words: one sentence that says whether a difference is real, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from accord.bench import significance
from accord.bench.comparison import Comparison, Difference
from accord.bench.stats import LEVEL, Interval


def is_real(p: float) -> bool:
    """Whether a p-value allows to call a difference real."""
    return p < 1 - LEVEL


def verdict(comparison: Comparison) -> str:
    """One sentence: is the difference real?

    On one problem by the paired t test; on several by the mean over these problems.
    """
    a, b, entries = comparison.a, comparison.b, comparison.problems
    if len(entries) == 1:
        return f"{sentence(entries[0], a, b)} {cost(entries)}"
    known, count = comparison.gain, len(entries)
    if not known.seeds:
        single = [entry.gain.mean for entry in entries if entry.gain.seeds]
        if not single:
            return f"Nothing can be said: {b} against {a} has no relative difference on any problem; the notes say why."
        count, mean = len(single), float(np.mean(single))
        return f"One seed says nothing: {b} is at {_percent(mean)} against {a} in the mean over {_problems(count)}, " \
               f"by an amount that single seeds cannot tell from noise. {cost(entries)}"  # fmt: skip
    judged = [entry for entry in entries if entry.gain.seeds > 1]
    real = [entry for entry in judged if is_real(comparison.corrected[entry.problem])]
    up, down = (sum((entry.gain.mean > 0) is side for entry in real) for side in (True, False))
    each = f"each problem by itself: better on {up}, worse on {down}, not distinguishable on {len(judged) - up - down}"
    where = f"{_shown(known)} in the mean over {_problems(len(judged))} (p {_p(comparison.p)})"
    if is_real(comparison.p):
        opening = f"Real: {b} is {'better' if known.mean > 0 else 'worse'} than {a} by {where}"
    else:
        opening = f"Not distinguishable: {b} against {a} is at {where}"
    return f"{opening}; {each} (corrected by Holm). {cost(entries)}"


def sentence(entry: Difference, a: str, b: str, p: float | None = None, tests: int = 1) -> str:
    """One problem in one sentence.

    Args:
        entry: the problem.
        a: label of the baseline.
        b: label of the other.
        p: corrected for the number of problems, if there are several.
        tests: how many problems it is corrected for.
    """
    known, many = entry.gain, len(entry.measures)
    where = f"on {entry.problem}" + (f", in the mean over {len({m.task for m in entry.measures})} tasks" * (many > 1))
    if not known.seeds:
        return f"Nothing can be said: {b} against {a} has no relative difference {where}; the notes say why."
    if known.seeds < 2:
        return f"One seed says nothing: {b} is at {_percent(known.mean)} against {a} {where}; run at least three seeds."
    over = f"paired over {known.seeds} seeds, p {_p(entry.p)}" + (
        f", corrected for the number of problems p {_p(p)}" if p is not None else ""
    )
    if is_real(entry.p if p is None else p):
        word = "better" if known.mean > 0 else "worse"
        return f"Real: {b} is {word} than {a} by {_shown(known)} {where} ({over})."
    level = 1 - (1 - LEVEL) / tests
    needed = significance.seeds_needed(known.mean, entry.spread, level=level)
    need = f"about {needed:.0f}" if math.isfinite(needed) else f"more than {significance.MOST}"
    seen = significance.detectable(entry.spread, known.seeds, level=level)
    return (
        f"Not distinguishable: {b} against {a} is at {_shown(known)} {where} ({over}); it would need {need} seeds to "
        f"see a difference of this size, and {known.seeds} seeds would only find one of {_percent(seen, False)} or "
        "more."
    )


def cost(entries: Sequence[Difference]) -> str:
    """Time of B over A, whether both took as many steps, and what else differs between them."""

    def geometric(values: Sequence[float]) -> str:
        known = [math.log(value) for value in values if value > 0 and math.isfinite(value)]
        return f"{math.exp(sum(known) / len(known)):.2f} times as long" if known else "an unknown time"

    steps = all(entry.steps[0] == entry.steps[1] for entry in entries)
    said = [
        f"A step of it took {geometric([entry.step_ratio.mean for entry in entries])}, the whole training "
        f"{geometric([entry.total_ratio.mean for entry in entries])}, with "
        + ("equally many steps" if steps else "different numbers of steps")
    ]
    rates = [entry for entry in entries if entry.lr[0] != entry.lr[1]]
    if rates:
        said.append(f"learning rates differ{_where(rates, entries)} ({rates[0].lr[1]} against {rates[0].lr[0]})")
    others = {key: both for entry in entries for key, both in entry.others.items()}
    said += [f"{key} differs ({both[1]} against {both[0]})" for key, both in others.items()]
    return "; ".join(said) + "."


def _where(some: Sequence[Difference], entries: Sequence[Difference]) -> str:
    return "" if len(some) == len(entries) == 1 else f" on {len(some)} of {len(entries)} problems, first"


def _shown(known: Interval) -> str:
    return f"{_percent(known.mean)} [{_percent(known.low)}, {_percent(known.high)}]"


def _percent(value: float, sign: bool = True) -> str:
    return f"{100 * value:{'+' if sign else ''}.2f} %"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _problems(count: int) -> str:
    return f"{count} problem{'' if count == 1 else 's'}"


def method(made: Comparison) -> str:
    """How the numbers were obtained, and what so few seeds cannot show."""
    seeds = min(entry.gain.seeds for entry in made.problems)
    said = [
        "Improvement: relative, the mean over a task's measures and then over tasks, paired by seed. Test: Student's "
        "paired t, two-sided, at 5 %; each interval of a single measure stands by itself."
    ]
    if len(made.problems) == 1 and seeds > 1:
        entry = made.problems[0]
        low = significance.smallest_p(seeds)
        said.append(
            f"The sign-flip test, which assumes no normality, gives p {_p(entry.p_flip)}; with {seeds} seeds it "
            f"cannot give less than {low:.3g}."
        )
        size = significance.effect(entry.differences.values())
        if math.isfinite(size):
            said.append(f"Effect: {size:+.2f} standard deviations of the paired differences (Hedges).")
    if len(made.problems) > 1:
        count = sum(entry.gain.seeds > 1 for entry in made.problems)
    if len(made.problems) > 1 and count > 1:
        said.append(
            "The overall interval (Welch and Satterthwaite) speaks about these problems and new seeds; about other "
            f"problems, Wilcoxon's test over the {count} gives p {_p(made.p_problems)} and cannot give less than "
            f"{significance.smallest_p(count):.3g}."
        )
    return " ".join(said)
