"""Padding: packed tokens side by side, sequence by sequence, for attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from accord.tpp.batch import Batch


@dataclass(frozen=True)
class Padding:
    """Where the packed tokens of a batch lie among padded ones, for the one operation that needs a sequence in a row.

    Sequences of similar length are padded together: one less than 3/4 as long as the first of its group starts the
    next group, because attention costs the square of the padded length. Starts of windows are a group of their own, of
    length 1, so that nothing attends to them.

    Args:
        groups: sequences and padded length of each group.
        slots: (T,) where each token lies in the padded groups, one behind the other; A slots in all.
        sources: (A,) the token in each slot; any one, token 0, in slots that stay empty.

    Example:
        >>> from accord.tpp.batch import collate
        >>> from accord.tpp.events import Events
        >>> padding = Padding.of(collate(Events.of([[1.0] * 4, [1.0] * 3, [1.0]], start=0.0)))
        >>> padding.groups, padding.sources.tolist()
        (((3, 1), (2, 4), (1, 1)), [0, 1, 2, 3, 6, 8, 10, 4, 7, 9, 0, 5])
    """

    groups: tuple[tuple[int, int], ...]
    slots: Tensor
    sources: Tensor

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """From the sizes of the steps, which are known without asking the device."""
        count = len(batch)
        lengths = np.searchsorted(-np.asarray(batch.sizes[1:]), -np.arange(count))  # (N,) events, decreasing
        begin, end, offset = 0, int((lengths > 0).sum()), count
        groups, base = [(count, 1)], np.zeros(count, np.int64)  # base: one slot before each sequence
        while begin < end:
            longest = int(lengths[begin])
            size = int((4 * lengths[begin:end] >= 3 * longest).sum())
            base[begin : begin + size] = offset + longest * np.arange(size) - 1
            groups.append((size, longest))
            begin, offset = begin + size, offset + size * longest
        first = torch.from_numpy(base).to(batch.step.device, non_blocking=True)  # (N,)
        slots = torch.cat([batch.rank[:count], first[batch.rank[count:]] + batch.step[count:]])
        tokens = torch.arange(len(slots), device=slots.device)
        return cls(tuple(groups), slots, slots.new_zeros(offset).index_copy_(0, slots, tokens))

    def attend(self, packed: Tensor, heads: int) -> Tensor:
        """Causal attention within each sequence. Padding lies to the right, where no event looks.

        Args:
            packed: (T, 3 E) queries, keys and values.
            heads: that share E.

        Returns:
            (T, E).
        """
        areas = [size * longest for size, longest in self.groups]
        padded = _Padded.apply(packed, self.slots, self.sources)  # three times (A, E)
        seen = []
        for (size, longest), *rows in zip(self.groups, *(part.split(areas) for part in padded), strict=True):
            query, key, value = (part.view(size, longest, heads, -1).transpose(1, 2) for part in rows)
            mixed = F.scaled_dot_product_attention(
                query, key, value, is_causal=True
            )  # (size, heads, longest, E / heads)
            seen.append(mixed.transpose(1, 2).reshape(size * longest, -1))
        return _Packed.apply(torch.cat(seen), self.slots)


class _Padded(torch.autograd.Function):
    """Queries, keys and values in their slots; empty slots hold whatever token, and their gradients are 0."""

    @staticmethod
    def forward(ctx: Any, packed: Tensor, slots: Tensor, sources: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(slots)
        return tuple(part.index_select(0, sources) for part in packed.chunk(3, 1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slots,) = ctx.saved_tensors
        return torch.cat([part.index_select(0, slots) for part in gradients], 1), None, None


class _Packed(torch.autograd.Function):
    """Out of the slots again. No two tokens share a slot, so that gradients are copied where autograd would add."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, slots: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        ctx.area = len(padded)
        return padded.index_select(0, slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slots,) = ctx.saved_tensors
        packed = gradients[0]
        return packed.new_zeros(ctx.area, packed.shape[1]).index_copy(0, slots, packed), None
