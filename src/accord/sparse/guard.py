"""Guard: an optimiser that was built before sparse training would train nothing of the selection, without a word."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import WeakTensorKeyDictionary

from accord.errors import AccordError


def guard(owner: object, pairs: Iterable[tuple[Tensor, Tensor]]) -> RemovableHandle:
    """Stop the first step of an optimiser that holds weights which are trained no more, and none of what is.

    One that holds both is fine, as frozen weights have no gradient; that they have none is looked at, too. Each
    optimiser is looked at once.

    Args:
        owner: the guard ends with it.
        pairs: weights of which only selected places are trained, each with the parameter that is trained in its stead.

    Returns:
        What ends it.

    Example:
        >>> import torch
        >>> class Owner: pass
        >>> owner, old, new = Owner(), torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(1))
        >>> handle = guard(owner, [(old, new)])
        >>> torch.optim.SGD([old], lr=0.1).step()  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        accord.errors.AccordError: this optimiser was built before the SparseTraining ...
        >>> handle.remove()
    """
    known = WeakTensorKeyDictionary()
    for dense, values in pairs:
        known[dense], known[values] = False, True
    seen: weakref.WeakSet[Optimizer] = weakref.WeakSet()

    def look(optimizer: Optimizer, *_: Any) -> None:
        if optimizer in seen:
            return
        trained = [known[p] for group in optimizer.param_groups for p in group["params"] if p in known]
        if trained and not any(trained):
            raise AccordError(
                "this optimiser was built before the SparseTraining and would not train the selected weights: build it "
                "afterwards, from training.parameters()."
            )
        if trained and any(p.grad is not None for p, is_trained in known.items() if not is_trained):
            raise AccordError(
                "frozen weights have a gradient: order='combine-then-mask' needs training.attach(balancer), which "
                "drops it after each backward pass."
            )
        seen.add(optimizer)

    handle = register_optimizer_step_pre_hook(look)
    weakref.finalize(owner, handle.remove)
    return handle
