"""HawkesState: the decayed counts of past events, all that a Hawkes process needs to know of its history."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from accord.tpp.batch import Batch
from accord.tpp.decoders.hawkes import Hawkes
from accord.tpp.encoders.encoder import Encoder


class HawkesState(Encoder):
    r"""History h of a ``Hawkes`` decoder; it has no parameters but the decoder's beta.

    .. math:: R_{ij} \leftarrow R_{ij} e^{-\beta_{ij} \tau} + [k = j], \quad R = 0 \text{ where the window starts}

    Args:
        decoder: whose decays are used. It stays the decoder's own: it is not registered here, so that parameters are
            counted, saved and updated once.

    Source: Ozaki 1979, https://doi.org/10.1007/BF02480272, the recursion.

    Example:
        >>> from accord.tpp.batch import collate
        >>> from accord.tpp.events import Events
        >>> encoder = HawkesState(Hawkes(2, decay="global"))
        >>> batch = collate(Events.of([[1.0, 2.0]], [[0, 1]], start=0.0))
        >>> [round(count, 3) for count in encoder(batch)[-1].tolist()]
        [0.368, 1.0]
        >>> list(encoder.parameters())
        []
    """

    def __init__(self, decoder: Hawkes) -> None:
        super().__init__()
        self._decoder = (decoder,)  # a module in a tuple is not registered
        self.size = decoder.size

    @property
    def decoder(self) -> Hawkes:
        """Whose decays are used."""
        return self._decoder[0]

    def forward(self, batch: Batch) -> Tensor:
        """See ``Encoder``."""
        return _Counts.apply(self.decoder.beta, batch.gap, batch.mark, batch.sizes, self.decoder.marks)

    def start(self, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Encoder``; state and history are the same."""
        h = like.new_zeros(count, self.size)
        return h, h

    def advance(self, state: Tensor, gap: Tensor, mark: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Encoder``."""
        left = state.view(len(gap), self.decoder.targets, -1) * (-self.decoder.beta * gap[:, None, None]).exp()
        arrived = F.one_hot(mark, self.decoder.marks).unsqueeze(1)  # (N, 1, M)
        h = (left + arrived).flatten(1)
        return h, h

    def select(self, state: Tensor, rows: Tensor) -> Tensor:
        """See ``Encoder``."""
        return state[rows]


class _Counts(torch.autograd.Function):
    """The recursion over all steps, one fused operation for each step of either pass.

    With A the gradient of a count through everything later, ``A_i = G_i + decay_{i+1} A_{i+1}``, the gradient of beta
    is ``-sum_i tau_i A_i (R_i - [k_i = j])``: what is left of the counts before the event, times its gap.
    """

    @staticmethod
    def forward(ctx: Any, beta: Tensor, gap: Tensor, mark: Tensor, sizes: tuple[int, ...], marks: int) -> Tensor:
        count, targets = sizes[0], len(beta)
        decay = (-beta * gap[:, None, None]).exp()  # (T, M, M) or (T, 1, 1)
        counts = gap.new_zeros(len(gap), targets, marks)  # (T, M, M) or (T, 1, M)
        arrived = mark[count:, None, None].expand(-1, targets, 1)
        counts[count:].scatter_(2, arrived, 1.0)
        before = counts[:count]
        least = torch.finfo(gap.dtype).tiny ** 0.5
        for now, left in zip(counts.split(sizes)[1:], decay.split(sizes)[1:], strict=True):
            before = now.addcmul_(before[: len(now)], left)
            torch.threshold_(before, least, 0.0)  # before they become denormal numbers, which take 100 times as long
        ctx.save_for_backward(gap, arrived, decay, counts)
        ctx.sizes, ctx.shape = sizes, beta.shape
        return counts.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gap, arrived, decay, counts = ctx.saved_tensors
        adjoint = gradients[0].reshape(counts.shape).clone()  # (T, M, M) or (T, 1, M)
        steps, lefts = adjoint.split(ctx.sizes), decay.split(ctx.sizes)
        for i in range(len(steps) - 1, 1, -1):
            steps[i - 1][: len(steps[i])].addcmul_(steps[i], lefts[i])
        left = counts.clone()
        left[ctx.sizes[0] :].scatter_add_(2, arrived, -torch.ones_like(arrived, dtype=left.dtype))
        gradient = -adjoint.mul_(left.mul_(gap[:, None, None])).sum(0)  # (M, M) or (1, M)
        return gradient.sum_to_size(ctx.shape), None, None, None, None
