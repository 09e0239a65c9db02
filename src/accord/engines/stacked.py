"""The engine that keeps all K gradients: K sequential backward passes, any method.

Sequential vector-Jacobian products, not vmap: they work with every layer, under autocast, checkpointing and
compilation, and are the faster on all but small dense layers. Extra memory K·P, combined without a copy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from accord.blocks import Granularity, partition
from accord.engines import reentrant
from accord.engines.engine import Engine
from accord.rows import Reduce, Rows, fresh
from accord.sharing import Sharing


class Stacked(Engine):
    """Gradients of all tasks in all shared parameters, ``rows[i][p]``.

    Args:
        model: names the parameters.
        sharing: which parameter is reached by which losses.
        losses: K scalars.
        granularity: of the blocks.
        retain_graph: keep the graph for a later pass of the user's own.
        reduce: averages tensors over ranks.
        probe: somebody will ask for inner products with the update; the rows answer that.
    """

    def __init__(
        self,
        model: nn.Module,
        sharing: Sharing,
        losses: Sequence[Tensor],
        granularity: Granularity = "total",
        *,
        retain_graph: bool = False,
        reduce: Reduce | None = None,
        probe: bool = False,
    ) -> None:
        if sharing.graph.reentrant:
            self.sharing, rows, self.heads = reentrant.gradients(model, sharing, losses, retain_graph)
        else:
            self.sharing = sharing
            rows, self.heads = gradients(sharing, losses, retain_graph)
        if reduce is not None:
            for row in (*rows, *self.heads):
                reduce([g for g in fresh(row) if g is not None])  # in place, hence on tensors of our own
        self.rows = Rows(rows)
        self.blocks = partition(model, self.sharing.shared, self.sharing.measured, granularity)
        self.gramians = self.rows.gramians(self.blocks)  # (B, K, K)

    def inner(self, vectors: Sequence[Tensor | None]) -> Tensor:
        """See ``Engine.inner``; exact."""
        assert self.rows is not None
        return self.rows.inner(vectors, self.blocks)

    def combine(self, weights: Sequence[float | None], keep: bool = False) -> list[Tensor | None]:
        """See ``Engine.combine``."""
        assert self.rows is not None
        return self.rows.combine(weights, keep)


def gradients(
    sharing: Sharing, losses: Sequence[Tensor], retain_graph: bool
) -> tuple[list[list[Tensor | None]], list[list[Tensor | None]]]:
    """One backward pass per loss through all that it reaches; the graph is freed by the last.

    Returns:
        ``rows[i][p]`` in the shared parameters and ``heads[i]`` in each loss's own.
    """
    rows: list[list[Tensor | None]] = []
    heads: list[list[Tensor | None]] = []
    for i, loss in enumerate(losses):
        reached = [p for p, tasks in enumerate(sharing.reach) if i in tasks]
        inputs = [sharing.shared[p] for p in reached] + list(sharing.heads[i])
        last = i == len(losses) - 1
        found = torch.autograd.grad(loss, inputs, retain_graph=retain_graph or not last, allow_unused=True)
        row: list[Tensor | None] = [None] * len(sharing.shared)
        for p, gradient in zip(reached, found[: len(reached)], strict=True):
            row[p] = gradient
        rows.append(row)
        heads.append(list(found[len(reached) :]))
        del found
    return rows, heads
