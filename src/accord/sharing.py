"""Which parameter is reached by which losses, read off the autograd graph of this very step.

Nothing is assumed about modules: a parameter belongs to the tasks whose losses reach it. Tied weights are one
leaf with the union of their tasks; frozen and unused parameters are never reached. The graph is walked anew in
every step (it is cheap beside one backward pass), so absent tasks, stochastic depth and switched branches are right
by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from accord.errors import AccordError, nearest

Node = Any  # torch.autograd.graph.Node; its concrete classes are made in C++


@dataclass(frozen=True)
class Graph:
    """The part of the autograd graph that some loss reaches, parents before children.

    Args:
        order: nodes in topological order, losses first.
        edges: for each node its ``(child, slot)`` pairs.
        tasks: for each node a bit mask of the losses that reach it.
        reentrant: a reentrant checkpoint hides parameters from this walk.
    """

    order: tuple[Node, ...]
    edges: Mapping[Node, tuple[tuple[Node, int], ...]]
    tasks: Mapping[Node, int]
    reentrant: bool


@dataclass(frozen=True)
class Sharing:
    """The parameters of a step, split by which of the K losses reach them.

    Args:
        graph: the graph that this was read off.
        roots: the gradient edge of each loss.
        shared: parameters reached by several losses (or named by ``shared=``), roughly from the input up.
        reach: for each shared parameter the indices of the losses that reach it.
        measured: for each shared parameter whether it enters the Gramian; all do unless ``shared=`` restricts them.
        heads: for each loss the parameters that it alone reaches.
        chosen: what ``shared=`` named, or None.
    """

    graph: Graph
    roots: tuple[GradientEdge, ...]
    shared: tuple[Tensor, ...]
    reach: tuple[tuple[int, ...], ...]
    measured: tuple[bool, ...]
    heads: tuple[tuple[Tensor, ...], ...]
    chosen: frozenset[Tensor] | None = None

    @property
    def size(self) -> int:
        """P, the number of measured shared scalars."""
        return sum(p.numel() for p, measured in zip(self.shared, self.measured, strict=True) if measured)


def walk(roots: Sequence[GradientEdge], stop: Iterable[Node] = ()) -> Graph:
    """Order the graph below the roots and mark each node with the roots that reach it.

    One depth-first pass over the union of all graphs, so that the trunk is visited once and not K times.

    Args:
        roots: one gradient edge per loss.
        stop: nodes that are recorded but not entered (the features, when the user names them).
    """
    stop = frozenset(stop)
    edges: dict[Node, tuple[tuple[Node, int], ...]] = {}
    finished: list[Node] = []
    reentrant = False
    for root in roots:
        if root.node in edges:
            continue
        stack: list[tuple[Node, int]] = [(root.node, 0)]
        edges[root.node] = _children(root.node, stop)
        while stack:  # iterative: recurrent graphs are deeper than Python's recursion limit
            node, first = stack.pop()
            for position, (child, _) in enumerate(edges[node][first:], start=first + 1):
                if child not in edges:
                    edges[child] = _children(child, stop)
                    stack += [(node, position), (child, 0)]
                    break
            else:
                finished.append(node)
                reentrant = reentrant or type(node).__name__ == "CheckpointFunctionBackward"
    order = tuple(reversed(finished))
    tasks = dict.fromkeys(order, 0)
    for bit, root in enumerate(roots):
        tasks[root.node] |= 1 << bit
    for node in order:
        mask = tasks[node]
        for child, _ in edges[node]:
            tasks[child] |= mask
    return Graph(order, edges, tasks, reentrant)


def _children(node: Node, stop: frozenset[Node]) -> tuple[tuple[Node, int], ...]:
    if node in stop:
        return ()
    return tuple((child, slot) for child, slot in node.next_functions if child is not None)


def root(name: str, loss: Tensor) -> GradientEdge:
    """The gradient edge of a loss.

    Raises:
        AccordError: when the loss reaches no parameter.
    """
    if not loss.requires_grad:
        raise AccordError(
            f"loss {name!r} reaches no parameter: it does not require a gradient. "
            "Was it detached, computed under no_grad, or are all its parameters frozen? Leave it out or mend it."
        )
    return get_gradient_edge(loss)


def leaves(graph: Graph) -> dict[Tensor, int]:
    """Every leaf tensor in the graph with the mask of the losses that reach it.

    A leaf that was frozen after the forward pass is none: autograd gives it no gradient any more, either.
    """
    found: dict[Tensor, int] = {}
    for node in graph.order:
        if not graph.edges[node]:
            variable = getattr(node, "variable", None)  # only AccumulateGrad has one
            if variable is not None and variable.requires_grad:
                found[variable] = graph.tasks[node]
    return found


def discover(model: nn.Module, losses: Mapping[str, Tensor], shared: Iterable[str | Tensor] | None = None) -> Sharing:
    """Split the parameters that the losses reach into shared ones and each task's own.

    Args:
        model: knows the names in ``shared``.
        losses: K scalar losses by task.
        shared: parameters (tensors, names, or prefixes of names) that enter the Gramian; by default all that
            several losses reach. Others that several losses reach still get the combined gradient.

    Raises:
        AccordError: when a loss reaches no parameter, or ``shared`` names no parameter of the model.

    Example:
        >>> import torch
        >>> from accord.sharing import discover
        >>> model = torch.nn.ModuleDict({"trunk": torch.nn.Linear(3, 3), "head": torch.nn.Linear(3, 1)})
        >>> z = model["trunk"](torch.ones(1, 3))
        >>> sharing = discover(model, {"a": model["head"](z).sum(), "b": z.sum()})
        >>> sorted(tuple(p.shape) for p in sharing.shared), sorted(tuple(p.shape) for p in sharing.heads[0])
        ([(3,), (3, 3)], [(1,), (1, 3)])
    """
    roots = tuple(root(name, loss) for name, loss in losses.items())
    graph = walk(roots)
    reached = leaves(graph)
    if not graph.reentrant:  # such a checkpoint hides its parameters: then a single loss may reach unseen ones
        for bit, name in enumerate(losses):
            if not any(mask >> bit & 1 for mask in reached.values()):
                raise AccordError(
                    f"loss {name!r} reaches no parameter that requires a gradient. Leave it out of the losses."
                )
    return split(graph, roots, reached, None if shared is None else named(model, shared))


def split(
    graph: Graph, roots: tuple[GradientEdge, ...], reached: Mapping[Tensor, int], chosen: frozenset[Tensor] | None
) -> Sharing:
    """Sort reached leaves into shared parameters and heads; see ``discover``."""
    common, reach, measured = [], [], []
    heads: list[list[Tensor]] = [[] for _ in roots]
    members: dict[int, tuple[int, ...]] = {}  # few masks, many parameters
    for p, mask in reversed(list(reached.items())):
        if mask not in members:
            members[mask] = tuple(bit for bit in range(len(roots)) if mask >> bit & 1)
        tasks = members[mask]
        if len(tasks) > 1 or (chosen is not None and p in chosen):
            common.append(p)
            reach.append(tasks)
            # Inputs may require a gradient (physics-informed nets, reentrant checkpoints) and are no parameters.
            measured.append(isinstance(p, nn.Parameter) if chosen is None else p in chosen)
        else:
            heads[tasks[0]].append(p)
    return Sharing(graph, roots, tuple(common), tuple(reach), tuple(measured), tuple(map(tuple, heads)), chosen)


def named(model: nn.Module, shared: Iterable[str | Tensor]) -> frozenset[Tensor]:
    """The parameters that ``shared=`` names: tensors, full names, or prefixes that end at a dot.

    Raises:
        AccordError: when a name matches no parameter.
    """
    if isinstance(shared, str | Tensor):
        shared = [shared]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    chosen: set[Tensor] = set()
    for item in shared:
        if isinstance(item, Tensor):
            chosen.add(item)
            continue
        found = [p for name, p in parameters.items() if inside(name, [item.rstrip(".")])]
        if not found:
            prefixes = {name.rpartition(".")[0] or name for name in parameters}
            hint = nearest(item, prefixes)
            if not hint.startswith(" Did"):  # a large model has too many names to list
                hint = f" Its modules: {', '.join(sorted({name.split('.')[0] for name in parameters})) or 'none'}."
            raise AccordError(f"shared={item!r} matches no parameter of the model.{hint}")
        chosen.update(found)
    return frozenset(chosen)


def inside(name: str, modules: Iterable[str]) -> bool:
    """Whether a name is one of these names, or that of something in a module of such a name.

    Example:
        >>> inside("body.fc.weight", ["body.fc"]), inside("body.fc2.weight", ["body.fc"])
        (True, False)
    """
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def frontier(sharing: Sharing) -> tuple[tuple[GradientEdge, ...], ...] | None:
    """For each loss the edges over which it enters what it shares with others, if they form a clean cut.

    A cut is clean when no edge of it can be reached from another: only then is the gradient at an edge exactly what
    the task's own part of the graph sends there, and the trunk below may be run from the cut alone.

    Returns:
        The edges of each loss, or None where there is no clean cut (for example heads on several levels of a U-Net).
    """
    graph = sharing.graph
    cut: list[dict[tuple[Node, int], None]] = [{} for _ in sharing.roots]  # a dict keeps order and drops duplicates
    for bit, edge in enumerate(sharing.roots):
        if _several(graph.tasks[edge.node]):  # one task's loss feeds another's
            cut[bit][edge.node, edge.output_nr] = None
    for node in graph.order:
        mask = graph.tasks[node]
        if _several(mask):
            continue
        bit = mask.bit_length() - 1
        for child, slot in graph.edges[node]:
            if _several(graph.tasks[child]):
                cut[bit][child, slot] = None
    targets = {node for edges in cut for node, _ in edges}
    below: set[Node] = set()  # strict descendants of the cut
    for node in graph.order:
        if node in targets or node in below:
            below.update(child for child, _ in graph.edges[node])
    if targets & below:
        return None
    return tuple(tuple(GradientEdge(node, slot) for node, slot in edges) for edges in cut)


def cut_at(sharing: Sharing, features: Sequence[Tensor]) -> tuple[tuple[GradientEdge, ...], ...]:
    """Like ``frontier``, with the shared representation named by the user.

    Raises:
        AccordError: when the features need no gradient, depend on each other, or do not separate the losses from
            what they share.
    """
    if not features or not all(isinstance(z, Tensor) and z.requires_grad and not z.is_leaf for z in features):
        raise AccordError("features= must be results of this step's forward pass that require a gradient.")
    edges = tuple(get_gradient_edge(z) for z in features)
    nodes = {edge.node for edge in edges}
    above, below = walk(sharing.roots, stop=nodes), walk(edges)
    trunk = leaves(below)
    around = [p for p, mask in leaves(above).items() if _several(mask) or p in trunk]
    if around:
        raise AccordError(
            f"features= do not separate the losses from what they share: {len(around)} parameter(s), the first of "
            f"shape {tuple(around[0].shape)}, are reached around them. Name every tensor that the heads take."
        )
    if any(child in nodes for node in below.order for child, _ in below.edges[node]):
        raise AccordError("features= must not depend on each other; name only the last of them.")
    return tuple(
        tuple(edge for edge in edges if above.tasks.get(edge.node, 0) >> bit & 1) for bit in range(len(sharing.roots))
    )


def _several(mask: int) -> bool:
    return mask & (mask - 1) != 0
