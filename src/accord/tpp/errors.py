"""The one error of this package for user mistakes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TPPError(ValueError):
    """A mistake that the user can mend: what was found, what was expected, what to do."""


def nearest(found: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known spelling, else the list of all.

    Example:
        >>> nearest("thpp", ["thp", "lnm"]), nearest("x", ["thp", "lnm"])
        (" Did you mean 'thp'?", ' Known: thp, lnm.')
    """
    known = list(known)
    close = difflib.get_close_matches(found.lower(), known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(known)}."
