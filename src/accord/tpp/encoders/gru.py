"""GRUEncoder: the history as the state of a gated recurrent unit."""

from __future__ import annotations

from torch import Tensor, nn

from accord.tpp.batch import Batch
from accord.tpp.encoders.encoder import Encoder
from accord.tpp.encoders.mlp import mlp, summary
from accord.tpp.encoders.recurrence import gru, step
from accord.tpp.encodings import EventEncoding


class GRUEncoder(Encoder):
    r"""One layer of GRU over the events, its state at unit length, then a small network.

    .. math:: s_i = \mathrm{GRU}(x_i, s_{i-1}), \quad h_i = W_2 \, \mathrm{relu}(W_1 s_i / |s_i| + b_1) + b_2

    ``x_0`` is the start of the window and ``s_{-1} = 0``.

    Args:
        marks: M.
        encoding: of the events, a name of ``EventEncoding``.
        time_encoding: ``relative`` or ``absolute``.
        emb: size of the event encoding.
        rnn: size of the GRU's state.
        mid: hidden width of the network.
        dim: D, the size of h.
        floor: smallest gap in time features.
        nonneg: keep the vectors of the marks >= 0.

    Raises:
        TPPError: for unknown names and sizes that do not fit.

    Source: Bosser & Ben Taieb 2024, https://arxiv.org/abs/2412.08590; the GRU is PyTorch's, with both bias vectors.

    Example:
        >>> from accord.tpp.batch import collate
        >>> from accord.tpp.events import Events
        >>> encoder = GRUEncoder(2, rnn=6, mid=5, dim=3)
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
        rnn: int,
        mid: int,
        dim: int,
        floor: float = 1e-6,
        nonneg: bool = False,
    ) -> None:
        super().__init__()
        self.size = dim
        self.embedding = EventEncoding(encoding, marks, emb, floor, nonneg, time_encoding)
        self.history = nn.GRU(self.embedding.size, rnn)
        self.mlp = mlp(rnn, mid, dim)

    def forward(self, batch: Batch) -> Tensor:
        """See ``Encoder``."""
        return summary(self.mlp, gru(self.history, self.embedding.tokens(batch), batch.sizes))

    def start(self, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Encoder``."""
        zero = like.new_zeros(1)
        state = step(self.history, self.embedding(zero, None, zero), like.new_zeros(1, self.history.hidden_size))
        return state.expand(count, -1), summary(self.mlp, state).expand(count, -1)

    def advance(self, state: Tensor, gap: Tensor, mark: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Encoder``; the state is that of the GRU, (N, rnn)."""
        state = step(self.history, self.embedding(gap, mark, age), state)
        return state, summary(self.mlp, state)

    def select(self, state: Tensor, rows: Tensor) -> Tensor:
        """See ``Encoder``."""
        return state[rows]

    def project_(self) -> None:
        """See ``Encoder``."""
        self.embedding.project_()
