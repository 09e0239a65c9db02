"""The realised harm of the step that is really taken: the losses before and after it, on batches of one's choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from accord.effect.trial import Array, Compute, look, same_tasks
from accord.errors import AccordError
from accord.undisturbed import random_state


@dataclass(eq=False)
class Realised:
    """Losses before and after a step, by batch.

    Args:
        tasks: K names.
        before: (K,) by batch.
        after: (K,) by batch; empty until the step is over.

    Example:
        >>> seen = Realised(("a",), {"held_out": np.array([2.0])}, {"held_out": np.array([3.0])})
        >>> seen.change("held_out").tolist(), seen.relative("held_out").tolist(), seen.harmed("held_out").tolist()
        ([1.0], [-0.5], [True])
    """

    tasks: tuple[str, ...] = ()
    before: dict[str, Array] = field(default_factory=dict)
    after: dict[str, Array] = field(default_factory=dict)

    def change(self, batch: str) -> Array:
        """(K,) ``L_j(θ + Δθ) − L_j(θ)``; positive: the step raised this loss.

        Raises:
            AccordError: for a batch of another name, or before the step is over.
        """
        if batch not in self.after:
            raise AccordError(f"no losses after the step on a batch {batch!r}; there are {list(self.after)}.")
        return self.after[batch] - self.before[batch]

    def relative(self, batch: str) -> Array:
        """(K,) ``1 − L_j(θ + Δθ) / L_j(θ)``, as in ``Effect``; NaN for a loss <= 0."""
        before = self.before.get(batch, np.empty(0))
        return -self.change(batch) / np.where(before > 0, before, np.nan)

    def harmed(self, batch: str) -> np.ndarray:
        """(K,) bool: which losses the step raised."""
        return self.change(batch) > 0


@contextmanager
def realised(model: nn.Module, **batches: Compute) -> Iterator[Realised]:
    """Look at the losses before and after the step that is made inside.

    Buffers, random numbers and ``.grad`` are as if nobody had looked, and both looks draw the same dropout masks. A
    raised loss on the batch of the step itself is what the step did wrong; on a held-out batch it may also be that
    the batch of the step was not like it.

    Args:
        model: what the losses hang on.
        **batches: by name functions that compute the losses by task name.

    Raises:
        AccordError: for no batch, or batches with different tasks.

    Example:
        >>> import torch, accord
        >>> w = nn.Linear(1, 1, bias=False)
        >>> losses = lambda: {"down": w.weight.square().sum(), "up": (w.weight - 3).square().sum()}
        >>> balancer, optimizer = accord.Balancer(w, "PCGrad()"), torch.optim.SGD(w.parameters(), lr=0.1)
        >>> _ = nn.init.constant_(w.weight, 2.0)
        >>> with realised(w, same=losses) as seen:
        ...     _ = balancer.backward(losses())
        ...     optimizer.step()
        >>> seen.tasks, seen.harmed("same").tolist()
        (('down', 'up'), [False, False])
    """
    if not batches:
        raise AccordError("realised(model) was given no batch; expected realised(model, held_out=compute).")
    seen, noise = Realised(), random_state(model)
    for name, compute in batches.items():
        tasks, seen.before[name] = look(model, compute, noise)
        same_tasks(tasks, seen.tasks or tasks, name)
        seen.tasks = tasks
    yield seen
    for name, compute in batches.items():
        tasks, after = look(model, compute, noise)
        same_tasks(tasks, seen.tasks, name)
        seen.after[name] = after
