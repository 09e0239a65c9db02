"""displaced: the parameters stand elsewhere for the length of a block; displacements to compare with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

from accord.errors import AccordError, nearest

Per = Literal["total", "parameter"]


@contextmanager
def displaced(displacement: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Inside the block the parameters stand at ``θ + d``, at its end they are back at ``θ``, bit for bit.

    They are changed in place, so that autograd notices a graph that crosses the border of the block: forward *and*
    backward pass belong inside. What happens to the parameters inside, an optimiser's step included, is undone.

    Args:
        displacement: ``d`` by parameter, each of the parameter's shape. Parameters that are not in it stay.

    Raises:
        AccordError: for a displacement of another shape; nothing has moved then.

    Source:
        Accord's own part: counterfactual looks, such as at ``θ + μv`` or in a random direction of that length.

    Example:
        >>> w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        >>> with displaced({w: torch.tensor([0.5, -0.5])}):
        ...     inside = w.tolist()
        >>> inside, w.tolist()
        ([1.5, 1.5], [1.0, 2.0])
    """
    for p, d in displacement.items():
        if p.shape != d.shape:
            raise AccordError(
                f"a displacement has shape {tuple(d.shape)}, its parameter {tuple(p.shape)}; they have to agree."
            )
    kept = [(p, p.detach().clone()) for p in displacement]
    try:
        with torch.no_grad():
            for p, d in displacement.items():
                p.add_(d)  # in place, so that autograd notices; with p.data it does not
        yield
    finally:
        with torch.no_grad():
            for p, value in kept:
                p.copy_(value)


def random_displacement(
    like: Mapping[Tensor, Tensor], generator: torch.Generator, *, per: Per = "total"
) -> dict[Tensor, Tensor]:
    """A displacement of the same parameters, as long as the one given, in a random direction.

    ``r = ‖d‖ z / ‖z‖`` with ``z ~ N(0, I)``, over all parameters together or for each one by itself. It is the control
    of every statement about a direction: what it does as well is the doing of the length alone.

    Args:
        like: ``d`` by parameter.
        generator: a generator of the CPU; equal seeds give equal directions on every device.
        per: ``total``: one direction in the space of all parameters together, of the length of all together.
            ``parameter``: each parameter moves as far as it does under ``d``, which keeps the layers' shares.

    Returns:
        ``r`` by parameter, in the order of ``like``.

    Raises:
        AccordError: for another word.

    Source:
        Accord's own part.

    Example:
        >>> w = torch.nn.Parameter(torch.zeros(2))
        >>> found = random_displacement({w: torch.tensor([3.0, 4.0])}, torch.Generator().manual_seed(0))
        >>> round(found[w].norm().item(), 5)
        5.0
    """
    if per not in get_args(Per):
        raise AccordError(f"per={per!r} is not known.{nearest(str(per), get_args(Per))}")
    draws = [torch.randn(d.shape, generator=generator, dtype=torch.float64) for d in like.values()]
    lengths, drawn = ([float(t.detach().double().norm()) for t in ts] for ts in (like.values(), draws))
    if per == "total":
        whole = sum(n**2 for n in lengths) ** 0.5 / max(sum(n**2 for n in drawn) ** 0.5, torch.finfo().tiny)
        scales = [whole] * len(drawn)
    else:
        scales = [n / max(own, torch.finfo().tiny) for n, own in zip(lengths, drawn, strict=True)]
    return {p: (z * s).to(d) for (p, d), z, s in zip(like.items(), draws, scales, strict=True)}
