"""Columns: the same inputs for all neurons of a layer."""

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
class Columns(Budgeted):
    """Inputs with the largest sum of magnitudes, the same for all rows of a layer, or of a group of neighbouring rows.

    ``I = top k_r of sum_r |W[r, :]|``; of equal sums, the lowest columns. The weight gradient is then a smaller dense
    product, so this saves operations and kept activations, which choosing row by row does not. Of convolutions, whole
    input channels are chosen, as many as fit the budget; single columns where not even one does.

    Source: Accord; the structured variant of https://arxiv.org/abs/2411.18615. Sums are worked out in float64, but
    other devices may still settle sums that differ by rounding otherwise.

    Args:
        k: see ``Budgeted``.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.
        group: rows that share their inputs; all of a layer unless said.

    Example:
        >>> weight = torch.tensor([[3.0, 0.0, 2.0], [0.0, 1.0, -2.0]])
        >>> Columns(k=1).choose([Target("w", weight, keep=1)], torch.Generator())["w"].index.tolist()
        [[2]]
    """

    group: int | None = None

    name: ClassVar[str] = "Columns"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group is not None and (not isinstance(self.group, int) or self.group < 1):
            raise AccordError(f"group={self.group!r} is no count of rows; it must be at least 1, or None for all rows.")

    def size(self, target: Target) -> int:
        """See ``Rule.size``."""
        width = self._width(target)
        return len(target.matrix) * (target.keep // width * width)

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, selection.Columns]:
        """See ``Rule.choose``."""
        found = {}
        for target in targets:
            (out, fan_in), width = target.matrix.shape, self._width(target)
            group = min(out, self.group or out)
            parts = [part.abs().sum(0, dtype=torch.float64) for part in target.matrix.split(group)]  # each (fan_in,)
            sums = torch.stack(parts).unflatten(1, (-1, width)).sum(2)  # (groups, fan_in / width)
            chosen = top_columns(sums, target.keep // width)  # (groups, keep / width)
            index = (chosen[:, :, None] * width + torch.arange(width, device=chosen.device)).flatten(1)
            found[target.name] = selection.Columns(narrow(index, fan_in), group)
        return found

    def _width(self, target: Target) -> int:
        """Neighbouring columns that are chosen together."""
        return target.taps if target.keep >= target.taps else 1
