"""From a step's numbers to its weights: who takes part, the method's native weights, the scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accord import scale as scaling
from accord.methods import Context, Weighting
from accord.methods.call import active_tasks
from accord.step import Event, Step


def participants(
    step: Step, names: Sequence[str], columns: Sequence[int], numbers: Tensor, gramian: Tensor | None
) -> NDArray[np.intp]:
    """The tasks at hand that take part; the Step says why the others do not.

    Args:
        step: gets the events.
        names: the k tasks at hand.
        columns: where they stand among all K.
        numbers: (k,) their losses.
        gramian: (k, k), or None where gradients are not looked at.

    Returns:
        Places among the k.
    """
    active = active_tasks(None if gramian is None else gramian.numpy(), numbers.numpy())
    step.leave_out(names, columns, active.tolist(), None if gramian is None else gramian.diagonal().tolist())
    return active


def solve(
    method: Weighting,
    scale: scaling.Choice,
    step: Step,
    context: Context,
    gramian: NDArray[np.float64] | None,
    numbers: NDArray[np.float64],
) -> None:
    """Native weights of the tasks that take part, scaled, into the Step.

    Args:
        method: a weighting.
        scale: see ``scale.py``.
        step: gets the weights, and an event where the scale could not be had.
        context: says which columns these tasks are.
        gramian: (k, k) of these tasks, or None.
        numbers: (k,) losses of these tasks.
    """
    alone = gramian is not None and len(gramian) == 1  # one task: its own gradient, whatever the method
    native = np.ones(1) if alone else method.solve(gramian, numbers, context)
    scaled, message = scaling.rescale(native, gramian, scale, method.native_scale)
    if message:
        step.events = (*step.events, Event("scale", message))
    step.weights = torch.zeros(len(step.tasks), dtype=torch.float64)  # (K,)
    step.weights[context.active] = torch.from_numpy(method.finish(scaled, context))
