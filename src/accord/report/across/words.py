"""The verdict over several problems, in plain sentences that are computed from the stored runs."""

from __future__ import annotations

from accord.bench.significance import Pooled, holm, paired_t, pooled
from accord.bench.stats import LEVEL
from accord.report.across.standing import notes
from accord.report.across.suite import Suite
from accord.report.merit import ends, over
from accord.report.table import Column, Table
from accord.report.text import UNDEFINED, fixed, listing, number, percent, times
from accord.report.verdict import Tile, Verdict

SURE = 1 - LEVEL


def suite_verdict(suite: Suite) -> Verdict:
    """Which methods are best over the problems, and which differ from the plain sum?"""
    found = suite.ranking
    if isinstance(found, str):
        return Verdict(f"The methods cannot be ranked over these problems: {found}.", tuple(_against_sum(suite)), ())
    best = suite.short[found.methods[0]]
    alike = [
        suite.short[m]
        for m, mean in zip(found.methods, found.mean, strict=True)
        if mean - found.mean[0] <= found.critical
    ][1:]
    over_all = f"over {times(len(found.problems), 'problem')}"
    if found.p >= SURE:
        lead = f"The {len(found.methods)} methods cannot be told apart {over_all} (Friedman, p = {number(found.p)})."
    elif alike:
        some = listing(alike) if len(alike) <= 4 else f"{len(alike)} others"
        lead = f"{best} has the best mean rank {over_all}, but {some} cannot be told apart from it."
    else:
        lead = f"{best} is best {over_all}, beyond every other method."
    tiles = (
        Tile("Best mean rank", fixed(float(found.mean[0]), 2), f"{best}, of {len(found.methods)} methods; 1 is best"),
        Tile("Needed to differ", fixed(found.critical, 2), "ranks apart, by Nemenyi's critical difference"),
    )
    return Verdict(lead, (*_against_sum(suite), *notes(suite)), tiles)


def together(suite: Suite) -> dict[str, Pooled]:
    """The improvement of each method over the plain sum in the mean over problems, for those with two seeds."""
    found = {label: pooled([values.values() for values in cells.values()]) for label, cells in suite.gain.items()}
    return {label: known for label, known in found.items() if known.interval.seeds}


def _against_sum(suite: Suite) -> list[str]:
    found = together(suite)
    if not found:
        return ["Against Sum() nothing can be said: that needs two seeds of it and of another method on one problem."]
    p = holm({label: known.p for label, known in found.items()})
    said = []
    for word, side in (("better", 1), ("worse", -1)):
        real = [label for label in p if p[label] < SURE and side * found[label].interval.mean > 0]
        if real:
            each = [f"{suite.short[label]} {percent(found[label].interval.mean)}" for label in real]
            said.append(f"In the mean over the problems {word} than Sum(), beyond seed noise: {listing(each)}.")
    if not said:
        said = [
            f"None of {times(len(p), 'method')} differs from Sum() in the mean over the problems, beyond seed noise."
        ]
    said[-1] += f" P-values are corrected for {times(len(p), 'method')} (Holm); they speak about these problems."
    return [*said, *_each(suite)]


def _each(suite: Suite) -> list[str]:
    """On how many single problems methods differ from the plain sum."""
    better = worse = count = 0
    for problem in suite.problems:
        tests = {label: cells[problem].values() for label, cells in suite.gain.items() if problem in cells}
        for label, p in holm({label: paired_t(values) for label, values in tests.items()}).items():
            mean = over(suite.gain[label][problem]).mean
            count, better, worse = count + 1, better + (p < SURE and mean > 0), worse + (p < SURE and mean < 0)
    if not count:
        return []
    return [
        f"Of {count} comparisons with Sum(), each a method on a problem, {better} gained and {worse} lost "
        "beyond seed noise (corrected within each problem)."
    ]


def standings(suite: Suite) -> Table:
    """One row per method: its worth on every problem, its mean over them, and its mean rank."""
    found = suite.ranking
    ranks = {} if isinstance(found, str) else dict(zip(found.methods, found.mean.tolist(), strict=True))
    whole = together(suite)
    alone = [any(study.singles) for study in suite.studies]
    hints = ["Δm against each task alone" if single else "improvement over Sum()" for single in alone]
    columns = (
        Column("method"),
        *(Column(problem, hint) for problem, hint in zip(suite.problems, hints, strict=True)),
        Column("against Sum(), all problems", "mean over the problems of the improvement over the plain sum"),
        Column("mean rank", "over the problems that all ranked methods finished; 1 is best"),
    )
    rows = []
    for label in sorted(suite.styles, key=lambda label: ranks.get(label, float("inf"))):
        cells = [_cell(suite, problem, label) for problem in suite.problems]
        mean = UNDEFINED
        if label in whole:
            known = whole[label].interval
            mean = f"{percent(known.mean)} ± {fixed(100 * known.half, 2)}"
        rows.append((label, *cells, mean, fixed(ranks[label], 2) if label in ranks else UNDEFINED))
    caption = (
        "Worth of each method: Δm against training each task alone where those runs exist, else the improvement over "
        "Sum(); mean over seeds ± half of the 95 % interval. The mean over problems has the interval of Welch and "
        "Satterthwaite: it speaks about these problems and new seeds."
    )
    return Table("All problems", columns, tuple(rows), caption, "standings")


def _cell(suite: Suite, problem: str, label: str) -> str:
    known = over(suite.worth[problem].get(label, {}))
    text = percent(known.mean)
    return text if ends(known) is None else f"{text} ± {fixed(100 * known.half, 2)}"
