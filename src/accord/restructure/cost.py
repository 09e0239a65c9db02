"""Cost: the parameters and the operations that task-specific layers add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from accord.restructure.specific import TaskSpecific
from accord.restructure.table import table
from accord.undisturbed import undisturbed


@dataclass(frozen=True)
class Cost:
    """A model before and after some of its layers became task-specific; as text, a table.

    Args:
        parameters: trained and frozen scalars, before and after.
        flops: floating-point operations of one forward pass for all tasks, before and after; None without an example.
    """

    parameters: tuple[int, int]
    flops: tuple[int, int] | None = None

    def __str__(self) -> str:
        rows = [("parameters", self.parameters)] + ([("forward FLOPs", self.flops)] if self.flops else [])
        cells = [[name, f"{a:,}", f"{b:,}", f"+{b - a:,}", f"+{(b - a) / a:.1%}" if a else ""] for name, (a, b) in rows]
        return table(["", "shared", "task-specific", "added", ""], cells)


def cost(model: TaskSpecific, *args: Any, **kwargs: Any) -> Cost:
    """What the copies of a task-specific model cost, in parameters and in operations of a forward pass.

    Operations are those that PyTorch's counter knows (products of matrices, convolutions, attention), counted while the
    model runs as in training, so that what the tasks compute together counts once. Backward costs twice as much again.
    Without gradients (``torch.no_grad``) each run computes all heads.

    Args:
        model: from ``task_specific``.
        args: an example of what it is called with; without one, only parameters are counted.
        kwargs: the same.

    Example:
        >>> from accord.restructure import task_specific
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 1))
        >>> print(cost(task_specific(net, "1", ["a", "b"]), torch.ones(10, 8)))
                       shared  task-specific  added
        parameters         81             90     +9  +11.1%
        forward FLOPs   1,440          1,600   +160  +11.1%
    """
    after = sum(p.numel() for p in model.parameters())
    copied = [list(copies.children())[1:] for copies in model.copies().values()]
    before = after - sum(p.numel() for others in copied for each in others for p in each.parameters())
    if not args and not kwargs:
        return Cost((before, after))
    with undisturbed(model, grad=True):
        model(*args, **kwargs)  # the first pass finds the heads
        with FlopCounterMode(display=False) as shared, model.on(model.tasks[0]):
            model(*args, **kwargs)
        with FlopCounterMode(display=False) as split:
            model(*args, **kwargs)
    return Cost((before, after), (shared.get_total_flops(), split.get_total_flops()))
