"""What every engine gives: Gramians first, then, once the weights are known, the combined gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from accord.blocks import Blocks
from accord.rows import Rows
from accord.sharing import Sharing


class Engine(ABC):
    """One backward pass under way: constructed from a step's losses, used once.

    Attributes:
        sharing: which parameter is reached by which losses.
        gramians: (B, K, K) float64 on the device.
        heads: for each loss the gradients of the parameters that it alone reaches, None where undefined.
        rows: the task gradients themselves, where the engine holds them.
        unit: what the losses were multiplied with (by a GradScaler), so that gradients are in units of it; a tensor on
            the device, as nobody needs to wait for it.
    """

    space: ClassVar[Literal["parameters", "features"]] = "parameters"
    sharing: Sharing
    blocks: Blocks
    gramians: Tensor
    heads: list[list[Tensor | None]]
    rows: Rows | None = None
    unit: Tensor | None = None

    @abstractmethod
    def inner(self, vectors: Sequence[Tensor | None]) -> Tensor | None:
        """Inner product of each task's gradient with one vector per shared parameter, on a probe step.

        Returns:
            (B, K) float64: exact where the rows are held, estimated where only sketches are; None where neither is.
        """

    @property
    def epsilon(self) -> float:
        """Relative accuracy of the Gramian's entries: products of float64 rows, or of float32 rows in short pieces."""
        return 1e-10 if all(p.dtype == torch.float64 for p in self.sharing.shared) else 1.2e-7

    def together(self, numbers: Tensor, cross: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Losses and Gramians in the step's one copy from the device.

        Args:
            numbers: (K,) float64, the values of the losses.
            cross: (K, K) float64, products of two batches, or None.

        Returns:
            (K,), (B, K, K) and (K, K) or None, float64 on the CPU, of the losses as the user knows them.
        """
        gramians = self.gramians if self.unit is None else self.gramians / self.unit.double() ** 2
        parts = [numbers, gramians, *([] if cross is None else [cross])]
        flat = torch.cat([part.reshape(-1).to(numbers.device) for part in parts]).cpu()
        numbers, products, rest = flat.split([len(numbers), gramians.numel(), 0 if cross is None else cross.numel()])
        return numbers, products.view(gramians.shape), None if cross is None else rest.view(cross.shape)

    @abstractmethod
    def combine(self, weights: Sequence[float | None], keep: bool = False) -> list[Tensor | None]:
        """``Σ w_i g_i`` for each shared parameter; ends the pass and frees what it held.

        Args:
            weights: K numbers; None for a task that takes no part, whose gradient may be NaN.
            keep: leave the rows in place, if there are any.

        Returns:
            Fresh tensors that nobody else holds; None where no participating task reaches a parameter.
        """
