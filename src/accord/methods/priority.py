"""The place of a protected task among the active ones."""

from __future__ import annotations

import numpy as np

from accord.errors import AccordError
from accord.methods.method import Context, Method


def place_of_main(method: Method, main: int, context: Context, instead: str = "the others are added up") -> int | None:
    """Where the main task stands among the active tasks; None, and an event, if it is not one of them.

    Args:
        method: who protects it.
        main: its column among all tasks, counted from 0 in the order in which the losses were first named.
        context: which tasks are active.
        instead: what happens then, for the event.

    Raises:
        AccordError: if there is no such task.

    Example:
        >>> import torch
        >>> from accord.methods import Sum
        >>> place_of_main(Sum(), 2, Context(np.array([0, 2]), 3, torch.Generator()))
        1
    """
    if main >= context.total:
        raise AccordError(
            f"{method!r}: there are {context.total} tasks, counted from 0 in the order of the losses, so main={main} "
            "is none of them."
        )
    found = np.flatnonzero(context.active == main)
    if len(found):
        return int(found[0])
    method.report("missing", f"the main task has no gradient in this step; {instead}")
    return None
