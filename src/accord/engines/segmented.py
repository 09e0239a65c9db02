"""The engine that never holds K x P: the trunk is measured segment by segment, then run once with the weights.

The trunk is cut where a single tensor carries everything (the output of a residual block, the residual stream of a
transformer): the K cotangents at a cut start the next segment's passes, and the Gramians of the segments add up.
Where there is no such place (`truncated.py`), passes go from the last cut only as deep as a group of parameters.
Costs one trunk backward more than `stacked`; holds K gradients of one segment, or P, whichever is more.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from accord.blocks import Blocks, Granularity, partition
from accord.engines import truncated
from accord.engines.engine import Engine
from accord.engines.head import Cut, Heads
from accord.engines.once import weighted
from accord.engines.sketch import Sketch
from accord.errors import AccordError
from accord.rows import Reduce, Rows, fresh
from accord.sharing import Node, Sharing, frontier

SHARE = 8  # a segment above twice this share of P (and twice the largest tensor) is measured in groups


@dataclass
class Segment:
    """A stretch of the trunk: indices of its shared parameters, losses' side first, and the edge at its lower end."""

    parameters: list[int] = field(default_factory=list)
    end: GradientEdge | None = None


class Segmented(Engine):
    """Exact Gramians with the gradients of one segment at a time.

    Args:
        model: names the parameters.
        sharing: which parameter is reached by which losses.
        losses: K scalars.
        granularity: of the blocks.
        retain_graph: keep the graph for a later pass of the user's own.
        reduce: averages tensors over ranks.
        probe: keep a sketch of each gradient, for inner products with the update.

    Raises:
        AccordError: when the graph holds a reentrant checkpoint.
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
    ) -> None:
        if sharing.graph.reentrant:
            raise AccordError(
                "engine='segmented' cannot look inside a reentrant checkpoint; use engine='stacked', "
                "or checkpoint(..., use_reentrant=False)."
            )
        self.sharing, self.losses = sharing, losses
        self.retain_graph, self.reduce = retain_graph, reduce
        self.blocks = partition(model, sharing.shared, sharing.measured, granularity)
        self.sketch = (
            Sketch(self.blocks, [p.numel() for p in sharing.shared], len(losses), losses[0].device) if probe else None
        )
        cut = frontier(sharing)
        self.head = None if cut is None else Heads(sharing, losses, cut, retain_graph)
        k, device = len(losses), losses[0].device
        self.gramians = torch.zeros(len(self.blocks.names), k, k, dtype=torch.float64, device=device)  # (B, K, K)
        if self.head is None or cut is None:
            everything = Segment(list(reversed(range(len(sharing.shared)))))  # models are listed from the input up
            sources: list[truncated.Source] = [([loss], [None]) for loss in losses]
            self.heads = self._measure(everything, sources, [list(own) for own in sharing.heads])
        else:
            self.heads = self.head.gradients
            self._descend(merge(segments(sharing, cut), sharing), self.head)
        if reduce is not None:
            for own in self.heads:
                reduce([g for g in fresh(own) if g is not None])  # in place, hence on tensors of our own

    def _descend(self, stretches: Sequence[Segment], head: Heads) -> None:
        """Carry K cotangents from cut to cut, adding each segment's Gramian on the way."""
        sources: list[truncated.Source] = []
        for row in head.cotangents.rows:
            used = [(edge, c) for edge, c in zip(head.edges, row, strict=True) if c is not None]
            sources.append(([edge for edge, _ in used], [c for _, c in used]))
        for segment in stretches:
            below = [] if segment.end is None else [segment.end]
            arrived = self._measure(segment, sources, [below] * len(sources))
            # The cotangents above are given back here.
            sources = [(list(below), list(got)) if got and got[0] is not None else ([], []) for got in arrived]

    def _measure(
        self,
        segment: Segment,
        sources: Sequence[truncated.Source],
        extra: Sequence[Sequence[Tensor | GradientEdge]],
    ) -> list[list[Tensor | None]]:
        """Add the Gramian of one segment; returns what was asked for beside it."""
        wanted: list[list[Tensor | None]] = []
        groups = split(segment.parameters, self.sharing)
        tensors = [[self.sharing.shared[p] for p in group] for group in groups]
        passes = truncated.gradients(sources, tensors, extra)
        for group, (rows, extras) in zip(groups, passes, strict=True):
            if self.reduce is not None:
                for row in rows:
                    self.reduce([g for g in fresh(row) if g is not None])
            part = Blocks(self.blocks.names, tuple(self.blocks.index[p] for p in group))
            self.gramians += Rows(rows).gramians(part).to(self.gramians.device)
            if self.sketch is not None:
                for p, gradients in zip(group, zip(*rows, strict=True), strict=True):
                    self.sketch.add(p, gradients)
            wanted = wanted or extras
        return wanted

    def inner(self, vectors: Sequence[Tensor | None]) -> Tensor | None:
        """See ``Engine.inner``; estimated from sketches."""
        return None if self.sketch is None else self.sketch.inner(vectors)

    def combine(self, weights: Sequence[float | None], keep: bool = False) -> list[Tensor | None]:
        """See ``Engine.combine``; there are no rows to keep."""
        if self.head is not None:
            combined = self.head.through_trunk(weights, self.retain_graph)
        else:
            combined = weighted(self.losses, weights, self.sharing.shared, self.retain_graph)
        if self.reduce is not None:
            self.reduce([g for g in combined if g is not None])
        return combined


