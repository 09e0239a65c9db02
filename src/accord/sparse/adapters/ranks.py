"""Ranks: which layers can carry a low-rank adapter, what a rank costs there, and which ranks spend a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Cost:
    """What low-rank adapters take in one layer.

    Args:
        each: scalars for each rank: ``fan_in + out`` for a matrix.
        largest: the rank of the weight itself; more of it changes nothing.
    """

    each: int
    largest: int


def cost(layer: nn.Module) -> Cost | None:
    """What a rank costs in a layer, or None where ``peft`` cannot adapt it rightly.

    Transposed convolutions are unknown to it. It forgets groups, dilation and a padding other than zeros.

    Example:
        >>> cost(nn.Linear(6, 4)), cost(nn.Conv2d(2, 8, 3)), cost(nn.Conv2d(8, 8, 3, groups=8))
        (Cost(each=10, largest=4), Cost(each=26, largest=8), None)
    """
    if isinstance(layer, nn.MultiheadAttention):  # the packed product of the inputs, and that of the output
        width = layer.embed_dim
        same = layer._qkv_same_embed_dim
        return Cost((width + 3 * width) + (width + width), width) if same else None
    if isinstance(layer, nn.Linear):
        return Cost(layer.in_features + layer.out_features, min(layer.in_features, layer.out_features))
    if isinstance(layer, CONVOLUTIONS):
        plain = layer.groups == 1 and set(layer.dilation) == {1} and layer.padding_mode == "zeros"
        out, fan_in = len(layer.weight), layer.weight[0].numel()
        return Cost(out + fan_in, min(out, fan_in)) if plain else None
    return None


def taken(ranks: Mapping[str, int], costs: Mapping[str, Cost]) -> int:
    """Scalars that these ranks take."""
    return sum(rank * costs[name].each for name, rank in ranks.items())


def spend(costs: Mapping[str, Cost], budget: int) -> dict[str, int]:
    """Ranks as equal as can be, whose scalars are as near to the budget as a last rank in one more layer brings them.

    Every layer has at least rank 1 and at most the rank of its weight.

    Args:
        costs: of each layer.
        budget: scalars.

    Example:
        >>> spend({"a": Cost(10, 4), "b": Cost(30, 4)}, 130)
        {'a': 4, 'b': 3}
    """
    ranks = dict.fromkeys(costs, 1)

    def capped(rank: int) -> dict[str, int]:
        return {name: min(rank, costs[name].largest) for name in costs}

    low, high = 1, max((c.largest for c in costs.values()), default=1)
    while low <= high:  # the largest equal rank that the budget pays
        middle = (low + high) // 2
        if taken(capped(middle), costs) <= budget:
            ranks, low = capped(middle), middle + 1
        else:
            high = middle - 1
    rest = budget - taken(ranks, costs)
    # Dear layers first: what is left over then still pays for a cheap one.
    for name in sorted(costs, key=lambda n: -costs[n].each):
        if costs[name].each <= rest and ranks[name] < costs[name].largest:
            ranks[name] += 1
            rest -= costs[name].each
    nearer = [n for n in costs if ranks[n] < costs[n].largest and abs(rest - costs[n].each) < abs(rest)]
    if nearer:
        ranks[min(nearer, key=lambda n: abs(rest - costs[n].each))] += 1
    return ranks
