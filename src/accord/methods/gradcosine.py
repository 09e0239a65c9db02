"""GradCosine: every task is weighted with its cosine to the main one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from accord.linalg.scaling import scaled
from accord.methods import checks
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.priority import place_of_main


@dataclass(eq=False, repr=False)
class GradCosine(Weighting):
    """Gradient similarity as the weight of an auxiliary task.

    ``w_m = 1``, ``w_j = max(cos(g_j, g_m), 0)``; unweighted: 1 where the cosine is not negative, else 0 (a cosine
    within the accuracy of the Gramian is not). A conflicting task is left out altogether, and ``g_m·d ≥ ‖g_m‖²``.

    Source: Du et al. 2018, "Adapting Auxiliary Losses Using Gradient Similarity",
    [arXiv 1812.02224](https://arxiv.org/abs/1812.02224), which has both versions.

    Args:
        main: the main task, counted from 0 in the order in which the losses were first named. In a step without its
            gradient the others are added up, with an event.
        weighted: the weight is the cosine; False: agreeing tasks count in full.

    Raises:
        AccordError: if an argument is of the wrong kind; when called, if there is no such task.

    Example:
        >>> import torch
        >>> J = torch.tensor([[2.0, 0.0], [3.0, 4.0], [-1.0, 1.0]], dtype=torch.float64)
        >>> GradCosine()(J @ J.T).numpy().round(6).tolist()
        [1.0, 0.6, 0.0]
        >>> GradCosine(weighted=False)(J @ J.T).tolist()
        [1.0, 1.0, 0.0]
    """

    main: int = 0
    weighted: bool = True

    needs_gramian: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PR", "LS", "H1"})  # permutation: only together with `main`

    def __post_init__(self) -> None:
        checks.whole(self, "main", least=0)
        checks.choice(self, "weighted", (True, False))  # type: ignore[arg-type]

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The cosines with the main task, cut off at zero. See the class."""
        assert gramian is not None
        place = place_of_main(self, self.main, context)
        if place is None:
            return np.ones(len(gramian))
        towards = scaled(gramian)[1][place]  # (k,), one for the main task itself
        return np.maximum(towards, 0) if self.weighted else (towards >= -context.epsilon).astype(float)
