"""Losses and gradients where the parameters are not: what methods that look ahead ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from accord import losses as checked
from accord.elsewhere import BatchName, Shift
from accord.errors import AccordError
from accord.rows import Rows
from accord.sharing import root, walk
from accord.undisturbed import RandomState, random_state, undisturbed

Array = NDArray[np.float64]
Compute = Callable[[], Mapping[str, Tensor]]


class Displaced:
    """Looks at two batches at displaced parameters; see ``accord.elsewhere.Elsewhere``.

    During a look the parameters' ``data`` are other tensors; nothing is written into their own, so what the step's
    graph has saved stays valid, and afterwards the values are back bit for bit, whatever the user's functions raise.
    All looks at one batch draw the same random numbers, so that differences between them are no dropout noise.

    Args:
        model: whose trainable parameters are moved.
        compute: the losses of the training batch, by task name.
        validate: the losses of the validation batch, by task name.
        tasks: the k active tasks, in the order of all answers.
        optimizer: the one that will make the step, if it is known.
        noise: ``random_state`` before the step's own losses were computed, so that looks at the training batch draw
            what the step drew; None: they draw what comes next.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(model.weight, 2.0)
        >>> square = lambda: {"square": model(torch.ones(1)).square().mean()}
        >>> look = Displaced(model, square, square, ["square"])
        >>> look.values("training").tolist(), look.values("training", [torch.ones(1, 1)]).tolist()
        ([4.0], [9.0])
        >>> look.gradients("validation", [torch.ones(1, 1)]).rows, model.weight.item()
        ([[tensor([[6.]])]], 2.0)
    """

    parameters: Sequence[Tensor]
    names: Sequence[str]
    optimizer: Optimizer | None
    epsilon: float

    def __init__(
        self,
        model: nn.Module,
        compute: Compute,
        validate: Compute,
        tasks: Sequence[str],
        optimizer: Optimizer | None = None,
        noise: RandomState | None = None,
    ) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise AccordError("the model has no trainable parameters, so there is nowhere else to look.")
        self.names, self.parameters = [name for name, _ in named], [p for _, p in named]
        self.optimizer = optimizer
        self.epsilon = 1e-10 if all(p.dtype == torch.float64 for p in self.parameters) else 1.2e-7
        self._model, self.tasks = model, tuple(tasks)
        self._functions: dict[BatchName, Compute] = {"training": compute, "validation": validate}
        now = random_state(model)
        self._noise: dict[BatchName, RandomState] = {"training": now if noise is None else noise, "validation": now}
        self._device = self.parameters[0].device.type
        # The looks happen where autocast is off; the losses are to be those that the user would get here.
        self._half = torch.is_autocast_enabled(self._device), torch.get_autocast_dtype(self._device)

    def values(self, batch: BatchName, shift: Shift | None = None) -> Array:
        """(k,) float64 losses. See ``Elsewhere.values``.

        Args:
            batch: ``training`` or ``validation``.
            shift: one tensor per parameter, None: not moved.

        Raises:
            AccordError: if the function gives no scalar loss for an active task.
        """
        with self._look(batch, shift, self.tasks, grad=False) as losses:
            return checked.values(losses).cpu().numpy()

    def gradients(self, batch: BatchName, shift: Shift | None = None) -> Rows:
        """K backward passes; holds k x P. See ``Elsewhere.gradients``.

        Args:
            batch: ``training`` or ``validation``.
            shift: one tensor per parameter, None: not moved.

        Raises:
            AccordError: if the function gives no scalar loss with a graph for an active task.
        """
        rows: list[list[Tensor | None]] = []
        with self._look(batch, shift, self.tasks, grad=True) as losses:
            for i, loss in enumerate(losses.values()):
                rows.append(self._differentiate(loss, retain_graph=i < len(losses) - 1))
        return Rows(rows, self.names)

    def gradient(self, batch: BatchName, weights: Array, shift: Shift | None = None) -> list[Tensor | None]:
        """One backward pass. See ``Elsewhere.gradient``.

        Args:
            batch: ``training`` or ``validation``.
            weights: (k,); of a task with weight 0 no loss is needed.
            shift: one tensor per parameter, None: not moved.

        Raises:
            AccordError: if the function gives no scalar loss with a graph for an active task.
        """
        chosen = {task: float(w) for task, w in zip(self.tasks, weights, strict=True) if w}
        if not chosen:
            return [None] * len(self.parameters)
        with self._look(batch, shift, tuple(chosen), grad=True) as losses:
            parts = [w * losses[task].reshape(()) for task, w in chosen.items()]
            return self._differentiate(torch.stack(parts).sum())

    def _differentiate(self, loss: Tensor, retain_graph: bool = False) -> list[Tensor | None]:
        with torch.autocast(self._device, enabled=False):
            return list(torch.autograd.grad(loss, self.parameters, retain_graph=retain_graph, allow_unused=True))

    @contextmanager
    def _look(
        self, batch: BatchName, shift: Shift | None, tasks: Sequence[str], *, grad: bool
    ) -> Iterator[dict[str, Tensor]]:
        """The losses of these tasks; the parameters are moved as long as the context lasts."""
        kept = [p.data for p in self.parameters]
        enabled, dtype = self._half
        try:
            if shift is not None:
                for p, values, step in zip(self.parameters, kept, shift, strict=True):
                    if step is not None:
                        p.data = (values + step).to(values.dtype)
            torch.clear_autocast_cache()  # it holds half-precision copies of parameters that were elsewhere
            with undisturbed(self._model, self._noise[batch], grad=grad):
                with torch.autocast(self._device, dtype=dtype, enabled=enabled):
                    losses = checked.check(self._functions[batch]())
                yield _select(losses, tasks, batch, grad)
        finally:
            for p, values in zip(self.parameters, kept, strict=True):
                p.data = values
            torch.clear_autocast_cache()


def _select(losses: Mapping[str, Tensor], tasks: Sequence[str], batch: str, grad: bool) -> dict[str, Tensor]:
    """The losses of these tasks, in this order, or an error that says what is wrong with them."""
    missing = [task for task in tasks if task not in losses]
    if missing:
        raise AccordError(f"the {batch} losses are {list(losses)}, but {missing} are needed in this step, too.")
    bare = [task for task in tasks if grad and not losses[task].requires_grad]
    if bare:
        raise AccordError(
            f"the {batch} losses {bare} require no gradient. Were they detached, or computed under no_grad?"
        )
    if grad and walk([root(task, losses[task]) for task in tasks]).reentrant:  # it hides parameters from autograd.grad
        raise AccordError(f"the {batch} losses go through a reentrant checkpoint; set use_reentrant=False there.")
    return {task: losses[task] for task in tasks}
