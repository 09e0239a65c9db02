"""How far are predicted gaps from the true ones? Absolute and squared errors; gaps without a prediction are counted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accord.tpp.errors import TPPError


@dataclass(frozen=True)
class GapErrors:
    """Errors of predicted gaps, in units of time.

    Args:
        mae: mean absolute error of the resolved predictions; NaN if there is none.
        rmse: root of their mean squared error.
        median: median absolute error of *all* predictions, where an unresolved one is infinitely wrong.
        count: events, resolved or not.
        unresolved: predictions that are infinite: the model gives the quantile no place. ``mae`` and ``rmse`` of two
            models can be compared only where this is 0 for both.
    """

    mae: float
    rmse: float
    median: float
    count: int
    unresolved: int


def gap_errors(predicted: Tensor, gaps: Tensor) -> GapErrors:
    """Errors of predicted against true gaps; the median of the predictive distribution minimises ``mae``.

    Args:
        predicted: (n,) units of time; ``inf`` where a model has no answer.
        gaps: (n,) true gaps.

    Returns:
        ``GapErrors``.

    Raises:
        TPPError: if shapes do not fit, a true gap is not finite, or a prediction is NaN or negative.

    Example:
        >>> gap_errors(torch.tensor([1.0, 2.0, torch.inf]), torch.tensor([2.0, 2.5, 1.0])).median
        1.0
    """
    if predicted.shape != gaps.shape or predicted.ndim != 1 or not len(gaps):
        raise TPPError(
            f"predictions have shape {tuple(predicted.shape)}, gaps {tuple(gaps.shape)}; expected (n,) twice, n > 0."
        )
    if not bool(gaps.isfinite().all()):
        raise TPPError("true gaps are not all finite; expected gaps of events.")
    wrong = ~(predicted >= 0)  # (n,) true for NaN too
    if bool(wrong.any()):
        raise TPPError(f"{int(wrong.sum())} of {len(gaps)} predicted gaps are NaN or negative; expected 0..inf.")
    error = (predicted.double() - gaps.double()).abs()  # (n,)
    resolved = error[error.isfinite()]
    return GapErrors(
        mae=resolved.mean().item(),
        rmse=resolved.square().mean().sqrt().item(),
        median=_median(error),
        count=len(gaps),
        unresolved=len(gaps) - len(resolved),
    )


def _median(values: Tensor) -> float:
    ordered = values.sort().values  # torch.quantile refuses more than 16 million values
    low, high = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    return (low if torch.equal(low, high) else (low + high) / 2).item()
