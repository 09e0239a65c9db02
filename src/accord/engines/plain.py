"""One backward pass of a weighted sum of losses: what loss-weighting methods need, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def backward(losses: Sequence[Tensor], weights: Sequence[float] | None = None) -> None:
    """Accumulate the gradient of ``Σ w_i L_i`` into ``.grad``, exactly as PyTorch does.

    Args:
        losses: K scalars.
        weights: K numbers; None is the plain sum, bit for bit ``sum(losses).backward()``.
    """
    parts = losses if weights is None else [w * loss for w, loss in zip(weights, losses, strict=True)]
    sum(parts).backward()  # type: ignore[union-attr]
