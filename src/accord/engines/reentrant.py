"""Gradients through reentrant checkpoints, which forbid ``autograd.grad``: backward passes that read ``.grad``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from accord.sharing import Sharing, leaves, split

Table = list[list[Tensor | None]]


def gradients(
    model: nn.Module, sharing: Sharing, losses: Sequence[Tensor], retain_graph: bool
) -> tuple[Sharing, Table, Table]:
    """One ``backward`` per loss, with the user's ``.grad`` set aside and put back whatever happens.

    A reentrant checkpoint hides its parameters from the graph, so who reaches what is learnt from which
    parameters got a gradient.

    Returns:
        The completed sharing, ``rows[i][p]`` and ``heads[i]`` as ``stacked.gradients`` gives them.
    """
    trained = dict.fromkeys(p for p in model.parameters() if p.requires_grad) | dict.fromkeys(leaves(sharing.graph))
    before = {p: p.grad for p in trained}
    found: list[dict[Tensor, Tensor]] = []
    try:
        for i, loss in enumerate(losses):
            for p in trained:
                p.grad = None
            last = i == len(losses) - 1
            torch.autograd.backward([loss], retain_graph=retain_graph or not last)
            found.append({p: p.grad for p in trained if p.grad is not None})
    finally:
        for p, gradient in before.items():
            p.grad = gradient
    reached = {p: sum(1 << i for i, row in enumerate(found) if p in row) for p in trained}
    reached = {p: mask for p, mask in reached.items() if mask}
    whole = split(sharing.graph, sharing.roots, reached, sharing.chosen)
    rows: Table = [[row.get(p) for p in whole.shared] for row in found]
    heads: Table = [[row.get(p) for p in own] for row, own in zip(found, whole.heads, strict=True)]
    return whole, rows, heads
