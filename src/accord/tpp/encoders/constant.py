"""ConstantEncoder: no history at all, the baseline that shows what history is worth."""

from __future__ import annotations

from torch import Tensor

from accord.tpp.batch import Batch
from accord.tpp.encoders.encoder import Encoder


class ConstantEncoder(Encoder):
    """``h = (1, ..., 1)`` whatever happened; events become independent of each other.

    Args:
        dim: D.

    Example:
        >>> import torch
        >>> ConstantEncoder(2).start(1, torch.zeros(()))[1].tolist()
        [[1.0, 1.0]]
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.size = dim

    def forward(self, batch: Batch) -> Tensor:
        """See ``Encoder``."""
        return batch.gap.new_ones(()).expand(len(batch.gap), self.size)

    def start(self, count: int, like: Tensor) -> tuple[None, Tensor]:
        """See ``Encoder``; there is no state."""
        return None, like.new_ones(()).expand(count, self.size)

    def advance(self, state: None, gap: Tensor, mark: Tensor, age: Tensor) -> tuple[None, Tensor]:
        """See ``Encoder``."""
        return self.start(len(gap), gap)

    def select(self, state: None, rows: Tensor) -> None:
        """See ``Encoder``."""
