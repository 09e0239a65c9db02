"""GLS: the geometric mean of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class GLS(Weighting):
    """Geometric loss strategy.

    The objective is ``(Π L_i)^{1/K} = exp(mean log L)``, and its gradient in the losses gives the weights:
    ``w_i = (Π L_j)^{1/K} / (K L_i)``. Units do not matter: a loss times s gives all weighted gradients the same factor.

    Source: Chennupati et al. 2019 (CVPR workshops), "MultiNet++: Multi-Stream Feature Aggregation and Geometric Loss
    Strategy for Multi-Task Learning", [arXiv 1904.08492](https://arxiv.org/abs/1904.08492).

    Public implementations multiply the losses before taking the root, which leaves the range of a float with many
    tasks; ours adds their logarithms.

    Example:
        >>> import torch
        >>> losses = torch.tensor([1.0, 4.0], dtype=torch.float64, requires_grad=True)
        >>> losses.prod().sqrt().backward()
        >>> bool(torch.allclose(GLS()(losses=losses.detach()), losses.grad))
        True
    """

    native_scale: ClassVar[Scale] = "objective"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "H1"})

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The gradient of the geometric mean. See the class."""
        logs = np.log(checks.positive(self, losses))  # (k,)
        return np.exp(logs.mean() - logs) / len(logs)
