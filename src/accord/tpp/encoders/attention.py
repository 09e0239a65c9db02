"""AttentionEncoder: the history as what the last event attends to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.tpp.batch import Batch
from accord.tpp.encoders.encoder import Encoder
from accord.tpp.encoders.mlp import mlp, summary
from accord.tpp.encoders.padding import Padding
from accord.tpp.encodings import EventEncoding, sinusoid
from accord.tpp.errors import TPPError, nearest

POSITIONS = ("index", "none")


@dataclass(frozen=True)
class AttentionState:
    """Sequences under way, all with as many events.

    Args:
        step: events so far, S.
        memory: for every layer the keys and values of these events, (N, S, 2 E).
    """

    step: int
    memory: tuple[Tensor, ...]


class AttentionEncoder(Encoder):
    r"""Causal self-attention over the events, its outcome at unit length, then a small network.

    Every layer is a post-norm transformer layer, ``x <- LN(x + MHA(x)); x <- LN(x + W_2 relu(W_1 x))``. Event i attends
    to events 1..i. The start of the window attends to itself alone and gives the history before the first event.

    Args:
        marks: M.
        encoding: of the events, a name of ``EventEncoding``.
        time_encoding: ``relative`` or ``absolute``.
        emb: size of the event encoding.
        layers: number of them.
        heads: of each layer; they divide E, the size of the encoding.
        ffn: hidden width of a layer's network.
        mid: hidden width of the last network.
        dim: D, the size of h.
        position: ``index`` adds ``sinusoid(i)`` to event i: relative times alone say nothing about order; or ``none``.
        floor: smallest gap in time features.
        nonneg: keep the vectors of the marks >= 0.

    Raises:
        TPPError: for unknown names and sizes that do not fit.

    Source: Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590; Vaswani et al. 2017,
    https://arxiv.org/abs/1706.03762. Positions are an addition of ours.

    Example:
        >>> from accord.tpp.batch import collate
        >>> from accord.tpp.events import Events
        >>> encoder = AttentionEncoder(2, mid=5, dim=3)
        >>> encoder(collate(Events.of([[1.0, 2.0], [0.5]], start=0.0))).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        marks: int,
        *,
        encoding: str = "temporal_with_labels",
        time_encoding: str = "relative",
        emb: int = 8,
        layers: int = 2,
        heads: int = 1,
        ffn: int = 64,
        mid: int,
        dim: int,
        position: str = "index",
        floor: float = 1e-6,
        nonneg: bool = False,
    ) -> None:
        super().__init__()
        self.size = dim
        self.embedding = EventEncoding(encoding, marks, emb, floor, nonneg, time_encoding)
        width = self.embedding.size
        if layers < 1 or heads < 1 or width % heads:
            raise TPPError(f"layers={layers}, heads={heads}; expected 1 or more, and heads that divide {width}.")
        if position not in POSITIONS:
            raise TPPError(f"unknown position {position!r}.{nearest(position, POSITIONS)}")
        if position == "index" and width < 4:
            raise TPPError(f"an encoding of size {width} has no room for positions; give position='none'.")
        self.position = position
        self.history = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, ffn, dropout=0.0, batch_first=True) for _ in range(layers)
        )
        self.mlp = mlp(width, mid, dim)

    def forward(self, batch: Batch) -> Tensor:
        """See ``Encoder``; whatever is done token by token is done on packed tokens."""
        x = self.embedding.tokens(batch)  # (T, E)
        if self.position == "index":
            steps = torch.arange(len(batch.sizes), device=x.device, dtype=x.dtype)
            x = x + sinusoid(steps, x.shape[1])[batch.step]
        padding = Padding.of(batch)
        for layer in self._layers():
            x = transformed(layer, x, padding.attend(projected(layer, x), layer.self_attn.num_heads))
        return summary(self.mlp, x)

    def start(self, count: int, like: Tensor) -> tuple[AttentionState, Tensor]:
        """See ``Encoder``."""
        zero = like.new_zeros(1)
        x = self.embedding(zero, None, zero)  # (1, E)
        if self.position == "index":
            x = x + sinusoid(zero, x.shape[1])
        nothing = like.new_zeros(count, 0, 2 * x.shape[1])
        for layer in self._layers():
            x = transformed(layer, x, projected(layer, x).chunk(3, 1)[2])  # what sees itself alone gets its own value
        return AttentionState(0, (nothing,) * len(self.history)), summary(self.mlp, x).expand(count, -1)

    def advance(self, state: AttentionState, gap: Tensor, mark: Tensor, age: Tensor) -> tuple[AttentionState, Tensor]:
        """See ``Encoder``."""
        step = state.step + 1
        x = self.embedding(gap, mark, age)  # (N, E)
        if self.position == "index":
            x = x + sinusoid(x.new_full((1,), step), x.shape[1])
        count, width = x.shape
        memory = []
        for layer, past in zip(self._layers(), state.memory, strict=True):
            heads = layer.self_attn.num_heads
            query, present = projected(layer, x).tensor_split([width], 1)  # (N, E) and (N, 2 E)
            memory.append(torch.cat([past, present.unsqueeze(1)], 1))
            key, value = memory[-1].view(count, step, 2, heads, width // heads).permute(2, 0, 3, 1, 4).unbind(0)
            query = query.view(count, heads, 1, width // heads)
            x = transformed(layer, x, F.scaled_dot_product_attention(query, key, value).reshape(count, width))
        return AttentionState(step, tuple(memory)), summary(self.mlp, x)

    def select(self, state: AttentionState, rows: Tensor) -> AttentionState:
        """See ``Encoder``."""
        return AttentionState(state.step, tuple(past[rows] for past in state.memory))

    def project_(self) -> None:
        """See ``Encoder``."""
        self.embedding.project_()

    def _layers(self) -> list[nn.TransformerEncoderLayer]:
        return cast(list[nn.TransformerEncoderLayer], list(self.history))


def projected(layer: nn.TransformerEncoderLayer, x: Tensor) -> Tensor:
    """(m, 3 E) queries, keys and values of x (m, E)."""
    attention = layer.self_attn
    return F.linear(x, cast(Tensor, attention.in_proj_weight), attention.in_proj_bias)


def transformed(layer: nn.TransformerEncoderLayer, x: Tensor, mixed: Tensor) -> Tensor:
    """(m, E) what a post-norm layer makes of x, given the values mixed by its attention, (m, E)."""
    x = layer.norm1(x + layer.self_attn.out_proj(mixed))
    return layer.norm2(x + layer.linear2(F.relu(layer.linear1(x))))
