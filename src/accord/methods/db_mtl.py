"""DBMTL: gradients of the logarithms of the losses, all made as long as the longest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.call import active_tasks
from accord.methods.memory import Memory
from accord.methods.method import Aggregation, Array, Context, Scale
from accord.methods.outcomes import zeros
from accord.methods.state import PerTask
from accord.rows import Rows

SHIFT = 1e-8  # keeps the logarithm of a loss of zero finite; from the authors' code


@dataclass(eq=False, repr=False)
class DBMTL(Aggregation):
    """Dual-balancing multi-task learning (DB-MTL).

    ``d = Σ (max_j‖ĝ_j‖/‖ĝ_i‖) ĝ_i`` on averages of log-loss gradients,
    ``ĝ_i ← β_t ĝ_i + (1 − β_t) g_i/(L_i + 1e-8)`` from zero, ``β_t = β/t^σ``. Without averaging (β = 0) the direction
    is that of equally long gradients, and the losses decide about its length alone:
    ``d = max_j(n_j/(L_j + 1e-8)) Σ g_i/n_i``.

    Source: Lin et al. 2023, "Dual-Balancing for Multi-Task Learning",
    [arXiv 2308.12029](https://arxiv.org/abs/2308.12029), algorithm 1.

    β = 0 is ours and saves the memory of K gradients; the paper tunes β with σ = 0.5 or 0, its code has 0.9 and 0. A
    sum of smoothed gradients is no sum of the g_i, so this is no weighting; if the direction without averaging is all
    that is wanted, ``InverseNorm(ema=0.0)`` finds it from the Gramian. t counts the steps of the task.

    Args:
        beta: β in [0, 1).
        sigma: how fast β_t falls; 0: not at all.

    Example:
        >>> import torch
        >>> J, losses = torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([1.0, 2.0])
        >>> DBMTL().aggregate(J, losses).round(decimals=5).tolist()  # 3/1 and 4/2: the first is the longest
        [3.0, 3.0]
    """

    beta: float = 0.0
    sigma: float = 0.0

    native_scale: ClassVar[Scale] = "sum"
    laws: ClassVar[frozenset[str]] = frozenset({"PE", "SI", "H1"})

    def __post_init__(self) -> None:
        checks.number(self, "beta", least=0.0, below=1.0)
        checks.number(self, "sigma", least=0.0)
        self._memory = Memory()  # ĝ by task
        self._state = PerTask(steps=0.0)

    def combine(self, rows: Rows, gramian: Array, losses: Array | None, context: Context) -> list[Tensor | None]:
        """The balanced sum. See the class."""
        losses = checks.present(self, losses)
        if losses.min() < 0:
            raise AccordError(f"{self!r} takes logarithms, but a loss is {losses.min():g}; expected losses >= 0.")
        size = 1 / (losses + SHIFT)  # (k,), ∇log(L + 1e-8) = size · g
        if not self.beta:
            norms = np.sqrt(np.diagonal(gramian))  # (k,)
            return rows.combine(((norms * size).max() / norms).tolist(), keep=True)
        state, active = self._state, context.active
        state.grow(context.total)
        state["steps"][active] += 1
        kept = self.beta / state["steps"][active] ** self.sigma  # (k,), β_t
        smooth = self._memory.blend(active.tolist(), rows, kept.tolist(), ((1 - kept) * size).tolist())
        products = smooth.gramian().cpu().numpy()  # (k, k)
        used = active_tasks(products)  # an average may vanish although no gradient did
        weights = np.zeros(len(rows)) if len(used) else zeros(self, len(rows))
        norms = np.sqrt(np.diagonal(products)[used])  # (k',)
        weights[used] = norms.max(initial=0.0) / norms
        return smooth.combine(weights.tolist(), keep=True)

    def state_dict(self) -> dict[str, Any]:
        """The averaged gradients, if any, and the numbers of steps."""
        return {"tasks": self._state.state_dict(), "gradients": self._memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state["tasks"])
        self._memory.load_state_dict(state["gradients"])
