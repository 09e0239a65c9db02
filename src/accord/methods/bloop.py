"""Bloop: the others may go anywhere but along the main task's averaged gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from accord.methods import checks
from accord.methods.memory import Memory
from accord.methods.method import Aggregation, Array, Context, Scale
from accord.methods.priority import place_of_main
from accord.rows import Rows

SLOT = "main"


@dataclass(eq=False, repr=False)
class Bloop(Aggregation):
    """Bilevel optimisation with orthogonal projection.

    ``d = g_m + λ Σ_{j≠m} (g_j − (g_j·e/‖e‖²) e)`` with ``e ← (1 − ρ)e + ρ g_m``, the average of the main task's
    gradient, which is less noisy than g_m: to first order, the others leave the main loss alone on average.

    Source: Hsieh et al. 2024 (ICML), "Careful with that Scalpel: Improving Gradient Surgery with an EMA",
    [arXiv 2402.02998](https://arxiv.org/abs/2402.02998).

    The paper has one other loss; here each of several is projected. e begins at zero, which is harmless as its length
    does not matter, and takes in g_m before it is used, so that ``g_m·d = ‖g_m‖²`` in the first step. The values of λ
    and ρ are ours.

    Args:
        main: the protected task, counted from 0 in the order in which the losses were first named. In a step without
            its gradient the others are projected along the e that is kept, with an event.
        weight: λ >= 0, the weight of the others.
        rate: ρ in (0, 1]; 1: project along g_m itself.

    Raises:
        AccordError: for arguments out of bounds; when called, if there is no such task.

    Example:
        >>> import torch
        >>> J = torch.tensor([[1.0, 0.0], [-2.0, 1.0], [3.0, 1.0]], dtype=torch.float64)
        >>> Bloop(main=0).aggregate(J).numpy().round(12).tolist()
        [1.0, 2.0]
    """

    main: int = 0
    weight: float = 1.0
    rate: float = 0.01

    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PR", "LS", "H1"})  # permutation: only together with `main`

    def __post_init__(self) -> None:
        checks.whole(self, "main", least=0)
        checks.number(self, "weight", least=0.0)
        checks.number(self, "rate", above=0.0, most=1.0)
        self._memory = Memory()

    def combine(self, rows: Rows, gramian: Array, losses: Array | None, context: Context) -> list[Tensor | None]:
        """The main gradient plus the projected others. See the class."""
        place = place_of_main(self, self.main, context, "the others keep clear of its average")
        average = self._memory.over([SLOT], rows)
        weights = np.full(len(rows), self.weight)  # (k,)
        others = np.ones(len(rows), dtype=bool)
        if place is not None:
            self._memory.blend([SLOT], rows.pick([place]), [1 - self.rate], [self.rate])
            weights[place], others[place] = 1.0, False
        combined = rows.combine(weights.tolist(), keep=True)
        *products, square = Rows([*rows.rows, *average.rows]).gramian()[-1].tolist()  # g_i·e and e·e
        if square > 0:
            share = -self.weight * float(np.array(products)[others].sum()) / square
            for tensor, e in zip(combined, average.rows[0], strict=True):
                if tensor is not None and e is not None:
                    tensor.add_(e, alpha=share)
        return combined

    def state_dict(self) -> dict[str, Any]:
        """The average of the main task's gradient."""
        return self._memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._memory.load_state_dict(state)
