"""Smallest: the smallest magnitudes of each neuron."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.sparse.rule import Budgeted, Target
from accord.sparse.top import top_columns


@dataclass(frozen=True, repr=False)
class Smallest(Budgeted):
    """Of each row, the ``k_r`` inputs with the smallest magnitude: the reverse of ``PSN``.

    ``I_r = bottom k_r of |W[r, :]|``; of equal magnitudes, the lowest columns. Chosen anew every few steps, this is
    NanoAdam's selection.

    Source: Zhang et al. 2024, https://arxiv.org/abs/2411.18615, ablation ("reverse"); Zhao et al. 2025,
    https://arxiv.org/abs/2506.21374.

    Args:
        k: see ``Budgeted``.
        density: see ``Budgeted``.
        layers: see ``Budgeted``.

    Example:
        >>> weight = torch.tensor([[0.1, -3.0, 2.0], [0.5, 0.5, -0.7]])
        >>> Smallest(k=1).choose([Target("w", weight, keep=1)], torch.Generator())["w"].tolist()
        [[0], [0]]
    """

    name: ClassVar[str] = "Smallest"

    def choose(self, targets: Sequence[Target], generator: torch.Generator) -> dict[str, Tensor]:
        """See ``Rule.choose``."""
        return {t.name: top_columns(t.matrix, t.keep, magnitude=True, smallest=True) for t in targets}
