"""Mixture: experts that all tasks share, weighted by a gate of each task, and a head for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from accord.architectures.encoder import Encoder
from accord.architectures.glance import mix


class Mixture(nn.Module):
    """``y_t = head_t(sum_e gate_t(s(x))_e f_e(x))``.

    Args:
        experts: E encoders of one form.
        glance: ``s``, from the raw input to (N, G).
        gates: by task, from (N, G) to weights (N, E).
        heads: by task, called with (features, valid).
    """

    def __init__(
        self,
        experts: Iterable[Encoder],
        glance: nn.Module,
        gates: Mapping[str, nn.Module],
        heads: Mapping[str, nn.Module],
    ) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.glance = glance
        self.gates = nn.ModuleDict(dict(gates))
        self.heads = nn.ModuleDict(dict(heads))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> dict[str, Tensor]:
        """Outputs by task."""
        seen = self.glance(x, valid)  # (N, G)
        outputs = torch.stack([expert(x, valid) for expert in self.experts], 1)  # (N, E, ...)
        return {task: head(mix(self.gates[task](seen), outputs), valid) for task, head in self.heads.items()}
