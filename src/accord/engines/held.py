"""Task gradients of several batches, added up before the method sees them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn

from accord.blocks import Granularity, partition
from accord.engines.confined import Part, confine, parts_of
from accord.engines.engine import Engine
from accord.engines.stacked import task_gradients
from accord.rows import Reduce, Rows
from accord.sharing import Graph, Sharing, discover, named, root, walk


class Held:
    """K·P numbers between calls: gradients by task and parameter, of all batches added so far.

    Args:
        model: names the parameters.
        shared: what enters the Gramian; see ``sharing.discover``.
        parts: for each task the places in which its gradient counts; None: everywhere.
    """

    def __init__(
        self,
        model: nn.Module,
        shared: Iterable[str | Tensor] | None = None,
        parts: Mapping[str, Part] | None = None,
    ) -> None:
        self.model, self.shared, self.parts = model, shared, parts
        self.gradients: dict[str, dict[Tensor, Tensor]] = {}
        self.losses: dict[str, Tensor] = {}  # scalars, float64

    def add(self, losses: Mapping[str, Tensor], numbers: Tensor) -> None:
        """One backward pass per loss; its graph is freed.

        Args:
            losses: scalar losses by task; the tasks may differ from batch to batch.
            numbers: (k,) their values, as they are to be recorded.
        """
        sharing = discover(self.model, losses, self.shared)
        sharing, rows, heads = task_gradients(self.model, sharing, list(losses.values()))
        if self.parts is not None:
            confine(sharing, rows, heads, parts_of(self.parts, losses))
        for name, number in zip(losses, numbers, strict=True):
            self.losses[name] = self.losses[name] + number if name in self.losses else number
        self.take(list(losses), sharing, rows, heads)

    def take(
        self,
        names: Sequence[str],
        sharing: Sharing,
        rows: Sequence[Sequence[Tensor | None]],
        heads: Sequence[Sequence[Tensor | None]],
        factor: float = 1.0,
    ) -> None:
        """Add gradients that were taken already.

        Args:
            names: k tasks.
            sharing: which parameter is reached by which of them.
            rows: ``rows[i][p]`` in the shared parameters.
            heads: for each task its own parameters' gradients.
            factor: what they are multiplied with.
        """
        for name, row, own, head in zip(names, rows, sharing.heads, heads, strict=True):
            kept = self.gradients.setdefault(name, {})
            for p, gradient in (*zip(sharing.shared, row, strict=True), *zip(own, head, strict=True)):
                if gradient is None:
                    continue
                if p in kept:
                    kept[p].add_(gradient, alpha=factor)
                else:  # a fresh tensor: what autograd returned may be expanded, or held by somebody else
                    kept[p] = (gradient.to_dense() if gradient.is_sparse else gradient) * factor


class Accumulated(Engine):
    """What was held, as an engine: rows, heads, Gramians.

    Args:
        held: of at least one batch; its tensors now belong to the engine.
        granularity: of the blocks.
        reduce: averages tensors over ranks.
    """

    def __init__(
        self, held: Held, granularity: Granularity | Mapping[Tensor, str] = "total", *, reduce: Reduce | None = None
    ) -> None:
        reach: dict[Tensor, list[int]] = {}
        for i, kept in enumerate(held.gradients.values()):
            for p in kept:
                reach.setdefault(p, []).append(i)
        chosen = None if held.shared is None else named(held.model, held.shared)
        shared = tuple(p for p, tasks in reach.items() if len(tasks) > 1 or (chosen is not None and p in chosen))
        common = set(shared)
        self.sharing = Sharing(
            graph=Graph((), {}, {}, reentrant=False),
            roots=(),
            shared=shared,
            reach=tuple(tuple(reach[p]) for p in shared),
            measured=tuple(isinstance(p, nn.Parameter) if chosen is None else p in chosen for p in shared),
            heads=tuple(tuple(p for p in kept if p not in common) for kept in held.gradients.values()),
            chosen=chosen,
        )
        self.rows: Rows = Rows([[kept.get(p) for p in shared] for kept in held.gradients.values()])
        self.heads = [
            [kept[p] for p in own] for kept, own in zip(held.gradients.values(), self.sharing.heads, strict=True)
        ]
        if reduce is not None:
            for row in (*self.rows.rows, *self.heads):
                reduce([g for g in row if g is not None])
        self.blocks = partition(held.model, shared, self.sharing.measured, granularity)
        self.gramians = self.rows.gramians(self.blocks)  # (B, K, K)
        held.gradients = {}

    def inner(self, vectors: Sequence[Tensor | None]) -> Tensor:
        """See ``Engine.inner``; exact."""
        return self.rows.inner(vectors, self.blocks)

    def combine(self, weights: Sequence[float | None], keep: bool = False) -> list[Tensor | None]:
        """See ``Engine.combine``."""
        return self.rows.combine(weights, keep)


def meet(batches: Sequence[Mapping[str, Tensor]]) -> bool:
    """Whether the graphs of several batches have more than their leaves in common, as parts of one forward pass do.

    Args:
        batches: losses by task.
    """
    graphs = [walk([root(name, loss) for name, loss in losses.items()]) for losses in batches]
    inside = [node for graph in graphs for node in graph.order if graph.edges[node]]
    return len(set(inside)) < len(inside)


def cross_products(first: Engine, second: Engine) -> Tensor:
    """``g_i · g_j'`` between the gradients of two batches in what the first measures.

    Args:
        first: an engine with rows.
        second: another, of the same tasks; its graph may list the parameters in another order.

    Returns:
        (K, K) float64.
    """
    assert first.rows is not None
    assert second.rows is not None
    place = {p: i for i, p in enumerate(second.sharing.shared)}
    measured = [
        (i, place.get(p))
        for i, (p, counts) in enumerate(zip(first.sharing.shared, first.sharing.measured, strict=True))
        if counts
    ]
    rows = Rows([[row[i] for i, _ in measured] for row in first.rows.rows])
    others = Rows([[None if j is None else row[j] for _, j in measured] for row in second.rows.rows])
    return rows.cross(others)
