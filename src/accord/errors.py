"""The one error for user mistakes: what was found, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AccordError(ValueError):
    """A mistake that the user can mend; the command line prints its one line and exits with 2."""


def nearest(found: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest known spelling, else the list of all."""
    known = list(known)
    lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(found.lower(), lower, n=1, cutoff=0.5)
    return f" Did you mean {lower[close[0]]!r}?" if close else f" Known: {', '.join(known)}."
