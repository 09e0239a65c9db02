"""From a step's numbers to its weights: who takes part, the method's native weights, the scale."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

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
    weights, message = weights_of(method, scale, gramian, numbers, context)
    if message:
        step.events = (*step.events, Event("scale", message))
    step.weights = torch.zeros(len(step.tasks), dtype=torch.float64)  # (K,)
    step.weights[context.active] = torch.from_numpy(weights)


def weights_of(
    method: Weighting,
    scale: scaling.Choice,
    gramian: NDArray[np.float64] | None,
    numbers: NDArray[np.float64],
    context: Context,
) -> tuple[NDArray[np.float64], str | None]:
    """The native weights, scaled, and what could not be done as asked.

    Args:
        method: a weighting.
        scale: see ``scale.py``.
        gramian: (k, k) of the active tasks, or None.
        numbers: (k,) their losses.
        context: says which columns these tasks are.
    """
    alone = gramian is not None and len(gramian) == 1  # one task: its own gradient, whatever the method
    native = np.ones(1) if alone else method.solve(gramian, numbers, context)
    scaled, message = scaling.rescale(native, gramian, scale, method.native_scale)
    return method.finish(scaled, context), message


class Blockwise:
    """A problem of its own for every block: one copy of the method per block, so that each has its own state.

    Args:
        method: a weighting, which stays as it is.
    """

    def __init__(self, method: Weighting) -> None:
        self._fresh = copy.deepcopy(method)
        self._copies: dict[str, Weighting] = {}

    def solve(
        self,
        scale: scaling.Choice,
        blocks: Sequence[str],
        gramians: NDArray[np.float64],
        numbers: NDArray[np.float64],
        context: Context,
    ) -> tuple[NDArray[np.float64], tuple[Event, ...]]:
        """Scaled weights for each block; 0 for tasks without a gradient in it.

        Args:
            scale: see ``scale.py``.
            blocks: B names.
            gramians: (B, k, k) of the active tasks.
            numbers: (k,) their losses.
            context: says which columns these tasks are.

        Returns:
            (B, k), and the events of all blocks.
        """
        table, events = np.zeros((len(blocks), len(numbers))), []
        for name, gramian, row in zip(blocks, gramians, table, strict=True):
            present = active_tasks(gramian)
            if not len(present):
                continue
            method = self._copies.setdefault(name, copy.deepcopy(self._fresh))
            own = gramian[np.ix_(present, present)]
            part = dataclasses.replace(context, active=context.active[present])
            row[present], message = weights_of(method, scale, own, numbers[present], part)
            found = (*method.take_events(), *((Event("scale", message),) if message else ()))
            events += [dataclasses.replace(event, message=f"block {name}: {event.message}") for event in found]
        return table, tuple(events)

    def epoch(self) -> None:
        """Tell every copy that an epoch has ended."""
        for method in self._copies.values():
            method.epoch()

    def state_dict(self) -> dict[str, Any]:
        """The states of the copies by block."""
        return {name: method.state_dict() for name, method in self._copies.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._copies = {}
        for name, own in state.items():
            self._copies[name] = copy.deepcopy(self._fresh)
            self._copies[name].load_state_dict(own)
