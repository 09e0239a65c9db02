"""ExcessMTL: more weight to the tasks that are still far from their optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from accord.methods import checks
from accord.methods.memory import Memory
from accord.methods.method import Array, Context, Scale, Weighting
from accord.methods.state import PerTask
from accord.rows import SMALL

SHIFT = 1e-7  # under the root; from the official code
FARTHEST = 1e100  # bounds E/E⁰ where E⁰ has underflowed


@dataclass(eq=False, repr=False)
class ExcessMTL(Weighting):
    """Robust multi-task learning with excess risks.

    How far task i is from its optimum is estimated as ``E_i = Σ_p g_ip²/√(S_ip + 1e-7)``, with ``S_ip`` the sum of all
    g_ip² so far; then ``w_i ← w_i exp(η E_i/E⁰_i)``, brought to ``Σw = K`` over active tasks. E⁰ is the mean of E over
    the first steps, in which w = 1.

    Source: He et al. 2024 (ICML), "Robust Multi-Task Learning with Excess Risks",
    [arXiv 2402.02009](https://arxiv.org/abs/2402.02009), eqs. 6, 7 and 9; lr and ``Σw = K`` from the official code.

    The paper starts at w = 1/K on the simplex, which the scale contract makes the same; TorchJD multiplies by
    ``exp(ηE)`` without E⁰ in its first step. Every task counts its own first steps.

    Args:
        lr: η >= 0.
        warmup: over how many steps E⁰ is averaged; 1 in the official code, those of three epochs in the paper.

    Example:
        >>> import torch
        >>> method = ExcessMTL(lr=1.0)
        >>> J = torch.eye(2, dtype=torch.float64)
        >>> method(gradients=J).tolist()
        [1.0, 1.0]
        >>> J[1] *= 0.1  # the second task has come nearer to its optimum
        >>> weights = method(gradients=J)
        >>> bool(weights[0] > 1 > weights[1]), round(weights.sum().item(), 6)
        (True, 2.0)
    """

    lr: float = 0.01
    warmup: int = 1

    needs_gradients: ClassVar[bool] = True
    native_scale: ClassVar[Scale] = "sum"
    default_heads: ClassVar[Literal["plain", "weighted"]] = "weighted"
    laws: ClassVar[frozenset[str]] = frozenset({"PE"})

    def __post_init__(self) -> None:
        checks.number(self, "lr", least=0.0)
        checks.whole(self, "warmup", least=1)
        self._memory = Memory()  # S by task
        self._state = PerTask(logarithm=0.0, first=0.0, steps=0.0)  # log w; sum of E in the first steps; their number

    def solve(self, gramian: Array | None, losses: Array | None, context: Context) -> Array:
        """The exponentiated weights. See the class."""
        state, active = self._state, context.active
        excess = self._excess(context)  # (k,), E
        state.grow(context.total)
        learning = state["steps"][active] >= self.warmup  # (k,)
        if not learning.all():
            state["first"][active[~learning]] += excess[~learning]
        state["steps"][active] += 1
        if not learning.any():
            return np.ones(len(active))
        first = np.maximum(state["first"][active] / self.warmup, 1 / FARTHEST)  # (k,), E⁰
        rate = np.where(learning, np.minimum(excess / first, FARTHEST), 0.0)
        logarithm = state["logarithm"][active] + self.lr * rate  # (k,)
        logarithm -= logarithm.max()
        logarithm -= np.log(np.exp(logarithm).mean())
        state["logarithm"][active] = logarithm
        return np.exp(logarithm)

    def _excess(self, context: Context) -> Array:
        """(k,) E, with the squares of this step already in S."""
        assert context.rows is not None
        sums = self._memory.rows(context.active.tolist(), context.rows)
        tasks: list[int] = []
        parts: list[Tensor] = []
        for own, column in zip(zip(*sums.rows, strict=True), zip(*context.rows.rows, strict=True), strict=True):
            squares, gradients = ([t for t in tensors if t is not None] for tensors in (own, column))  # k' x (...)
            tasks += [i for i, g in enumerate(column) if g is not None]
            some = max(1, SMALL // max(1, squares[0].numel())) if squares else 1  # small ones are joined
            for first in range(0, len(squares), some):
                parts.append(_shares(squares[first : first + some], gradients[first : first + some]))
        shares = torch.cat(parts).cpu().numpy()
        return np.bincount(tasks, shares, len(context.active)).astype(np.float64, copy=False)

    def state_dict(self) -> dict[str, Any]:
        """S, the logarithms of the weights, the sums of the first E and the numbers of steps."""
        return {"tasks": self._state.state_dict(), "squares": self._memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._state.load_state_dict(state["tasks"])
        self._memory.load_state_dict(state["squares"])


def _shares(squares: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """(c,) the shares of c tensors of one shape in E, float64; their squares are added to S in place."""
    gradients = [g.to_dense() if g.is_sparse else g for g in gradients]
    sizes = torch.stack(gradients).to(squares[0].dtype).abs()  # (c, ...)
    each = gradients if gradients[0].dtype == sizes.dtype else sizes.unbind()
    torch._foreach_addcmul_(squares, each, each)
    roots = torch.stack(squares).add_(SHIFT).sqrt_()  # (c, ...)
    shares = torch.div(sizes, roots, out=roots).mul_(sizes)  # (c, ...), finite even where S overflows
    return shares.reshape(len(shares), -1).sum(1, dtype=torch.float64)
