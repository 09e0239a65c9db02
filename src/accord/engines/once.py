"""The engine for weights that are known: every loss through its own head, then all together through the trunk, once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.blocks import Blocks
from accord.engines.engine import Engine
from accord.engines.head import Heads
from accord.rows import Reduce, fresh
from accord.sharing import Sharing, frontier


class Once(Engine):
    """No Gramian; each head's gradient by itself, and the weighted sum in the shared parameters. About a plain step.

    Args:
        sharing: which parameter is reached by which losses; not through a reentrant checkpoint.
        losses: K scalars.
        reduce: averages tensors over ranks.
    """

    def __init__(self, sharing: Sharing, losses: Sequence[Tensor], *, reduce: Reduce | None = None) -> None:
        self.sharing, self.losses, self.reduce = sharing, losses, reduce
        self.blocks = Blocks((), (-1,) * len(sharing.shared))
        self.gramians = torch.zeros(0, len(losses), len(losses), dtype=torch.float64, device=losses[0].device)
        cut = frontier(sharing)
        self.head = None if cut is None else Heads(sharing, losses, cut, retain_graph=False)
        if self.head is not None:
            self.heads = self.head.gradients
        else:  # what one loss alone reaches lies above all that is shared: these passes stay short
            self.heads = [
                list(torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True)) if own else []
                for loss, own in zip(losses, sharing.heads, strict=True)
            ]
        if reduce is not None:
            for found in self.heads:
                reduce([g for g in fresh(found) if g is not None])  # in place, hence on tensors of our own

    def inner(self, vectors: Sequence[Tensor | None]) -> None:
        """See ``Engine.inner``; unknown here."""

    def combine(self, weights: Sequence[float | None], keep: bool = False) -> list[Tensor | None]:
        """See ``Engine.combine``; there are no rows to keep."""
        if self.head is not None:
            combined = self.head.through_trunk(weights, retain_graph=False)
        else:
            combined = weighted(self.losses, weights, self.sharing.shared)
        if self.reduce is not None:
            self.reduce([g for g in combined if g is not None])
        return combined


def weighted(
    losses: Sequence[Tensor], weights: Sequence[float | None], shared: Sequence[Tensor], retain_graph: bool = False
) -> list[Tensor | None]:
    """One backward pass of ``Σ w_i L_i`` to the shared parameters, for graphs without a clean cut.

    Args:
        losses: K scalars.
        weights: None for a task that takes no part.
        shared: where to.
        retain_graph: keep the graph for a later pass.

    Returns:
        Fresh tensors; None where no participating task reaches a parameter.
    """
    with torch.enable_grad():
        parts = [w * loss for w, loss in zip(weights, losses, strict=True) if w is not None]
    if not parts:
        return [None] * len(shared)
    ones = [torch.ones_like(part) for part in parts]
    return fresh(list(torch.autograd.grad(parts, shared, ones, retain_graph=retain_graph, allow_unused=True)))
