"""PSN: the largest magnitudes of each neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.sparse.rule import Budgeted, Target
from accord.sparse.top import top_columns


@dataclass(frozen=True, repr=False)
class PSN(Budgeted):
    """Parameter selection per neuron: of each row, the ``k_r`` inputs with the largest initial magnitude.

    ``I_r = top k_r of |W[r, :]|``; of equal magnitudes, the lowest columns. It needs no data.

    Source: Zhang et al. 2024, https://arxiv.org/abs/2411.18615, section 3.

    Args:
        k: see ``Budgeted``.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.

    Example:
        >>> weight = torch.tensor([[0.1, -3.0, 2.0], [0.5, 0.5, -0.2]])
        >>> PSN(k=1).choose([Target("w", weight, keep=1)], torch.Generator())["w"].tolist()
        [[1], [0]]
    """

    name: ClassVar[str] = "PSN"

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Rule.choose``."""
        return {target.name: top_columns(target.matrix, target.keep, magnitude=True) for target in targets}
