"""What happened in one training step: everything measured, plotted or recommended is a function of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Event:
    """Something that the user should know about a step: a dropped task, a solver that missed its residual.

    Args:
        kind: ``nonfinite`` (a task was dropped), ``zero`` (a task has no gradient), ``solver`` (a residual was missed),
            ``stationary`` (no common descent direction), ``scale`` (could not be matched), ``missing`` (a call
            that the method needs was not made, or its main task has no gradient).
        message: one sentence: what was found and what was done.
        task: the name of the task concerned, if it is one.
    """

    kind: Literal["nonfinite", "zero", "solver", "stationary", "scale", "missing", "overflow"]
    message: str
    task: str | None = None


@dataclass
class Step:
    """The record of one training step. Letters: `K` tasks, `B` blocks.

    With ``g_i`` the gradient of task i in the shared parameters, ``g_i^b`` its part in block b, ``d`` the
    combined shared gradient (the optimiser is handed ``d``, so plain SGD moves by ``-lr * d``) and ``Δθ`` what
    the optimiser really did to the shared parameters:

    Args:
        index: number of earlier backward passes.
        tasks: names of all tasks named so far; fixes the meaning of the task axis.
        losses: (K,) raw losses; NaN where the task was absent in this step.
        active: (K,) bool; False for tasks that were absent, not finite, or reached no parameter.
        weights: (K,) what each task's gradient was multiplied with in the shared parameters, after scaling;
            None for methods that combine whole gradients.
        block_weights: (B, K), in their place where the method solves block by block (``group=``).
        blocks: names of the blocks, in the order of the block axis; empty when no Gramian was computed.
        gramians: (B, K, K) float64, ``g_i^b · g_j^b``; they add up over blocks to the Gramian of the whole.
            Rows and columns of inactive tasks are zero.
        descent: (B, K) float64, ``g_i^b · d^b``; negative: to first order, SGD would raise this loss.
        direction_norm: ``‖d‖``.
        change: (B, K) float64, ``g_i^b · Δθ^b``, the first-order change of each loss under the step that was
            really taken; positive: this task was harmed. Filled in after ``optimizer.step()`` on probe steps: exactly
            where gradients are held (``stacked``), within about 2 % of ``‖g_i^b‖ ‖Δθ^b‖`` from sketches
            (``segmented``), not at all for ``features``.
        update_norm: ``‖Δθ‖``, filled in with ``change``.
        space: ``parameters``, or ``features`` when the Gramians were taken at the shared representation.
        events: what went differently from plan.

    Example:
        >>> import torch, accord
        >>> model = torch.nn.Linear(2, 2)
        >>> out = model(torch.eye(2))
        >>> step = accord.Balancer(model, accord.UPGrad()).backward({"a": out.sum(), "b": out.square().sum()})
        >>> step.tasks, step.gramian.shape
        (('a', 'b'), torch.Size([2, 2]))
    """

    index: int
    tasks: tuple[str, ...]
    losses: Tensor
    active: Tensor
    weights: Tensor | None = None
    block_weights: Tensor | None = None
    blocks: tuple[str, ...] = ()
    gramians: Tensor | None = None
    descent: Tensor | None = None
    direction_norm: float | None = None
    change: Tensor | None = None
    update_norm: float | None = None
    space: Literal["parameters", "features"] = "parameters"
    events: tuple[Event, ...] = field(default=())

    @classmethod
    def begin(cls, index: int, tasks: tuple[str, ...], columns: Sequence[int], losses: Tensor) -> Step:
        """A Step of the tasks at hand; all others are absent.

        Args:
            index: number of earlier backward passes.
            tasks: K names.
            columns: where the k tasks at hand stand among them.
            losses: (k,) their values.
        """
        if list(columns) == list(range(len(tasks))):
            wide = losses.double()  # (K,); indices would have to be sent to a GPU, which waits
        else:
            wide = torch.full((len(tasks),), torch.nan, dtype=torch.float64, device=losses.device)  # (K,)
            wide[list(columns)] = losses
        active = torch.zeros(len(tasks), dtype=torch.bool)  # (K,)
        active[list(columns)] = True
        return cls(index, tasks, wide, active)

    def leave_out(
        self, names: Sequence[str], columns: Sequence[int], active: Sequence[int], squares: Sequence[float] | None
    ) -> None:
        """Note which of the tasks at hand take no part, and why.

        Args:
            names: the k tasks at hand.
            columns: where they stand among all K.
            active: which of the k take part.
            squares: k squared norms of the shared gradients, where they are known.
        """
        events = []
        for i in sorted(set(range(len(names))) - set(active)):
            loss = float(self.losses[columns[i]])
            if math.isfinite(loss) and squares is not None and math.isfinite(squares[i]):
                events.append(Event("zero", f"the shared gradient of {names[i]!r} is zero; weight 0", names[i]))
                continue
            found = "its gradient is not finite" if math.isfinite(loss) else f"its loss is {loss}"
            events.append(Event("nonfinite", f"{names[i]!r} is left out of this step: {found}", names[i]))
            self.active[columns[i]] = False
        self.events = (*self.events, *events)

    def note_not_finite(self, names: Sequence[str], columns: Sequence[int]) -> None:
        """Note losses that are not finite in a step that takes them as they are."""
        values = self.losses[list(columns)].tolist()
        self.events = (
            *self.events,
            *(
                Event("nonfinite", f"the loss of {name!r} is {value}; it was summed as it is", name)
                for name, value in zip(names, values, strict=True)
                if not math.isfinite(value)
            ),
        )

    def measure(self, blocks: tuple[str, ...], gramians: Tensor, columns: Sequence[int]) -> None:
        """Put the Gramians of the tasks at hand on the axis of all tasks, with what follows from the weights.

        Args:
            blocks: B names.
            gramians: (B, k, k) on the CPU; rows of inactive tasks may be NaN.
            columns: where the k tasks stand among all K.
        """
        k = len(self.tasks)
        self.blocks = blocks
        self.gramians = torch.zeros(len(blocks), k, k, dtype=torch.float64)  # (B, K, K)
        at = torch.tensor(columns)
        self.gramians[:, at[:, None], at] = gramians
        self.gramians[:, ~self.active] = 0
        self.gramians[:, :, ~self.active] = 0
        if self.weights is not None:
            self.descent = self.gramians @ self.weights  # (B, K)
            self.direction_norm = float((self.weights @ self.descent.sum(0)).clamp(min=0).sqrt())
        elif self.block_weights is not None:
            self.descent = (self.gramians @ self.block_weights[:, :, None])[:, :, 0]  # (B, K)
            self.direction_norm = float((self.block_weights * self.descent).sum().clamp(min=0).sqrt())

    @property
    def gramian(self) -> Tensor | None:
        """(K, K), the Gramian of the whole shared gradients: the sum of the blocks'."""
        return None if self.gramians is None else self.gramians.sum(0)  # (K, K)


def spread(values: Tensor, columns: Sequence[int], total: int) -> Tensor:
    """Numbers of the tasks at hand on the axis of all tasks, zero elsewhere.

    Args:
        values: (B, k).
        columns: where the k tasks stand.
        total: K.

    Returns:
        (B, K) float64.
    """
    wide = torch.zeros(len(values), total, dtype=torch.float64)  # (B, K)
    wide[:, list(columns)] = values
    return wide
