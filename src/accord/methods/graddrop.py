"""GradDrop: in every coordinate keep one sign, drawn by its share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from accord.methods import checks
from accord.methods.method import Elementwise, Scale
from accord.rows import SMALL


@dataclass(eq=False, repr=False)
class GradDrop(Elementwise):
    """Gradient sign dropout.

    Per coordinate ``Q = ½(1 + Σg/Σ|g|)`` and ``U ~ U(0, 1)``: the positive entries stay if ``Q > U``, the negative ones
    otherwise; ``d = Σ (ℓ + (1 − ℓ)M_i) g_i`` with M the mask and ℓ the leak. On average d is the sum.

    Source: Chen et al. 2020 (NeurIPS), "Just Pick a Sign", [arXiv 2010.06808](https://arxiv.org/abs/2010.06808),
    algorithm 1, at parameter level with f the identity and ℓ = 0.

    Public implementations give NaN where all entries are zero (we give zero), or draw one sign for the whole model.

    Args:
        leak: ℓ in [0, 1], the share of the gradient that is never dropped; 1 is the sum.

    Example:
        >>> rows = torch.tensor([[1.0, 1.0, 0.0], [2.0, -1.0, 0.0]])
        >>> d = GradDrop().aggregate(rows, generator=torch.Generator().manual_seed(0))
        >>> d[0].item(), abs(d[1].item()), d[2].item()  # signs agree; one of two is kept; nothing there
        (3.0, 1.0, 0.0)
    """

    leak: float = 0.0

    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1", "RS-sign"})

    def __post_init__(self) -> None:
        checks.number(self, "leak", least=0.0, most=1.0)

    def reduce(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Combine the gradients of one tensor. See the class."""
        wide = torch.promote_types(rows.dtype, torch.float32)  # sums of half-precision rows need a wider accumulator
        positive, negative = _parts(rows, wide)  # (...)
        draw = torch.rand(positive.shape, dtype=wide, device=rows.device, generator=generator)  # (...), U in [0, 1)
        # Q = positive/(positive − negative) > U, without the division: 0/0 keeps the empty negative part.
        kept = torch.where(positive > draw * (positive - negative), positive, negative)  # (...)
        return (self.leak * (positive + negative) + (1 - self.leak) * kept).to(rows.dtype)


def _parts(rows: Tensor, wide: torch.dtype) -> tuple[Tensor, Tensor]:
    """The sums of the positive and of the negative entries, (...) each."""
    if rows.numel() <= SMALL:
        return rows.clamp(min=0).sum(0, dtype=wide), rows.clamp(max=0).sum(0, dtype=wide)
    positive = torch.zeros(rows.shape[1:], dtype=wide, device=rows.device)  # (...)
    negative = torch.zeros_like(positive)  # (...)
    for row in rows:  # (...), one at a time: no (K, ...) temporary
        positive += row.clamp(min=0)
        negative += row.clamp(max=0)
    return positive, negative
