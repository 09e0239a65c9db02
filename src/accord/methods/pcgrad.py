"""PCGrad: every gradient loses its conflict with every other one, in random order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from accord.linalg.coefficients import project_in_turn
from accord.linalg.scaling import scaled
from accord.methods.method import Array, Context, Scale, Weighting


@dataclass(eq=False, repr=False)
class PCGrad(Weighting):
    """Projecting conflicting gradients ("gradient surgery").

    Task i visits the others in a fresh random order: if ``g_i'·g_j < 0`` then ``g_i' −= (g_i'·g_j/‖g_j‖²) g_j``, with
    ``g_j`` as it was at the start; ``d = Σ g_i'``. Two tasks: ``w = (1 − b/a, 1 − b/c)``, with a, b, c the entries of
    the Gramian, if b < 0.

    Source: Yu et al. 2020 (NeurIPS), "Gradient Surgery for Multi-Task Learning",
    [arXiv 2001.06782](https://arxiv.org/abs/2001.06782), algorithm 1. No hyper-parameters.

    Public implementations differ: the official one throws the shuffled order away, so that it is fixed; three others
    let a task visit itself, or average instead of adding up. Ours follows the paper: ``j ≠ i``, fresh order, sum.

    Example:
        >>> import torch
        >>> J = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
        >>> PCGrad()(J @ J.T).numpy().round(6).tolist()
        [2.0, 1.5]
    """

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"H1", "RS"})  # permutation and scaling of rows: for a given order only

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The summed coefficients of the projected gradients. See the class."""
        assert gramian is not None
        if gramian.min() >= 0:
            return np.ones(len(gramian))
        norms, cosines = scaled(gramian)
        if len(gramian) == 2:
            return 1 - cosines[0, 1] * norms[::-1] / norms
        coefficients = project_in_turn(cosines, visits(len(gramian), context.generator))  # (k, k)
        return (norms @ coefficients) / norms

    def correct(self, gramian: Array, context: Context) -> Array:
        """The projected gradients. See ``Weighting.corrected``."""
        norms, cosines = scaled(gramian)
        orders = visits(len(gramian), context.generator)
        return norms[:, None] * project_in_turn(cosines, orders) / norms


def visits(count: int, generator: torch.Generator) -> NDArray[np.intp]:
    """For every task a random order of the others.

    Args:
        count: k >= 2.
        generator: on the CPU.

    Returns:
        (k, k - 1) int.
    """
    keys = torch.rand(count, count, generator=generator, dtype=torch.float64).numpy()  # (k, k)
    np.fill_diagonal(keys, np.inf)  # oneself comes last and is cut off
    return keys.argsort(axis=1)[:, :-1]
