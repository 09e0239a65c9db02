"""Judging: from values over seeds to *supported*, *not supported* or *inconclusive*, by rules that know no result.

All tests are three-valued: an interval that reaches over the threshold decides nothing, and neither do too few seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from accord.bench.stats import Interval, interval

Word = Literal["supported", "not supported", "inconclusive"]
SEEDS = 5  # with fewer, nothing is decided


@dataclass(frozen=True)
class Test:
    """The outcome of one comparison.

    Args:
        word: the verdict.
        found: the numbers behind it.
    """

    __test__ = False  # what pytest would take it for

    word: Word
    found: str


@dataclass(frozen=True)
class Claim:
    """A statement that could have turned out false.

    Args:
        name: short.
        statement: what is claimed, in one sentence.
        rule: when it counts as supported and when as not supported.
        test: how it turned out.
    """

    name: str
    statement: str
    rule: str
    test: Test


def above(name: str, values: Any, threshold: float) -> Test:
    """Whether a mean over seeds lies above a threshold: its whole 95 % interval does, or lies wholly below, or neither.

    The interval is Student's, of values of which each belongs to one seed (differences of two arms: paired). With five
    seeds a percentile bootstrap would cover the true mean in about five of six cases only.

    Args:
        name: of the quantity.
        values: (S,).
        threshold: fixed beforehand.

    Returns:
        Inconclusive also with fewer than five seeds, and where a value is undefined.

    Example:
        >>> above("gain", [0.9, 1.0, 1.1, 1.0, 1.0], 0.5)
        Test(word='supported', found='gain 1 [0.912, 1.09], threshold 0.5')
        >>> above("gain", [0.9, 1.0], 0.5).word
        'inconclusive'
    """
    return _beyond(name, values, threshold, lambda found: found.low > threshold, lambda found: found.high < threshold)


def below(name: str, values: Any, threshold: float) -> Test:
    """Whether a mean over seeds lies below a threshold; see ``above``.

    Example:
        >>> below("loss", [0.9, 1.0, 1.1, 1.0, 1.0], 0.5).word
        'not supported'
    """
    return _beyond(name, values, threshold, lambda found: found.high < threshold, lambda found: found.low > threshold)


def equivalent(name: str, values: Any, margin: float) -> Test:
    """Whether a mean over seeds is zero up to a margin: the whole interval lies within ``± margin``, or wholly outside.

    A difference that is not significant is no evidence of equality; this is.

    Example:
        >>> equivalent("difference", [0.01, -0.01, 0.0, 0.01, 0.0], 0.1).word
        'supported'
    """
    return _beyond(
        name, values, margin,
        lambda found: -margin < found.low and found.high < margin,
        lambda found: found.low > margin or found.high < -margin,
        "margin",
    )  # fmt: skip


def all_of(*tests: Test) -> Test:
    """Supported if all are, not supported if one is not, else inconclusive.

    Example:
        >>> all_of(Test("supported", "a"), Test("inconclusive", "b"))
        Test(word='inconclusive', found='a; b')
    """
    words = [test.word for test in tests]
    return _joined(tests, "not supported" if "not supported" in words else _common(words))


def any_of(*tests: Test) -> Test:
    """Supported if one is, not supported if none is, else inconclusive.

    The more tests, the likelier one of them is a mere accident: say in the claim's rule how many there are.

    Example:
        >>> any_of(Test("supported", "a"), Test("not supported", "b")).word
        'supported'
    """
    words = [test.word for test in tests]
    return _joined(tests, "supported" if "supported" in words else _common(words))


def negated(test: Test) -> Test:
    """The opposite; inconclusive stays inconclusive.

    Example:
        >>> negated(Test("supported", "a")).word
        'not supported'
    """
    opposite: dict[Word, Word] = {"supported": "not supported", "not supported": "supported"}
    return replace(test, word=opposite.get(test.word, "inconclusive"))


def agreed(words: Sequence[Word]) -> Word:
    """What several disjoint sets of seeds say together: their common verdict, or inconclusive.

    Example:
        >>> agreed(["supported", "inconclusive"])
        'inconclusive'
    """
    return _common(words)


def _common(words: Sequence[Word]) -> Word:
    return words[0] if words and len(set(words)) == 1 else "inconclusive"


def _joined(tests: Sequence[Test], word: Word) -> Test:
    return Test(word, "; ".join(test.found for test in tests))


def _beyond(
    name: str, values: Any, threshold: float, yes: Callable[[Interval], bool], no: Callable[[Interval], bool],
    kind: str = "threshold",
) -> Test:  # fmt: skip
    every = np.asarray(values, dtype=np.float64)  # (S,)
    found = interval(every.tolist())
    text = f"{name} {found}, {kind} {threshold:.3g}"
    if undefined := int(np.isnan(every).sum()):
        return Test("inconclusive", f"{text}; undefined for {undefined} of {len(every)} seeds")
    if found.seeds < SEEDS:
        return Test("inconclusive", f"{text}; {found.seeds} seeds, {SEEDS} are needed")
    return Test("supported" if yes(found) else "not supported" if no(found) else "inconclusive", text)
