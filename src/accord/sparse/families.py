"""Which transformer or residual block a weight belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import nn


def families(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """The innermost element of a ``ModuleList`` or ``Sequential`` around a weight that holds two weights or more.

    Args:
        model: the model.
        names: of weights.

    Returns:
        By weight, the name of its block; weights in none are left out.

    Example:
        >>> block = lambda: nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
        >>> net = nn.ModuleDict({"first": nn.Linear(2, 2), "blocks": nn.ModuleList([block(), block()])})
        >>> families(net, ["first.weight", "blocks.0.a.weight", "blocks.1.b.weight", "blocks.1.a.weight"])
        {'blocks.1.b.weight': 'blocks.1', 'blocks.1.a.weight': 'blocks.1'}
    """
    lists = {name for name, module in model.named_modules() if isinstance(module, nn.ModuleList | nn.Sequential)}
    around = {name: [above for above in _above(name) if above.rpartition(".")[0] in lists] for name in names}
    held = Counter(above for inside in around.values() for above in inside)
    found = {name: next((above for above in inside if held[above] > 1), "") for name, inside in around.items()}
    return {name: block for name, block in found.items() if block}


def _above(name: str) -> list[str]:
    """The modules around a parameter, innermost first."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
