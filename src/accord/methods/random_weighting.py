"""RandomWeighting: fresh random weights in every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class RandomWeighting(Weighting):
    """Random loss weighting: a baseline that every method ought to beat.

    ``w = softmax(x)``, ``x ~ N(0, I)``, fresh in every step; the expectation is the mean.

    Source: Lin et al. 2022 (TMLR), "Reasonable Effectiveness of Random Weighting",
    [arXiv 2111.10603](https://arxiv.org/abs/2111.10603). No hyper-parameters.

    Example:
        >>> weights = RandomWeighting()(losses=torch.ones(3), generator=torch.Generator().manual_seed(0))
        >>> bool((weights > 0).all()), round(weights.sum().item(), 5)
        (True, 1.0)
    """

    native_scale: ClassVar[Scale] = "mean"
    laws: ClassVar[frozenset[str]] = frozenset({"H1"})  # not PE: which task gets which weight is the draw's business

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """A random point of the simplex. See the class."""
        # One draw per task named so far, so that an absent task does not change the others' stream.
        draw = torch.randn(context.total, generator=context.generator, dtype=torch.float64).numpy()[context.active]
        powers = np.exp(draw - draw.max())  # (k,)
        return powers / powers.sum()
