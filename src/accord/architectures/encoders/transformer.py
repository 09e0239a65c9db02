"""Transformer: a self-attending encoder for texts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from accord.architectures.encoder import EncoderSpec, positive
from accord.architectures.form import Form, Kind
from accord.errors import AccordError


@dataclass(frozen=True, repr=False)
class Transformer(EncoderSpec):
    """Embedded tokens and their positions through layers of self-attention; the embedding and each layer are stages.

    ``x <- x + attention(norm(x))``, ``x <- x + W_2 gelu(W_1 norm(x))``; the last layer normalises what it gives.
    Padding is never attended to. Queries, keys and values have no biases: that of the keys would have no gradient.

    Source: Vaswani et al. 2017, https://arxiv.org/abs/1706.03762 (positions: section 3.5); normalisation before each
    part: Xiong et al. 2020, https://arxiv.org/abs/2002.04745.

    Args:
        width: D.
        layers: how many.
        attending: heads of attention, a divisor of the width.
        expansion: width between both linear maps, as a multiple of D.
        dropout: share of what each part would add that is left out while training.

    Example:
        >>> Transformer(width=32, layers=1).build(Form("tokens", 100, (12,))).output
        Form(kind='sequence', width=32, size=(12,))
    """

    width: int = 128
    layers: int = 2
    attending: int = 4
    expansion: int = 4
    dropout: float = 0.0

    name: ClassVar[str] = "transformer"
    accepts: ClassVar[tuple[Kind, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        positive(self)
        if self.width % 2 or self.width % self.attending:
            raise AccordError(
                f"transformer: width={self.width}, expected an even multiple of attending={self.attending}."
            )

    def stages(self, inputs: Form) -> list[tuple[nn.Module, Form]]:
        """The embedding, then one layer each."""
        form = Form("sequence", self.width, inputs.size)
        parts: list[tuple[nn.Module, Form]] = [(_Embedding(inputs.width, self.width, self.dropout), form)]
        for layer in range(self.layers):
            final = layer == self.layers - 1
            parts.append((_Layer(self.width, self.attending, self.width * self.expansion, self.dropout, final), form))
        return parts


def positions(length: int, width: int) -> Tensor:
    """(L, D) sines and cosines of wavelengths from 2 pi to 20000 pi, which tell positions apart.

    Example:
        >>> positions(2, 2)
        tensor([[0.0000, 1.0000],
                [0.8415, 0.5403]])
    """
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))  # (D/2,)
    angle = torch.arange(length)[:, None] * rate  # (L, D/2)
    return torch.stack((angle.sin(), angle.cos()), 2).flatten(1)  # (L, D)


class _Embedding(nn.Module):
    def __init__(self, vocabulary: int, width: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width, padding_idx=0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        embedded: Tensor = self.table(x)  # (N, L, D)
        out: Tensor = self.dropout(embedded + positions(x.shape[1], embedded.shape[2]).to(embedded))  # (N, L, D)
        return out


class _Layer(nn.Module):
    def __init__(self, width: int, attending: int, inner: int, dropout: float, final: bool) -> None:
        super().__init__()
        self.attending = attending
        self.dropout = nn.Dropout(dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if final else 2))
        self.mixed = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = x + self.dropout(self.out(self._attended(self.norms[0](x), valid)))  # (N, L, D)
        x = x + self.dropout(self.narrow(gelu(self.wide(self.norms[1](x)))))  # (N, L, D)
        return self.norms[2](x) if len(self.norms) > 2 else x

    def _attended(self, x: Tensor, valid: Tensor | None) -> Tensor:
        count, length, width = x.shape
        mixed = self.mixed(x).view(count, length, 3, self.attending, width // self.attending)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)  # (N, heads, L, D/heads) each
        seen = None if valid is None else valid[:, None, None, :]  # (N, 1, 1, L)
        mixed = scaled_dot_product_attention(query, key, value, attn_mask=seen)  # (N, heads, L, D/heads)
        return mixed.transpose(1, 2).reshape(count, length, width)  # (N, L, D)
