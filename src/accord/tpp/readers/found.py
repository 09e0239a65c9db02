"""Found: what every reader returns, and the names that its parts may carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accord.tpp.errors import TPPError
from accord.tpp.events import Events

ALL = "all"
_SPELLINGS = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}


@dataclass(frozen=True)
class Found:
    """What a reader found: ``read(path, **options) -> Found``, beside ``recognises(path) -> bool``.

    Args:
        parts: events by part: ``train``, ``validation``, ``test`` and others as named by the source; one part ``all``
            where the source knows no parts. All parts have one vocabulary of marks.
        warnings: what the user should know about the source, a line each, with counts.
        ids: by part the names that the source gives the sequences; a part is missing where it gives none.

    Raises:
        TPPError: if there is no part, or vocabularies differ.

    Example:
        >>> Found({"all": Events.of([[1.0, 2.0]])}).parts["all"]
        Events(N=1, events=2, M=1)
    """

    parts: dict[str, Events]
    warnings: tuple[str, ...] = ()
    ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.parts:
            raise TPPError("no part of a data set was found; expected at least one with events.")
        if len({part.marks for part in self.parts.values()}) > 1:
            raise TPPError(f"the parts {', '.join(self.parts)} have different vocabularies of marks; expected one.")


def part_name(spelling: str) -> str:
    """The one name of a part: ``dev``, ``val`` and ``valid`` are ``validation``, other spellings stay.

    Example:
        >>> part_name("dev"), part_name("Test"), part_name("cal")
        ('validation', 'test', 'cal')
    """
    return _SPELLINGS.get(spelling.lower(), spelling.lower())
