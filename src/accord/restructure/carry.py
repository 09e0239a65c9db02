"""Carry: an optimiser goes on with the copies of a layer as it would have gone on with the layer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from accord.errors import AccordError
from accord.restructure.specific import TaskSpecific


def carry(optimizer: Optimizer, model: TaskSpecific) -> int:
    """Hand an optimiser the copies: each joins the group of its original, with a copy of that one's state.

    The first task's copy is the original; only the others are new. If all tasks' gradients were equal, the copies would
    go on being equal. Where a group's parameters stand in the order of the model, they do so afterwards, so that an
    optimiser made anew from ``model.parameters()`` can load the state.

    Args:
        optimizer: any that keeps its state by parameter.
        model: from ``task_specific``.

    Returns:
        How many parameters were added; 0 the second time.

    Raises:
        AccordError: if it holds none of the chosen layers' parameters, or keeps its state as one vector (L-BFGS).

    Example:
        >>> from accord.restructure import task_specific
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        >>> optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
        >>> net(torch.ones(1, 2)).sum().backward()
        >>> optimizer.step()
        >>> model = task_specific(net, "1", ["a", "b"])
        >>> carry(optimizer, model)
        2
        >>> copies = model.copies()["1"]
        >>> torch.equal(optimizer.state[copies.a.weight]["exp_avg"], optimizer.state[copies.b.weight]["exp_avg"])
        True
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise AccordError("L-BFGS keeps one history for all parameters, which no copy can take over; make it anew.")
    names = {p: name for name, p in model.named_parameters()}
    place = {p: i for i, p in enumerate(names)}
    clones = _clones(model)
    known = {p for group in optimizer.param_groups for p in group["params"]}
    if not known & clones.keys():
        raise AccordError(
            f"the optimiser holds no parameter of {', '.join(model.layers)}: give the one that trains these layers."
        )
    added = 0
    for group in optimizer.param_groups:
        old = group["params"]
        ordered = _in_order(old, place)
        new: list[Tensor] = []
        for p in old:
            fresh = [clone for clone in clones.get(p, ()) if clone not in known]
            new += [p, *fresh]
            for clone in fresh:
                if p in optimizer.state:
                    optimizer.state[clone] = copy.deepcopy(optimizer.state[p])
            added += len(fresh)
        group["params"] = sorted(new, key=place.__getitem__) if ordered else new
        if "param_names" in group:
            before = dict(zip(old, group["param_names"], strict=True))
            group["param_names"] = [names.get(p, before.get(p)) for p in group["params"]]
    return added


def _clones(model: TaskSpecific) -> dict[Tensor, list[Tensor]]:
    """The parameters of the first task's copies with those of the other tasks'."""
    found: dict[Tensor, list[Tensor]] = {}
    for copies in model.copies().values():
        first, *others = (list(each.parameters()) for each in copies.children())
        for i, p in enumerate(first):
            found[p] = [each[i] for each in others]
    return found


def _in_order(parameters: list[Any], place: dict[nn.Parameter, int]) -> bool:
    known = [place[p] for p in parameters if p in place]
    return len(known) == len(parameters) and known == sorted(known)
