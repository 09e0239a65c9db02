"""The user's ``.grad``, set aside for as long as trial steps are made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def grads_aside(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Inside, no parameter has a ``.grad``; afterwards each has its own tensor back, whatever happened.

    Args:
        parameters: whose ``.grad`` is lent.

    Example:
        >>> import torch
        >>> p = torch.ones(1, requires_grad=True)
        >>> p.square().sum().backward()
        >>> with grads_aside([p]):
        ...     print(p.grad)
        None
        >>> p.grad
        tensor([2.])
    """
    kept = [(p, p.grad) for p in parameters]
    try:
        for p, _ in kept:
            p.grad = None
        yield
    finally:
        for p, gradient in kept:
            p.grad = gradient
