"""Is a trained model too stiff for the quadrature behind its compensator?"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from accord.tpp.decoders.part import TimePart

TOLERATED = 1e-3  # nats per event


@torch.no_grad()
def quadrature_change(part: TimePart, h: Tensor, tau: Tensor) -> float | None:
    """How much the mean log density of some events changes when the number of nodes is doubled.

    Warns above 1e-3 nats per event: then likelihoods of this model are not exact to the digits that tables show.

    Args:
        part: whose compensator may be a quadrature.
        h: (n, D) histories.
        tau: (n,) gaps.

    Returns:
        Nats per event; None for a closed compensator.

    Example:
        >>> from accord.tpp.decoders.sahp import SAHP
        >>> quadrature_change(SAHP(dim=4, units=3), torch.randn(5, 4), torch.ones(5)) < 1e-5
        True
    """
    if part.nodes is None:
        return None
    usual, before = part.nodes, part.log_density(h, tau)
    try:
        part.nodes = 2 * usual
        after = part.log_density(h, tau)
    finally:
        part.nodes = usual
    change = float((after - before).double().mean().abs())
    if change > TOLERATED:
        warnings.warn(
            f"{type(part).__name__}: twice as many quadrature nodes change the likelihood by {change:.2g} nats "
            "per event.",
            stacklevel=2,
        )
    return change
