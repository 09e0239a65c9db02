"""RandomNeuron: random inputs of each neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.sparse.rule import Budgeted, Target
from accord.sparse.top import top_columns


@dataclass(frozen=True, repr=False)
class RandomNeuron(Budgeted):
    """Of each row, ``k_r`` inputs drawn uniformly without replacement: the control for every rule by row.

    ``I_r = top k_r of U[r, :]`` with independent uniform ``U``.

    Source: Accord; the control that https://arxiv.org/abs/2411.18615 leaves out (its random rule draws by block).

    Args:
        k: see ``Budgeted``.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.

    Example:
        >>> target = Target("w", torch.zeros(2, 5), keep=3)
        >>> RandomNeuron(k=3).choose([target], torch.Generator().manual_seed(0))["w"].shape
        torch.Size([2, 3])
    """

    name: ClassVar[str] = "RandomNeuron"

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Rule.choose``."""
        found = {}
        for target in targets:
            drawn = torch.rand(target.matrix.shape, generator=generator)  # on the CPU, so that devices agree
            found[target.name] = top_columns(drawn, target.keep).to(target.matrix.device)
        return found
