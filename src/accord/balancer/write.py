"""Writing ``.grad``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor


def write(parameters: Sequence[Tensor], gradients: list[Tensor | None]) -> None:
    """Add gradients to ``.grad`` as autograd does, giving the list's memory back on the way.

    Args:
        parameters: leaves.
        gradients: fresh tensors that nobody else holds; None leaves ``.grad`` alone.
    """
    for i, p in enumerate(parameters):
        gradient, gradients[i] = gradients[i], None
        if gradient is None:
            continue
        if p.grad is None:
            p.grad = gradient.to(p.dtype)
        elif p.grad.is_sparse and not gradient.is_sparse:
            p.grad = (gradient + p.grad).to(p.dtype)
        else:
            p.grad.add_(gradient)


def write_heads(
    heads: Sequence[Sequence[Tensor]],
    gradients: Sequence[Sequence[Tensor | None]],
    weights: Sequence[float | None],
) -> None:
    """Each task's own parameters get their own gradient, times a weight.

    Args:
        heads: for each task its parameters.
        gradients: theirs, which others may hold.
        weights: None for a task that takes no part.
    """
    for own, found, weight in zip(heads, gradients, weights, strict=True):
        if weight is not None:
            write(own, [None if g is None else g * weight if weight != 1.0 else g.clone() for g in found])


def drop(parameters: Iterable[Tensor]) -> None:
    """Forget the gradients of tensors that are looked at and not trained.

    Args:
        parameters: leaves.
    """
    for p in parameters:
        p.grad = None
