"""Selection: places in one parameter, in the form in which they are stored and used."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

SMALLEST = torch.iinfo(torch.int16).max + 1  # up to this many columns, 16 bits hold a place


def narrow(index: Tensor, size: int) -> Tensor:
    """The index in the smallest type that holds every place below ``size``: 16, 32 or 64 bits.

    Args:
        index: whole numbers from 0 to ``size - 1``.
        size: how many places there are.
    """
    if size <= SMALLEST:
        return index.to(torch.int16)
    return index.to(torch.int32 if size <= torch.iinfo(torch.int32).max else torch.int64)


@dataclass(frozen=True, eq=False)
class Selection(ABC):
    """Which scalars of one parameter are trained.

    Args:
        index: the places, in the form of the subclass; see ``narrow`` for its type.
    """

    index: Tensor

    @abstractmethod
    def places(self, shape: torch.Size) -> Tensor:
        """(s,) int64: the places in the flattened parameter, in the order in which ``gather`` gives their values."""

    @abstractmethod
    def gather(self, dense: Tensor) -> Tensor:
        """The selected scalars, compact: a fresh tensor of their own."""

    @abstractmethod
    def scatter_(self, dense: Tensor, compact: Tensor) -> Tensor:
        """Write compact scalars back into the dense tensor, in place; returns it."""

    def clear(self, dense: Tensor) -> Tensor:
        """A copy with zeros at the selected places, whatever stood there."""
        rest = dense.clone(memory_format=torch.contiguous_format)
        rest.view(-1)[self.places(dense.shape)] = 0
        return rest

    def to(self, device: torch.device | str) -> Self:
        """The same places on another device."""
        return type(self)(self.index.to(device))


@dataclass(frozen=True, eq=False)
class Rows(Selection):
    """Equally many columns of every row: ``index (out, k)``, ascending in each row. A row is an output unit.

    Example:
        >>> weight = torch.tensor([[1.0, -3.0, 2.0], [0.5, 0.1, -0.2]])
        >>> Rows(torch.tensor([[1, 2], [0, 2]])).gather(weight)
        tensor([[-3.0000,  2.0000],
                [ 0.5000, -0.2000]])
    """

    def places(self, shape: torch.Size) -> Tensor:
        """See ``Selection.places``."""
        fan_in = shape.numel() // shape[0]
        first = torch.arange(shape[0], device=self.index.device)[:, None] * fan_in  # (out, 1)
        return (first + self.index.long()).reshape(-1)

    def gather(self, dense: Tensor) -> Tensor:
        """(out, k)."""
        return dense.reshape(len(dense), -1).gather(1, self.index.long())

    def scatter_(self, dense: Tensor, compact: Tensor) -> Tensor:
        """See ``Selection.scatter_``."""
        return _in_place(dense, lambda flat: flat.view(len(dense), -1).scatter_(1, self.index.long(), compact))


@dataclass(frozen=True, eq=False)
class Flat(Selection):
    """Any places of the flattened parameter: ``index (s,)``, ascending. For rules that give rows unequal counts.

    Example:
        >>> Flat(torch.tensor([0, 3])).gather(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([1., 4.])
    """

    def places(self, shape: torch.Size) -> Tensor:
        """See ``Selection.places``."""
        return self.index.long()

    def gather(self, dense: Tensor) -> Tensor:
        """(s,)."""
        return dense.reshape(-1).gather(0, self.index.long())

    def scatter_(self, dense: Tensor, compact: Tensor) -> Tensor:
        """See ``Selection.scatter_``."""
        return _in_place(dense, lambda flat: flat.view(-1).scatter_(0, self.index.long(), compact))


@dataclass(frozen=True, eq=False)
class Columns(Selection):
    """The same columns for all rows of a group of neighbours: ``index (groups, k)``, ascending in each group.

    Rows of one group share their inputs, so that the gradient of the selected weights is a smaller dense product.

    Args:
        index: the columns of each group.
        group: rows per group; the last group may be smaller.

    Example:
        >>> Columns(torch.tensor([[0, 2]]), group=2).gather(torch.arange(6.0).view(2, 3))
        tensor([[0., 2.],
                [3., 5.]])
    """

    group: int = 1

    @cached_property
    def run(self) -> int:
        """The largest n such that the columns come in runs of n neighbours, each beginning at a multiple of n."""
        index = self.index.long().cpu()  # (groups, k)
        first = torch.ones_like(index, dtype=torch.bool)
        first[:, 1:] = index.diff(dim=1) != 1
        return math.gcd(*index[first].tolist(), *(index[first.roll(-1, 1)] + 1).tolist())

    def _rows(self, out: int) -> Rows:
        return Rows(self.index.repeat_interleave(self.group, 0)[:out])

    def places(self, shape: torch.Size) -> Tensor:
        """See ``Selection.places``."""
        return self._rows(shape[0]).places(shape)

    def gather(self, dense: Tensor) -> Tensor:
        """(out, k)."""
        return self._rows(len(dense)).gather(dense)

    def scatter_(self, dense: Tensor, compact: Tensor) -> Tensor:
        """See ``Selection.scatter_``."""
        return self._rows(len(dense)).scatter_(dense, compact)

    def to(self, device: torch.device | str) -> Self:
        """The same places on another device."""
        return type(self)(self.index.to(device), self.group)


def _in_place(dense: Tensor, write) -> Tensor:  # type: ignore[no-untyped-def]
    """Write through a contiguous view; what is stored otherwise (channels last) takes a copy."""
    if dense.is_contiguous():
        write(dense)
        return dense
    copy = dense.contiguous()
    write(copy)
    return dense.copy_(copy)
