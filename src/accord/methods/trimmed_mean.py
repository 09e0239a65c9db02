"""TrimmedMean: in every coordinate the mean without the extremes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from accord.methods import checks
from accord.methods.method import Elementwise, Scale

SORTED = 1 << 10  # scalars per row up to which numpy's sort costs less than the calls of a loop over the rows


@dataclass(eq=False, repr=False)
class TrimmedMean(Elementwise):
    """Coordinate-wise trimmed mean: drop the b largest and the b smallest entries, average the rest.

    Source: Yin et al. 2018 (ICML), "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates",
    [arXiv 1803.01498](https://arxiv.org/abs/1803.01498), definition 2, where b is a share of the number of machines.

    Made against broken or hostile sources, not against conflict. Only small tensors are sorted: for others the 2b
    extremes so far are kept beside the sum of what has dropped out of them, so no digit is lost as it would be in
    ``Σ − max − min``.

    Args:
        trim: b >= 0; 0 is the mean. Where fewer than 2b + 1 active tasks reach a tensor, as many are dropped as leave
            one or two, with an event.

    Example:
        >>> TrimmedMean().aggregate(torch.tensor([[1.0, 5.0], [2.0, -9.0], [60.0, 4.0]])).tolist()
        [2.0, 4.0]
    """

    trim: int = 1

    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def __post_init__(self) -> None:
        checks.whole(self, "trim", least=0)

    def reduce(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Combine the gradients of one tensor. See the class."""
        trim = min(self.trim, (len(rows) - 1) // 2)
        if trim < self.trim:
            self.report(
                "missing", f"a tensor is reached by {len(rows)} active tasks; {trim} values are dropped at either end"
            )
        count = len(rows) - 2 * trim
        wide = torch.promote_types(rows.dtype, torch.float32)  # sums of half-precision rows need a wider accumulator
        if rows.device.type == "cpu" and rows[0].numel() <= SORTED:
            middle = np.sort(rows.detach().to(wide).numpy(), axis=0)[trim : trim + count]  # (count, ...)
            return torch.as_tensor(middle.mean(0)).to(rows.dtype)
        total = torch.zeros(rows.shape[1:], dtype=wide, device=rows.device)  # (...)
        highest: list[Tensor] = []  # b x (...), downwards
        lowest: list[Tensor] = []  # b x (...), upwards
        for row in rows:  # (...), one at a time: no (K, ...) temporary
            for kept, better, worse in (
                (highest, torch.maximum, torch.minimum),
                (lowest, torch.minimum, torch.maximum),
            ):
                for i, other in enumerate(kept):
                    kept[i], row = better(other, row), worse(other, row)
                if len(kept) < trim:
                    kept.append(row)
                    break
            else:
                total += row
        return (total / count).to(rows.dtype)
