"""Sentences of words, in batches of similar length without much padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord.problems.problem import Batch

POOL = 64  # batches whose sentences are sorted by length together: little padding, still a random composition
JITTER = 0.05  # of log length in that order: without it sentences of one length would always meet the same others
EVALUATED = 128  # sentences at once
BUDGET = 6000  # at most so many positions of them, padding and all: arcs take memory by the square of the length


@dataclass(frozen=True)
class Sentences:
    """Sentences in memory, handed out in batches of similar length, each cut to its longest sentence.

    A batch has all the tensors, whole numbers as int64, and ``valid`` (N, L), which is False at padding.

    Args:
        tensors: ``length`` (N,), and others with the same first axis; those with a second one go by position.
        batch: sentences per step of training; the last batch may be smaller.

    Example:
        >>> words = torch.tensor([[4, 5, 6], [7, 0, 0], [8, 0, 0]])
        >>> part = Sentences({"word": words, "length": torch.tensor([3, 1, 1])}, batch=2)
        >>> sorted(tuple(batch["word"].shape) for batch in part.shuffled(torch.Generator().manual_seed(0)))
        [(1, 3), (2, 1)]
    """

    tensors: Mapping[str, Tensor]
    batch: int

    @property
    def count(self) -> int:
        """N."""
        return len(self.tensors["length"])

    def __len__(self) -> int:
        return -(-self.count // self.batch)

    def __iter__(self) -> Iterator[Batch]:
        order = self.tensors["length"].argsort(descending=True, stable=True)  # (N,)
        for group in order.split(EVALUATED):
            longest = int(self.tensors["length"][group[0]])
            for chosen in group.split(max(1, BUDGET // longest)):
                yield self._cut(chosen)

    def shuffled(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch, in an order and a composition that the generator alone decides."""
        order = torch.randperm(self.count, generator=generator)  # (N,)
        noise = torch.rand(self.count, generator=generator) * (2 * JITTER) - JITTER  # (N,)
        key = self.tensors["length"][order].log() + noise  # (N,)
        pools = zip(order.split(POOL * self.batch), key.split(POOL * self.batch), strict=True)
        groups = [group for pool, keys in pools for group in pool[keys.argsort(stable=True)].split(self.batch)]
        for place in torch.randperm(len(groups), generator=generator).tolist():
            yield self._cut(groups[place])

    def _cut(self, chosen: Tensor) -> Batch:
        length = self.tensors["length"][chosen].long()  # (N,)
        longest = int(length.max())
        batch: Batch = {
            name: (tensor[chosen, :longest] if tensor.ndim > 1 else tensor[chosen]).long()
            for name, tensor in self.tensors.items()
        }
        return {**batch, "valid": torch.arange(longest) < length[:, None]}  # (N, L)


def padded(values: NDArray[np.integer], lengths: NDArray[np.integer], filling: int = 0) -> Tensor:
    """(N, L) one row for each sentence.

    Args:
        values: (W,) one number for each word, sentence after sentence.
        lengths: (N,) words of each sentence.
        filling: what stands after its end.

    Example:
        >>> padded(np.array([4, 5, 6]), np.array([2, 1])).tolist()
        [[4, 5], [6, 0]]
    """
    rows = np.full((len(lengths), int(lengths.max())), filling, np.int32)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = values
    return torch.from_numpy(rows)  # (N, L)
