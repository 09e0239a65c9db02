"""The first half of a split backward pass: from each loss to the cut where it meets the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from accord.rows import Rows, fresh
from accord.sharing import Sharing

Cut = tuple[tuple[GradientEdge, ...], ...]


class Heads:
    """Gradients of each loss's own parameters, and its cotangents at the cut.

    Args:
        sharing: which parameter is reached by which losses.
        losses: K scalars.
        cut: for each loss the edges at which it meets the others.
        retain_graph: keep the heads' graphs for a later pass of the user's own.

    Attributes:
        gradients: for each loss its own parameters' gradients.
        edges: the E distinct edges of the cut.
        cotangents: K x E tensors; None where a task does not use an edge.
    """

    def __init__(self, sharing: Sharing, losses: Sequence[Tensor], cut: Cut, retain_graph: bool) -> None:
        self.sharing = sharing
        self.edges = list(dict.fromkeys(edge for edges in cut for edge in edges))
        position = {edge: e for e, edge in enumerate(self.edges)}
        self.gradients: list[list[Tensor | None]] = []
        table: list[list[Tensor | None]] = []
        for loss, own, edges in zip(losses, sharing.heads, cut, strict=True):
            # Only nodes of this loss alone are run, so its graph can go at once; the trunk's is not touched.
            inputs: list[Any] = [*own, *edges]  # autograd takes both, its annotation only one kind at a time
            found = torch.autograd.grad(loss, inputs, retain_graph=retain_graph, allow_unused=True) if inputs else ()
            self.gradients.append(list(found[: len(own)]))
            row: list[Tensor | None] = [None] * len(self.edges)
            for edge, cotangent in zip(edges, found[len(own) :], strict=True):
                row[position[edge]] = cotangent
            table.append(row)
        self.cotangents = Rows(table)

    def through_trunk(self, weights: Sequence[float | None], retain_graph: bool) -> list[Tensor | None]:
        """One backward pass of the trunk from the combined cotangents ``Σ w_i c_i``.

        Returns:
            The combined gradient of each shared parameter; None where no participating task reaches it.
        """
        combined = self.cotangents.combine(weights)
        # Half-precision cotangents were added up in float32; autograd brings them back to the edge's own dtype.
        pairs = [(edge, c) for edge, c in zip(self.edges, combined, strict=True) if c is not None]
        if not pairs:
            return [None] * len(self.sharing.shared)
        edges, cotangents = zip(*pairs, strict=True)
        found = torch.autograd.grad(
            edges, self.sharing.shared, cotangents, retain_graph=retain_graph, allow_unused=True
        )
        combined = list(found)
        del found
        return fresh(combined)
