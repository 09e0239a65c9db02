"""Heads: which modules serve a single task, read off the graphs of the tasks' outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.utils._pytree import tree_leaves

from accord.errors import AccordError
from accord.restructure.copies import Copies
from accord.sharing import inside, leaves, walk


def heads(model: nn.Module, layers: Sequence[str], outputs: Mapping[str, Any]) -> dict[str, str]:
    """The largest modules that can be called and whose parameters are reached by one task only, with that task.

    Args:
        model: with copies in place of some layers.
        layers: where they are.
        outputs: of each task, from its run.

    Returns:
        None are known where a task's output has no graph, or a reentrant checkpoint hides parameters.
    """
    reached = _reached(outputs)
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        if not name or inside(name, (*found, *layers)) or type(module).forward is nn.Module.forward:
            continue
        if any(inside(layer, [name]) for layer in layers):
            continue
        owners = {task for p in module.parameters() for task in reached.get(p, ())}
        if len(owners) == 1:
            found[name] = owners.pop()
    return found


def refuse_unused(copies: Mapping[str, Copies], outputs: Mapping[str, Any]) -> None:
    """Refuse copies that would never be trained.

    Raises:
        AccordError: naming the layer and the task.
    """
    reached = _reached(outputs)
    if not reached:
        return
    for name, each in copies.items():
        for task, copy in each.named_children():
            trained = [p for p in copy.parameters() if p.requires_grad]
            if trained and not any(task in reached.get(p, ()) for p in trained):
                others = [
                    other for other, peer in each.named_children() if any(p in reached for p in peer.parameters())
                ]
                raise AccordError(
                    f"layer {name!r} is not used by the task {task!r}"
                    + (f", only by {', '.join(others)}: it is a head." if others else ".")
                    + " Choose layers that several tasks share."
                )


def touched(outputs: Mapping[str, Any], wires: Sequence[Tensor]) -> bool:
    """Whether the graph of an output reaches one of these leaves."""
    reached = _reached(outputs)
    return any(wire in reached for wire in wires)


def _reached(outputs: Mapping[str, Any]) -> dict[Tensor, tuple[str, ...]]:
    """Every leaf with the tasks whose outputs reach it; none where that cannot be known."""
    roots, owners = [], []
    for task, output in outputs.items():
        grown = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if not grown:
            return {}
        roots += [get_gradient_edge(tensor) for tensor in grown]
        owners += [task] * len(grown)
    graph = walk(roots)
    if graph.reentrant:
        return {}
    return {
        p: tuple(dict.fromkeys(owner for bit, owner in enumerate(owners) if mask >> bit & 1))
        for p, mask in leaves(graph).items()
    }
