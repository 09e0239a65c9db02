"""Parts: a task's gradient counts in its own places of a parameter only, and is zero in the others'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from accord.errors import AccordError, nearest
from accord.sharing import Sharing

Part = Mapping[Tensor, Tensor]  # parameter -> bool of its shape, True where the gradient counts


def parts_of(parts: Mapping[str, Part], names: Iterable[str]) -> list[Part]:
    """The part of each loss, in their order.

    Args:
        parts: by task; a task with an empty part counts everywhere.
        names: of the losses.

    Raises:
        AccordError: for a loss that has no part.
    """
    found = []
    for name in names:
        if name not in parts:
            raise AccordError(
                f"loss {name!r} has no part: the places were divided among other tasks.{nearest(name, parts)}"
            )
        found.append(parts[name])
    return found


def confine(
    sharing: Sharing,
    rows: Sequence[list[Tensor | None]],
    heads: Sequence[list[Tensor | None]],
    parts: Sequence[Part],
) -> None:
    """Set gradients to zero outside each loss's part; by filling, so that NaN and infinity there do no harm, either.

    Args:
        sharing: which parameter is reached by which losses.
        rows: ``rows[i][p]`` in the shared parameters; changed in place, the tensors are not.
        heads: for each loss its own parameters' gradients; changed likewise.
        parts: one per loss.

    Example:
        >>> import torch
        >>> from accord.sharing import discover
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> sharing = discover(torch.nn.Module(), {"a": w.sum(), "b": -w.sum()})
        >>> rows = [[torch.ones(2)], [-torch.ones(2)]]
        >>> first = torch.tensor([True, False])
        >>> confine(sharing, rows, [[], []], [{w: first}, {w: ~first}])
        >>> rows
        [[tensor([1., 0.])], [tensor([ 0., -1.])]]
    """
    for part, row, own, head in zip(parts, rows, sharing.heads, heads, strict=True):
        _fill(part, sharing.shared, row)
        _fill(part, own, head)


def _fill(part: Part, parameters: Sequence[Tensor], gradients: list[Tensor | None]) -> None:
    for p, parameter in enumerate(parameters):
        gradient, inside = gradients[p], part.get(parameter)
        if gradient is None or inside is None:
            continue
        gradient = gradient.to_dense() if gradient.is_sparse else gradient
        gradients[p] = torch.where(inside.to(gradient.device), gradient, 0)
