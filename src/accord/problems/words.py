"""From words to numbers: one for each frequent word, and shared ones for rare words that look alike."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

PADDING, UNKNOWN = 0, 1  # numbers that stand for no word
FIRST = 2
DIGIT = re.compile(r"\d")


def vocabulary(words: Iterable[str], size: int, least: int = 2) -> dict[str, int]:
    """Numbers of the most frequent entries among words in small letters and the looks of rare words.

    Args:
        words: of the training part.
        size: numbers in all, with padding and unknown; at least 3.
        least: how often an entry must occur. Words that occur less often teach what their looks mean.

    Example:
        >>> vocabulary("It is it Rhine Seine".split(), size=5)
        {'it': 2, 'LIKE Aa.ne': 3, 'LIKE Aa': 4}
    """
    words = list(words)
    counts = Counter(word.lower() for word in words)
    known: Counter[str] = Counter({word: count for word, count in counts.items() if count >= least})
    for word in words:
        if word.lower() not in known:
            known.update(looks(word))
    kept = [entry for entry, count in known.most_common(size - FIRST) if count >= least]
    return {entry: number for number, entry in enumerate(kept, FIRST)}


def looks(word: str) -> tuple[str, str]:
    """How a word looks, with its last two letters and without: capitals, digits, signs.

    Example:
        >>> looks("Seine"), looks("B2"), looks("well-known")
        (('LIKE Aa.ne', 'LIKE Aa'), ('LIKE A0.b2', 'LIKE A0'), ('LIKE a-.wn', 'LIKE a-'))
    """
    shape = "LIKE " + "".join((  # no word in small letters has capitals
        "A" * word[:1].isupper(),
        "a" * any(map(str.islower, word)),
        "0" * (DIGIT.search(word) is not None),
        "-" * (not word.isalnum()),
    ))  # fmt: skip
    return f"{shape}.{word[-2:].lower()}", shape


def numbers(words: Sequence[str], known: dict[str, int]) -> NDArray[np.int64]:
    """(W,) the number of each word, else that of its looks, else ``UNKNOWN``.

    Example:
        >>> numbers(["It", "Maine", "Paul", "42"], {"it": 2, "LIKE Aa.ne": 3, "LIKE Aa": 4}).tolist()
        [2, 3, 4, 1]
    """
    return np.fromiter((_number(word, known) for word in words), np.int64, len(words))


def _number(word: str, known: dict[str, int]) -> int:
    lower = word.lower()
    if lower in known:
        return known[lower]
    return next((known[look] for look in looks(word) if look in known), UNKNOWN)
