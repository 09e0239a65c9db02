"""Trial steps: parameters and optimiser move inside and are as before afterwards."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from accord import losses as checked
from accord.engines import grads_aside
from accord.errors import AccordError
from accord.undisturbed import RandomState, undisturbed

Array = NDArray[np.float64]
Compute = Callable[[], Mapping[str, Tensor]]


@contextmanager
def trial(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Steps made inside leave no trace: not in parameters, the optimiser's state and groups, or ``.grad``.

    Nothing is written back: the parameters and the optimiser lend their names to copies, and get their own tensors
    back. Hooks on the optimiser run, as in any step. An optimiser that keeps state outside of ``state`` and
    ``param_groups`` is not put back in that part.

    Args:
        model: whose parameters are lent, with those of the optimiser.
        optimizer: whose state is lent.

    Raises:
        AccordError: for LBFGS, which makes a step of many evaluations.

    Example:
        >>> import torch
        >>> w = nn.Linear(1, 1)
        >>> before, optimizer = w.weight.clone(), torch.optim.Adam(w.parameters())
        >>> with trial(w, optimizer):
        ...     w(torch.ones(1)).sum().backward()
        ...     _ = optimizer.step()
        ...     print(torch.equal(w.weight, before), len(optimizer.state))
        False 2
        >>> torch.equal(w.weight, before), len(optimizer.state), w.weight.grad
        (True, 0, None)
    """
    if isinstance(optimizer, LBFGS):
        raise AccordError("LBFGS evaluates the losses many times in one step; try steps of another optimiser.")
    grouped = [p for group in optimizer.param_groups for p in group["params"]]
    lent = list(dict.fromkeys([*model.parameters(), *grouped]))
    kept = [(p, p.data) for p in lent]
    state, groups = optimizer.state, [dict(group) for group in optimizer.param_groups]
    try:
        with grads_aside(lent):
            for p, values in kept:
                p.data = values.clone()
            optimizer.state = defaultdict(dict, {p: copy.deepcopy(own) for p, own in state.items()})
            for group in optimizer.param_groups:
                group.update({k: copy.deepcopy(v) for k, v in group.items() if k != "params"})
            yield
    finally:
        for p, values in kept:
            p.data = values
        optimizer.state = state
        for group, own in zip(optimizer.param_groups, groups, strict=True):
            group.clear()
            group.update(own)


def look(model: nn.Module, compute: Compute, noise: RandomState) -> tuple[tuple[str, ...], Array]:
    """The losses where the parameters are now, without a trace.

    Args:
        model: whose buffers are put back.
        compute: gives scalar losses by task name.
        noise: where the random numbers start, the same for every look that is to be compared.

    Returns:
        K names and (K,) float64.

    Example:
        >>> import torch
        >>> from accord.undisturbed import random_state
        >>> w = nn.Linear(1, 1)
        >>> look(w, lambda: {"one": torch.ones(())}, random_state(w))
        (('one',), array([1.]))
    """
    with undisturbed(model, noise):
        losses = checked.check(compute())
        return tuple(losses), checked.values(losses).cpu().numpy()


def same_tasks(found: tuple[str, ...], expected: tuple[str, ...], batch: str) -> None:
    """Refuse a batch whose losses have other names.

    Raises:
        AccordError: if the names differ, or their order.

    Example:
        >>> same_tasks(("a", "b"), ("a", "b"), "held-out")
    """
    if found != expected:
        raise AccordError(f"the {batch} losses are {list(found)}, expected {list(expected)}, in this order.")
