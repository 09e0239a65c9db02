"""Blocks: square tiles of a weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from accord.errors import AccordError
from accord.sparse import selection
from accord.sparse.rule import Budgeted, Target
from accord.sparse.selection import narrow
from accord.sparse.top import top_columns


@dataclass(frozen=True, repr=False)
class Blocks(Budgeted):
    """Tiles of ``side x side`` weights: of each row of tiles, those with the largest norm, as many as fit the budget.

    A row of weights trains ``floor(k_r / side) * side`` inputs; where ``k_r`` is below ``side``, one tile of width
    ``k_r``. Columns beyond the last whole tile are not trained; the last row of tiles may be lower. Of equal norms, the
    first tiles.

    Source: Accord; the shape is that of https://arxiv.org/abs/2405.15525 (SMT), which picks tiles by their gradient.

    Args:
        k: see ``Budgeted``.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.
        side: rows and columns of a tile.

    Example:
        >>> weight = torch.tensor([[1.0, 1.0, 0.0, 3.0], [1.0, 1.0, 0.0, 0.0]])
        >>> Blocks(k=2, side=2).choose([Target("w", weight, keep=2)], torch.Generator())["w"].index.tolist()
        [[2, 3]]
    """

    side: int = 256

    name: ClassVar[str] = "Blocks"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.side, bool) or not isinstance(self.side, int) or self.side < 1:
            raise AccordError(f"side={self.side!r} is no length of a tile; it must be a whole number, at least 1.")

    def size(self, target: Target) -> int:
        """See ``Rule.size``."""
        width, tiles = self._tiles(target)
        return len(target.matrix) * width * tiles

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, selection.Columns]:
        """See ``Rule.choose``."""
        found = {}
        for target in targets:
            out, fan_in = target.matrix.shape
            width, tiles = self._tiles(target)
            group, whole = min(out, self.side), fan_in // width
            norms = []  # of each row of tiles (whole,)
            for part in target.matrix.split(group):
                squares = part[:, : whole * width].double().square().sum(0)  # (whole * width,)
                norms.append(squares.view(whole, width).sum(1))
            chosen = top_columns(torch.stack(norms), tiles)  # (groups, tiles)
            inside = torch.arange(width, device=chosen.device)
            index = (chosen[:, :, None] * width + inside).flatten(1)  # (groups, tiles * width)
            found[target.name] = selection.Columns(narrow(index, fan_in), group)
        return found

    def _tiles(self, target: Target) -> tuple[int, int]:
        """Width of a tile, and how many of each row of tiles are trained."""
        width = min(self.side, target.keep)
        return width, target.keep // width