def segments(sharing: Sharing, cut: Cut) -> list[Segment]:
    """Follow the backward pass below the cut and note each place where only one edge is left open.

    Nodes are taken in the order in which autograd runs them (latest in the forward pass first), so that the
    transposition of a weight is taken with its layer and does not stay open.
    """
    edges, index = sharing.graph.edges, {p: i for i, p in enumerate(sharing.shared)}
    entries = {(edge.node, edge.output_nr) for group in cut for edge in group}
    waiting = _parents(sharing, {node for node, _ in entries})
    heap = [(-_sequence(node), n, node) for n, node in enumerate(waiting) if waiting[node] == 0]
    heapq.heapify(heap)
    counter, found, current = len(waiting), [], Segment()
    still_open = set(entries)
    while heap:
        _, _, node = heapq.heappop(heap)
        still_open = {edge for edge in still_open if edge[0] is not node}
        variable = getattr(node, "variable", None) if not edges[node] else None
        if variable in index and index[variable] not in current.parameters:
            current.parameters.append(index[variable])
        for child, slot in edges[node]:
            still_open.add((child, slot))
            waiting[child] -= 1
            if waiting[child] == 0:
                counter += 1
                heapq.heappush(heap, (-_sequence(child), counter, child))
        if len(still_open) == 1 and current.parameters:
            current.end = GradientEdge(*next(iter(still_open)))
            found.append(current)
            current = Segment()
    if current.parameters:
        found.append(current)
    if found:
        found[-1].end = None
    return found


def _parents(sharing: Sharing, entries: set[Node]) -> dict[Node, int]:
    """For each node below the cut how many edges of the trunk lead to it."""
    waiting = dict.fromkeys(entries, 0)
    for node in sharing.graph.order:
        if node in waiting:
            for child, _ in sharing.graph.edges[node]:
                waiting[child] = waiting.get(child, 0) + 1
    return waiting


def _sequence(node: Node) -> float:
    """When the forward pass made this node; leaves count as latest, as in autograd's own queue."""
    return float("inf") if getattr(node, "variable", None) is not None else node._sequence_nr()


def merge(found: list[Segment], sharing: Sharing) -> list[Segment]:
    """Join neighbours while they stay below the largest segment: fewer passes for the same peak."""
    sizes = [sum(sharing.shared[p].numel() for p in s.parameters) for s in found]
    largest = max(sizes, default=0)
    merged: list[Segment] = []
    total = 0
    for segment, size in zip(found, sizes, strict=True):
        if merged and total + size <= largest:
            merged[-1] = Segment(merged[-1].parameters + segment.parameters, segment.end)
            total += size
        else:
            merged.append(segment)
            total = size
    return merged


def split(parameters: Sequence[int], sharing: Sharing) -> list[list[int]]:
    """Groups of a segment's parameters: one, unless the segment holds a large share of the model."""
    sizes = [sharing.shared[p].numel() for p in parameters]
    whole = sum(p.numel() for p in sharing.shared)
    target = max(max(sizes, default=0), whole // SHARE)
    if sum(sizes) <= 2 * target:
        return [list(parameters)]
    groups: list[list[int]] = []
    total = target
    for p, size in zip(parameters, sizes, strict=True):
        if total + size > target:
            groups.append([])
            total = 0
        groups[-1].append(p)
        total += size
    return groups
