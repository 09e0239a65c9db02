"""The engine that keeps all K gradients: K sequential backward passes, any method.

Sequential vector-Jacobian products, not vmap: they work with every layer, under autocast, checkpointing and
compilation, and are the faster on all but small dense layers. Extra memory K·P, combined without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from accord.blocks import Blocks, Granularity, partition
from accord.engines import factored, reentrant
from accord.engines.confined import Part, confine
from accord.engines.engine import Engine
from accord.engines.factored import Factored
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
        whole: the rows themselves are needed; else weights whose gradients are cheaper as factors (``factored.py``)
            are missing in them.
        parts: for each loss the places in which its gradient counts; needs ``whole``.
    """

    def __init__(
        self,
        model: nn.Module,
        sharing: Sharing,
        losses: Sequence[Tensor],
        granularity: Granularity | Mapping[Tensor, str] = "total",
        *,
        retain_graph: bool = False,
        reduce: Reduce | None = None,
        probe: bool = False,
        whole: bool = False,
        parts: Sequence[Part] = (),
    ) -> None:
        # What is averaged over ranks is the gradient, not its factors.
        self.layers = [] if whole or reduce is not None or sharing.graph.reentrant else factored.layers(sharing)
        self.sharing, rows, self.heads = task_gradients(model, sharing, losses, retain_graph, self.layers)
        if parts:
            confine(self.sharing, rows, self.heads, parts)
        if reduce is not None:
            for row in (*rows, *self.heads):
                reduce([g for g in fresh(row) if g is not None])  # in place, hence on tensors of our own
        self.rows = Rows(rows)
        self.blocks = partition(model, self.sharing.shared, self.sharing.measured, granularity)
        self.gramians = self.rows.gramians(self.blocks)  # (B, K, K)
        for layer in self.layers:
            part = Blocks(self.blocks.names, (self.blocks.index[layer.index],))
            self.gramians += Rows([[row] for row in layer.rows()]).gramians(part)

    def inner(self, vectors: Sequence[Tensor | None]) -> Tensor:
        """See ``Engine.inner``; exact."""
        assert self.rows is not None
        total = self.rows.inner(vectors, self.blocks)  # (B, K)
        for layer in self.layers:
            vector, block = vectors[layer.index], self.blocks.index[layer.index]
            if vector is not None and block >= 0:
                tasks, found = layer.inner(vector)
                total[block, tasks] += found
        return total

    def combine(self, weights: Sequence[float | None], keep: bool = False) -> list[Tensor | None]:
        """See ``Engine.combine``."""
        assert self.rows is not None
        combined = self.rows.combine(weights, keep)
        for layer in self.layers:
            combined[layer.index] = layer.combine(weights)
        if not keep:
            self.layers = []
        return combined


def task_gradients(
    model: nn.Module,
    sharing: Sharing,
    losses: Sequence[Tensor],
    retain_graph: bool = False,
    layers: Sequence[Factored] = (),
) -> tuple[Sharing, list[list[Tensor | None]], list[list[Tensor | None]]]:
    """One backward pass per loss, whatever the graph holds.

    Args:
        model: names the parameters.
        sharing: which parameter is reached by which losses, as far as the graph tells.
        losses: K scalars.
        retain_graph: keep the graph for a later pass.
        layers: receive their cotangents in place of gradients.

    Returns:
        The sharing, ``rows[i][p]`` in the shared parameters and ``heads[i]`` in each loss's own.
    """
    if sharing.graph.reentrant:
        return reentrant.gradients(model, sharing, losses, retain_graph)
    return sharing, *gradients(sharing, losses, retain_graph, layers)


def gradients(
    sharing: Sharing, losses: Sequence[Tensor], retain_graph: bool, layers: Sequence[Factored] = ()
) -> tuple[list[list[Tensor | None]], list[list[Tensor | None]]]:
    """One backward pass per loss through all that it reaches; the graph is freed by the last.

    Returns:
        ``rows[i][p]`` in the shared parameters and ``heads[i]`` in each loss's own.
    """
    rows: list[list[Tensor | None]] = []
    heads: list[list[Tensor | None]] = []
    as_factors = {layer.index for layer in layers}
    for i, loss in enumerate(losses):
        reached = [p for p, tasks in enumerate(sharing.reach) if i in tasks and p not in as_factors]
        through = [layer for layer in layers if i in sharing.reach[layer.index]]
        # Autograd takes tensors and edges together, its annotation only one kind at a time.
        inputs: list[Any] = [sharing.shared[p] for p in reached] + list(sharing.heads[i])
        inputs += [layer.edge for layer in through]
        last = i == len(losses) - 1
        found = torch.autograd.grad(loss, inputs, retain_graph=retain_graph or not last, allow_unused=True)
        row: list[Tensor | None] = [None] * len(sharing.shared)
        for p, gradient in zip(reached, found[: len(reached)], strict=True):
            row[p] = gradient
        rows.append(row)
        heads.append(list(found[len(reached) : len(found) - len(through)]))
        arrived = dict(zip((layer.index for layer in through), found[len(found) - len(through) :], strict=True))
        for layer in layers:
            layer.receive(arrived.get(layer.index))
        del found, arrived
    return rows, heads
