"""GRU: a bidirectional recurrent encoder for texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form, Kind
from accord.errors import AccordError


@dataclass(frozen=True, repr=False)
class GRU(EncoderSpec):
    """Embedded tokens through bidirectional gated recurrent layers; the embedding and each layer are stages.

    ``y_i = [forward(x_1 ... x_i), backward(x_L ... x_i)]``, each with half of the width. The backward pass begins at
    the last valid token of each sequence, so neither padding nor the other sequences of a batch change anything.

    Source: Cho et al. 2014, https://arxiv.org/abs/1406.1078; Schuster & Paliwal 1997,
    https://doi.org/10.1109/78.650093.

    Args:
        width: D, of each layer; even.
        layers: how many.
        embedding: features of an embedded token.
        dropout: share of the features that each layer is not given while training.

    Example:
        >>> GRU(width=32).build(Form("tokens", 100, (12,))).output
        Form(kind='sequence', width=32, size=(12,))
    """

    width: int = 128
    layers: int = 1
    embedding: int = 64
    dropout: float = 0.0

    name: ClassVar[str] = "gru"
    accepts: ClassVar[tuple[Kind, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        positive(self)
        if self.width % 2:
            raise AccordError(f"gru: width={self.width}, expected an even number, half of it for each direction.")

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """The embedding, then one layer each."""
        parts: list[tuple[nn.Module, Form]] = [
            (_Embedding(inputs.width, self.embedding), Form("sequence", self.embedding, inputs.size))
        ]
        for layer in range(self.layers):
            before = self.width if layer else self.embedding
            parts.append((_Layer(before, self.width, self.dropout), Form("sequence", self.width, inputs.size)))
        return parts


class _Embedding(nn.Module):
    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width, padding_idx=0)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        out: Tensor = self.table(x)  # (N, L, D)
        return out


class _Layer(nn.Module):
    """Two plain recurrences; packing would need the lengths on the CPU, and is slower for several gradients at once."""

    def __init__(self, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.ahead = nn.GRU(before, after // 2, batch_first=True)
        self.back = nn.GRU(before, after // 2, batch_first=True)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = self.dropout(x)  # (N, L, D)
        valid = x.new_ones(x.shape[:2], dtype=torch.bool) if valid is None else valid  # (N, L)
        place = torch.arange(x.shape[1], device=x.device)  # (L,)
        mirror = torch.where(valid, valid.sum(1, keepdim=True) - 1 - place, place)  # (N, L) its own inverse
        ahead, back = self.ahead(x)[0], self.back(_reordered(x, mirror))[0]  # (N, L, D/2) each
        return torch.where(valid[..., None], torch.cat((ahead, _reordered(back, mirror)), 2), 0)  # (N, L, D)


def _reordered(x: Tensor, order: Tensor) -> Tensor:
    """The positions (N, L) of x (N, L, D), in this order."""
    return x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))  # (N, L, D)
