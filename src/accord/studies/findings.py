"""Findings: the claims of a study, judged on every set of seeds by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accord.studies.judging import SEEDS, Claim, Word, agreed
from accord.studies.study import Results, Study


@dataclass(frozen=True)
class Finding:
    """A claim and what each set of seeds says about it.

    Args:
        claim: judged on all seeds together, for its numbers.
        sets: the seeds of each set.
        words: the verdict of each set.
        found: the numbers of each set.
        smoke: a few steps were run, so that nothing is decided, whatever the numbers are.
    """

    claim: Claim
    sets: tuple[tuple[int, ...], ...]
    words: tuple[Word, ...]
    found: tuple[str, ...]
    smoke: bool = False

    @property
    def word(self) -> Word:
        """The verdict: what all sets say; inconclusive if they differ."""
        return agreed(self.words)

    @property
    def why(self) -> str:
        """What the verdict rests on, in one sentence."""
        if self.smoke:
            return "A smoke run decides nothing."
        if len(set(self.words)) > 1:
            return f"The sets of seeds differ: {', '.join(self.words)}."
        count = min(map(len, self.sets))
        if count < SEEDS:
            return f"{count} seeds in a set; {SEEDS} are needed for a verdict."
        if len(self.sets) == 1:
            return f"One set of {count} seeds; not repeated."
        return f"The same in {len(self.sets)} disjoint sets of {count} seeds."


def findings(study: Study, results: Results, sets: Sequence[Sequence[int]], smoke: bool = False) -> tuple[Finding, ...]:
    """Judge on each set, and on all together.

    Args:
        study: whose rule of judgement it is.
        results: of all seeds.
        sets: disjoint sets of seeds.
        smoke: the results are those of a smoke run: every verdict is inconclusive.

    Example:
        >>> from accord.studies.judging import above
        >>> judge = lambda r: (Claim("gain", "It helps.", "gain > 0", above("gain", r.values("gain"), 0.0)),)
        >>> study = Study("T", "Test", "?", "", (), ("one",), lambda work: [], judge, lambda r: (), lambda r: ())
        >>> rows = [{"seed": seed, "gain": 1.0 + 0.01 * seed} for seed in range(10)]
        >>> [(f.word, f.why) for f in findings(study, Results(rows), (range(5), range(5, 10)))]
        [('supported', 'The same in 2 disjoint sets of 5 seeds.')]
    """
    every = study.judge(results)
    apart = [study.judge(results.of(seeds)) for seeds in sets]
    kept = tuple(tuple(seeds) for seeds in sets)
    out = []
    for i, claim in enumerate(every):
        mine = [claims[i] for claims in apart]
        if any(other.name != claim.name for other in mine):
            raise ValueError(f"{study.name}: the claims depend on the seeds: {[c.name for c in mine]}")
        words: tuple[Word, ...] = tuple("inconclusive" if smoke else c.test.word for c in mine)
        out.append(Finding(claim, kept, words, tuple(c.test.found for c in mine), smoke))
    return tuple(out)
