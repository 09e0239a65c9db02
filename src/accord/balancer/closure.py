"""The function that a line search evaluates: losses with weights that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from accord import losses as checked
from accord.engines import plain
from accord.errors import AccordError

if TYPE_CHECKING:
    from accord.balancer.balancer import Balancer


def evaluation(balancer: Balancer, compute: Callable[[], Mapping[str, Tensor]]) -> Callable[[], Tensor]:
    """A closure for ``optimizer.step``; see ``Balancer.closure``.

    Args:
        balancer: solves for the weights in the first evaluation.
        compute: the losses by task name, at the present parameters.

    Raises:
        AccordError: when tasks train places of their own: then the step is no gradient of one function.
    """
    if balancer.starter.parts is not None:
        raise AccordError(
            "tasks that train places of their own do not follow the gradient of one function, as a line search needs."
        )
    weights: dict[str, float] = {}

    def evaluate() -> Tensor:
        with torch.enable_grad():
            losses = checked.check(compute())
            for p in (*balancer.model.parameters(), *balancer.starter.reached(losses)):
                p.grad = None
            if not weights:
                found = balancer.backward(losses).weights  # (K,)
                assert found is not None
                weights.update(zip(balancer.tasks, found.tolist(), strict=True))
            elif chosen := {name: loss for name, loss in losses.items() if weights.get(name)}:
                plain.backward(list(chosen.values()), [weights[name] for name in chosen])
        values = checked.values(losses)  # (k,)
        own = values.new_tensor([weights.get(name, 0.0) for name in losses])
        return torch.where(own == 0, 0.0, own * values).sum()  # a task that was left out may be NaN

    return evaluate
