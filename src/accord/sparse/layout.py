"""Layout: how a parameter is seen as a matrix with a row for each output unit, and places in it found again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.sparse.selection import Flat, Selection, narrow


@dataclass(frozen=True)
class Layout:
    """Most weights have their output units first; those of transposed convolutions have them second.

    Args:
        turned: whether the parameter is (in, out / groups, ...) instead of (out, ...).
        groups: of a transposed convolution.

    Example:
        >>> Layout(turned=True).matrix(torch.tensor([[1, 2, 3], [4, 5, 6]]))
        tensor([[1, 4],
                [2, 5],
                [3, 6]])
    """

    turned: bool = False
    groups: int = 1

    def matrix(self, dense: Tensor) -> Tensor:
        """(out, fan_in): a view, but for transposed convolutions and memory that is not contiguous."""
        if not self.turned:
            return dense.reshape(len(dense), -1) if dense.numel() else dense.new_empty(len(dense), 0)
        inside, outside = len(dense) // self.groups, dense.shape[1]
        parts = dense.reshape(self.groups, inside, outside, -1)  # (groups, in / groups, out / groups, window)
        return parts.permute(0, 2, 1, 3).reshape(self.groups * outside, -1)

    def place(self, chosen: Selection, shape: torch.Size, device: torch.device) -> Selection:
        """Places in the matrix as places in the parameter.

        Args:
            chosen: places in the matrix.
            shape: of the parameter.
            device: where they are worked out.
        """
        if not self.turned:
            return chosen
        numbers = self.matrix(torch.arange(shape.numel(), device=device).view(shape))  # (out, fan_in)
        places = numbers.reshape(-1)[chosen.places(numbers.shape)].sort().values
        return Flat(narrow(places, shape.numel()))
