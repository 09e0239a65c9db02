"""MomentumConFIG: ConFIG on averaged gradients, of which one per step need be new, with Adam's step length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from accord.errors import AccordError
from accord.methods import checks
from accord.methods.call import active_tasks
from accord.methods.config import ConFIG
from accord.methods.memory import Memory
from accord.methods.method import Aggregation, Array, Context, Scale
from accord.methods.outcomes import zeros
from accord.methods.state import PerTask
from accord.rows import Rows

EPSILON = 1e-8  # beside the root, as in Adam


@dataclass(eq=False, repr=False)
class MomentumConFIG(Aggregation):
    """Momentum version of ConFIG: the direction of equal cosines to bias-corrected averages of the gradients.

    Every task at hand: ``m_i ← β_1 m_i + (1 − β_1)g_i``, ``m̂_i = m_i/(1 − β_1^{t_i})``. Then over all tasks met so far
    ``u = ConFIG(m̂)``, ``f = u(1 − β_1^t)``, ``r = (f − β_1 f_before)/(1 − β_1)`` (the gradient whose average would be
    f), ``S ← β_2 S + (1 − β_2)r²`` and ``d = u/(√(S/(1 − β_2^t)) + 1e-8)``.

    Source: Liu, Chu & Thuerey 2025 (ICLR), "ConFIG: Towards Conflict-free Training of Physics Informed Neural
    Networks", [arXiv 2408.11104](https://arxiv.org/abs/2408.11104), algorithm 1 (M-ConFIG).

    The original takes one loss per step, in turn; so may you, or any number of them. It stands still until every task
    was met; we go along those met so far, as a task that never has a gradient must not stop the others. t is counted
    per parameter, as not every step reaches all of them. d has the length of a step of Adam and is never rescaled: use
    plain SGD with a learning rate for Adam.

    Args:
        betas: (β_1, β_2), both in [0, 1).

    Example:
        >>> import torch
        >>> method = MomentumConFIG()
        >>> d = method.aggregate(torch.tensor([[3.0, -4.0]]))
        >>> d.round(decimals=4).tolist()  # the first step has the length of Adam's
        [1.0, -1.0]
    """

    betas: Sequence[float] = (0.9, 0.999)

    native_scale: ClassVar[Scale] = "objective"

    def __post_init__(self) -> None:
        checks.vector(self, "betas")
        if len(self.betas) != 2 or min(self.betas) < 0 or max(self.betas) >= 1:
            raise AccordError(f"MomentumConFIG: betas={self.betas!r}, expected two numbers >= 0 and < 1.")
        self._memory = Memory()  # m by task, f and S
        self._state = PerTask(steps=0.0)  # t_i
        self._steps: dict[str, int] = {}  # t by parameter

    def combine(self, rows: Rows, gramian: Array, losses: Array | None, context: Context) -> list[Tensor | None]:
        """Average, find the direction, and give it Adam's length. See the class."""
        self._state.grow(context.total)
        self._state["steps"][context.active] += 1
        first, second = self.betas
        self._memory.blend(context.active.tolist(), rows, [first] * len(rows), [1 - first] * len(rows))
        direction = self._direction(rows, context)
        before, squares = self._memory.over(["pseudo", "square"], rows).rows
        for p, (u, f, s, name) in enumerate(zip(direction, before, squares, rows.names, strict=True)):
            if u is None or f is None or s is None:
                continue
            steps = self._steps[name] = self._steps.get(name, 0) + 1  # t
            present = u * (1 - first**steps)
            pseudo = (present - first * f) / (1 - first)  # r
            f.copy_(present)
            s.mul_(second).addcmul_(pseudo, pseudo, value=1 - second)
            direction[p] = u / ((s / (1 - second**steps)).sqrt_() + EPSILON)
        return direction

    def _direction(self, rows: Rows, context: Context) -> list[Tensor | None]:
        """ConFIG on the averages of all tasks met so far, in the parameters that this step reaches."""
        met = np.flatnonzero(self._state["steps"])  # (K',)
        moments = self._memory.over(met.tolist(), rows)
        unbiased = 1 - self.betas[0] ** self._state["steps"][met]  # (K',)
        products = moments.gramian().cpu().numpy() / unbiased[:, None] / unbiased  # (K', K')
        weights = np.zeros(len(met))
        used = active_tasks(products)  # an average may vanish although no gradient did
        if len(used):
            rule = ConFIG()
            weights[used] = rule.solve(products[np.ix_(used, used)], None, context)
            self.events.extend(rule.take_events())
        else:
            weights = zeros(self, len(met))
        return moments.combine((weights / unbiased).tolist(), keep=True)

    def state_dict(self) -> dict[str, Any]:
        """The averages by task, f and S, and the numbers of steps by task and by parameter."""
        return {"steps": dict(self._steps), "tasks": self._state.state_dict(), "gradients": self._memory.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._steps = dict(state["steps"])
        self._state.load_state_dict(state["tasks"])
        self._memory.load_state_dict(state["gradients"])
