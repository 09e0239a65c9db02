"""Glance: the summary of a raw input by which gates choose experts, and how experts are mixed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from accord.architectures.form import Form
from accord.architectures.heads import pooled

GRID, EMBEDDING = 4, 16


class Glance(nn.Module):
    """One vector (N, ``width``) for each raw input, cheap beside any encoder.

    A vector is its own summary. A map gives the means of its channels over a grid of 4 x 4 cells, a sequence the mean
    of its features over valid positions. Tokens give the mean over valid positions of an embedding of their own, 16
    wide; it is the only case with parameters, and all gates share them.

    Args:
        inputs: the form of the raw inputs.

    Example:
        >>> glance = Glance(Form("map", 3, (64, 64)))
        >>> glance.width, glance(torch.zeros(2, 3, 64, 64)).shape
        (48, torch.Size([2, 48]))
    """

    def __init__(self, inputs: Form) -> None:
        super().__init__()
        self.kind = inputs.kind
        self.width = {"map": inputs.width * GRID * GRID, "tokens": EMBEDDING}.get(inputs.kind, inputs.width)
        if inputs.kind == "tokens":
            self.embedding = nn.Embedding(inputs.width, EMBEDDING, padding_idx=0)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(N, ``width``)."""
        if self.kind == "map":
            return adaptive_avg_pool2d(x, GRID).flatten(1)  # (N, D * 16)
        return pooled(self.embedding(x) if self.kind == "tokens" else x, valid)  # (N, width)


def gate(width: int, experts: int) -> nn.Module:
    """A softmax gate: ``softmax(W s + b)``, from summaries (N, width) to weights (N, experts)."""
    return nn.Sequential(nn.Linear(width, experts), nn.Softmax(dim=1))


def mix(weights: Tensor, *outputs: Tensor) -> Tensor:
    """The weighted sum ``y_n = sum_e w_ne f_ne`` of experts, whatever their form.

    Args:
        weights: (N, E) for all experts.
        outputs: the experts' outputs, each (N, E_i, ...) for some of them, E in all.

    Returns:
        (N, ...).

    Example:
        >>> mix(torch.tensor([[0.25, 0.75]]), torch.tensor([[[4.0]]]), torch.tensor([[[8.0]]]))
        tensor([[7.]])
    """
    # groups are summed and not concatenated: what several tasks mix is then never copied
    shares = weights.split([group.shape[1] for group in outputs], dim=1)
    parts = [torch.einsum("ne,ne...->n...", share, group) for share, group in zip(shares, outputs, strict=True)]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]  # (N, ...)
