"""Copies: what stands in a model where a layer was, one copy of it for each task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from accord.errors import AccordError


class Copies(nn.Module):
    """One copy of a layer for each task, under the task's name: ``fc.weight`` becomes ``fc.depth.weight`` and so on.

    It only keeps them. While the model runs for a task, that task's copy stands in its place, so that code which looks
    into the layer (``layer.weight``, ``layer.method()``) finds a layer as it was.

    The first task keeps the layer itself, its parameters and what an optimiser knows of them.

    Args:
        layer: the layer.
        tasks: K names.

    Example:
        >>> copies = Copies(nn.Linear(2, 3), ["depth", "edges"])
        >>> [name for name, _ in copies.named_parameters()]
        ['depth.weight', 'depth.bias', 'edges.weight', 'edges.bias']
        >>> torch.equal(copies.depth.weight, copies.edges.weight)
        True
    """

    def __init__(self, layer: nn.Module, tasks: Sequence[str]) -> None:
        super().__init__()
        for i, task in enumerate(tasks):
            self.add_module(task, copy.deepcopy(layer) if i else layer)
        self.training = layer.training

    def __getattr__(self, name: str) -> Any:
        """A method that changes the layer in place (``project_``) is one that changes every copy.

        Such methods are called between steps, when no task is at hand.
        """
        if name.endswith("_") and not name.startswith("_"):
            methods = [method for each in self.children() if callable(method := getattr(each, name, None))]
            if methods and len(methods) == len(self._modules):
                return _each(methods)
        return super().__getattr__(name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: nobody said for which task.

        Raises:
            AccordError: always.
        """
        raise AccordError(
            f"this layer has a copy for each of {', '.join(self._modules)}, and no task is at hand: call the model "
            "that task_specific returned, or call it within model.on(task)."
        )


def _each(methods: Sequence[Callable[..., Any]]) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        for method in methods:
            method(*args, **kwargs)

    return call
