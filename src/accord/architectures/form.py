"""Form: what a tensor that goes into or comes out of a network looks like, apart from the batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["vector", "map", "sequence", "tokens"]


@dataclass(frozen=True)
class Form:
    """The form of a tensor: ``vector`` (N, D), ``map`` (N, D, H, W), ``sequence`` (N, L, D) or ``tokens`` (N, L).

    Args:
        kind: one of those words; images are maps.
        width: D: features or channels; for tokens the size of the vocabulary, of which 0 is padding.
        size: (H, W) of a map; the greatest length (L,) of tokens and sequences.

    Example:
        >>> Form("map", 3, (64, 64))
        Form(kind='map', width=3, size=(64, 64))
    """

    kind: Kind
    width: int
    size: tuple[int, ...] = ()
